//! What `queue_stats`, `flush` and others read from shared state.
#![forbid(unsafe_code)]

use super::{Announcements, Micros, SharedState, SlotState};
use crate::id_ranges::Span;

impl SharedState {
    /// The number of running workers of a database.
    pub fn running_workers(&mut self, database: u32) -> usize {
        self.workers_of(database).filter(|worker| worker.slot_state == SlotState::Running).count()
    }

    /// A lower bound of the ids of the index's waiting rows; `None` if none waits.
    pub fn lowest(&self, announcements: &Announcements, database: u32, index_id: i32) -> Option<i64> {
        self.ends(announcements, database, index_id).map(|(lo, _)| lo).min()
    }

    /// A span that contains all waiting live rows of the index; `None` if none waits.
    pub fn live_rows(&self, announcements: &Announcements, database: u32, index_id: i32) -> Option<Span> {
        self.within(announcements, database, index_id, Span { lo: 0, hi: i64::MAX })
    }

    /// The same for history.
    pub fn history(&self, announcements: &Announcements, database: u32, index_id: i32) -> Option<Span> {
        self.within(announcements, database, index_id, Span { lo: i64::MIN, hi: -1 })
    }

    fn within(
        &self,
        announcements: &Announcements,
        database: u32,
        index_id: i32,
        limits: Span,
    ) -> Option<Span> {
        let ends = self
            .ends(announcements, database, index_id)
            .map(|(lo, hi)| (lo.max(limits.lo), hi.min(limits.hi)));
        let ends = ends.filter(|(lo, hi)| lo <= hi);
        ends.fold(None, |span: Option<Span>, (lo, hi)| match span {
            None => Some(Span { lo, hi }),
            Some(span) => Some(Span { lo: span.lo.min(lo), hi: span.hi.max(hi) }),
        })
    }

    /// All spans that can contain waiting rows of the index: published, left over, deferred, being read, in flight,
    /// held back. Visible rows that are about to be published may be anywhere. Rows that were skipped because somebody
    /// else had locked them are not included.
    fn ends<'a>(
        &'a self,
        announcements: &'a Announcements,
        database: u32,
        index_id: i32,
    ) -> impl Iterator<Item = (i64, i64)> + 'a {
        let place = self.find_lane(database, index_id);
        let lane = place.and_then(|place| self.lane(place));
        let waiting = lane
            .into_iter()
            .flat_map(|lane| lane.fresh.iter().chain(lane.backlog.iter()).chain(lane.deferred.iter()))
            .map(|s| (s.lo, s.hi));
        let workers =
            self.workers.iter().filter(move |w| w.slot_state != SlotState::Free && w.database == database);
        let held = workers.flat_map(move |worker| {
            let scanning = (worker.scanning_lane as usize).checked_sub(1).map(|lane| (lane, worker.scanning));
            let flights = worker.flights.iter().filter(|f| f.rows > 0).map(|f| (f.lane as usize, f.span));
            let postponed = worker.postponed.rows.iter().map(|span| (worker.postponed.lane as usize, span));
            flights
                .chain(scanning)
                .chain(postponed)
                .filter(move |(lane, _)| Some(*lane) == place)
                .map(|(_, s)| (s.lo, s.hi))
        });
        let announced = self
            .announced(announcements, database)
            .filter(move |a| a.index_id == index_id)
            .map(|_| (i64::MIN, i64::MAX));
        let held_back = self.held_back(database, index_id).map(|s| (s.lo, s.hi));
        waiting.chain(held).chain(held_back).chain(announced)
    }

    /// Sets the totals of a database to zero.
    pub fn reset_stats(&mut self, database: u32, now: Micros) {
        self.forget_trouble(database);
        let places: Vec<usize> = self.lanes_of(database).map(|(place, _)| place).collect();
        for place in places {
            if let Some(lane) = self.lane_at(place) {
                lane.reset_stats(now);
            }
        }
    }
}
