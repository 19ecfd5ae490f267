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
use crate::pg::filter::Evaluation;
use crate::pg::report::SqlResult;
use crate::record::{Buffer, Change, ChangeOrigin, Operation};

/// What it takes to capture the rows of one statement, or the row of a row-level trigger.
pub(super) struct StatementCapture<'a> {
    pub(super) source: &'a Source,
    operation: Operation,
    pub(super) context: &'a CaptureErrorContext,
    pub(super) writer: QueueWriter,
    pub(super) filter: Option<Evaluation>,
    pub(super) maker: RecordMaker,
    /// Made for the first record that needs it.
    origin: Option<ChangeOrigin>,
    pub(super) record: Buffer,
    /// Where rows that fail are told of, if the writer is to go on; and where the filter lives then, which is made anew
    /// after an error.
    pub(super) skipped: Option<(SkippedRows<'a>, PgMemoryContexts)>,
}

/// Queues what a trigger is called for.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function, and `event` what it is called for.
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
        filter: None,
        maker: RecordMaker::for_relation(&source.relation),
        origin: None,
        record: record_buffer(),
        skipped: skipped.map(|skipped| (skipped, PgMemoryContexts::new("audit_algolia filter"))),
    };
    let tells_truncation = event.operation == Operation::Truncate && !source.relation.is_mirrored;
    if statement.skipped.is_none() && !tells_truncation {
        statement.prepare();
    }
    // SAFETY: handed on to the caller.
    unsafe {
        match event.operation {
            Operation::Truncate if tells_truncation => statement.truncation()?,
            Operation::Truncate => statement.empty(call.tg_relation)?,
            _ if event.is_row => statement.single(call)?,
            _ => statement.all(call)?,
        }
    }
    statement.close()
}

