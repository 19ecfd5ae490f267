//! Makes the records of skipped changes, from what the table holds under their keys now.
//!
//! The process that makes repairs calls this with the rights of the table's owner, as for [`super::history`]. A version
//! of a mirrored row gets the number that the change took: it is newer than all versions from before the change, and
//! older than those of later changes, however late it is queued.

use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys;

use super::bound_relation::BoundRelation;
use super::column::value_of_text;
use super::queue::{record_buffer, storable, QueueAction, QueueWriter};
use super::record_maker::RecordMaker;
use super::row_fetcher::{RowFetcher, RowLock};
use super::skipped_change::{RepairOutcome, SkippedChange};
use crate::pg::alerts;
use crate::pg::descriptor::TableColumn;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;
use crate::pg::subtransaction::guarded;
use crate::pg::text_datum::TextBytes;
use crate::record::{Buffer, Change, Operation, RecordError};

/// Writes the records of repairs of one source.
pub(in crate::pg) struct RepairWriter {
    rules: SourceRules,
    source: i32,
    writer: QueueWriter,
    maker: RecordMaker,
    /// The columns of the watched table, and the rules bound to them, for rows that are gone.
    columns: Vec<TableColumn>,
    bound: Rc<BoundRelation>,
    record: Buffer,
}

impl RepairWriter {
    /// `columns` are those of the watched table; `bound` are the rules bound to them.
    pub(in crate::pg) fn open(
        source: i32,
        rules: SourceRules,
        columns: Vec<TableColumn>,
        bound: BoundRelation,
    ) -> SqlResult<RepairWriter> {
        Ok(RepairWriter {
            writer: QueueWriter::open_for_many(rules.index_id, source)?,
            bound: Rc::new(bound),
            rules,
            source,
            maker: RecordMaker::current(),
            columns,
            record: record_buffer(),
        })
    }

    /// Whether a change's row must be looked up, and can be. A deletion needs no look-up: if the row exists again, that
    /// is another change.
    pub(in crate::pg) fn looks_for(&self, change: &SkippedChange) -> bool {
        let is_there = |name: &String| self.columns.iter().any(|column| column.name == *name);
        (self.is_mirrored() || change.operation != Operation::Delete)
            && change.key_columns.iter().all(is_there)
    }

    /// Whether a change's key is the current key of the source. The table may be watched by other columns now.
    fn names_object(&self, change: &SkippedChange) -> bool {
        let own = &self.rules.object_id;
        own.len() == change.key_columns.len() && own.iter().all(|name| change.key_columns.contains(name))
    }

    fn is_mirrored(&self) -> bool {
        self.bound.is_mirrored
    }

    /// What becomes of a change whose key the columns can no longer hold, because their types have changed; `None` if
    /// they can.
    pub(in crate::pg) fn make_unreadable(&self, change: &SkippedChange) -> SqlResult<Option<RepairOutcome>> {
        match guarded(|| self.key_values(change))? {
            Ok(_) => Ok(None),
            Err(error) if error.is_transient() => Err(error),
            Err(_) if !self.is_asked_for(change) => Ok(Some(RepairOutcome::NotWanted)),
            Err(_) => self.former_object(change).map(Some),
        }
    }

    /// The deletion of a change's object, if its table is mirrored.
    pub(in crate::pg) fn mirrored_object(&self, change: &SkippedChange) -> SqlResult<Option<String>> {
        match self.is_mirrored() && self.names_object(change) {
            true => self.deletion(change),
            false => Ok(None),
        }
    }

    /// Removes everything that waits to be written.
    pub(in crate::pg) fn take_back(&mut self) {
        self.writer.truncate(0);
    }

    /// Queues the row at `place` of a relation, which has the change's key and which the active snapshot has just
    /// shown.
    pub(in crate::pg) fn make(
        &mut self,
        change: &SkippedChange,
        (relation, place): (pg_sys::Oid, pg_sys::ItemPointerData),
    ) -> SqlResult<RepairOutcome> {
        if !self.is_asked_for(change) {
            return Ok(RepairOutcome::NotWanted);
        }
        let fetcher = RowFetcher::open(self.source, relation)?;
        let made = match fetcher.fetch(place) {
            // SAFETY: the slot holds the fetched row.
            true => unsafe { self.make_of(change, &fetcher)? },
            false => RepairOutcome::Busy,
        };
        fetcher.close();
        Ok(made)
    }

