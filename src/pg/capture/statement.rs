//! One call of a trigger: its rows, or its one row, pass the filter, become records and go to the queue.

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::bound_relation::BoundRelation;
use super::context::CaptureErrorContext;
use super::on_error_warn::SkippedRows;
use super::queue::{record_buffer, QueueWriter, FEW};
use super::record_maker::RecordMaker;
use super::scratch::{has_grown, Scratch};
use super::slot::TupleSlot;
use super::source::Source;
use super::trigger_call::TriggerEvent;
use super::trigger_rows::{TransitionTables, TriggerRow, STRETCH};
use crate::pg::alerts;
use crate::pg::condition::{ConditionKind, Evaluations};
use crate::pg::report::SqlResult;
use crate::record::{Buffer, Change, ChangeOrigin, Operation};

/// Captures the rows of one statement, or the row of a row-level trigger.
pub(super) struct StatementCapture<'a> {
    pub(super) source: &'a Source,
    operation: Operation,
    pub(super) context: &'a CaptureErrorContext,
    pub(super) writer: QueueWriter,
    /// The source's filter and alert, if it has any, once they are prepared.
    pub(super) conditions: Option<Evaluations>,
    pub(super) maker: RecordMaker,
    /// Made when the first record needs it.
    origin: Option<ChangeOrigin>,
    pub(super) record: Buffer,
    /// Under `on_capture_error = warn`: the skipped rows, and the context of the conditions, which are prepared
    /// anew after an error.
    pub(super) skipped: Option<(SkippedRows<'a>, PgMemoryContexts)>,
}

/// Queues the changes that a trigger is called for.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function, and `event` describes it.
pub(super) unsafe fn capture(
    call: &pg_sys::TriggerData,
    event: TriggerEvent,
    source: &Source,
    context: &CaptureErrorContext,
    skipped: Option<SkippedRows<'_>>,
) -> SqlResult<()> {
    let mut statement = StatementCapture {
        source,
        operation: event.operation,
        context,
        writer: QueueWriter::open(source.index_id, source.id)?,
        conditions: None,
        maker: RecordMaker::for_relation(&source.relation),
        origin: None,
        record: record_buffer(),
        skipped: skipped.map(|skipped| (skipped, PgMemoryContexts::new("audit_algolia conditions"))),
    };
    let tells_truncation = event.operation == Operation::Truncate && !source.relation.is_mirrored;
    if statement.skipped.is_none() && !tells_truncation {
        statement.prepare();
    }
    // SAFETY: the caller guarantees this.
    unsafe {
        match event.operation {
            Operation::Truncate if tells_truncation => statement.capture_truncate()?,
            Operation::Truncate => statement.delete_all_objects(call.tg_relation)?,
            _ if event.is_row => statement.capture_row(call)?,
            _ => statement.capture_statement(call)?,
        }
    }
    statement.close()
}

