//! Rows that a table holds already become records in the queue, as if each had just been inserted.
//!
//! Called by the process that sends history, with the rights of the table's owner: filters, and the output functions of
//! the table's types, are theirs.

use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::queue::{clear, Action, Writer};
use super::rows::{read, value_in, Slot};
use super::{columns, Bound};
use crate::backfill::Version;
use crate::pg::filter::{Evaluation, Filter};
use crate::pg::latest::first_row;
use crate::pg::owner::{as_user, home};
use crate::pg::report::{failure, Outcome};
use crate::pg::rules::{pseudonymizer, ServerCalendar, SourceRules};
use crate::pseudonym::Pseudonymizer;
use crate::record::{Change, Operation, Stamp};
use crate::rules::Mode;

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
    record: Vec<u8>,
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

/// The table, or one of its partitions.
struct Leaf {
    relation: pg_sys::Relation,
    slot: Slot,
    file: u32,
    bound: Bound,
    /// Its records tell of changes.
    are_changes: bool,
    /// Its rows are mirrored.
    is_mirrored: bool,
    filter: Option<(Filter, Evaluation)>,
}

impl History {
    pub(in crate::pg) fn open(source: i32, index_id: i32, sequence: pg_sys::Oid) -> Outcome<History> {
        Ok(History {
            source,
            writer: Writer::open_for_history(index_id, source, sequence)?,
            pseudonymizer: pseudonymizer(),
            calendar: ServerCalendar::current(),
            unknown: Stamp::unknown(),
            leaves: HashMap::new(),
            record: Vec::with_capacity(512),
        })
    }

    /// Fetches a row that the active snapshot has just shown; nothing when it is not there.
    pub(in crate::pg) fn fetch(
        &mut self,
        relation: pg_sys::Oid,
        mut place: pg_sys::ItemPointerData,
    ) -> Outcome<Option<Version>> {
        let leaf = self.leaf(relation)?;
        // SAFETY: the relation is open and locked by the query that has shown the row; the slot is one of it.
        unsafe {
            clear(leaf.slot);
            let snapshot = pg_sys::GetActiveSnapshot();
            if !pg_sys::table_tuple_fetch_row_version(leaf.relation, &raw mut place, snapshot, leaf.slot) {
                return Ok(None);
            }
            Ok(Some(version(leaf, relation)))
        }
    }

    /// Queues the row fetched last, unless the filter is against it.
    /// The record's memory is that of the current context, which must live until the next `flush`.
    pub(in crate::pg) fn write(&mut self, relation: pg_sys::Oid) -> Outcome<Written> {
        let Some(leaf) = self.leaves.get(&relation.to_u32()) else { return Ok(Written::LeftOut) };
        // SAFETY: the slot holds a row of the relation that bound and filter were made for.
        unsafe {
            if leaf.filter.as_ref().is_some_and(|(_, filter)| !filter.accepts(leaf.slot)) {
                return Ok(Written::LeftOut);
            }
            if leaf.is_mirrored {
                match lock(leaf) {
                    Locked::Mine => (),
                    Locked::Changed => return Ok(Written::LeftOut),
                    Locked::Others => return Ok(Written::Locked),
                }
            }
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
                leaf.bound.write_change(&change, value, pseudonymizer, calendar, &mut self.record)?;
            } else {
                leaf.bound.write(value, pseudonymizer, calendar, &mut self.record)?;
            }
        }
        let is_full = match leaf.is_mirrored {
            true => self.writer.push_version(Action::AddObject, &self.record),
            false => self.writer.push(&self.record),
        };
        if is_full {
            self.writer.flush()?;
        }
        Ok(Written::Queued)
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
            if let Some((_, evaluation)) = leaf.filter {
                evaluation.close();
            }
            // SAFETY: made by `leaf`, used no more; the lock is kept until the transaction ends.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(leaf.slot);
                pg_sys::table_close(leaf.relation, pg_sys::NoLock as i32);
            }
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

