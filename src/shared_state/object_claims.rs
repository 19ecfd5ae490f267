//! Claims on objects of mirrored tables: at most one version of an object is in flight, and the newest goes last.
//!
//! A worker that wants to deliver a version claims its object first, and only then reads which version is the newest.
//! The claim ends with the flight. If a request may still be executed although nobody waits for it, the object goes
//! into **quarantine**: it stays claimed, by the quarantine, for as long as such a request can take.
#![forbid(unsafe_code)]

use super::{Micros, Postponed, Quarantine, SharedState, QUARANTINES};
use crate::claims::{Claim, Holder};

/// Shared state's number for an object. Objects with equal hashes are claimed together; then one of them waits
/// needlessly.
pub fn object_hash(object: &str) -> i64 {
    // FNV-1a. Its high bits are weak, but the claim table hashes again.
    let hash = object.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    hash as i64
}

impl SharedState {
    /// Claims an object for `worker`. If somebody else holds it, the version at `id` is postponed.
    pub fn claim_object(&mut self, worker: usize, lane: usize, hash: i64, id: i64) -> Claim {
        let claim = self.objects.claim(Holder::worker(worker), lane as u32, hash);
        if matches!(claim, Claim::HeldBy(_)) {
            self.postpone(worker, lane, id);
        }
        claim
    }

    /// Postpones a row that the current claim has locked and does not take. No other claim looks for it before
    /// [`SharedState::end_claim`], because it would find the row locked and skip it.
    pub fn postpone(&mut self, worker: usize, lane: usize, id: i64) {
        let deferred_retries = self.lane(lane).map_or(0, |lane| lane.deferred_retries);
        let Some(me) = self.workers.get_mut(worker) else { return };
        if me.postponed.rows.is_empty() {
            me.postponed.lane = lane as u32;
            me.postponed.deferred_retries = deferred_retries;
        }
        me.postponed.rows.add(id, id);
    }

    /// The postponed rows wait until an object is released. If one was released since they were postponed, they wait no
    /// longer.
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

    /// Holds an object that the current claim has claimed until `ends_at`, and postpones its version at `id`.
    pub fn quarantine_claimed_object(
        &mut self,
        worker: usize,
        lane: usize,
        (hash, id): (i64, i64),
        ends_at: Micros,
    ) {
        let holder = self.quarantine(ends_at);
        if self.objects.holder(lane as u32, hash) == Some(Holder::worker(worker)) {
            self.objects.transfer(lane as u32, hash, holder);
        }
        self.postpone(worker, lane, id);
    }

    /// Releases an object that `worker` has claimed and not sent.
    pub fn release_object(&mut self, worker: usize, lane: usize, hash: i64) {
        if self.objects.holder(lane as u32, hash) == Some(Holder::worker(worker)) {
            self.objects.release(lane as u32, hash);
        }
    }

    /// Releases the objects of a flight that has ended. Rows that wait for them are looked at again.
    pub fn release_objects(&mut self, worker: usize, lane: usize, hashes: impl IntoIterator<Item = i64>) {
        for hash in hashes {
            self.release_object(worker, lane, hash);
        }
        self.retry_deferred(lane);
    }

    /// Looks again at the rows of a lane that wait for held objects.
    pub(super) fn retry_deferred(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.retry_deferred();
        }
    }

    /// Whether somebody holds a queue row: a worker that has claimed it, or an entry of the held-back table.
    pub fn is_claimed(&self, worker: usize, id: i64) -> bool {
        self.workers.get(worker).is_some_and(|me| self.claims.holder(me.database, id).is_some())
    }

    /// Releases rows that `worker` has claimed and not sent.
    pub fn unclaim(&mut self, worker: usize, ids: impl IntoIterator<Item = i64>) {
        let Some(database) = self.workers.get(worker).map(|me| me.database) else { return };
        for id in ids {
            if self.claims.holder(database, id) == Some(Holder::worker(worker)) {
                self.claims.release(database, id);
            }
        }
    }

    /// Holds objects of `worker` until `ends_at`. Their versions wait.
    pub(super) fn quarantine_objects(
        &mut self,
        worker: usize,
        lane: usize,
        versions: impl IntoIterator<Item = (i64, i64)>,
        ends_at: Micros,
    ) {
        let holder = self.quarantine(ends_at);
        for (hash, id) in versions {
            if self.objects.holder(lane as u32, hash) == Some(Holder::worker(worker)) {
                self.objects.transfer(lane as u32, hash, holder);
            }
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.deferred.add(id, id);
            }
        }
    }

    /// Holds all objects of a worker that has ended, because its requests may still be executed.
    pub(super) fn quarantine_all_objects(&mut self, worker: usize, ends_at: Micros) {
        if self.objects.count_of(Holder::worker(worker)) > 0 {
            let holder = self.quarantine(ends_at);
            self.objects.transfer_all(Holder::worker(worker), holder);
        }
    }

    /// A quarantine, as a holder, that ends at `ends_at` or a little later.
    fn quarantine(&mut self, ends_at: Micros) -> Holder {
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
        Holder::quarantine(place)
    }

    /// Ends the quarantines that are due.
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
            self.objects.release_all(Holder::quarantine(place));
        }
        self.quarantine_ends_at = next;
        // Lanes that have deferred nothing are included, because a current claim may have met an object that was held
        // until now.
        for (lane, _) in self.lanes.iter_mut().zip(&self.lane_keys).filter(|(_, key)| key.database != 0) {
            lane.retry_deferred();
        }
    }

    /// When the next quarantine ends.
    pub(super) fn next_quarantine_end(&self) -> Option<Micros> {
        (self.quarantine_ends_at != 0).then_some(self.quarantine_ends_at)
    }

    /// Records the start of the launcher. Before its first start, requests may have been in flight that nobody
    /// remembers, because a crash clears shared state.
    pub fn launcher_started(&mut self, now: Micros) {
        if self.launcher_started_at == 0 {
            self.launcher_started_at = now;
        }
    }

    /// Until when a version that waits since `since` has to wait, because another version of its object may have been
    /// sent before the server started.
    pub fn held_since_start(&self, since: Micros, quarantine: Micros, now: Micros) -> Option<Micros> {
        let ends_at = self.launcher_started_at.saturating_add(quarantine);
        (since <= self.launcher_started_at && now < ends_at).then_some(ends_at)
    }

    /// Releases the objects of lanes that are gone.
    pub(super) fn forget_objects(&mut self, is_gone: impl Fn(usize) -> bool) {
        self.objects.release_where(|_, lane| is_gone(lane as usize));
    }
}
