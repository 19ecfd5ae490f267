//! Very many rows in the queue: what it takes to count them, to claim of them, and to start with them.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use audit_algolia_tests::server::StopMode;

use super::super::commits::{Delays, Writer};
use super::super::report::Report;
use super::super::row::{Row, Target};
use super::super::rows::{Records, INDEX};
use super::super::spread::{percentile, short};
use super::super::testbed::Testbed;
use crate::interrupt;
use crate::waiting::{self, OFTEN};

const ASKED: usize = 10;
const CLAIMS: [(&str, &str); 2] = [
    ("newest", include_str!("../../../../../../sql/worker/claim_newest.sql")),
    ("oldest", include_str!("../../../../../../sql/worker/claim_oldest.sql")),
];

pub(super) fn measure(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    testbed.pause()?;
    // What has been captured is no longer of use, and takes room.
    testbed.begin_round()?;
    testbed.load(Records::Small, rows)?;
    let snapshot = testbed.pin_snapshot()?;
    statistics(testbed, rows, report)?;
    claim(testbed, rows, report)?;
    drop(snapshot);
    start(testbed, rows, report)
}

fn statistics(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    let times = milliseconds(ASKED, || testbed.queued().map(drop))?;
    let count = "SELECT count(*) FROM audit_algolia.queue";
    let count = milliseconds(1, || Ok(testbed.db.query_one(count, &[]).map(drop)?))?;
    let median = percentile(&times, 50.0).unwrap_or(f64::NAN);
    let row = Row::of(format!("queue_stats() over {rows} rows, a snapshot pinned"), "ms", &times);
    report.add(row.beside("count(*)", &count).target(Target::AtMost(10.0, "ms", median)));
    Ok(())
}

/// The statement itself, as workers run it: over the whole queue.
fn claim(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    let id = "SELECT id FROM audit_algolia.index WHERE name = $1";
    let index: i32 = testbed.db.query_one(id, &[&INDEX])?.get(0);
    for (which, claim) in CLAIMS {
        let statement = testbed.db.prepare(claim)?;
        let times = milliseconds(ASKED, || {
            let mut transaction = testbed.db.transaction()?;
            let claimed = transaction.query(&statement, &[&index, &i64::MIN, &i64::MAX, &1000_i64])?;
            ensure!(claimed.len() == 1000, "{} rows were claimed", claimed.len());
            Ok(transaction.rollback()?)
        })?;
        let name = format!("claim of the 1,000 {which} of {rows} rows, the statement alone");
        report.add(Row::of(name, "ms", &times));
    }
    Ok(())
}

/// Restarts the server, and counts from the moment at which it takes connections.
fn start(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    testbed.cluster.restart(StopMode::Fast)?;
    let started = Instant::now();
    testbed.db = testbed.connect()?;
    let (patience, pause) = (Duration::from_secs(300), Duration::from_millis(2));
    waiting::until("the start of a worker", patience, pause, || Ok(!testbed.workers()?.is_empty()))?;
    let running = started.elapsed().as_secs_f64() * 1000.0;
    waiting::until("the count of the queue", patience, pause, || Ok(testbed.queued()? >= rows))?;
    let counted = started.elapsed().as_secs_f64() * 1000.0;
    report.add(Row::new(
        format!("start with {rows} rows queued: until the worker is there, until queue_stats() has counted"),
        format!("{} ms, {} ms", short(running), short(counted)),
    ));
    // A row that is committed now is not kept waiting by what has to be gone through.
    testbed.standin.reset()?;
    testbed.resume()?;
    let commit = [Writer::new(testbed)?.insert()?];
    let mut delays = Delays::default();
    waiting::until("arrival of the row", Duration::from_secs(60), OFTEN, || {
        delays = Delays::until_now(testbed, &commit)?;
        Ok(!delays.from_commit.is_empty())
    })?;
    testbed.pause()?;
    let name = format!("a row committed just after delivery of {rows} rows was resumed: until its arrival");
    report.add(Row::of(name, "ms", &delays.from_commit));
    Ok(())
}

/// Milliseconds of several tries.
fn milliseconds(tries: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..tries {
        interrupt::check()?;
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}
