//! What the current transaction has changed so far, per subtransaction.

use std::borrow::Cow;

use pgrx::pg_sys;

use crate::shared_state::{Announced, CommitDelta};

/// What one subtransaction did to one index.
struct PendingDelta {
    subtransaction: pg_sys::SubTransactionId,
    change: CommitDelta,
}

/// What the current transaction has done so far.
#[derive(Default)]
pub(super) struct PendingChanges {
    deltas: Vec<PendingDelta>,
    /// The announcements of the deltas.
    pub(super) announced: Option<Announced>,
    /// An index or a pause has changed, and the workers must read them again.
    pub(super) stale: bool,
    /// Which subtransaction has paused or resumed which index, in order.
    pub(super) pauses: Vec<(pg_sys::SubTransactionId, i32, bool)>,
    /// Settings of an index are to be sent.
    pub(super) wants_settings: bool,
    /// The extension was created or dropped: launcher and workers must look.
    pub(super) launcher: bool,
    /// A database was created, or opened or closed to us.
    pub(super) databases: bool,
    /// Rows may have been inserted into the extension's tables without capture.
    pub(super) copied_into: bool,
    /// The databases that our processes have left because of a statement, and whether it drops them.
    pub(super) vacated: Vec<(u32, bool)>,
}

impl PendingChanges {
    /// The deltas of a subtransaction are together at the end of the list: those of its children have been merged into
    /// them or dropped, and its parent adds none while it is in progress.
    fn first_delta_of(&self, subtransaction: pg_sys::SubTransactionId) -> usize {
        let others = self.deltas.iter().rposition(|delta| delta.subtransaction != subtransaction);
        others.map_or(0, |last| last + 1)
    }

    fn take_deltas_of(&mut self, subtransaction: pg_sys::SubTransactionId) -> Vec<PendingDelta> {
        self.deltas.split_off(self.first_delta_of(subtransaction))
    }

    /// The delta of a subtransaction for an index. The subtransaction must be the innermost that has deltas.
    pub(super) fn delta(
        &mut self,
        subtransaction: pg_sys::SubTransactionId,
        index_id: i32,
    ) -> &mut CommitDelta {
        let first = self.first_delta_of(subtransaction);
        let known = self.deltas.iter().skip(first).position(|delta| delta.change.index_id == index_id);
        let place = known.map_or(self.deltas.len(), |place| first + place);
        if place == self.deltas.len() {
            let change = CommitDelta { index_id, ..CommitDelta::EMPTY };
            self.deltas.push(PendingDelta { subtransaction, change });
        }
        &mut self.deltas[place].change
    }

    pub(super) fn commit_subtransaction(
        &mut self,
        mine: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        // Merged, not renamed, so that a million savepoints leave one delta for each index.
        for delta in self.take_deltas_of(mine) {
            self.delta(parent, delta.change.index_id).add(&delta.change);
        }
        for (by, ..) in self.pauses.iter_mut().filter(|(by, ..)| *by == mine) {
            *by = parent;
        }
    }

    pub(super) fn abort_subtransaction(&mut self, mine: pg_sys::SubTransactionId) {
        drop(self.take_deltas_of(mine));
        self.pauses.retain(|(by, ..)| *by != mine);
    }

    /// The deltas as changes, one per index.
    pub(super) fn changes(&self) -> Cow<'_, [CommitDelta]> {
        if let [delta] = &self.deltas[..] {
            return Cow::Borrowed(std::slice::from_ref(&delta.change));
        }
        let mut changes: Vec<CommitDelta> = Vec::new();
        for delta in &self.deltas {
            match changes.iter_mut().find(|c| c.index_id == delta.change.index_id) {
                None => changes.push(delta.change),
                Some(known) => known.add(&delta.change),
            }
        }
        Cow::Owned(changes)
    }

    /// Whether the transaction has queued rows or settings.
    pub(super) fn has_queued(&self) -> bool {
        self.wants_settings || self.deltas.iter().any(|delta| delta.change.queued > 0)
    }
}
