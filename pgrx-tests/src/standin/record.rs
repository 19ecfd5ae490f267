//! Records and indices.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A record without its objectID, which is its key.
pub(super) type Record = Map<String, Value>;

/// One index.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) records: BTreeMap<String, Record>,
    pub(super) settings: Map<String, Value>,
    pub(super) created: String,
    pub(super) updated: String,
}

/// All indices by name.
pub(super) type Indices = BTreeMap<String, Index>;
