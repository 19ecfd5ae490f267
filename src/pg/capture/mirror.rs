//! Mirror mode: what a change of a row means for the index.
//!
//! The ids of an object's versions give their order, and the highest wins. So a queued version must be true when its id
//! is taken. Triggers do not always see changes in their order: by the time a statement's triggers fire, a trigger or
//! function of the user's may have changed the rows again, and that change was reported first. So a trigger believes
//! the row it is given only if the table still holds it; otherwise it looks the row up by its key.

use pgrx::pg_sys;

use super::key_index::is_current;
use super::queue::{record_buffer, QueueAction};
use super::scratch::{has_grown, Scratch};
use super::slot::TupleSlot;
use super::statement::StatementCapture;
use super::trigger_rows::{TableScan, TriggerRow, STRETCH};
use crate::pg::report::SqlResult;
use crate::record::Buffer;

impl StatementCapture<'_> {
    /// Queues what a change of one row means for the index.
    ///
    /// # Safety
    /// The slots are those of a row-level trigger on `relation`, which has the columns that the source is
    /// bound to.
    pub(super) unsafe fn mirror(&mut self, relation: pg_sys::Relation, row: TriggerRow) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let (was, is) = (self.belongs(row.old), self.belongs(row.new));
            if !was && !is {
                return Ok(());
            }
            let mut old_object = record_buffer();
            let mut new_object = record_buffer();
            if !row.old.is_null() {
                self.object_of(row.old, &mut old_object)?;
            }
            if !row.new.is_null() {
                self.object_of(row.new, &mut new_object)?;
            }
            let stays = *old_object == *new_object;
            let is_same = || !self.differs(row) && self.alerts(row.old) == self.alerts(row.new);
            if was && is && stays && !self.source.reports_all && is_same() {
                return Ok(());
            }
            if was && !stays {
                self.queue_current_row(relation, row.old, &mut old_object)?;
            }
            if row.new.is_null() {
                return Ok(());
            }
            if !is_current(relation, row.new) {
                self.queue_current_row(relation, row.new, &mut new_object)?;
            } else if is {
                self.upsert(row.new)?;
            } else if stays && !new_object.is_empty() {
                self.writer.push_version(QueueAction::DeleteObject, &mut new_object)?;
            }
            Ok(())
        }
    }

    /// Queues the current row with the key of the row in `slot`.
    ///
    /// # Safety
    /// As for `mirror`. `object` is the deletion of the row's object.
    unsafe fn queue_current_row(
        &mut self,
        relation: pg_sys::Relation,
        slot: TupleSlot,
        object: &mut Buffer,
    ) -> SqlResult<()> {
        // SAFETY: the caller guarantees this. The row that is found lives in its own slot.
        unsafe {
            // If the key makes no objectID, there is no object.
            if object.is_empty() {
                return Ok(());
            }
            let source = self.source;
            // This snapshot, a constant of the server, shows rows as they are now.
            let snapshot = &raw mut pg_sys::SnapshotSelfData;
            let is_there = source.relation.look_up(relation, slot, snapshot, |live| {
                // Keys can be equal without being the same text. They make different objects then.
                let is_there = self.belongs(live) && {
                    let mut found = record_buffer();
                    self.object_of(live, &mut found)?;
                    *found == **object
                };
                if is_there {
                    self.upsert(live)?;
                }
                Ok(is_there)
            })?;
            if is_there != Some(true) {
                self.writer.push_version(QueueAction::DeleteObject, object)?;
            }
            Ok(())
        }
    }

    /// # Safety
    /// The slot holds a row of the relation that the source is bound to.
    unsafe fn upsert(&mut self, slot: TupleSlot) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe { self.row_record(slot)? };
        self.writer.push_version(QueueAction::AddObject, &mut self.record)?;
        Ok(())
    }

    /// Appends the deletion of a row's object to `out`, if there is such an object.
    ///
    /// # Safety
    /// As for `upsert`.
    unsafe fn object_of(&self, slot: TupleSlot, out: &mut Buffer) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let bound = &self.source.relation;
            self.maker.write_deletion(bound, bound.row(slot), out).map(drop)
        }
    }

    /// Whether an attribute of the record differs between the versions of a row.
    ///
    /// # Safety
    /// Both slots hold rows of the relation that the source is bound to.
    unsafe fn differs(&self, row: TriggerRow) -> bool {
        let bound = &self.source.relation;
        // SAFETY: the caller guarantees this.
        unsafe { bound.differs(bound.row(row.old), bound.row(row.new)) }
    }

    /// Queues the deletion of all rows, before TRUNCATE empties the table, which is locked exclusively. Each partition
    /// of a partitioned table has its own trigger.
    ///
    /// # Safety
    /// `relation` is the table that is about to be emptied.
    pub(super) unsafe fn delete_all_objects(&mut self, relation: pg_sys::Relation) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let Some(rows) = TableScan::open(relation) else { return Ok(()) };
            let mut scratch = Scratch::new();
            self.writer.expect_many();
            let mut more = true;
            while more {
                more = scratch.within(|| self.empty_stretch(&rows))?;
                rows.clear_slot();
                scratch.give_back();
                self.writer.flush()?;
            }
            rows.close();
        }
        Ok(())
    }

    /// # Safety
    /// The scan reads the table that is about to be emptied.
    unsafe fn empty_stretch(&mut self, rows: &TableScan) -> SqlResult<bool> {
        let mut more = true;
        for _ in 0..STRETCH {
            let Some(slot) = rows.next() else {
                more = false;
                break;
            };
            let row = TriggerRow { old: slot, new: std::ptr::null_mut() };
            // SAFETY: the caller guarantees this.
            let is_due = unsafe {
                self.attempt_row(row, |statement| {
                    if !statement.belongs(slot) {
                        return Ok(false);
                    }
                    let mut object = record_buffer();
                    statement.object_of(slot, &mut object)?;
                    if object.is_empty() {
                        return Ok(false);
                    }
                    statement.writer.push_version(QueueAction::DeleteObject, &mut object)
                })?
            };
            if is_due || has_grown() {
                break;
            }
        }
        Ok(more)
    }
}
