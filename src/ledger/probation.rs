//! Records that Algolia has refused and that are to be tried again before they die (`audit_algolia.max_attempts`).
//!
//! Until its time has come such a record keeps its place in the claim table, in nobody's name, so that no worker takes
//! it. All this is lost with the server's memory, which is no harm: the record's attempts are counted anew then.
#![forbid(unsafe_code)]

use super::{Ledger, Micros};

/// Records that can be on probation at once, over all databases. One too many dies without further attempts.
pub const PROBATIONS: usize = 256;

/// In whose name their claims are: no worker has this number.
const OWNER: u32 = u32::MAX;

/// A refused record. All zeroes is a free entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Probation {
    /// The database's oid; 0 marks a free entry.
    pub database: u32,
    pub index_id: i32,
    /// Its row in the queue.
    pub id: i64,
    /// How often it has been refused.
    pub attempts: i32,
    /// Nobody may claim it before `due`.
    pub held: bool,
    pub due: Micros,
    /// The worker that has it in its hands between judgement and [`Ledger::hold_back`], plus one.
    pub judged_by: u32,
}

/// What becomes of a refused record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// It dies, after so many attempts.
    Dies(i32),
    /// It has been tried so many times and is tried again.
    Waits(i32),
}

impl Probation {
    /// A free entry.
    pub const EMPTY: Probation =
        Probation { database: 0, index_id: 0, id: 0, attempts: 0, held: false, due: 0, judged_by: 0 };
}

impl Ledger {
    /// A record that `worker` holds was refused: counts it, against the number of attempts it has (0 is as good as 1).
    pub fn judge(&mut self, worker: usize, index_id: i32, id: i64, max_attempts: i32) -> Sentence {
        let Some(database) = self.workers.get(worker).map(|me| me.database) else {
            return Sentence::Dies(1);
        };
        let mine =
            |entry: &Probation| entry.database == database && entry.index_id == index_id && entry.id == id;
        let known = self.probation.iter().position(mine);
        let attempts =
            known.and_then(|place| self.probation.get(place)).map_or(0, |entry| entry.attempts) + 1;
        if attempts >= max_attempts {
            if let Some(entry) = known.and_then(|place| self.probation.get_mut(place)) {
                *entry = Probation::EMPTY;
            }
            return Sentence::Dies(attempts);
        }
        // When all entries are taken, one whose record nobody has in his hands may have been forgotten by its queue.
        let is_idle = |entry: &Probation| {
            !entry.held && entry.judged_by == 0 && self.claims.holder(entry.database, entry.id).is_none()
        };
        let place = known
            .or_else(|| self.probation.iter().position(|entry| entry.database == 0))
            .or_else(|| self.probation.iter().position(is_idle));
        match place.and_then(|place| self.probation.get_mut(place)) {
            None => Sentence::Dies(attempts),
            Some(entry) => {
                let judged_by = worker as u32 + 1;
                *entry = Probation { database, index_id, id, attempts, held: false, due: 0, judged_by };
                Sentence::Waits(attempts)
            }
        }
    }

    /// Keeps a record that waits from being claimed before `due`. Call it in the moment its worker gives it back.
    pub fn hold_back(&mut self, database: u32, index_id: i32, id: i64, due: Micros) {
        let mine = |entry: &&mut Probation| {
            entry.database == database && entry.index_id == index_id && entry.id == id
        };
        if let Some(entry) = self.probation.iter_mut().find(mine) {
            entry.held = true;
            entry.due = due;
            entry.judged_by = 0;
            let _claimed = self.claims.claim(OWNER, database, id);
            self.parole_at = match self.parole_at {
                0 => due,
                earlier => earlier.min(due),
            };
        } else if let Some(lane) =
            self.find_lane(database, index_id).and_then(|lane| self.lanes.get_mut(lane))
        {
            // Nobody knows of it any more, as after DROP EXTENSION: it waits like any other.
            lane.give_back(crate::regions::Span { lo: id, hi: id });
        }
    }

    /// A worker ends: the records it has judged wait like any other.
    pub(super) fn leave_probation(&mut self, worker: usize) {
        for entry in self.probation.iter_mut().filter(|entry| entry.judged_by == worker as u32 + 1) {
            entry.judged_by = 0;
        }
    }

    /// The rows of an index that are held back.
    pub(super) fn held_back(&self, database: u32, index_id: i32) -> impl Iterator<Item = i64> + '_ {
        let held =
            move |entry: &&Probation| entry.held && entry.database == database && entry.index_id == index_id;
        self.probation.iter().filter(held).map(|entry| entry.id)
    }

    /// Lets those whose time has come be claimed again.
    pub(super) fn parole(&mut self, now: Micros) {
        if self.parole_at == 0 || self.parole_at > now {
            return;
        }
        let mut next = 0;
        for place in 0..PROBATIONS {
            let Some(entry) = self.probation.get_mut(place).filter(|entry| entry.held) else { continue };
            if entry.due > now {
                next = if next == 0 { entry.due } else { entry.due.min(next) };
                continue;
            }
            entry.held = false;
            let Probation { database, index_id, id, .. } = *entry;
            self.claims.release(database, id);
            if let Some(lane) = self.find_lane(database, index_id).and_then(|lane| self.lanes.get_mut(lane)) {
                lane.give_back(crate::regions::Span { lo: id, hi: id });
            }
        }
        self.parole_at = next;
    }

    /// When the next of them may be claimed.
    pub(super) fn next_parole(&self) -> Option<Micros> {
        (self.parole_at != 0).then_some(self.parole_at)
    }

    /// Rows have been delivered: those among them that were refused before have made up for it.
    pub(super) fn acquit(&mut self, database: u32, ids: &[i64]) {
        for entry in self.probation.iter_mut().filter(|entry| entry.database == database) {
            if ids.contains(&entry.id) {
                *entry = Probation::EMPTY;
            }
        }
    }

    /// Records of an index that wait for another attempt.
    pub fn on_probation(&self, database: u32, index_id: i32) -> i64 {
        self.held_back(database, index_id).count() as i64
    }

    /// Forgets the records of a database whose extension is no more.
    pub(super) fn forget_probation(&mut self, database: u32) {
        for entry in self.probation.iter_mut().filter(|entry| entry.database == database) {
            if entry.held {
                self.claims.release(database, entry.id);
            }
            *entry = Probation::EMPTY;
        }
    }
}
