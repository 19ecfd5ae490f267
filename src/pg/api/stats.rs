//! `queue_stats`: read from shared state, plus a look at two rows per index.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::queue_look::{look, LaneSnapshot};
use super::{indices, my_database};
use crate::pg::clock::now;
use crate::pg::databases::my_name;
use crate::pg::report::{reported, SqlResult};
use crate::pg::version::{VersionMismatch, MISMATCH_HINT};
use crate::pg::{guc, shmem};
use crate::shared_state::{Announcements, Lane, Micros, SharedState};

/// A row of `queue_stats`, in the order of its columns.
pub(super) struct QueueStats {
    pub(super) index_name: String,
    pub(super) state: String,
    pub(super) queued: i64,
    pub(super) in_flight: i64,
    pub(super) retrying: i64,
    pub(super) dead: i64,
    pub(super) oldest_queued_at: Option<TimestampWithTimeZone>,
    pub(super) newest_queued_at: Option<TimestampWithTimeZone>,
    pub(super) enqueued_total: i64,
    pub(super) delivered_total: i64,
    pub(super) failed_total: i64,
    pub(super) dead_total: i64,
    pub(super) delivered_per_second: f64,
    pub(super) last_delivered_at: Option<TimestampWithTimeZone>,
    pub(super) last_error: Option<String>,
    pub(super) last_error_at: Option<TimestampWithTimeZone>,
    pub(super) stats_reset: Option<TimestampWithTimeZone>,
    pub(super) repairs: i64,
    pub(super) repairs_total: i64,
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn queue_stats() -> Result<
    TableIterator<
        'static,
        (
            name!(index_name, String),
            name!(state, String),
            name!(queued, i64),
            name!(in_flight, i64),
            name!(retrying, i64),
            name!(dead, i64),
            name!(oldest_queued_at, Option<TimestampWithTimeZone>),
            name!(newest_queued_at, Option<TimestampWithTimeZone>),
            name!(enqueued_total, i64),
            name!(delivered_total, i64),
            name!(failed_total, i64),
            name!(dead_total, i64),
            name!(delivered_per_second, f64),
            name!(last_delivered_at, Option<TimestampWithTimeZone>),
            name!(last_error, Option<String>),
            name!(last_error_at, Option<TimestampWithTimeZone>),
            name!(stats_reset, Option<TimestampWithTimeZone>),
            name!(repairs, i64),
            name!(repairs_total, i64),
        ),
    >,
    ErrorReport,
> {
    let tuple = |row: QueueStats| {
        (
            row.index_name,
            row.state,
            row.queued,
            row.in_flight,
            row.retrying,
            row.dead,
            row.oldest_queued_at,
            row.newest_queued_at,
            row.enqueued_total,
            row.delivered_total,
            row.failed_total,
            row.dead_total,
            row.delivered_per_second,
            row.last_delivered_at,
            row.last_error,
            row.last_error_at,
            row.stats_reset,
            row.repairs,
            row.repairs_total,
        )
    };
    reported(queue_rows()).map(|rows| TableIterator::new(rows.into_iter().map(tuple)))
}

pub(super) fn queue_rows() -> SqlResult<Vec<QueueStats>> {
    let (database, now) = (my_database(), now());
    let mismatch = VersionMismatch::find()?;
    // Workers that run deliver nothing then.
    let workers = shmem::shared_state()
        .filter(|_| mismatch.is_none())
        .map_or(0, |mut shared_state| shared_state.running_workers(database));
    let trouble = shmem::shared_state().and_then(|shared_state| {
        shared_state.trouble(database).map(|(trouble, at)| (trouble.to_owned(), at))
    });
    let mut rows = Vec::new();
    for (index, name, paused) in indices()? {
        let snapshot = shmem::shared_state()
            .map(|shared_state| snapshot_of(&shared_state, shared_state.announcements(), database, index));
        let state = state(snapshot.as_ref().map(|snapshot| &snapshot.lane), workers, paused, now);
        let snapshot = snapshot.unwrap_or(LaneSnapshot {
            lane: Lane::EMPTY,
            held_back_rows: 0,
            live: None,
            history: None,
        });
        let lane = snapshot.lane;
        let (last_error, last_error_at) = match (&trouble, lane.last_error.get()) {
            _ if state == NO_WORKER => no_worker(mismatch.as_ref(), trouble.as_ref()),
            (Some((trouble, at)), _) if *at >= lane.last_error_at => (Some(trouble.clone()), *at),
            (_, error) => (error.map(str::to_owned), lane.last_error_at),
        };
        let found = look(index, &snapshot)?;
        let (last_error, last_error_at) = match (last_error, found.damage) {
            (None, Some(damage)) => (Some(damage), now),
            (error, _) => (error, last_error_at),
        };
        let (queued, dead, repairs) = found.counts;
        rows.push(QueueStats {
            index_name: name,
            state: state.to_owned(),
            queued: queued.max(0),
            in_flight: lane.in_flight,
            retrying: lane.retrying + snapshot.held_back_rows,
            dead: dead.max(0),
            oldest_queued_at: found.oldest,
            newest_queued_at: found.newest,
            enqueued_total: lane.enqueued_total,
            delivered_total: lane.delivered_total,
            failed_total: lane.failed_total,
            dead_total: lane.dead_total,
            delivered_per_second: lane.delivered_per_second(now),
            last_delivered_at: timestamp(lane.last_delivered_at),
            last_error,
            last_error_at: timestamp(last_error_at),
            stats_reset: timestamp(lane.stats_reset),
            repairs: repairs.max(0),
            repairs_total: lane.repairs_total,
        });
    }
    Ok(rows)
}

fn snapshot_of(
    shared_state: &SharedState,
    announcements: &Announcements,
    database: u32,
    index: i32,
) -> LaneSnapshot {
    let lane = shared_state.find_lane(database, index).and_then(|place| shared_state.lane(place));
    LaneSnapshot {
        lane: lane.copied().unwrap_or(Lane::EMPTY),
        held_back_rows: shared_state.held_back_rows(database, index),
        live: shared_state.live_rows(announcements, database, index),
        history: shared_state.history(announcements, database, index),
    }
}

/// All values that [`state`] can return.
pub(super) const QUEUE_STATES: [&str; 8] =
    ["delivering", "idle", "paused", "backing off", "blocked", "not configured", NO_WORKER, "standby"];

const NO_WORKER: &str = "no worker";

/// The state of an index in one word. If several apply, the first one listed here wins.
fn state(lane: Option<&Lane>, workers: usize, paused: bool, now: pg_sys::TimestampTz) -> &'static str {
    // SAFETY: reads the state of the server.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    match lane {
        _ if is_standby => "standby",
        None => NO_WORKER,
        _ if !guc::is_configured() => "not configured",
        _ if workers == 0 => NO_WORKER,
        _ if paused || !guc::is_enabled() => "paused",
        Some(lane) if lane.blocked => "blocked",
        Some(lane) if lane.failures > 0 || lane.retry_at > now => "backing off",
        Some(lane) if lane.queued > 0 || lane.in_flight > 0 => "delivering",
        Some(_) => "idle",
    }
}

/// Why no worker serves the database, as far as that is known, and since when.
fn no_worker(
    mismatch: Option<&VersionMismatch>,
    trouble: Option<&(String, Micros)>,
) -> (Option<String>, Micros) {
    let name = my_name();
    let setting = if !shmem::is_preloaded() {
        Some("audit_algolia is not in shared_preload_libraries. Add it and restart the server.".to_owned())
    } else if guc::workers() == 0 {
        Some("audit_algolia.workers is 0. Raise it and reload.".to_owned())
    } else if !guc::serves(&name) {
        Some(format!("audit_algolia.databases does not name database \"{name}\". Add it and reload."))
    } else {
        None
    };
    match (setting, trouble) {
        (Some(setting), _) => (Some(setting), 0),
        (None, Some((trouble, at))) => (Some(trouble.clone()), *at),
        (None, None) => (mismatch.map(|mismatch| format!("{mismatch}. {MISMATCH_HINT}")), 0),
    }
}

/// A time from the shared state, where 0 stands for never.
pub(super) fn timestamp(micros: pg_sys::TimestampTz) -> Option<TimestampWithTimeZone> {
    (micros != 0).then(|| TimestampWithTimeZone::try_from(micros).ok()).flatten()
}
