//! One step of a backfill: a short transaction that reads the next rows, queues their records and moves the cursor.
//!
//! All three or none, so that after a crash the next step begins with the first row that is not queued. It waits for no
//! lock: whoever drops a table, or the extension, takes theirs in an order of their own.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::lock_tree::renew;
use super::progress::{self, lock_queue, BackfillId, BackfillJob, Progress};
use super::read_order::{Bounds, PageQuery, Pass, ReadOrder};
use super::rows::{bounds, fetched, place_of, select, with_snapshot, FoundRow};
use super::snapshot_boundary::{cluster, next_transaction, take, OwnRows};
use super::source_table::{as_reader, load, lock_table};
use crate::backfill::{RowOrigin, SnapshotBoundary};
use crate::pg::capture::{HistoryWrite, HistoryWriter};
use crate::pg::clock::now;
use crate::pg::failpoint;
use crate::pg::locks::try_lock;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::partitions::is_below;
use crate::pg::report::Outcome;
use crate::pg::rules::SourceRules;

/// Rows are counted up to this many, and where that costs no more than this by the planner's reckoning (some tenths of
/// a second); else its estimate is told.
const COUNTED: i64 = 100_000;
const DEAR: f64 = 20_000.0;
/// Rows of the last pass that are held in memory at once.
const FETCH: i64 = 1000;

/// What came of a step.
pub(super) enum StepOutcome {
    /// So many rows were read.
    Read(i64),
    Finished,
    /// It is not to be gone on with: cancelled, unwatched, or the extension is gone.
    Ended,
    /// Somebody has locked what it takes.
    Busy,
    /// It cannot go on, for this reason.
    Stuck(String),
}

/// A step's place in a page, for telling which row was at fault.
#[derive(Clone, Copy, Default)]
pub(super) struct PagePosition {
    /// How many rows of the page came before it.
    pub(super) before: usize,
    /// The table or partition, and the row's place in it: block and offset.
    pub(super) row: Option<(u32, u32, u16)>,
}

/// How the next step is to be.
pub(super) struct StepLimits<'a> {
    /// Rows at most.
    pub(super) rows: i64,
    /// Bytes of their records, from which on there are no further rows.
    pub(super) bytes: usize,
    /// Blocks at most, where the table is read by place.
    pub(super) blocks: i64,
    pub(super) place: &'a Cell<PagePosition>,
    /// The state to leave it in, given the rows read.
    pub(super) state: &'a dyn Fn(i64) -> &'static str,
}

/// Makes a step, inside a transaction. On an error the transaction has to be aborted.
pub(super) fn step(id: BackfillId, limits: &StepLimits) -> Outcome<StepOutcome> {
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
    if job.is_arrival() && !as_user(owner, || is_below(job.relation, job.table))? {
        // Whoever has taken it away, or dropped it, may not have told.
        as_user(owner, || {
            progress::end_arrival(id)?;
            if rules.is_backfilled {
                renew(job.table)?;
            }
            Outcome::Ok(())
        })?;
        return Ok(StepOutcome::Ended);
    }
    let read_order = as_user(owner, || match job.is_arrival() {
        true => Ok(ReadOrder::through(&rules, job.relation)),
        false => {
            ReadOrder::of(&rules, Bounds { since: progress.since.is_some(), until: progress.until.is_some() })
        }
    })?;
    begin(&mut progress, &job, &rules, &read_order)?;
    as_user(owner, || progress.read_attached(source))?;
    // What has come is newer than all that was told of the table before, such as the deletion of a row with the same key.
    let sequence = (!job.is_arrival()).then_some(sequence);
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
        match finished && job.is_arrival() {
            true => progress::end_arrival(id)?,
            false => progress::advance(id, state, &progress, now)?,
        }
        // Triggers of a mirrored table need not tell of everything any more.
        if finished && rules.is_backfilled {
            renew(job.table)?;
        }
        Outcome::Ok(())
    })?;
    Ok(if finished { StepOutcome::Finished } else { StepOutcome::Read(read) })
}

