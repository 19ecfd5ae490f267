//! Settings that indices are to be given: which worker sends which, and when.
//!
//! The truth is a table; shared state only says that there is something to send. A worker that sends the settings of an
//! index holds a claim on them, so newer settings never overtake older ones.
#![forbid(unsafe_code)]

use super::{Lane, Micros, SharedState};
use crate::claims::{Claim, Holder};

/// The result of sending settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsResult {
    /// This version was accepted or given up.
    Done { version: i64 },
    /// They failed and are tried again.
    Again { at: Micros },
    /// They did not fail, but must be read and sent again.
    Anew { at: Micros },
}

/// The id under which the claim table knows the settings of an index. No queue row has such an id.
fn claim_id(index_id: i32) -> i64 {
    i64::MIN.wrapping_add(i64::from(index_id as u32))
}

impl Lane {
    /// When its settings are to be sent, if there are any.
    fn settings_due(&self) -> Option<Micros> {
        (self.settings_version != 0 && !self.paused).then_some(self.settings_due)
    }
}

impl SharedState {
    /// A worker has read the table: `wanted` lists the indices whose settings are to be sent, with their versions.
    pub fn want_settings(&mut self, database: u32, wanted: &[(i32, i64)], now: Micros) {
        let lanes: Vec<(usize, i32)> = self.lanes_of(database).collect();
        for (place, index_id) in lanes {
            let version =
                wanted.iter().find(|(index, _)| *index == index_id).map_or(0, |(_, version)| *version);
            if let Some(lane) = self.lane_at(place).filter(|lane| lane.settings_version != version) {
                lane.settings_version = version;
                lane.settings_due = now;
                lane.settings_failures = 0;
            }
        }
    }

    /// Claims the settings of an index that are due. They belong to the worker until [`SharedState::settings_back`].
    pub fn next_settings(&mut self, worker: usize, now: Micros) -> Option<(i32, i64)> {
        let database = self.workers.get(worker)?.database;
        let due: Vec<(i32, i64)> = self
            .lanes_of(database)
            .filter_map(|(place, index_id)| {
                let lane = self.lane(place)?;
                lane.settings_due().filter(|due| *due <= now)?;
                Some((index_id, lane.settings_version))
            })
            .collect();
        due.into_iter().find(|(index_id, _)| {
            self.claims.claim(Holder::worker(worker), database, claim_id(*index_id)) == Claim::Granted
        })
    }

    /// When the next settings that nobody is sending are due.
    pub fn settings_due(&self, worker: usize) -> Option<Micros> {
        let database = self.workers.get(worker)?.database;
        let free = self
            .lanes_of(database)
            .filter(|(_, index_id)| self.claims.holder(database, claim_id(*index_id)).is_none());
        free.filter_map(|(place, _)| self.lane(place)?.settings_due()).min()
    }

    /// How often the settings of an index have failed in a row.
    pub fn settings_failures(&self, database: u32, index_id: i32) -> u32 {
        let lane = self.find_lane(database, index_id).and_then(|place| self.lane(place));
        lane.map_or(0, |lane| lane.settings_failures)
    }

    /// Ends the claim of settings that were sent.
    pub fn settings_back(&mut self, worker: usize, index_id: i32, sent: SettingsResult) {
        let Some(database) = self.workers.get(worker).map(|me| me.database) else { return };
        if self.claims.holder(database, claim_id(index_id)) == Some(Holder::worker(worker)) {
            self.claims.release(database, claim_id(index_id));
        }
        let Some(lane) = self.find_lane(database, index_id).and_then(|place| self.lane_at(place)) else {
            return;
        };
        match sent {
            // If another version has become known meanwhile, it stays due.
            SettingsResult::Done { version } if lane.settings_version == version => lane.settings_version = 0,
            SettingsResult::Done { .. } => (),
            SettingsResult::Again { at } => {
                lane.settings_due = at;
                lane.settings_failures = lane.settings_failures.saturating_add(1);
            }
            SettingsResult::Anew { at } => lane.settings_due = at,
        }
    }
}
