//! What a mirrored table holds under a key at this moment, for those who are told of no change: whether an object of the
//! index has a row, and the version that puts an object right.
//!
//! No row is locked, so that no writer waits. The object is held instead, until the transaction ends: a version of a later
//! change is not delivered before ours can be seen, and then goes instead of it. A version's id is taken **first**, and
//! then the row is looked for past all snapshots. If nobody is changing it, the version is true: who changes it later
//! takes a higher id, since capture takes it behind the change. If somebody is, that change tells of the row itself, and
//! nothing is queued.

mod leaf;

use std::collections::HashSet;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

use super::queue::{storable, Action, Writer};
use crate::pg::report::Outcome;
use crate::pg::rules::SourceRules;
use crate::record::identity;
use leaf::{Leaf, Look};

/// How the row of an object is found.
pub(in crate::pg) enum Key {
    /// By these texts of its key's columns.
    Known(Vec<String>),
    /// The id holds a pseudonym, which leads back to nothing: all rows have to be looked at.
    Hidden,
    /// No row makes such an id.
    Impossible,
}

/// The tables in which the rows of a source are, opened.
pub(in crate::pg) struct Present {
    leaves: Vec<Leaf>,
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
            leaf.close();
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
