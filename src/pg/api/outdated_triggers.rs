//! Statement-level triggers that do not see all rows any more, for their tables have become partitions, parents or children:
//! triggers for rows take their places.

use pgrx::pg_sys;

use super::triggers::{create_trigger, enable_trigger};
use crate::pg::hypertables::is_hypertable;
use crate::pg::latest_snapshot::{all_rows, oids};
use crate::pg::locks::try_lock;
use crate::pg::report::SqlResult;
use crate::record::Operation;
use crate::rules::Mode;

/// A statement trigger that misses changes made through the table's parent or children.
pub(super) struct OutdatedTrigger {
    source: i32,
    pub(super) relation: pg_sys::Oid,
    operation: Operation,
    /// As in `pg_trigger.tgenabled`.
    state: String,
}

impl OutdatedTrigger {
    /// The outdated triggers of tables and of their parents.
    pub(super) fn of(tables: &[pg_sys::Oid]) -> SqlResult<Vec<OutdatedTrigger>> {
        OutdatedTrigger::find(tables, false)
    }

    fn find(tables: &[pg_sys::Oid], all: bool) -> SqlResult<Vec<OutdatedTrigger>> {
        let query = include_str!("../../../sql/ddl/find_outdated_triggers.sql");
        let arguments = [oids(tables), (pg_sys::BOOLOID, all.into())];
        let found = all_rows(query, &arguments, |row| {
            Some(OutdatedTrigger {
                source: row.get(1)?,
                relation: row.get(2)?,
                operation: Operation::of(&row.get::<String>(3)?)?,
                state: row.get(4)?,
            })
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Replaces it by a row trigger. The table must be locked. A mirrored table has row triggers only.
    pub(super) fn replace(&self) -> SqlResult<()> {
        create_trigger(None, self.relation, self.source, Mode::Append, self.operation, true)?;
        enable_trigger(self.relation, self.source, self.operation, &self.state)
    }
}

/// Replaces the outdated triggers of all tables that nobody is writing to, with the rights of the extension's owner.
/// Returns `false` if some are left. Waits for no lock, and holds those it takes until the transaction ends.
pub(in crate::pg) fn replace_outdated_triggers() -> SqlResult<bool> {
    let mut are_all = true;
    for OutdatedTrigger { relation, .. } in OutdatedTrigger::find(&[], true)? {
        // The trigger function raises an error that says what to do.
        if is_hypertable(relation)? {
            continue;
        }
        if !try_lock(relation, pg_sys::ShareRowExclusiveLock) {
            are_all = false;
            continue;
        }
        // Another transaction may have replaced it before the table was locked.
        let left = OutdatedTrigger::of(&[relation])?;
        for outdated in left.iter().filter(|outdated| outdated.relation == relation) {
            outdated.replace()?;
        }
    }
    Ok(are_all)
}
