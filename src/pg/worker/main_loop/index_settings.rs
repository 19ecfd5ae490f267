//! Sends the settings of indices: reads them when they are due, gives them to a sender as batches are, and settles the
//! result.
//!
//! Settings have attempts of their own, and their failures never delay records.

use std::sync::Arc;
use std::time::Duration;

use pgrx::prelude::*;

use super::backoff::later;
use super::intervals::{CLAIM_TABLE_FULL, LOG_EVERY, PAUSE};
use super::problem::log_problem;
use super::state::{SettingsInFlight, WorkerLoop};
use crate::delivery::batch::Batch;
use crate::delivery::http::HttpClient;
use crate::delivery::outcome::{DeliveryOutcome, Rejection, SendResult};
use crate::delivery::sender_pool::SendJob;
use crate::delivery::sink::Sink;
use crate::pg::clock::now;
use crate::pg::worker::index_settings::{self, TableRead};
use crate::pg::worker::settlement::SettleOutcome;
use crate::pg::{failpoint, guc, shmem};
use crate::shared_state::{Micros, SettingsResult, FLIGHTS};

/// The most indices whose settings one worker sends at a time, so that one that hangs does not hold back the others.
const MOST: usize = 4;

impl WorkerLoop {
    /// Reads which indices have settings to be sent.
    pub(super) fn read_wanted_settings(&mut self) {
        let seen = index_settings::wanted();
        self.wanted_settings_unread = matches!(seen, Ok(TableRead::Locked) | Err(_));
        match seen {
            Ok(TableRead::Found(wanted)) => {
                if let Some(mut shared_state) = shmem::shared_state() {
                    shared_state.want_settings(self.database, &wanted, now());
                }
            }
            Ok(TableRead::Locked) => (),
            Ok(TableRead::Gone) => self.queue_is_gone = true,
            Err(error) => log_problem("audit_algolia could not read its tables", &error),
        }
    }

    /// Sends the settings that are due. Returns when to look again.
    pub(super) fn send_settings(&mut self) -> Option<Micros> {
        if self.other_version.is_some() || self.queue_is_gone || !guc::is_enabled() {
            return None;
        }
        let sink = self.sink.clone()?;
        if self.wanted_settings_unread {
            self.read_wanted_settings();
        }
        let unread = self.wanted_settings_unread.then(|| now().saturating_add(PAUSE));
        while self.settings_in_flight.len() < MOST && !self.queue_is_gone {
            let next = shmem::shared_state()
                .and_then(|mut shared_state| shared_state.next_settings(self.slot, now()));
            let Some((index_id, known)) = next else {
                // If settings are due but cannot be claimed, another worker sends them or the claim table is full.
                let due = shmem::shared_state().and_then(|shared_state| shared_state.settings_due(self.slot));
                let due = due.map(|due| due.max(now().saturating_add(CLAIM_TABLE_FULL)));
                return due.into_iter().chain(unread).min();
            };
            if let Some(sent) = self.send_settings_of(index_id, known, &sink) {
                self.settings_back(index_id, sent);
            }
        }
        unread
    }

    /// Sends the settings of an index, whose version `known` was known. `None`: they are in flight.
    fn send_settings_of(
        &mut self,
        index_id: i32,
        known: i64,
        sink: &Arc<Sink<HttpClient>>,
    ) -> Option<SettingsResult> {
        let soon = || Some(SettingsResult::Anew { at: now().saturating_add(PAUSE) });
        let Some(index_name) = self.name_of(index_id) else {
            return Some(SettingsResult::Anew { at: now().saturating_add(10 * PAUSE) });
        };
        let (version, settings) = match index_settings::read(index_id) {
            Ok(TableRead::Found(Some(found))) => found,
            Ok(TableRead::Found(None)) => return Some(SettingsResult::Done { version: known }),
            Ok(TableRead::Locked) => return soon(),
            Ok(TableRead::Gone) => {
                self.queue_is_gone = true;
                return Some(SettingsResult::Done { version: known });
            }
            Err(error) => {
                log_problem("audit_algolia could not read its tables", &error);
                return soon();
            }
        };
        // Larger than the numbers of all batches.
        let flight =
            (FLIGHTS..).find(|number| !self.settings_in_flight.contains_key(number)).unwrap_or(FLIGHTS);
        self.settings_in_flight.insert(flight, SettingsInFlight { index_id, version, sink: sink.clone() });
        let body = Batch::settings(settings);
        let sent = self.send(SendJob { flight, index_name, body, sink: sink.clone() });
        failpoint::reach("after sending settings");
        match sent {
            Ok(()) => None,
            Err(error) => {
                self.settings_in_flight.remove(&flight);
                log_problem("audit_algolia could not send settings", &error);
                soon()
            }
        }
    }

