//! Reads again what may have changed: the settings of delivery, and the indices.

use std::sync::Arc;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::problem::{log_problem, Problem};
use super::state::{Index, WorkerLoop};
use crate::delivery::http::HttpClient;
use crate::delivery::sink::Sink;
use crate::pg::clock::now;
use crate::pg::version::{VersionMismatch, MISMATCH_HINT};
use crate::pg::worker::prepared_alerts::send_prepared_alerts;
use crate::pg::worker::statements::{extension_version, has_backfills, indices, Statements};
use crate::pg::worker::unused::close_unused_lanes_at_once;
use crate::pg::{guc, shmem};

impl WorkerLoop {
    /// Makes a new sink when a setting of the delivery has changed. Batches in flight keep the old one.
    pub(super) fn read_settings(&mut self) {
        let settings = guc::delivery();
        if self.settings.as_ref() == Some(&settings) {
            return;
        }
        let leaves = self.settings.as_ref().is_some_and(|old| !old.goes_where(&settings));
        if let (Some(old), true) = (self.sink.take(), leaves) {
            // Requests to the old hosts, or with the old key, need not be waited for.
            old.shutdown();
        }
        if guc::is_configured() {
            let client = HttpClient::for_settings(&settings, guc::in_flight());
            match client.and_then(|client| Sink::new(settings.clone(), client, self.rng.u64(..))) {
                Ok(sink) => {
                    if let Some(mut shared_state) = shmem::shared_state() {
                        shared_state.set_destination(self.database, sink.destination());
                    }
                    self.sink = Some(Arc::new(sink));
                }
                Err(reason) => ereport!(
                    PgLogLevel::WARNING,
                    PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                    format!("audit_algolia cannot deliver with these settings: {reason}")
                ),
            }
            // A corrected key or host is tried at once.
            if self.settings.is_some() {
                if let Some(mut shared_state) = shmem::shared_state() {
                    shared_state.retry_all(self.database, now());
                }
            }
        }
        self.settings = Some(settings);
    }

    /// Checks that the extension's objects have the library's version. After a new library was installed they have not
    /// until `ALTER EXTENSION … UPDATE`, and this library does not know the tables of another version.
    fn check_version(&mut self) {
        let mismatch = match extension_version() {
            Ok(found) => found.and_then(VersionMismatch::of),
            Err(error) => {
                log_problem("audit_algolia could not read the version of its extension", &error);
                return;
            }
        };
        if self.other_version == mismatch {
            return;
        }
        if let Some(mismatch) = &mismatch {
            let message = format!("audit_algolia delivers nothing: {mismatch}");
            let hint = format!("{MISMATCH_HINT} Rows wait.");
            if let Some(mut shared_state) = shmem::shared_state() {
                shared_state.note_trouble(self.database, &format!("{message}. {hint}"), now());
            }
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                message,
                "audit_algolia worker",
            )
            .set_hint(hint)
            .report(PgLogLevel::WARNING);
            self.statements = None;
        }
        self.other_version = mismatch;
    }

    /// Opens a lane for each index. If there are not enough lanes, unused indices get none.
    fn open_lanes(&self, rows: &[(i32, String, bool)]) {
        let is_short = shmem::shared_state().is_some_and(|shared_state| {
            let known = shared_state.indices_with_lanes(self.database);
            rows.iter().filter(|(id, _, _)| !known.contains(id)).count() > shared_state.free_lanes()
        });
        let mut unused = Vec::new();
        if is_short {
            match close_unused_lanes_at_once(self.database) {
                Ok(found) => unused = found,
                Err(error) => log_problem("audit_algolia could not read its tables", &error),
            }
        }
        let Some(mut shared_state) = shmem::shared_state() else { return };
        let mut left_out = None;
        // If this worker is marked as stale, the pause in shared state may be newer than the one that was read.
        let is_outdated = shared_state.workers.get(self.slot).is_none_or(|me| me.stale);
        for (id, name, paused) in rows.iter().filter(|(id, _, _)| !unused.contains(id)) {
            let known = shared_state.find_lane(self.database, *id).and_then(|place| shared_state.lane(place));
            let paused = known.map_or(*paused, |lane| if is_outdated { lane.paused } else { *paused });
            if !shared_state.open_lane(self.database, *id, paused, now()) {
                left_out = Some(name);
            }
        }
        drop(shared_state);
        if let Some(name) = left_out {
            log_problem(
                "audit_algolia cannot serve all indices",
                Problem::limit(&format!("\"{name}\" is one too many and is not delivered")),
            );
        }
    }

    /// The name of an index. For an unknown one, the table is read again.
    pub(super) fn name_of(&mut self, index_id: i32) -> Option<Arc<str>> {
        if !self.indices.contains_key(&index_id) {
            self.read_indices();
        }
        self.indices.get(&index_id).map(|index| index.name.clone())
    }

    /// Reads the indices, opens their lanes and closes those of dropped indices.
    pub(super) fn read_indices(&mut self) {
        self.check_version();
        if self.other_version.is_some() {
            return;
        }
        let before = shmem::shared_state()
            .map(|shared_state| shared_state.indices_with_lanes(self.database))
            .unwrap_or_default();
        let prepared = if self.statements.is_none() {
            Statements::prepare().map(|statements| self.statements = statements)
        } else {
            Ok(())
        };
        let is_prepared = self.statements.is_some();
        let rows = match prepared.and_then(|()| if is_prepared { indices() } else { Ok(None) }) {
            Ok(Some(rows)) => rows,
            Ok(None) => {
                self.queue_is_gone = true;
                return;
            }
            Err(error) => {
                log_problem("audit_algolia could not read its tables", &error);
                return;
            }
        };
        if let Some(mut shared_state) = shmem::shared_state() {
            let found: Vec<i32> = rows.iter().map(|(id, _, _)| *id).collect();
            shared_state.close_lanes_of_missing(self.database, &before, &found);
        }
        self.open_lanes(&rows);
        self.indices = rows.into_iter().map(|(id, name, _)| (id, Index { name: name.into() })).collect();
        self.read_wanted_settings();
        shmem::change_and_wake(|shared_state| shared_state.request_count_if_needed(self.database));
        if let Err(error) = send_prepared_alerts() {
            log_problem("audit_algolia could not send the alerts of prepared transactions", &error);
        }
        match has_backfills() {
            Ok(false) => (),
            Ok(true) => {
                shmem::change_and_wake(|shared_state| shared_state.request_backfill(self.database));
            }
            Err(error) => log_problem("audit_algolia could not read its tables", &error),
        }
    }
}
