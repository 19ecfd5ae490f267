//! Skips changes that cannot become records, and queues repairs of them: `on_capture_error = warn`.
//!
//! Records are made in a subtransaction, which undoes what an error leaves behind. They are written outside of it, so
//! the subtransaction needs no transaction id. For each skipped change a repair is stored in the writer's transaction,
//! under the row's key; `pg/backfill/repair.rs` makes it. If the row could not be found again by its key, or the repair
//! cannot be stored, the statement fails as it does under `error`.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::context::CaptureErrorContext;
use super::ids::{fresh_id, next_id};
use super::repair::{NewRepair, RepairTarget};
use super::scratch::Scratch;
use super::slot::{values_of, TupleSlot};
use super::trigger_call::TriggerEvent;
use super::trigger_rows::{TableScan, TransitionTables, TriggerRow};
use crate::pg::descriptor::relation_name;
use crate::pg::hypertables::is_hypertable;
use crate::pg::owner::{as_user, extension_objects, pin_output_settings};
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::subtransaction::guarded;
use crate::pg::text_datum::TextArray;
use crate::record::Operation;
use crate::rules::Mode;

/// Changes left out that are kept in memory.
const MOST: usize = 1000;
/// The same by the bytes of their keys, and the longest key of which a change is noted.
const MOST_BYTES: usize = 1 << 20;
const LONGEST_KEY: usize = 1 << 20;

thread_local! {
    /// The statement, by its transaction and start, whose writer has been warned last, and of which sources.
    static WARNED: RefCell<((u64, pg_sys::TimestampTz), Vec<i32>)> = const { RefCell::new(((0, 0), Vec::new())) };
}

/// Whether a statement has not been warned of a source yet; now it is.
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

/// Does `work` of capture in a subtransaction, see [`guarded`].
pub(super) fn attempted<T>(
    context: &CaptureErrorContext,
    work: impl FnOnce() -> SqlResult<T>,
) -> SqlResult<Result<T, Box<SqlError>>> {
    let done = guarded(work)?;
    if done.is_err() {
        context.in_filter(false);
    }
    Ok(done)
}

/// The changes of one call of a trigger that are left out.
pub(super) struct SkippedRows<'a> {
    call: &'a pg_sys::TriggerData,
    event: TriggerEvent,
    member: pg_sys::Oid,
    /// Read when the first change is left out.
    target: Option<RepairTarget>,
    changes: Vec<NewRepair>,
    /// Of their keys.
    bytes: usize,
    count: u64,
    /// Why the first was.
    first: Option<String>,
}

impl<'a> SkippedRows<'a> {
    /// `member` is the table by which the call's source is known.
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

    /// Leaves out all changes of the call: its source could not be made ready. An error if there is no such source.
    ///
    /// # Safety
    /// The call is under way.
    pub(super) unsafe fn all(mut self, context: &CaptureErrorContext, error: Box<SqlError>) -> SqlResult<()> {
        // SAFETY: handed on to the caller.
        unsafe {
            let relation = self.call.tg_relation;
            match self.event.operation {
                Operation::Truncate if self.event.is_before => self.all_in(relation, context, &error)?,
                // There is no row, so there is no key.
                Operation::Truncate => return Err(error),
                operation if self.event.is_row => {
                    self.add(context, TriggerRow::of(self.call, operation), &error)?;
                }
                // Rows of chunks may be laid out in another way than those of the hypertable.
                _ if as_user(extension_objects()?.owner, || is_hypertable((*relation).rd_id))? => {
                    return Err(error)
                }
                _ => self.all_of_tables(context, &error)?,
            }
        }
        self.finish()
    }

