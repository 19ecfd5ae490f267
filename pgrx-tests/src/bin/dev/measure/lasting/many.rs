//! Very many rows in the queue: what it takes to count them, to claim of them, and to start with them.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use audit_algolia_tests::server::StopMode;

use super::super::freshness::Writer;
use super::super::report::{Reach, Report, Row};
use super::super::spread::{short, Spread};
use super::super::world::{World, INDEX};
use super::pin;
use crate::interrupt;
use crate::waiting::{self, OFTEN};

const ASKED: usize = 10;
const CLAIMS: [(&str, &str); 2] = [
    ("newest", include_str!("../../../../../../sql/worker/claim_newest.sql")),
    ("oldest", include_str!("../../../../../../sql/worker/claim_oldest.sql")),
];

pub(super) fn measure(world: &mut World, rows: u64, report: &mut Report) -> Result<()> {
    world.pause()?;
    // What has been captured is no longer of use, and takes room.
    world.begin_round()?;
    world.load(rows)?;
    let snapshot = pin(world)?;
    statistics(world, rows, report)?;
    claim(world, rows, report)?;
    drop(snapshot);
    start(world, rows, report)
}

fn statistics(world: &mut World, rows: u64, report: &mut Report) -> Result<()> {
    let times = times(|| world.queued().map(drop))?;
    let started = Instant::now();
    world.db.query_one("SELECT count(*) FROM audit_algolia.queue", &[])?;
    let count = short(started.elapsed().as_secs_f64() * 1000.0);
    let name = format!("queue_stats() over {rows} rows, a snapshot pinned");
    report.keep(&name, "ms", &times);
    if let Some(spread) = Spread::of(&times) {
        let row = Row::new(name, format!("{spread} ms; count(*): {count} ms"));
        report.add(row.reach(Reach::AtMost(10.0, "ms", spread.median)));
    }
    Ok(())
}

/// The statement itself, as workers run it: over the whole queue.
fn claim(world: &mut World, rows: u64, report: &mut Report) -> Result<()> {
    let id = "SELECT id FROM audit_algolia.index WHERE name = $1";
    let index: i32 = world.db.query_one(id, &[&INDEX])?.get(0);
    for (which, claim) in CLAIMS {
        let statement = world.db.prepare(claim)?;
        let times = times(|| {
            let mut transaction = world.db.transaction()?;
            let claimed = transaction.query(&statement, &[&index, &i64::MIN, &i64::MAX, &1000_i64])?;
            ensure!(claimed.len() == 1000, "{} rows were claimed", claimed.len());
            Ok(transaction.rollback()?)
        })?;
        let name = format!("claim of the 1,000 {which} of {rows} rows, the statement alone");
        report.keep(&name, "ms", &times);
        if let Some(spread) = Spread::of(&times) {
            report.add(Row::new(name, format!("{spread} ms")));
        }
    }
    Ok(())
}

/// Restarts the server, and counts from the moment at which it takes connections.
fn start(world: &mut World, rows: u64, report: &mut Report) -> Result<()> {
    world.cluster.restart(StopMode::Fast)?;
    let started = Instant::now();
    world.db = world.cluster.connect("postgres", "postgres")?;
    let (patience, pause) = (Duration::from_secs(300), Duration::from_millis(2));
    waiting::until("the start of a worker", patience, pause, || Ok(!world.workers()?.is_empty()))?;
    let running = started.elapsed().as_secs_f64() * 1000.0;
    waiting::until("the count of the queue", patience, pause, || Ok(world.queued()? >= rows))?;
    let counted = started.elapsed().as_secs_f64() * 1000.0;
    report.add(Row::new(
        format!("start with {rows} rows queued: until the worker is there, until queue_stats() has counted"),
        format!("{} ms, {} ms", short(running), short(counted)),
    ));
    // A row that is committed now is not kept waiting by what has to be gone through.
    world.light.reset()?;
    world.resume()?;
    let mut writer = Writer::new(world)?;
    let commit = writer.insert()?;
    let hash = audit_algolia_tests::standin::id_hash(&commit.id.to_string());
    let mut arrived = 0.0;
    waiting::until("arrival of the row", Duration::from_secs(60), OFTEN, || {
        let found = world.light.times(INDEX)?.into_iter().find(|(one, _)| *one == hash);
        if let Some((_, at)) = found {
            arrived = (at - commit.committed).max(0) as f64 / 1000.0;
        }
        Ok(found.is_some())
    })?;
    world.pause()?;
    report.add(Row::new(
        format!("a row committed just after delivery of {rows} rows was resumed: until its arrival"),
        format!("{} ms", short(arrived)),
    ));
    Ok(())
}

/// Milliseconds of several tries.
fn times(mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..ASKED {
        interrupt::check()?;
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}
