//! Repairs: changes that `on_capture_error = warn` has let pass are looked up again by their keys, and queued after all.
//!
//! One step is a short transaction that takes some repairs of one source, each in a subtransaction of its own: one that
//! cannot be made holds up none but itself, and is tried again later and later. As a step of a backfill it waits for no
//! lock.

use std::collections::HashSet;

use pgrx::prelude::*;

use super::crew::transact;
use super::notes::{self, lock_notes, Fate, Group, Noted};
use super::rows::{find, with_snapshot};
use super::step::{as_reader, load, lock_table, now};
use super::turns::Turns;
use super::walk::by_key;
use crate::ledger::{object_hash, Hold, Micros};
use crate::pg::capture::{Bound, Made, Mender, Uncaptured};
use crate::pg::owner::{as_user, home};
use crate::pg::report::{Failure, Outcome};
use crate::pg::subtransaction::guarded;
use crate::pg::worker::is_of_our_version;
use crate::pg::{failpoint, guc, shmem};
use crate::record::identity;

/// Repairs made in one step at most.
const STEP: i64 = 200;
/// How soon to look again when somebody has locked something, and when something has gone wrong that may pass.
const BUSY: Micros = 200_000;
const TROUBLE: Micros = 2_000_000;
const LONGEST_TROUBLE: Micros = 60_000_000;
/// Objects that are not in the table are held until a multiple of this: few holds end at times of their own.
const HOLD: Micros = 20_000_000;

/// The repairs of a database.
pub(super) struct Repairs {
    database: u32,
    /// Nothing is to be done before this time.
    due: Micros,
    /// Steps in a row that have failed.
    failures: u32,
    turns: Turns,
    dice: fastrand::Rng,
}

/// What came of a step.
enum Stepped {
    /// Made; the time of the next, if there is any more.
    Done(Option<Micros>),
    Busy,
}

impl Repairs {
    pub(super) fn new(database: u32) -> Repairs {
        Repairs { database, due: 0, failures: 0, turns: Turns::default(), dice: fastrand::Rng::new() }
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
        let mut holds = Holds::new(self.database);
        let stepped = transact(|| step(&mut holds, &mut self.turns, &mut self.dice));
        // What has been queued can be seen now.
        drop(holds);
        self.due = match stepped {
            Ok(Stepped::Done(next)) => {
                self.failures = 0;
                if next.is_none() {
                    let wakes = shmem::ledger().map(|mut ledger| ledger.repairs_are_done(self.database));
                    shmem::wake(wakes.unwrap_or_default());
                }
                next.unwrap_or(Micros::MAX)
            }
            Ok(Stepped::Busy) => now() + BUSY,
            Err(_) if !is_of_our_version() => Micros::MAX,
            Err(failure) => self.fail(&failure),
        };
        Some(self.due).filter(|due| *due != Micros::MAX)
    }

    fn fail(&mut self, failure: &Failure) -> Micros {
        if !failure.may_pass() && self.failures == 0 {
            let told = failure.kind();
            ereport!(
                PgLogLevel::WARNING,
                failure.code(),
                format!("audit_algolia repairs have failed: {told}")
            );
        }
        self.failures = self.failures.saturating_add(1);
        now() + (TROUBLE << (self.failures - 1).min(5)).min(LONGEST_TROUBLE)
    }
}

/// Objects of mirrored rows that are not in the table. Until that is queued no newer version of them may be delivered,
/// and forgotten: the older one would be sent after it. They are let go of when this is dropped.
struct Holds {
    database: u32,
    holds: Vec<Hold>,
    hashes: HashSet<(i32, i64)>,
    ends_at: Micros,
}

impl Holds {
    fn new(database: u32) -> Holds {
        let ends_at = (now() / HOLD + 2) * HOLD;
        Holds { database, holds: Vec::new(), hashes: HashSet::new(), ends_at }
    }

    /// Whether an object is held now.
    fn take(&mut self, index_id: i32, deletion: &str) -> bool {
        let hash = object_hash(&identity(deletion));
        if self.hashes.contains(&(index_id, hash)) {
            return true;
        }
        let held = shmem::ledger()
            .and_then(|mut ledger| ledger.hold_object(self.database, index_id, hash, self.ends_at));
        match held {
            Some(hold) => {
                self.holds.push(hold);
                self.hashes.insert((index_id, hash))
            }
            None => false,
        }
    }

    /// Whether what is held will be for long enough to end a transaction.
    fn last(&self) -> bool {
        self.holds.is_empty() || now() + HOLD / 2 < self.ends_at
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        for hold in self.holds.drain(..) {
            let wakes = shmem::ledger().map(|mut ledger| ledger.let_go_of_object(hold));
            shmem::wake(wakes.unwrap_or_default());
        }
    }
}

