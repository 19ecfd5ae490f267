//! A batch that is back: which of its rows are done with, and which are given back.

use std::collections::HashSet;
use std::time::Duration;

use super::InFlightBatch;
use crate::delivery::outcome::Suspicion;
use crate::pg::worker::settle::{Dead, Delivered};
use crate::shared_state::{LaneFailure, Micros};

/// A batch that is back, and what its rows came to. Those that are in none of the lists are given back.
pub(super) struct Landed {
    pub(super) flight: usize,
    pub(super) in_flight: InFlightBatch,
    /// All rows of the batch have arrived.
    pub(super) whole: bool,
    /// If not: those that have.
    pub(super) parts: Vec<i64>,
    pub(super) dead: Vec<Dead>,
    /// Refused rows that are tried again, and when.
    pub(super) waiting: Vec<(i64, Micros)>,
    /// Rows that are too large for the memory there is, or damaged, and when they are tried again.
    pub(super) short: Vec<(i64, Micros)>,
    /// What Algolia has said of the latest of the refused ones.
    pub(super) complaint: Option<String>,
    pub(super) setback: Option<GiveBackReason>,
    /// It has failed on the way, and a record of it may be why.
    pub(super) suspicion: Suspicion,
    /// All of it is a record held back that has failed on the way once more.
    pub(super) alone: bool,
    /// The indexing task of what has arrived.
    pub(super) task: Option<i64>,
    /// How many older versions of its objects were deleted.
    pub(super) superseded: i64,
    /// A request of the batch may still be executed: until when its objects are held. Their versions stay in the queue
    /// until one has been delivered without doubt; should the server crash meanwhile, they tell of the doubt.
    pub(super) held_until: Option<Micros>,
}

/// Why rows are given back.
pub(super) struct GiveBackReason {
    pub(super) kind: LaneFailure,
    pub(super) reason: String,
    pub(super) at_least: Duration,
}

impl Landed {
    pub(super) fn delivered(&self) -> &[i64] {
        if self.whole {
            &self.in_flight.ids
        } else {
            &self.parts
        }
    }

    /// Of a batch that may be executed once more, versions do not count as delivered.
    pub(super) fn doubt_versions(&mut self) {
        if self.held_until.is_none() {
            return;
        }
        let delivered = std::mem::take(&mut self.whole).then(|| self.in_flight.ids.clone());
        let delivered: HashSet<i64> =
            delivered.unwrap_or_else(|| std::mem::take(&mut self.parts)).into_iter().collect();
        let rows = self.in_flight.ids.iter().zip(&self.in_flight.objects);
        self.parts = rows
            .filter(|(id, object)| object.is_none() && delivered.contains(id))
            .map(|(id, _)| *id)
            .collect();
    }

    /// What is to be deleted.
    pub(super) fn to_settle(&self, may_have_dead: bool) -> Delivered {
        let mut settled = Delivered { index_id: self.in_flight.index_id, ..Delivered::default() };
        if self.in_flight.objects.iter().all(Option::is_none) {
            settled.ids = self.delivered().to_vec();
            return settled;
        }
        let delivered: HashSet<i64> = self.delivered().iter().copied().collect();
        for (id, object) in self.in_flight.ids.iter().zip(&self.in_flight.objects) {
            match object {
                _ if !delivered.contains(id) => (),
                None => settled.ids.push(*id),
                Some(object) => {
                    settled.objects.push(object.clone());
                    settled.versions.push(*id);
                }
            }
        }
        settled.may_have_dead = may_have_dead && !settled.versions.is_empty();
        settled
    }

    /// Whether Algolia has judged records. Those that were too large have not been sent.
    pub(super) fn is_judged(&self) -> bool {
        if self.alone {
            return false;
        }
        let are_refused = self.dead.iter().any(|row| row.status.is_some()) || !self.waiting.is_empty();
        are_refused || !self.delivered().is_empty()
    }

    /// The rows that wait again.
    pub(super) fn left(&self) -> Vec<i64> {
        let dealt_with = self.delivered().iter().copied();
        let dealt_with = dealt_with.chain(self.dead.iter().map(|row| row.id));
        let waiting = self.waiting.iter().chain(&self.short).map(|(id, _)| *id);
        let dealt_with: HashSet<i64> = dealt_with.chain(waiting).collect();
        self.in_flight.rows().filter(|id| !dealt_with.contains(id)).collect()
    }

    /// How many rows were refused.
    pub(super) fn refused(&self) -> usize {
        self.dead.len() + self.waiting.len() + self.short.len()
    }
}
