//! Owns one writer of a chaos run: it carries out its transactions, whatever happens to its session.
//!
//! A writer keeps no book of what has committed. Capture is part of its transactions, so the watched tables themselves
//! tell what has to be in the index.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use anyhow::{bail, Result};
use postgres::error::SqlState;
use postgres::Client;

use super::plan::{End, Rows, Step, TABLES};
use super::PATIENCE;
use crate::server::Cluster;
use crate::wait::poll;

/// Ids of one writer begin at a multiple of this.
const IDS: i64 = 1_000_000_000;
/// After so many more transactions a prepared one is ended.
const LATER: usize = 7;

/// What all writers and the trouble maker share.
#[derive(Default)]
pub(super) struct Progress {
    /// Transactions that are over, one way or the other.
    pub(super) steps: AtomicU64,
    /// Sessions that broke.
    pub(super) broken: AtomicU64,
    /// Errors that no trouble explains.
    pub(super) surprises: Mutex<Vec<String>>,
}

pub(super) struct Writer<'a> {
    cluster: &'a Cluster,
    progress: &'a Progress,
    number: usize,
    db: Option<Client>,
    next: i64,
    /// Transactions prepared, by the step after which they are ended.
    prepared: Vec<(usize, String)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(cluster: &'a Cluster, progress: &'a Progress, number: usize) -> Writer<'a> {
        let next = (number as i64 + 1) * IDS;
        Writer { cluster, progress, number, db: None, next, prepared: Vec::new() }
    }

    /// Carries out all steps.
    pub(super) fn run(mut self, steps: &[Step]) -> Result<()> {
        for (place, step) in steps.iter().enumerate() {
            self.end_prepared(place)?;
            self.attempt(|writer, db| writer.step(db, place, step))?;
            self.progress.steps.fetch_add(1, Ordering::Relaxed);
        }
        self.end_prepared(usize::MAX)
    }

    /// Tries something once. A session that breaks is no failure: the next step gets another one.
    fn attempt(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Client) -> Result<(), postgres::Error>,
    ) -> Result<bool> {
        let mut db = match self.db.take().filter(|db| !db.is_closed()) {
            Some(db) => db,
            None => self.connect()?,
        };
        match work(self, &mut db) {
            Ok(()) => self.db = Some(db),
            Err(error) => {
                self.progress.broken.fetch_add(1, Ordering::Relaxed);
                if let Some(told) = error.as_db_error().filter(|told| !is_end_of_session(told.code())) {
                    if let Ok(mut surprises) = self.progress.surprises.lock() {
                        surprises.push(format!("{} {}", told.code().code(), told.message()));
                    }
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn connect(&self) -> Result<Client> {
        let session = poll(PATIENCE, || {
            let mut db = self.cluster.connect("postgres", "postgres").ok()?;
            db.batch_execute("set application_name = 'writer'").ok()?;
            Some(db)
        });
        match session {
            Some(db) => Ok(db),
            None => bail!("no session within {PATIENCE:?}"),
        }
    }

    fn step(&mut self, db: &mut Client, place: usize, step: &Step) -> Result<(), postgres::Error> {
        match step {
            Step::Insert(parts, End::Commit) if parts.len() == 1 => {
                parts.iter().try_for_each(|rows| db.batch_execute(&self.insert(rows)))
            }
            Step::Insert(parts, end) => {
                db.batch_execute("begin")?;
                parts.iter().try_for_each(|rows| db.batch_execute(&self.insert(rows)))?;
                db.batch_execute(word(*end))
            }
            Step::Savepoints(parts, end) => {
                db.batch_execute("begin")?;
                for (rows, kept) in parts {
                    let insert = self.insert(rows);
                    let close = if *kept { "release savepoint part" } else { "rollback to savepoint part" };
                    db.batch_execute(&format!("savepoint part; {insert}; {close}"))?;
                }
                db.batch_execute(word(*end))
            }
            Step::Copy(rows, end) => {
                db.batch_execute("begin")?;
                let lines = self.lines(rows);
                let mut copy =
                    db.copy_in(&format!("copy {} (id, at, note) from stdin", TABLES[rows.table]))?;
                // A session that breaks shows when the copy is finished.
                let _ = copy.write_all(lines.as_bytes());
                copy.finish()?;
                db.batch_execute(word(*end))
            }
            Step::TwoPhase { rows, end, later } => {
                let letter = if *end == End::Commit { 'c' } else { 'r' };
                let name = format!("chaos-{}-{place}-{letter}", self.number);
                let insert = self.insert(rows);
                self.prepared.push((if *later { place + LATER } else { place }, name.clone()));
                db.batch_execute(&format!("begin; {insert}; prepare transaction '{name}'"))
            }
        }
    }

    /// Ends the transactions prepared whose time has come, through restarts if need be.
    fn end_prepared(&mut self, place: usize) -> Result<()> {
        while let Some(at) = self.prepared.iter().position(|(due, _)| *due < place) {
            let (_, name) = self.prepared.remove(at);
            let end = if name.ends_with('c') { "commit" } else { "rollback" };
            let statement = format!("{end} prepared '{name}'");
            // It may never have been prepared, or its end may have broken the session after all.
            let mut over = false;
            while !over {
                over = self.attempt(|_, db| match db.batch_execute(&statement) {
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
                    result => result,
                })?;
            }
        }
        Ok(())
    }

    fn ids(&mut self, rows: &Rows) -> std::ops::Range<i64> {
        let first = self.next;
        self.next += rows.count as i64;
        first..self.next
    }

    fn insert(&mut self, rows: &Rows) -> String {
        let mut text = format!("insert into {} (id, at, note) values ", TABLES[rows.table]);
        for (place, id) in self.ids(rows).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let _ = write!(
                text,
                "{comma}({id}, to_timestamp({}), '{}')",
                time(id),
                note(id, rows.poison == Some(place))
            );
        }
        text
    }

    fn lines(&mut self, rows: &Rows) -> String {
        let mut text = String::new();
        for (place, id) in self.ids(rows).enumerate() {
            let _ = writeln!(text, "{id}\tepoch\t{}", note(id, rows.poison == Some(place)));
        }
        text
    }
}

/// Spread over the partitions.
fn time(id: i64) -> i64 {
    id % 4 * 86_400
}

/// The stand-in takes no record with a poisonous note.
fn note(id: i64, poison: bool) -> String {
    if poison {
        format!("poison {id} {}", "x".repeat(super::MAX_RECORD_BYTES))
    } else {
        format!("note {id} {}", "é".repeat((id % 50) as usize))
    }
}

fn word(end: End) -> &'static str {
    match end {
        End::Commit => "commit",
        End::Rollback => "rollback",
    }
}

/// What a session hears when the server, or somebody, ends it.
fn is_end_of_session(code: &SqlState) -> bool {
    code.code().starts_with("57P") || code.code().starts_with("08")
}
