//! Skips changes that cannot become records, and queues repairs of them: `on_capture_error = warn`.
//!
//! Records are made in a subtransaction, which undoes what an error leaves behind. They are written outside of it, so
//! the subtransaction needs no transaction id. For each skipped change a repair is stored in the writer's transaction,
//! under the row's key; `pg/backfill/repair.rs` makes it. If the row could not be found again by its key, or the repair
//! cannot be stored, the statement fails as it does under `error`.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::context::CaptureErrorContext;
use super::ids::{fresh_id, next_id};
use super::repair::{NewRepair, RepairTarget};
use super::repair_key::{key_of, unrepairable};
use super::scratch::Scratch;
use super::trigger_call::TriggerEvent;
use super::trigger_rows::{TableScan, TransitionTables, TriggerRow};
use crate::pg::descriptor::relation_name;
use crate::pg::hypertables::is_hypertable;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::text_datum::TextArray;
use crate::record::Operation;
use crate::rules::Mode;

/// The most skipped changes that are kept in memory.
const MOST: usize = 1000;
/// The most bytes of their keys.
const MOST_BYTES: usize = 1 << 20;

thread_local! {
    /// The last statement that was warned, given by its transaction and start, and the sources it was warned about.
    static WARNED: RefCell<((u64, pg_sys::TimestampTz), Vec<i32>)> = const { RefCell::new(((0, 0), Vec::new())) };
}

/// Whether a statement has not been warned about a source yet. It counts as warned from now on.
fn is_news(statement: (u64, pg_sys::TimestampTz), source: i32) -> bool {
    WARNED.with_borrow_mut(|(warned, sources)| {
        if *warned != statement {
            *warned = statement;
            sources.clear();
        }
        let is_news = !sources.contains(&source);
        if is_news {
            sources.push(source);
        }
        is_news
    })
}

/// The changes that one call of a trigger skips.
pub(super) struct SkippedRows<'a> {
    call: &'a pg_sys::TriggerData,
    event: TriggerEvent,
    member: pg_sys::Oid,
    /// Read when the first change is skipped.
    target: Option<RepairTarget>,
    changes: Vec<NewRepair>,
    /// The total size of their keys.
    bytes: usize,
    count: u64,
    /// Why the first change was skipped.
    first: Option<String>,
}

