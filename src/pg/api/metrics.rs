//! `metrics`: the numbers of `queue_stats` and `worker_stats` for a scraper.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::stats::{queue_rows, QueueStats, QUEUE_STATES};
use super::worker_stats::{worker_rows, WorkerStats, WORKER_STATES};
use crate::metrics::{Exposition, Label, MetricKind};
use crate::pg::databases::my_name;
use crate::pg::report::{reported, SqlResult};
use crate::record::EPOCH_2000_MILLIS;

#[pg_extern(sql = false)]
fn metrics() -> Result<String, ErrorReport> {
    reported(exposition())
}

fn exposition() -> SqlResult<String> {
    let (queues, workers) = (queue_rows()?, worker_rows()?);
    let database = my_name();
    let mut text = Exposition::default();
    queue_families(&mut text, &database, &queues);
    worker_families(&mut text, &database, &workers);
    Ok(text.finish())
}

/// A metric family with one sample for each row of the statistics.
struct Family<R> {
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    help: &'static str,
    value: fn(&R) -> Sample,
}

enum Sample {
    Count(i64),
    Number(f64),
    /// A time, with no sample while it is null.
    Time(Option<TimestampWithTimeZone>),
}

const QUEUE: &[Family<QueueStats>] = &[
    Family {
        name: "audit_algolia_queued_rows",
        kind: MetricKind::Gauge,
        unit: "rows",
        help: "Committed rows that are not delivered yet, including those in flight.",
        value: |row| Sample::Count(row.queued),
    },
    Family {
        name: "audit_algolia_in_flight_rows",
        kind: MetricKind::Gauge,
        unit: "rows",
        help: "Rows of batches that workers are sending.",
        value: |row| Sample::Count(row.in_flight),
    },
    Family {
        name: "audit_algolia_retrying_rows",
        kind: MetricKind::Gauge,
        unit: "rows",
        help: "Rows whose latest attempt failed.",
        value: |row| Sample::Count(row.retrying),
    },
    Family {
        name: "audit_algolia_dead_rows",
        kind: MetricKind::Gauge,
        unit: "rows",
        help: "Dead letters.",
        value: |row| Sample::Count(row.dead),
    },
    Family {
        name: "audit_algolia_repair_rows",
        kind: MetricKind::Gauge,
        unit: "rows",
        help: "Changes that could not be captured and are still to be repaired.",
        value: |row| Sample::Count(row.repairs),
    },
    Family {
        name: "audit_algolia_oldest_queued_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When the oldest waiting row was queued.",
        value: |row| Sample::Time(row.oldest_queued_at),
    },
    Family {
        name: "audit_algolia_newest_queued_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When the newest waiting row was queued.",
        value: |row| Sample::Time(row.newest_queued_at),
    },
    Family {
        name: "audit_algolia_enqueued_rows",
        kind: MetricKind::Counter,
        unit: "rows",
        help: "Rows queued by commits.",
        value: |row| Sample::Count(row.enqueued_total),
    },
    Family {
        name: "audit_algolia_delivered_rows",
        kind: MetricKind::Counter,
        unit: "rows",
        help: "Rows accepted by Algolia and deleted from the queue.",
        value: |row| Sample::Count(row.delivered_total),
    },
    Family {
        name: "audit_algolia_failed_rows",
        kind: MetricKind::Counter,
        unit: "rows",
        help: "Rows of failed batches, counted once for each attempt.",
        value: |row| Sample::Count(row.failed_total),
    },
    Family {
        name: "audit_algolia_given_up_rows",
        kind: MetricKind::Counter,
        unit: "rows",
        help: "Rows that became dead letters.",
        value: |row| Sample::Count(row.dead_total),
    },
    Family {
        name: "audit_algolia_uncaptured_rows",
        kind: MetricKind::Counter,
        unit: "rows",
        help: "Changes that could not be captured when they were made.",
        value: |row| Sample::Count(row.repairs_total),
    },
    Family {
        name: "audit_algolia_delivered_rows_per_second",
        kind: MetricKind::Gauge,
        unit: "",
        help: "Rows delivered per second, averaged over about the last ten seconds.",
        value: |row| Sample::Number(row.delivered_per_second),
    },
    Family {
        name: "audit_algolia_last_delivered_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When a batch was last delivered.",
        value: |row| Sample::Time(row.last_delivered_at),
    },
    Family {
        name: "audit_algolia_last_error_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When a batch or a worker last failed; queue_stats() shows the error.",
        value: |row| Sample::Time(row.last_error_at),
    },
    Family {
        name: "audit_algolia_stats_reset_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When the totals were last reset.",
        value: |row| Sample::Time(row.stats_reset),
    },
];