impl Leaf {
    fn open(source: i32, oid: pg_sys::Oid) -> Outcome<Leaf> {
        let owner = home()?.owner;
        // SAFETY: the query that has shown a row of the relation keeps it locked until the transaction ends. The name is
        // a C string.
        unsafe {
            let relation = pg_sys::table_open(oid, pg_sys::AccessShareLock as i32);
            let table = CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()).to_string_lossy();
            if (*(*relation).rd_rel).relkind != pg_sys::RELKIND_RELATION as i8 {
                return Err(failure(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    format!(
                        "partition \"{table}\" is no table of this server, and its rows cannot be backfilled"
                    ),
                    "Give since or until so that its rows are left out, or detach it meanwhile.",
                ));
            }
            let columns = columns((*relation).rd_att);
            let names: Vec<&str> = columns.iter().map(|(_, name, _)| name.as_str()).collect();
            let rules = as_user(owner, || SourceRules::load(source, oid, &table, &names))?;
            let rules = rules.ok_or_else(|| gone(&table))?;
            let bound = Bound::new(&rules, &columns, &table)?;
            let filter = match &rules.filter {
                None => None,
                Some(text) => {
                    let filter = Filter::compile(text, relation, rules.owner, Some)?;
                    let evaluation = filter.prepare();
                    Some((filter, evaluation))
                }
            };
            Ok(Leaf {
                slot: pg_sys::table_slot_create(relation, std::ptr::null_mut()),
                relation,
                file: file_of(oid)?,
                are_changes: rules.are_changes(),
                is_mirrored: rules.mode == Mode::Mirror,
                bound,
                filter,
            })
        }
    }
}

/// Whose a row is.
enum Locked {
    Mine,
    /// It has been changed or deleted since it was fetched.
    Changed,
    Others,
}

/// Locks the row fetched last against changes until the transaction ends. A mirrored row must not change between being
/// read and being queued: its new version could be delivered before the old one is queued, which would come over it then.
///
/// # Safety
/// The slot holds a row that was fetched from the leaf.
unsafe fn lock(leaf: &Leaf) -> Locked {
    // SAFETY: handed on to the caller. The row is locked, or left alone, without waiting; the slot has the same row
    // afterwards.
    unsafe {
        let mut place = (*leaf.slot).tts_tid;
        let mut failure = pg_sys::TM_FailureData::default();
        let result = pg_sys::table_tuple_lock(
            leaf.relation,
            &raw mut place,
            pg_sys::GetActiveSnapshot(),
            leaf.slot,
            pg_sys::GetCurrentCommandId(true),
            pg_sys::LockTupleMode::LockTupleShare,
            pg_sys::LockWaitPolicy::LockWaitSkip,
            0,
            &raw mut failure,
        );
        match result {
            pg_sys::TM_Result::TM_Ok => Locked::Mine,
            pg_sys::TM_Result::TM_WouldBlock | pg_sys::TM_Result::TM_BeingModified => Locked::Others,
            _ => Locked::Changed,
        }
    }
}

/// The number of a relation's file.
pub(in crate::pg) fn file_of(oid: pg_sys::Oid) -> Outcome<u32> {
    let query = include_str!("../../../sql/file_of.sql");
    let file = first_row(query, &[(pg_sys::OIDOID, oid.into())], |row| Ok(row.get::<pg_sys::Oid>(1)))?;
    Ok(file.flatten().unwrap_or(pg_sys::InvalidOid).to_u32())
}

fn gone(table: &str) -> Box<crate::pg::report::Failure> {
    failure(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table \"{table}\" is not watched any more"),
        "Put it under watch again with audit_algolia.watch().",
    )
}

/// # Safety
/// The slot holds a row that was fetched from the leaf.
unsafe fn version(leaf: &Leaf, relation: pg_sys::Oid) -> Version {
    let mut version = Version {
        relation: relation.to_u32(),
        file: leaf.file,
        xmin: 0,
        frozen: false,
        updated: false,
        command: None,
    };
    // SAFETY: handed on to the caller. A slot of this kind holds a tuple in a buffer, which it has pinned. Tables that
    // are kept in another way tell nothing of their rows' transactions; those are in doubt.
    unsafe {
        if (*leaf.slot).tts_ops == &raw const pg_sys::TTSOpsBufferHeapTuple {
            let tuple = (*leaf.slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple;
            let header = &*(*tuple).t_data;
            let flags = u32::from(header.t_infomask);
            version.xmin = header.t_choice.t_heap.t_xmin.into_inner();
            version.frozen = flags & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
            version.updated = flags & pg_sys::HEAP_UPDATED != 0;
            // Whoever has tried to delete it has written their command over that of the insertion.
            let is_untouched = header.t_choice.t_heap.t_xmax == pg_sys::InvalidTransactionId
                && flags & pg_sys::HEAP_COMBOCID == 0
                && !version.frozen;
            version.command = is_untouched.then_some(header.t_choice.t_heap.t_field3.t_cid);
        }
    }
    version
}
