//! The mirror run: writers, faulty answers, workers that are ended and, at the end, the check whether the index holds
//! exactly the rows of the table.
//!
//! One cluster serves many runs, each with a table of its own. A seed determines what is done ([`Plan`]) and what goes
//! wrong, but not exactly when.

mod partitions;
mod plan;
mod table;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Result};
use fastrand::Rng;
use nix::sys::signal::Signal;
use postgres::error::SqlState;
use postgres::Row;

pub use plan::{End, Part, Plan, Shape, Statement, Step, KEYS};

use crate::server::Cluster;
use crate::stage::Stage;
use crate::standin::{Fault, FaultRule, Times};
use crate::wait::poll;
use table::create;
use writer::{session, Writer, PATIENCE};

/// How long a worker waits for an answer. Afterwards it holds the objects of the request, which may still be executed.
const TIMEOUT: Duration = Duration::from_millis(250);
/// When late requests are executed: after the worker has given up, and well before the objects are released.
const LATE: std::ops::Range<u64> = 240..380;

/// Many runs in one cluster.
#[derive(Clone, Copy, Debug)]
pub struct Mirror {
    pub writers: usize,
    /// Transactions of each writer.
    pub steps: usize,
    /// How many runs at the same time.
    pub together: usize,
    /// Whether workers are also killed, after which the server restarts.
    pub crashes: bool,
}

