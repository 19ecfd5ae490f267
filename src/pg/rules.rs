//! What the shell knows of a source: its stored rules, the key of its pseudonyms and its clock.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::descriptor::{columns, relation_name};
use super::guc;
use super::latest_snapshot::{all_rows, first_row};
use super::report::{sql_error, SqlError, SqlResult};
use crate::pseudonym::Pseudonymizer;
use crate::record::{Calendar, CivilHour, Operation};
use crate::rules::{are_changes, parse_columns, Mode, RuleError, WatchedColumn};

/// The stored rules of one source.
pub(super) struct SourceRules {
    /// The watched table and its owner.
    pub(super) relation: pg_sys::Oid,
    pub(super) owner: pg_sys::Oid,
    pub(super) index_id: i32,
    pub(super) columns: Vec<WatchedColumn>,
    pub(super) pseudonymize: Vec<String>,
    pub(super) object_id: Vec<String>,
    pub(super) object_prefix: String,
    pub(super) time_column: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) alert: Option<String>,
    /// The name of the index, if records for it may alert.
    pub(super) alert_index: Option<String>,
    pub(super) operations: Vec<Operation>,
    pub(super) mode: Mode,
    /// It is mirrored, and its history is not queued yet.
    pub(super) is_backfilled: bool,
}

impl SourceRules {
    /// Whether its records are changes.
    pub(super) fn are_changes(&self) -> bool {
        are_changes(self.mode, &self.operations)
    }

    /// Loads the rules of a source; call it as the extension's owner. There are none unless `relation` is the watched
    /// table or a partition of it: otherwise, whoever may use the trigger function could attach it to a table of their
    /// own and pass its rows off as another's. The stored column entries are read against `table_columns`; messages
    /// name the table `table`.
    pub(super) fn load(
        id: i32,
        relation: pg_sys::Oid,
        table: &str,
        table_columns: &[&str],
    ) -> SqlResult<Option<SourceRules>> {
        if let Some(rules) = SourceRules::find(id, relation, table, table_columns)? {
            return Ok(Some(rules));
        }
        // Until the partition is completely detached, direct writes to it change rows that the source has queued.
        let query = include_str!("../../sql/capture/detached_from.sql");
        let above = all_rows(query, &[(pg_sys::OIDOID, relation.into())], |row| row.get(1))?;
        for table_above in above.into_iter().flatten() {
            if let Some(rules) = SourceRules::find(id, table_above, table, table_columns)? {
                return Ok(Some(rules));
            }
        }
        Ok(None)
    }

    /// The same, with the columns of `rows_in`, which may be a partition of `relation`.
    ///
    /// # Safety
    /// `rows_in` is open.
    pub(super) unsafe fn load_for(
        id: i32,
        relation: pg_sys::Oid,
        rows_in: pg_sys::Relation,
    ) -> SqlResult<Option<SourceRules>> {
        // SAFETY: the caller guarantees this.
        let (columns, table) = unsafe { (columns((*rows_in).rd_att), relation_name(rows_in)) };
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        SourceRules::load(id, relation, &table, &names)
    }

    fn find(
        id: i32,
        relation: pg_sys::Oid,
        table: &str,
        table_columns: &[&str],
    ) -> SqlResult<Option<SourceRules>> {
        let arguments = [(pg_sys::INT4OID, id.into()), (pg_sys::OIDOID, relation.into())];
        first_row(include_str!("../../sql/capture/source_rules.sql"), &arguments, |row| {
            let texts = |ordinal| -> Vec<String> {
                row.get::<Vec<Option<String>>>(ordinal).unwrap_or_default().into_iter().flatten().collect()
            };
            let entries = texts(2);
            let entries: Vec<Option<&str>> = entries.iter().map(|entry| Some(entry.as_str())).collect();
            Ok(SourceRules {
                index_id: row.get(1).unwrap_or_default(),
                columns: parse_columns(&entries, table_columns)
                    .map_err(|error| rules_outdated(error, table))?,
                pseudonymize: texts(3),
                object_id: texts(4),
                object_prefix: row.get(5).unwrap_or_default(),
                time_column: row.get(6),
                filter: row.get(7),
                operations: texts(8).iter().filter_map(|word| Operation::of(word)).collect(),
                relation: row.get(9).unwrap_or(pg_sys::InvalidOid),
                owner: row.get(10).unwrap_or(pg_sys::InvalidOid),
                mode: row.get::<String>(11).and_then(|word| Mode::of(&word)).unwrap_or(Mode::Append),
                is_backfilled: row.get(12).unwrap_or_default(),
                alert: row.get(13),
                alert_index: row.get(14),
            })
        })
    }
}

