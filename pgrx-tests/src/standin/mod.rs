//! The stand-in for Algolia: the part of its Search API that the project uses, on loopback, with scripted faults.
//!
//! It is the only fake in the project. Its answers follow Algolia's published specification and error texts seen in
//! practice. Where neither says anything, it is strict, so that a client that relies on luck fails here.
//!
//! A request goes from `server` (connections, faults) through `dispatch` (credentials, permission) to `read` or `write`
//! (endpoints), which work on the `engine` (indices, task queue, journal).

mod answer;
mod apply;
mod auth;
mod batch;
mod body;
mod browse;
mod clock;
mod config;
mod cors;
mod dispatch;
mod engine;
mod facet_search;
mod facets;
mod fault;
mod filter;
mod filter_lists;
mod filter_text;
mod highlight;
mod index;
mod journal;
mod light;
mod matching;
mod parameters;
mod postings;
mod query;
mod read;
mod record;
mod reply;
mod route;
mod schema;
mod searches;
mod server;
mod settings;
mod shared;
mod tls;
mod wire;
mod words;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Map, Value};
use tokio::runtime::{Builder, Runtime};

pub use config::{ApiKey, ErrorShape, Gzip, StandinConfig, ADMIN_KEY, ALL_ACLS, APP_ID};
pub use fault::{Fault, FaultBody, FaultRule, IdPredicate, Times};
pub use journal::{Arrival, JournalEntry};
pub use light::{id_hash, LightCounts};

use shared::Shared;

/// A running stand-in. Dropping it stops it, ends hanging requests and frees the ports.
pub struct Standin {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    https: Option<(SocketAddr, String)>,
    runtime: Option<Runtime>,
}

impl Standin {
    /// Starts listening.
    pub fn start(config: StandinConfig) -> io::Result<Standin> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("standin")
            .enable_io()
            .enable_time()
            .build()?;
        let hosts = config.hosts.clamp(1, 4);
        let ports = config.ports.clone();
        let shared = Arc::new(Shared::new(config));
        let mut addresses = Vec::with_capacity(hosts);
        let open = |host: usize, tls| -> io::Result<SocketAddr> {
            let port = ports.get(host).copied().unwrap_or(0);
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(server::listen(listener, tls, host, Arc::clone(&shared)));
            Ok(address)
        };
        for host in 0..hosts {
            addresses.push(open(host, None)?);
        }
        let mut https = None;
        if shared.config.https {
            let (tls, authority) = tls::certified()?;
            https = Some((open(hosts, Some(tls))?, authority));
        }
        Ok(Standin { shared, addresses, https, runtime: Some(runtime) })
    }

    /// The URLs of the addresses, without a slash at the end.
    pub fn base_urls(&self) -> Vec<String> {
        self.addresses.iter().map(|address| format!("http://{address}")).collect()
    }

    /// The URL of the address that speaks TLS, and the PEM certificate of its authority; `None` if there is no such
    /// address.
    pub fn https(&self) -> Option<(String, &str)> {
        self.https.as_ref().map(|(address, authority)| (format!("https://{address}"), authority.as_str()))
    }

    /// Queues a fault for a host (its position in `base_urls`), or for all of them.
    pub fn fault(&self, host: Option<usize>, fault: Fault, times: Times) {
        let rule = FaultRule::new(fault, times);
        self.inject(match host {
            Some(host) => rule.host(host),
            None => rule,
        });
    }

    /// Queues a fault with more conditions.
    pub fn inject(&self, rule: FaultRule) {
        self.shared.faults().push(rule);
    }

    /// Removes all queued faults and releases the requests that hang.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
        self.shared.release_hanging();
    }

    /// Changes the latency of writes.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.latency.set(latency);
    }

    /// Changes the delay until tasks that are queued from now on are published.
    pub fn set_indexing_delay(&self, delay: Duration) {
        self.shared.indexing_delay.set(delay);
    }

    /// Changes the maximum size of records, as another plan does.
    pub fn set_max_record_bytes(&self, bytes: usize) {
        self.shared.max_record_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The published records of an index by objectID, each with its `objectID`. Empty if there is no index.
    pub fn index(&self, name: &str) -> BTreeMap<String, Value> {
        let mut engine = self.shared.engine();
        let records = engine.index(name).into_iter().flat_map(|index| index.records.iter());
        records
            .map(|(id, record)| {
                let mut record = record.clone();
                record.insert("objectID".to_owned(), json!(id));
                (id.clone(), Value::Object(record))
            })
            .collect()
    }

    /// The settings that were set for an index; `None` if there is no index.
    pub fn settings(&self, name: &str) -> Option<Map<String, Value>> {
        self.shared.engine().settings(name)
    }

    /// The names of the published indices.
    pub fn indices(&self) -> Vec<String> {
        self.shared.engine().indices().keys().cloned().collect()
    }

    /// Accepted operations in order of acceptance (none from batches in light mode).
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.engine().journal.arrivals.clone()
    }

    /// The numbers of the rows that were sent to an index, one list per request, in order.
    #[track_caller]
    #[allow(clippy::expect_used, reason = "a test whose rows have other names compares arrivals itself")]
    pub fn batches(&self, index: &str) -> Vec<Vec<i64>> {
        let mut batches: Vec<(usize, Vec<i64>)> = Vec::new();
        for arrival in self.arrivals().iter().filter(|arrival| arrival.index == index) {
            let id = arrival.object_id.parse().expect("the objectID is a number");
            match batches.last_mut().filter(|(request, _)| *request == arrival.request) {
                Some((_, ids)) => ids.push(id),
                None => batches.push((arrival.request, vec![id])),
            }
        }
        batches.into_iter().map(|(_, ids)| ids).collect()
    }

    /// Every request since the start or the last reset.
    pub fn requests(&self) -> Vec<JournalEntry> {
        self.shared.engine().journal.entries.clone()
    }

    /// How many requests there were.
    pub fn request_count(&self) -> usize {
        self.shared.engine().journal.entries.len()
    }

    /// How many operations an index has accepted, in light mode too.
    pub fn operations(&self, index: &str) -> u64 {
        let engine = self.shared.engine();
        engine.journal.operations(index) + engine.light.counts(index).operations
    }

    /// How many requests hang now. Those that are served late count until then.
    pub fn in_hang(&self) -> usize {
        self.shared.hanging().values().sum()
    }

    /// The same for an index. If none hangs, nothing that was sent to it is executed later.
    pub fn in_hang_for(&self, index: &str) -> usize {
        self.shared.hanging().get(index).copied().unwrap_or(0)
    }

    /// What light mode counted for an index.
    pub fn light_counts(&self, index: &str) -> LightCounts {
        self.shared.engine().light.counts(index)
    }

    /// Whether light mode has seen an id, by its [`id_hash`] (with `light_ids`).
    pub fn light_contains(&self, index: &str, hash: u64) -> bool {
        self.shared.engine().light.contains(index, hash)
    }

    /// Hash and arrival time (microseconds since 1970) of every operation, in order (with `light_times`).
    pub fn light_times(&self, index: &str) -> Vec<(u64, i64)> {
        self.shared.engine().light.times(index)
    }

    /// Deletes faults, indices, tasks and the journal, and releases the requests that hang.
    pub fn reset(&self) {
        self.clear_faults();
        self.shared.engine().reset();
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.shared.release_hanging();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
