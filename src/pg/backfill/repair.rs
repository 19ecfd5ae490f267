//! Repairs: changes that `on_capture_error = warn` has skipped are looked up again by their keys, and queued.
//!
//! One step is a short transaction that makes some repairs of one source, each in a subtransaction of its own. A repair
//! that fails delays no other, and is tried again after longer and longer pauses. Like a step of a backfill, a step of
//! repairs waits for no lock.

use std::cell::Cell;

use pgrx::prelude::*;

use super::read_order::by_key;
use super::repair_store::{self, lock_tables, Repair, RepairGroup, RepairId, RepairStatus};
use super::repair_turns::RepairTurns;
use super::rows::{find, with_snapshot};
use super::source_table::{as_reader, load, lock_table};
use super::transaction::transact;
use crate::pg::capture::{BoundRelation, RepairOutcome, RepairWriter, Scratch, SkippedChange};
use crate::pg::clock::now;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::{SqlError, SqlResult};
use crate::pg::subtransaction::guarded;
use crate::pg::worker::is_of_our_version;
use crate::pg::{failpoint, guc, restores, session_holds, shmem};
use crate::record::identity;
use crate::shared_state::Micros;

/// The most repairs in a step: fewer than the number of subtransactions that the server caches per transaction.
const STEP: i64 = 50;
/// After this time a step starts no further repair, so that its results become visible and its locks are released.
const LONGEST_STEP: Micros = 1_000_000;
/// The pause after finding something locked, at first and at last.
const BUSY: Micros = 200_000;
const LONGEST_BUSY: Micros = 2_000_000;
/// The pause after a failure that concerned no group.
const TROUBLE: Micros = 2_000_000;
const LONGEST_TROUBLE: Micros = 60_000_000;
/// After this many transient failures in a row, the log gets a warning.
const LASTING: u32 = 5;

/// The repairs of a database.
pub(super) struct Repairs {
    database: u32,
    /// Nothing is done before this time.
    due: Micros,
    /// Steps in a row that failed and concerned no group.
    failures: u32,
    turns: RepairTurns,
    rng: fastrand::Rng,
}

/// The outcome of a step.
enum RepairStep {
    /// The step was made; when the next is due, if there is one.
    Done(Option<Micros>),
    Busy,
}

impl Repairs {
    pub(super) fn new(database: u32) -> Repairs {
        Repairs { database, due: 0, failures: 0, turns: RepairTurns::default(), rng: fastrand::Rng::new() }
    }

    /// There are new repairs.
    pub(super) fn look(&mut self) {
        self.due = 0;
    }

    /// Makes a step if it is due. Returns when the next is due; `None` if nothing is left to do.
    pub(super) fn round(&mut self) -> Option<Micros> {
        if self.due > now() {
            return Some(self.due).filter(|due| *due != Micros::MAX);
        }
        self.turns.end();
        let attempt = Cell::new(None);
        let stepped = transact(|| step(&mut self.turns, &mut self.rng, &attempt));
        self.due = match stepped {
            Ok(RepairStep::Done(next)) => {
                self.failures = 0;
                if next.is_none() {
                    shmem::change_and_wake(|shared_state| shared_state.end_repairs(self.database));
                }
                next.unwrap_or(Micros::MAX)
            }
            Ok(RepairStep::Busy) => now() + BUSY,
            Err(_) if !is_of_our_version() => Micros::MAX,
            Err(error) => self.fail(&error, attempt.get()),
        };
        Some(self.due).filter(|due| *due != Micros::MAX)
    }

    /// A whole step has failed, perhaps during the attempt of one repair. That repair is postponed by itself, because
    /// it may be the only one that fails like this. Repairs of other tables do not wait. Returns when to continue.
    fn fail(&mut self, error: &SqlError, attempt: Option<RepairId>) -> Micros {
        let reason = error.kind();
        if let Some(id) = attempt {
            let until = now().saturating_add(pause(&mut self.rng, id.attempts));
            // If this fails as well, the repair is tried again with the others.
            let _ = transact(|| repair_store::postpone(id, reason.clone(), until));
        }
        let rng = &mut self.rng;
        let (failures, due) = match self.turns.fail(|failures| pause(rng, failures)) {
            Some(failures) => (failures, 0),
            None => {
                self.failures = self.failures.saturating_add(1);
                let pause = (TROUBLE << (self.failures - 1).min(5)).min(LONGEST_TROUBLE);
                (self.failures, now() + pause)
            }
        };
        let failure_logged_at = if error.is_transient() { LASTING } else { 1 };
        if failures == failure_logged_at {
            ereport!(
                PgLogLevel::WARNING,
                error.code(),
                format!("audit_algolia could not make repairs: {reason}")
            );
        }
        due
    }
}

/// How long to wait after this many attempts.
fn pause(rng: &mut fastrand::Rng, attempts: impl TryInto<u32>) -> Micros {
    let delay = guc::backoff().delay(attempts.try_into().unwrap_or(0), rng.f64());
    i64::try_from(delay.as_micros()).unwrap_or(Micros::MAX)
}

