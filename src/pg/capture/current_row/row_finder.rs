//! Finds rows of one table or partition by their keys, as they are at this moment, even while others change them.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::lookup_snapshot::LookupSnapshot;
use crate::pg::capture::bound_relation::BoundRelation;
use crate::pg::capture::column::{reads_what_it_wrote, value_of_text};
use crate::pg::capture::queue::{record_buffer, storable};
use crate::pg::capture::record_maker::RecordMaker;
use crate::pg::capture::slot::TupleSlot;
use crate::pg::descriptor::attribute;
use crate::pg::failpoint;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;
use crate::pg::subtransaction::guarded;
use crate::record::{identity, Buffer};

/// The result of looking up a key.
pub(super) enum CurrentRow {
    /// There is no row, or the filter excludes it.
    Absent,
    /// Somebody is changing it, or it is unknown.
    InChange,
    /// A row that belongs into the index, with its record.
    Present(Buffer),
}

/// Finds rows of one table or partition.
pub(super) struct RowFinder {
    relation: pg_sys::Relation,
    bound: BoundRelation,
    /// Holds the key that is looked up.
    slot: TupleSlot,
}

impl RowFinder {
    /// Binds the rules to a relation.
    ///
    /// # Safety
    /// `relation` is open and locked.
    pub(super) unsafe fn of(rules: &SourceRules, relation: pg_sys::Relation) -> SqlResult<RowFinder> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let mut bound = BoundRelation::bind(rules, relation)?;
            bound.find_key_index(relation)?;
            let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsVirtual);
            Ok(RowFinder { relation, bound, slot })
        }
    }

    pub(super) fn oid(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_id }
    }

    /// Closes it and keeps the lock.
    pub(super) fn close(&self) {
        // SAFETY: opened by the caller of `of`, and not used any more.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::relation_close(self.relation, pg_sys::NoLock as i32);
        }
    }

    /// The types of the key columns.
    fn key_types(&self) -> impl Iterator<Item = pg_sys::Oid> + '_ {
        // SAFETY: the relation is open; the rules were bound to its columns.
        let of = |place| unsafe { (*attribute((*self.relation).rd_att, place)).atttypid };
        self.bound.key_places().into_iter().map(of)
    }

    /// Whether an unreadable key certainly belongs to no row.
    pub(super) fn reads_all_keys(&self) -> bool {
        self.key_types().all(reads_what_it_wrote)
    }

    /// Reads the values of a key from their texts, in the current memory context. If one is unreadable, returns what
    /// that means.
    pub(super) fn key_values(&self, key: &[String]) -> SqlResult<Result<Vec<pg_sys::Datum>, CurrentRow>> {
        let mut values = Vec::with_capacity(key.len());
        for (of, text) in self.key_types().zip(key) {
            match input(text, of)? {
                Some(value) => values.push(value),
                None if reads_what_it_wrote(of) => return Ok(Err(CurrentRow::Absent)),
                None => return Ok(Err(CurrentRow::InChange)),
            }
        }
        Ok(Ok(values))
    }

    /// Looks up the row with this key whose record has this identity.
    ///
    /// # Safety
    /// The relation is open, and the values have the types of its key columns. Allocations live in the current
    /// memory context.
    pub(super) unsafe fn look(
        &self,
        view: &LookupSnapshot,
        key: &[pg_sys::Datum],
        object: &str,
    ) -> SqlResult<CurrentRow> {
        // SAFETY: the slot is a virtual one for rows of the relation, and its key columns are set.
        unsafe {
            for (place, value) in self.bound.key_places().into_iter().zip(key) {
                *(*self.slot).tts_values.add(place) = *value;
                *(*self.slot).tts_isnull.add(place) = false;
            }
            let found = self.bound.look_up(self.relation, self.slot, view.snapshot(), |live| {
                if view.is_in_change() {
                    return Ok(CurrentRow::InChange);
                }
                self.current_row(live, object)
            })?;
            Ok(found.unwrap_or(CurrentRow::Absent))
        }
    }

    /// Reads all rows, and removes those objects from `objects` that have a row which belongs into the index or which
    /// somebody is writing or deleting.
    ///
    /// # Safety
    /// The relation is open.
    pub(super) unsafe fn leave_out_present(
        &self,
        view: &LookupSnapshot,
        objects: &mut HashSet<&str>,
    ) -> SqlResult<()> {
        let mut scratch = PgMemoryContexts::new("audit_algolia scan");
        // SAFETY: scan and slot are released below, or by the abort after an error. The snapshot outlives the scan.
        unsafe {
            let slot = pg_sys::table_slot_create(self.relation, std::ptr::null_mut());
            let scan = pg_sys::table_beginscan(self.relation, view.snapshot(), 0, std::ptr::null_mut());
            while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                pgrx::check_for_interrupts!();
                failpoint::reach("in look");
                let found = scratch.switch_to(|_| self.object_in(slot, view.is_in_change(), objects));
                scratch.reset();
                if let Some(found) = found? {
                    objects.remove(found.as_str());
                }
            }
            pg_sys::table_endscan(scan);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
        Ok(())
    }

    /// The object of a row, if it is in `objects` and present.
    ///
    /// # Safety
    /// The slot holds a row of the relation.
    unsafe fn object_in(
        &self,
        slot: TupleSlot,
        is_in_change: bool,
        objects: &HashSet<&str>,
    ) -> SqlResult<Option<String>> {
        let mut object = record_buffer();
        // SAFETY: the caller guarantees this.
        let is_object =
            unsafe { RecordMaker::current().write_deletion(&self.bound, self.bound.row(slot), &mut object)? };
        if !is_object {
            return Ok(None);
        }
        let object = identity(&storable(&object)?).into_owned();
        // SAFETY: the caller guarantees this.
        let is_there =
            objects.contains(object.as_str()) && (is_in_change || unsafe { self.bound.judge(slot).0 });
        Ok(is_there.then_some(object))
    }

    /// A row that was found, if it belongs into the index as this object.
    ///
    /// # Safety
    /// The slot holds a row of the relation.
    unsafe fn current_row(&self, slot: TupleSlot, object: &str) -> SqlResult<CurrentRow> {
        let mut record = record_buffer();
        // SAFETY: the caller guarantees this.
        unsafe {
            let (accepts, alerts) = self.bound.judge(slot);
            if !accepts {
                return Ok(CurrentRow::Absent);
            }
            RecordMaker::current().write_record(&self.bound, self.bound.row(slot), &mut record)?;
            if alerts {
                self.bound.add_alert(&mut record)?;
            }
        }
        // Keys can be equal without being the same text. They make different objects then.
        let is_same = identity(&storable(&record)?) == object;
        Ok(if is_same { CurrentRow::Present(record) } else { CurrentRow::Absent })
    }
}

/// Reads a value of a type from its output text; `None` if the text is not valid. An index may contain ids that no row
/// ever had. If the server lacks a resource or is stopping, that says nothing about the text and is an error.
fn input(text: &str, oid: pg_sys::Oid) -> SqlResult<Option<pg_sys::Datum>> {
    let Ok(text) = CString::new(text) else { return Ok(None) };
    let value = guarded(|| {
        // SAFETY: the type is that of a column. The text is a C string and is converted to the database's encoding. The
        // value lives in the caller's memory context.
        unsafe {
            let length = text.as_bytes().len() as i32;
            let local = pg_sys::pg_any_to_server(text.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32);
            Ok(value_of_text(oid, local))
        }
    });
    match value? {
        Err(error) if error.is_transient() => Err(error),
        value => Ok(value.ok()),
    }
}
