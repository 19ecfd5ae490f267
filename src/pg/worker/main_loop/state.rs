//! What a worker knows between two rounds of its main loop.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch_reduction::BatchReduction;
use crate::delivery::http::HttpClient;
use crate::delivery::sender_pool::{SendJob, SenderPool};
use crate::delivery::settings::DeliverySettings;
use crate::delivery::sink::Sink;
use crate::pg::wait_set::WaitSet;
use crate::pg::worker::in_flight::InFlight;
use crate::pg::worker::statements::Statements;
use crate::shared_state::Micros;

/// What is known of one index.
pub(super) struct Index {
    pub(super) name: Arc<str>,
}

/// Settings that are on their way.
pub(super) struct SettingsInFlight {
    pub(super) index_id: i32,
    pub(super) version: i64,
    pub(super) sink: Arc<Sink<HttpClient>>,
}

/// A worker's state between two rounds.
pub(in crate::pg::worker) struct WorkerLoop {
    pub(super) slot: usize,
    pub(super) database: u32,
    pub(super) sender_pool: Option<SenderPool<SendJob<HttpClient>>>,
    /// What it waits for when it has nothing to do.
    pub(super) wait_set: Option<WaitSet>,
    pub(super) sink: Option<Arc<Sink<HttpClient>>>,
    pub(super) settings: Option<DeliverySettings>,
    pub(super) statements: Option<Statements>,
    pub(super) indices: HashMap<i32, Index>,
    pub(super) in_flight: HashMap<usize, InFlight>,
    pub(super) settings_in_flight: HashMap<usize, SettingsInFlight>,
    /// The table of settings could not be read when it was to be.
    pub(super) wanted_settings_unread: bool,
    /// When it was last logged that an index could not be given its settings.
    pub(super) settings_error_logged: HashMap<i32, Micros>,
    /// The queue has vanished under our hands.
    pub(super) queue_is_gone: bool,
    /// The version of the extension's objects, if it is not the library's: their tables are left alone.
    pub(super) other_version: Option<String>,
    /// Statistics of tables have not been told since the last transaction.
    pub(super) stats_pending: bool,
    /// Memory of what was done last may still be kept for later.
    pub(super) keeps_memory: bool,
    /// It has made a round from which the others know that workers can work.
    pub(super) is_well: bool,
    /// How soon rows are searched for that nobody knows the whereabouts of.
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
