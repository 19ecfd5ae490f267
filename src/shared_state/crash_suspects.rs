//! Batches over which the server may have crashed: a worker that crashed had them in flight.
//!
//! Ordinary claims leave their rows out. After a pause, in which everything else is delivered, a worker that has
//! nothing else in flight tries them in small batches; if the server crashes again, fewer rows are suspected. Rows that
//! come back are no longer suspected, whatever Algolia answered. A row that was alone in each of several crashes is
//! given up.
#![forbid(unsafe_code)]

use super::time::move_time;
use super::{
    Claimable, CrashRetry, CrashSuspect, LaneKey, Micros, Next, QueueEnd, SharedState, WorkerLimits,
    CRASH_SUSPECTS, MAX_CRASHES,
};
use crate::flight_recorder::FlightRecord;
use crate::id_ranges::Span;

/// A suspected batch is sent again in this many parts.
const PARTS: i64 = 8;
/// How long everything else is sent before suspects are.
const PAUSE: Micros = 1_000_000;
/// After three crashes over a single row, each further crash quadruples the pause, up to this.
const LONGEST_PAUSE: Micros = 3_600_000_000;
/// How long a worker waits for its batches in flight before it goes on with other rows.
const PATIENCE: Micros = 10_000_000;

impl SharedState {
    /// Adds suspects: the batch that a worker had in flight when it crashed the server.
    pub fn suspect_crash(&mut self, record: FlightRecord) {
        let FlightRecord { database, index_id, span, rows, has_versions, crashes } = record;
        if let Some(free) = self.crash_suspects.iter_mut().find(|entry| entry.database == 0) {
            *free = CrashSuspect {
                database,
                index_id,
                span,
                in_flight_rows: rows,
                part_rows: (rows / PARTS).max(1),
                crashes,
                has_versions,
                ..CrashSuspect::EMPTY
            };
            self.has_crash_suspects = true;
        }
    }

    /// Whether an index has suspects.
    pub(super) fn has_crash_suspects_in(&self, key: LaneKey) -> bool {
        self.has_crash_suspects && self.crash_suspects.iter().any(|entry| entry.is_of(key))
    }

    /// The part of a span that may be claimed normally. Suspects are excluded, and the span behind them is given back.
    pub(super) fn clear_of_crash_suspects(
        &mut self,
        lane: usize,
        key: LaneKey,
        claimable: Claimable,
    ) -> Option<Claimable> {
        if !self.has_crash_suspects {
            return Some(claimable);
        }
        let Span { mut lo, mut hi } = claimable.span;
        for _ in 0..CRASH_SUSPECTS {
            let meets =
                |entry: &&CrashSuspect| entry.is_of(key) && entry.span.lo <= hi && entry.span.hi >= lo;
            let met = self.crash_suspects.iter().filter(meets).map(|entry| entry.span);
            let nearest = match claimable.end {
                QueueEnd::Newest => met.max_by_key(|span| span.hi),
                QueueEnd::Oldest => met.min_by_key(|span| span.lo),
            };
            let Some(met) = nearest.filter(|_| lo <= hi) else { break };
            let (below, above) = (met.lo.checked_sub(1)?, met.hi.checked_add(1)?);
            let mut behind = None;
            match claimable.end {
                QueueEnd::Newest if met.hi >= hi => hi = below,
                QueueEnd::Oldest if met.lo <= lo => lo = above,
                QueueEnd::Newest => (behind, lo) = (Some(Span { lo, hi: below }), above),
                QueueEnd::Oldest => (behind, hi) = (Some(Span { lo: above, hi }), below),
            }
            if let (Some(behind), Some(lane)) = (behind, self.lane_at(lane)) {
                lane.give_back(behind);
            }
        }
        (lo <= hi).then_some(Claimable { span: Span { lo, hi }, ..claimable })
    }

    /// Whether `worker` must leave the row at `id`, because it is a suspect that another worker sends.
    pub fn is_crash_suspect(&self, worker: usize, lane: usize, id: i64) -> bool {
        let Some(key) = self.lane_key(lane).filter(|_| self.has_crash_suspects) else { return false };
        let mine = worker as u32 + 1;
        let holds = |entry: &CrashSuspect| entry.is_of(key) && entry.span.lo <= id && id <= entry.span.hi;
        self.crash_suspects.iter().any(|entry| holds(entry) && entry.taken_by != mine)
    }

