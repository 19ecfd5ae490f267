//! How many more requests and bytes a worker may take on: an index that hangs or fails must not block the others.
//!
//! A worker has `in_flight` slots. One index alone may fill them all; several indices share them. An idle index, with
//! nothing in flight with this worker, counts every other index as one request, so it may exceed the limit. An index in
//! trouble sends one batch at a time and competes only with other such batches and with rows held back. In total a
//! worker has at most twice as many requests in flight as slots.
//!
//! Bytes are shared alike, which limits a worker's memory: the bodies of one index add up to `batch_bytes`, those of
//! all indices to twice that. Only a single larger record may exceed this.
#![forbid(unsafe_code)]

use super::{Lane, ReadyWork, Worker, WorkerLimits, FLIGHTS, LANES};

/// If less than this share of `batch_bytes` is left, it is not used: a request for one or two rows is not worth a slot.
const LEAST_SHARE: i64 = 32;

/// The free capacity of one worker, computed once per look over all lanes.
pub(super) struct Capacity {
    slots: usize,
    /// How many of the slots are kept for fresh rows, so that a backlog never makes a new row wait for a whole round
    /// trip.
    reserved: usize,
    total: usize,
    fresh: usize,
    backlog: usize,
    trouble: usize,
    /// The number of healthy lanes with a batch in flight.
    lanes: usize,
    carried: [bool; LANES],
    /// The total bytes of the bodies in flight.
    bytes: i64,
    batch_bytes: i64,
}

impl Capacity {
    pub(super) fn of(worker: &Worker, lanes: &[Lane; LANES], worker_limits: &WorkerLimits) -> Capacity {
        let slots = worker_limits.slots;
        let mut capacity = Capacity {
            slots,
            reserved: usize::from(slots > 1),
            total: 0,
            fresh: 0,
            backlog: 0,
            trouble: 0,
            lanes: 0,
            carried: [false; LANES],
            bytes: 0,
            batch_bytes: worker_limits.batch_bytes,
        };
        for flight in worker.flights.iter().filter(|flight| flight.rows > 0) {
            capacity.total += 1;
            capacity.bytes = capacity.bytes.saturating_add(flight.bytes);
            let place = flight.lane as usize;
            if flight.held_back != 0 || lanes.get(place).is_some_and(Lane::is_in_trouble) {
                capacity.trouble += 1;
                continue;
            }
            *if flight.fresh { &mut capacity.fresh } else { &mut capacity.backlog } += 1;
            if let Some(carried) = capacity.carried.get_mut(place).filter(|carried| !**carried) {
                *carried = true;
                capacity.lanes += 1;
            }
        }
        capacity
    }

    /// What there is room for, whichever lane it comes from.
    pub(super) fn for_any(&self) -> ReadyWork {
        if self.is_full() {
            return ReadyWork::default();
        }
        let slots = ReadyWork {
            fresh: self.fresh + self.backlog < self.slots || (self.reserved > 0 && self.fresh == 0),
            backlog: self.fresh + self.backlog < self.slots && self.backlog < self.slots - self.reserved,
            trouble: self.trouble < self.slots,
        };
        // The rest of the bytes must be worth a request. Otherwise rows would be claimed one by one.
        let used = self.bytes.saturating_add(self.batch_bytes / LEAST_SHARE);
        ReadyWork {
            fresh: slots.fresh && used < self.batch_bytes,
            backlog: slots.backlog && used < self.batch_bytes - self.reserved_bytes(),
            trouble: slots.trouble,
        }
    }

    /// A share of the bytes is kept for fresh rows, as it is with the slots.
    fn reserved_bytes(&self) -> i64 {
        if self.reserved > 0 {
            self.batch_bytes / self.slots as i64
        } else {
            0
        }
    }

    /// How many bytes the next batch of a lane may have. A lane with a batch in flight gets the rest of the single
    /// share. Another lane gets a part of all that is left, so that something is always left for the next.
    pub(super) fn bytes_for(&self, place: usize, fresh: bool) -> i64 {
        let kept = if fresh { 0 } else { self.reserved_bytes() };
        let of_one = self.batch_bytes - kept - self.bytes;
        let of_all = (self.most_bytes() - self.bytes) / if fresh { 2 } else { 4 };
        let left = match self.carried.get(place) {
            Some(false) => of_one.max(of_all),
            _ => of_one,
        };
        left.clamp(1, self.batch_bytes.max(1))
    }

    fn most_bytes(&self) -> i64 {
        self.batch_bytes.saturating_mul(2)
    }

    /// What there is room for if it comes from a lane that has nothing in flight here.
    pub(super) fn for_idle_lanes(&self) -> ReadyWork {
        if self.is_full() {
            return ReadyWork::default();
        }
        let any = self.for_any();
        ReadyWork {
            fresh: any.fresh || self.lanes < self.slots.max(2),
            backlog: any.backlog || self.lanes < (self.slots - self.reserved).max(2),
            trouble: any.trouble,
        }
    }

    /// What there is room for if it comes from this lane.
    pub(super) fn for_lane(&self, place: usize, lane: &Lane) -> ReadyWork {
        if lane.is_in_trouble() {
            let trouble = self.for_any().trouble;
            return ReadyWork { fresh: trouble, backlog: trouble, trouble };
        }
        if self.carried.get(place).copied().unwrap_or(true) {
            self.for_any()
        } else {
            self.for_idle_lanes()
        }
    }

    /// Whether a batch of this lane is in flight here.
    pub(super) fn carries(&self, place: usize) -> bool {
        self.carried.get(place).copied().unwrap_or_default()
    }

    fn is_full(&self) -> bool {
        self.total >= (2 * self.slots).min(FLIGHTS) || self.bytes >= self.most_bytes()
    }
}