    fn settings_back(&self, index_id: i32, sent: SettingsResult) {
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.settings_back(self.slot, index_id, sent);
        }
    }

    /// A job that was no batch has ended.
    pub(super) fn settle_settings(&mut self, flight: usize, result: SendResult) {
        let Some(SettingsInFlight { index_id, version, sink }) = self.settings_in_flight.remove(&flight)
        else {
            return;
        };
        let is_outdated = !self.sink.as_ref().is_some_and(|current| Arc::ptr_eq(current, &sink));
        let sent = match (result.rejected.into_iter().next(), result.outcome) {
            // The tables have another version and are not touched: the settings are sent again.
            _ if self.other_version.is_some() => SettingsResult::Anew { at: now() },
            (None, DeliveryOutcome::Delivered { .. }) => self.forget_settings(index_id, version),
            // A failure of an old sink means nothing for the new one.
            _ if is_outdated => SettingsResult::Anew { at: now() },
            (Some(rejection), _) => self.dead_letter_settings(index_id, version, rejection),
            (None, DeliveryOutcome::Rejected { reason, status, .. }) => {
                let rejection = Rejection { row: 0, object_id: None, status, reason, proven: true };
                self.dead_letter_settings(index_id, version, rejection)
            }
            (None, DeliveryOutcome::Retry { reason, not_before }) => {
                self.postpone_settings(index_id, &reason, not_before.unwrap_or_default())
            }
            (None, DeliveryOutcome::Blocked { reason, hint, .. }) => {
                self.postpone_settings(index_id, &format!("{reason}; {hint}"), guc::backoff().max)
            }
        };
        self.settings_back(index_id, sent);
    }

    /// If this fails, the settings are sent again, which does no harm.
    fn forget_settings(&mut self, index_id: i32, version: i64) -> SettingsResult {
        match index_settings::settle(index_id, version) {
            Ok(settled) => self.after_settings(index_id, version, settled, |name| {
                log!("audit_algolia has sent the settings of index \"{name}\"");
            }),
            Err(error) => {
                log_problem(
                    "audit_algolia could not delete settings that it has sent, and sends them again",
                    &error,
                );
                SettingsResult::Anew { at: now().saturating_add(PAUSE) }
            }
        }
    }

    fn dead_letter_settings(&mut self, index_id: i32, version: i64, rejection: Rejection) -> SettingsResult {
        let Rejection { status, reason, .. } = rejection;
        self.note_settings_error(index_id, &reason);
        let attempts = i32::try_from(self.settings_failures(index_id)).unwrap_or(i32::MAX).saturating_add(1);
        match index_settings::dead_letter(index_id, version, attempts, status, &reason) {
            Ok(settled) => self.after_settings(index_id, version, settled, |name| {
                log!("audit_algolia has given up the settings of index \"{name}\", see audit_algolia.dead_letters: {reason}");
            }),
            Err(error) => {
                log_problem("audit_algolia could not move rejected settings to the dead letters", &error);
                SettingsResult::Again { at: now().saturating_add(PAUSE) }
            }
        }
    }

    /// What follows the attempt to remove settings from the table. `tell` logs the success, given the index's name.
    fn after_settings(
        &mut self,
        index_id: i32,
        version: i64,
        settled: SettleOutcome,
        tell: impl Fn(&str),
    ) -> SettingsResult {
        match settled {
            SettleOutcome::Done => {
                if let Some(index) = self.indices.get(&index_id) {
                    tell(&index.name);
                }
                SettingsResult::Done { version }
            }
            SettleOutcome::Gone => {
                self.queue_is_gone = true;
                SettingsResult::Done { version }
            }
            // Somebody has locked them, perhaps to change them: they are sent once more.
            SettleOutcome::Partly
            | SettleOutcome::Busy
            | SettleOutcome::OutOfMemory
            | SettleOutcome::Damaged(_) => self.again(index_id, Duration::from_micros(PAUSE as u64)),
        }
    }

    fn postpone_settings(&mut self, index_id: i32, reason: &str, at_least: Duration) -> SettingsResult {
        self.note_settings_error(index_id, reason);
        let now = now();
        let is_news =
            self.settings_error_logged.get(&index_id).is_none_or(|at| now.saturating_sub(*at) >= LOG_EVERY);
        if let (true, Some(index)) = (is_news, self.indices.get(&index_id)) {
            log!(
                "audit_algolia cannot send the settings of index \"{}\" and tries again: {reason}",
                index.name
            );
            self.settings_error_logged.insert(index_id, now);
        }
        self.again(index_id, at_least)
    }

    fn again(&mut self, index_id: i32, at_least: Duration) -> SettingsResult {
        let failures = self.settings_failures(index_id);
        SettingsResult::Again {
            at: later(now(), guc::backoff().delay(failures, self.rng.f64()).max(at_least)),
        }
    }

    fn settings_failures(&self, index_id: i32) -> u32 {
        shmem::shared_state()
            .map_or(0, |shared_state| shared_state.settings_failures(self.database, index_id))
    }

    /// Shows the error in the statistics. No rows have failed.
    fn note_settings_error(&self, index_id: i32, reason: &str) {
        let Some(mut shared_state) = shmem::shared_state() else { return };
        let lane =
            shared_state.find_lane(self.database, index_id).and_then(|place| shared_state.lane_at(place));
        if let Some(lane) = lane {
            lane.note_failed(0, reason, now());
        }
        if let Some(me) = shared_state.workers.get_mut(self.slot) {
            me.last_error.set(reason);
        }
    }
}
