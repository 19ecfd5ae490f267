//! Closes the lanes of indices that nobody uses, when there are more indices than lanes.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::locks::try_lock_named;
use crate::pg::process::{in_transaction, take_snapshot};
use crate::pg::shmem;

/// Closes the lanes of a database's indices that have no source, no rows, no dead letters, no waiting settings and no
/// waiting repairs. Returns these indices. Call it inside a transaction.
pub(in crate::pg) fn close_unused_lanes(database: u32) -> spi::Result<Vec<i32>> {
    let before =
        shmem::shared_state().map(|shared_state| shared_state.published(database)).unwrap_or_default();
    let unused = Spi::connect(|client| {
        let mut unused = Vec::new();
        for row in client.select(include_str!("../../../sql/worker/unused_indices.sql"), None, &[])? {
            unused.extend(row.get::<i32>(1)?);
        }
        spi::Result::Ok(unused)
    })?;
    if let Some(mut shared_state) = shmem::shared_state() {
        shared_state.close_lanes_of_unused(database, &before, &unused);
    }
    Ok(unused)
}

/// The same in its own transaction, for a worker. Such a transaction never waits for a second table, see
/// [`super::statements::lock`]: if somebody has locked one, nothing is done.
pub(super) fn close_unused_lanes_at_once(database: u32) -> spi::Result<Vec<i32>> {
    in_transaction(|| {
        let tables = [c"index", c"source", c"queue", c"dead_letter", c"configuration", c"repair"];
        if !tables.into_iter().all(|name| try_lock_named(name, pg_sys::AccessShareLock).is_some()) {
            return Ok(Vec::new());
        }
        take_snapshot();
        close_unused_lanes(database)
    })
}
