//! What a worker claims next: fresh rows before the backlog, each lane in its turn.
#![forbid(unsafe_code)]

use super::capacity::Capacity;
use super::{Claimable, CrashRetry, Micros, ReadyWork, SharedState, Worker, WorkerLimits, LANES};

/// What a worker does next.
#[allow(clippy::large_enum_variant, reason = "it is returned once a round, and not kept")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Claim rows of this lane, at most so many bytes. `crash_retry`: they may have crashed the server.
    Claim { lane: usize, index_id: i32, claimable: Claimable, bytes: i64, crash_retry: Option<CrashRetry> },
    /// Nothing can be claimed. Look again at this time, if there is one, and set this latch, if there is one: it wakes
    /// a worker that can claim the rows left over.
    Wait { until: Option<Micros>, wake: Option<u64> },
}

/// In each round, a worker looks at all lanes.
enum Round {
    /// Lanes whose tail is due.
    Tail,
    Fresh,
    Backlog,
}

impl SharedState {
    /// Chooses what `worker` claims next: fresh rows before the backlog, lanes in turn. The span belongs to the worker
    /// until it gives the rest back by [`SharedState::enter_claim`].
    pub fn next(&mut self, worker: usize, worker_limits: WorkerLimits, now: Micros) -> Next {
        self.tick(now);
        self.end_quarantines(now);
        let Some(me) = self.workers.get(worker) else {
            return Next::Wait { until: None, wake: None };
        };
        let (database, start) = (me.database, me.next_lane as usize);
        let capacity = Capacity::of(me, &self.lanes, &worker_limits);
        match self.next_crash_suspects(worker, &worker_limits, now) {
            Some(Next::Wait { until, .. }) => {
                // Until then it has no room for other rows.
                self.workers.get_mut(worker).into_iter().for_each(Worker::mark_awake);
                let (_, left) = self.waiting(database, &capacity, &worker_limits, now);
                return Next::Wait { until, wake: self.wake_another(database, worker, left) };
            }
            Some(claim) => return claim,
            None => (),
        }
        if let Some(claim) = self.next_held_back(worker, &capacity, true, now) {
            return claim;
        }
        for round in [Round::Tail, Round::Fresh, Round::Backlog] {
            for step in 0..LANES {
                let place = (start + step) % LANES;
                let Some(key) = self.lane_keys.get(place).filter(|k| k.database == database).copied() else {
                    continue;
                };
                let Some(lane) = self.lanes.get_mut(place).filter(|l| l.is_open(now)) else {
                    continue;
                };
                let (fits, share) = (capacity.for_lane(place, lane), worker_limits.tail_share);
                let claimable = match round {
                    Round::Tail if fits.backlog && lane.is_tails_turn(share) => lane.take_tail(share),
                    Round::Fresh if fits.fresh => lane.take_fresh(&worker_limits, now),
                    Round::Backlog if fits.backlog => lane.take_backlog(share),
                    _ => None,
                };
                lane.is_turn_of_held_back |= claimable.is_some();
                let is_filled = fits.backlog && lane.has_rows_to_fill_with() && !self.has_crash_suspects;
                let claimable =
                    claimable.and_then(|claimable| self.clear_of_crash_suspects(place, key, claimable));
                // Other rows may be suspects. They are not claimed with these and do not wait for them.
                let is_partial = |claimable: Claimable| claimable.partial && !self.has_crash_suspects;
                let claimable =
                    claimable.map(|claimable| Claimable { partial: is_partial(claimable), ..claimable });
                if let (Some(claimable), Some(me)) = (claimable, self.workers.get_mut(worker)) {
                    if let (true, Some(lane)) = (claimable.partial, self.lanes.get_mut(place)) {
                        lane.partial_taken(&worker_limits, now);
                        me.scanning_partial = place as u32 + 1;
                    }
                    me.next_lane = ((place + 1) % LANES) as u32;
                    me.mark_awake();
                    me.scanning_lane = place as u32 + 1;
                    me.scanning = claimable.span;
                    me.fills_batch = claimable.partial || (claimable.fresh && is_filled);
                    // Rows of the backlog must leave room for further fresh rows.
                    let bytes = capacity.bytes_for(place, claimable.fresh && !is_filled);
                    return Next::Claim {
                        lane: place,
                        index_id: key.index_id,
                        claimable,
                        bytes,
                        crash_retry: None,
                    };
                }
            }
        }
        if let Some(claim) = self.next_held_back(worker, &capacity, false, now) {
            return claim;
        }
        let (until, left) = self.waiting(database, &capacity, &worker_limits, now);
        if let Some(me) = self.workers.get_mut(worker) {
            me.capacity = capacity.for_any();
            me.capacity_for_idle_lanes = capacity.for_idle_lanes().fresh;
        }
        Next::Wait { until, wake: self.wake_another(database, worker, left) }
    }

    /// When a worker with this capacity can next claim something, and what others could claim now.
    fn waiting(
        &self,
        database: u32,
        capacity: &Capacity,
        worker_limits: &WorkerLimits,
        now: Micros,
    ) -> (Option<Micros>, ReadyWork) {
        let (mut until, mut left): (Option<Micros>, _) = (None, ReadyWork::default());
        for (place, _) in self.lanes_of(database) {
            let Some(lane) = self.lanes.get(place) else { continue };
            let fits = capacity.for_lane(place, lane);
            let opens_at = lane.opens_at(worker_limits, fits.backlog).or_else(|| lane.backs_off_until(now));
            if let (true, Some(at)) = (fits.fresh, opens_at) {
                until = Some(until.map_or(at, |until| until.min(at)));
            }
            // If this worker has the batch that rows wait for, it must look when they stop waiting, even if it has no
            // room and has to wake another worker.
            let waits_until = lane.waits_until(now).filter(|_| capacity.carries(place));
            until = [until, waits_until].into_iter().flatten().min();
            let is_left = |backlog| lane.opens_at(worker_limits, backlog).is_some_and(|at| at <= now);
            if lane.is_in_trouble() {
                left.trouble |= is_left(true);
            } else {
                left.fresh |= is_left(false);
                left.backlog |= is_left(true);
            }
        }
        let release_due = self.next_release_due(database);
        left.trouble |= release_due.is_some_and(|at| at <= now);
        let release_due = release_due.filter(|_| capacity.for_any().trouble);
        let others = [release_due, self.next_quarantine_end(), self.next_crash_retry(database, now)];
        (others.into_iter().flatten().chain(until).min(), left)
    }
}