impl StatementCapture<'_> {
    /// Makes the filter ready, unless it is. It has to live as long as the statement: unless the writer is to go on after
    /// an error, when it has a context of its own, this is to be called in one that does.
    pub(super) fn prepare(&mut self) {
        let (Some(filter), None) = (&self.source.relation.filter, &self.filter) else { return };
        self.context.in_filter(true);
        self.filter = Some(match &mut self.skipped {
            None => filter.prepare(),
            // SAFETY: the context lives until the statement is closed, and is reset only when the filter is given up.
            Some((_, arena)) => unsafe { arena.switch_to(|_| filter.prepare()) },
        });
        self.context.in_filter(false);
    }

    fn close(self) -> SqlResult<()> {
        if let Some(filter) = self.filter {
            filter.close();
        }
        self.writer.close();
        match self.skipped {
            None => Ok(()),
            Some((skipped, _)) => skipped.finish(),
        }
    }

    /// The one row of a row-level trigger.
    ///
    /// # Safety
    /// `call` comes from a row-level trigger.
    unsafe fn single(&mut self, call: &pg_sys::TriggerData) -> SqlResult<()> {
        let row = TriggerRow::of(call, self.operation);
        // SAFETY: an after trigger has its rows in these slots; its own memory context lives until we return.
        unsafe {
            let capture = |statement: &mut Self| {
                statement.attempt_row(row, |statement| match statement.source.relation.is_mirrored {
                    true => statement.mirror(call.tg_relation, row),
                    false => statement.row(row).map(drop),
                })
            };
            // What a large row has taken is given back before its record is written.
            match row.is_large() {
                true => Scratch::new().within(|| capture(self))?,
                false => capture(self)?,
            }
        }
        self.writer.flush()
    }

    /// All rows of a statement, from its transition tables. What is taken to read them is given back whenever records
    /// have been made of some, and before these are written, so that the memory of a statement over millions of rows, or
    /// large ones, stays flat. A row read from a tuplestore that has spilled is among that, and belongs to its slot, which
    /// has to let go of it first.
    ///
    /// # Safety
    /// `call` comes from a statement-level trigger with the transition tables of its operation.
    unsafe fn all(&mut self, call: &pg_sys::TriggerData) -> SqlResult<()> {
        // SAFETY: handed on to the caller.
        unsafe {
            let tables = TransitionTables::open(call, self.skipped.is_some());
            // What a few ordinary rows take lives until the trigger returns, like all its memory.
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

    /// Captures rows until those queued are to be written; returns whether there are more. Should one of them fail, and
    /// the writer is to go on, they are captured once more, one by one: only the one that fails then is left out.
    ///
    /// # Safety
    /// The tables hold rows of the relation the source is bound to.
    unsafe fn stretch(&mut self, tables: &TransitionTables) -> SqlResult<bool> {
        tables.mark();
        // SAFETY: handed on to the caller.
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

    /// Does `work` for the rows of a stretch, until it says that a flush is due, or much memory has been taken; returns
    /// whether there are more.
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
            // SAFETY: the tables hold their rows.
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

    /// Captures one row; returns whether a flush is due.
    ///
    /// # Safety
    /// The slots hold rows of the relation the source is bound to.
    unsafe fn row(&mut self, row: TriggerRow) -> SqlResult<bool> {
        let current = row.current();
        let bound = &self.source.relation;
        // SAFETY: handed on to the caller.
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
                if previous.is_empty() {
                    return Ok(false);
                }
            }
            let origin = origin_of(&mut self.origin, bound, &self.maker)?;
            let number = self.writer.reserve();
            let change = Change { operation: self.operation, number, previous: &previous, origin };
            self.maker.write_change(bound, &change, value, &mut self.record)?;
            self.writer.push_as(number, &mut self.record)
        }
    }

    /// Whether a row is there and the filter lets it through.
    ///
    /// # Safety
    /// The slot is null or holds a row of the relation the source is bound to.
    pub(super) unsafe fn belongs(&self, slot: TupleSlot) -> bool {
        if slot.is_null() {
            return false;
        }
        let Some(filter) = &self.filter else {
            return true;
        };
        self.context.in_filter(true);
        // SAFETY: handed on to the caller.
        let accepts = unsafe { filter.accepts(slot) };
        self.context.in_filter(false);
        accepts
    }

    /// Makes the record of a row as it is.
    ///
    /// # Safety
    /// The slot holds a row of the relation the source is bound to.
    pub(super) unsafe fn row_record(&mut self, slot: TupleSlot) -> SqlResult<()> {
        let bound = &self.source.relation;
        self.record.clear();
        // SAFETY: handed on to the caller.
        unsafe { self.maker.write_record(bound, bound.row(slot), &mut self.record) }
    }

    /// The one record of a TRUNCATE. There is no row to read again: if it cannot be made, the statement fails.
    fn truncation(&mut self) -> SqlResult<()> {
        let bound = &self.source.relation;
        let origin = origin_of(&mut self.origin, bound, &self.maker)?;
        let number = self.writer.reserve();
        RecordMaker::write_truncate(bound, number, origin, &mut self.record)?;
        self.writer.push_as(number, &mut self.record)?;
        self.writer.flush()
    }
}

/// Who makes the statement's changes, when and in which transaction; found out when it is first asked for.
fn origin_of<'s>(
    origin: &'s mut Option<ChangeOrigin>,
    bound: &BoundRelation,
    maker: &RecordMaker,
) -> SqlResult<&'s ChangeOrigin> {
    let made = match origin.take() {
        Some(made) => made,
        None => {
            // SAFETY: a transaction is under way, and it writes. The clock is read while it has the rows locked, so that
            // whoever changes them next has a later time; the beginnings of statements tell no such order.
            let (now, transaction) =
                unsafe { (pg_sys::GetCurrentTimestamp(), pg_sys::GetTopFullTransactionId().value) };
            maker.origin(bound, now, transaction)?
        }
    };
    Ok(origin.insert(made))
}