fn queue_families(text: &mut Exposition, database: &str, rows: &[QueueStats]) {
    let labels =
        |row: &QueueStats| vec![("database", database.to_owned()), ("index", row.index_name.clone())];
    text.family("audit_algolia_state", MetricKind::StateSet, "", "The state of an index.");
    for row in rows {
        text.states(&borrowed(&labels(row)), &QUEUE_STATES, &row.state);
    }
    write(text, QUEUE, rows, labels);
}

const WORKER: &[Family<WorkerStats>] = &[
    Family {
        name: "audit_algolia_worker_batch_rows",
        kind: MetricKind::Gauge,
        unit: "rows",
        help: "Rows of a worker's latest batch.",
        value: |row| Sample::Count(i64::from(row.batch_rows)),
    },
    Family {
        name: "audit_algolia_worker_batch_bytes",
        kind: MetricKind::Gauge,
        unit: "bytes",
        help: "Bytes of a worker's latest batch, before compression.",
        value: |row| Sample::Count(row.batch_bytes),
    },
    Family {
        name: "audit_algolia_worker_start_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When a worker started.",
        value: |row| Sample::Time(row.started_at),
    },
    Family {
        name: "audit_algolia_worker_batch_start_timestamp_seconds",
        kind: MetricKind::Gauge,
        unit: "seconds",
        help: "When a worker's latest batch was claimed.",
        value: |row| Sample::Time(row.batch_started_at),
    },
    Family {
        name: "audit_algolia_worker_batches",
        kind: MetricKind::Counter,
        unit: "batches",
        help: "Batches that a worker has delivered or that have failed.",
        value: |row| Sample::Count(row.batches_total),
    },
    Family {
        name: "audit_algolia_worker_rows",
        kind: MetricKind::Counter,
        unit: "rows",
        help: "Rows delivered by a worker.",
        value: |row| Sample::Count(row.rows_total),
    },
    Family {
        name: "audit_algolia_worker_errors",
        kind: MetricKind::Counter,
        unit: "errors",
        help: "Batches of a worker that failed.",
        value: |row| Sample::Count(row.errors_total),
    },
];

fn worker_families(text: &mut Exposition, database: &str, rows: &[WorkerStats]) {
    text.family("audit_algolia_workers", MetricKind::Gauge, "workers", "Delivery workers of this database.");
    text.count(&[("database", database)], rows.len() as i64);
    let labels = |row: &WorkerStats| vec![("database", database.to_owned()), ("pid", row.pid.to_string())];
    text.family("audit_algolia_worker_state", MetricKind::StateSet, "", "The state of a worker.");
    for row in rows {
        text.states(&borrowed(&labels(row)), &WORKER_STATES, &row.state);
    }
    write(text, WORKER, rows, labels);
}

fn write<R>(
    text: &mut Exposition,
    families: &[Family<R>],
    rows: &[R],
    labels: impl Fn(&R) -> Vec<(&'static str, String)>,
) {
    for Family { name, kind, unit, help, value } in families {
        text.family(name, *kind, unit, help);
        for row in rows {
            let labels = labels(row);
            match value(row) {
                Sample::Count(count) => text.count(&borrowed(&labels), count),
                Sample::Number(number) => text.number(&borrowed(&labels), number),
                Sample::Time(Some(time)) => text.number(&borrowed(&labels), unix_seconds(time)),
                Sample::Time(None) => (),
            }
        }
    }
}

fn borrowed<'a>(labels: &'a [(&'static str, String)]) -> Vec<Label<'a>> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// To the millisecond. A double holds current times to the microsecond at best, and nobody scrapes that often.
fn unix_seconds(time: TimestampWithTimeZone) -> f64 {
    (pg_sys::TimestampTz::from(time).div_euclid(1000) + EPOCH_2000_MILLIS) as f64 / 1000.0
}
