//! `watch` and `unwatch`.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::arguments::{check_length, text, texts, List};
use super::backfill::{start, HistoryRange};
use super::sources::{sources_of, NewSource};
use super::stale_triggers::{drop_stale_triggers, stale_triggers};
use super::table_checks::{check_key, check_mirrored, check_table, check_virtual};
use super::triggers::{drop_leaf_triggers, drop_trigger};
use super::{as_owner, refuse_other_version, refuse_read_only, warn_unless_preloaded, Table};
use crate::pg::backfill::{take, this_transaction, OwnRows};
use crate::pg::condition::{self, ConditionKind};
use crate::pg::encoding::utf8;
use crate::pg::error_context::with_error_context;
use crate::pg::own_ddl::Caller;
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::pg::rules::no_pseudonym_key;
use crate::pg::{guc, xact};
use crate::rules::{
    are_changes, check_alert_attribute, check_attributes, check_backfill, check_change_attributes,
    check_facets, check_index_name, check_mode, check_object_id, check_operations, check_pseudonymize,
    check_time_column, parse_columns, Mode, RuleError, WatchedColumn,
};

/// `watch` as version 0.1.0 declares it.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn watch(
    source: Option<pg_sys::Oid>,
    index_name: Option<&str>,
    columns: Option<Array<'_, &str>>,
    pseudonymize: Option<Array<'_, &str>>,
    object_id: Option<Array<'_, &str>>,
    filter: Option<&[u8]>,
    operations: Option<Array<'_, &str>>,
    mode: Option<&str>,
    time_column: Option<&str>,
    facets: Option<Array<'_, &str>>,
    backfill: Option<bool>,
    object_prefix: Option<&str>,
) -> Result<i32, ErrorReport> {
    watch_0_2(
        source,
        index_name,
        columns,
        pseudonymize,
        object_id,
        filter,
        operations,
        mode,
        time_column,
        facets,
        backfill,
        object_prefix,
        None,
    )
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn watch_0_2(
    source: Option<pg_sys::Oid>,
    index_name: Option<&str>,
    columns: Option<Array<'_, &str>>,
    pseudonymize: Option<Array<'_, &str>>,
    object_id: Option<Array<'_, &str>>,
    filter: Option<&[u8]>,
    operations: Option<Array<'_, &str>>,
    mode: Option<&str>,
    time_column: Option<&str>,
    facets: Option<Array<'_, &str>>,
    backfill: Option<bool>,
    object_prefix: Option<&str>,
    alert: Option<&[u8]>,
) -> Result<i32, ErrorReport> {
    let caller = Caller::current();
    let path = filter.or(alert).map(|_| condition::search_path()).unwrap_or_default();
    refuse_read_only(c"audit_algolia.watch()");
    refuse_other_version()?;
    reported(with_error_context(|| {
        check_length("filter", filter.map_or(0, <[u8]>::len))?;
        check_length("alert", alert.map_or(0, <[u8]>::len))?;
        let wish = WatchArguments {
            index_name: text("index_name", index_name)?,
            columns: texts("columns", columns)?,
            pseudonymize: texts("pseudonymize", pseudonymize)?,
            object_id: texts("object_id", object_id)?,
            filter: filter.map(|text| utf8(text).into_owned()),
            alert: alert.map(|text| utf8(text).into_owned()),
            operations: texts("operations", operations)?,
            mode: text("mode", mode)?,
            time_column: text("time_column", time_column)?,
            facets: texts("facets", facets)?,
            backfill,
            object_prefix: text("object_prefix", object_prefix)?,
        };
        as_owner(|| {
            let table = Table::of(source, caller.user)?;
            check_table(&table)?;
            // Dropping a trigger needs the strongest lock. Taking a weaker one first and then waiting for it could
            // cause a deadlock.
            let mode = match stale_triggers(&table)?.is_empty() {
                true => pg_sys::ShareRowExclusiveLock,
                false => pg_sys::AccessExclusiveLock,
            };
            let table = table.locked(mode, caller.user)?;
            let mut rules = wish.check(&table)?;
            // They must be dropped before a source can get the id in their names.
            drop_stale_triggers(&table, &caller)?;
            let check = |kind, text: Option<String>| {
                text.map(|text| table.check_condition(kind, &text, &path)).transpose()
            };
            rules.filter = check(ConditionKind::Filter, rules.filter)?;
            rules.alert = check(ConditionKind::Alert, rules.alert)?;
            // Nobody is writing to the table or its partitions now, and whoever does after the commit is captured.
            let snapshot_boundary = take(table.oid, this_transaction(), OwnRows::Uncaptured)?;
            let id = rules.store(&table, &snapshot_boundary)?;
            table.create_triggers(&caller, id, rules.mode, &rules.operations)?;
            if rules.backfill {
                start(id, &table, HistoryRange::default(), Some(&snapshot_boundary))?;
            }
            xact::note_stale();
            warn_unless_preloaded();
            Ok(id)
        })
    }))
}

/// The arguments of `watch`.
struct WatchArguments {
    index_name: Option<String>,
    columns: List,
    pseudonymize: List,
    object_id: List,
    filter: Option<String>,
    alert: Option<String>,
    operations: List,
    mode: Option<String>,
    time_column: Option<String>,
    facets: List,
    backfill: Option<bool>,
    object_prefix: Option<String>,
}

fn entries<'a>(list: &'a List, argument: &'static str) -> Result<Vec<Option<&'a str>>, RuleError> {
    match list {
        None => Err(RuleError::NullArgument { argument }),
        Some(list) => Ok(list.iter().map(Option::as_deref).collect()),
    }
}

impl WatchArguments {
    fn check(self, table: &Table) -> SqlResult<NewSource> {
        let operations = check_operations(&entries(&self.operations, "operations")?)?;
        let mode = check_mode(self.mode.as_deref())?;
        let operations = mode.operations(operations)?;
        let backfill = self.backfill.ok_or(RuleError::NullArgument { argument: "backfill" })?;
        if backfill {
            check_backfill(&operations)?;
        }
        let index_name = self.index_name.unwrap_or_else(|| table.bare_name.clone());
        check_index_name(&index_name)?;

        let known: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        let allowed = match &self.columns {
            None => return Err(RuleError::NoColumns.into()),
            Some(list) => list.iter().map(Option::as_deref).collect::<Vec<_>>(),
        };
        let columns: Vec<WatchedColumn> = parse_columns(&allowed, &known)?;
        check_attributes(&columns)?;
        let object_id = match &self.object_id {
            Some(_) => check_object_id(&entries(&self.object_id, "object_id")?, &known)?,
            None if table.primary_key.is_empty() => {
                return Err(sql_error(
                    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("table {} has no primary key from which to make objectIDs", table.name),
                    "Add a primary key, or name columns that identify a row: object_id => '{…}'.",
                ))
            }
            None => table.primary_key.clone(),
        };
        let key: Vec<&str> = object_id.iter().map(String::as_str).collect();
        let pseudonymize =
            check_pseudonymize(&entries(&self.pseudonymize, "pseudonymize")?, &columns, &key, &known)?;
        if !pseudonymize.is_empty() && guc::pseudonym_key().is_none() {
            return Err(no_pseudonym_key());
        }
        if mode == Mode::Mirror {
            check_mirrored(table)?;
            check_key(table, &object_id)?;
        }
        if self.alert.is_some() {
            check_alert_attribute(&columns)?;
        }
        if are_changes(mode, &operations) {
            check_change_attributes(&columns, &key)?;
        }
        check_virtual(table, columns.iter().map(|column| column.name.as_str()).chain(key.iter().copied()))?;
        let time_attribute = match &self.time_column {
            None => None,
            Some(name) => Some(check_time_column(name, &columns, &pseudonymize, &known)?),
        };
        Ok(NewSource {
            facets: check_facets(
                &entries(&self.facets, "facets")?,
                &columns,
                time_attribute,
                are_changes(mode, &operations),
                self.alert.is_some(),
            )?,
            time_column: time_attribute
                .and_then(|attribute| columns.iter().find(|column| column.attribute == attribute))
                .map(|column| column.name.clone()),
            entries: allowed.into_iter().flatten().map(str::to_owned).collect(),
            index_name,
            pseudonymize,
            object_id,
            object_prefix: self.object_prefix.ok_or(RuleError::NullArgument { argument: "object_prefix" })?,
            filter: self.filter,
            alert: self.alert,
            operations,
            mode,
            backfill,
        })
    }
}

impl Table {
    /// Checks a condition, whose names are resolved under `path`, and returns the form in which it is stored.
    fn check_condition(&self, kind: ConditionKind, text: &str, path: &CStr) -> SqlResult<String> {
        // SAFETY: the table is locked, and the relation is closed again. After an error, the abort closes it.
        unsafe {
            let relation = pg_sys::relation_open(self.oid, pg_sys::NoLock as i32);
            let kept = condition::canonical(kind, text, relation, self.owner, path);
            pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            kept
        }
    }
}

#[pg_extern(sql = false)]
fn unwatch(source: Option<pg_sys::Oid>, index_name: Option<&str>) -> Result<(), ErrorReport> {
    let caller = Caller::current();
    refuse_read_only(c"audit_algolia.unwatch()");
    refuse_other_version()?;
    reported(with_error_context(|| {
        let index_name = text("index_name", index_name)?;
        as_owner(|| {
            let table = Table::of(source, caller.user)?;
            // A table that has no triggers of ours need not be locked.
            if stale_triggers(&table)?.is_empty() {
                sources_of(&table, index_name.as_deref())?;
            }
            // Dropping a trigger takes this lock too.
            end_watch(&table.locked(pg_sys::AccessExclusiveLock, caller.user)?, index_name, &caller)
        })
    }))
}

fn end_watch(table: &Table, index_name: Option<String>, caller: &Caller) -> SqlResult<()> {
    let sources = match (drop_stale_triggers(table, caller)?, sources_of(table, index_name.as_deref())) {
        (true, Err(error)) if error.code() == PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT => return Ok(()),
        (_, sources) => sources?,
    };
    for (id, operations) in sources {
        for operation in operations {
            drop_trigger(Some(caller), table.oid, id, operation)?;
        }
        drop_leaf_triggers(table, id)?;
        Spi::run_with_args(include_str!("../../../sql/api/remove_source.sql"), &[id.into()])?;
    }
    xact::note_stale();
    Ok(())
}
