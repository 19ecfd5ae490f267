//! One call of a trigger: its rows, or its one row, through the filter into the queue.

use std::rc::Rc;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::context::Context;
use super::queue::{Writer, FEW};
use super::rows::{read, value_in, Reader, Slot};
use super::{Event, Source};
use crate::pg::filter::Evaluation;
use crate::pg::report::Outcome;
use crate::pg::rules::{pseudonymizer, ServerCalendar};
use crate::pseudonym::Pseudonymizer;
use crate::record::{Change, Operation, Stamp};

/// Rows that are looked at before memory is given back, should few of them be queued.
const STRETCH: usize = 1024;

/// A row as it was and as it is; one of them is null for inserts and deletes.
#[derive(Clone, Copy)]
pub(super) struct Versions {
    pub(super) old: Slot,
    pub(super) new: Slot,
}

impl Versions {
    /// The one the filter looks at, and the record holds.
    fn told(self) -> Slot {
        if self.new.is_null() {
            self.old
        } else {
            self.new
        }
    }
}

/// What it takes to capture the rows of one statement, or the row of a row-level trigger.
pub(super) struct Statement<'a> {
    pub(super) source: &'a Source,
    operation: Operation,
    context: &'a Context,
    pub(super) writer: Writer,
    filter: Option<Evaluation>,
    pub(super) pseudonymizer: Option<Rc<Pseudonymizer>>,
    calendar: ServerCalendar,
    /// Made for the first record that needs it.
    stamp: Option<Stamp>,
    pub(super) record: Vec<u8>,
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
        record: Vec::with_capacity(512),
    };
    // SAFETY: handed on to the caller.
    unsafe {
        match event.operation {
            Operation::Truncate if source.key.is_none() => statement.truncation()?,
            Operation::Truncate => {
                statement.prepare();
                statement.empty(call.tg_relation)?;
            }
            _ => {
                statement.prepare();
                if event.is_row {
                    statement.single(call)?;
                } else {
                    statement.all(call)?;
                }
            }
        }
    }
    statement.close();
    Ok(())
}

impl Statement<'_> {
    fn prepare(&mut self) {
        self.context.in_filter(true);
        self.filter = self.source.filter.as_ref().map(|filter| filter.prepare());
        self.context.in_filter(false);
    }

    fn close(self) {
        if let Some(filter) = self.filter {
            filter.close();
        }
        self.writer.close();
    }

    /// The one row of a row-level trigger.
    ///
    /// # Safety
    /// `call` comes from a row-level trigger.
    unsafe fn single(&mut self, call: &pg_sys::TriggerData) -> Outcome<()> {
        let none = std::ptr::null_mut();
        let row = match self.operation {
            Operation::Insert => Versions { old: none, new: call.tg_trigslot },
            Operation::Update => Versions { old: call.tg_trigslot, new: call.tg_newslot },
            _ => Versions { old: call.tg_trigslot, new: none },
        };
        // SAFETY: an after trigger has its rows in these slots; its own memory context lives until we return.
        unsafe {
            match self.source.key {
                Some(_) => self.mirror(call.tg_relation, row)?,
                None => {
                    self.row(row)?;
                }
            }
        }
        self.writer.flush()
    }

    /// All rows of a statement, from its transition tables. Of an update, the server puts the old and the new version of
    /// a row into their tables one right after the other, so that the nth of one belongs to the nth of the other.
    ///
    /// # Safety
    /// `call` comes from a statement-level trigger with the transition tables of its operation.
    unsafe fn all(&mut self, call: &pg_sys::TriggerData) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        unsafe {
            let old = Reader::open(call.tg_oldtable, call.tg_relation);
            let new = Reader::open(call.tg_newtable, call.tg_relation);
            if old.count().max(new.count()) < FEW {
                // What they take lives until the trigger returns, like all its memory.
                let outcome = self.stretch(&old, &new).map(drop);
                old.close();
                new.close();
                return outcome;
            }
            let mut scratch = PgMemoryContexts::new("audit_algolia capture");
            let outcome = (|| {
                let mut more = true;
                while more {
                    // Values and texts of one stretch share a context that is reset with it, so that the memory of a
                    // statement over millions of rows stays flat. A row read from a tuplestore that has spilled is in
                    // it too, and belongs to the slot: the slot lets go of it first.
                    old.clear();
                    new.clear();
                    scratch.reset();
                    more = scratch.switch_to(|_| self.stretch(&old, &new))?;
                }
                Ok(())
            })();
            old.close();
            new.close();
            outcome
        }
    }

    /// Captures rows until those queued are to be written; returns whether there are more.
    ///
    /// # Safety
    /// The readers belong to the transition tables of one statement.
    unsafe fn stretch(&mut self, old: &Reader, new: &Reader) -> Outcome<bool> {
        for _ in 0..STRETCH {
            // SAFETY: handed on to the caller.
            unsafe {
                let (has_old, has_new) = (old.next(), new.next());
                if !has_old && !has_new {
                    self.writer.flush()?;
                    return Ok(false);
                }
                if self.row(Versions { old: old.slot, new: new.slot })? {
                    break;
                }
            }
        }
        self.writer.flush()?;
        Ok(true)
    }

    /// Captures one row; returns whether a flush is due.
    ///
    /// # Safety
    /// The slots hold rows of the relation the source is bound to.
    unsafe fn row(&mut self, row: Versions) -> Outcome<bool> {
        let told = row.told();
        let bound = &self.source.bound;
        // SAFETY: handed on to the caller.
        unsafe {
            if !self.belongs(told) {
                return Ok(false);
            }
            if !self.source.are_changes {
                self.row_record(told)?;
                return Ok(self.writer.push(&self.record));
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
            Ok(self.writer.push_as(number, &self.record))
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

    /// The one record of a TRUNCATE.
    fn truncation(&mut self) -> Outcome<()> {
        let pseudonymizer = self.pseudonymizer.as_deref();
        let stamp = stamped(&mut self.stamp, self.source, pseudonymizer)?;
        let number = self.writer.reserve();
        self.source.bound.write_truncate(number, stamp, &mut self.record);
        self.writer.push_as(number, &self.record);
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
