//! The chaos run: writers, trouble and, at the end, a comparison of what was committed with what the index holds.
//!
//! A seed determines what is done ([`Plan`]), but not exactly when. A run that fails reports its seed.

mod author;
mod changes;
mod check;
mod copy;
mod notes;
mod outcome;
mod partitions;
mod plan;
mod tables;
mod transactions;
mod trouble;
mod writer;

use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};
use postgres::Client;

pub use check::Verdict;
pub use outcome::{markdown, Chaos, Outcome};
pub use partitions::Ddl;
pub use plan::{Answer, Plan, ProxyAnswer, Trouble};
pub use tables::{CHANGING, TABLES};
pub use transactions::{Action, End, Rows, Size, Step, Work};

use crate::stage::Stage;
use crate::standin::ErrorShape;
use crate::wait::{poll, PATIENCE};
use tables::MAX_RECORD_BYTES;
use trouble::TroubleMaker;
use writer::{Progress, Writer};

/// The address space of each server process, so that one that keeps all its rows in memory fails. An idle process has
/// 240 MB, most of it shared. In these runs, a session takes up to 310 MB and a worker up to 390 MB. With many requests
/// in flight, the threads of a worker reserve up to 256 MB.
const ADDRESS_SPACE: u64 = 640 << 20;

/// What must not occur in a server's log.
const FATAL_WORDS: [&str; 5] =
    ["PANIC", "TRAP:", "panicked at", "terminated by signal 11", "terminated by signal 6"];

impl Chaos {
    /// A run among the tests.
    pub fn short(seed: u64) -> Chaos {
        Chaos { seed, writers: 4, steps: 300 }
    }

    /// A run in a soak test.
    pub fn long(seed: u64) -> Chaos {
        Chaos { seed, writers: 6, steps: 1500 }
    }

    /// Performs the run in a cluster of its own. The verdict lists what went wrong; in that case the cluster's folder
    /// is kept.
    pub fn run(&self) -> Outcome {
        let mut outcome = Outcome { chaos: *self, ..Outcome::default() };
        let plan = Plan::new(self.seed, self.writers, self.steps);
        match stage(&plan) {
            Ok(stage) => outcome.play(&plan, &stage),
            Err(error) => outcome.verdict.faults.push(format!("nothing could be started: {error:#}")),
        }
        outcome
    }

    /// The same, but returns an error if anything went wrong.
    ///
    /// # Errors
    /// If anything is wrong at the end.
    pub fn pass(&self) -> Result<Outcome> {
        let outcome = self.run();
        if outcome.passed() {
            return Ok(outcome);
        }
        let Chaos { seed, .. } = self;
        Err(anyhow!("{}", outcome.verdict.faults.join("\n")))
            .with_context(|| format!("seed {seed}; repeat it with cargo verify --seed {seed}"))
    }
}

/// Performs runs one after the other until the time is up or one has failed, and passes each to `report`.
pub fn soak(first_seed: u64, length: Duration, mut report: impl FnMut(&Outcome)) -> Vec<Outcome> {
    let started = Instant::now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut seeds = fastrand::Rng::with_seed(first_seed);
    let mut seed = first_seed;
    while started.elapsed() < length && outcomes.last().is_none_or(Outcome::passed) {
        let outcome = Chaos::long(seed).run();
        report(&outcome);
        outcomes.push(outcome);
        seed = seeds.u64(..);
    }
    outcomes
}

impl Outcome {
    fn play(&mut self, plan: &Plan, stage: &Stage) {
        let started = Instant::now();
        let progress = Progress::default();
        let mut maker = TroubleMaker::new(stage);
        let result = trouble(plan, stage, &progress, &mut maker).and_then(|()| self.compare(stage));
        self.took = started.elapsed();
        self.troubles = maker.made;
        self.broken_sessions = progress.broken.into_inner();
        let faults = &mut self.verdict.faults;
        if let Err(error) = result {
            faults.push(format!("{error:#}"));
        }
        if let Ok(surprises) = progress.surprises.into_inner() {
            faults.extend(surprises.into_iter().map(|error| format!("a writer was told: {error}")));
        }
        let log = stage.cluster.log();
        let bad = log.lines().filter(|line| is_fault(line));
        faults.extend(bad.map(str::to_owned));
        if !faults.is_empty() {
            faults.push(format!("the cluster is in {}", stage.cluster.data_dir().display()));
            stage.cluster.keep();
        }
    }

