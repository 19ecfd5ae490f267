//! Whether it stays fast while another session's snapshot, or a vacuum that never comes, keeps delivered rows in place;
//! and how it gets over that.

mod many;

use std::time::{Duration, Instant};

use anyhow::Result;
use postgres::Client;

use super::drain::{drain, rows_per_second};
use super::freshness::idle;
use super::phases::dead_tuples;
use super::report::{Reach, Report, Row};
use super::spread::{short, Spread};
use super::world::World;
use super::Site;
use crate::waiting::{self, SELDOM};

/// The deliveries are made in so many parts of the same size.
const PARTS: u64 = 6;
const COMMITS: usize = 100;
/// So long autovacuum is waited for, with a nap of a second.
const VACUUM: Duration = Duration::from_secs(60);

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let mut world = World::start(&site.installation)?;
    // Nobody's rate: memory and files are made.
    drain(&mut world, site.scale.pinned / PARTS)?;
    pinned(&mut world, site.scale.pinned, report)?;
    unvacuumed(&mut world, site.scale.unvacuumed, report)?;
    many::measure(&mut world, site.scale.counted, report)
}

/// A session that holds a snapshot, as a long report does.
fn pin(world: &World) -> Result<Client> {
    let mut db = world.cluster.connect("postgres", "postgres")?;
    db.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")?;
    Ok(db)
}

/// How things stand at one moment.
struct Moment {
    name: String,
    rate: f64,
    fresh: (f64, f64),
    queue: f64,
    dead: i64,
}

impl Moment {
    fn look(world: &mut World, name: impl Into<String>, rows: u64) -> Result<Moment> {
        let rate = drain(world, rows)?.rate;
        let delays = idle(world, COMMITS)?;
        let size = "SELECT pg_total_relation_size('audit_algolia.queue')::float8 / 1024 / 1024";
        Ok(Moment {
            name: name.into(),
            rate,
            fresh: (delays.at(50.0), delays.at(99.0)),
            queue: world.db.query_one(size, &[])?.get(0),
            dead: dead_tuples(&mut world.db)?,
        })
    }
}

fn pinned(world: &mut World, rows: u64, report: &mut Report) -> Result<()> {
    let part = rows / PARTS;
    let mut moments = vec![Moment::look(world, "before", part)?];
    let snapshot = pin(world)?;
    for at in 1..=PARTS {
        let name = format!("pinned, {} delivered", at * part);
        moments.push(Moment::look(world, name, part)?);
    }
    drop(snapshot);
    moments.push(Moment::look(world, "snapshot gone", part)?);
    let vacuumed = vacuumed(world)?;
    moments.push(Moment::look(world, "and vacuumed", part)?);
    moments.push(Moment::look(world, "and once more", part)?);
    if let [before, .., last, _, _, _] = moments.as_slice() {
        report.add(
            Row::new(
                format!("pop with a snapshot pinned, after {rows} deliveries against before it was"),
                format!("{} against {}", rows_per_second(last.rate), rows_per_second(before.rate)),
            )
            .ratio(Spread::of(&[before.rate / last.rate]))
            .reach(Reach::RatioAtMost(2.0)),
        );
    }
    report.add(match vacuumed {
        Some(time) => Row::new(
            "from the end of the snapshot until autovacuum has removed the dead rows",
            format!("{} s (autovacuum_naptime = 1s)", short(time.as_secs_f64())),
        ),
        None => Row::not_measured(
            "autovacuum after the end of the snapshot",
            format!("it had not come after {} s; VACUUM by hand", VACUUM.as_secs()),
        ),
    });
    tell(report, format!("{rows} deliveries with a snapshot pinned"), part, &moments);
    Ok(())
}

/// Waits for autovacuum, and vacuums itself should that not come.
fn vacuumed(world: &mut World) -> Result<Option<Duration>> {
    world.cluster.set(&[("autovacuum_naptime", "1s")])?;
    let started = Instant::now();
    let mut came = None;
    waiting::until("autovacuum", 2 * VACUUM, SELDOM, || {
        came = (dead_tuples(&mut world.db)? < 5_000).then(|| started.elapsed());
        Ok(came.is_some() || started.elapsed() > VACUUM)
    })?;
    if came.is_none() {
        world.db.batch_execute("VACUUM audit_algolia.queue")?;
    }
    world.cluster.set(&[("autovacuum_naptime", "1min")])?;
    Ok(came)
}

fn unvacuumed(world: &mut World, rows: u64, report: &mut Report) -> Result<()> {
    world.cluster.set(&[("autovacuum", "off")])?;
    let part = rows / PARTS;
    let mut moments = Vec::new();
    for at in 1..=PARTS {
        moments.push(Moment::look(world, format!("{} delivered", at * part), part)?);
    }
    world.cluster.set(&[("autovacuum", "on")])?;
    if let (Some(first), Some(last)) = (moments.first(), moments.last()) {
        report.add(
            Row::new(
                format!("pop without autovacuum, after {rows} deliveries against the first"),
                format!("{} against {}", rows_per_second(last.rate), rows_per_second(first.rate)),
            )
            .ratio(Spread::of(&[first.rate / last.rate])),
        );
    }
    tell(report, format!("{rows} deliveries while autovacuum is off"), part, &moments);
    Ok(())
}

fn tell(report: &mut Report, title: String, part: u64, moments: &[Moment]) {
    let head = [
        "moment",
        "rows/s",
        "ms for 1,000 rows",
        "freshness p50 ms",
        "p99 ms",
        "queue on disk MB",
        "dead rows",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for Moment { name, rate, fresh: (p50, p99), queue, dead } in moments {
        report.keep(&format!("{title}: {name}"), "rows/s, p50 ms, p99 ms, MB", &[*rate, *p50, *p99, *queue]);
        let figures = [*rate, 1e6 / rate, *p50, *p99, *queue, *dead as f64].map(short);
        lines.push(std::iter::once(name.clone()).chain(figures).collect());
    }
    let legend = format!(
        "Each moment is a drain of {part} rows and then {COMMITS} single commits; the queue's size is that of heap and \
         index after both, dead rows are what the statistics tell."
    );
    report.table(title, legend, lines);
}
