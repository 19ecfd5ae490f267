//! Makes the trouble of a chaos run for server and stand-in, according to the plan.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use nix::sys::signal::Signal;
use postgres::error::SqlState;
use postgres::Client;

use super::copy;
use super::partitions::{self, Ddl, HOMES};
use super::plan::{Answer, ProxyAnswer, Trouble};
use super::tables::TABLES;
use super::writer::Progress;
use crate::server::{is_end_of_session, StopMode};
use crate::stage::Stage;
use crate::standin::{Fault, FaultRule, Times};
use crate::wait::{poll, PATIENCE};

pub(super) struct TroubleMaker<'a> {
    stage: &'a Stage,
    /// A session that holds a snapshot.
    pinned: Option<Client>,
    /// How many changes of partitions were tried.
    ddl: u64,
    /// How often each kind of trouble was made.
    pub(super) made: BTreeMap<&'static str, u64>,
}

impl<'a> TroubleMaker<'a> {
    pub(super) fn new(stage: &'a Stage) -> TroubleMaker<'a> {
        TroubleMaker { stage, pinned: None, ddl: 0, made: BTreeMap::new() }
    }

    /// Makes each trouble once the given number of transactions have finished.
    pub(super) fn run(&mut self, troubles: &[(u64, Trouble)], progress: &Progress) -> Result<()> {
        for (at, trouble) in troubles {
            let there = poll(PATIENCE, || (progress.steps.load(Ordering::Relaxed) >= *at).then_some(()));
            if there.is_none() {
                bail!("the writers have not come to transaction {at} within {PATIENCE:?}");
            }
            self.make(trouble)?;
        }
        Ok(())
    }

    /// Ends all trouble.
    pub(super) fn fix(&mut self) -> Result<()> {
        self.pinned = None;
        self.stage.standin.clear_faults();
        self.stage.cluster.set(&AFTERWARDS)?;
        self.execute(&partitions::attach_all())?;
        self.execute("select audit_algolia.resume()")?;
        self.execute(REDRIVE_BLOCKED)
    }

    fn make(&mut self, trouble: &Trouble) -> Result<()> {
        let name = match trouble {
            Trouble::Partition(ddl, home) if !self.change_partition(*ddl, *home)? => {
                "no lock for a partition"
            }
            Trouble::Partition(ddl, _) => ddl.into_str(),
            trouble => trouble.into_str(),
        };
        *self.made.entry(name).or_default() += 1;
        let (cluster, standin) = (&self.stage.cluster, &self.stage.standin);
        match trouble {
            Trouble::KillWorker => self.kill("backend_type = 'audit_algolia worker'")?,
            Trouble::KillWriter => self.kill("application_name = 'writer'")?,
            Trouble::TerminateWorkers => self.terminate("backend_type = 'audit_algolia worker'")?,
            Trouble::TerminateLauncher => self.terminate("backend_type = 'audit_algolia launcher'")?,
            Trouble::TerminateWriters => self.terminate("application_name = 'writer'")?,
            Trouble::StopImmediately => cluster.restart(StopMode::Immediate)?,
            Trouble::RestartFast => cluster.restart(StopMode::Fast)?,
            Trouble::Pause(table) => {
                self.execute(&format!("select audit_algolia.pause('{}')", TABLES[*table]))?;
            }
            Trouble::Resume => self.execute("select audit_algolia.resume()")?,
            Trouble::Redrive => self.execute("select audit_algolia.redrive()")?,
            Trouble::Set(name, value) => cluster.set(&[(name, value)])?,
            Trouble::PinSnapshot => {
                let mut db = cluster.session(PATIENCE)?;
                // If the session breaks at once, nothing is pinned, and the run goes on.
                let _ = db.batch_execute("begin isolation level repeatable read; select count(*) from alpha");
                self.pinned = Some(db);
            }
            Trouble::Unpin => self.pinned = None,
            Trouble::Vacuum { full: false } => self.execute("vacuum audit_algolia.queue")?,
            Trouble::Vacuum { full: true } => self.execute_if_free("vacuum full audit_algolia.queue")?,
            Trouble::Reindex => self.execute_if_free("reindex table audit_algolia.queue")?,
            Trouble::Answer(answer, times) => standin.fault(None, fault(*answer), Times::Count(*times)),
            Trouble::Flaky(answer, percent, dice) => {
                standin.inject(FaultRule::new(fault(*answer), Times::Always).percent(*percent, *dice));
            }
            Trouble::Suspend => standin.fault(None, Fault::blocked(), Times::Always),
            Trouble::BlockByProxy(answer, number) => {
                let fault = match answer {
                    ProxyAnswer::Reset => Fault::Reset,
                    ProxyAnswer::Page(status) => Fault::page(*status),
                };
                // A note consists of a word, the row's id, a space and more.
                let rule = FaultRule::new(fault, Times::Always).containing(&format!("{number:03} "));
                standin.inject(rule.writes());
            }
            Trouble::Fix => standin.clear_faults(),
            // Already done above.
            Trouble::Partition(..) => {}
            Trouble::Restore => copy::restore(cluster)?,
        }
        Ok(())
    }

    /// Returns whether the lock was available. Usually a prepared transaction holds a lock on the table. Waiting for it
    /// would block other writers, so each wait is short.
    fn change_partition(&mut self, ddl: Ddl, home: usize) -> Result<bool> {
        self.ddl += 1;
        let (home, root) = (&HOMES[home], HOMES[home].root);
        let script = partitions::script(ddl, home, self.ddl);
        let prepared = format!(
            "select exists (select from pg_locks
                 where relation = '{root}'::regclass and pid is null and database = (
                     select oid from pg_database where datname = current_database()))"
        );
        let mut done = false;
        let started = Instant::now();
        while !done && started.elapsed() < LOCKED {
            self.insist(|db| {
                if db.query_one(&prepared, &[])?.get(0) {
                    return Ok(());
                }
                done = if_free(db, "200ms", &script)?;
                Ok(())
            })?;
        }
        Ok(done)
    }

