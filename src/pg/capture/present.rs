//! What a mirrored table holds under a key at this moment, for those who are told of no change: whether an object of the
//! index has a row, and the version that puts an object right.
//!
//! No row is locked, so that no writer waits. The object is held instead, until the transaction ends: a version of a later
//! change is not delivered before ours can be seen, and then goes instead of it. A version's id is taken **first**, and
//! then the row is looked for past all snapshots. If nobody is changing it, the version is true: who changes it later
//! takes a higher id, since capture takes it behind the change. If somebody is, that change tells of the row itself, and
//! nothing is queued.

use std::collections::HashSet;
use std::ffi::CString;
use std::panic::AssertUnwindSafe;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::column::columns;
use super::key::KeyIndex;
use super::queue::{storable, Action, Writer};
use super::rows::{read, value_in, Slot};
use super::Bound;
use crate::pg::filter::Filter;
use crate::pg::report::Outcome;
use crate::pg::rules::{pseudonymizer, ServerCalendar, SourceRules};
use crate::record::identity;

/// How the row of an object is found.
pub(in crate::pg) enum Key {
    /// By these texts of its key's columns.
    Known(Vec<String>),
    /// The id holds a pseudonym, which leads back to nothing: all rows have to be looked at.
    Hidden,
    /// No row makes such an id.
    Impossible,
}

/// What is in the table under a key.
enum Look {
    /// No row, or one that the filter keeps out.
    Nothing,
    /// Somebody is changing it.
    InChange,
    /// A row that belongs into the index; its record.
    Row(Vec<u8>),
}

/// The tables in which the rows of a source are, opened.
pub(in crate::pg) struct Present {
    leaves: Vec<Leaf>,
}

/// A table, or a partition of one.
struct Leaf {
    relation: pg_sys::Relation,
    bound: Bound,
    key: KeyIndex,
    filter: Option<Filter>,
    /// For keys.
    slot: Slot,
}

impl Present {
    /// Opens `relations`: the watched table, or all of its partitions that have rows. Their locks are kept until the
    /// transaction ends.
    pub(in crate::pg) fn open(rules: &SourceRules, relations: &[pg_sys::Oid]) -> Outcome<Present> {
        let mut leaves = Vec::new();
        for oid in relations {
            // SAFETY: a relation that is opened is locked first, and stays so; one that is gone has no rows.
            unsafe {
                let relation = pg_sys::try_relation_open(*oid, pg_sys::AccessShareLock as i32);
                if !relation.is_null() {
                    leaves.push(Leaf::of(rules, relation)?);
                }
            }
        }
        Ok(Present { leaves })
    }

    /// Of each object whether it has no row now that belongs into the index, nor one that somebody is about to write or
    /// remove. An object is told by what the queue knows it by.
    pub(in crate::pg) fn without_row(&self, objects: &[(&Key, &str)]) -> Outcome<Vec<bool>> {
        let hidden = objects.iter().filter(|(key, _)| matches!(key, Key::Hidden));
        let mut hidden: HashSet<&str> = hidden.map(|(_, object)| *object).collect();
        if !hidden.is_empty() {
            for leaf in &self.leaves {
                // SAFETY: the leaf is open.
                unsafe { leaf.leave_out_present(&mut hidden) }?;
            }
        }
        let mut scratch = PgMemoryContexts::new("audit_algolia look");
        let without = objects.iter().map(|(key, object)| match key {
            Key::Impossible => Ok(true),
            Key::Hidden => Ok(hidden.contains(object)),
            Key::Known(key) => {
                pgrx::check_for_interrupts!();
                // SAFETY: what is found is a Rust value.
                unsafe {
                    let look = scratch.switch_to(|_| self.look(key, object));
                    scratch.reset();
                    Ok(matches!(look?, Look::Nothing))
                }
            }
        });
        without.collect()
    }

    /// Looks for the row of an object: the one whose key has these texts, and whose record the identity is of.
    fn look(&self, key: &[String], object: &str) -> Outcome<Look> {
        for leaf in &self.leaves {
            // SAFETY: the leaf is open.
            match unsafe { leaf.look(key, object) }? {
                Look::Nothing => (),
                found => return Ok(found),
            }
        }
        Ok(Look::Nothing)
    }

