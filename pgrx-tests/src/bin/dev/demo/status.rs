//! Reads `queue_stats()` and `worker_stats()`, as tables and as numbers.

use anyhow::Result;
use postgres::Client;

use crate::screen::{grouped, table};

/// The queue of the demo's index at one moment.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) state: String,
    pub(super) queued: u64,
    pub(super) in_flight: u64,
    pub(super) delivered: u64,
    pub(super) dead: u64,
    pub(super) failed: u64,
    pub(super) per_second: f64,
    pub(super) last_error: Option<String>,
}

/// Asks `queue_stats()`.
pub(super) fn queue(db: &mut Client) -> Result<Queue> {
    let row = db.query_one(
        "SELECT state, queued, in_flight, delivered_total, dead, failed_total, delivered_per_second, last_error
         FROM audit_algolia.queue_stats()",
        &[],
    )?;
    let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok(Queue {
        state: row.get(0),
        queued: number(1),
        in_flight: number(2),
        delivered: number(3),
        dead: number(4),
        failed: number(5),
        per_second: row.get(6),
        last_error: row.get(7),
    })
}

/// Prints `queue_stats()`.
pub(super) fn show_queue(db: &mut Client) -> Result<Queue> {
    let now = queue(db)?;
    println!("\n  SELECT * FROM audit_algolia.queue_stats();");
    table(
        &["state", "queued", "in_flight", "delivered_total", "failed_total", "dead", "delivered_per_second"],
        &[vec![
            now.state.clone(),
            grouped(now.queued),
            grouped(now.in_flight),
            grouped(now.delivered),
            grouped(now.failed),
            grouped(now.dead),
            grouped(now.per_second.round() as u64),
        ]],
    );
    if let Some(error) = &now.last_error {
        println!("  last_error: {error}");
    }
    Ok(now)
}

/// Reads `worker_stats()`, to be printed later.
pub(super) fn workers(db: &mut Client) -> Result<Vec<Vec<String>>> {
    let rows = db.query(
        "SELECT pid::text, state, coalesce(batch_rows, 0), coalesce(host, ''), batches_total, rows_total,
                errors_total
         FROM audit_algolia.worker_stats() ORDER BY pid",
        &[],
    )?;
    let number = |number: i64| grouped(u64::try_from(number).unwrap_or(0));
    Ok(rows
        .iter()
        .map(|row| {
            vec![
                row.get(0),
                row.get(1),
                number(row.get::<_, i32>(2).into()),
                row.get(3),
                number(row.get(4)),
                number(row.get(5)),
                number(row.get(6)),
            ]
        })
        .collect())
}

/// Prints what [`workers`] has returned.
pub(super) fn show_workers(rows: &[Vec<String>]) {
    println!("\n  SELECT * FROM audit_algolia.worker_stats();");
    table(&["pid", "state", "batch_rows", "host", "batches_total", "rows_total", "errors_total"], rows);
}
