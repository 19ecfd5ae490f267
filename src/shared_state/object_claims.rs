//! Claims on objects of mirrored tables: at most one version of an object is in flight, and the newest goes last.
//!
//! A worker that wants to deliver a version claims its object first, and only then reads which version is the newest.
//! The claim ends with the flight. If a request may still be executed although nobody waits for it, the object goes
//! into **quarantine**: it stays claimed, by the quarantine, for as long as such a request can take.
#![forbid(unsafe_code)]

use super::{Micros, Postponed, Quarantine, SharedState, QUARANTINES};
use crate::claims::{Claim, Owner};

/// An object of a lane as shared state knows it. Two with the same hash are claimed together, which makes one of them
/// wait for nothing.
pub fn object_hash(object: &str) -> i64 {
    // FNV-1a, whose weak high bits the claim table's own hash makes up for.
    let hash = object.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    hash as i64
}

impl SharedState {
    /// Claims an object for `worker`. When somebody else holds it, the version at `id`, which has led to it, is kept in
    /// mind until it may be free.
    pub fn claim_object(&mut self, worker: usize, lane: usize, hash: i64, id: i64) -> Claim {
        let claim = self.objects.claim(Owner::worker(worker), lane as u32, hash);
        if matches!(claim, Claim::HeldBy(_)) {
            self.postpone(worker, lane, id);
        }
        claim
    }

    /// Keeps in mind a row that the claim under way has locked and leaves where it is. Nobody else looks for it before
    /// [`SharedState::end_claim`], or it would be passed over as locked.
    pub fn postpone(&mut self, worker: usize, lane: usize, id: i64) {
        let deferred_retries = self.lane(lane).map_or(0, |lane| lane.deferred_retries);
        let Some(me) = self.workers.get_mut(worker) else { return };
        if me.postponed.rows.is_empty() {
            me.postponed.lane = lane as u32;
            me.postponed.deferred_retries = deferred_retries;
        }
        me.postponed.rows.add(id, id);
    }

    /// Rows postponed wait for the objects held to be free; if one may have become free meanwhile, they wait no longer.
    pub(super) fn end_postponement(&mut self, worker: usize) {
        let Some(me) = self.workers.get_mut(worker) else { return };
        let Postponed { lane, deferred_retries, rows } =
            std::mem::replace(&mut me.postponed, Postponed::EMPTY);
        let Some(lane) = self.lanes.get_mut(lane as usize) else { return };
        for span in rows.iter() {
            if lane.deferred_retries == deferred_retries {
                lane.deferred.add(span.lo, span.hi);
            } else {
                lane.give_back(span);
            }
        }
    }

    /// Holds an object that the claim under way has got hold of until `ends_at`: the version at `id` has to wait.
    pub fn quarantine_claimed_object(
        &mut self,
        worker: usize,
        lane: usize,
        (hash, id): (i64, i64),
        ends_at: Micros,
    ) {
        let owner = self.quarantine(ends_at);
        if self.objects.holder(lane as u32, hash) == Some(Owner::worker(worker)) {
            self.objects.transfer(lane as u32, hash, owner);
        }
        self.postpone(worker, lane, id);
    }

    /// Gives up an object that `worker` has claimed and not sent.
    pub fn release_object(&mut self, worker: usize, lane: usize, hash: i64) {
        if self.objects.holder(lane as u32, hash) == Some(Owner::worker(worker)) {
            self.objects.release(lane as u32, hash);
        }
    }

    /// Ends the claims of a flight that has landed; what waits for them is looked at again.
    pub fn release_objects(&mut self, worker: usize, lane: usize, hashes: impl IntoIterator<Item = i64>) {
        for hash in hashes {
            self.release_object(worker, lane, hash);
        }
        self.retry_deferred(lane);
    }

