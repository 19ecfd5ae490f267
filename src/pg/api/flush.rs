//! `flush`: waits until what was queued before the call has left the queue.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::{indices, my_database};
use crate::pg::report::{failure, reported, Outcome};
use crate::pg::{shmem, xact};
use crate::regions::Span;

/// How often the queue is looked at. Only while somebody waits in `flush` is there such a clock.
const LOOK_EVERY_MS: i64 = 10;

#[pg_extern(sql = false)]
fn flush(max_wait: Option<Interval>) -> Result<bool, ErrorReport> {
    reported(wait_for_empty(max_wait))
}

fn wait_for_empty(max_wait: Option<Interval>) -> Outcome<bool> {
    let micros = max_wait.map(|interval| interval.as_micros());
    let Some(micros) = micros.and_then(|micros| u64::try_from(micros).ok()) else {
        return Err(failure(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_wait must be an interval of zero or more",
            "Give for instance interval '30 s'.",
        ));
    };
    if xact::has_queued() {
        return Err(failure(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "flush cannot wait for rows of its own transaction",
            "Commit first: nothing is delivered before the transaction that queued it has committed.",
        ));
    }
    let deadline = Instant::now() + Duration::from_micros(micros);
    let mut waiting = Vec::new();
    for (index, _, _) in indices()? {
        if let Some(ends) = ends(index)? {
            waiting.push((index, ends));
        }
    }
    loop {
        let mut still = Vec::new();
        for (index, ends) in waiting {
            if is_waiting(index, ends)? {
                still.push((index, ends));
            }
        }
        if still.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        waiting = still;
        nap();
    }
}

/// The ids waiting in an index. What is queued later has higher ids, or, of history, lower ones.
fn ends(index: i32) -> Outcome<Option<Span>> {
    Spi::connect(|client| {
        let query = include_str!("../../../sql/ends.sql");
        let rows = client.select(query, Some(1), &[index.into(), lowest(index).into()])?;
        let (lo, hi): (Option<i64>, Option<i64>) = rows.first().get_two()?;
        Ok(lo.zip(hi).map(|(lo, hi)| Span { lo, hi }))
    })
}

/// A bound that spares the search rows long gone.
fn lowest(index: i32) -> i64 {
    shmem::ledger().and_then(|ledger| ledger.lowest(my_database(), index)).unwrap_or(i64::MIN)
}

/// Whether rows with these ids are still in the queue, by a snapshot of this moment.
fn is_waiting(index: i32, ends: Span) -> Outcome<bool> {
    let lowest = lowest(index).max(ends.lo);
    // Otherwise a query would see the snapshot the caller's statement began with.
    // SAFETY: a snapshot of this moment, popped below or by the abort.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let waits = Spi::connect(|client| -> Outcome<bool> {
        let rows = client.select(
            include_str!("../../../sql/waits_within.sql"),
            Some(1),
            &[index.into(), lowest.into(), ends.hi.into()],
        )?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    });
    // SAFETY: the counterpart of the above.
    unsafe { pg_sys::PopActiveSnapshot() };
    waits
}

fn nap() {
    // SAFETY: the session's own latch; waiting ends at once when the postmaster dies, and a request to cancel or
    // to end is served right after.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            LOOK_EVERY_MS,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
