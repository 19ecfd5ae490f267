//! Measures whether delivery stays fast while another session's snapshot, or a missing vacuum, keeps dead rows in
//! place, and how it recovers.

pub(super) mod many;

use std::time::{Duration, Instant};

use anyhow::Result;

use super::freshness::{idle, BETWEEN_WITHOUT_LATENCY};
use super::report::Report;
use super::row::{Row, Target};
use super::rows::Records;
use super::setup::Setup;
use super::spread::{short, Spread};
use super::testbed::Testbed;
use crate::waiting::{self, SELDOM};

/// The number of equal parts in which the rows are delivered.
const PARTS: u64 = 6;
const COMMITS: usize = 100;
/// How long to wait for autovacuum, whose naptime is a second.
const VACUUM: Duration = Duration::from_secs(60);

const HEAD: [&str; 7] =
    ["moment", "rows/s", "ms for 1,000 rows", "freshness p50 ms", "p99 ms", "queue on disk MB", "dead rows"];

pub(super) fn measure(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut testbed = Testbed::start(&setup.installation, &[])?;
    // Memory and files are created, so this does not count.
    testbed.drain(Records::Small, setup.scale.pinned / PARTS)?;
    pinned(&mut testbed, setup.scale.pinned, report)?;
    unvacuumed(&mut testbed, setup.scale.unvacuumed, report)?;
    many::measure(&mut testbed, setup.scale.counted, report)
}

/// The figures at several moments.
struct Moments {
    /// How many rows the drain at each moment delivers.
    part: u64,
    /// The name of each moment, with the figures that [`HEAD`] names.
    moments: Vec<(String, [f64; 6])>,
}

impl Moments {
    fn new(rows: u64) -> Moments {
        Moments { part: rows / PARTS, moments: Vec::new() }
    }

    fn look(&mut self, testbed: &mut Testbed, name: impl Into<String>) -> Result<()> {
        let rate = testbed.drain(Records::Small, self.part)?.rate;
        let delays = idle(testbed, COMMITS, BETWEEN_WITHOUT_LATENCY)?;
        let size = "SELECT pg_total_relation_size('audit_algolia.queue')::float8 / 1024 / 1024";
        let size: f64 = testbed.db.query_one(size, &[])?.get(0);
        let dead = testbed.dead_rows()? as f64;
        let figures = [rate, 1e6 / rate, delays.at(50.0), delays.at(99.0), size, dead];
        self.moments.push((name.into(), figures));
        Ok(())
    }

    /// Measures after each of the parts.
    fn look_after_parts(&mut self, testbed: &mut Testbed, what: &str) -> Result<()> {
        (1..=PARTS).try_for_each(|at| self.look(testbed, format!("{what}{} delivered", at * self.part)))
    }

    /// How much lower the rate is at one moment than at the first.
    fn slower(&self, what: String, at: usize) -> Row {
        let rate = |at: usize| self.moments.get(at).map_or(f64::NAN, |(_, figures)| figures[0]);
        let (first, later) = (rate(0), rate(at));
        let measured = format!("{} rows/s against {} rows/s", short(later), short(first));
        Row::new(what, measured).ratio(Spread::of(&[first / later]))
    }

    fn tell(self, report: &mut Report, title: &str) {
        let mut lines = Vec::new();
        for (name, figures) in self.moments {
            report.keep(&format!("{title}: {name}"), &HEAD[1..].join(", "), &figures);
            lines.push(std::iter::once(name).chain(figures.map(short)).collect());
        }
        let legend = format!(
            "Each moment is a drain of {} rows and then {COMMITS} single commits; the queue's size is that of heap and \
             index after both, dead rows are what the statistics tell.",
            self.part
        );
        report.table(title, legend, &HEAD, lines);
    }
}

fn pinned(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    let mut moments = Moments::new(rows);
    moments.look(testbed, "before")?;
    let snapshot = testbed.pin_snapshot()?;
    moments.look_after_parts(testbed, "pinned, ")?;
    drop(snapshot);
    moments.look(testbed, "snapshot gone")?;
    let vacuumed = vacuumed(testbed)?;
    moments.look(testbed, "and vacuumed")?;
    moments.look(testbed, "and once more")?;
    let name = format!("pop with a snapshot pinned, after {rows} deliveries against before it was");
    report.add(moments.slower(name, PARTS as usize).target(Target::RatioAtMost(1.2)));
    report.add(match vacuumed {
        Some(time) => Row::new(
            "from the end of the snapshot until autovacuum has removed the dead rows",
            format!("{} s (autovacuum_naptime = 1s)", short(time.as_secs_f64())),
        ),
        None => Row::not_measured(
            "autovacuum after the end of the snapshot",
            &format!("it had not come after {} s; VACUUM by hand", VACUUM.as_secs()),
        ),
    });
    moments.tell(report, &format!("{rows} deliveries with a snapshot pinned"));
    Ok(())
}

/// Waits for autovacuum, and vacuums if it does not come.
fn vacuumed(testbed: &mut Testbed) -> Result<Option<Duration>> {
    testbed.cluster.set(&[("autovacuum_naptime", "1s")])?;
    let started = Instant::now();
    let mut came = None;
    waiting::until("autovacuum", 2 * VACUUM, SELDOM, || {
        came = (testbed.dead_rows()? < 5_000).then(|| started.elapsed());
        Ok(came.is_some() || started.elapsed() > VACUUM)
    })?;
    if came.is_none() {
        testbed.execute("VACUUM audit_algolia.queue")?;
    }
    testbed.cluster.set(&[("autovacuum_naptime", "1min")])?;
    Ok(came)
}

fn unvacuumed(testbed: &mut Testbed, rows: u64, report: &mut Report) -> Result<()> {
    testbed.cluster.set(&[("autovacuum", "off")])?;
    let mut moments = Moments::new(rows);
    moments.look_after_parts(testbed, "")?;
    testbed.cluster.set(&[("autovacuum", "on")])?;
    let name = format!("pop without autovacuum, after {rows} deliveries against the first");
    report.add(moments.slower(name, PARTS as usize - 1));
    moments.tell(report, &format!("{rows} deliveries while autovacuum is off"));
    Ok(())
}
