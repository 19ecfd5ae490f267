//! `metrics`: the numbers of `queue_stats` and `worker_stats` for a scraper.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::stats::{queue_rows, worker_rows, QueueRow, WorkerRow, QUEUE_STATES, WORKER_STATES};
use crate::metrics::{Exposition, Kind, Label};
use crate::pg::databases::my_name;
use crate::pg::report::{reported, Outcome};
use crate::record::EPOCH_2000_MILLIS;

#[pg_extern(sql = false)]
fn metrics() -> Result<String, ErrorReport> {
    reported(exposition())
}

fn exposition() -> Outcome<String> {
    let (queues, workers) = (queue_rows()?, worker_rows()?);
    let database = my_name();
    let mut text = Exposition::default();
    queue_families(&mut text, &database, &queues);
    worker_families(&mut text, &database, &workers);
    Ok(text.finish())
}

/// A family that has a number for each row of the statistics.
struct Family<R> {
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    value: fn(&R) -> Value,
}

enum Value {
    Count(i64),
    Number(f64),
    /// A time that may not have come yet: no sample then.
    Time(Option<TimestampWithTimeZone>),
}

const QUEUE: &[Family<QueueRow>] = &[
    Family {
        name: "audit_algolia_queued_rows",
        kind: Kind::Gauge,
        unit: "rows",
        help: "Committed, undelivered rows, those in flight included.",
        value: |row| Value::Count(row.2),
    },
    Family {
        name: "audit_algolia_in_flight_rows",
        kind: Kind::Gauge,
        unit: "rows",
        help: "Rows in a batch that a worker has claimed and not settled.",
        value: |row| Value::Count(row.3),
    },
    Family {
        name: "audit_algolia_retrying_rows",
        kind: Kind::Gauge,
        unit: "rows",
        help: "Rows whose latest attempt failed.",
        value: |row| Value::Count(row.4),
    },
    Family {
        name: "audit_algolia_dead_rows",
        kind: Kind::Gauge,
        unit: "rows",
        help: "Dead letters.",
        value: |row| Value::Count(row.5),
    },
    Family {
        name: "audit_algolia_repair_rows",
        kind: Kind::Gauge,
        unit: "rows",
        help: "Changes that could not be captured and wait to be repaired.",
        value: |row| Value::Count(row.17),
    },
    Family {
        name: "audit_algolia_oldest_queued_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "When the oldest row that waits was queued.",
        value: |row| Value::Time(row.6),
    },
    Family {
        name: "audit_algolia_newest_queued_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "When the newest row that waits was queued.",
        value: |row| Value::Time(row.7),
    },
    Family {
        name: "audit_algolia_enqueued_rows",
        kind: Kind::Counter,
        unit: "rows",
        help: "Rows queued by commits.",
        value: |row| Value::Count(row.8),
    },
    Family {
        name: "audit_algolia_delivered_rows",
        kind: Kind::Counter,
        unit: "rows",
        help: "Rows accepted by Algolia and deleted from the queue.",
        value: |row| Value::Count(row.9),
    },
    Family {
        name: "audit_algolia_failed_rows",
        kind: Kind::Counter,
        unit: "rows",
        help: "Rows of batches that were not accepted, once for each attempt.",
        value: |row| Value::Count(row.10),
    },
    Family {
        name: "audit_algolia_given_up_rows",
        kind: Kind::Counter,
        unit: "rows",
        help: "Rows that became dead letters.",
        value: |row| Value::Count(row.11),
    },
    Family {
        name: "audit_algolia_uncaptured_rows",
        kind: Kind::Counter,
        unit: "rows",
        help: "Changes that could not be captured when they were made.",
        value: |row| Value::Count(row.18),
    },
    Family {
        name: "audit_algolia_delivered_rows_per_second",
        kind: Kind::Gauge,
        unit: "",
        help: "Rows delivered a second, over about the last ten seconds.",
        value: |row| Value::Number(row.12),
    },
    Family {
        name: "audit_algolia_last_delivered_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "When the latest batch was settled.",
        value: |row| Value::Time(row.13),
    },
    Family {
        name: "audit_algolia_last_error_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "When the latest batch, or a worker, failed; queue_stats() says why.",
        value: |row| Value::Time(row.15),
    },
    Family {
        name: "audit_algolia_stats_reset_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "Since when the totals count.",
        value: |row| Value::Time(row.16),
    },
];

fn queue_families(text: &mut Exposition, database: &str, rows: &[QueueRow]) {
    let labels = |row: &QueueRow| vec![("database", database.to_owned()), ("index", row.0.clone())];
    text.family("audit_algolia_state", Kind::StateSet, "", "What is going on with an index.");
    for row in rows {
        text.states(&borrowed(&labels(row)), &QUEUE_STATES, &row.1);
    }
    write(text, QUEUE, rows, labels);
}

const WORKER: &[Family<WorkerRow>] = &[
    Family {
        name: "audit_algolia_worker_batch_rows",
        kind: Kind::Gauge,
        unit: "rows",
        help: "Rows of a worker's latest batch.",
        value: |row| Value::Count(i64::from(row.3)),
    },
    Family {
        name: "audit_algolia_worker_batch_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        help: "Bytes of a worker's latest batch, before compression.",
        value: |row| Value::Count(row.4),
    },
    Family {
        name: "audit_algolia_worker_start_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "When a worker began.",
        value: |row| Value::Time(row.6),
    },
    Family {
        name: "audit_algolia_worker_batch_start_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        help: "When a worker's latest batch was claimed.",
        value: |row| Value::Time(row.7),
    },
    Family {
        name: "audit_algolia_worker_batches",
        kind: Kind::Counter,
        unit: "batches",
        help: "Batches that came back to a worker, arrived or not.",
        value: |row| Value::Count(row.8),
    },
    Family {
        name: "audit_algolia_worker_rows",
        kind: Kind::Counter,
        unit: "rows",
        help: "Rows of a worker that arrived.",
        value: |row| Value::Count(row.9),
    },
    Family {
        name: "audit_algolia_worker_errors",
        kind: Kind::Counter,
        unit: "errors",
        help: "Batches of a worker that did not arrive.",
        value: |row| Value::Count(row.10),
    },
];

fn worker_families(text: &mut Exposition, database: &str, rows: &[WorkerRow]) {
    text.family("audit_algolia_workers", Kind::Gauge, "workers", "Delivery workers of this database.");
    text.count(&[("database", database)], rows.len() as i64);
    let labels = |row: &WorkerRow| vec![("database", database.to_owned()), ("pid", row.0.to_string())];
    text.family("audit_algolia_worker_state", Kind::StateSet, "", "What a worker is doing.");
    for row in rows {
        text.states(&borrowed(&labels(row)), &WORKER_STATES, &row.1);
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
                Value::Count(count) => text.count(&borrowed(&labels), count),
                Value::Number(number) => text.number(&borrowed(&labels), number),
                Value::Time(Some(time)) => text.number(&borrowed(&labels), unix_seconds(time)),
                Value::Time(None) => (),
            }
        }
    }
}

fn borrowed<'a>(labels: &'a [(&'static str, String)]) -> Vec<Label<'a>> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// To the millisecond: a double holds no more than microseconds of our time, and nobody scrapes that often.
fn unix_seconds(time: TimestampWithTimeZone) -> f64 {
    (pg_sys::TimestampTz::from(time).div_euclid(1000) + EPOCH_2000_MILLIS) as f64 / 1000.0
}
