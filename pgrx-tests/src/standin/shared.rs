//! What all connections share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::config::StandinConfig;
use super::engine::Engine;
use super::fault::{FaultQueue, IdPredicate};
use super::journal::EntryId;
use super::route::Route;

pub(super) struct Shared {
    pub(super) config: StandinConfig,
    pub(super) latency: AtomicDuration,
    pub(super) indexing_delay: AtomicDuration,
    pub(super) max_record_bytes: AtomicUsize,
    pub(super) next_id: AtomicU64,
    /// How many requests hang, by index.
    hanging: Mutex<BTreeMap<String, usize>>,
    /// Changes whenever hanging requests are released.
    pub(super) release: watch::Sender<u64>,
    engine: Mutex<Engine>,
    faults: Mutex<FaultQueue>,
}

/// One request on its way to an endpoint.
pub(super) struct Incoming<'a> {
    pub(super) route: &'a Route,
    pub(super) body: Bytes,
    pub(super) entry: EntryId,
    pub(super) tampering: Tampering,
}

/// What a fault changes about a batch that is otherwise served.
#[derive(Clone, Default)]
pub(super) struct Tampering {
    pub(super) lose: Option<IdPredicate>,
    pub(super) wrong_ids: bool,
}

impl Shared {
    pub(super) fn new(config: StandinConfig) -> Self {
        Shared {
            latency: AtomicDuration::new(config.latency),
            indexing_delay: AtomicDuration::new(config.indexing_delay),
            max_record_bytes: AtomicUsize::new(config.max_record_bytes),
            next_id: AtomicU64::new(1),
            hanging: Mutex::default(),
            release: watch::Sender::new(0),
            engine: Mutex::default(),
            faults: Mutex::default(),
            config,
        }
    }

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, FaultQueue> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hanging(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases all requests that hang now.
    pub(super) fn release_hanging(&self) {
        self.release.send_modify(|generation| *generation += 1);
    }
}

/// A duration that may change at run time, in microseconds.
pub(super) struct AtomicDuration(AtomicU64);

impl AtomicDuration {
    fn new(value: Duration) -> Self {
        AtomicDuration(AtomicU64::new(value.as_micros() as u64))
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, value: Duration) {
        self.0.store(value.as_micros() as u64, Ordering::Relaxed);
    }
}