    /// What a worker has to do about suspects, if anything.
    pub(super) fn next_crash_suspects(
        &mut self,
        worker: usize,
        worker_limits: &WorkerLimits,
        now: Micros,
    ) -> Option<Next> {
        if !self.has_crash_suspects {
            return None;
        }
        let me = self.workers.get(worker)?;
        let (database, is_busy) = (me.database, me.flights.iter().any(|flight| flight.rows > 0));
        let place = match self.taken_crash_suspects(worker) {
            Some(place) if is_busy => return self.wait_for_crash_suspects(place, now),
            Some(place) => self.go_on_with_crash_suspects(place, worker_limits, now),
            None => None,
        };
        let place = place.or_else(|| self.take_crash_suspects((database, worker), worker_limits, now))?;
        if is_busy {
            return self.wait_for_crash_suspects(place, now);
        }
        self.claim_crash_suspects(worker, place, worker_limits)
    }

    fn taken_crash_suspects(&self, worker: usize) -> Option<usize> {
        self.crash_suspects
            .iter()
            .position(|entry| entry.database != 0 && entry.taken_by == worker as u32 + 1)
    }

    /// A worker with batches in flight waits for them: for suspects without a limit, for other rows a while.
    fn wait_for_crash_suspects(&mut self, place: usize, now: Micros) -> Option<Next> {
        let entry = self.crash_suspects.get_mut(place)?;
        let until = entry.taken_at.saturating_add(PATIENCE);
        if entry.on_their_way {
            return Some(Next::Wait { until: None, wake: None });
        }
        if now < until {
            return Some(Next::Wait { until: Some(until), wake: None });
        }
        (entry.taken_by, entry.due) = (0, now.saturating_add(PATIENCE));
        None
    }

    /// A worker without batches in flight goes on with its suspects, unless none are left or their index may not be
    /// delivered now.
    fn go_on_with_crash_suspects(
        &mut self,
        place: usize,
        worker_limits: &WorkerLimits,
        now: Micros,
    ) -> Option<usize> {
        let is_open = self.is_open_for(self.crash_suspects.get(place)?, now);
        let entry = self.crash_suspects.get_mut(place)?;
        if std::mem::take(&mut entry.on_their_way) {
            entry.returned_rows = entry.returned_rows.saturating_add(entry.part_rows);
            if entry.returned_rows >= entry.in_flight_rows.saturating_mul(2) {
                // The span contains more rows than were in flight.
                (entry.returned_rows, entry.part_rows) =
                    (0, entry.part_rows.saturating_mul(2).min(worker_limits.batch_rows).max(1));
            }
        }
        if entry.span.lo > entry.span.hi {
            *entry = CrashSuspect::EMPTY;
            self.has_crash_suspects = self.crash_suspects.iter().any(|entry| entry.database != 0);
            return None;
        }
        if std::mem::take(&mut entry.found_none) {
            (entry.taken_by, entry.due) = (0, now.saturating_add(PAUSE));
            return None;
        }
        if !is_open {
            entry.taken_by = 0;
            return None;
        }
        Some(place)
    }

    /// Takes suspects of a database that are due, unless another worker has some: only one worker at a time sends
    /// suspects.
    fn take_crash_suspects(
        &mut self,
        (database, worker): (u32, usize),
        worker_limits: &WorkerLimits,
        now: Micros,
    ) -> Option<usize> {
        let held_until = self.launcher_started_at.saturating_add(worker_limits.quarantine);
        let of_database = |entry: &CrashSuspect| entry.database == database;
        if self.crash_suspects.iter().any(|entry| of_database(entry) && entry.taken_by != 0) {
            return None;
        }
        for entry in self.crash_suspects.iter_mut().filter(|entry| of_database(entry) && entry.due == 0) {
            // Objects are held until no request from before the crash can be executed any more.
            let held_until = if entry.has_versions { held_until } else { now };
            entry.due = now.max(held_until).saturating_add(pause_after(entry.crashes));
        }
        let is_due =
            |entry: &CrashSuspect| of_database(entry) && entry.due <= now && self.is_open_for(entry, now);
        let place = self.crash_suspects.iter().position(is_due)?;
        let entry = self.crash_suspects.get_mut(place)?;
        (entry.taken_by, entry.taken_at) = (worker as u32 + 1, now);
        Some(place)
    }