    /// # Safety
    /// The fetcher has fetched a row.
    unsafe fn make_of(&mut self, change: &SkippedChange, fetcher: &RowFetcher) -> SqlResult<RepairOutcome> {
        // SAFETY: the caller guarantees this. Rules and filter were bound to the fetcher's relation.
        unsafe {
            if fetcher.bound.is_mirrored {
                return match fetcher.lock() {
                    RowLock::Taken => self.write_version(change, fetcher),
                    RowLock::Changed | RowLock::Busy => Ok(RepairOutcome::Busy),
                };
            }
            if !fetcher.accepts() {
                return Ok(RepairOutcome::NotWanted);
            }
            self.write(change, &fetcher.bound, fetcher.bound.row(fetcher.slot), fetcher.alerts())
        }
    }

    /// Queues the repair of a change whose row is gone.
    pub(in crate::pg) fn make_without(&mut self, change: &SkippedChange) -> SqlResult<RepairOutcome> {
        if !self.is_asked_for(change) {
            return Ok(RepairOutcome::NotWanted);
        }
        if !self.names_object(change) {
            return self.former_object(change);
        }
        if self.is_mirrored() {
            let mut record = record_buffer();
            if !self.write_deletion(change, &mut record)? {
                return Ok(RepairOutcome::NotWanted);
            }
            self.writer.push_version_as(change.number, QueueAction::DeleteObject, &mut record)?;
            return Ok(RepairOutcome::Queued);
        }
        let values = self.key_values(change)?;
        let value = |place: usize| values.iter().find(|(of, _)| *of == place).map(|(_, datum)| *datum);
        let bound = self.bound.clone();
        // It is unknown whether the filter would accept the row, and an insert record contains nothing but the row.
        if self.rules.filter.is_some() || !self.bound.are_changes {
            // SAFETY: the values have the types of the table's columns.
            unsafe { self.render(change, &bound, value)? };
            return Ok(RepairOutcome::KeyOnly(storable(&self.record)?.into_owned()));
        }
        // SAFETY: as above.
        unsafe { self.write(change, &bound, value, false) }
    }

    /// The record that deletes the object of a change's row; `None` if its key makes no objectID.
    fn deletion(&self, change: &SkippedChange) -> SqlResult<Option<String>> {
        let mut record = record_buffer();
        match self.write_deletion(change, &mut record)? {
            true => Ok(Some(storable(&record)?.into_owned())),
            false => Ok(None),
        }
    }

    /// Appends that record to `record`; `false` if there is none.
    fn write_deletion(&self, change: &SkippedChange, record: &mut Buffer) -> SqlResult<bool> {
        let values = self.key_values(change)?;
        let value = |place: usize| values.iter().find(|(of, _)| *of == place).map(|(_, datum)| *datum);
        // SAFETY: the values have the types of the table's columns.
        unsafe { self.maker.write_deletion(&self.bound, value, record) }
    }

    /// A record that deletes the object with the key as it was stored, whatever the columns are now.
    fn former_object(&self, change: &SkippedChange) -> SqlResult<RepairOutcome> {
        let is_hidden = change.key_columns.iter().map(|name| self.rules.pseudonymize.contains(name));
        let key: Vec<(&[u8], bool)> = change.key.0.iter().map(Vec::as_slice).zip(is_hidden).collect();
        let mut record = record_buffer();
        let written = self.maker.write_former_deletion(&self.rules.object_prefix, &key, &mut record);
        match written {
            Ok(()) => Ok(RepairOutcome::OtherKey(storable(&record)?.into_owned())),
            Err(RecordError::EmptyKey) => Ok(RepairOutcome::NotWanted),
            Err(error) => Err(self.bound.explain(error)),
        }
    }

    /// Writes the records that were added.
    pub(in crate::pg) fn flush(&mut self) -> SqlResult<()> {
        self.writer.flush()
    }

    /// Closes the queue.
    pub(in crate::pg) fn close(self) {
        self.writer.close();
    }

