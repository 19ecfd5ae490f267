//! Locks a watched table and its partitions against writers for a moment, and makes all sessions read its rules again.
//!
//! The triggers of a mirrored table do not report updates that change nothing the index holds. While its history is
//! being sent they report all updates, because the backfill could miss a row that such an update has moved.

use pgrx::pg_sys;

use crate::pg::hypertables::is_hypertable;
use crate::pg::partitions::partitions;
use crate::pg::report::SqlResult;

// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    /// `catalog/pg_inherits.h`, which pgrx does not bind: a table and everything that inherits from it, locked one
    /// after the other.
    fn find_all_inheritors(
        parent: pg_sys::Oid,
        mode: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// Locks a table, and then all its partitions or chunks, because rows can be written to them directly. The server's own
/// commands lock in the same order. Call it as the extension's owner.
pub(in crate::pg) fn lock_tree(table: pg_sys::Oid, mode: u32) -> SqlResult<()> {
    // SAFETY: waits for locks, inside a transaction. Nobody writes to a table that has been dropped meanwhile.
    let kind = unsafe {
        pg_sys::LockRelationOid(table, mode as i32);
        pg_sys::get_rel_relkind(table) as u8
    };
    // Other tables that inherit from it have rows of their own.
    if kind == pg_sys::RELKIND_PARTITIONED_TABLE || is_hypertable(table)? {
        // SAFETY: as above. Nothing can be attached to a table that is locked like this.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                find_all_inheritors(table, mode as i32, std::ptr::null_mut())
            });
        }
    }
    Ok(())
}

/// Waits until nobody writes to a table, and keeps writers out until the transaction ends, as `watch` does. Later
/// writers see what it commits.
pub(in crate::pg) fn lock_against_writers(table: pg_sys::Oid) -> SqlResult<()> {
    lock_tree(table, pg_sys::ShareRowExclusiveLock)?;
    renew(table)
}

/// Makes all sessions reload the rules of a table's sources after this transaction has committed.
pub(super) fn renew(table: pg_sys::Oid) -> SqlResult<()> {
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