impl StatementCapture<'_> {
    /// Prepares the conditions if necessary. They must live as long as the statement. Under `on_capture_error = warn`
    /// they have a context of their own; otherwise call this in a context that lives long enough.
    pub(super) fn prepare(&mut self) {
        let conditions = &self.source.relation.conditions;
        if self.conditions.is_some() || conditions.are_none() {
            return;
        }
        let context = self.context;
        let prepare = || conditions.prepare_in(|kind| context.evaluates(kind));
        self.conditions = Some(match &mut self.skipped {
            None => prepare(),
            // SAFETY: the context lives until the statement is closed, and is reset only when the conditions are dropped.
            Some((_, arena)) => unsafe { arena.switch_to(|_| prepare()) },
        });
    }

    fn close(self) -> SqlResult<()> {
        if let Some(conditions) = self.conditions {
            conditions.close();
        }
        self.writer.close();
        match self.skipped {
            None => Ok(()),
            Some((skipped, _)) => skipped.finish(),
        }
    }

    /// Captures the row of a row-level trigger.
    ///
    /// # Safety
    /// `call` comes from a row-level trigger.
    unsafe fn capture_row(&mut self, call: &pg_sys::TriggerData) -> SqlResult<()> {
        let row = TriggerRow::of(call, self.operation);
        // SAFETY: an AFTER trigger has its rows in these slots. Its memory context lives until we return.
        unsafe {
            let capture = |statement: &mut Self| {
                statement.attempt_row(row, |statement| match statement.source.relation.is_mirrored {
                    true => statement.mirror(call.tg_relation, row),
                    false => statement.row(row).map(drop),
                })
            };
            // The memory of a large row is freed before its record is written.
            match row.is_large() {
                true => Scratch::new().within(|| capture(self))?,
                false => capture(self)?,
            }
        }
        self.writer.flush()
    }

    /// Captures all rows of a statement, from its transition tables. The memory for reading them is freed after each
    /// stretch and before its records are written, so that a statement over millions of rows, or over large rows, needs
    /// little. A row from a tuplestore that has spilled is part of that memory and belongs to its slot, which must be
    /// cleared first.
    ///
    /// # Safety
    /// `call` comes from a statement-level trigger with the transition tables of its operation.
    unsafe fn capture_statement(&mut self, call: &pg_sys::TriggerData) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let tables = TransitionTables::open(call, self.skipped.is_some());
            // The memory of a few ordinary rows is kept until the trigger returns.
            let mut scratch = (tables.count >= FEW).then(Scratch::new);
            if scratch.is_some() {
                self.writer.expect_many();
            }
            let mut more = true;
            while more {
                more = match &mut scratch {
                    Some(scratch) => scratch.within(|| self.stretch(&tables))?,
                    None => self.stretch(&tables)?,
                };
                tables.clear_slot();
                if let Some(scratch) = &mut scratch {
                    scratch.give_back();
                }
                self.writer.flush()?;
            }
            tables.close();
        }
        Ok(())
    }

    /// Captures rows until a flush is due. Returns whether there are more. If a row fails under `on_capture_error =
    /// warn`, the stretch is captured again row by row, and only rows that fail are skipped.
    ///
    /// # Safety
    /// The tables contain rows of the relation that the source is bound to.
    unsafe fn stretch(&mut self, tables: &TransitionTables) -> SqlResult<bool> {
        tables.mark();
        // SAFETY: the caller guarantees this.
        unsafe {
            match self.attempt(|statement| statement.rows(tables, |statement, row| statement.row(row)))? {
                Ok(more) => Ok(more),
                Err(_) => {
                    tables.go_back();
                    self.rows(tables, |statement, row| {
                        statement.attempt_row(row, |statement| statement.row(row))
                    })
                }
            }
        }
    }

    /// Runs `work` for the rows of a stretch, until a flush is due or much memory is used. Returns whether there are
    /// more.
    ///
    /// # Safety
    /// As for `stretch`.
    unsafe fn rows(
        &mut self,
        tables: &TransitionTables,
        mut work: impl FnMut(&mut Self, TriggerRow) -> SqlResult<bool>,
    ) -> SqlResult<bool> {
        let are_few = tables.count < FEW;
        for _ in 0..STRETCH {
            let Some(row) = tables.next() else { return Ok(false) };
            // SAFETY: the slots hold the row.
            if are_few && unsafe { row.is_large() } {
                Scratch::new().within(|| work(self, row))?;
                break;
            }
            if work(self, row)? || has_grown() {
                break;
            }
        }
        Ok(true)
    }

    /// Captures one row. Returns whether a flush is due.
    ///
    /// # Safety
    /// The slots hold rows of the relation that the source is bound to.
    unsafe fn row(&mut self, row: TriggerRow) -> SqlResult<bool> {
        let current = row.current();
        let bound = &self.source.relation;
        // SAFETY: the caller guarantees this.
        unsafe {
            if !self.belongs(current) {
                return Ok(false);
            }
            if !bound.are_changes {
                self.row_record(current)?;
                return self.writer.push(&mut self.record);
            }
            let value = bound.row(current);
            self.record.clear();
            let mut previous = Vec::new();
            if self.operation == Operation::Update {
                previous = bound.previous(bound.row(row.old), value);
                let begins_to_alert = || self.alerts(row.new) && !self.alerts(row.old);
                if previous.is_empty() && !begins_to_alert() {
                    return Ok(false);
                }
            }
            let origin = origin_of(&mut self.origin, bound, &self.maker)?;
            let number = self.writer.reserve();
            let change = Change { operation: self.operation, number, previous: &previous, origin };
            self.maker.write_change(bound, &change, value, &mut self.record)?;
            self.add_alert(current)?;
            self.writer.push_as(number, &mut self.record)
        }
    }

    /// Whether there is a row and the filter accepts it.
    ///
    /// # Safety
    /// The slot is null or holds a row of the relation that the source is bound to.
    pub(super) unsafe fn belongs(&self, slot: TupleSlot) -> bool {
        if slot.is_null() {
            return false;
        }
        let Some(conditions) = &self.conditions else {
            return true;
        };
        self.context.evaluates(Some(ConditionKind::Filter));
        // SAFETY: the caller guarantees this.
        let accepts = unsafe { conditions.accepts(slot) };
        self.context.evaluates(None);
        accepts
    }

    /// Whether a row's record alerts.
    ///
    /// # Safety
    /// The slot holds a row of the relation that the source is bound to.
    pub(super) unsafe fn alerts(&self, slot: TupleSlot) -> bool {
        let (Some(conditions), Some(_)) = (&self.conditions, &self.source.alert_index) else {
            return false;
        };
        self.context.evaluates(Some(ConditionKind::Alert));
        // SAFETY: the caller guarantees this.
        let alerts = unsafe { conditions.alerts(slot) };
        self.context.evaluates(None);
        alerts
    }

    /// If the row alerts, adds that to its record, and has the commit notify listeners.
    ///
    /// # Safety
    /// As for `alerts`.
    unsafe fn add_alert(&mut self, slot: TupleSlot) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        if unsafe { self.alerts(slot) } {
            self.source.relation.add_alert(&mut self.record)?;
            let index = self.source.alert_index.as_deref().unwrap_or_default();
            alerts::note(index, self.source.watched, &self.record);
        }
        Ok(())
    }

    /// Makes the record of a row as it is.
    ///
    /// # Safety
    /// The slot holds a row of the relation that the source is bound to.
    pub(super) unsafe fn row_record(&mut self, slot: TupleSlot) -> SqlResult<()> {
        let bound = &self.source.relation;
        self.record.clear();
        // SAFETY: the caller guarantees this.
        unsafe {
            self.maker.write_record(bound, bound.row(slot), &mut self.record)?;
            self.add_alert(slot)
        }
    }

    /// Queues the record of a TRUNCATE. It has no row that could be read again, so if the record cannot be made, the
    /// statement fails.
    fn capture_truncate(&mut self) -> SqlResult<()> {
        let bound = &self.source.relation;
        let origin = origin_of(&mut self.origin, bound, &self.maker)?;
        let number = self.writer.reserve();
        RecordMaker::write_truncate(bound, number, origin, &mut self.record)?;
        self.writer.push_as(number, &mut self.record)?;
        self.writer.flush()
    }
}

/// Who makes the statement's changes, when and in which transaction. Determined on first use.
fn origin_of<'s>(
    origin: &'s mut Option<ChangeOrigin>,
    bound: &BoundRelation,
    maker: &RecordMaker,
) -> SqlResult<&'s ChangeOrigin> {
    let made = match origin.take() {
        Some(made) => made,
        None => {
            // SAFETY: within a transaction that writes. The clock is read while the rows are locked, so that the next
            // transaction that changes them has a later time; the starts of statements are not ordered like that.
            let (now, transaction) =
                unsafe { (pg_sys::GetCurrentTimestamp(), pg_sys::GetTopFullTransactionId().value) };
            maker.origin(bound, now, transaction)?
        }
    };
    Ok(origin.insert(made))
}