/// Makes a step, inside a transaction. On an error the transaction has to be aborted.
fn step(holds: &mut Holds, turns: &mut Turns, dice: &mut fastrand::Rng) -> Outcome<Stepped> {
    if !lock_notes() {
        return Ok(Stepped::Busy);
    }
    let (owner, begun_at) = (home()?.owner, now());
    let groups = as_user(owner, notes::groups)?;
    let Some(group) = turns.next(&groups, begun_at) else {
        return Ok(Stepped::Done(turns.first(&groups)));
    };
    let due = as_user(owner, || notes::due(group, begun_at, STEP))?;
    let fates = match (&group.obstacle, group.is_gone) {
        // With the table all its rows are gone, and nobody can ask for them any more.
        (_, true) => due.into_iter().map(|noted| (noted, Fate::Ended)).collect(),
        (Some(obstacle), _) => {
            due.into_iter().map(|noted| (noted, Fate::Failed(Some(obstacle.clone())))).collect()
        }
        (None, _) => {
            if !lock_table(group.table, owner)? {
                return Ok(Stepped::Busy);
            }
            make(group, due, holds)?
        }
    };
    if !holds.last() {
        return Err(crate::pg::report::failure(
            PgSqlErrorCode::ERRCODE_OPERATOR_INTERVENTION,
            "repairs have taken too long",
            "They are tried again.",
        ));
    }
    failpoint::reach("in repair");
    let backoff = guc::backoff();
    let mut pause = |attempts: u32| {
        let delay = backoff.delay(attempts, dice.f64());
        i64::try_from(delay.as_micros()).unwrap_or(LONGEST_TROUBLE)
    };
    let all_failed = fates.iter().all(|(_, fate)| matches!(fate, Fate::Failed(_)));
    turns.take(group, all_failed && fates.len() as i64 >= STEP, &mut pause);
    as_user(owner, || {
        notes::settle(group, fates, |fate, attempts| match fate {
            Fate::Busy => now() + BUSY,
            _ => now().saturating_add(pause(u32::try_from(attempts).unwrap_or(0))),
        })?;
        Ok(Stepped::Done(turns.first(&notes::groups()?)))
    })
}

/// Makes repairs of one source: what became of each.
fn make(group: &Group, due: Vec<Noted>, holds: &mut Holds) -> Outcome<Vec<(Noted, Fate)>> {
    let owner = home()?.owner;
    // Rules that do not fit the table any more are no repair's own fault; all are tried again.
    let fitting = guarded(|| {
        let (rules, columns, table) = as_user(owner, || load(group.source, group.table))?;
        let bound = Bound::new(&rules, &columns, &table)?;
        Ok((rules, columns, bound))
    })?;
    let (rules, columns, bound) = match fitting {
        Ok(fitting) => fitting,
        Err(failure) => {
            let why = failure.kind();
            return Ok(due.into_iter().map(|noted| (noted, Fate::Failed(Some(why.clone())))).collect());
        }
    };
    let reader = rules.owner;
    let mut mender = Mender::open(group.source, rules, columns, bound)?;
    let mut fates = Vec::with_capacity(due.len());
    as_reader(reader, || {
        for noted in due {
            let before = mender.len();
            let fate = match guarded(|| make_one(group, &noted.change, &mut mender, holds))? {
                Ok(made) => Fate::of(made),
                Err(failure) => {
                    mender.truncate(before);
                    Fate::Failed(Some(failure.kind()))
                }
            };
            fates.push((noted, fate));
        }
        mender.close()
    })?;
    Ok(fates)
}

fn make_one(group: &Group, change: &Uncaptured, mender: &mut Mender, holds: &mut Holds) -> Outcome<Made> {
    if !mender.looks_for(change) {
        return mender.make_without(change);
    }
    let query = as_user(home()?.owner, || by_key(group.table, &change.key_columns))?;
    // Each look has a snapshot of its own, of the moment after what has been held or locked before.
    let look = |mender: &mut Mender| {
        with_snapshot(|| {
            let found = find(&query, &change.key)?;
            match found.as_slice() {
                [row] => mender.make(change, (row.relation, row.place)).map(Some),
                _ => Ok(None),
            }
        })
    };
    if let Some(made) = look(mender)? {
        return Ok(made);
    }
    if mender.is_mirrored() {
        if !holds.take(group.index_id, &mender.deletion(change)?) {
            return Ok(Made::Busy);
        }
        if let Some(made) = look(mender)? {
            return Ok(made);
        }
    }
    mender.make_without(change)
}
