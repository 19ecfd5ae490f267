//! Reads and writes the table of backfills: how far each has come, and what keeps it from going on.

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::read_order::Pass;
use crate::backfill::{Rate, SnapshotBoundary};
use crate::pg::locks::try_lock_named;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::SqlResult;
use crate::pg::restores;
use crate::shared_state::Micros;

/// The obstacle while a dump may be being restored.
pub(super) const RESTORING: &str =
    "a session that has copied rows into the extension's tables has not ended: it may be restoring a dump";

/// Identifies a backfill: its source, and the relation that it reads.
pub(super) type BackfillId = (i32, pg_sys::Oid);

/// A backfill that is not finished.
pub(super) struct BackfillJob {
    pub(super) source: i32,
    pub(super) table: pg_sys::Oid,
    pub(super) index_id: i32,
    pub(super) rows_per_second: Option<i32>,
    /// The transaction that wrote the source's rules.
    pub(super) rules: u32,
    /// The relation that is read: the table, or a partition that has been attached to it.
    pub(super) relation: pg_sys::Oid,
    /// Why it cannot be read yet.
    pub(super) obstacle: Option<String>,
}

impl BackfillJob {
    pub(super) fn id(&self) -> BackfillId {
        (self.source, self.relation)
    }

    /// Whether it reads only a partition that has been attached to a mirrored table.
    pub(super) fn is_partition(&self) -> bool {
        self.relation != self.table
    }
}

/// Locks the tables of backfills and rules, if that is possible without waiting.
fn lock_tables() -> bool {
    try_lock_named(c"backfill", pg_sys::RowExclusiveLock).is_some()
        && try_lock_named(c"source", pg_sys::AccessShareLock).is_some()
}

/// Locks the queue and the sequence of history's ids, which is returned.
pub(super) fn lock_queue() -> SqlResult<Option<pg_sys::Oid>> {
    let is_locked = try_lock_named(c"queue", pg_sys::RowExclusiveLock).is_some();
    Ok(if is_locked { try_lock_named(c"backfill_block", pg_sys::RowExclusiveLock) } else { None })
}

/// The unfinished backfills, all or one; `None` if somebody has locked a table.
pub(super) fn jobs(id: Option<BackfillId>) -> SqlResult<Option<Vec<BackfillJob>>> {
    if !lock_tables() {
        return Ok(None);
    }
    let is_restoring = restores::is_under_way();
    as_user(extension_objects()?.owner, || {
        Spi::connect_mut(|client| {
            let mut jobs = Vec::new();
            let (source, relation) = id.unzip();
            let arguments = [source.into(), relation.into()];
            // Not a read-only query, because it must see what has been committed meanwhile.
            for row in client.update(include_str!("../../../sql/backfill/backfills.sql"), None, &arguments)? {
                let columns = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(6)?);
                if let (Some(source), Some(table), Some(index_id), Some(relation)) = columns {
                    let (rows_per_second, obstacle) = (row.get(4)?, row.get(7)?);
                    let obstacle = if is_restoring { Some(RESTORING.to_owned()) } else { obstacle };
                    let rules =
                        row.get::<i64>(5)?.and_then(|xid| u32::try_from(xid).ok()).unwrap_or_default();
                    jobs.push(BackfillJob {
                        source,
                        table,
                        index_id,
                        rows_per_second,
                        rules,
                        relation,
                        obstacle,
                    });
                }
            }
            Ok(Some(jobs))
        })
    })
}

/// The progress of a backfill.
#[derive(Clone)]
pub(super) struct Progress {
    pub(super) since: Option<TimestampWithTimeZone>,
    pub(super) until: Option<TimestampWithTimeZone>,
    pub(super) snapshot_boundary: Option<SnapshotBoundary>,
    pub(super) pass: Option<Pass>,
    pub(super) cursor: Vec<Option<String>>,
    pub(super) total: Option<i64>,
    pub(super) done: i64,
    pub(super) queued: i64,
    pub(super) started_at: Option<Micros>,
    pub(super) rate: Rate,
    /// Partitions attached since the snapshot boundary was taken, each with its own.
    pub(super) attached: HashMap<u32, SnapshotBoundary>,
}

