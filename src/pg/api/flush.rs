//! `flush`: waits until what was queued before the call has left the queue.

use std::time::{Duration, Instant};

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::{indices, my_database};
use crate::id_ranges::Span;
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::pg::{shmem, xact};

/// How often the queue is looked at. Only while somebody waits in `flush` is there such a clock.
const LOOK_EVERY_MS: i64 = 10;
/// How often at most all of it is read, past what has been deleted and not yet been vacuumed.
const LOOK_THROUGH_EVERY: Duration = Duration::from_millis(500);

#[pg_extern(sql = false)]
fn flush(max_wait: Option<Interval>) -> Result<bool, ErrorReport> {
    reported(wait_for_empty(max_wait))
}

fn wait_for_empty(max_wait: Option<Interval>) -> SqlResult<bool> {
    let micros = max_wait.map(|interval| interval.as_micros());
    let Some(micros) = micros.and_then(|micros| u64::try_from(micros).ok()) else {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_wait must be an interval of zero or more",
            "Give for instance interval '30 s'.",
        ));
    };
    if xact::has_queued() {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "flush cannot wait for rows of its own transaction",
            "Commit first: nothing is delivered before the transaction that queued it has committed.",
        ));
    }
    let deadline = Instant::now() + Duration::from_micros(micros);
    let mut waiting = Vec::new();
    for (index, _, _) in indices()? {
        if let Some(ends) = ends(index)? {
            waiting.push(QueuedRows { index, ends, look_at: Instant::now() });
        }
    }
    let mut settings = wanted_settings()?;
    loop {
        let mut still = Vec::new();
        for mut rows in waiting {
            if !rows.are_gone()? {
                still.push(rows);
            }
        }
        let mut still_wanted = Vec::new();
        for (index, version) in settings {
            if is_true(include_str!("../../../sql/worker/is_wanted.sql"), &[index.into(), version.into()])? {
                still_wanted.push((index, version));
            }
        }
        if still.is_empty() && still_wanted.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        (waiting, settings) = (still, still_wanted);
        nap();
    }
}

/// What was queued for an index before the call.
struct QueuedRows {
    index: i32,
    ends: Span,
    /// The whole stretch is not looked through again before this.
    look_at: Instant,
}

impl QueuedRows {
    /// Whether nothing of it is left. Shared state knows how far down there can be rows, save those that somebody has
    /// locked: so the last word has the whole stretch.
    fn are_gone(&mut self) -> SqlResult<bool> {
        let lowest = shmem::shared_state()
            .and_then(|state| state.lowest(state.announcements(), my_database(), self.index));
        if let Some(lowest) = lowest {
            if is_waiting(self.index, Span { lo: lowest.max(self.ends.lo), ..self.ends })? {
                return Ok(false);
            }
        }
        if Instant::now() < self.look_at {
            return Ok(false);
        }
        let is_gone = !is_waiting(self.index, self.ends)?;
        self.look_at = Instant::now() + LOOK_THROUGH_EVERY;
        Ok(is_gone)
    }
}

/// The ids waiting in an index. What is queued later has higher ids, or, of history, lower ones.
fn ends(index: i32) -> SqlResult<Option<Span>> {
    Spi::connect(|client| {
        let query = include_str!("../../../sql/counts/ends.sql");
        let rows = client.select(query, Some(1), &[index.into(), i64::MIN.into()])?;
        let (lo, hi): (Option<i64>, Option<i64>) = rows.first().get_two()?;
        Ok(lo.zip(hi).map(|(lo, hi)| Span { lo, hi }))
    })
}

/// The indices that are to be given settings, and the version of those.
fn wanted_settings() -> SqlResult<Vec<(i32, i64)>> {
    Spi::connect(|client| {
        let mut wanted = Vec::new();
        for row in client.select(include_str!("../../../sql/worker/wanted_settings.sql"), None, &[])? {
            if let (Some(index), Some(version)) = (row.get(1)?, row.get(2)?) {
                wanted.push((index, version));
            }
        }
        Ok(wanted)
    })
}

/// Whether rows with these ids are still in the queue.
fn is_waiting(index: i32, ends: Span) -> SqlResult<bool> {
    is_true(
        include_str!("../../../sql/counts/waits_within.sql"),
        &[index.into(), ends.lo.into(), ends.hi.into()],
    )
}

/// What a query answers by a snapshot of this moment.
fn is_true(query: &str, arguments: &[DatumWithOid<'_>]) -> SqlResult<bool> {
    // Otherwise a query would see the snapshot the caller's statement began with.
    // SAFETY: a snapshot of this moment, popped below or by the abort.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let answer = Spi::connect(|client| -> SqlResult<bool> {
        let rows = client.select(query, Some(1), arguments)?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    });
    // SAFETY: the counterpart of the above.
    unsafe { pg_sys::PopActiveSnapshot() };
    answer
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
