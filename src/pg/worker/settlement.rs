//! What the rows of a batch came to: deleted, moved to the dead letters, or given back.

use std::collections::HashSet;
use std::time::Duration;

use super::in_flight::InFlight;
use crate::delivery::outcome::UnattributedFailure;
use crate::pg::process::TransactionFailure;
use crate::shared_state::{LaneFailure, Micros};

/// What the rows of a batch that is back have come to. Those that are in none of the lists are given back.
pub(super) struct Settlement {
    pub(super) flight: usize,
    pub(super) in_flight: InFlight,
    /// The rows that have arrived.
    pub(super) delivered: Vec<i64>,
    pub(super) dead: Vec<DeadLetter>,
    /// Refused rows that are tried again, and when.
    pub(super) waiting: Vec<(i64, Micros)>,
    /// Rows that are too large for the memory there is, or damaged, and when they are tried again.
    pub(super) held_back: Vec<(i64, Micros)>,
    /// What Algolia has said of the latest of the refused ones.
    pub(super) last_rejection: Option<String>,
    /// Why its lane waits, if it does.
    pub(super) backoff: Option<LaneBackoff>,
    /// It has failed on the way, and a record of it may be why.
    pub(super) unattributed_failure: UnattributedFailure,
    /// All of it is a record held back that has failed on the way once more.
    pub(super) isolated: bool,
    /// The indexing task of what has arrived.
    pub(super) task: Option<i64>,
    /// How many older versions of its objects were deleted.
    pub(super) superseded: i64,
    /// A request of the batch may still be executed: until when its objects are held. Their versions stay in the queue
    /// until one has been delivered without doubt; should the server crash meanwhile, they tell of the doubt.
    pub(super) held_until: Option<Micros>,
}

/// Why and how long the lane of a batch waits.
pub(super) struct LaneBackoff {
    pub(super) kind: LaneFailure,
    pub(super) reason: String,
    pub(super) at_least: Duration,
}

impl Settlement {
    /// Of a batch that may be executed once more, versions do not count as delivered.
    pub(super) fn doubt_versions(&mut self) {
        if self.held_until.is_none() {
            return;
        }
        let rows = self.in_flight.ids.iter().zip(&self.in_flight.objects);
        let versions: HashSet<i64> = rows.filter(|(_, object)| object.is_some()).map(|(id, _)| *id).collect();
        self.delivered.retain(|id| !versions.contains(id));
    }

    /// What is to be deleted.
    pub(super) fn deletion(&self, may_have_dead: bool) -> Deletion {
        let mut deletion = Deletion { index_id: self.in_flight.index_id, ..Deletion::default() };
        if self.in_flight.objects.iter().all(Option::is_none) {
            deletion.ids = self.delivered.clone();
            return deletion;
        }
        let delivered: HashSet<i64> = self.delivered.iter().copied().collect();
        for (id, object) in self.in_flight.ids.iter().zip(&self.in_flight.objects) {
            match object {
                _ if !delivered.contains(id) => (),
                None => deletion.ids.push(*id),
                Some(object) => {
                    deletion.objects.push(object.clone());
                    deletion.versions.push(*id);
                }
            }
        }
        deletion.may_have_dead = may_have_dead && !deletion.versions.is_empty();
        deletion
    }

    /// Whether Algolia has judged records. Those that were too large have not been sent.
    pub(super) fn is_judged(&self) -> bool {
        if self.isolated {
            return false;
        }
        let are_refused = self.dead.iter().any(|row| row.status.is_some()) || !self.waiting.is_empty();
        are_refused || !self.delivered.is_empty()
    }

    /// The rows that wait again.
    pub(super) fn left(&self) -> Vec<i64> {
        let dealt_with = self.delivered.iter().copied();
        let dealt_with = dealt_with.chain(self.dead.iter().map(|row| row.id));
        let waiting = self.waiting.iter().chain(&self.held_back).map(|(id, _)| *id);
        let dealt_with: HashSet<i64> = dealt_with.chain(waiting).collect();
        self.in_flight.rows().filter(|id| !dealt_with.contains(id)).collect()
    }

    /// How many rows were refused.
    pub(super) fn refused(&self) -> usize {
        self.dead.len() + self.waiting.len() + self.held_back.len()
    }
}

/// A record that is given up.
pub(super) struct DeadLetter {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    /// Which object it is a version of.
    pub(super) object: Option<String>,
    pub(super) attempts: i32,
    pub(super) status: Option<u16>,
    pub(super) reason: String,
}

/// The rows of a batch that have arrived, and are to be deleted.
#[derive(Default)]
pub(super) struct Deletion {
    pub(super) index_id: i32,
    /// Rows that stand by themselves.
    pub(super) ids: Vec<i64>,
    /// Versions: their objects, and their rows.
    pub(super) objects: Vec<String>,
    pub(super) versions: Vec<i64>,
    /// There may be dead letters that the versions supersede.
    pub(super) may_have_dead: bool,
    /// How many older versions were deleted with them.
    pub(super) superseded: i64,
    /// Those that cannot be deleted, or whose older versions cannot be, and what the server says of that.
    pub(super) damaged: Vec<(i64, String)>,
}

impl Deletion {
    /// All rows of it.
    pub(super) fn rows(&self) -> impl Iterator<Item = i64> + '_ {
        self.ids.iter().chain(&self.versions).copied()
    }
}

/// What came of a settlement.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SettleOutcome {
    Done,
    /// Rows are locked or damaged: the lists have those that are done.
    Partly,
    /// Somebody has locked rows, or the dead letters: no row of the queue is deleted. Dead letters that have been superseded
    /// may be, which they are all the same.
    Busy,
    /// There was no memory for it: nothing has changed.
    OutOfMemory,
    /// The server cannot read what is on its disk: nothing has changed, and this is what it says.
    Damaged(String),
    /// The queue is no more: the extension has been dropped.
    Gone,
}

impl From<TransactionFailure> for SettleOutcome {
    fn from(failure: TransactionFailure) -> SettleOutcome {
        match failure {
            TransactionFailure::Locked => SettleOutcome::Busy,
            TransactionFailure::OutOfMemory => SettleOutcome::OutOfMemory,
            TransactionFailure::Damaged(damage) => SettleOutcome::Damaged(damage),
        }
    }
}
