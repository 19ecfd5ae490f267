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

/// How the row of an object can be found.
pub(in crate::pg) enum RowKey {
    /// By its key, which has these output texts.
    Known(Vec<String>),
    /// Only by reading all rows: the id contains a pseudonym, or a text that the type may not read back.
    Hidden,
    /// Not at all: no row has such an id.
    Impossible,
}

/// The open tables that contain the rows of a source.
pub(in crate::pg) struct OpenTables {
    rules: Rc<SourceRules>,
    source_tables: SourceTables,
    finders: Vec<RowFinder>,
    /// The context in which they were opened, which outlives them. Tables that are opened later belong there, too.
    context: pg_sys::MemoryContext,
}

/// The result of correcting objects.
pub(in crate::pg) struct Corrected {
    /// How many versions were queued.
    pub(in crate::pg) queued: i64,
    /// Nothing was deleted, because somebody may be attaching a partition.
    pub(in crate::pg) is_unsettled: bool,
}

/// A version that corrects an object, which is held meanwhile.
struct Correction<'a> {
    version: i64,
    key: &'a RowKey,
    id: &'a str,
    object: String,
}

impl OpenTables {
    /// Opens the watched table, or all its partitions that have rows.
    pub(in crate::pg) fn open(rules: Rc<SourceRules>, is_partitioned: bool) -> SqlResult<OpenTables> {
        let source_tables = SourceTables { table: rules.relation, is_partitioned };
        // SAFETY: there is a current context whenever PostgreSQL calls.
        let context = unsafe { pg_sys::CurrentMemoryContext };
        let mut tables = OpenTables { rules, source_tables, finders: Vec::new(), context };
        tables.follow()?;
        Ok(tables)
    }

    /// Opens partitions that have been added since. Locks are kept until the transaction ends, so that no table is
    /// dropped.
    fn follow(&mut self) -> SqlResult<()> {
        let known: HashSet<u32> = self.finders.iter().map(|finder| finder.oid().to_u32()).collect();
        for oid in self.source_tables.leaves()? {
            if known.contains(&oid.to_u32()) {
                continue;
            }
            // SAFETY: an opened relation is locked first and stays locked. A dropped one has no rows. The current
            // context may be short-lived, such as that of a page of rows.
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

    /// For each object, whether it has no row that belongs into the index, nor one that somebody is writing or
    /// deleting. An object is given by its identity in the queue.
    pub(in crate::pg) fn without_row(&mut self, objects: &[(&RowKey, &str)]) -> SqlResult<Vec<bool>> {
        self.follow()?;
        self.are_absent(objects)
    }

    /// The same for the tables that are open.
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

    /// Marks those objects as present whose rows the snapshot shows.
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

    /// Looks up the row of an object: the row with this key whose record has this identity.
    fn look_up(&self, view: &LookupSnapshot, key: &[String], object: &str) -> SqlResult<CurrentRow> {
        let Some(first) = self.finders.first() else { return Ok(CurrentRow::Absent) };
        // Reading a value of a composite or array type may call functions in the constraints of domains.
        let key = match as_role(self.rules.owner, || first.key_values(key))? {
            Ok(key) => key,
            Err(known) => return Ok(known),
        };
        for finder in &self.finders {
            // SAFETY: the table is open. Partitions have the column types of their table.
            match unsafe { finder.look(view, &key, object) }? {
                CurrentRow::Absent => (),
                found => return Ok(found),
            }
        }
        Ok(CurrentRow::Absent)
    }

    /// Whether every id in the index leads back to its row.
    pub(in crate::pg) fn reads_all_keys(&self) -> bool {
        self.finders.first().is_none_or(RowFinder::reads_all_keys)
    }

    /// Queues versions that correct objects, each given by its key and id. Objects whose rows somebody is changing or
    /// delivering are left out. `hold` holds an object until the transaction ends.
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
        // If a partition is attached after this, its rows are queued with higher ids.
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

    /// Looks up an object's row, if its key is known.
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
            // After an error, the end of the transaction closes them.
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

/// The identity of a record's object in the queue.
pub(in crate::pg) fn identity_of(record: &str) -> SqlResult<String> {
    Ok(identity(&storable(record.as_bytes())?).into_owned())
}

/// The identity of an object in the queue, given its objectID.
pub(in crate::pg) fn identity_of_id(id: &str) -> SqlResult<String> {
    identity_of(&deletion(id))
}
