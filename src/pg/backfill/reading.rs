//! What a step of a backfill reads, and queues: a page of rows, or those of the last pass.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::progress::Progress;
use super::read_order::{PageQuery, Pass, ReadOrder};
use super::rows::{bound_arguments, fetched, place_of, select, with_snapshot, FoundRow};
use super::snapshot_boundary::next_transaction;
use crate::backfill::{RowOrigin, SnapshotBoundary};
use crate::pg::capture::{HistoryWrite, HistoryWriter};
use crate::pg::report::SqlResult;

/// How many rows of the last pass are held in memory at a time.
const FETCH: i64 = 1000;

/// The position of a step within a page, to find the row that caused an error.
#[derive(Clone, Copy, Default)]
pub(super) struct PagePosition {
    /// How many rows of the page came before it.
    pub(super) before: usize,
    /// The table or partition, and the row's block and offset in it.
    pub(super) row: Option<(u32, u32, u16)>,
}

/// The limits of the next step.
pub(super) struct StepLimits<'a> {
    /// The most rows.
    pub(super) rows: i64,
    /// After this many bytes of records, no further rows are read.
    pub(super) bytes: usize,
    /// The most blocks, in physical order.
    pub(super) blocks: i64,
    pub(super) place: &'a Cell<PagePosition>,
    /// The state after the step, given the number of rows read.
    pub(super) state: &'a dyn Fn(i64) -> &'static str,
}

/// Reads and queues a page. Returns how many rows were read, and whether the backfill is finished. A page ends before a
/// row that somebody has locked; `None` if that is the first row.
pub(super) fn page(
    read_order: &ReadOrder,
    progress: &mut Progress,
    history: &mut HistoryWriter,
    limits: &StepLimits,
) -> SqlResult<Option<(i64, bool)>> {
    let pass = progress.pass.unwrap_or(Pass::Rest);
    let query = read_order.page(pass, &progress.cursor, limits.blocks)?;
    let next = next_transaction();
    let mut read = 0;
    let (mut ended, mut is_locked) = (true, false);
    if let Some(PageQuery { text, floor }) = query {
        // Queries take no snapshot of their own, so that each row is fetched as the query has shown it.
        with_snapshot(|| -> SqlResult<()> {
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
                    // In physical order, the cursor is the place of a row. A full page ends with its last row.
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

/// Queues a row, unless it has been captured or `passes_over` rejects it; `false` if somebody has locked it.
fn queue(
    row: &FoundRow,
    next: i64,
    passes_over: impl Fn(RowOrigin) -> bool,
    progress: &mut Progress,
    history: &mut HistoryWriter,
) -> SqlResult<bool> {
    let Some(version) = history.fetch(row.relation, row.place)? else { return Ok(true) };
    let origin = progress
        .boundary_for(version.relation)
        .map_or(RowOrigin::History, |snapshot_boundary| snapshot_boundary.origin_of(version, next));
    // Changes of a mirrored row since its backfill was requested have been queued.
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

/// The last pass: one query under one snapshot, which no row can evade, for rows that the other passes have left.
pub(super) fn rest(
    read_order: &ReadOrder,
    progress: &mut Progress,
    history: &mut HistoryWriter,
    place: &Cell<PagePosition>,
) -> SqlResult<i64> {
    let next = next_transaction();
    let reach = progress
        .snapshot_boundary
        .as_ref()
        .map_or(-1, |snapshot_boundary: &SnapshotBoundary| snapshot_boundary.relevant_age(next));
    let text = CString::new(read_order.rest_query()).unwrap_or_default();
    with_snapshot(|| {
        Spi::connect(|_| {
            let (mut values, nulls) = bound_arguments(progress);
            values.push(pg_sys::Datum::from(reach));
            let mut types = [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID];
            let nulls = CString::new(format!("{nulls} ")).unwrap_or_default();
            // SAFETY: SPI is connected. There are as many types and values as the query has arguments. A read-only
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
                // SAFETY: the cursor is open. Its rows are copied, and SPI's copy is freed.
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
                // SAFETY: everything allocated meanwhile is written or copied before the context is reset.
                unsafe {
                    scratch.switch_to(|_| -> SqlResult<()> {
                        for row in &rows {
                            place.set(PagePosition { before: 0, row: Some(place_of(row)) });
                            let is_old = |origin| origin == RowOrigin::History && !row.keyless;
                            // This pass reads no mirrored table, so no row is locked.
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
