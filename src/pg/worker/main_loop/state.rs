//! What a worker knows between two rounds of its main loop.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch_reduction::BatchReduction;
use crate::delivery::http::HttpClient;
use crate::delivery::sender_pool::{SendJob, SenderPool};
use crate::delivery::settings::DeliverySettings;
use crate::delivery::sink::Sink;
use crate::pg::version::VersionMismatch;
use crate::pg::wait_set::WaitSet;
use crate::pg::worker::in_flight::InFlight;
use crate::pg::worker::statements::Statements;
use crate::shared_state::Micros;

/// What is known of one index.
pub(super) struct Index {
    pub(super) name: Arc<str>,
}

/// Settings in flight.
pub(super) struct SettingsInFlight {
    pub(super) index_id: i32,
    pub(super) version: i64,
    pub(super) sink: Arc<Sink<HttpClient>>,
}

/// A worker's state from one round to the next.
pub(in crate::pg::worker) struct WorkerLoop {
    pub(super) slot: usize,
    pub(super) database: u32,
    pub(super) sender_pool: Option<SenderPool<SendJob<HttpClient>>>,
    /// What it waits for when it is idle.
    pub(super) wait_set: Option<WaitSet>,
    pub(super) sink: Option<Arc<Sink<HttpClient>>>,
    pub(super) settings: Option<DeliverySettings>,
    pub(super) statements: Option<Statements>,
    pub(super) indices: HashMap<i32, Index>,
    pub(super) in_flight: HashMap<usize, InFlight>,
    pub(super) settings_in_flight: HashMap<usize, SettingsInFlight>,
    /// The table of settings could not be read when it should have been.
    pub(super) wanted_settings_unread: bool,
    /// For each index, when a failure to send its settings was last logged.
    pub(super) settings_error_logged: HashMap<i32, Micros>,
    /// The extension was dropped while this worker used its queue.
    pub(super) queue_is_gone: bool,
    /// The extension's objects are of another version than the library. Its tables are not touched then.
    pub(super) other_version: Option<VersionMismatch>,
    /// Table statistics have not been reported since the last transaction.
    pub(super) stats_pending: bool,
    /// The process may still keep memory that it does not need.
    pub(super) keeps_memory: bool,
    /// Its latest round succeeded, and the reason why workers could not work is cleared.
    pub(super) is_well: bool,
    /// When to search for rows that are not known anywhere.
    pub(super) search_after_ms: i64,
    pub(super) batch_reduction: BatchReduction,
    pub(super) rng: fastrand::Rng,
}

impl WorkerLoop {
    pub(in crate::pg::worker) fn new(slot: usize, database: u32) -> WorkerLoop {
        WorkerLoop {
            slot,
            database,
            sender_pool: None,
            wait_set: None,
            sink: None,
            settings: None,
            statements: None,
            indices: HashMap::new(),
            in_flight: HashMap::new(),
            settings_in_flight: HashMap::new(),
            wanted_settings_unread: false,
            settings_error_logged: HashMap::new(),
            queue_is_gone: false,
            other_version: None,
            stats_pending: true,
            keeps_memory: true,
            is_well: false,
            search_after_ms: super::intervals::SEARCH_AFTER_MS,
            batch_reduction: BatchReduction::default(),
            rng: fastrand::Rng::new(),
        }
    }
}