/// The error of a source whose table has lost a column. Nothing is sent then.
pub(super) fn column_is_gone(column: &str, table: &str) -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
        format!("column \"{column}\" of watched table \"{table}\" no longer exists"),
        "Call audit_algolia.unwatch() and then audit_algolia.watch() with the table's current columns.",
    )
}

/// Converts an error in stored entries. They were right when they were stored, so the table has changed.
pub(super) fn rules_outdated(error: RuleError, table: &str) -> Box<SqlError> {
    match error {
        RuleError::UnknownColumn { column, .. } => column_is_gone(&column, table),
        other => other.into(),
    }
}

/// The error of a missing pseudonym key.
pub(super) fn no_pseudonym_key() -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "no pseudonym key is set",
        "Set audit_algolia.pseudonym_key_file (or audit_algolia.pseudonym_key) and reload the configuration.",
    )
}

thread_local! {
    /// The pseudonymizer, with the version of the key that it was made from.
    static PSEUDONYMIZER: RefCell<Option<(u64, Rc<Pseudonymizer>)>> = const { RefCell::new(None) };
}

/// The pseudonymizer of the current key. It is cached as long as the key cannot have changed.
pub(super) fn pseudonymizer() -> Option<Rc<Pseudonymizer>> {
    let version = guc::pseudonym_key_version();
    PSEUDONYMIZER.with_borrow_mut(|cached| {
        if cached.as_ref().is_none_or(|(made_of, _)| *made_of != version) {
            let made = guc::pseudonym_key().and_then(|key| Pseudonymizer::new(key.expose().as_bytes()));
            *cached = made.map(|made| (version, Rc::new(made)));
        }
        cached.as_ref().map(|(_, made)| made.clone())
    })
}

/// The calendar of `audit_algolia.time_zone`, by the server's own time zone code.
pub(super) struct ServerCalendar {
    zone: *mut pg_sys::pg_tz,
}

impl ServerCalendar {
    /// The calendar of the current zone.
    pub(super) fn current() -> ServerCalendar {
        // SAFETY: log_timezone is set before any session runs. It only replaces a zone that was checked when it was set
        // and should therefore exist.
        let fallback = unsafe { pg_sys::log_timezone };
        ServerCalendar { zone: guc::time_zone().unwrap_or(fallback) }
    }
}

impl Calendar for ServerCalendar {
    fn hour_of(&mut self, unix_seconds: i64) -> CivilHour {
        // SAFETY: the zone comes from pg_tzset and is never freed. The result points to a static variable of the server
        // and is read at once. It is null only for years beyond an int.
        unsafe {
            let moment: pg_sys::pg_time_t = unix_seconds;
            match pg_sys::pg_localtime(&moment, self.zone).as_ref() {
                None => CivilHour { year: i32::MAX, month: 1, day: 1, hour: 0, weekday: 0 },
                Some(clock) => CivilHour {
                    year: clock.tm_year + 1900,
                    month: (clock.tm_mon + 1) as u8,
                    day: clock.tm_mday as u8,
                    hour: clock.tm_hour as u8,
                    weekday: clock.tm_wday as u8,
                },
            }
        }
    }

    /// Zones are never unloaded, so their addresses are distinct.
    fn generation(&self) -> u64 {
        self.zone as u64
    }
}
