//! One step of a backfill: a short transaction that reads the next rows, queues their records and moves the cursor.
//!
//! The three commit together, so after a crash the next step begins with the first row that is not queued. A step waits
//! for no lock, because whoever drops a table or the extension takes locks in another order.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::lock_tree::renew;
use super::progress::{self, lock_queue, BackfillId, BackfillJob, Progress};
use super::read_order::{Bounds, Pass, ReadOrder};
use super::reading::{page, rest, StepLimits};
use super::snapshot_boundary::{cluster, take, OwnRows};
use super::source_table::{as_reader, load, lock_table};
use crate::pg::capture::HistoryWriter;
use crate::pg::clock::now;
use crate::pg::failpoint;
use crate::pg::locks::try_lock;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::partitions::is_below;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;

/// Rows are counted exactly up to this number, if the planner's cost estimate is below the maximum (some tenths of a
/// second). Otherwise the planner's estimate is used.
const COUNTED: i64 = 100_000;
const MAX_COST: f64 = 20_000.0;

/// The outcome of a step.
pub(super) enum StepOutcome {
    /// This many rows were read.
    Read(i64),
    Finished,
    /// The backfill must not continue: it was cancelled, the table was unwatched, or the extension was dropped.
    Ended,
    /// Somebody has locked something that it needs.
    Busy,
    /// It cannot continue, for this reason.
    Stuck(String),
}

/// Makes a step, inside a transaction, which must be aborted after an error.
pub(super) fn step(id: BackfillId, limits: &StepLimits) -> SqlResult<StepOutcome> {
    let (owner, begun_at) = (extension_objects()?.owner, now());
    let Some(sequence) = lock_queue()? else { return Ok(StepOutcome::Busy) };
    let Some(mut jobs) = progress::jobs(Some(id))? else { return Ok(StepOutcome::Busy) };
    let Some(mut job) = jobs.pop() else { return Ok(StepOutcome::Ended) };
    if let Some(obstacle) = job.obstacle.take() {
        return Ok(StepOutcome::Stuck(obstacle));
    }
    if !lock_job(&job, owner)? {
        return Ok(StepOutcome::Busy);
    }
    let source = job.source;
    let Some(mut progress) = as_user(owner, || progress::lock(id))? else { return Ok(StepOutcome::Busy) };
    let (rules, ..) = as_user(owner, || load(source, job.table))?;
    if job.is_partition() && !as_user(owner, || is_below(job.relation, job.table))? {
        // The partition was detached or dropped, perhaps without a notice.
        as_user(owner, || {
            progress::end_partition(id)?;
            if rules.is_backfilled {
                renew(job.table)?;
            }
            SqlResult::Ok(())
        })?;
        return Ok(StepOutcome::Ended);
    }
    let read_order = as_user(owner, || match job.is_partition() {
        true => Ok(ReadOrder::through(&rules, job.relation)),
        false => {
            ReadOrder::of(&rules, Bounds { since: progress.since.is_some(), until: progress.until.is_some() })
        }
    })?;
    begin(&mut progress, &job, &rules, &read_order)?;
    as_user(owner, || progress.read_attached(source))?;
    // An attached partition's rows are newer than everything queued before, such as the deletion of a row with the same
    // key.
    let sequence = (!job.is_partition()).then_some(sequence);
    let mut history = HistoryWriter::open(source, job.index_id, sequence)?;
    let before = (progress.done, progress.queued);
    let read = as_reader(rules.owner, || match progress.pass {
        Some(Pass::Rest) => {
            rest(&read_order, &mut progress, &mut history, limits.place).map(|read| Some((read, true)))
        }
        _ => page(&read_order, &mut progress, &mut history, limits),
    })?;
    history.close()?;
    let Some((read, finished)) = read else { return Ok(StepOutcome::Busy) };
    failpoint::reach("in backfill");
    let now = now();
    let started_at = *progress.started_at.get_or_insert(begun_at);
    progress.rate.add(progress.done - before.0, started_at, now);
    if finished {
        progress.total = Some(progress.done);
    }
    let state = if finished { "finished" } else { (limits.state)(read) };
    as_user(owner, || {
        match finished && job.is_partition() {
            true => progress::end_partition(id)?,
            false => progress::advance(id, state, &progress, now)?,
        }
        // Triggers of a mirrored table need no longer report updates that change nothing.
        if finished && rules.is_backfilled {
            renew(job.table)?;
        }
        SqlResult::Ok(())
    })?;
    Ok(if finished { StepOutcome::Finished } else { StepOutcome::Read(read) })
}

/// Locks what a backfill reads.
fn lock_job(job: &BackfillJob, owner: pg_sys::Oid) -> SqlResult<bool> {
    match job.is_partition() {
        true => Ok([job.table, job.relation].iter().all(|table| try_lock(*table, pg_sys::AccessShareLock))),
        false => lock_table(job.table, owner),
    }
}

/// Prepares what the first step needs, and replaces what has become invalid since the last.
fn begin(
    progress: &mut Progress,
    job: &BackfillJob,
    rules: &SourceRules,
    read_order: &ReadOrder,
) -> SqlResult<()> {
    if progress.snapshot_boundary.as_ref().is_some_and(|snapshot_boundary| {
        snapshot_boundary.cluster != cluster() || snapshot_boundary.rules != job.rules
    }) {
        // The backfill was restored from a dump, and transactions have other numbers here. The triggers exist, so rows
        // are captured from now on.
        progress.snapshot_boundary = Some(take(job.relation, job.rules, OwnRows::Captured)?);
    }
    if progress.pass.is_none_or(|pass| !read_order.has(pass)) {
        progress.pass = Some(read_order.first_pass());
        progress.cursor = Vec::new();
    }
    if progress.total.is_none() {
        progress.total = Some(as_reader(rules.owner, || total(read_order, progress))?);
    }
    Ok(())
}

/// The number of rows to read. It is exact if they are few.
fn total(read_order: &ReadOrder, progress: &Progress) -> SqlResult<i64> {
    Spi::connect_mut(|client| {
        let arguments = [progress.since.into(), progress.until.into(), (COUNTED + 1).into()];
        let plan = client.update(read_order.estimate_query().as_str(), Some(1), &arguments)?;
        let plan: String = plan.first().get_one()?.unwrap_or_default();
        // For example: Seq Scan on log  (cost=0.00..1637.00 rows=100000 width=0)
        let number = |before: &str| -> Option<f64> {
            let rest = plan.split_once(before)?.1;
            rest.split(' ').next()?.parse().ok()
        };
        let estimate = number(" rows=").unwrap_or_default() as i64;
        if number("..").is_none_or(|cost| cost > MAX_COST) {
            return Ok(estimate);
        }
        let counted = client
            .update(read_order.count_query().as_str(), Some(1), &arguments)?
            .first()
            .get_one::<i64>()?;
        Ok(counted.filter(|counted| *counted <= COUNTED).unwrap_or(estimate.max(COUNTED)))
    })
}
