//! Looks up the current row for a key, for callers that no trigger informed: whether an object of the index has a row,
//! and which version corrects an object.
//!
//! No row is locked, so no writer waits. Instead the object is held until the transaction ends. A later change of the
//! object is delivered only after our version is visible, and supersedes it. The session takes the version's id
//! **first** and then looks for the row past all snapshots. If nobody is changing the row, our version is true: a later
//! change takes a higher id, because capture takes ids after the change. If somebody is changing the row, we queue
//! nothing. Most such changes queue a version themselves; a change that does not touch what the index holds queues
//! none, and the next comparison finds the object again.
//!
//! Such a look can miss a row that moves meanwhile, from a place that the look has not reached to one that it has
//! passed. So an **absent** row is believed only after a second look, under a snapshot taken then. A version with a
//! lower id than ours was written before the first look began. If it is committed by now, the snapshot shows the row,
//! wherever it is. If it is not, the first look has met it where it was written, since nobody else can have moved it. A
//! row that only the snapshot shows is left alone, like one that is being changed.
//!
//! Partitions come and go, so the partitions are looked up after the id is taken, too: rows of a partition that is
//! attached later take higher ids. A partition that is just being attached cannot be seen, and its rows' versions may
//! have lower ids. So while somebody may be attaching one, no object is deleted.

mod lookup_snapshot;
mod row_finder;
mod source_tables;

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::queue::{record_buffer, storable, QueueAction, QueueWriter};
use crate::pg::failpoint;
use crate::pg::owner::as_role;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;
use crate::record::identity;
use lookup_snapshot::LookupSnapshot;
use row_finder::{CurrentRow, RowFinder};
use source_tables::SourceTables;

/// How the row of an object is found.
pub(in crate::pg) enum RowKey {
    /// By these texts of its key's columns.
    Known(Vec<String>),
    /// The id does not lead back to its row, so that all rows have to be looked at: it holds a pseudonym, or what may not be
    /// read as it was written.
    Hidden,
    /// No row makes such an id.
    Impossible,
}

/// The tables in which the rows of a source are, open.
pub(in crate::pg) struct OpenTables {
    rules: Rc<SourceRules>,
    source_tables: SourceTables,
    finders: Vec<RowFinder>,
    /// Where they were opened, which outlives them: tables that come later belong there, too.
    context: pg_sys::MemoryContext,
}

/// What has been done to put objects right.
pub(in crate::pg) struct Corrected {
    /// So many versions have been queued.
    pub(in crate::pg) queued: i64,
    /// Nothing was deleted, because somebody may be about to attach a partition.
    pub(in crate::pg) is_unsettled: bool,
}

/// A version that is to put an object right, which is held meanwhile.
struct Correction<'a> {
    version: i64,
    key: &'a RowKey,
    id: &'a str,
    object: String,
}

impl OpenTables {
    /// Opens the watched table, or all of its partitions that have rows.
    pub(in crate::pg) fn open(rules: Rc<SourceRules>, is_partitioned: bool) -> SqlResult<OpenTables> {
        let source_tables = SourceTables { table: rules.relation, is_partitioned };
        // SAFETY: there is a current context whenever PostgreSQL calls.
        let context = unsafe { pg_sys::CurrentMemoryContext };
        let mut tables = OpenTables { rules, source_tables, finders: Vec::new(), context };
        tables.follow()?;
        Ok(tables)
    }

    /// Opens what has come to hold rows since. Locks are kept until the transaction ends, so that nothing goes.
    fn follow(&mut self) -> SqlResult<()> {
        let known: HashSet<u32> = self.finders.iter().map(|finder| finder.oid().to_u32()).collect();
        for oid in self.source_tables.leaves()? {
            if known.contains(&oid.to_u32()) {
                continue;
            }
            // SAFETY: a relation that is opened is locked first, and stays so; one that is gone has no rows. The current
            // context may be one that is gone sooner than we are: that of a page of rows.
            unsafe {
                let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
                if !relation.is_null() {
                    let current = pg_sys::MemoryContextSwitchTo(self.context);
                    let finder = RowFinder::of(&self.rules, relation);
                    pg_sys::MemoryContextSwitchTo(current);
                    self.finders.push(finder?);
                }
            }
        }
        Ok(())
    }

    /// Of each object whether it has no row now that belongs into the index, nor one that somebody is about to write or
    /// remove. An object is told by what the queue knows it by.
    pub(in crate::pg) fn without_row(&mut self, objects: &[(&RowKey, &str)]) -> SqlResult<Vec<bool>> {
        self.follow()?;
        self.are_absent(objects)
    }

    /// The same of the tables that are open.
    fn are_absent(&self, objects: &[(&RowKey, &str)]) -> SqlResult<Vec<bool>> {
        let mut absent = vec![true; objects.len()];
        let view = LookupSnapshot::dirty();
        self.leave_out_present(&view, objects, &mut absent)?;
        view.close();
        failpoint::reach("between looks");
        if absent.contains(&true) {
            let view = LookupSnapshot::latest();
            self.leave_out_present(&view, objects, &mut absent)?;
            view.close();
        }
        Ok(absent)
    }

