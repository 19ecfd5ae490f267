//! Locks on tables that are taken only if they need no waiting.
//!
//! No background transaction of ours waits for a second table, because whoever drops the extension locks its tables,
//! and the watched ones, in another order.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::owner::table;

/// Locks a table until the transaction ends, if that is possible without waiting.
pub(super) fn try_lock(table: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: locks an oid, whether or not there is such a table. It is looked up again afterwards.
    table != pg_sys::InvalidOid && unsafe { pg_sys::ConditionalLockRelationOid(table, mode as i32) }
}

/// The same for a table of the extension. Returns its oid.
pub(super) fn try_lock_named(name: &CStr, mode: u32) -> Option<pg_sys::Oid> {
    let oid = table(name);
    // It may have been dropped before it was locked.
    (try_lock(oid, mode) && table(name) == oid).then_some(oid)
}

/// Whether a table could be locked at this moment without waiting. A lock that the transaction already holds is kept.
pub(super) fn is_lockable(table: pg_sys::Oid, mode: u32) -> bool {
    let is_free = try_lock(table, mode);
    if is_free {
        // SAFETY: releases the lock taken above.
        unsafe { pg_sys::UnlockRelationOid(table, mode as i32) };
    }
    is_free
}
