//! Partitions that are attached with rows to watched tables. No trigger has captured those rows as rows of the table,
//! whatever their transaction ids say.
//!
//! A mirrored index gets them in the background. For an index in append mode they are history.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::sources::snapshot_boundary_of;
use crate::backfill::SnapshotBoundary;
use crate::pg::backfill::{take, OwnRows};
use crate::pg::ddl::DdlEffects;
use crate::pg::latest_snapshot::write;
use crate::pg::partitions::{leaves, sources_of_ancestors};
use crate::pg::report::SqlResult;
use crate::pg::xact;

/// Records the partitions with rows that a statement has attached to watched tables. The statement has locked them. So
/// nobody else can write to them before it commits, and after that their changes are captured.
pub(super) fn note_attached(effects: &DdlEffects) -> SqlResult<()> {
    for member in &effects.attached {
        for above in sources_of_ancestors(*member)?.into_iter().filter(|above| above.watched != *member) {
            for leaf in leaves(*member)?.into_iter().filter(|leaf| has_blocks(*leaf)) {
                let snapshot_boundary =
                    take(leaf, snapshot_boundary_of(above.source)?.1, OwnRows::Uncaptured)?;
                let state = if above.is_mirrored() { "waiting" } else { "attached" };
                note(above.source, leaf, state, &snapshot_boundary)?;
            }
        }
    }
    Ok(())
}

fn note(source: i32, leaf: pg_sys::Oid, state: &str, snapshot_boundary: &SnapshotBoundary) -> SqlResult<()> {
    let null = pg_sys::Datum::null();
    let arguments = [
        (pg_sys::INT4OID, source.into()),
        (pg_sys::OIDOID, leaf.into()),
        (pg_sys::TEXTOID, state.into_datum().unwrap_or(null)),
        (pg_sys::INT8ARRAYOID, snapshot_boundary.to_numbers().into_datum().unwrap_or(null)),
    ];
    write(include_str!("../../../sql/ddl/note_attached.sql"), &arguments)?;
    // The backfiller looks for new partitions once this is committed.
    xact::note_stale();
    Ok(())
}

/// Whether a table may have rows. A partition that was just created has none.
fn has_blocks(table: pg_sys::Oid) -> bool {
    // SAFETY: the statement holds a lock on the table, and the relation is closed again at once.
    unsafe {
        let relation = pg_sys::try_relation_open(table, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        blocks > 0
    }
}

/// Starts again to read the partitions of a mirrored table whose reading was cancelled or has failed.
pub(super) fn restart(
    source: i32,
    table: pg_sys::Oid,
    start: impl Fn(pg_sys::Oid, &SnapshotBoundary) -> SqlResult<()>,
) -> SqlResult<()> {
    let stopped = Spi::connect(|client| -> SqlResult<Vec<pg_sys::Oid>> {
        let query = include_str!("../../../sql/ddl/stopped_partitions.sql");
        let mut stopped = Vec::new();
        for row in client.select(query, None, &[source.into(), table.into()])? {
            stopped.extend(row.get::<pg_sys::Oid>(1)?);
        }
        Ok(stopped)
    })?;
    for partition in stopped {
        start(partition, &take(partition, snapshot_boundary_of(source)?.1, OwnRows::Captured)?)?;
    }
    Ok(())
}
