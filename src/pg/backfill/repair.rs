//! Repairs: changes that `on_capture_error = warn` has skipped are looked up again by their keys, and queued.
//!
//! One step is a short transaction that makes some repairs of one source, each in a subtransaction of its own. A repair
//! that fails delays no other, and is tried again after longer and longer pauses. Like a step of a backfill, a step of
//! repairs waits for no lock.

use std::cell::Cell;

use pgrx::prelude::*;

use super::read_order::by_key;
use super::repair_store::{self, lock_notes, Repair, RepairGroup, RepairId, RepairStatus};
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
use crate::pg::{failpoint, guc, held_objects, import, shmem};
use crate::record::identity;
use crate::shared_state::Micros;

/// Repairs made in one step at most: fewer than the server remembers subtransactions of one transaction without looking
/// them up.
const STEP: i64 = 50;
/// A step that has taken so long makes no further ones: what is made is to be seen, and what is locked to be let go of.
const LONGEST_STEP: Micros = 1_000_000;
/// How soon to look again when somebody has locked something, at first and at last.
const BUSY: Micros = 200_000;
const LONGEST_BUSY: Micros = 2_000_000;
/// How soon to look again when something has gone wrong before it was anybody's turn.
const TROUBLE: Micros = 2_000_000;
const LONGEST_TROUBLE: Micros = 60_000_000;
/// Failures in a row after which the log is told of what may pass.
const LASTING: u32 = 5;

/// The repairs of a database.
pub(super) struct Repairs {
    database: u32,
    /// Nothing is to be done before this time.
    due: Micros,
    /// Steps in a row that have failed before it was anybody's turn.
    failures: u32,
    turns: RepairTurns,
    rng: fastrand::Rng,
}

/// What came of a step.
enum RepairStep {
    /// Made; the time of the next, if there is any more.
    Done(Option<Micros>),
    Busy,
}

impl Repairs {
    pub(super) fn new(database: u32) -> Repairs {
        Repairs { database, due: 0, failures: 0, turns: RepairTurns::default(), rng: fastrand::Rng::new() }
    }

    /// There are new ones.
    pub(super) fn look(&mut self) {
        self.due = 0;
    }

    /// A step, if it is due. Returns when the next is; nothing when there is nothing left to do.
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

    /// A step has failed as a whole, in this attempt or outside of any. The repair that was being made is postponed by
    /// itself, for it may be the only one that fails so; those of other tables wait for nothing. Returns when to go on.
    fn fail(&mut self, error: &SqlError, attempt: Option<RepairId>) -> Micros {
        let reason = error.kind();
        if let Some(id) = attempt {
            let until = now().saturating_add(pause(&mut self.rng, id.attempts));
            // If that fails, too, it is tried again with the others.
            let _ = transact(|| repair_store::postpone(id, reason.clone(), until));
        }
        let rng = &mut self.rng;
        let (failures, due) = match self.turns.fail(|vain| pause(rng, vain)) {
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
                format!("audit_algolia repairs have failed: {reason}")
            );
        }
        due
    }
}

/// How long to wait after so many attempts.
fn pause(rng: &mut fastrand::Rng, attempts: impl TryInto<u32>) -> Micros {
    let delay = guc::backoff().delay(attempts.try_into().unwrap_or(0), rng.f64());
    i64::try_from(delay.as_micros()).unwrap_or(Micros::MAX)
}

/// Makes a step, inside a transaction. On an error the transaction has to be aborted; then `attempt` tells the repair that
/// was being made.
fn step(
    turns: &mut RepairTurns,
    rng: &mut fastrand::Rng,
    attempt: &Cell<Option<RepairId>>,
) -> SqlResult<RepairStep> {
    if import::is_under_way() || !lock_notes() {
        return Ok(RepairStep::Busy);
    }
    let (owner, begun_at) = (extension_objects()?.owner, now());
    let groups = as_user(owner, repair_store::groups)?;
    let Some(group) = turns.next(&groups, begun_at) else {
        return Ok(RepairStep::Done(turns.first(&groups)));
    };
    let due = as_user(owner, || repair_store::due(group, begun_at, STEP))?;
    let outcomes = match (&group.obstacle, group.is_gone) {
        // With the table all its rows are gone, and nobody can ask for them any more.
        (_, true) => due.into_iter().map(|repair| (repair, RepairStatus::Done)).collect(),
        (Some(obstacle), _) => {
            due.into_iter().map(|repair| (repair, RepairStatus::Failed(Some(obstacle.clone())))).collect()
        }
        (None, _) => {
            if !lock_table(group.table, owner)? {
                turns.fail(|vain| (BUSY << vain.min(5)).min(LONGEST_BUSY));
                return Ok(RepairStep::Done(turns.first(&groups)));
            }
            make(group, due, begun_at + LONGEST_STEP, attempt)?
        }
    };
    failpoint::reach("in repair");
    let is_any_made = outcomes
        .iter()
        .any(|(_, status)| matches!(status, RepairStatus::Done | RepairStatus::Unrepairable(..)));
    // None at all: somebody has locked what is due.
    if !is_any_made && (outcomes.is_empty() || outcomes.len() as i64 >= STEP) {
        turns.fail(|vain| pause(rng, vain));
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

/// Makes repairs of one source, the first and as many more as there is time for: what became of each.
fn make(
    group: &RepairGroup,
    due: Vec<Repair>,
    until: Micros,
    attempt: &Cell<Option<RepairId>>,
) -> SqlResult<Vec<(Repair, RepairStatus)>> {
    let owner = extension_objects()?.owner;
    // Rules that do not fit the table any more are no repair's own fault; all are tried again.
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
            // Outside of the subtransaction, and at once: should it fail, it is known by whose record.
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
    // Each look has a snapshot of its own, of the moment after what has been held or locked before.
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
        // A row that comes back meanwhile could be delivered, and forgotten, before its absence is queued, which would be
        // sent after it. So nobody delivers the object until that can be seen.
        if !held_objects::hold(group.index_id, &identity(&object)) {
            return Ok(RepairOutcome::Busy);
        }
        if let Some(made) = look(repair_writer)? {
            return Ok(made);
        }
    }
    repair_writer.make_without(change)
}
