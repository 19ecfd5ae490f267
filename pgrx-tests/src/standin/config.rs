//! The configuration of a stand-in: its application, keys, limits and speed.

use std::time::Duration;

/// The application id of [`StandinConfig::default`].
pub const APP_ID: &str = "STANDIN";
/// The key of [`StandinConfig::default`]; it may do everything.
pub const ADMIN_KEY: &str = "standin-admin-key";

/// Every permission that the stand-in knows.
pub const ALL_ACLS: [&str; 10] = [
    "search",
    "browse",
    "addObject",
    "deleteObject",
    "deleteIndex",
    "settings",
    "editSettings",
    "listIndexes",
    "logs",
    "seeUnretrievableAttributes",
];

/// Algolia's permissions for services that the stand-in does not have.
const OTHER_ACLS: &str = "analytics inference personalization recommendation usage nluWriteProject nluReadProject \
                          nluWriteEntity nluReadEntity nluWriteIntent nluReadIntent nluPrediction nluReadAnswers";

/// One API key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The key itself.
    pub key: String,
    /// What it may do, by Algolia's names (see [`ALL_ACLS`]).
    pub acl: Vec<String>,
    /// Patterns of the indices it may touch, with `*` at the start, the end or both; empty means all.
    pub indexes: Vec<String>,
    /// The maximum number of hits and objects per request. `None`: no limit.
    pub max_hits: Option<usize>,
}

impl ApiKey {
    /// A key with the given permissions on all indices.
    pub fn new(key: &str, acl: &[&str]) -> Self {
        let acl = acl.iter().map(|name| (*name).to_owned()).collect();
        ApiKey { key: key.to_owned(), acl, indexes: Vec::new(), max_hits: None }
    }

    /// A key in the form of the command line: `KEY` for all permissions, `KEY:ACL,…` for some, `KEY:ACL,…:PATTERN,…`
    /// for some on some indices.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let key = parts.next().unwrap_or_default();
        if key.is_empty() {
            return Err("a key must not be empty".to_owned());
        }
        let acl: Vec<&str> = parts.next().map_or(ALL_ACLS.to_vec(), |list| list.split(',').collect());
        if let Some(unknown) = acl
            .iter()
            .find(|acl| !ALL_ACLS.contains(acl) && OTHER_ACLS.split(' ').all(|other| other != **acl))
        {
            return Err(format!("\"{unknown}\" is no right of a key; there are {}", ALL_ACLS.join(", ")));
        }
        let patterns: Vec<&str> = parts.next().map_or(Vec::new(), |list| list.split(',').collect());
        Ok(ApiKey::new(key, &acl).on(&patterns))
    }

    /// The same key, restricted to the indices that match one of the patterns.
    pub fn on(mut self, patterns: &[&str]) -> Self {
        self.indexes = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        self
    }
}

/// How a record is refused. Algolia uses the last two forms for faults other than size. The stand-in uses them for size
/// too, so that a client's search for the record can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// The classic engine names the position and the objectID.
    Classic,
    /// The newer engine sends only a sentence.
    New,
    /// Only the column of the body where the record ends.
    Column,
    /// Nothing that identifies the record.
    Vague,
}

/// What happens to a request whose body is compressed with gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gzip {
    /// It is decompressed.
    Read,
    /// It is answered with 415.
    Refused,
    /// The body is taken as it is, as by a host that does not know the header.
    Ignored,
}

/// The configuration of a stand-in.
#[derive(Clone, Debug)]
pub struct StandinConfig {
    /// How many addresses to listen on (1 to 4); they share one state.
    pub hosts: usize,
    /// Ports for the addresses in order; 0 or a missing one means any free port.
    pub ports: Vec<u16>,
    /// Whether there is one more address, which speaks TLS with a certificate of its own.
    pub https: bool,
    /// The application id that requests must carry.
    pub app_id: String,
    /// The keys that requests may carry.
    pub keys: Vec<ApiKey>,
    /// The maximum size of a record's compact JSON, until it is changed.
    pub max_record_bytes: usize,
    /// How a record that is too large is refused.
    pub error_shape: ErrorShape,
    /// How long a task stays `notPublished` and its changes invisible.
    pub indexing_delay: Duration,
    /// Added to the response time of every write.
    pub latency: Duration,
    /// What happens to requests with gzip.
    pub gzip: Gzip,
    /// Whether counts are reported as exhaustive.
    pub exhaustive: bool,
    /// Closes a connection that has been idle for this long.
    pub idle_close: Option<Duration>,
    /// Answers 429 to writes while this many tasks are unpublished.
    pub pending_limit: Option<usize>,
    /// A fast mode for benchmarks: ids are counted, contents are not kept.
    pub light: bool,
    /// In light mode: keep a hash of every id, for exact once-each checks.
    pub light_ids: bool,
    /// In light mode: keep the arrival time of every id.
    pub light_times: bool,
}

impl Default for StandinConfig {
    fn default() -> Self {
        StandinConfig {
            hosts: 1,
            ports: Vec::new(),
            https: false,
            app_id: APP_ID.to_owned(),
            keys: vec![ApiKey::new(ADMIN_KEY, &ALL_ACLS)],
            max_record_bytes: 10_000,
            error_shape: ErrorShape::Classic,
            indexing_delay: Duration::ZERO,
            latency: Duration::ZERO,
            gzip: Gzip::Read,
            exhaustive: true,
            idle_close: None,
            pending_limit: None,
            light: false,
            light_ids: false,
            light_times: false,
        }
    }
}
