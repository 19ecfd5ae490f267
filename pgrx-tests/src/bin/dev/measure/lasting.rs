//! Whether it stays fast while another session's snapshot keeps delivered rows from being removed.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use postgres::Client;

use audit_algolia_tests::server::Installation;

use super::drain::{drain, rows_per_second};
use super::report::{Reach, Report, Row};
use super::spread::{short, Spread};
use super::world::World;
use super::Scale;
use crate::interrupt;

/// The deliveries are made in so many parts of the same size.
const PARTS: u64 = 6;
const ASKED: usize = 10;

pub(super) fn measure(installation: &Arc<Installation>, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut world = World::start(installation)?;
    drain(&mut world, scale.pinned / PARTS)?;
    let pin = pin(&world)?;
    let mut rates = Vec::new();
    for _ in 0..PARTS {
        rates.push(drain(&mut world, scale.pinned / PARTS)?.rate);
    }
    report.keep("drain with a snapshot pinned, by part", "rows/s", &rates);
    if let (Some(first), Some(last)) = (rates.first(), rates.last()) {
        report.add(
            Row::new(
                format!("pop with a snapshot pinned, after {} deliveries against the first", scale.pinned),
                format!("{} against {}", rows_per_second(*last), rows_per_second(*first)),
            )
            .ratio(Spread::of(&[first / last]))
            .reach(Reach::RatioAtMost(2.0)),
        );
    }
    statistics(&mut world, scale, report)?;
    drop(pin);
    Ok(())
}

/// A session that holds a snapshot, as a long report does.
fn pin(world: &World) -> Result<Client> {
    let mut db = world.cluster.connect("postgres", "postgres")?;
    db.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")?;
    Ok(db)
}

fn statistics(world: &mut World, scale: &Scale, report: &mut Report) -> Result<()> {
    world.pause()?;
    world.load(scale.counted)?;
    let mut times = Vec::new();
    for _ in 0..ASKED {
        interrupt::check()?;
        let started = Instant::now();
        world.queued()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let started = Instant::now();
    world.db.query_one("SELECT count(*) FROM audit_algolia.queue", &[])?;
    let count = started.elapsed().as_secs_f64() * 1000.0;
    let name = format!("queue_stats() over {} rows, a snapshot pinned", scale.counted);
    report.keep(&name, "ms", &times);
    if let Some(spread) = Spread::of(&times) {
        report.add(
            Row::new(
                name,
                format!(
                    "{} ms at best, {} ms at most; count(*): {} ms",
                    short(spread.least),
                    short(spread.greatest),
                    short(count)
                ),
            )
            .reach(Reach::AtMost(10.0, "ms", spread.least)),
        );
    }
    Ok(())
}