    /// Queues what puts objects right, each told by its key and its id; returns how many it has queued rather than left
    /// to whoever is changing the row, or is delivering it. `hold` has an object wait until the transaction ends.
    pub(in crate::pg) fn mend(
        &self,
        writer: &mut Writer,
        objects: &[(&Key, &str)],
        hold: impl Fn(&str) -> bool,
    ) -> Outcome<i64> {
        let mut mended = 0;
        let mut hidden = Vec::new();
        let mut scratch = PgMemoryContexts::new("audit_algolia mend");
        for (key, id) in objects {
            pgrx::check_for_interrupts!();
            if !hold(&identity_of_id(id)) {
                continue;
            }
            let version = writer.reserve_version();
            match key {
                Key::Hidden => hidden.push((version, *id)),
                // SAFETY: what was allocated for a version has been written when the next one begins.
                _ => unsafe {
                    let is_mended = scratch.switch_to(|_| self.mend_one(writer, version, key, id));
                    scratch.reset();
                    mended += i64::from(is_mended?);
                },
            }
        }
        let identities: Vec<String> = hidden.iter().map(|(_, id)| identity_of_id(id)).collect();
        let objects: Vec<(&Key, &str)> =
            identities.iter().map(|object| (&Key::Hidden, object.as_str())).collect();
        for ((version, id), is_gone) in hidden.into_iter().zip(self.without_row(&objects)?) {
            if is_gone {
                // SAFETY: as above.
                unsafe {
                    let queued = scratch.switch_to(|_| self.mend_one(writer, version, &Key::Impossible, id));
                    scratch.reset();
                    mended += i64::from(queued?);
                }
            }
        }
        Ok(mended)
    }

    fn mend_one(&self, writer: &mut Writer, version: i64, key: &Key, id: &str) -> Outcome<bool> {
        let deletion = deletion(id);
        let look = match key {
            Key::Known(key) => self.look(key, &identity_of(&deletion))?,
            Key::Hidden | Key::Impossible => Look::Nothing,
        };
        match look {
            Look::InChange => return Ok(false),
            Look::Nothing => writer.push_version_as(version, Action::DeleteObject, deletion.as_bytes()),
            Look::Row(record) => writer.push_version_as(version, Action::AddObject, &record),
        };
        writer.flush()?;
        Ok(true)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        for leaf in &self.leaves {
            // After an error the transaction's end gives back what is open.
            if std::thread::panicking() {
                continue;
            }
            // SAFETY: opened by `Leaf::of`; the lock stays.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(leaf.slot);
                pg_sys::relation_close(leaf.relation, pg_sys::NoLock as i32);
            }
        }
    }
}

/// The record that deletes an object.
fn deletion(id: &str) -> String {
    format!("{{\"objectID\":{}}}", serde_json::Value::from(id))
}

/// By what the queue tells the object of a record from others.
pub(in crate::pg) fn identity_of(record: &str) -> String {
    identity(&storable(record.as_bytes())).into_owned()
}

/// By what the queue tells an object from others, by its id.
pub(in crate::pg) fn identity_of_id(id: &str) -> String {
    identity_of(&deletion(id))
}

