//! Measures how long a row takes from its commit to its arrival: alone, in a stream, and behind a backlog.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::commits::{write_evenly, Commit, Delays, Writer};
use super::report::Report;
use super::row::{Row, Target};
use super::rows::Records;
use super::setup::Setup;
use super::spread::{percentile, short};
use super::testbed::Testbed;
use crate::waiting;

const COMMITS: usize = 500;
/// From one commit of a quiet queue to the next: more than a round trip, so that no row waits for the batch of another.
const BETWEEN: Duration = Duration::from_millis(30);
/// The same if the server answers at once.
pub(super) const BETWEEN_WITHOUT_LATENCY: Duration = Duration::from_millis(6);

const HEAD: [&str; 9] = [
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

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    testbed.warm_up(2)?;

    let idle = idle(&mut testbed, COMMITS, BETWEEN)?;
    for (percent, most) in [(50.0, 0.5), (99.0, 2.0)] {
        promise(report, "idle queue", &idle, percent, most);
    }
    let length = setup.scale.stream;
    let slow = stream(&mut testbed, 100, length)?;
    let quick = stream(&mut testbed, 1000, length)?;
    // With latency, rows wait for the return of the batch before. `requests` measures that.
    testbed.standin.set_latency(0)?;
    let local = stream(&mut testbed, 1000, length)?;
    testbed.standin.set_latency(20)?;
    promise(report, "1,000 inserts a second, no latency", &local, 99.0, 10.0);
    let rates = [&slow, &quick].map(|one| short(one.from_commit.len() as f64 / length.as_secs_f64()));
    report.note(format!("The streams of 100 and 1,000 inserts a second had {}.", rates.join(" and ")));
    let backlog = setup.scale.backlog;
    let (behind, left) = behind_backlog(&mut testbed, backlog)?;
    report.note(format!(
        "Behind the backlog {} rows were watched, while {left} to {backlog} others waited.",
        behind.from_commit.len(),
    ));
    let behind_name = format!("behind a backlog of {backlog} rows");
    for (percent, most) in [(50.0, 3.0), (99.0, 10.0)] {
        promise(report, &behind_name, &behind, percent, most);
    }
    let cases = [
        ("idle", &idle),
        ("100 inserts a second", &slow),
        ("1,000 inserts a second", &quick),
        ("1,000 inserts a second, no latency", &local),
        (behind_name.as_str(), &behind),
    ];
    let mut lines = Vec::new();
    for (name, delays) in cases {
        report.keep(&format!("freshness, {name}"), "ms from commit", &delays.from_commit);
        lines.push(cells(name, delays));
    }
    report.table(
        "Freshness",
        "Milliseconds from the moment at which the commit had returned to the writer to arrival at a server that \
         answers after 20 ms, or at once, and from the INSERT's start; two workers. At 20 ms, a row of a stream also waits \
         for the return of the batch before. A row that was there before its commit had \
         returned counts as 0. Four sessions write the streams, one statement and commit a row.",
        &HEAD,
        lines,
    );
    Ok(())
}

/// p50, p99 and the maximum, from the commit and from the start of the INSERT.
fn cells(name: &str, delays: &Delays) -> Vec<String> {
    let figures = [&delays.from_commit, &delays.from_insert].into_iter().flat_map(|delays| {
        [50.0, 99.0, 100.0].map(|percent| percentile(delays, percent).map_or_else(|| "–".to_owned(), short))
    });
    let counts = [delays.from_commit.len(), delays.ahead()].map(|count| count.to_string());
    std::iter::once(name.to_owned()).chain(counts).chain(figures).collect()
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
    report.add(row.target(Target::AtMost(most, "ms", value)));
}

/// One commit after the other, each with time to arrive.
pub(super) fn idle(testbed: &mut Testbed, count: usize, between: Duration) -> Result<Delays> {
    testbed.standin.reset()?;
    let mut commits = Vec::with_capacity(count);
    let mut writer = Writer::new(testbed)?;
    for _ in 0..count {
        commits.push(writer.insert()?);
        waiting::pass(between)?;
    }
    all_delays(testbed, &commits)
}

/// Commits at an even pace.
pub(super) fn stream(testbed: &mut Testbed, rate: u64, length: Duration) -> Result<Delays> {
    testbed.standin.reset()?;
    let commits = write_evenly(testbed, rate, length)?;
    all_delays(testbed, &commits)
}

/// Commits during the drain of a backlog. Also returns how much of it was left at the end.
fn behind_backlog(testbed: &mut Testbed, rows: u64) -> Result<(Delays, u64)> {
    testbed.pause()?;
    testbed.load(Records::Small, rows)?;
    testbed.standin.reset()?;
    let mut writer = Writer::new(testbed)?;
    testbed.resume()?;
    let mut commits: Vec<Commit> = Vec::with_capacity(COMMITS);
    let mut left = rows;
    while commits.len() < COMMITS {
        commits.push(writer.insert()?);
        waiting::pass(Duration::from_millis(2))?;
        if commits.len() % 10 == 0 {
            let now = testbed.queued()?;
            if now < 20_000 {
                break;
            }
            left = now;
        }
    }
    Ok((all_delays(testbed, &commits)?, left))
}

/// Waits until all of the rows have arrived.
fn all_delays(testbed: &mut Testbed, commits: &[Commit]) -> Result<Delays> {
    testbed.wait_until_empty()?;
    let delays = Delays::until_now(testbed, commits)?;
    let (arrived, all) = (delays.from_commit.len(), commits.len());
    ensure!(all > 0 && arrived == all, "{arrived} of {all} rows arrived");
    Ok(delays)
}
