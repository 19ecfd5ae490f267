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

/// A trigger that sees too little.
pub(super) struct OutdatedTrigger {
    source: i32,
    pub(super) relation: pg_sys::Oid,
    operation: Operation,
    /// As `pg_trigger.tgenabled` has it.
    state: String,
}

impl OutdatedTrigger {
    /// Those of tables and of their parents.
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

    /// Puts one for rows in its place. The table is locked. Triggers for rows are all that a mirrored table has.
    pub(super) fn replace(&self) -> SqlResult<()> {
        create_trigger(None, self.relation, self.source, Mode::Append, self.operation, true)?;
        enable_trigger(self.relation, self.source, self.operation, &self.state)
    }
}

/// Replaces the outdated triggers of all tables that nobody writes to at this moment, with the rights of the extension's
/// owner; `false`: some are left. Waits for no lock, and keeps those it takes until the transaction ends.
pub(in crate::pg) fn replace_outdated_triggers() -> SqlResult<bool> {
    let mut are_all = true;
    for OutdatedTrigger { relation, .. } in OutdatedTrigger::find(&[], true)? {
        // capture() tells what to do.
        if is_hypertable(relation)? {
            continue;
        }
        if !try_lock(relation, pg_sys::ShareRowExclusiveLock) {
            are_all = false;
            continue;
        }
        // Somebody may have seen to it before it was locked.
        let left = OutdatedTrigger::of(&[relation])?;
        for outdated in left.iter().filter(|outdated| outdated.relation == relation) {
            outdated.replace()?;
        }
    }
    Ok(are_all)
}