    /// Waits until the queue is empty, then compares.
    fn compare(&mut self, stage: &Stage) -> Result<()> {
        let fixed = Instant::now();
        let mut db = stage.cluster.session(PATIENCE)?;
        let empty = poll(PATIENCE, || is_empty(&mut db).unwrap_or(false).then_some(()));
        self.recovery = fixed.elapsed();
        let excuse = if empty.is_none() { Some(excuse(&mut db)?) } else { None };
        self.verdict = check::check(&mut db, &stage.standin)?;
        if let Some(excuse) = excuse {
            self.verdict.faults.push(format!("the queue is not empty after {PATIENCE:?}: {excuse}"));
        }
        Ok(())
    }
}

/// Starts writers and trouble, and ends the trouble when the writers have finished.
fn trouble(plan: &Plan, stage: &Stage, progress: &Progress, maker: &mut TroubleMaker<'_>) -> Result<()> {
    std::thread::scope(|scope| -> Result<()> {
        let writers: Vec<_> = plan
            .writers
            .iter()
            .enumerate()
            .map(|(number, steps)| {
                let writer = Writer::new(&stage.cluster, progress, number);
                scope.spawn(move || writer.run(steps))
            })
            .collect();
        let made = maker.run(&plan.troubles, progress);
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        made
    })?;
    maker.fix()
}

/// What the statistics say about a queue that does not become empty.
fn excuse(db: &mut Client) -> Result<String> {
    let told = db.query_one(
        "select (select string_agg(q::text, '; ') from audit_algolia.queue_stats() as q),
             (select string_agg(w::text, '; ') from audit_algolia.worker_stats() as w)",
        &[],
    )?;
    let [queues, workers] = [0, 1].map(|place| told.get::<_, Option<String>>(place).unwrap_or_default());
    Ok(format!("queues {queues}; workers {workers}"))
}

/// Whether a line of the log reports a fault. Trouble makes sessions fail, but our own processes must survive it.
fn is_fault(line: &str) -> bool {
    FATAL_WORDS.iter().any(|word| line.contains(word))
        || (line.contains("] audit_algolia ") && line.contains(" ERROR:  "))
}

/// Whether both the table and the counters say so.
fn is_empty(db: &mut Client) -> Result<bool> {
    let left: i64 = db.query_one("select count(*) from audit_algolia.queue", &[])?.get(0);
    let told = "select coalesce(sum(queued + in_flight), 0)::bigint from audit_algolia.queue_stats()";
    let counted: i64 = db.query_one(told, &[])?.get(0);
    Ok(left == 0 && counted == 0)
}

/// A server and a stand-in with short timeouts.
fn stage(plan: &Plan) -> Result<Stage> {
    let stage = Stage::builder()
        .standin(|standin| {
            standin.hosts = 2;
            standin.max_record_bytes = MAX_RECORD_BYTES;
            if !plan.names_offenders {
                standin.error_shape = ErrorShape::New;
            }
        })
        .address_space(ADDRESS_SPACE)
        // Copies of the database are not delivered.
        .setting("audit_algolia.databases", "postgres")
        // Statements are long, and many find no partition.
        .setting("log_min_error_statement", "panic")
        .setting("log_line_prefix", "%m [%p] %b %q%u@%d ")
        .setting("max_prepared_transactions", 100)
        .setting("max_worker_processes", 20)
        .setting("audit_algolia.connect_timeout", "300ms")
        .setting("audit_algolia.request_timeout", "300ms")
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "250ms")
        .start()?;
    let mut db = stage.cluster.session(PATIENCE)?;
    db.batch_execute(
        "create table alpha (id bigint primary key, at timestamptz not null, note text not null);
         create table beta (like alpha including all);
         create table gamma (id bigint not null, at timestamptz not null, note text not null, primary key (id, at))
             partition by range (at)",
    )?;
    db.batch_execute(check::BRIEF)?;
    for table in &TABLES[..CHANGING] {
        db.batch_execute(&format!(
            "select audit_algolia.watch('{table}', columns => '{{at, note}}', object_id => '{{id}}')"
        ))?;
    }
    db.batch_execute(&changes::set_up())?;
    db.batch_execute(&partitions::set_up())?;
    Ok(stage)
}
