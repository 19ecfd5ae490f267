//! A writer of a chaos run. It performs its transactions, whatever happens to its session.
//!
//! A writer does not keep track of what was committed. Capture is part of its transactions, so the watched tables, and
//! the history of those whose changes are recorded, show what must be in the index.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use anyhow::{bail, Result};
use postgres::error::{DbError, SqlState};
use postgres::Client;

use super::changes;
use super::notes::{note, note_expression};
use super::tables::TABLES;
use super::transactions::{Action, End, Rows, Step};
use crate::server::{is_end_of_session, Cluster};
use crate::wait::{poll, PATIENCE};

/// What the writers and the trouble maker share.
#[derive(Default)]
pub(super) struct Progress {
    /// Transactions that have ended, in whatever way.
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
    /// Prepared transactions, each with the step after which it is ended.
    prepared: Vec<(usize, String)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(cluster: &'a Cluster, progress: &'a Progress, number: usize) -> Writer<'a> {
        Writer { cluster, progress, number, db: None, prepared: Vec::new() }
    }

    /// Performs all steps.
    pub(super) fn run(mut self, steps: &[Step]) -> Result<()> {
        for (place, step) in steps.iter().enumerate() {
            self.end_prepared(place)?;
            self.attempt(|writer, db| writer.step(db, place, step))?;
            self.progress.steps.fetch_add(1, Ordering::Relaxed);
        }
        self.end_prepared(usize::MAX)
    }

    /// Tries something once. A broken session is no failure: the next step gets a new one.
    fn attempt(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Client) -> Result<After, postgres::Error>,
    ) -> Result<bool> {
        let mut db = match self.db.take().filter(|db| !db.is_closed()) {
            Some(db) => db,
            None => self.cluster.session_with(PATIENCE, "set application_name = 'writer'")?,
        };
        match work(self, &mut db) {
            Ok(After::Stay) => self.db = Some(db),
            Ok(After::Leave) => {}
            Err(error) => {
                self.progress.broken.fetch_add(1, Ordering::Relaxed);
                let explained = |told: &DbError| is_end_of_session(told.code()) || finds_no_partition(told);
                if let Some(told) = error.as_db_error().filter(|told| !explained(told)) {
                    if let Ok(mut surprises) = self.progress.surprises.lock() {
                        surprises.push(format!("{} {}", told.code().code(), told.message()));
                    }
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(&mut self, db: &mut Client, place: usize, step: &Step) -> Result<After, postgres::Error> {
        if let ([Action::Insert(rows)], End::Commit) = (step.actions.as_slice(), step.end) {
            db.batch_execute(&insert(rows))?;
            return Ok(After::Stay);
        }
        db.batch_execute("begin")?;
        for action in &step.actions {
            match action {
                Action::Insert(rows) => db.batch_execute(&insert(rows))?,
                Action::Copy(rows) => copy(db, rows)?,
                Action::Change(rows, work) => db.batch_execute(&changes::statement(rows, *work))?,
                Action::Savepoint => db.batch_execute("savepoint part")?,
                Action::Release => db.batch_execute("release savepoint part")?,
                // Otherwise the savepoint would remain, and would be used again once the next one of its name is
                // released.
                Action::RollBackTo => {
                    db.batch_execute("rollback to savepoint part; release savepoint part")?;
                }
            }
        }
        match step.end {
            End::Commit => db.batch_execute("commit")?,
            End::Rollback => db.batch_execute("rollback")?,
            End::Leave => return Ok(After::Leave),
            End::Prepare(commit, after) => {
                let letter = if commit { 'c' } else { 'r' };
                let name = format!("chaos-{}-{place}-{letter}", self.number);
                self.prepared.push((place + after, name.clone()));
                db.batch_execute(&format!("prepare transaction '{name}'"))?;
            }
        }
        Ok(After::Stay)
    }

    /// Ends the prepared transactions that are due, even across restarts.
    fn end_prepared(&mut self, place: usize) -> Result<()> {
        while let Some(at) = self.prepared.iter().position(|(due, _)| *due < place) {
            let (_, name) = self.prepared.remove(at);
            let end = if name.ends_with('c') { "commit" } else { "rollback" };
            let statement = format!("{end} prepared '{name}'");
            let over = poll(PATIENCE, || {
                let attempt = self.attempt(|_, db| match db.batch_execute(&statement) {
                    // It may never have been prepared, or it was ended although the session broke.
                    Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(After::Stay),
                    result => result.map(|()| After::Stay),
                });
                match attempt {
                    Ok(true) => Some(Ok(())),
                    Ok(false) => None,
                    Err(error) => Some(Err(error)),
                }
            });
            match over {
                Some(result) => result?,
                None => bail!("{name} did not end within {PATIENCE:?}"),
            }
        }
        Ok(())
    }
}

/// Whether to keep a session.
enum After {
    Stay,
    Leave,
}

fn insert(rows: &Rows) -> String {
    let mut text = format!("insert into {} (id, at, note) values ", TABLES[rows.table]);
    for id in rows.first..rows.first + rows.count {
        let comma = if id == rows.first { "" } else { ", " };
        let _ = write!(text, "{comma}({id}, to_timestamp({}), {})", time(id), note_expression(rows, id));
    }
    text
}

fn copy(db: &mut Client, rows: &Rows) -> Result<(), postgres::Error> {
    let mut lines = String::new();
    for id in rows.first..rows.first + rows.count {
        let (days, note) = (time(id) / DAY, note(rows, id));
        let _ = writeln!(lines, "{id}\t1970-01-{:02} 00:00:00+00\t{note}", days + 1);
    }
    let mut copy = db.copy_in(&format!("copy {} (id, at, note) from stdin", TABLES[rows.table]))?;
    // A broken session shows when the copy is finished.
    let _ = copy.write_all(lines.as_bytes());
    copy.finish().map(drop)
}

const DAY: i64 = 86_400;

/// Spreads the rows over the partitions.
fn time(id: i64) -> i64 {
    id % 4 * DAY
}

/// Whether a row was inserted while its partition was detached.
fn finds_no_partition(told: &DbError) -> bool {
    *told.code() == SqlState::CHECK_VIOLATION && told.message().starts_with("no partition of relation")
}
