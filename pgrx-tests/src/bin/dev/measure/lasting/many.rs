//! Measures what it takes to count very many queued rows, to claim some of them, and to start with them. On request,
//! compares it with fewer rows.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use audit_algolia_tests::server::StopMode;

use super::super::commits::{Delays, Writer};
use super::super::report::Report;
use super::super::row::{Row, Target};
use super::super::rows::{Records, INDEX};
use super::super::setup::Setup;
use super::super::testbed::Testbed;
use crate::interrupt;
use crate::waiting::{self, OFTEN};

const ASKED: usize = 10;
const CLAIMS: [(&str, &str); 2] = [
    ("newest", include_str!("../../../../../../sql/worker/claim_newest.sql")),
    ("oldest", include_str!("../../../../../../sql/worker/claim_oldest.sql")),
];
/// Ten times as many rows may make nothing slower by more than this factor: figures of about a millisecond vary as much
/// by themselves.
const GROWTH: f64 = 1.5;

/// The names of figures begin with what they are about.
const STATISTICS: &str = "queue_stats()";

/// A figure in milliseconds.
struct Figure {
    name: String,
    times: Vec<f64>,
    /// Whether it should be the same with more rows.
    is_constant: bool,
}

/// With this many rows.
pub(super) fn measure(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    for Figure { name, times, .. } in figures(testbed, rows, rows)? {
        let row = Row::of(&name, "ms", &times);
        report.add(if name.starts_with(STATISTICS) { row.at_most(2.0) } else { row });
    }
    Ok(())
}

/// With this many rows, compared with a tenth of them.
pub(in super::super) fn compare(setup: &Setup, report: &mut Report) -> Result<()> {
    let rows = setup.scale.counted;
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    let fewer = figures(&mut testbed, rows / 10, rows / 10)?;
    let more = figures(&mut testbed, rows, rows - rows / 10)?;
    for (Figure { name, times, is_constant }, fewer) in more.iter().zip(fewer) {
        let row = Row::of(name, "ms", times).against("over a tenth", &fewer.times);
        report.add(if *is_constant { row.target(Target::RatioAtMost(GROWTH)) } else { row });
    }
    Ok(())
}

/// All figures with this many rows, of which the last ones are queued first.
fn figures(testbed: &mut Testbed, rows: u64, on_top: u64) -> Result<Vec<Figure>> {
    testbed.pause()?;
    // The captured rows are no longer needed and take up space.
    testbed.begin_round()?;
    testbed.load(Records::Small, on_top)?;
    let snapshot = testbed.pin_snapshot()?;
    let count = "SELECT count(*) FROM audit_algolia.queue";
    let mut figures = vec![
        Figure {
            name: format!("{STATISTICS} over {rows} rows, a snapshot pinned"),
            times: milliseconds(ASKED, || testbed.queued().map(drop))?,
            is_constant: true,
        },
        Figure {
            name: format!("count(*) of the queue over {rows} rows"),
            times: milliseconds(1, || Ok(testbed.db.query_one(count, &[]).map(drop)?))?,
            is_constant: false,
        },
    ];
    for (which, statement) in CLAIMS {
        figures.push(Figure {
            name: format!("claim of the 1,000 {which} of {rows} rows, the statement alone"),
            times: claim(testbed, statement)?,
            is_constant: true,
        });
    }
    drop(snapshot);
    let start = format!("start with {rows} rows queued");
    let arrival =
        format!("a row committed just after delivery of {rows} rows was resumed: until its arrival");
    let (running, counted) = start_again(testbed)?;
    for (name, time, is_constant) in [
        (format!("{start}: until the worker is there"), running, true),
        (format!("{start}: until queue_stats() has counted"), counted, false),
        (arrival, first_arrival(testbed)?, true),
    ] {
        figures.push(Figure { name, times: vec![time], is_constant });
    }
    Ok(figures)
}

/// The statement itself, as workers run it, over the whole queue.
fn claim(testbed: &mut Testbed, statement: &str) -> Result<Vec<f64>> {
    let id = "SELECT id FROM audit_algolia.index WHERE name = $1";
    let index: i32 = testbed.db.query_one(id, &[&INDEX])?.get(0);
    let statement = testbed.db.prepare(statement)?;
    milliseconds(ASKED, || {
        let mut transaction = testbed.db.transaction()?;
        let claimed = transaction.query(&statement, &[&index, &i64::MIN, &i64::MAX, &1000_i64])?;
        ensure!(claimed.len() == 1000, "{} rows were claimed", claimed.len());
        Ok(transaction.rollback()?)
    })
}

/// Restarts the server. Measures from the moment when it accepts connections until a worker runs, and until the rows
/// are counted.
fn start_again(testbed: &mut Testbed) -> Result<(f64, f64)> {
    let rows = testbed.queued()?;
    testbed.cluster.restart(StopMode::Fast)?;
    let started = Instant::now();
    testbed.db = testbed.connect()?;
    let (patience, pause) = (Duration::from_secs(300), Duration::from_millis(2));
    waiting::until("the start of a worker", patience, pause, || Ok(!testbed.workers()?.is_empty()))?;
    let running = started.elapsed().as_secs_f64() * 1000.0;
    waiting::until("the count of the queue", patience, pause, || Ok(testbed.queued()? >= rows))?;
    Ok((running, started.elapsed().as_secs_f64() * 1000.0))
}

/// A row that is committed now must not wait for the scan of the backlog.
fn first_arrival(testbed: &mut Testbed) -> Result<f64> {
    testbed.standin.reset()?;
    testbed.resume()?;
    let commit = [Writer::new(testbed)?.insert()?];
    let mut arrived = None;
    waiting::until("arrival of the row", Duration::from_secs(60), OFTEN, || {
        arrived = Delays::until_now(testbed, &commit)?.from_commit.first().copied();
        Ok(arrived.is_some())
    })?;
    testbed.pause()?;
    Ok(arrived.unwrap_or_default())
}

/// The milliseconds of several tries.
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
