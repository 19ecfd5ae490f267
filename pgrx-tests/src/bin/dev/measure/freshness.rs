//! How long a row takes from its commit to its arrival: in peace, in a stream, behind a backlog.
//!
//! Writer and stand-in read the same clock. The time counts from the moment at which the commit has returned to
//! the writer; a row that arrived before that counts as zero. The time from the INSERT's start is told beside it.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{ensure, Context, Result};
use postgres::Client;

use audit_algolia_tests::standin::id_hash;

use super::report::{Reach, Report, Row};
use super::spread::{percentile, short, Spread};
use super::world::{values, World, COLUMNS, INDEX};
use super::Site;
use crate::interrupt;
use crate::waiting;

const COMMITS: usize = 500;
/// Sessions that write a stream.
const WRITERS: u64 = 4;

/// A row that was committed, and when, in microseconds since 1970.
pub(super) struct Commit {
    pub(super) id: i64,
    begun: i64,
    pub(super) committed: i64,
}

/// Milliseconds from commit and from the INSERT's start to arrival.
pub(super) struct Delays {
    from_commit: Vec<f64>,
    from_insert: Vec<f64>,
}

impl Delays {
    pub(super) fn at(&self, percent: f64) -> f64 {
        percentile(&self.from_commit, percent).unwrap_or(f64::NAN)
    }

    fn since_start(&self, percent: f64) -> f64 {
        percentile(&self.from_insert, percent).unwrap_or(f64::NAN)
    }

    /// Rows that arrived before their commit had returned to the writer.
    fn ahead(&self) -> usize {
        self.from_commit.iter().filter(|delay| **delay == 0.0).count()
    }

    /// p50, p99 and the most, and the same from the INSERT's start, as fields of a table.
    fn fields(&self, name: &str) -> Vec<String> {
        let all = [&self.from_commit, &self.from_insert];
        let figures = all.into_iter().flat_map(|delays| {
            [50.0, 99.0, 100.0]
                .map(|percent| percentile(delays, percent).map_or_else(|| "–".to_owned(), short))
        });
        let counts = [self.from_commit.len(), self.ahead()].map(|count| count.to_string());
        std::iter::once(name.to_owned()).chain(counts).chain(figures).collect()
    }
}