    fn is_open_for(&self, entry: &CrashSuspect, now: Micros) -> bool {
        let lane = self.find_lane(entry.database, entry.index_id).and_then(|lane| self.lane(lane));
        lane.is_some_and(|lane| lane.is_open(now))
    }

    fn claim_crash_suspects(
        &mut self,
        worker: usize,
        place: usize,
        worker_limits: &WorkerLimits,
    ) -> Option<Next> {
        let CrashSuspect { database, index_id, span, part_rows, crashes, .. } =
            *self.crash_suspects.get(place)?;
        let lane = self.find_lane(database, index_id)?;
        let me = self.workers.get_mut(worker)?;
        me.mark_awake();
        (me.scanning_lane, me.scanning) = (lane as u32 + 1, span);
        self.crash_suspects.get_mut(place)?.on_their_way = true;
        let claimable =
            Claimable { span, end: QueueEnd::Newest, fresh: false, partial: false, held_back: None };
        let (bytes, crash_retry) = (worker_limits.batch_bytes, Some(CrashRetry { rows: part_rows, crashes }));
        Some(Next::Claim { lane, index_id, claimable, bytes, crash_retry })
    }

    /// Ends a claim of suspects, given the rest of their span. `false`: it was no such claim.
    pub(super) fn crash_suspects_claimed(&mut self, worker: usize, rest: Span) -> bool {
        let place = self.taken_crash_suspects(worker);
        let me = self.workers.get(worker);
        let is_busy = me.is_some_and(|me| me.flights.iter().any(|flight| flight.rows > 0));
        let entry =
            place.and_then(|place| self.crash_suspects.get_mut(place)).filter(|entry| entry.on_their_way);
        let Some(entry) = entry else { return false };
        if entry.span == rest && !is_busy {
            (entry.on_their_way, entry.found_none) = (false, true);
        }
        entry.span = rest;
        true
    }

    /// A worker ends: another one takes its suspects.
    pub(super) fn release_crash_suspects(&mut self, worker: usize) {
        for entry in self.crash_suspects.iter_mut().filter(|entry| entry.taken_by == worker as u32 + 1) {
            (entry.taken_by, entry.on_their_way, entry.found_none) = (0, false, false);
        }
    }

    /// When suspects of a database are to be sent next, if that is known.
    pub(super) fn next_crash_retry(&self, database: u32, now: Micros) -> Option<Micros> {
        let is_later =
            |entry: &&CrashSuspect| entry.database == database && entry.taken_by == 0 && entry.due > now;
        self.crash_suspects.iter().filter(is_later).map(|entry| entry.due).min()
    }

    /// Moves all times back with the clock.
    pub(super) fn move_crash_suspects_back(&mut self, by: Micros) {
        for entry in &mut self.crash_suspects {
            move_time(&mut entry.due, by);
            move_time(&mut entry.taken_at, by);
        }
    }

    /// Forgets the suspects of databases and indices that are gone.
    pub(super) fn forget_crash_suspects(&mut self, is_gone: impl Fn(u32, i32) -> bool) {
        if !self.has_crash_suspects {
            return;
        }
        for entry in self.crash_suspects.iter_mut().filter(|entry| is_gone(entry.database, entry.index_id)) {
            *entry = CrashSuspect::EMPTY;
        }
        self.has_crash_suspects = self.crash_suspects.iter().any(|entry| entry.database != 0);
    }
}

fn pause_after(crashes: u32) -> Micros {
    let doublings = 2 * crashes.saturating_sub(MAX_CRASHES).min(10);
    (PAUSE << doublings).min(LONGEST_PAUSE)
}
