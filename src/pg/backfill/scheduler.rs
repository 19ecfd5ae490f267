//! Decides which backfill of a database takes the next step, and how large the step is, by its pace and the length of
//! the queue.

use std::cell::Cell;
use std::collections::HashMap;

use pgrx::prelude::*;

use super::progress::{self, BackfillId, BackfillJob, RESTORING};
use super::reading::{PagePosition, StepLimits};
use super::rows::row_at_fault;
use super::step::{step, StepOutcome};
use super::transaction::transact;
use crate::backfill::Pace;
use crate::pg::clock::now;
use crate::pg::report::SqlError;
use crate::pg::worker::is_of_our_version;
use crate::pg::{guc, shmem};
use crate::shared_state::Micros;

/// The most rows read in one step.
const STEP_ROWS: i64 = 1000;
/// In physical order: the number of blocks in the first step, and the most in any step.
const FIRST_BLOCKS: i64 = 16;
const MOST_BLOCKS: i64 = 8192;
/// The queue may contain this many times the rows that can be in flight.
const DEPTH: i64 = 10;
/// The pause after finding something locked, and after a transient failure.
const BUSY: Micros = 200_000;
const TROUBLE: Micros = 2_000_000;
const LONGEST_TROUBLE: Micros = 60_000_000;
/// The pause before checking whether a table has its triggers, or whether the queue has shrunk, if nobody reports it.
const PATIENCE: Micros = 10_000_000;

/// What is remembered of a backfill between its steps.
struct BackfillTurn {
    job: BackfillJob,
    pace: Option<Pace>,
    blocks: i64,
    /// Its next step is not made before this time.
    due: Micros,
    /// The most rows of the next step. Fewer than usual, if the row after them could not be queued.
    rows: i64,
    /// Steps in a row for which memory was lacking.
    memory_failures: u32,
    /// The state and obstacle that were last stored.
    noted: Option<(&'static str, Option<String>)>,
}

/// The backfills of a database.
pub(super) struct Scheduler {
    database: u32,
    /// `None`: they must be read from the table.
    turns: Option<HashMap<BackfillId, BackfillTurn>>,
}

impl Scheduler {
    pub(super) fn new(database: u32) -> Scheduler {
        Scheduler { database, turns: None }
    }

    /// The table has changed.
    pub(super) fn forget(&mut self) {
        self.turns = None;
    }

    /// Makes a step of each backfill that is due. Returns when the next is due; `None` if nothing is left to do.
    pub(super) fn round(&mut self) -> Option<Micros> {
        if self.turns.is_none() {
            match transact(|| progress::jobs(None)) {
                Ok(Some(jobs)) => {
                    self.turns =
                        Some(jobs.into_iter().map(|job| (job.id(), BackfillTurn::new(job))).collect());
                }
                Ok(None) => return Some(now() + BUSY),
                Err(_) if is_of_our_version() => return Some(now() + TROUBLE),
                // The extension has been dropped.
                Err(_) => return None,
            }
        }
        let (database, depth) = (self.database, depth());
        let turns = self.turns.as_mut()?;
        // A worker that reduces a queue to half of the depth wakes this process. Requested before looking, so that no
        // event is missed.
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.set_low_water(database, depth / 2);
        }
        for turn in turns.values_mut() {
            let queued = queued(database, turn.job.index_id);
            if turn.is_held_back() && queued <= depth / 2 {
                turn.noted = None;
                turn.due = 0;
            }
            if turn.due > now() {
                continue;
            }
            if queued >= depth {
                turn.note("throttled", None);
                turn.due = now() + PATIENCE;
            } else {
                turn.take();
            }
        }
        turns.retain(|_, turn| turn.due != Micros::MAX);
        turns.values().map(|turn| turn.due).min()
    }
}

impl BackfillTurn {
    fn new(job: BackfillJob) -> BackfillTurn {
        let pace = job.rows_per_second.map(|speed| Pace::new(speed, now()));
        BackfillTurn {
            job,
            pace,
            blocks: FIRST_BLOCKS,
            due: 0,
            rows: STEP_ROWS,
            memory_failures: 0,
            noted: None,
        }
    }

    /// Whether it waits for the queue to shrink.
    fn is_held_back(&self) -> bool {
        self.noted.as_ref().is_some_and(|(state, _)| *state == "throttled")
    }

