//! The chaos run: writers, trouble and, at the end, a comparison of what committed with what the index holds.
//!
//! A seed decides what is done ([`Plan`]); when it happens is the machine's. A run that fails tells its seed.

mod check;
mod plan;
mod report;
mod trouble;
mod writer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Result};

pub use check::Verdict;
pub use plan::{Answer, End, Plan, Rows, Step, Trouble, TABLES};
pub use report::markdown;

use crate::stage::Stage;
use crate::wait::poll;
use trouble::{session, TroubleMaker};
use writer::{Progress, Writer};

/// How long a run waits for anything before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// The stand-in takes records of so many bytes.
const MAX_RECORD_BYTES: usize = 3000;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    pub seed: u64,
    pub writers: usize,
    /// Transactions of each writer.
    pub steps: usize,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u64,
    pub transactions: u64,
    pub broken_sessions: u64,
    pub troubles: BTreeMap<&'static str, u64>,
    pub took: Duration,
    /// From the end of all trouble until the queue was empty.
    pub recovery: Duration,
    pub verdict: Verdict,
}

impl Chaos {
    /// Makes one run in a cluster of its own.
    ///
    /// # Errors
    /// When something got stuck. What is wrong with the data is in the verdict.
    pub fn run(&self) -> Result<Outcome> {
        let plan = Plan::new(self.seed, self.writers, self.steps);
        let stage = stage()?;
        let started = Instant::now();
        let progress = Progress::default();
        let mut maker = TroubleMaker::new(&stage);
        std::thread::scope(|scope| -> Result<()> {
            let writers: Vec<_> = plan
                .writers
                .iter()
                .enumerate()
                .map(|(number, steps)| {
                    let writer = Writer::new(&stage.cluster, &progress, number);
                    scope.spawn(move || writer.run(steps))
                })
                .collect();
            let made = maker.run(&plan.troubles, &progress);
            for writer in writers {
                writer.join().map_err(|_| anyhow!("a writer panicked"))??;
            }
            made
        })?;
        maker.mend()?;
        let mended = Instant::now();
        let mut db = session(&stage.cluster)?;
        let empty = poll(PATIENCE, || {
            let left: i64 = db.query_one("select count(*) from audit_algolia.queue", &[]).ok()?.get(0);
            let told = "select coalesce(sum(queued + in_flight), 0)::bigint from audit_algolia.queue_stats()";
            let counted: i64 = db.query_one(told, &[]).ok()?.get(0);
            (left == 0 && counted == 0).then_some(())
        });
        let recovery = mended.elapsed();
        let mut verdict = check::check(&mut db, &stage.standin)?;
        if empty.is_none() {
            verdict.faults.push(format!("the queue is not empty after {PATIENCE:?}"));
        }
        if let Ok(surprises) = progress.surprises.into_inner() {
            verdict.faults.extend(surprises.into_iter().map(|error| format!("a writer was told: {error}")));
        }
        let fault_words = ["PANIC", "TRAP:", "terminated by signal 11", "terminated by signal 6"];
        let log = stage.cluster.log();
        verdict.faults.extend(
            log.lines().filter(|line| fault_words.iter().any(|word| line.contains(word))).map(str::to_owned),
        );
        Ok(Outcome {
            seed: self.seed,
            transactions: (self.writers * self.steps) as u64,
            broken_sessions: progress.broken.into_inner(),
            troubles: maker.made,
            took: started.elapsed(),
            recovery,
            verdict,
        })
    }

    /// The same, for callers to whom a wrong index is a failure as well.
    ///
    /// # Errors
    /// When something got stuck or is wrong with the data.
    pub fn pass(&self) -> Result<Outcome> {
        let outcome = self.run().map_err(|error| error.context(format!("seed {}", self.seed)))?;
        if !outcome.verdict.faults.is_empty() {
            bail!("seed {}:\n{}", self.seed, outcome.verdict.faults.join("\n"));
        }
        Ok(outcome)
    }
}

/// Makes runs with one seed after the other until the time is up or one has failed, and hands each to `report`.
///
/// # Errors
/// When something got stuck.
pub fn soak(first_seed: u64, length: Duration, mut report: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let started = Instant::now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut seeds = fastrand::Rng::with_seed(first_seed);
    let mut seed = first_seed;
    while started.elapsed() < length && outcomes.iter().all(|one| one.verdict.faults.is_empty()) {
        let chaos = Chaos { seed, writers: 6, steps: 1000 };
        let outcome = chaos.run().map_err(|error| error.context(format!("seed {seed}")))?;
        report(&outcome);
        outcomes.push(outcome);
        seed = seeds.u64(..);
    }
    Ok(outcomes)
}

/// A server and a stand-in that give up on each other quickly.
fn stage() -> Result<Stage> {
    let stage = Stage::builder()
        .standin(|standin| {
            standin.hosts = 2;
            standin.max_record_bytes = MAX_RECORD_BYTES;
        })
        .setting("max_prepared_transactions", 100)
        .setting("max_worker_processes", 20)
        .setting("audit_algolia.connect_timeout", "300ms")
        .setting("audit_algolia.request_timeout", "300ms")
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "250ms")
        .start()?;
    let mut db = session(&stage.cluster)?;
    db.batch_execute(
        "create table alpha (id bigint primary key, at timestamptz not null, note text not null);
         create table beta (like alpha including all);
         create table gamma (id bigint not null, at timestamptz not null, note text not null, primary key (id, at))
             partition by range (at);
         create table gamma_early partition of gamma for values from (minvalue) to ('1970-01-02 12:00+00');
         create table gamma_late partition of gamma for values from ('1970-01-02 12:00+00') to (maxvalue)",
    )?;
    for table in TABLES {
        let watch =
            format!("select audit_algolia.watch('{table}', columns => '{{note}}', object_id => '{{id}}')");
        db.batch_execute(&watch)?;
    }
    Ok(stage)
}
