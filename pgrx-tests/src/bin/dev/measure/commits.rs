//! Commits rows one by one and measures how long each takes to arrive.
//!
//! Writer and stand-in read the same clock. The time counts from the moment when the commit has returned to the writer.
//! A row that arrived before that counts as zero. The time from the start of the INSERT is reported as well.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, Result};
use postgres::{Client, Statement};

use audit_algolia_tests::standin::id_hash;

use super::rows::{values, COLUMNS, INDEX};
use super::spread::percentile;
use super::testbed::Testbed;
use crate::interrupt;
use crate::waiting;

/// Sessions that write a stream.
const WRITERS: u64 = 4;

/// A committed row, and the time in microseconds since 1970.
pub(super) struct Commit {
    id: i64,
    begun: i64,
    committed: i64,
}

/// For the rows that have arrived, milliseconds from the commit, and from the start of the INSERT, to the arrival.
#[derive(Default)]
pub(super) struct Delays {
    pub(super) from_commit: Vec<f64>,
    pub(super) from_insert: Vec<f64>,
}

impl Delays {
    /// Looks up which rows have arrived by now. If one arrived several times, the first time counts.
    pub(super) fn until_now(testbed: &mut Testbed, commits: &[Commit]) -> Result<Delays> {
        let mut arrived: HashMap<u64, i64> = HashMap::new();
        for (hash, at) in testbed.standin.times(INDEX)? {
            let first = arrived.entry(hash).or_insert(at);
            *first = at.min(*first);
        }
        let mut delays = Delays::default();
        for commit in commits {
            if let Some(at) = arrived.get(&id_hash(&commit.id.to_string())) {
                delays.from_commit.push((at - commit.committed).max(0) as f64 / 1000.0);
                delays.from_insert.push((at - commit.begun) as f64 / 1000.0);
            }
        }
        Ok(delays)
    }

    pub(super) fn at(&self, percent: f64) -> f64 {
        percentile(&self.from_commit, percent).unwrap_or(f64::NAN)
    }

    /// Rows that arrived before their commit returned to the writer.
    pub(super) fn ahead(&self) -> usize {
        self.from_commit.iter().filter(|delay| **delay == 0.0).count()
    }
}

/// A session that inserts one row at a time.
pub(super) struct Writer {
    db: Client,
    statement: Statement,
}

impl Writer {
    pub(super) fn new(testbed: &Testbed) -> Result<Writer> {
        let mut db = testbed.connect()?;
        let values = values("$1::bigint");
        let statement =
            db.prepare(&format!("INSERT INTO audit_log ({COLUMNS}) VALUES ({values}) RETURNING id"))?;
        Ok(Writer { db, statement })
    }

    pub(super) fn insert(&mut self) -> Result<Commit> {
        let begun = micros();
        let id = self.db.query_one(&self.statement, &[&7_i64])?.get(0);
        Ok(Commit { id, begun, committed: micros() })
    }
}

/// Several writers take turns at an even pace: so many rows per second, if the machine is fast enough.
pub(super) fn write_evenly(testbed: &Testbed, rate: u64, length: Duration) -> Result<Vec<Commit>> {
    let writers: Result<Vec<Writer>> = (0..WRITERS).map(|_| Writer::new(testbed)).collect();
    let started = Instant::now();
    let write = |mut writer: Writer, place: u64| -> Result<Vec<Commit>> {
        let mut commits = Vec::new();
        while started.elapsed() < length {
            interrupt::check()?;
            let turn = commits.len() as u64 * WRITERS + place;
            let due = Duration::from_secs_f64(turn as f64 / rate as f64);
            if due >= length {
                break;
            }
            waiting::pass(due.saturating_sub(started.elapsed()))?;
            commits.push(writer.insert()?);
        }
        Ok(commits)
    };
    let writers = writers?;
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..).zip(writers).map(|(place, writer)| scope.spawn(move || write(writer, place))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow!("a writer has failed"))??);
        }
        Ok(all)
    })
}

fn micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