impl Leaf {
    /// # Safety
    /// `relation` is open and locked.
    unsafe fn of(rules: &SourceRules, relation: pg_sys::Relation) -> Outcome<Leaf> {
        // SAFETY: handed on to the caller.
        unsafe {
            let name = std::ffi::CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr());
            let bound = Bound::new(rules, &columns((*relation).rd_att), &name.to_string_lossy())?;
            let key = KeyIndex::find(relation, &bound.key_places())?;
            let filter = match &rules.filter {
                None => None,
                Some(text) => Some(Filter::compile(text, relation, rules.owner, Some)?),
            };
            let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsVirtual);
            Ok(Leaf { relation, bound, key, filter, slot })
        }
    }

    /// # Safety
    /// The relation is open. What is allocated lives in the current memory context.
    unsafe fn look(&self, key: &[String], object: &str) -> Outcome<Look> {
        // SAFETY: the slot is a virtual one for rows of the relation, and is filled as far as the key needs it.
        unsafe {
            for (place, text) in self.bound.key_places().into_iter().zip(key) {
                let attribute = super::attribute((*self.relation).rd_att, place);
                let Some(value) = input(text, (*attribute).atttypid) else {
                    return Ok(Look::Nothing);
                };
                *(*self.slot).tts_values.add(place) = value;
                *(*self.slot).tts_isnull.add(place) = false;
            }
            let mut dirty = dirty();
            let Some(live) = self.key.find_row(self.relation, self.slot, &mut dirty) else {
                return Ok(Look::Nothing);
            };
            let look = if is_in_change(&dirty) { Ok(Look::InChange) } else { self.record_of(live, object) };
            pg_sys::ExecDropSingleTupleTableSlot(live);
            look
        }
    }

    /// Goes through all rows, and takes those of `objects` out that have one which belongs into the index, or that
    /// somebody is writing or removing.
    ///
    /// # Safety
    /// The relation is open.
    unsafe fn leave_out_present(&self, objects: &mut HashSet<&str>) -> Outcome<()> {
        let mut scratch = PgMemoryContexts::new("audit_algolia scan");
        // SAFETY: scan and slot are given back below, or by the abort after an error; the snapshot outlives the scan.
        unsafe {
            let mut dirty = dirty();
            let slot = pg_sys::table_slot_create(self.relation, std::ptr::null_mut());
            let scan = pg_sys::table_beginscan(self.relation, &mut dirty, 0, std::ptr::null_mut());
            while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                pgrx::check_for_interrupts!();
                let is_in_change = is_in_change(&dirty);
                let found = scratch.switch_to(|_| self.object_in(slot, is_in_change, objects));
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

    /// The object of a row, if it is one of `objects` and there.
    ///
    /// # Safety
    /// The slot holds a row of the relation.
    unsafe fn object_in(
        &self,
        slot: Slot,
        is_in_change: bool,
        objects: &HashSet<&str>,
    ) -> Outcome<Option<String>> {
        let pseudonymizer = pseudonymizer();
        let mut object = Vec::new();
        // SAFETY: handed on to the caller; as many values have been read as the rules need.
        unsafe {
            read(slot, self.bound.width);
            let value = |place| value_in(slot, place);
            self.bound.write_object(value, pseudonymizer.as_deref(), &mut object)?;
        }
        let object = identity(&storable(&object)).into_owned();
        // SAFETY: handed on to the caller.
        let is_there = objects.contains(object.as_str()) && (is_in_change || unsafe { self.belongs(slot) });
        Ok(is_there.then_some(object))
    }

    /// Whether the filter lets a row through.
    ///
    /// # Safety
    /// The slot holds a row of the relation.
    unsafe fn belongs(&self, slot: Slot) -> bool {
        let Some(evaluation) = self.filter.as_ref().map(Filter::prepare) else {
            return true;
        };
        // SAFETY: handed on to the caller.
        let belongs = unsafe { evaluation.accepts(slot) };
        evaluation.close();
        belongs
    }

    /// # Safety
    /// The slot holds a row of the relation.
    unsafe fn record_of(&self, slot: Slot, object: &str) -> Outcome<Look> {
        // SAFETY: handed on to the caller.
        if unsafe { !self.belongs(slot) } {
            return Ok(Look::Nothing);
        }
        let pseudonymizer = pseudonymizer();
        let (mut record, mut calendar) = (Vec::new(), ServerCalendar::current());
        // SAFETY: handed on to the caller; as many values have been read as the rules need.
        unsafe {
            read(slot, self.bound.width);
            let value = |place| value_in(slot, place);
            self.bound.write(value, pseudonymizer.as_deref(), &mut calendar, &mut record)?;
        }
        // Keys can be equal without being the same text, and then make different objects.
        let is_same = identity(&storable(&record)) == object;
        Ok(if is_same { Look::Row(record) } else { Look::Nothing })
    }
}

/// A snapshot that shows what has not been committed, too, and tells so of the row it was asked about last. It consists of
/// nothing but its kind.
fn dirty() -> pg_sys::SnapshotData {
    pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..Default::default() }
}

/// Whether another transaction was writing or removing the row that the snapshot was asked about last.
fn is_in_change(dirty: &pg_sys::SnapshotData) -> bool {
    [dirty.xmin, dirty.xmax].iter().any(|writer| *writer != pg_sys::InvalidTransactionId)
}

/// A value of a type from its output text; nothing when it is none. An index may hold ids that no row has ever made.
fn input(text: &str, oid: pg_sys::Oid) -> Option<pg_sys::Datum> {
    let text = CString::new(text).ok()?;
    // SAFETY: the pattern of the server's own procedural languages: what fails inside the subtransaction is undone with
    // it, and context and resource owner are those from before. The value lives in the context from before.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let value = PgTryBuilder::new(AssertUnwindSafe(|| {
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(oid, &mut function, &mut parameter);
            let length = text.as_bytes().len() as i32;
            let local = pg_sys::pg_any_to_server(text.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32);
            Some(pg_sys::OidInputFunctionCall(function, local, parameter, -1))
        }))
        .catch_others(|error| match error {
            pg_sys::panic::CaughtError::PostgresError(ref report)
                if report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED =>
            {
                error.rethrow()
            }
            pg_sys::panic::CaughtError::PostgresError(_) => None,
            other => other.rethrow(),
        })
        .execute();
        if value.is_some() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        value
    }
}
