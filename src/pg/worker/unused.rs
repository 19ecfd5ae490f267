//! Indices that nobody uses any more, forgotten so that their lanes can serve others.
//!
//! An index without a source gets no rows: `unwatch` and `DROP TABLE` wait for the writers of the table, and whoever
//! watches another for it locks its row first.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::claim::table;
use crate::pg::process::in_transaction;

/// The tables that are looked into, with the strongest lock that is taken on each.
const TABLES: [(&std::ffi::CStr, u32); 4] = [
    (c"index", pg_sys::RowExclusiveLock),
    (c"source", pg_sys::RowShareLock),
    (c"queue", pg_sys::AccessShareLock),
    (c"dead_letter", pg_sys::AccessShareLock),
];

/// The number of no index.
const NONE: i32 = 0;

/// Forgets the indices that have no source, no rows and no dead letters, and are not paused.
pub(in crate::pg) fn forget_unused_indices() -> spi::Result<()> {
    in_transaction(|| {
        // No transaction of a worker waits for a second table: see [`super::claim::lock`].
        if !TABLES.iter().all(|(name, mode)| lock_at_once(name, *mode)) {
            return Ok(());
        }
        forget_unused_but(NONE).map(drop)
    })
}

/// The same in the current transaction, which may wait; spares one index and returns how many were forgotten. Their lanes
/// are closed when the workers look again.
pub(in crate::pg) fn forget_unused_but(spared: i32) -> spi::Result<usize> {
    Spi::connect_mut(|client| {
        let mut unused: Vec<i32> = Vec::new();
        let lock = include_str!("../../../sql/lock_unused_indices.sql");
        for row in client.update(lock, None, &[spared.into()])? {
            unused.extend(row.get::<i32>(1)?);
        }
        if unused.is_empty() {
            return Ok(0);
        }
        // Another statement, another snapshot: it sees what was committed before the rows were locked.
        let forget = include_str!("../../../sql/forget_unused_indices.sql");
        Ok(client.update(forget, None, &[unused.into()])?.len())
    })
}

/// Locks a table until the transaction ends if that needs no waiting; `false`: it does, or the table is no more.
fn lock_at_once(name: &std::ffi::CStr, mode: u32) -> bool {
    let oid = table(name);
    // SAFETY: does not wait; a table dropped in the meantime is no longer found under its name.
    oid != pg_sys::InvalidOid
        && unsafe { pg_sys::ConditionalLockRelationOid(oid, mode as i32) }
        && table(name) == oid
}