    /// Has what waits in a lane for held objects be looked at again.
    pub(super) fn retry_deferred(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.retry_deferred();
        }
    }

    /// Whether the version at a row of the queue is held back.
    pub fn is_held_back(&self, worker: usize, id: i64) -> bool {
        self.workers.get(worker).is_some_and(|me| self.claims.holder(me.database, id).is_some())
    }

    /// Gives up rows that `worker` has claimed and not sent.
    pub fn unclaim(&mut self, worker: usize, ids: impl IntoIterator<Item = i64>) {
        let Some(database) = self.workers.get(worker).map(|me| me.database) else { return };
        for id in ids {
            if self.claims.holder(database, id) == Some(Owner::worker(worker)) {
                self.claims.release(database, id);
            }
        }
    }

    /// Holds objects that `worker` has claimed until `ends_at`, and keeps in mind where their versions are.
    pub(super) fn quarantine_objects(
        &mut self,
        worker: usize,
        lane: usize,
        versions: impl IntoIterator<Item = (i64, i64)>,
        ends_at: Micros,
    ) {
        let owner = self.quarantine(ends_at);
        for (hash, id) in versions {
            if self.objects.holder(lane as u32, hash) == Some(Owner::worker(worker)) {
                self.objects.transfer(lane as u32, hash, owner);
            }
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.deferred.add(id, id);
            }
        }
    }

    /// A worker is gone, and its requests may still be executed.
    pub(super) fn quarantine_all_objects(&mut self, worker: usize, ends_at: Micros) {
        if self.objects.count_of(Owner::worker(worker)) > 0 {
            let owner = self.quarantine(ends_at);
            self.objects.transfer_all(Owner::worker(worker), owner);
        }
    }

    /// The owner of a quarantine that ends at a time, or a little later.
    fn quarantine(&mut self, ends_at: Micros) -> Owner {
        let same = self.quarantines.iter().position(|one| one.ends_at == ends_at);
        let place = same
            .or_else(|| self.quarantines.iter().position(|one| one.ends_at == 0))
            .or_else(|| {
                (0..QUARANTINES).max_by_key(|place| self.quarantines.get(*place).map(|one| one.ends_at))
            })
            .unwrap_or(0);
        if let Some(quarantine) = self.quarantines.get_mut(place) {
            quarantine.ends_at = quarantine.ends_at.max(ends_at);
        }
        self.quarantine_ends_at = match self.quarantine_ends_at {
            0 => ends_at,
            earlier => earlier.min(ends_at),
        };
        Owner::quarantine(place)
    }

    /// Ends the quarantines whose time has come.
    pub(super) fn end_quarantines(&mut self, now: Micros) {
        if self.quarantine_ends_at == 0 || self.quarantine_ends_at > now {
            return;
        }
        let mut next = 0;
        for place in 0..QUARANTINES {
            let Some(quarantine) = self.quarantines.get_mut(place).filter(|one| one.ends_at != 0) else {
                continue;
            };
            if quarantine.ends_at > now {
                next = if next == 0 { quarantine.ends_at } else { quarantine.ends_at.min(next) };
                continue;
            }
            *quarantine = Quarantine::EMPTY;
            self.objects.release_all(Owner::quarantine(place));
        }
        self.quarantine_ends_at = next;
        // Also of lanes that have put nothing off: a claim under way may have met an object that was held until now.
        for (lane, _) in self.lanes.iter_mut().zip(&self.lane_keys).filter(|(_, key)| key.database != 0) {
            lane.retry_deferred();
        }
    }

    /// When the next quarantine ends.
    pub(super) fn next_quarantine_end(&self) -> Option<Micros> {
        (self.quarantine_ends_at != 0).then_some(self.quarantine_ends_at)
    }

    /// The launcher is there. Before it was for the first time, requests may have been on their way that nobody
    /// remembers: a crash ends with an empty shared state.
    pub fn open(&mut self, now: Micros) {
        if self.opened_at == 0 {
            self.opened_at = now;
        }
    }

    /// Until when a version that has been waiting since `since` has to wait, should one of its object have been sent
    /// before the server started.
    pub fn held_since_start(&self, since: Micros, quarantine: Micros, now: Micros) -> Option<Micros> {
        let ends_at = self.opened_at.saturating_add(quarantine);
        (since <= self.opened_at && now < ends_at).then_some(ends_at)
    }

    /// Gives the objects of lanes free that are no more.
    pub(super) fn forget_objects(&mut self, is_gone: impl Fn(usize) -> bool) {
        self.objects.release_where(|_, lane| is_gone(lane as usize));
    }
}