    /// Makes a step.
    fn take(&mut self) {
        if let Some(obstacle) = self.job.obstacle.take() {
            self.note("waiting", Some(&obstacle));
            self.due = now() + if obstacle == RESTORING { TROUBLE } else { PATIENCE };
            self.look_again();
            return;
        }
        let rows = match self.allowance() {
            Ok(rows) => rows,
            Err(at) => {
                self.due = at;
                return;
            }
        };
        let place = Cell::new(PagePosition::default());
        let pace = self.pace;
        let state = |read: i64| {
            let waits = pace.is_some_and(|mut pace| {
                pace.spend(read);
                pace.allowance(now()) == 0
            });
            if waits {
                "throttled"
            } else {
                "running"
            }
        };
        let bytes = guc::batch_bytes();
        let limits = StepLimits { rows, bytes, blocks: self.blocks, place: &place, state: &state };
        let id = self.job.id();
        let stepped = transact(|| step(id, &limits));
        self.due = match stepped {
            Ok(StepOutcome::Finished | StepOutcome::Ended) => Micros::MAX,
            Ok(StepOutcome::Busy) => now() + BUSY,
            Ok(StepOutcome::Stuck(obstacle)) => {
                self.job.obstacle = Some(obstacle);
                0
            }
            Ok(StepOutcome::Read(read)) => {
                self.noted = None;
                self.blocks = (self.blocks * rows / read.max(1)).clamp(self.blocks / 2, self.blocks * 2);
                self.blocks = self.blocks.clamp(1, MOST_BLOCKS);
                self.rows = STEP_ROWS;
                self.memory_failures = 0;
                if let Some(pace) = &mut self.pace {
                    pace.spend(read);
                }
                0
            }
            Err(error) => self.fail(&error, place.get()),
        };
    }

    /// How many rows the next step may read, or when it may read any.
    fn allowance(&mut self) -> Result<i64, Micros> {
        match &mut self.pace {
            None => Ok(self.rows),
            Some(pace) => match pace.allowance(now()) {
                0 => Err(pace.opens_at()),
                rows => Ok(rows.min(self.rows)),
            },
        }
    }

    /// A step has failed: decides what to do, and when.
    fn fail(&mut self, error: &SqlError, place: PagePosition) -> Micros {
        if !is_of_our_version() {
            // The extension has been dropped meanwhile.
            return Micros::MAX;
        }
        if error.is_out_of_memory() {
            return self.retry_smaller(error, place);
        }
        if error.is_transient() {
            self.note("running", Some(&error.summary()));
            return now() + TROUBLE;
        }
        if place.before > 0 {
            // The rows before it are queued first.
            self.rows = place.before as i64;
            return 0;
        }
        let reason = reason_of(error, place);
        ereport!(
            PgLogLevel::WARNING,
            error.code(),
            format!("audit_algolia backfill of source {} has failed: {reason}", self.job.source)
        );
        match self.note("failed", Some(&reason)) {
            true => Micros::MAX,
            false => now() + TROUBLE,
        }
    }

    /// Memory was lacking for a step. It is repeated with the rows before the one that needed the memory, or with that
    /// row alone, at growing intervals, because others may need the memory only for a while.
    fn retry_smaller(&mut self, error: &SqlError, place: PagePosition) -> Micros {
        let reason = reason_of(error, place);
        self.note("running", Some(&reason));
        self.rows = (place.before as i64).max(1);
        self.memory_failures = self.memory_failures.saturating_add(1);
        now() + (TROUBLE << (self.memory_failures - 1).min(5)).min(LONGEST_TROUBLE)
    }

    /// Stores its state and obstacle, unless they are stored already; `false` if that failed.
    fn note(&mut self, state: &'static str, trouble: Option<&str>) -> bool {
        let noted = (state, trouble.map(str::to_owned));
        if self.noted.as_ref() == Some(&noted) {
            return true;
        }
        let id = self.job.id();
        let written = transact(|| progress::note(id, state, trouble)).unwrap_or_default();
        if written {
            self.noted = Some(noted);
        }
        written
    }

    /// Checks whether the obstacle still exists.
    fn look_again(&mut self) {
        let id = self.job.id();
        match transact(|| progress::jobs(Some(id))) {
            Ok(None) => (),
            Ok(Some(mut jobs)) => match jobs.pop() {
                Some(job) => {
                    if job.obstacle.is_none() {
                        self.due = now();
                    }
                    self.job = job;
                }
                None => self.due = Micros::MAX,
            },
            // It is checked again when it is due.
            Err(_) => (),
        }
    }
}

/// The reason of a failure, with the row if it is known.
fn reason_of(error: &SqlError, place: PagePosition) -> String {
    let Some(row) = place.row else { return error.redacted_summary() };
    let reason = transact(|| Ok(row_at_fault(error, row)));
    reason.unwrap_or_else(|other| other).summary()
}

/// The number of queued rows of an index.
fn queued(database: u32, index_id: i32) -> i64 {
    shmem::shared_state().map_or(0, |shared_state| {
        let lane = shared_state.find_lane(database, index_id).and_then(|place| shared_state.lane(place));
        lane.map_or(0, |lane| lane.queued)
    })
}

/// How many queued rows of an index stop its backfills.
fn depth() -> i64 {
    let worker_limits = guc::worker_limits();
    let on_the_way = worker_limits.slots as i64 * i64::from(guc::workers().max(1));
    DEPTH.saturating_mul(worker_limits.batch_rows).saturating_mul(on_the_way)
}
