//! A writer of a mirror run. It performs its transactions, whatever happens to its session.

use std::time::Duration;

use anyhow::{Context, Result};
use postgres::Client;

use super::plan::{End, Part, Step};
use crate::server::Cluster;
use crate::wait::poll;

/// How long a run waits before it counts as stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs transactions in a session, and opens another one when it breaks.
pub(super) struct Writer<'a> {
    cluster: &'a Cluster,
    table: &'a str,
    name: String,
    db: Option<Client>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(cluster: &'a Cluster, table: &'a str, number: usize) -> Writer<'a> {
        Writer { cluster, table, name: format!("{table}_{number}"), db: None }
    }

    /// Runs a transaction. If it fails, for instance because of a duplicate key or a deadlock, it is rolled back.
    pub(super) fn step(&mut self, (parts, end): &Step) -> Result<()> {
        let mut db = match self.db.take() {
            Some(db) => db,
            None => session(self.cluster)?,
        };
        if self.transaction(&mut db, parts, *end).is_err() && db.batch_execute("rollback").is_err() {
            // The server has restarted, and may do so again. A transaction that was prepared must still be ended.
            let ended = poll(PATIENCE, || self.end_prepared().ok());
            ended.with_context(|| format!("{} could not be ended within {PATIENCE:?}", self.name))?;
            return Ok(());
        }
        self.db = Some(db);
        Ok(())
    }

    /// Rolls back the transaction that was prepared, if there is one.
    fn end_prepared(&self) -> Result<()> {
        let mut db = session(self.cluster)?;
        let prepared = format!("select 1 from pg_prepared_xacts where gid = '{}'", self.name);
        if db.query_opt(&prepared, &[])?.is_some() {
            db.batch_execute(&format!("rollback prepared '{}'", self.name))?;
        }
        Ok(())
    }

    fn transaction(&self, db: &mut Client, parts: &[Part], end: End) -> Result<(), postgres::Error> {
        db.batch_execute("begin")?;
        for part in parts {
            match part {
                Part::Plain(statement) => db.batch_execute(&statement.sql(self.table))?,
                Part::Savepoint(statements, released) => {
                    db.batch_execute("savepoint s")?;
                    let all = statements.iter().try_for_each(|one| db.batch_execute(&one.sql(self.table)));
                    let end = if *released && all.is_ok() { "release s" } else { "rollback to s" };
                    db.batch_execute(end)?;
                }
            }
        }
        match end {
            End::Commit => db.batch_execute("commit"),
            End::Rollback => db.batch_execute("rollback"),
            End::TwoPhase(commits) => {
                db.batch_execute(&format!("prepare transaction '{}'", self.name))?;
                let word = if commits { "commit" } else { "rollback" };
                db.batch_execute(&format!("{word} prepared '{}'", self.name))
            }
        }
    }
}

/// A superuser's session, as soon as one is possible.
pub(super) fn session(cluster: &Cluster) -> Result<Client> {
    cluster.session_with(PATIENCE, "set deadlock_timeout = '20ms'; set lock_timeout = '5s'")
}