pub(super) fn measure(site: &Site, report: &mut Report) -> Result<()> {
    let mut world = World::start(&site.installation)?;
    world.light.set_latency(20)?;
    world.set(&[("audit_algolia.workers", "2")], 2)?;
    // The first requests open connections.
    world.load(2_000)?;
    world.wait_until_empty()?;

    let idle = idle(&mut world, COMMITS)?;
    for (percent, most) in [(50.0, 2.0), (99.0, 10.0)] {
        promise(report, "idle queue", &idle, percent, most);
    }
    let slow = stream(&mut world, 100, site.scale.stream, report)?;
    let quick = stream(&mut world, 1000, site.scale.stream, report)?;
    promise(report, "1,000 inserts a second", &quick, 99.0, 25.0);
    let backlog = site.scale.backlog;
    let (behind, left) = behind_backlog(&mut world, backlog)?;
    report.note(format!(
        "Behind the backlog {} rows were watched, while {left} to {backlog} others waited.",
        behind.from_commit.len(),
    ));
    for percent in [50.0, 99.0] {
        let (late, soon) = (behind.at(percent), idle.at(percent));
        // Idle rows may need no time at all: then this ratio is infinite, and that from the INSERT's start says more.
        let against = |behind: f64, idle: f64| format!("{} ms against {} ms", short(behind), short(idle));
        let measured = format!(
            "{}; from the INSERT's start {}",
            against(late, soon),
            against(behind.since_start(percent), idle.since_start(percent))
        );
        let name = format!("freshness behind a backlog of {backlog} rows against idle, p{percent}");
        let ratio = if late == soon { 1.0 } else { late / soon };
        report.add(Row::new(name, measured).ratio(Spread::of(&[ratio])).reach(Reach::RatioAtMost(3.0)));
    }
    let head = [
        "traffic",
        "rows",
        "there before",
        "p50",
        "p99",
        "max",
        "p50 from start",
        "p99 from start",
        "max from start",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let behind_name = format!("behind a backlog of {backlog} rows");
    let cases = [
        ("idle", &idle),
        ("100 inserts a second", &slow),
        ("1,000 inserts a second", &quick),
        (behind_name.as_str(), &behind),
    ];
    for (name, delays) in cases {
        report.keep(&format!("freshness, {name}"), "ms from commit", &delays.from_commit);
        lines.push(delays.fields(name));
    }
    report.table(
        "Freshness",
        "Milliseconds from the moment at which the commit had returned to the writer to arrival at a server that \
         answers after 20 ms, and from the INSERT's start; two workers. A row that was there before its commit had \
         returned counts as 0. Four sessions write the streams, one statement and commit a row.",
        lines,
    );
    Ok(())
}

fn promise(report: &mut Report, name: &str, delays: &Delays, percent: f64, most: f64) {
    let value = delays.at(percent);
    let measured = format!(
        "{} ms; {} of {} rows were there before their commit had returned, and count as 0",
        short(value),
        delays.ahead(),
        delays.from_commit.len()
    );
    let row = Row::new(format!("freshness, {name}, p{percent}"), measured);
    report.add(row.reach(Reach::AtMost(most, "ms", value)));
}

/// One commit after the other, each with time to arrive.
pub(super) fn idle(world: &mut World, count: usize) -> Result<Delays> {
    world.light.reset()?;
    let mut commits = Vec::with_capacity(count);
    let mut writer = Writer::new(world)?;
    for _ in 0..count {
        commits.push(writer.insert()?);
        waiting::pass(Duration::from_millis(6))?;
    }
    arrivals(world, &commits)
}

fn stream(world: &mut World, rate: u64, length: Duration, report: &mut Report) -> Result<Delays> {
    world.light.reset()?;
    let started = Instant::now();
    let commits = write_evenly(world, rate, length)?;
    let real = commits.len() as f64 / started.elapsed().as_secs_f64();
    report.note(format!("The stream of {rate} inserts a second had {}.", short(real)));
    arrivals(world, &commits)
}

/// Several writers at an even pace, so many rows a second if the machine lets them.
pub(super) fn write_evenly(world: &World, rate: u64, length: Duration) -> Result<Vec<Commit>> {
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(Writer::new(world)?);
    }
    let started = Instant::now();
    let per_writer = rate as f64 / WRITERS as f64;
    thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter_mut()
            .map(|writer| {
                scope.spawn(move || -> Result<Vec<Commit>> {
                    let mut commits = Vec::new();
                    while started.elapsed() < length {
                        interrupt::check()?;
                        let due = Duration::from_secs_f64(commits.len() as f64 / per_writer);
                        waiting::pass(due.saturating_sub(started.elapsed()))?;
                        commits.push(writer.insert()?);
                    }
                    Ok(commits)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let commits = thread.join().map_err(|_| anyhow::anyhow!("a writer has failed"))?;
            all.extend(commits?);
        }
        Ok(all)
    })
}

/// Commits during the drain of a backlog; also how much of it was left at the end.
fn behind_backlog(world: &mut World, rows: u64) -> Result<(Delays, u64)> {
    world.pause()?;
    world.load(rows)?;
    world.light.reset()?;
    let mut writer = Writer::new(world)?;
    world.resume()?;
    let mut commits: Vec<Commit> = Vec::with_capacity(COMMITS);
    let mut left = rows;
    while commits.len() < COMMITS {
        commits.push(writer.insert()?);
        waiting::pass(Duration::from_millis(2))?;
        if commits.len() % 10 == 0 {
            let now = world.queued()?;
            if now < 20_000 {
                break;
            }
            left = now;
        }
    }
    world.wait_until_empty()?;
    Ok((arrivals(world, &commits)?, left))
}

fn arrivals(world: &mut World, commits: &[Commit]) -> Result<Delays> {
    world.wait_until_empty()?;
    let times: HashMap<u64, i64> = world.light.times(INDEX)?.into_iter().collect();
    let mut delays = Delays { from_commit: Vec::new(), from_insert: Vec::new() };
    for commit in commits {
        let at = times.get(&id_hash(&commit.id.to_string()));
        let at = at.with_context(|| format!("row {} did not arrive", commit.id))?;
        delays.from_commit.push((at - commit.committed).max(0) as f64 / 1000.0);
        delays.from_insert.push((at - commit.begun) as f64 / 1000.0);
    }
    ensure!(!commits.is_empty(), "nothing was committed");
    Ok(delays)
}

/// A session that inserts a row at a time.
pub(super) struct Writer {
    db: Client,
    statement: postgres::Statement,
}

impl Writer {
    pub(super) fn new(world: &World) -> Result<Writer> {
        let mut db = world.cluster.connect("postgres", "postgres")?;
        let insert =
            format!("INSERT INTO audit_log ({COLUMNS}) VALUES ({}) RETURNING id", values("$1::bigint"));
        let statement = db.prepare(&insert)?;
        Ok(Writer { db, statement })
    }

    pub(super) fn insert(&mut self) -> Result<Commit> {
        let begun = micros();
        let id = self.db.query_one(&self.statement, &[&7_i64])?.get(0);
        Ok(Commit { id, begun, committed: micros() })
    }
}

fn micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
