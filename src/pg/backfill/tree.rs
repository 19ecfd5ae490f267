//! A watched table with its partitions: locked against writers for a moment, and made known anew to all sessions.
//!
//! The triggers of a mirrored table say nothing of updates that change nothing the index holds. While its history is being
//! sent they tell of all: a row that such an update has moved could evade the walk.

use pgrx::pg_sys;

use crate::pg::partitions::partitions;
use crate::pg::report::Outcome;

/// Waits until nobody writes to a table, and keeps it so until the transaction ends, as `watch` does. What is committed
/// then is known to whoever writes afterwards.
pub(in crate::pg) fn lock_against_writers(table: pg_sys::Oid) -> Outcome<()> {
    // SAFETY: waits for locks, inside a transaction; a table that is gone meanwhile is nobody's to write to.
    unsafe {
        pg_sys::LockRelationOid(table, pg_sys::ShareRowExclusiveLock as i32);
        for partition in partitions(table)? {
            pg_sys::LockRelationOid(partition, pg_sys::ShareRowExclusiveLock as i32);
        }
    }
    renew(table)
}

/// Has all sessions read the rules of a table's sources again when this transaction has committed.
pub(super) fn renew(table: pg_sys::Oid) -> Outcome<()> {
    for relation in [table].into_iter().chain(partitions(table)?) {
        // SAFETY: a look-up in the catalog, inside a transaction.
        unsafe {
            if pg_sys::SearchSysCacheExists(
                pg_sys::SysCacheIdentifier::RELOID as i32,
                pg_sys::Datum::from(relation),
                pg_sys::Datum::null(),
                pg_sys::Datum::null(),
                pg_sys::Datum::null(),
            ) {
                pg_sys::CacheInvalidateRelcacheByRelid(relation);
            }
        }
    }
    Ok(())
}
