//! What the rows of a batch came to: deleted, moved to the dead letters, or given back.

use std::collections::HashSet;
use std::time::Duration;

use super::in_flight::InFlight;
use crate::delivery::outcome::TransitFailure;
use crate::pg::process::TransactionFailure;
use crate::shared_state::{LaneFailure, Micros};

/// What becomes of the rows of a returned batch. Those in none of the lists are given back.
pub(super) struct Settlement {
    pub(super) flight: usize,
    pub(super) in_flight: InFlight,
    /// The delivered rows.
    pub(super) delivered: Vec<i64>,
    pub(super) dead: Vec<DeadLetter>,
    /// Rejected rows that are tried again, and when.
    pub(super) rejected_retries: Vec<(i64, Micros)>,
    /// Rows that are tried again by themselves without a verdict of Algolia's, and when: damaged ones, ones for which
    /// memory is lacking, and an isolated one that has failed on the way again.
    pub(super) unjudged_retries: Vec<(i64, Micros)>,
    /// The reason of the latest rejection.
    pub(super) last_rejection: Option<String>,
    /// Why its lane has to wait, if it has to.
    pub(super) backoff: Option<LaneBackoff>,
    /// Whether it has failed on the way, perhaps because of one of its records.
    pub(super) transit_failure: TransitFailure,
    /// Whether it was a single record held back, which has failed on the way again.
    pub(super) isolated: bool,
    /// The indexing task of the delivered rows.
    pub(super) task: Option<i64>,
    /// How many older versions of its objects were deleted.
    pub(super) superseded: i64,
    /// If a request of the batch may still be executed: until when its objects are held. Their versions stay in the
    /// queue until one is certainly delivered, so that the uncertainty survives a crash.
    pub(super) held_until: Option<Micros>,
}

/// Why a lane has to wait, and how long.
pub(super) struct LaneBackoff {
    pub(super) kind: LaneFailure,
    pub(super) reason: String,
    pub(super) at_least: Duration,
}

impl LaneBackoff {
    /// A short pause after a problem of our own.
    pub(super) fn pause(reason: String) -> LaneBackoff {
        LaneBackoff { kind: LaneFailure::Retry, reason, at_least: Duration::from_secs(1) }
    }
}

impl Settlement {
    /// If a request of the batch may still be executed, its versions do not count as delivered.
    pub(super) fn doubt_versions(&mut self) {
        if self.held_until.is_none() {
            return;
        }
        let rows = self.in_flight.ids.iter().zip(&self.in_flight.objects);
        let versions: HashSet<i64> = rows.filter(|(_, object)| object.is_some()).map(|(id, _)| *id).collect();
        self.delivered.retain(|id| !versions.contains(id));
    }

    /// The rows to delete.
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

    /// Whether Algolia has accepted or rejected records. Records that were too large were not sent.
    pub(super) fn is_judged(&self) -> bool {
        if self.isolated {
            return false;
        }
        let are_rejected =
            self.dead.iter().any(|row| row.status.is_some()) || !self.rejected_retries.is_empty();
        are_rejected || !self.delivered.is_empty()
    }

    /// The rows that wait again.
    pub(super) fn left(&self) -> Vec<i64> {
        let dealt_with = self.delivered.iter().copied();
        let dealt_with = dealt_with.chain(self.dead.iter().map(|row| row.id));
        let retries = self.retries().map(|(id, _)| *id);
        let dealt_with: HashSet<i64> = dealt_with.chain(retries).collect();
        self.in_flight.rows().filter(|id| !dealt_with.contains(id)).collect()
    }

    /// The rows that are held back until they are tried again by themselves.
    pub(super) fn retries(&self) -> impl Iterator<Item = &(i64, Micros)> {
        self.rejected_retries.iter().chain(&self.unjudged_retries)
    }

    /// How many rows are dead letters or held back, so that nobody may claim them now.
    pub(super) fn withheld(&self) -> usize {
        self.dead.len() + self.retries().count()
    }
}

/// A record that becomes a dead letter.
pub(super) struct DeadLetter {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    /// The object that it is a version of.
    pub(super) object: Option<String>,
    pub(super) attempts: i32,
    pub(super) status: Option<u16>,
    pub(super) reason: String,
}

/// The delivered rows of a batch, which are to be deleted.
#[derive(Default)]
pub(super) struct Deletion {
    pub(super) index_id: i32,
    /// Rows that are no versions.
    pub(super) ids: Vec<i64>,
    /// Rows that are versions, and their objects.
    pub(super) objects: Vec<String>,
    pub(super) versions: Vec<i64>,
    /// Whether the versions may supersede dead letters.
    pub(super) may_have_dead: bool,
    /// How many older versions were deleted with them.
    pub(super) superseded: i64,
    /// Rows that cannot be deleted, or whose older versions cannot be deleted, with the server's error.
    pub(super) damaged: Vec<(i64, String)>,
}

impl Deletion {
    /// All its rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = i64> + '_ {
        self.ids.iter().chain(&self.versions).copied()
    }
}

/// The outcome of a settlement.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SettleOutcome {
    Done,
    /// Some rows are locked or damaged. The lists contain those that were settled.
    Partly,
    /// Somebody has locked rows or the dead letters: no row of the queue was deleted. Superseded dead letters may have
    /// been.
    Busy,
    /// Memory was lacking, and nothing has changed.
    OutOfMemory,
    /// The server cannot read its disk, and nothing has changed: the server's error.
    Damaged(String),
    /// The extension has been dropped, and the queue with it.
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
