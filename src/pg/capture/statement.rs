//! One call of a trigger: its rows, or its one row, through the filter into the queue.

use std::rc::Rc;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::context::Context;
use super::on_error_warn::SkippedRows;
use super::queue::{record_buffer, Writer, FEW};
use super::rows::{read, value_in, Slot, TransitionTables, Versions, STRETCH};
use super::scratch::{has_grown, Scratch};
use super::{Event, Source};
use crate::pg::filter::Evaluation;
use crate::pg::report::Outcome;
use crate::pg::rules::{pseudonymizer, ServerCalendar};
use crate::pseudonym::Pseudonymizer;
use crate::record::{Buffer, Change, Operation, Stamp};

/// What it takes to capture the rows of one statement, or the row of a row-level trigger.
pub(super) struct Statement<'a> {
    pub(super) source: &'a Source,
    operation: Operation,
    pub(super) context: &'a Context,
    pub(super) writer: Writer,
    pub(super) filter: Option<Evaluation>,
    pub(super) pseudonymizer: Option<Rc<Pseudonymizer>>,
    calendar: ServerCalendar,
    /// Made for the first record that needs it.
    stamp: Option<Stamp>,
    pub(super) record: Buffer,
    /// Where rows that fail are told of, if the writer is to go on; and where the filter lives then, which is made anew
    /// after an error.
    pub(super) lenience: Option<(SkippedRows<'a>, PgMemoryContexts)>,
}

/// Queues what a trigger is called for.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function, and `event` what it is called for.
pub(super) unsafe fn capture(
    call: &pg_sys::TriggerData,
    event: Event,
    source: &Source,
    context: &Context,
    omissions: Option<SkippedRows<'_>>,
) -> Outcome<()> {
    let mut statement = Statement {
        source,
        operation: event.operation,
        context,
        writer: Writer::open(source.index_id, source.id)?,
        filter: None,
        pseudonymizer: source.bound.pseudonymizes().then(pseudonymizer).flatten(),
        calendar: ServerCalendar::current(),
        stamp: None,
        record: record_buffer(),
        lenience: omissions.map(|omissions| (omissions, PgMemoryContexts::new("audit_algolia filter"))),
    };
    let tells_truncation = event.operation == Operation::Truncate && source.key.is_none();
    if statement.lenience.is_none() && !tells_truncation {
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

impl Statement<'_> {
    /// Makes the filter ready, unless it is. It has to live as long as the statement: unless the writer is to go on after
    /// an error, when it has a context of its own, this is to be called in one that does.
    pub(super) fn prepare(&mut self) {
        let (Some(filter), None) = (&self.source.filter, &self.filter) else { return };
        self.context.in_filter(true);
        self.filter = Some(match &mut self.lenience {
            None => filter.prepare(),
            // SAFETY: the context lives until the statement is closed, and is reset only when the filter is given up.
            Some((_, arena)) => unsafe { arena.switch_to(|_| filter.prepare()) },
        });
        self.context.in_filter(false);
    }

    fn close(self) -> Outcome<()> {
        if let Some(filter) = self.filter {
            filter.close();
        }
        self.writer.close();
        match self.lenience {
            None => Ok(()),
            Some((omissions, _)) => omissions.finish(),
        }
    }

    /// The one row of a row-level trigger.
    ///
    /// # Safety
    /// `call` comes from a row-level trigger.
    unsafe fn single(&mut self, call: &pg_sys::TriggerData) -> Outcome<()> {
        let row = Versions::of(call, self.operation);
        // SAFETY: an after trigger has its rows in these slots; its own memory context lives until we return.
        unsafe {
            let capture = |statement: &mut Self| {
                statement.attempt_row(row, |statement| match statement.source.key {
                    Some(_) => statement.mirror(call.tg_relation, row),
                    None => statement.row(row).map(drop),
                })
            };
            // What a large row has taken is given back before its record is written.
            match row.are_large() {
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
    unsafe fn all(&mut self, call: &pg_sys::TriggerData) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        unsafe {
            let tables = TransitionTables::open(call, self.lenience.is_some());
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
                tables.let_go();
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
    unsafe fn stretch(&mut self, tables: &TransitionTables) -> Outcome<bool> {
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
        mut work: impl FnMut(&mut Self, Versions) -> Outcome<bool>,
    ) -> Outcome<bool> {
        let are_few = tables.count < FEW;
        for _ in 0..STRETCH {
            let Some(row) = tables.next() else { return Ok(false) };
            // SAFETY: the tables hold their rows.
            if are_few && unsafe { row.are_large() } {
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
    unsafe fn row(&mut self, row: Versions) -> Outcome<bool> {
        let told = row.current();
        let bound = &self.source.bound;
        // SAFETY: handed on to the caller.
        unsafe {
            if !self.belongs(told) {
                return Ok(false);
            }
            if !self.source.are_changes {
                self.row_record(told)?;
                return self.writer.push(&mut self.record);
            }
            read(told, bound.width);
            let value = |place| value_in(told, place);
            self.record.clear();
            let pseudonymizer = self.pseudonymizer.as_deref();
            let mut previous = Vec::new();
            if self.operation == Operation::Update {
                read(row.old, bound.width);
                previous = bound.previous(|place| value_in(row.old, place), value);
                if previous.is_empty() {
                    return Ok(false);
                }
            }
            let stamp = stamped(&mut self.stamp, self.source, pseudonymizer)?;
            let change = Change {
                operation: self.operation,
                number: self.writer.reserve(),
                previous: &previous,
                stamp,
            };
            bound.write_change(&change, value, pseudonymizer, &mut self.calendar, &mut self.record)?;
            let number = change.number;
            self.writer.push_as(number, &mut self.record)
        }
    }

    /// Whether a row is there and the filter lets it through.
    ///
    /// # Safety
    /// The slot is null or holds a row of the relation the source is bound to.
    pub(super) unsafe fn belongs(&self, slot: Slot) -> bool {
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
    pub(super) unsafe fn row_record(&mut self, slot: Slot) -> Outcome<()> {
        let Statement { source, pseudonymizer, calendar, record, .. } = self;
        record.clear();
        // SAFETY: handed on to the caller.
        unsafe {
            read(slot, source.bound.width);
            source.bound.write(|place| value_in(slot, place), pseudonymizer.as_deref(), calendar, record)
        }
    }

    /// The one record of a TRUNCATE. There is no row to read again: if it cannot be made, the statement fails.
    fn truncation(&mut self) -> Outcome<()> {
        let pseudonymizer = self.pseudonymizer.as_deref();
        let stamp = stamped(&mut self.stamp, self.source, pseudonymizer)?;
        let number = self.writer.reserve();
        self.source.bound.write_truncate(number, stamp, &mut self.record)?;
        self.writer.push_as(number, &mut self.record)?;
        self.writer.flush()
    }
}

/// The statement's stamp, made when it is first asked for.
fn stamped<'s>(
    stamp: &'s mut Option<Stamp>,
    source: &Source,
    pseudonymizer: Option<&Pseudonymizer>,
) -> Outcome<&'s Stamp> {
    let made = match stamp.take() {
        Some(made) => made,
        None => {
            // SAFETY: a transaction is under way, and it writes. The clock is read while it has the rows locked, so that
            // whoever changes them next has a later time; the beginnings of statements tell no such order.
            let (now, transaction) =
                unsafe { (pg_sys::GetCurrentTimestamp(), pg_sys::GetTopFullTransactionId().value) };
            source.bound.stamp(now, transaction, pseudonymizer)?
        }
    };
    Ok(stamp.insert(made))
}
