//! Rows that a table holds already become records in the queue, as if each had just been inserted.
//!
//! Called by the process that sends history, with the rights of the table's owner: filters, and the output functions of
//! the table's types, are theirs.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use super::leaf::{gone, Leaf, Locked};
use super::queue::{record_buffer, Action, Writer};
use super::rows::{read, value_in};
use super::scratch::Scratch;
use crate::backfill::Version;
use crate::pg::report::Outcome;
use crate::pg::rules::{pseudonymizer, ServerCalendar};
use crate::pseudonym::Pseudonymizer;
use crate::record::{Buffer, Change, Operation, Stamp};

/// The number of a change that was there before there were any: an object has one such record, however often it is made.
const BEFORE_ALL: i64 = 0;

/// Writes records of rows of one source.
pub(in crate::pg) struct History {
    source: i32,
    writer: Writer,
    pseudonymizer: Option<Rc<Pseudonymizer>>,
    calendar: ServerCalendar,
    unknown: Stamp,
    leaves: HashMap<u32, Leaf>,
    record: Buffer,
    /// For what it takes to read a row.
    scratch: Scratch,
    bytes: usize,
}

/// What became of a row that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pg) enum Written {
    Queued,
    /// The filter is against it, or the row is not as it was any more, and has been told of by a trigger.
    LeftOut,
    /// Somebody else has locked the row, and may be changing it.
    Locked,
}

impl History {
    /// The ids come from `sequence`; without one the rows are told of as if they had just been written.
    pub(in crate::pg) fn open(source: i32, index_id: i32, sequence: Option<pg_sys::Oid>) -> Outcome<History> {
        Ok(History {
            source,
            writer: match sequence {
                Some(sequence) => Writer::open_for_history(index_id, source, sequence)?,
                None => Writer::open(index_id, source)?,
            },
            pseudonymizer: pseudonymizer(),
            calendar: ServerCalendar::current(),
            unknown: Stamp::unknown(),
            leaves: HashMap::new(),
            record: record_buffer(),
            scratch: Scratch::new(),
            bytes: 0,
        })
    }

    /// Fetches a row that the active snapshot has just shown; nothing when it is not there.
    pub(in crate::pg) fn fetch(
        &mut self,
        relation: pg_sys::Oid,
        place: pg_sys::ItemPointerData,
    ) -> Outcome<Option<Version>> {
        let leaf = self.leaf(relation)?;
        // SAFETY: the slot holds the row that was fetched.
        Ok(leaf.fetch(place).then(|| unsafe { leaf.version(relation) }))
    }

    /// Queues the row fetched last, unless the filter is against it.
    pub(in crate::pg) fn write(&mut self, relation: pg_sys::Oid) -> Outcome<Written> {
        let Some(leaf) = self.leaves.get(&relation.to_u32()) else { return Ok(Written::LeftOut) };
        let is_mirrored = leaf.is_mirrored;
        // SAFETY: the slot holds a row of the relation that bound and filter were made for.
        unsafe {
            if !leaf.accepts() {
                return Ok(Written::LeftOut);
            }
            if is_mirrored {
                match leaf.lock() {
                    Locked::Mine => (),
                    Locked::Changed => return Ok(Written::LeftOut),
                    Locked::Others => return Ok(Written::Locked),
                }
            }
        }
        let mut scratch = std::mem::replace(&mut self.scratch, Scratch::new());
        let rendered = scratch.within(|| self.render(relation));
        scratch.give_back_if_large();
        self.scratch = scratch;
        rendered?;
        self.bytes += self.record.len();
        let is_full = match is_mirrored {
            true => self.writer.push_version(Action::AddObject, &mut self.record)?,
            false => self.writer.push(&mut self.record)?,
        };
        if is_full {
            self.writer.flush()?;
        }
        Ok(Written::Queued)
    }

    /// Makes the record of the row fetched last.
    fn render(&mut self, relation: pg_sys::Oid) -> Outcome<()> {
        let leaf = self.leaves.get(&relation.to_u32()).ok_or_else(|| gone("a partition"))?;
        // SAFETY: as in `write`.
        unsafe {
            read(leaf.slot, leaf.bound.width);
            let value = |place| value_in(leaf.slot, place);
            let (pseudonymizer, calendar) = (self.pseudonymizer.as_deref(), &mut self.calendar);
            self.record.clear();
            if leaf.are_changes {
                let change = Change {
                    operation: Operation::Insert,
                    number: BEFORE_ALL,
                    previous: &[],
                    stamp: &self.unknown,
                };
                leaf.bound.write_change(&change, value, pseudonymizer, calendar, &mut self.record)
            } else {
                leaf.bound.write(value, pseudonymizer, calendar, &mut self.record)
            }
        }
    }

    /// Bytes of the records that have been queued so far.
    pub(in crate::pg) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether changes of the relation's rows since the watch began are told by its triggers as a whole.
    pub(in crate::pg) fn is_mirrored(&self, relation: pg_sys::Oid) -> bool {
        self.leaves.get(&relation.to_u32()).is_some_and(|leaf| leaf.is_mirrored)
    }

    /// Writes what has been added.
    pub(in crate::pg) fn flush(&mut self) -> Outcome<()> {
        self.writer.flush()
    }

    /// Writes the rest, and closes everything. After an error the abort of the transaction does.
    pub(in crate::pg) fn close(mut self) -> Outcome<()> {
        self.writer.flush()?;
        for leaf in self.leaves.into_values() {
            leaf.close();
        }
        self.writer.close();
        Ok(())
    }

    fn leaf(&mut self, oid: pg_sys::Oid) -> Outcome<&Leaf> {
        let key = oid.to_u32();
        if !self.leaves.contains_key(&key) {
            // What a leaf is made of lives as long as the transaction.
            // SAFETY: the context is the transaction's own; an error leaves it current, and the abort mends that.
            let leaf = unsafe {
                let context = pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
                let leaf = Leaf::open(self.source, oid);
                pg_sys::MemoryContextSwitchTo(context);
                leaf
            };
            self.leaves.insert(key, leaf?);
        }
        self.leaves.get(&key).ok_or_else(|| gone("a partition"))
    }
}