    /// Leaves out all rows of the call's transition tables.
    ///
    /// # Safety
    /// The call is of a statement-level trigger.
    unsafe fn all_of_tables(&mut self, context: &CaptureErrorContext, error: &SqlError) -> SqlResult<()> {
        // SAFETY: handed on to the caller.
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

    /// Leaves out all rows of a table that is about to be emptied.
    ///
    /// # Safety
    /// As for `all`.
    unsafe fn all_in(
        &mut self,
        relation: pg_sys::Relation,
        context: &CaptureErrorContext,
        error: &SqlError,
    ) -> SqlResult<()> {
        // SAFETY: handed on to the caller.
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

    /// Leaves out a change. Of a mirrored row whose key has changed, the index has to be put right for both keys.
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
            // SAFETY: the call is under way.
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
        // SAFETY: handed on to the caller.
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
        // A mirrored table tells of TRUNCATE by the deletion of each row.
        let operation = match self.event.operation {
            Operation::Truncate => Operation::Delete,
            other => other,
        };
        self.push(operation, key, error)
    }

    fn push(&mut self, operation: Operation, key: TextArray, error: &SqlError) -> SqlResult<()> {
        let objects = extension_objects()?;
        // As the record would have had it. That of a version is younger than the lock on the row.
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

    /// Notes repairs for the changes at hand.
    fn store(&mut self) -> SqlResult<()> {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        match &mut self.target {
            Some(target) if !changes.is_empty() => target.store(&changes),
            _ => Ok(()),
        }
    }

    /// Notes repairs for the changes left out, and warns the writer; of the rows of a statement once.
    pub(super) fn finish(mut self) -> SqlResult<()> {
        self.store()?;
        let (Some(target), Some(why)) = (self.target, self.first) else { return Ok(()) };
        // SAFETY: the call is under way. The rest reads the state of the transaction.
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
            true => "Of further changes for this index by the same statement nothing is said.",
            false => "What else the statement has changed is captured.",
        };
        let index = &target.index;
        sql_error(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{changes} of table \"{table}\" could not be captured for index \"{index}\": {why}"),
            "Remove the cause: it is tried again until it works, see the table audit_algolia.repair.",
        )
        .with_detail(detail)
        .warn();
        Ok(())
    }
}

/// The row's key, as texts.
///
/// # Safety
/// The slot is null or holds a row of the trigger's relation, in which the target has its columns.
unsafe fn key_of(
    target: &RepairTarget,
    context: &CaptureErrorContext,
    slot: TupleSlot,
    error: &SqlError,
) -> SqlResult<TextArray> {
    if slot.is_null() {
        return Err(unrepairable(error, "there is no row"));
    }
    let Some(columns) = &target.key else { return Err(unrepairable(error, "a column of its key is gone")) };
    // SAFETY: handed on to the caller. An output function returns a C string.
    let texts = attempted(context, || unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pin_output_settings();
        let value = values_of(slot, columns.iter().map(|(place, _)| place + 1).max().unwrap_or(0));
        let text = |(place, output): &(usize, pg_sys::Oid)| {
            let datum = value(*place)?;
            Some(CStr::from_ptr(pg_sys::OidOutputFunctionCall(*output, datum)).to_bytes())
        };
        let texts: Option<Vec<&[u8]>> = columns.iter().map(text).collect();
        pg_sys::AtEOXact_GUC(false, level);
        Ok(texts)
    })?;
    match texts {
        Ok(Some(texts)) if texts.iter().map(|text| text.len()).sum::<usize>() > LONGEST_KEY => {
            Err(unrepairable(error, "its key is too long"))
        }
        Ok(Some(texts)) => Ok(TextArray(texts.into_iter().map(<[u8]>::to_vec).collect())),
        Ok(None) => Err(unrepairable(error, "a column of its key is null")),
        Err(_) => Err(unrepairable(error, "its key cannot be read")),
    }
}

/// An error that the writer is told as such, although it is to be warned only.
fn unrepairable(error: &SqlError, why: &str) -> Box<SqlError> {
    let detail = format!(
        "The setting audit_algolia.on_capture_error = warn does not help here: the row could not be found again, for {why}."
    );
    Box::new(error.clone()).with_detail(detail)
}