/// Locks what a job reads.
fn lock_job(job: &BackfillJob, owner: pg_sys::Oid) -> Outcome<bool> {
    match job.is_arrival() {
        true => Ok([job.table, job.relation].iter().all(|table| try_lock(*table, pg_sys::AccessShareLock))),
        false => lock_table(job.table, owner),
    }
}

/// Sees to what the first step needs, and what has become invalid since the last.
fn begin(
    progress: &mut Progress,
    job: &BackfillJob,
    rules: &SourceRules,
    read_order: &ReadOrder,
) -> Outcome<()> {
    if progress.snapshot_boundary.as_ref().is_some_and(|snapshot_boundary| {
        snapshot_boundary.cluster != cluster() || snapshot_boundary.rules != job.rules
    }) {
        // Restored from a dump, where transactions have other numbers. The triggers are there: from now on rows are
        // captured.
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

/// How many rows there are to read: exactly if they are few.
fn total(read_order: &ReadOrder, progress: &Progress) -> Outcome<i64> {
    Spi::connect_mut(|client| {
        let arguments = [progress.since.into(), progress.until.into(), (COUNTED + 1).into()];
        let plan = client.update(read_order.estimate().as_str(), Some(1), &arguments)?;
        let plan: String = plan.first().get_one()?.unwrap_or_default();
        // Such as: Seq Scan on log  (cost=0.00..1637.00 rows=100000 width=0)
        let number = |before: &str| -> Option<f64> {
            let rest = plan.split_once(before)?.1;
            rest.split(' ').next()?.parse().ok()
        };
        let estimate = number(" rows=").unwrap_or_default() as i64;
        if number("..").is_none_or(|cost| cost > DEAR) {
            return Ok(estimate);
        }
        let counted =
            client.update(read_order.count().as_str(), Some(1), &arguments)?.first().get_one::<i64>()?;
        Ok(counted.filter(|counted| *counted <= COUNTED).unwrap_or(estimate.max(COUNTED)))
    })
}

/// Reads and queues a page; returns the rows read, and whether that was all. A page ends before a row that somebody has
/// locked; nothing is returned when that is the first one.
fn page(
    read_order: &ReadOrder,
    progress: &mut Progress,
    history: &mut HistoryWriter,
    limits: &StepLimits,
) -> Outcome<Option<(i64, bool)>> {
    let pass = progress.pass.unwrap_or(Pass::Rest);
    let query = read_order.page(pass, &progress.cursor, limits.blocks)?;
    let next = next_transaction();
    let mut read = 0;
    let (mut ended, mut is_locked) = (true, false);
    if let Some(PageQuery { text, floor }) = query {
        // Queries take no snapshot of their own, so that the rows can be fetched as they have shown them.
        with_snapshot(|| -> Outcome<()> {
            let mut rows = select(&text, progress, limits.rows)?;
            let mut is_full = rows.len() as i64 >= limits.rows;
            for (before, row) in rows.iter().enumerate() {
                limits.place.set(PagePosition { before, row: Some(place_of(row)) });
                let leaves = pass.leaves_changed();
                if !queue(row, next, |origin| origin == RowOrigin::Changed && leaves, progress, history)? {
                    is_locked = before == 0;
                    is_full = true;
                    rows.truncate(before);
                    break;
                }
                if history.bytes() >= limits.bytes {
                    is_full = true;
                    rows.truncate(before + 1);
                    break;
                }
            }
            history.flush()?;
            limits.place.set(PagePosition::default());
            read = rows.len() as i64;
            ended = !is_full && floor.is_none();
            let cursor = rows.last().and_then(|row| row.cursor.clone());
            match (is_full, floor) {
                (false, Some(floor)) => progress.cursor = floor,
                _ => {
                    // By place the cursor tells the row only; a page that is full ends with it.
                    progress.cursor = cursor.unwrap_or_else(|| std::mem::take(&mut progress.cursor));
                }
            }
            Ok(())
        })?;
    }
    if is_locked {
        return Ok(None);
    }
    if !ended {
        return Ok(Some((read, false)));
    }
    progress.cursor = Vec::new();
    match read_order.pass_after(pass) {
        None => Ok(Some((read, true))),
        Some(next) => {
            progress.pass = Some(next);
            Ok(Some((read, false)))
        }
    }
}

/// Queues one row, unless it was captured or is passed over; `false`: somebody has locked it.
fn queue(
    row: &FoundRow,
    next: i64,
    passes_over: impl Fn(RowOrigin) -> bool,
    progress: &mut Progress,
    history: &mut HistoryWriter,
) -> Outcome<bool> {
    let Some(version) = history.fetch(row.relation, row.place)? else { return Ok(true) };
    let origin = progress
        .boundary_for(version.relation)
        .map_or(RowOrigin::History, |snapshot_boundary| snapshot_boundary.origin_of(version, next));
    // What has changed of a mirrored row since its backfill was asked for has been told.
    let is_captured = origin == RowOrigin::Changed && history.is_mirrored(row.relation);
    if origin == RowOrigin::Captured || is_captured || passes_over(origin) {
        return Ok(true);
    }
    match history.write(row.relation)? {
        HistoryWrite::Locked => return Ok(false),
        HistoryWrite::Queued => progress.queued += 1,
        HistoryWrite::LeftOut => (),
    }
    progress.done += 1;
    Ok(true)
}

/// The last pass: one query under one snapshot, which no row evades, for those that the others have left.
fn rest(
    read_order: &ReadOrder,
    progress: &mut Progress,
    history: &mut HistoryWriter,
    place: &Cell<PagePosition>,
) -> Outcome<i64> {
    let next = next_transaction();
    let reach = progress
        .snapshot_boundary
        .as_ref()
        .map_or(-1, |snapshot_boundary: &SnapshotBoundary| snapshot_boundary.reach(next));
    let text = CString::new(read_order.rest()).unwrap_or_default();
    with_snapshot(|| {
        Spi::connect(|_| {
            let (mut values, nulls) = bounds(progress);
            values.push(pg_sys::Datum::from(reach));
            let mut types = [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID];
            let nulls = CString::new(format!("{nulls} ")).unwrap_or_default();
            // SAFETY: SPI is connected; there are as many types and values as the query has arguments. A read-only
            // cursor uses the active snapshot.
            let cursor = unsafe {
                pg_sys::SPI_cursor_open_with_args(
                    std::ptr::null(),
                    text.as_ptr(),
                    types.len() as i32,
                    types.as_mut_ptr(),
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    true,
                    0,
                )
            };
            let mut read = 0;
            let mut scratch = PgMemoryContexts::new("audit_algolia backfill");
            loop {
                // SAFETY: the cursor is open; its rows are copied out, and SPI's copy is given back.
                let rows = unsafe {
                    pg_sys::SPI_cursor_fetch(cursor, true, FETCH as std::os::raw::c_long);
                    let rows = fetched();
                    pg_sys::SPI_freetuptable(pg_sys::SPI_tuptable);
                    rows
                };
                if rows.is_empty() {
                    break;
                }
                read += rows.len() as i64;
                // SAFETY: what is allocated meanwhile is written, or copied, before the context is reset.
                unsafe {
                    scratch.switch_to(|_| -> Outcome<()> {
                        for row in &rows {
                            place.set(PagePosition { before: 0, row: Some(place_of(row)) });
                            let is_old = |origin| origin == RowOrigin::History && !row.keyless;
                            // A mirrored row is none of these.
                            queue(row, next, is_old, progress, history)?;
                        }
                        history.flush()
                    })?;
                    scratch.reset();
                }
            }
            place.set(PagePosition::default());
            Ok(read)
        })
    })
}