impl Mirror {
    /// Performs a run for each seed.
    ///
    /// # Errors
    /// If an index does not hold the rows of its table at the end, or a run got stuck.
    pub fn pass(&self, seeds: impl Iterator<Item = u64>) -> Result<()> {
        let stage = stage()?;
        let seeds: Mutex<Vec<u64>> = Mutex::new(seeds.collect());
        let done = AtomicBool::new(false);
        let number = AtomicU64::new(0);
        let faults = Mutex::new(Vec::new());
        std::thread::scope(|scope| -> Result<()> {
            let trouble = scope.spawn(|| self.trouble(&stage, &done));
            let runs: Vec<_> = (0..self.together)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        loop {
                            let next = seeds.lock().map_err(|_| anyhow!("a run panicked"))?.pop();
                            let Some(seed) = next else { return Ok(()) };
                            let table = format!("m{}", number.fetch_add(1, Ordering::Relaxed));
                            if let Err(error) = self.run(&stage, seed, &table) {
                                let error = format!("seed {seed}, table {table}: {error:#}");
                                faults.lock().map_err(|_| anyhow!("a run panicked"))?.push(error);
                            }
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = runs.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            trouble.join().map_err(|_| anyhow!("the trouble maker panicked"))??;
            ended.into_iter().try_for_each(|run| run.map_err(|_| anyhow!("a run panicked"))?)
        })?;
        let faults = faults.into_inner().unwrap_or_default();
        if !faults.is_empty() {
            bail!("{}", faults.join("\n"));
        }
        Ok(())
    }

    fn run(&self, stage: &Stage, seed: u64, table: &str) -> Result<()> {
        let plan = Plan::new(seed, self.writers, self.steps);
        create(stage, table, plan.shape)?;
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            let spoiler = scope.spawn(|| spoil(stage, table, seed, &ended));
            let moves = plan.shape == Shape::Moving;
            let mover =
                moves.then(|| scope.spawn(|| self.move_partitions(&stage.cluster, table, seed, &ended)));
            let writers: Vec<_> = plan
                .writers
                .iter()
                .enumerate()
                .map(|(number, steps)| {
                    let mut writer = Writer::new(&stage.cluster, table, number);
                    scope.spawn(move || steps.iter().try_for_each(|step| writer.step(step)))
                })
                .collect();
            let results: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            ended.store(true, Ordering::Relaxed);
            spoiler.join().map_err(|_| anyhow!("the spoiler panicked"))?;
            if let Some(mover) = mover {
                mover.join().map_err(|_| anyhow!("the mover panicked"))??;
            }
            results.into_iter().try_for_each(|result| result.map_err(|_| anyhow!("a writer panicked"))?)
        })?;
        self.check(stage, table)
    }

    /// Compares index and table once nothing is waiting or hanging any more.
    fn check(&self, stage: &Stage, table: &str) -> Result<()> {
        // On a busy machine, workers that other runs end get little done between two ends.
        let mut least = i64::MAX;
        while least > 0 {
            let fewer = poll(PATIENCE, || {
                let mut db = session(&stage.cluster).ok()?;
                let query = "select (select count(*) from audit_algolia.queue q
                         join audit_algolia.index i on i.id = q.index_id where i.name = $1)
                     + (select count(*) from audit_algolia.backfill_progress
                        where index_name = $1 and state <> 'finished')";
                let left: i64 = db.query_one(query, &[&table]).ok()?.get(0);
                (left < least).then_some(left)
            });
            match fewer {
                Some(left) => least = left,
                None => bail!("nothing has arrived for {PATIENCE:?}: {}", remains(stage, table)?),
            }
        }
        // A batch that was sent again has been delivered, while its first request may still be running.
        if poll(PATIENCE, || (stage.standin.in_hang_for(table) == 0).then_some(())).is_none() {
            bail!("requests hang after {PATIENCE:?}");
        }
        // Other runs go on, and a crash of theirs may end the session.
        let read = poll(PATIENCE, || {
            session(&stage.cluster).ok()?.query(&format!("select id, v from {table} where shown"), &[]).ok()
        });
        let rows = read.with_context(|| format!("{table} could not be read within {PATIENCE:?}"))?;
        let pair = |row: &Row| (row.get::<_, i32>(0).to_string(), i64::from(row.get::<_, i32>(1)));
        let rows: BTreeMap<String, i64> = rows.iter().map(pair).collect();
        let held: BTreeMap<String, i64> = stage
            .standin
            .index(table)
            .into_iter()
            .map(|(id, record)| (id, record["v"].as_i64().unwrap_or(i64::MIN)))
            .collect();
        if rows != held {
            bail!("the table has {rows:?}, the index {held:?}");
        }
        Ok(())
    }

    /// Ends workers during the runs.
    fn trouble(&self, stage: &Stage, done: &AtomicBool) -> Result<()> {
        let mut dice = Rng::new();
        while !done.load(Ordering::Relaxed) {
            poll(Duration::from_millis(dice.u64(800..2500)), || done.load(Ordering::Relaxed).then_some(()));
            let mut db = session(&stage.cluster)?;
            let workers = "from pg_stat_activity where backend_type = 'audit_algolia worker'";
            if self.crashes && dice.u8(0..8) == 0 {
                let found = db.query_opt(&format!("select pid {workers} limit 1"), &[]);
                if let Ok(Some(row)) = found {
                    // It may have ended by itself.
                    let _ = stage.cluster.kill_backend(row.get(0), Signal::SIGKILL);
                }
            } else {
                // A crash may have ended the session.
                let _ = db.batch_execute(&format!("select pg_terminate_backend(pid) {workers}"));
            }
        }
        Ok(())
    }

    /// Changes the partitions of a table from time to time while it is written to. At the end all of them exist.
    fn move_partitions(&self, cluster: &Cluster, table: &str, seed: u64, ended: &AtomicBool) -> Result<()> {
        let mut dice = Rng::with_seed(seed ^ 0xd1ce);
        while !ended.load(Ordering::Relaxed) {
            poll(Duration::from_millis(dice.u64(20..150)), || ended.load(Ordering::Relaxed).then_some(()));
            let mut db = session(cluster)?;
            for transaction in partitions::change(table, &mut dice) {
                // What fails is rolled back, and the next statement may have no effect.
                self.tolerate(db.batch_execute(&transaction)).with_context(|| transaction.clone())?;
            }
        }
        let complete = partitions::complete(table);
        let done = poll(PATIENCE, || {
            let completed = session(cluster).map(|mut db| db.batch_execute(&complete));
            match completed {
                Err(error) => Some(Err(error)),
                Ok(Ok(())) => Some(Ok(())),
                Ok(failed) => self.tolerate(failed).err().map(Err),
            }
        });
        done.unwrap_or_else(|| bail!("not after {PATIENCE:?}"))
            .with_context(|| format!("the partitions of {table} could not be attached"))
    }

    /// Ignores errors that may prevent a change of partitions.
    fn tolerate(&self, result: Result<(), postgres::Error>) -> Result<()> {
        match result {
            Err(error) if !self.is_expected(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether a change of partitions may fail with this error: the partition does not exist, or already does; another
    /// one has its rows or its bounds; there was a lock or a deadlock; or the server crashed.
    fn is_expected(&self, error: &postgres::Error) -> bool {
        match error.code() {
            Some(code) if [SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code) => {
                self.crashes
            }
            Some(code) => [
                SqlState::UNDEFINED_TABLE,
                SqlState::DUPLICATE_TABLE,
                SqlState::INVALID_OBJECT_DEFINITION,
                SqlState::UNIQUE_VIOLATION,
                SqlState::LOCK_NOT_AVAILABLE,
                SqlState::T_R_DEADLOCK_DETECTED,
            ]
            .contains(code),
            None => self.crashes,
        }
    }
}

fn stage() -> Result<Stage> {
    Stage::builder()
        .standin(|standin| standin.hosts = 2)
        .setting("max_connections", 200)
        .setting("max_prepared_transactions", 100)
        .setting("max_worker_processes", 20)
        .setting("audit_algolia.workers", 3)
        .setting("audit_algolia.in_flight", 3)
        .setting("audit_algolia.batch_rows", 3)
        .setting("audit_algolia.connect_timeout", format!("{}ms", TIMEOUT.as_millis()))
        .setting("audit_algolia.request_timeout", format!("{}ms", TIMEOUT.as_millis()))
        .setting("audit_algolia.retry_min", "5ms")
        .setting("audit_algolia.retry_max", "40ms")
        .start()
}

/// Makes requests for an index fail from time to time, while its table is written to.
fn spoil(stage: &Stage, table: &str, seed: u64, ended: &AtomicBool) {
    let mut dice = Rng::with_seed(seed ^ 0x5eed);
    while !ended.load(Ordering::Relaxed) {
        let fault = match dice.u8(0..14) {
            0..=3 => Fault::ServeLate(Duration::from_millis(dice.u64(LATE))),
            4..=5 => Fault::AcceptThenHang,
            6 => Fault::Hang,
            7 => Fault::HangFor(Duration::from_millis(dice.u64(1..200))),
            8 => Fault::Reset,
            9 => Fault::AcceptThenDrop,
            10 => Fault::Truncate,
            11 => Fault::page(503),
            12 => Fault::too_many_requests(Some(0)),
            _ => Fault::WrongObjectIds,
        };
        let rule = FaultRule::new(fault, Times::Once).index(table).writes();
        stage.standin.inject(if dice.bool() { rule.host(dice.usize(0..2)) } else { rule });
        poll(Duration::from_millis(dice.u64(10..120)), || ended.load(Ordering::Relaxed).then_some(()));
    }
}

/// The rows left in an index's queue, and the statistics.
fn remains(stage: &Stage, table: &str) -> Result<String> {
    let query = "select q::text from audit_algolia.queue q join audit_algolia.index i on i.id = q.index_id where i.name = $1
                 union all
                 select s::text from audit_algolia.queue_stats() s where s.index_name = $1
                 union all
                 select w::text from audit_algolia.worker_stats() w";
    let rows = session(&stage.cluster)?.query(query, &[&table])?;
    Ok(rows.iter().map(|row| format!("\n  {}", row.get::<_, String>(0))).collect())
}
