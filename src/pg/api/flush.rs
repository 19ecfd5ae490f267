//! `flush`: waits until what was queued before the call has left the queue.

use std::time::{Duration, Instant};

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::{indices, my_database, refuse_other_version};
use crate::id_ranges::Span;
use crate::pg::report::{reported, sql_error, SqlResult};
use crate::pg::{shmem, xact};

/// How often the queue is checked. Only a session that waits in `flush` polls.
const LOOK_EVERY_MS: i64 = 10;
/// How often, at most, the whole range of ids is scanned, including deleted rows that are not yet vacuumed.
const LOOK_THROUGH_EVERY: Duration = Duration::from_millis(500);

#[pg_extern(sql = false)]
fn flush(max_wait: Option<Interval>) -> Result<bool, ErrorReport> {
    refuse_other_version()?;
    reported(wait_for_empty(max_wait))
}

fn wait_for_empty(max_wait: Option<Interval>) -> SqlResult<bool> {
    let micros = max_wait.map(|interval| interval.as_micros());
    let Some(micros) = micros.and_then(|micros| u64::try_from(micros).ok()) else {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_wait must be an interval of zero or more",
            "Pass, for instance, interval '30 s'.",
        ));
    };
    if xact::has_queued() {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "flush cannot wait for rows of its own transaction",
            "Commit first: rows are delivered only after the transaction that queued them has committed.",
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
    /// The time of the next scan of the whole range.
    look_at: Instant,
}

impl QueuedRows {
    /// Whether none of the rows are left. The shared state knows the lowest id that can be waiting, but does not count
    /// rows that another transaction has locked. So only a scan of the whole range can answer yes.
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

/// The lowest and the highest id that wait for an index. Rows queued later have higher ids, or, from a backfill, lower
/// ones.
fn ends(index: i32) -> SqlResult<Option<Span>> {
    Spi::connect(|client| {
        let query = include_str!("../../../sql/counts/ends.sql");
        let rows = client.select(query, Some(1), &[index.into(), i64::MIN.into()])?;
        let (lo, hi): (Option<i64>, Option<i64>) = rows.first().get_two()?;
        Ok(lo.zip(hi).map(|(lo, hi)| Span { lo, hi }))
    })
}

/// The indices whose settings are to be sent, with the version of these settings.
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

/// Whether rows with ids in this range are still in the queue.
fn is_waiting(index: i32, ends: Span) -> SqlResult<bool> {
    is_true(
        include_str!("../../../sql/counts/waits_within.sql"),
        &[index.into(), ends.lo.into(), ends.hi.into()],
    )
}

/// Runs a query that returns a boolean, with a fresh snapshot.
fn is_true(query: &str, arguments: &[DatumWithOid<'_>]) -> SqlResult<bool> {
    // Without it, the query would use the snapshot of the caller's statement. SAFETY: the snapshot is popped below, or
    // when the transaction aborts.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    let answer = Spi::connect(|client| -> SqlResult<bool> {
        let rows = client.select(query, Some(1), arguments)?;
        Ok(rows.first().get_one::<bool>()?.unwrap_or_default())
    });
    // SAFETY: pops the snapshot that was pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    answer
}

fn nap() {
    // SAFETY: waits for the session's own latch. If the postmaster dies, the process exits at once. Requests to cancel
    // or terminate are handled right afterwards.
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
