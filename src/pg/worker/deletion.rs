//! What a settlement consists of: deletions of rows, of versions and of dead letters, inside its transaction.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

use super::statements::Statements;
use crate::pg::locks::try_lock;
use crate::pg::xact;

/// How long a settlement waits for rows that somebody else has locked. All other work of this worker waits with it.
pub(super) const PATIENCE: &CStr = c"500ms";

/// Deletes the dead letters that delivered versions supersede; `false` if somebody has locked some of them.
pub(super) fn supersede_dead<O: AsRef<str>>(
    client: &mut SpiClient<'_>,
    statements: &Statements,
    index_id: i32,
    objects: &[O],
    versions: &[i64],
) -> spi::Result<bool> {
    let arguments = [index_id.into(), owned(objects).into(), versions.to_vec().into()];
    let row = client.update(&statements.supersede, Some(1), &arguments)?.first();
    xact::note_dead(index_id, -row.get::<i64>(1)?.unwrap_or_default());
    Ok(!row.get::<bool>(2)?.unwrap_or_default())
}

/// Deletes versions of objects and all older ones. Returns how many rows that were.
pub(super) fn delete_versions<O: AsRef<str>>(
    client: &mut SpiClient<'_>,
    statements: &Statements,
    index_id: i32,
    objects: &[O],
    versions: &[i64],
) -> spi::Result<i64> {
    let arguments = [index_id.into(), owned(objects).into(), versions.to_vec().into()];
    let deleted = client.update(&statements.settle_versions, None, &arguments)?.len() as i64;
    xact::note_removed(index_id, deleted);
    Ok(deleted)
}

/// Deletes those of the rows that nobody has locked, and returns their ids.
pub(super) fn delete_unlocked(index_id: i32, ids: &[i64]) -> spi::Result<Vec<i64>> {
    Spi::connect_mut(|client| {
        let arguments = [index_id.into(), ids.to_vec().into()];
        let mut deleted = Vec::with_capacity(ids.len());
        for row in client.update(include_str!("../../../sql/worker/settle_unlocked.sql"), None, &arguments)? {
            deleted.extend(row.get::<i64>(1)?);
        }
        xact::note_removed(index_id, deleted.len() as i64);
        Ok(deleted)
    })
}

fn owned<O: AsRef<str>>(texts: &[O]) -> Vec<String> {
    texts.iter().map(|text| text.as_ref().to_owned()).collect()
}

/// Locks the table of dead letters without waiting, because it is the second table; see `lock`. It exists as long as
/// the queue is locked, because both belong to the extension.
pub(super) fn lock_dead_letters(statements: &Statements) -> bool {
    try_lock(statements.dead_letters, pg_sys::RowExclusiveLock)
}