impl<'a> SkippedRows<'a> {
    /// `member` is the table by which the call's source is found.
    pub(super) fn new(
        call: &'a pg_sys::TriggerData,
        event: TriggerEvent,
        member: pg_sys::Oid,
    ) -> SkippedRows<'a> {
        SkippedRows {
            call,
            event,
            member,
            target: None,
            changes: Vec::new(),
            bytes: 0,
            count: 0,
            first: None,
        }
    }

    /// Skips all changes of the call, because its source could not be loaded. Fails if there is no such source.
    ///
    /// # Safety
    /// The call is in progress.
    pub(super) unsafe fn skip_all(
        mut self,
        context: &CaptureErrorContext,
        error: Box<SqlError>,
    ) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let relation = self.call.tg_relation;
            match self.event.operation {
                Operation::Truncate if self.event.is_before => self.all_in(relation, context, &error)?,
                // There is no row, so there is no key.
                Operation::Truncate => return Err(error),
                operation if self.event.is_row => {
                    self.add(context, TriggerRow::of(self.call, operation), &error)?;
                }
                // Rows of chunks may have another layout than the hypertable.
                _ if as_user(extension_objects()?.owner, || is_hypertable((*relation).rd_id))? => {
                    return Err(error)
                }
                _ => self.all_of_tables(context, &error)?,
            }
        }
        self.finish()
    }

    /// Skips all rows of the call's transition tables.
    ///
    /// # Safety
    /// The call is that of a statement-level trigger.
    unsafe fn all_of_tables(&mut self, context: &CaptureErrorContext, error: &SqlError) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let tables = TransitionTables::open(self.call, false);
            let mut scratch = Scratch::new();
            while let Some(row) = tables.next() {
                scratch.within(|| self.add(context, row, error))?;
                scratch.give_back_if_large();
            }
            tables.close();
        }
        Ok(())
    }

    /// Skips all rows of a table that is about to be emptied.
    ///
    /// # Safety
    /// As for `all`.
    unsafe fn all_in(
        &mut self,
        relation: pg_sys::Relation,
        context: &CaptureErrorContext,
        error: &SqlError,
    ) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let Some(rows) = TableScan::open(relation) else { return Ok(()) };
            let mut scratch = Scratch::new();
            while let Some(slot) = rows.next() {
                let row = TriggerRow { old: slot, new: std::ptr::null_mut() };
                scratch.within(|| self.add(context, row, error))?;
                scratch.give_back_if_large();
            }
            rows.close();
        }
        Ok(())
    }

    /// Skips a change. If a mirrored row's key has changed, both keys need a repair.
    ///
    /// # Safety
    /// The slots are null or hold rows of the trigger's relation.
    pub(super) unsafe fn add(
        &mut self,
        context: &CaptureErrorContext,
        row: TriggerRow,
        error: &SqlError,
    ) -> SqlResult<()> {
        if self.target.is_none() {
            // SAFETY: the call is in progress.
            self.target = unsafe { RepairTarget::find(self.call, self.member)? };
        }
        let current = row.current();
        let Some(target) = &self.target else { return Err(Box::new(error.clone())) };
        if error.is_ours() && error.code() == PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION {
            return Err(unrepairable(error, "its key makes no objectID"));
        }
        if target.is_hidden {
            return Err(unrepairable(error, "its key is pseudonymized"));
        }
        // SAFETY: the caller guarantees this.
        let (key, old_key) = unsafe {
            let key = key_of(target, context, current, error)?;
            let has_old = target.mode == Mode::Mirror && !row.old.is_null() && row.old != current;
            let old_key = if has_old { Some(key_of(target, context, row.old, error)?) } else { None };
            (key, old_key)
        };
        self.first.get_or_insert_with(|| error.kind());
        self.count += 1;
        if let Some(old_key) = old_key.filter(|old_key| *old_key != key) {
            self.push(Operation::Delete, old_key, error)?;
        }
        // A TRUNCATE of a mirrored table is queued as a deletion of each row.
        let operation = match self.event.operation {
            Operation::Truncate => Operation::Delete,
            other => other,
        };
        self.push(operation, key, error)
    }

    fn push(&mut self, operation: Operation, key: TextArray, error: &SqlError) -> SqlResult<()> {
        let objects = extension_objects()?;
        // The number that the record would have had. The number of a version must be taken after the lock on the row.
        let number = match &self.target {
            Some(target) if target.mode == Mode::Mirror => fresh_id(&objects),
            _ => next_id(&objects),
        };
        self.bytes += key.0.iter().map(Vec::len).sum::<usize>();
        self.changes.push(NewRepair { operation, key, number, error: error.kind() });
        if self.changes.len() >= MOST || self.bytes >= MOST_BYTES {
            self.store()?;
        }
        Ok(())
    }

    /// Stores repairs for the skipped changes.
    fn store(&mut self) -> SqlResult<()> {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        match &mut self.target {
            Some(target) if !changes.is_empty() => target.store(&changes),
            _ => Ok(()),
        }
    }

    /// Stores the remaining repairs and warns the writer; for row-level triggers only once per statement.
    pub(super) fn finish(mut self) -> SqlResult<()> {
        self.store()?;
        let (Some(target), Some(why)) = (self.target, self.first) else { return Ok(()) };
        // SAFETY: the call is in progress. The rest reads the state of the transaction.
        let (table, statement) = unsafe {
            let statement =
                (pg_sys::GetTopFullTransactionId().value, pg_sys::GetCurrentStatementStartTimestamp());
            (relation_name(self.call.tg_relation), statement)
        };
        if self.event.is_row && !is_news(statement, target.source) {
            return Ok(());
        }
        let changes = match (self.count, self.event.is_row) {
            (1, _) | (_, true) => "a change".to_owned(),
            (count, _) => format!("{count} changes"),
        };
        let detail = match self.event.is_row {
            true => "Further changes for this index by the same statement are not reported.",
            false => "The other changes of the statement are captured.",
        };
        let index = &target.index;
        sql_error(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{changes} of table \"{table}\" could not be captured for index \"{index}\": {why}"),
            "Remove the cause; the capture is tried again until it succeeds. See the table audit_algolia.repair.",
        )
        .with_detail(detail)
        .warn();
        Ok(())
    }
}