    /// Of objects that have been absent so far, those are so no more whose rows a view shows.
    fn leave_out_present(
        &self,
        view: &LookupSnapshot,
        objects: &[(&RowKey, &str)],
        absent: &mut [bool],
    ) -> SqlResult<()> {
        let all = || objects.iter().zip(absent.iter());
        let hidden = all().filter(|((key, _), absent)| **absent && matches!(key, RowKey::Hidden));
        let mut hidden: HashSet<&str> = hidden.map(|((_, object), _)| *object).collect();
        if !hidden.is_empty() {
            for finder in &self.finders {
                // SAFETY: the table is open.
                unsafe { finder.leave_out_present(view, &mut hidden) }?;
            }
        }
        let mut scratch = PgMemoryContexts::new("audit_algolia look");
        for ((key, object), absent) in objects.iter().zip(absent).filter(|(_, absent)| **absent) {
            *absent = match key {
                RowKey::Impossible => true,
                RowKey::Hidden => hidden.contains(object),
                RowKey::Known(key) => {
                    pgrx::check_for_interrupts!();
                    // SAFETY: what is found is a Rust value.
                    unsafe {
                        let found = scratch.switch_to(|_| self.look_up(view, key, object));
                        scratch.reset();
                        matches!(found?, CurrentRow::Absent)
                    }
                }
            };
        }
        Ok(())
    }

    /// Looks for the row of an object: the one whose key has these texts, and whose record the identity is of.
    fn look_up(&self, view: &LookupSnapshot, key: &[String], object: &str) -> SqlResult<CurrentRow> {
        let Some(first) = self.finders.first() else { return Ok(CurrentRow::Absent) };
        // Reading a value that is made of others calls what the constraints of their domains call.
        let key = match as_role(self.rules.owner, || first.key_values(key))? {
            Ok(key) => key,
            Err(known) => return Ok(known),
        };
        for finder in &self.finders {
            // SAFETY: the table is open; partitions have the types of the table they are of.
            match unsafe { finder.look(view, &key, object) }? {
                CurrentRow::Absent => (),
                found => return Ok(found),
            }
        }
        Ok(CurrentRow::Absent)
    }

    /// Whether an id of the index leads back to its row by its key.
    pub(in crate::pg) fn reads_all_keys(&self) -> bool {
        self.finders.first().is_none_or(RowFinder::reads_all_keys)
    }

    /// Queues what puts objects right, each told by its key and its id; what somebody is changing, or is delivering, is
    /// left to them. `hold` has an object wait until the transaction ends.
    pub(in crate::pg) fn correct(
        &mut self,
        writer: &mut QueueWriter,
        objects: &[(&RowKey, &str)],
        hold: impl Fn(&str) -> bool,
    ) -> SqlResult<Corrected> {
        if objects.is_empty() {
            return Ok(Corrected { queued: 0, is_unsettled: false });
        }
        failpoint::reach("before a correction");
        let mut held = Vec::new();
        for (key, id) in objects {
            let object = identity_of_id(id)?;
            if hold(&object) {
                held.push(Correction { version: writer.reserve_version(), key, id, object });
            }
        }
        // A row of a partition that is attached after this is told of under a higher id.
        let is_settled = self.source_tables.is_settled()?;
        self.follow()?;
        let (view, mut queued, mut absent) = (LookupSnapshot::dirty(), 0, Vec::new());
        let mut scratch = PgMemoryContexts::new("audit_algolia correction");
        for one in &held {
            pgrx::check_for_interrupts!();
            // SAFETY: what is found is a Rust value.
            let look = unsafe {
                let look = scratch.switch_to(|_| self.find_row(&view, one));
                scratch.reset();
                look?
            };
            match look {
                CurrentRow::Present(mut record) => {
                    writer.push_version_as(one.version, QueueAction::AddObject, &mut record)?;
                    writer.flush()?;
                    queued += 1;
                }
                CurrentRow::InChange => (),
                CurrentRow::Absent => absent.push(one),
            }
        }
        view.close();
        let is_unsettled = !is_settled && !absent.is_empty();
        if is_unsettled {
            return Ok(Corrected { queued, is_unsettled });
        }
        let objects: Vec<(&RowKey, &str)> = absent.iter().map(|one| (one.key, one.object.as_str())).collect();
        for (one, is_absent) in absent.into_iter().zip(self.are_absent(&objects)?) {
            if is_absent {
                let mut record = record_buffer();
                record.extend_from_slice(deletion(one.id).as_bytes());
                writer.push_version_as(one.version, QueueAction::DeleteObject, &mut record)?;
                writer.flush()?;
                queued += 1;
            }
        }
        Ok(Corrected { queued, is_unsettled })
    }

    /// An object's row, if it is found by its key.
    fn find_row(&self, view: &LookupSnapshot, one: &Correction) -> SqlResult<CurrentRow> {
        match one.key {
            RowKey::Known(key) => self.look_up(view, key, &one.object),
            _ => Ok(CurrentRow::Absent),
        }
    }
}

impl Drop for OpenTables {
    fn drop(&mut self) {
        for finder in &self.finders {
            // After an error the transaction's end gives back what is open.
            if std::thread::panicking() {
                continue;
            }
            finder.close();
        }
    }
}

/// The record that deletes an object.
fn deletion(id: &str) -> String {
    format!("{{\"objectID\":{}}}", serde_json::Value::from(id))
}

/// By what the queue tells the object of a record from others.
pub(in crate::pg) fn identity_of(record: &str) -> SqlResult<String> {
    Ok(identity(&storable(record.as_bytes())?).into_owned())
}

/// By what the queue tells an object from others, by its id.
pub(in crate::pg) fn identity_of_id(id: &str) -> SqlResult<String> {
    identity_of(&deletion(id))
}
