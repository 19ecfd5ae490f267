//! The fast mode for benchmarks: batches are counted by id, and contents are never built.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicU64;

use serde::Deserialize;

use super::batch::auto_id;
use super::clock::unix_micros;
use super::config::StandinConfig;
use super::reply::Refusal;

/// What light mode knows about one index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LightCounts {
    /// Accepted operations.
    pub operations: u64,
    /// Different ids among them (with `light_ids`).
    pub distinct: u64,
    /// Operations whose id had been seen before (with `light_ids`).
    pub repeated: u64,
}

/// The hash by which light mode remembers an id; the same in every process.
pub fn id_hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[derive(Default)]
struct Seen {
    counts: LightCounts,
    ids: HashSet<u64>,
    times: Vec<(u64, i64)>,
}

/// Counts by index.
#[derive(Default)]
pub(super) struct LightState(BTreeMap<String, Seen>);

impl LightState {
    pub(super) fn accept(&mut self, batch: &LightBatch<'_>, index: Option<&str>, config: &StandinConfig) {
        let now = unix_micros();
        for operation in &batch.requests {
            let name =
                index.or(operation.index_name.as_ref().map(|name| name.0.as_ref())).unwrap_or_default();
            if !self.0.contains_key(name) {
                self.0.insert(name.to_owned(), Seen::default());
            }
            let Some(seen) = self.0.get_mut(name) else {
                continue;
            };
            seen.counts.operations += 1;
            if !(config.light_ids || config.light_times) {
                continue;
            }
            let hash = id_hash(operation.body.id());
            if config.light_times {
                seen.times.push((hash, now));
            }
            if config.light_ids && !seen.ids.insert(hash) {
                seen.counts.repeated += 1;
            }
        }
    }

    pub(super) fn counts(&self, index: &str) -> LightCounts {
        self.0.get(index).map_or_else(LightCounts::default, |seen| LightCounts {
            distinct: seen.ids.len() as u64,
            ..seen.counts
        })
    }

    pub(super) fn contains(&self, index: &str, hash: u64) -> bool {
        self.0.get(index).is_some_and(|seen| seen.ids.contains(&hash))
    }

    pub(super) fn times(&self, index: &str) -> Vec<(u64, i64)> {
        self.0.get(index).map_or_else(Vec::new, |seen| seen.times.clone())
    }
}

/// A batch, of which only ids are read; strings are borrowed from the body.
#[derive(Deserialize)]
pub(super) struct LightBatch<'a> {
    #[serde(borrow)]
    pub(super) requests: Vec<LightOperation<'a>>,
}

impl LightBatch<'_> {
    /// The indices that the items name, repetitions included.
    pub(super) fn index_names(&self) -> impl Iterator<Item = &str> {
        self.requests.iter().filter_map(|one| one.index_name.as_ref()).map(|name| name.0.as_ref())
    }
}

#[derive(Deserialize)]
pub(super) struct LightOperation<'a> {
    #[serde(borrow, rename = "indexName")]
    index_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    body: LightBody<'a>,
}

#[derive(Default, Deserialize)]
struct LightBody<'a> {
    #[serde(borrow, rename = "objectID")]
    object_id: Option<Text<'a>>,
}

/// A string that is borrowed where it has no escapes. (serde borrows a `Cow` only when it stands alone.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl LightBody<'_> {
    fn id(&self) -> &str {
        self.object_id.as_ref().map_or("", |id| &id.0)
    }
}

/// Reads a batch cheaply.
pub(super) fn parse(body: &[u8]) -> Result<LightBatch<'_>, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::bad(format!("Invalid JSON near line:{} column:{}", error.line(), error.column()))
    })
}

/// The answer to a batch, written directly as text. `task` is JSON.
pub(super) fn answer(batch: &LightBatch<'_>, task: &str, next_id: &AtomicU64) -> String {
    let mut out = String::with_capacity(batch.requests.len() * 24 + 64);
    out.push_str("{\"objectIDs\":[");
    for (at, operation) in batch.requests.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let id = match &operation.body.object_id {
            Some(id) => Cow::Borrowed(id.0.as_ref()),
            None => Cow::Owned(auto_id(next_id)),
        };
        if id.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            out.push('"');
            out.push_str(&id);
            out.push('"');
        } else {
            out.push_str(&serde_json::Value::from(id.as_ref()).to_string());
        }
    }
    out.push_str("],\"taskID\":");
    out.push_str(task);
    out.push('}');
    out
}