    /// Whether the current rules ask for a record of such a change.
    fn is_asked_for(&self, change: &SkippedChange) -> bool {
        self.is_mirrored() || self.rules.operations.contains(&change.operation)
    }

    /// # Safety
    /// The fetcher has fetched and locked a row.
    unsafe fn write_version(
        &mut self,
        change: &SkippedChange,
        fetcher: &RowFetcher,
    ) -> SqlResult<RepairOutcome> {
        let object = self.mirrored_object(change)?;
        let RepairWriter { rules, maker, record, writer, .. } = self;
        record.clear();
        // SAFETY: the caller guarantees this.
        let action = unsafe {
            let (bound, value) = (&fetcher.bound, fetcher.bound.row(fetcher.slot));
            let is_object = maker.write_deletion(bound, value, record)?;
            if !is_object && !fetcher.accepts() {
                return Ok(RepairOutcome::NotWanted);
            }
            match object {
                // Keys can be equal without being the same text. They make different objects then. The lock on the row
                // covers all of them, and the row that was found is queued by its own change.
                Some(object) if object != storable(record)? => {
                    record.clear();
                    record.extend_from_slice(object.as_bytes());
                    QueueAction::DeleteObject
                }
                _ if fetcher.accepts() => {
                    record.clear();
                    maker.write_record(bound, value, record)?;
                    if fetcher.alerts() {
                        add_alert(rules, bound, record)?;
                    }
                    QueueAction::AddObject
                }
                _ => QueueAction::DeleteObject,
            }
        };
        writer.push_version_as(change.number, action, record)?;
        Ok(RepairOutcome::Queued)
    }

    /// # Safety
    /// As for [`BoundRelation::key`].
    unsafe fn write(
        &mut self,
        change: &SkippedChange,
        bound: &BoundRelation,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        alerts: bool,
    ) -> SqlResult<RepairOutcome> {
        // SAFETY: the caller guarantees this.
        unsafe { self.render(change, bound, value)? };
        if alerts {
            add_alert(&self.rules, bound, &mut self.record)?;
        }
        match self.bound.are_changes {
            true => self.writer.push_as(change.number, &mut self.record)?,
            false => self.writer.push(&mut self.record)?,
        };
        Ok(RepairOutcome::Queued)
    }

    /// Makes the record of a change. What an update has changed is no longer known.
    ///
    /// # Safety
    /// As for [`BoundRelation::key`].
    unsafe fn render(
        &mut self,
        change: &SkippedChange,
        bound: &BoundRelation,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> SqlResult<()> {
        let RepairWriter { maker, record, .. } = self;
        record.clear();
        // SAFETY: the caller guarantees this.
        unsafe {
            if !bound.are_changes {
                return maker.write_record(bound, value, record);
            }
            let changed_by = change.changed_by.as_ref().map(|TextBytes(text)| text.as_slice());
            let origin =
                maker.origin_of_skipped(bound, changed_by, change.changed_at, change.transaction_id)?;
            let SkippedChange { operation, number, .. } = *change;
            let change = Change { operation, number, previous: &[], origin: &origin };
            maker.write_change(bound, &change, value, record)
        }
    }

    /// The key's values with the places of their columns.
    fn key_values(&self, change: &SkippedChange) -> SqlResult<Vec<(usize, pg_sys::Datum)>> {
        let mut values = Vec::new();
        for (name, text) in change.key_columns.iter().zip(&change.key.0) {
            let Some(column) = self.columns.iter().find(|column| column.name == *name) else {
                continue;
            };
            let text = CString::new(text.as_slice()).unwrap_or_default();
            // SAFETY: the type is that of a column, and the text was once the output of one of its values.
            let value = unsafe { value_of_text(column.type_oid, text.as_ptr().cast_mut()) };
            values.push((column.place, value));
        }
        Ok(values)
    }
}

/// Adds to a record that it alerts, and has the commit notify listeners, as the change's own commit would have.
fn add_alert(rules: &SourceRules, bound: &BoundRelation, record: &mut Buffer) -> SqlResult<()> {
    bound.add_alert(record)?;
    alerts::note(rules.alert_index.as_deref().unwrap_or_default(), rules.relation, record);
    Ok(())
}