    fn execute(&self, statement: &str) -> Result<()> {
        self.insist(|db| db.batch_execute(statement))
    }

    /// For statements that lock the queue. A prepared transaction may hold a lock on it until its writer ends it, and
    /// that writer could be waiting behind us.
    fn execute_if_free(&self, statement: &str) -> Result<()> {
        self.insist(|db| if_free(db, "500ms", statement).map(drop))
    }

    /// Does something that may be repeated, until a session survives it, because the server may still be shutting down.
    fn insist(&self, mut work: impl FnMut(&mut Client) -> Result<(), postgres::Error>) -> Result<()> {
        let done = poll(PATIENCE, || match self.stage.cluster.session(PATIENCE) {
            Ok(mut db) => match work(&mut db) {
                Err(error) if db.is_closed() || error.code().is_some_and(is_end_of_session) => None,
                result => Some(result.map_err(anyhow::Error::from)),
            },
            Err(error) => Some(Err(error)),
        });
        done.unwrap_or_else(|| bail!("sessions have been breaking for {PATIENCE:?}"))
    }

    fn terminate(&self, whom: &str) -> Result<()> {
        self.execute(&format!("select pg_terminate_backend(pid) from pg_stat_activity where {whom}"))
    }

    /// Kills one process, and waits until the server has noticed.
    fn kill(&self, whom: &str) -> Result<()> {
        let find = format!("select pid from pg_stat_activity where {whom} limit 1");
        let mut found: Option<i32> = None;
        let mut witness = self.stage.cluster.session(PATIENCE)?;
        self.insist(|db| {
            found = db.query_opt(&find, &[])?.map(|row| row.get(0));
            Ok(())
        })?;
        let Some(pid) = found else { return Ok(()) };
        // The process may have ended by itself; then the server does not restart.
        if self.stage.cluster.kill_backend(pid, Signal::SIGKILL).is_ok() {
            poll(NOTICED, || witness.batch_execute("select 1").is_err().then_some(()));
        }
        Ok(())
    }
}

/// Runs a statement that needs a lock, and returns whether it was available in time.
fn if_free(db: &mut Client, patience: &str, statement: &str) -> Result<bool, postgres::Error> {
    db.batch_execute(&format!("set lock_timeout = '{patience}'"))?;
    match db.batch_execute(statement) {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        result => result.map(|()| true),
    }
}

/// The settings for the recovery of a run. Those left by trouble may allow only one row at a time, and on a busy
/// machine a request may take longer than the short timeout of a run.
const AFTERWARDS: [(&str, &str); 5] = [
    ("audit_algolia.batch_rows", "1000"),
    ("audit_algolia.batch_bytes", "8MB"),
    ("audit_algolia.in_flight", "4"),
    ("audit_algolia.workers", "2"),
    ("audit_algolia.request_timeout", "30s"),
];

/// Records that have reached `max_attempts` because of a proxy are sent again when it is gone. Poison is not.
const REDRIVE_BLOCKED: &str = "
    select audit_algolia.redrive(index_name, array_agg(id)) from audit_algolia.dead_letters
    where error like '%not Algolia''s%' group by index_name";

/// How long to wait for a partition that is locked again and again.
const LOCKED: Duration = Duration::from_secs(3);

/// How long the server may take to notice that a process has died.
const NOTICED: Duration = Duration::from_secs(10);

fn fault(answer: Answer) -> Fault {
    match answer {
        Answer::Unavailable => Fault::page(503),
        Answer::InternalError => Fault::error(500, "Internal error"),
        Answer::TooManyRequests => Fault::too_many_requests(None),
        Answer::ComeBackLater => Fault::too_many_requests(Some(1)),
        Answer::Reset => Fault::Reset,
        Answer::Hang => Fault::Hang,
        Answer::HangThenServe => Fault::HangFor(Duration::from_millis(150)),
        Answer::Truncate => Fault::Truncate,
        Answer::AcceptThenDrop => Fault::AcceptThenDrop,
        Answer::AcceptThenHang => Fault::AcceptThenHang,
        Answer::WrongObjectIds => Fault::WrongObjectIds,
        Answer::EndlessBody => Fault::EndlessBody,
        Answer::Html => Fault::page(200),
        Answer::Redirect => Fault::Redirect("http://127.0.0.1:1/".to_owned()),
    }
}