/// Makes a step, inside a transaction, which must be aborted after an error. `attempt` then tells which repair was
/// being made.
fn step(
    turns: &mut RepairTurns,
    rng: &mut fastrand::Rng,
    attempt: &Cell<Option<RepairId>>,
) -> SqlResult<RepairStep> {
    if restores::is_under_way() || !lock_tables() {
        return Ok(RepairStep::Busy);
    }
    let (owner, begun_at) = (extension_objects()?.owner, now());
    let groups = as_user(owner, repair_store::groups)?;
    let Some(group) = turns.next(&groups, begun_at) else {
        return Ok(RepairStep::Done(turns.first(&groups)));
    };
    let due = as_user(owner, || repair_store::due(group, begun_at, STEP))?;
    let outcomes = match (&group.obstacle, group.is_gone) {
        // The rows are gone with the table, and nobody can ask for them any more.
        (_, true) => due.into_iter().map(|repair| (repair, RepairStatus::Done)).collect(),
        (Some(obstacle), _) => {
            due.into_iter().map(|repair| (repair, RepairStatus::Failed(Some(obstacle.clone())))).collect()
        }
        (None, _) => {
            if !lock_table(group.table, owner)? {
                turns.fail(|failures| (BUSY << failures.min(5)).min(LONGEST_BUSY));
                return Ok(RepairStep::Done(turns.first(&groups)));
            }
            make(group, due, begun_at + LONGEST_STEP, attempt)?
        }
    };
    failpoint::reach("in repair");
    let is_any_made = outcomes
        .iter()
        .any(|(_, status)| matches!(status, RepairStatus::Done | RepairStatus::Unrepairable(..)));
    // Nothing was made: somebody has locked what is due.
    if !is_any_made && (outcomes.is_empty() || outcomes.len() as i64 >= STEP) {
        turns.fail(|failures| pause(rng, failures));
    } else {
        turns.succeed();
    }
    as_user(owner, || {
        repair_store::settle(group, outcomes, |status, attempts| {
            let pause = pause(rng, attempts);
            now().saturating_add(if matches!(status, RepairStatus::Busy) {
                pause.min(LONGEST_BUSY)
            } else {
                pause
            })
        })?;
        Ok(RepairStep::Done(turns.first(&repair_store::groups()?)))
    })
}

/// Makes repairs of one source, the first one and as many others as time allows. Returns what became of each.
fn make(
    group: &RepairGroup,
    due: Vec<Repair>,
    until: Micros,
    attempt: &Cell<Option<RepairId>>,
) -> SqlResult<Vec<(Repair, RepairStatus)>> {
    let owner = extension_objects()?.owner;
    // If the rules no longer fit the table, that is not the fault of a single repair. All are tried again.
    let fitting = guarded(|| {
        let (rules, columns, table) = as_user(owner, || load(group.source, group.table))?;
        let bound = BoundRelation::of_columns(&rules, &columns, &table)?;
        Ok((rules, columns, bound))
    })?;
    let (rules, columns, bound) = match fitting {
        Ok(fitting) => fitting,
        Err(error) => {
            let why = error.kind();
            return Ok(due
                .into_iter()
                .map(|repair| (repair, RepairStatus::Failed(Some(why.clone()))))
                .collect());
        }
    };
    let reader = rules.owner;
    let mut repair_writer = RepairWriter::open(group.source, rules, columns, bound)?;
    let (mut outcomes, mut scratch) = (Vec::with_capacity(due.len()), Scratch::new());
    as_reader(reader, || {
        for repair in due {
            if !outcomes.is_empty() && now() > until {
                break;
            }
            attempt.set(Some(repair.id));
            let status = scratch.within(|| -> SqlResult<RepairStatus> {
                match guarded(|| make_one(group, &repair.change, &mut repair_writer))? {
                    Ok(made) => Ok(RepairStatus::of(made)),
                    Err(error) => {
                        repair_writer.take_back();
                        let unreadable = repair_writer.make_unreadable(&repair.change)?;
                        Ok(unreadable
                            .map_or_else(|| RepairStatus::Failed(Some(error.kind())), RepairStatus::of))
                    }
                }
            })?;
            scratch.give_back();
            // This happens outside of the subtransaction and at once. If it fails, it is known which record caused it.
            repair_writer.flush()?;
            outcomes.push((repair, status));
        }
        attempt.set(None);
        repair_writer.close();
        Ok(())
    })?;
    Ok(outcomes)
}

fn make_one(
    group: &RepairGroup,
    change: &SkippedChange,
    repair_writer: &mut RepairWriter,
) -> SqlResult<RepairOutcome> {
    if !repair_writer.looks_for(change) {
        return repair_writer.make_without(change);
    }
    let query = as_user(extension_objects()?.owner, || by_key(group.table, &change.key_columns))?;
    // Each look-up has a new snapshot, taken after everything that was held or locked before.
    let look = |repair_writer: &mut RepairWriter| {
        with_snapshot(|| {
            let found = find(&query, &change.key)?;
            match found.as_slice() {
                [row] => repair_writer.make(change, (row.relation, row.place)).map(Some),
                _ => Ok(None),
            }
        })
    };
    if let Some(made) = look(repair_writer)? {
        return Ok(made);
    }
    if let Some(object) = repair_writer.mirrored_object(change)? {
        // A row that reappears meanwhile could be delivered and deleted from the queue before its deletion is queued,
        // which would then be sent after it. So nobody may deliver the object until the deletion is visible.
        if !session_holds::hold(group.index_id, &identity(&object)) {
            return Ok(RepairOutcome::Busy);
        }
        if let Some(made) = look(repair_writer)? {
            return Ok(made);
        }
    }
    repair_writer.make_without(change)
}
