//! `worker_stats`: what each delivery worker of the database is doing, read from shared state.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::indices;
use super::stats::timestamp;
use crate::pg::databases::my_database;
use crate::pg::report::{reported, SqlResult};
use crate::pg::shmem;
use crate::shared_state::SlotState;

/// All values of a worker's state.
pub(super) const WORKER_STATES: [&str; 2] = ["delivering", "idle"];

/// A row of `worker_stats`, in the order of its columns.
pub(super) struct WorkerStats {
    pub(super) pid: i32,
    pub(super) state: String,
    pub(super) index_name: Option<String>,
    pub(super) batch_rows: i32,
    pub(super) batch_bytes: i64,
    pub(super) host: Option<String>,
    pub(super) started_at: Option<TimestampWithTimeZone>,
    pub(super) batch_started_at: Option<TimestampWithTimeZone>,
    pub(super) batches_total: i64,
    pub(super) rows_total: i64,
    pub(super) errors_total: i64,
    pub(super) last_error: Option<String>,
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn worker_stats() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(state, String),
            name!(index_name, Option<String>),
            name!(batch_rows, i32),
            name!(batch_bytes, i64),
            name!(host, Option<String>),
            name!(started_at, Option<TimestampWithTimeZone>),
            name!(batch_started_at, Option<TimestampWithTimeZone>),
            name!(batches_total, i64),
            name!(rows_total, i64),
            name!(errors_total, i64),
            name!(last_error, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let tuple = |row: WorkerStats| {
        (
            row.pid,
            row.state,
            row.index_name,
            row.batch_rows,
            row.batch_bytes,
            row.host,
            row.started_at,
            row.batch_started_at,
            row.batches_total,
            row.rows_total,
            row.errors_total,
            row.last_error,
        )
    };
    reported(worker_rows()).map(|rows| TableIterator::new(rows.into_iter().map(tuple)))
}

pub(super) fn worker_rows() -> SqlResult<Vec<WorkerStats>> {
    let indices = indices()?;
    let Some(shared_state) = shmem::shared_state() else {
        return Ok(Vec::new());
    };
    let rows = shared_state
        .workers
        .iter()
        .filter(|worker| worker.slot_state == SlotState::Running && worker.database == my_database())
        .map(|worker| {
            let index = (worker.batch_lane as usize)
                .checked_sub(1)
                .and_then(|lane| shared_state.lane_key(lane))
                .and_then(|key| indices.iter().find(|(id, _, _)| *id == key.index_id));
            WorkerStats {
                pid: worker.pid,
                state: if worker.rows_in_flight() > 0 { "delivering" } else { "idle" }.to_owned(),
                index_name: index.map(|(_, name, _)| name.clone()),
                batch_rows: worker.batch_rows,
                batch_bytes: worker.batch_bytes,
                host: worker.host.get().map(str::to_owned),
                started_at: timestamp(worker.started_at),
                batch_started_at: timestamp(worker.batch_started_at),
                batches_total: worker.batches_total,
                rows_total: worker.rows_total,
                errors_total: worker.errors_total,
                last_error: worker.last_error.get().map(str::to_owned),
            }
        })
        .collect();
    Ok(rows)
}
