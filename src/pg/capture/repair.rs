//! Stores repairs: finds the source that a skipped change was for, and stores what is needed to repeat it.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::decode::output_of;
use super::record_maker::actor;
use super::trigger_call::arguments;
use crate::pg::descriptor::columns;
use crate::pg::encoding::utf8;
use crate::pg::latest_snapshot::first_row;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::SqlResult;
use crate::pg::rules::pseudonymizer;
use crate::pg::text_datum::{TextArray, TextBytes};
use crate::pg::xact;
use crate::record::Operation;
use crate::rules::{are_changes, Mode};

/// What is known about the source of a trigger, even if its rules no longer fit the table.
pub(super) struct RepairTarget {
    pub(super) source: i32,
    index_id: i32,
    pub(super) index: String,
    watched: pg_sys::Oid,
    pub(super) mode: Mode,
    key_columns: Vec<String>,
    /// The places of the key columns in the current rows, and their types' output functions. `None`: one of them is
    /// gone.
    pub(super) key: Option<Vec<(usize, pg_sys::Oid)>>,
    /// The key must not be stored.
    pub(super) is_hidden: bool,
    /// Who makes the changes of this statement, when and in which transaction, if its records contain that.
    origin: Option<(Option<TextBytes>, pg_sys::TimestampTz, i64)>,
}

/// A repair to be stored for a skipped change.
pub(super) struct NewRepair {
    pub(super) operation: Operation,
    pub(super) key: TextArray,
    pub(super) number: i64,
    pub(super) error: String,
}

impl RepairTarget {
    /// Finds the source that a call's rows are for, by the table `member`; `None` if there seems to be none.
    ///
    /// # Safety
    /// The call is in progress.
    pub(super) unsafe fn find(
        call: &pg_sys::TriggerData,
        member: pg_sys::Oid,
    ) -> SqlResult<Option<RepairTarget>> {
        // SAFETY: the caller guarantees this; the relation is open.
        let (columns, arguments) = unsafe { (columns((*call.tg_relation).rd_att), arguments(call)) };
        let Some(source) = arguments.first().and_then(|argument| argument.parse::<i32>().ok()) else {
            return Ok(None);
        };
        let ids = [(pg_sys::INT4OID, source.into()), (pg_sys::OIDOID, member.into())];
        as_user(extension_objects()?.owner, || {
            first_row(include_str!("../../../sql/capture/repair_target.sql"), &ids, |row| {
                let texts = |ordinal| -> Vec<String> {
                    let texts = row.get::<Vec<Option<String>>>(ordinal).unwrap_or_default();
                    texts.into_iter().flatten().collect()
                };
                let key_columns = texts(4);
                let place = |name: &String| {
                    let found = columns.iter().find(|column| column.name == *name);
                    found.map(|column| (column.place, output_of(column.type_oid)))
                };
                let mode = row.get::<String>(6).and_then(|word| Mode::of(&word)).unwrap_or(Mode::Append);
                let operations: Vec<Operation> =
                    texts(7).iter().filter_map(|word| Operation::of(word)).collect();
                let origin = are_changes(mode, &operations).then(|| origin(row.get(8).unwrap_or(true)));
                Ok(RepairTarget {
                    source,
                    index_id: row.get(1).unwrap_or_default(),
                    index: row.get(2).unwrap_or_default(),
                    watched: row.get(3).unwrap_or(pg_sys::InvalidOid),
                    mode,
                    key: key_columns.iter().map(place).collect(),
                    key_columns,
                    is_hidden: row.get(5).unwrap_or(true),
                    origin,
                })
            })
        })
    }

    /// Stores repairs.
    pub(super) fn store(&self, changes: &[NewRepair]) -> SqlResult<()> {
        let types = [
            pg_sys::OIDOID,
            pg_sys::INT4OID,
            pg_sys::TEXTOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::INT8OID,
            pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::INT8OID,
            pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID,
        ];
        // SAFETY: reads the start of the session's statement.
        let begun_at = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
        let (changed_by, changed_at, transaction) = match &self.origin {
            None => (None, None, None),
            Some((by, at, transaction)) => (by.clone(), Some(*at), Some(*transaction)),
        };
        // SAFETY: a timestamp in the server's form.
        let time =
            |time: Option<pg_sys::TimestampTz>| unsafe { DatumWithOid::new(time, pg_sys::TIMESTAMPTZOID) };
        as_user(extension_objects()?.owner, || {
            Spi::connect_mut(|client| -> SqlResult<()> {
                let types = types.map(pgrx::PgOid::from);
                let insert =
                    client.prepare_mut(include_str!("../../../sql/capture/add_repair.sql"), &types)?;
                for change in changes {
                    let arguments = [
                        self.watched.into(),
                        self.index_id.into(),
                        change.operation.word().into(),
                        self.key_columns.clone().into(),
                        change.key.clone().into(),
                        change.number.into(),
                        changed_by.clone().into(),
                        time(changed_at),
                        transaction.into(),
                        change.error.clone().into(),
                        time(Some(begun_at)),
                    ];
                    client.update(&insert, None, &arguments)?;
                }
                Ok(())
            })
        })?;
        xact::note_repairs(self.index_id, changes.len() as i64);
        Ok(())
    }
}

/// Who, when and in which transaction. Without a pseudonym key, the actor must not be stored.
fn origin(pseudonymizes: bool) -> (Option<TextBytes>, pg_sys::TimestampTz, i64) {
    let actor = actor();
    let changed_by = match pseudonymizes {
        false => Some(TextBytes(actor)),
        true => pseudonymizer().map(|key| TextBytes(key.pseudonym(&utf8(&actor)).into_bytes())),
    };
    // SAFETY: within a transaction that writes. The clock is read while the rows are locked, as for records.
    let (now, transaction) =
        unsafe { (pg_sys::GetCurrentTimestamp(), pg_sys::GetTopFullTransactionId().value) };
    (changed_by, now, i64::try_from(transaction).unwrap_or(i64::MAX))
}
