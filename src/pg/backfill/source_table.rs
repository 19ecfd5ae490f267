//! The watched table of a source, for steps of backfills and repairs: locked without waiting, and read with its owner's
//! rights.

use pgrx::pg_sys;

use super::read_order::table_is_gone;
use crate::pg::descriptor::{columns, relation_name, TableColumn};
use crate::pg::locks::try_lock;
use crate::pg::owner::{as_user, pin_output_settings};
use crate::pg::partitions::partitions;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;

/// Locks a table and its partitions for reading without waiting; `false` if somebody has locked one of them.
pub(super) fn lock_table(table: pg_sys::Oid, owner: pg_sys::Oid) -> SqlResult<bool> {
    if !try_lock(table, pg_sys::AccessShareLock) {
        return Ok(false);
    }
    let tree = as_user(owner, || partitions(table))?;
    // SAFETY: the table is locked. This checks that it still exists.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::NoLock as i32);
        if relation.is_null() {
            return Err(table_is_gone());
        }
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
    }
    Ok(tree.into_iter().all(|table| try_lock(table, pg_sys::AccessShareLock)))
}

/// The rules of a source, read against the table's current columns, with these columns and the table's name.
pub(super) fn load(source: i32, table: pg_sys::Oid) -> SqlResult<(SourceRules, Vec<TableColumn>, String)> {
    // SAFETY: the table is locked.
    unsafe {
        let relation = pg_sys::relation_open(table, pg_sys::NoLock as i32);
        let (columns, name) = (columns((*relation).rd_att), relation_name(relation));
        let rules = SourceRules::load_for(source, table, relation);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        Ok((rules?.ok_or_else(table_is_gone)?, columns, name))
    }
}

/// Reads as the table's owner, with the settings by which records are written.
pub(super) fn as_reader<T>(owner: pg_sys::Oid, work: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    as_user(owner, || {
        pin_output_settings();
        work()
    })
}
