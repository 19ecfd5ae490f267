//! How long a row takes from its commit to its arrival: in peace, in a stream, behind a backlog.
//!
//! Writer and stand-in read the same clock. The time counts from the moment at which the commit has returned to
//! the writer; a row that arrived before that counts as zero. The time from the INSERT's start is told beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{ensure, Context, Result};
use postgres::Client;

use audit_algolia_tests::server::Installation;
use audit_algolia_tests::standin::id_hash;

use super::report::{Reach, Report, Row};
use super::spread::{percentile, short, Spread};
use super::world::{values, World, COLUMNS, INDEX};
use super::Scale;
use crate::interrupt;

const COMMITS: usize = 500;
/// Writers and time of the stream of a thousand rows a second.
const WRITERS: u64 = 4;
const STREAM: Duration = Duration::from_secs(5);
const PER_WRITER: u64 = 250;

/// A row that was committed, and when, in microseconds since 1970.
pub(super) struct Commit {
    pub(super) id: i64,
    begun: i64,
    pub(super) committed: i64,
}

/// Milliseconds from commit and from the INSERT's start to arrival.
struct Delays {
    from_commit: Vec<f64>,
    from_insert: Vec<f64>,
}

impl Delays {
    fn at(&self, percent: f64) -> f64 {
        percentile(&self.from_commit, percent).unwrap_or(f64::NAN)
    }
}

pub(super) fn measure(installation: &Arc<Installation>, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut world = World::start(installation)?;
    world.light.set_latency(20)?;
    world.set(&[("audit_algolia.workers", "2")], 2)?;
    // The first requests open connections.
    world.load(2_000)?;
    world.wait_until_empty()?;

    let idle = idle(&mut world)?;
    tell(report, "idle queue", &idle, Some((2.0, 10.0)));
    let stream = stream(&mut world, report)?;
    tell(report, "1,000 inserts a second", &stream, None);
    let p99 = stream.at(99.0);
    report.add(
        Row::new("freshness at 1,000 inserts a second, p99", format!("{} ms", short(p99)))
            .reach(Reach::AtMost(25.0, "ms", p99)),
    );
    let (behind, left) = behind_backlog(&mut world, scale.backlog)?;
    let name = format!("backlog of {} rows", scale.backlog);
    tell(report, &name, &behind, None);
    report.note(format!(
        "Behind the backlog {} rows were watched, while {left} to {} others waited.",
        behind.from_commit.len(),
        scale.backlog
    ));
    for percent in [50.0, 99.0] {
        let pair = (behind.at(percent), idle.at(percent));
        // Below what the scheduler takes to wake a process the ratio says nothing: less counts as a millisecond.
        let ratio = Spread::of(&[pair.0.max(1.0) / pair.1.max(1.0)]);
        report.add(
            Row::new(
                format!("freshness behind the backlog against idle, p{percent}"),
                format!("{} ms against {} ms", short(pair.0), short(pair.1)),
            )
            .ratio(ratio)
            .reach(Reach::RatioAtMost(3.0)),
        );
    }
    Ok(())
}

fn tell(report: &mut Report, name: &str, delays: &Delays, reach: Option<(f64, f64)>) {
    report.keep(&format!("freshness, {name}"), "ms from commit", &delays.from_commit);
    let row = |percent: f64, word: &str| {
        let insert = percentile(&delays.from_insert, percent).unwrap_or(f64::NAN);
        let (value, from_insert) = (short(delays.at(percent)), short(insert));
        Row::new(
            format!("freshness, {name}, {word}"),
            format!("{value} ms ({from_insert} from the INSERT's start)"),
        )
    };
    let (p50, p99, max) = (row(50.0, "p50"), row(99.0, "p99"), row(100.0, "max"));
    match reach {
        Some((median, tail)) => {
            report.add(p50.reach(Reach::AtMost(median, "ms", delays.at(50.0))));
            report.add(p99.reach(Reach::AtMost(tail, "ms", delays.at(99.0))));
        }
        None => {
            report.add(p50);
            report.add(p99);
        }
    }
    report.add(max);
}

/// One commit after the other, each with time to arrive.
fn idle(world: &mut World) -> Result<Delays> {
    world.light.reset()?;
    let mut commits = Vec::with_capacity(COMMITS);
    let mut writer = Writer::new(world)?;
    for _ in 0..COMMITS {
        interrupt::check()?;
        commits.push(writer.insert()?);
        sleep(Duration::from_millis(6));
    }
    arrivals(world, &commits)
}

fn stream(world: &mut World, report: &mut Report) -> Result<Delays> {
    world.light.reset()?;
    let started = Instant::now();
    let commits = write_evenly(world, STREAM)?;
    let rate = commits.len() as f64 / started.elapsed().as_secs_f64();
    report.note(format!("The stream had {} inserts a second.", short(rate)));
    arrivals(world, &commits)
}

/// Several writers at an even pace, a thousand rows a second if the machine lets them.
pub(super) fn write_evenly(world: &World, length: Duration) -> Result<Vec<Commit>> {
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(Writer::new(world)?);
    }
    let started = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter_mut()
            .map(|writer| {
                scope.spawn(move || -> Result<Vec<Commit>> {
                    let mut commits = Vec::new();
                    while started.elapsed() < length {
                        interrupt::check()?;
                        let due = Duration::from_secs_f64(commits.len() as f64 / PER_WRITER as f64);
                        sleep(due.saturating_sub(started.elapsed()));
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
        interrupt::check()?;
        commits.push(writer.insert()?);
        sleep(Duration::from_millis(2));
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

struct Writer {
    db: Client,
    statement: postgres::Statement,
}

impl Writer {
    fn new(world: &World) -> Result<Writer> {
        let mut db = world.cluster.connect("postgres", "postgres")?;
        let insert =
            format!("INSERT INTO audit_log ({COLUMNS}) VALUES ({}) RETURNING id", values("$1::bigint"));
        let statement = db.prepare(&insert)?;
        Ok(Writer { db, statement })
    }

    fn insert(&mut self) -> Result<Commit> {
        let begun = micros();
        let id = self.db.query_one(&self.statement, &[&7_i64])?.get(0);
        Ok(Commit { id, begun, committed: micros() })
    }
}

fn micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