/// Reads the progress and locks its row; `None` if somebody else has locked it or the backfill has ended.
pub(super) fn lock(id: BackfillId) -> SqlResult<Option<Progress>> {
    Spi::connect_mut(|client| {
        let rows = client.update(
            include_str!("../../../sql/backfill/lock_backfill.sql"),
            Some(1),
            &[id.0.into(), id.1.into()],
        )?;
        if rows.is_empty() {
            return Ok(None);
        }
        let row = rows.first();
        let micros = |place| -> SqlResult<Option<Micros>> {
            Ok(row.get::<TimestampWithTimeZone>(place)?.map(|time| time.into_inner()))
        };
        Ok(Some(Progress {
            since: row.get(2)?,
            until: row.get(3)?,
            snapshot_boundary: snapshot_boundary_of(row.get(4)?),
            pass: row.get::<String>(5)?.and_then(|word| Pass::of(&word)),
            cursor: row.get(6)?.unwrap_or_default(),
            total: row.get(7)?,
            done: row.get(8)?.unwrap_or_default(),
            queued: row.get(9)?.unwrap_or_default(),
            started_at: micros(10)?,
            rate: Rate { per_second: row.get(11)?.unwrap_or_default(), at: micros(12)?.unwrap_or_default() },
            attached: HashMap::new(),
        }))
    })
}

fn snapshot_boundary_of(numbers: Option<Vec<Option<i64>>>) -> Option<SnapshotBoundary> {
    let numbers: Vec<i64> = numbers?.into_iter().collect::<Option<_>>()?;
    SnapshotBoundary::from_numbers(&numbers)
}

impl Progress {
    /// Reads the snapshot boundaries of partitions that were attached since the backfill's own was taken.
    pub(super) fn read_attached(&mut self, source: i32) -> SqlResult<()> {
        let Some(own) = &self.snapshot_boundary else { return Ok(()) };
        self.attached = Spi::connect_mut(|client| -> SqlResult<_> {
            let mut attached = HashMap::new();
            for row in
                client.update(include_str!("../../../sql/backfill/attached.sql"), None, &[source.into()])?
            {
                let snapshot_boundary = snapshot_boundary_of(row.get(2)?)
                    .filter(|snapshot_boundary| snapshot_boundary.succeeds(own));
                attached.extend(row.get::<pg_sys::Oid>(1)?.map(pg_sys::Oid::to_u32).zip(snapshot_boundary));
            }
            Ok(attached)
        })?;
        Ok(())
    }

    /// The snapshot boundary that applies to the rows of a table or partition.
    pub(super) fn boundary_for(&self, relation: u32) -> Option<&SnapshotBoundary> {
        self.attached.get(&relation).or(self.snapshot_boundary.as_ref())
    }
}

/// Records that all rows of an attached partition have been queued.
pub(super) fn end_partition((source, relation): BackfillId) -> SqlResult<()> {
    let query = include_str!("../../../sql/backfill/end_partition.sql");
    Ok(Spi::run_with_args(query, &[source.into(), relation.into()])?)
}

/// Stores the progress, in the transaction that has queued the rows.
pub(super) fn advance(id: BackfillId, state: &str, progress: &Progress, now: Micros) -> SqlResult<()> {
    let cursor = (!progress.cursor.is_empty()).then(|| progress.cursor.clone());
    let time = |micros: Micros| TimestampWithTimeZone::try_from(micros).ok();
    Ok(Spi::run_with_args(
        include_str!("../../../sql/backfill/advance_backfill.sql"),
        &[
            id.0.into(),
            state.into(),
            progress.snapshot_boundary.as_ref().map(SnapshotBoundary::to_numbers).into(),
            progress.pass.map(Pass::word).into(),
            cursor.into(),
            progress.total.into(),
            progress.done.into(),
            progress.queued.into(),
            progress.rate.per_second.into(),
            time(now).into(),
            progress.started_at.and_then(time).into(),
            id.1.into(),
        ],
    )?)
}

/// Stores the state of a backfill and its obstacle, if there is one; `false` if somebody has locked a table or the row.
pub(super) fn note(id: BackfillId, state: &str, trouble: Option<&str>) -> SqlResult<bool> {
    if !lock_tables() {
        return Ok(false);
    }
    as_user(extension_objects()?.owner, || {
        if lock(id)?.is_none() {
            return Ok(false);
        }
        let query = include_str!("../../../sql/backfill/note_backfill.sql");
        Spi::run_with_args(query, &[id.0.into(), state.into(), trouble.into(), id.1.into()])?;
        Ok(true)
    })
}
