//! No file of `src` imports, directly or by way of others, a file that imports it. No server.
//!
//! A file imports another if it names something that the other defines. A module that only declares its parts, or passes
//! their names on with `pub use`, does not import them: whoever takes such a name from it imports the part.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use audit_algolia_tests::cargo::workspace;

/// Imports that still close a circle, by the files' names. One that is gone, or closes none any more, is to be taken off the
/// list; nothing is to be added.
const LEFT: &[(&str, &str)] = &[
    ("delivery/http/names", "delivery/http"),
    ("delivery/sink/walk", "delivery/sink"),
    ("pg/api/arrivals", "pg/api/backfill"),
    ("pg/api/departures", "pg/api/partitions"),
    ("pg/api/reconcile/inquiry/post", "pg/api/reconcile/inquiry"),
    ("pg/api/reconcile/orphans", "pg/api/reconcile/mod"),
    ("pg/api/reconcile/suspects", "pg/api/reconcile/mod"),
    ("pg/api/reconcile/suspects", "pg/api/reconcile/walk"),
    ("pg/api/sources", "pg/api/watch"),
    ("pg/capture/column", "pg/capture/decode"),
    ("pg/capture/column", "pg/filter/parse"),
    ("pg/capture/on_error_warn", "pg/capture/mod"),
    ("pg/capture/queue/insert", "pg/capture/queue"),
    ("pg/capture/source", "pg/capture/mod"),
    ("pg/capture/statement", "pg/capture/mod"),
    ("pg/error_context", "pg/report"),
    ("pg/owner", "pg/capture/source"),
    ("pg/worker/claim", "pg/worker/claim/taking"),
    ("pg/worker/flow", "pg/worker/mod"),
    ("pg/worker/flow/configure", "pg/worker/flow"),
    ("pg/worker/flow/failures", "pg/worker/flow"),
    ("pg/worker/flow/landed", "pg/worker/flow"),
    ("pg/worker/flow/questions", "pg/worker/flow"),
    ("record/buckets", "record/plan"),
    ("record/change", "record/object_id"),
    ("record/elements", "record/value"),
    ("record/object", "record/object_id"),
    ("record/write", "record/object_id"),
    ("recorder", "shared_state/mod"),
    ("rules/columns", "rules"),
    ("shared_state/backfill", "shared_state/databases"),
    ("shared_state/backfill", "shared_state/mod"),
    ("shared_state/blocks", "shared_state/mod"),
    ("shared_state/clock", "shared_state/mod"),
    ("shared_state/commit", "shared_state/mod"),
    ("shared_state/commit", "shared_state/prepared"),
    ("shared_state/commit", "shared_state/roster"),
    ("shared_state/databases", "shared_state/mod"),
    ("shared_state/flights", "shared_state/search"),
    ("shared_state/held_back", "shared_state/mod"),
    ("shared_state/held_back", "shared_state/search"),
    ("shared_state/lane", "shared_state/mod"),
    ("shared_state/lane", "shared_state/unattributed_rejections"),
    ("shared_state/objects", "shared_state/mod"),
    ("shared_state/prepared", "shared_state/mod"),
    ("shared_state/room", "shared_state/mod"),
    ("shared_state/room", "shared_state/worker"),
    ("shared_state/roster", "shared_state/mod"),
    ("shared_state/suspects", "shared_state/mod"),
    ("shared_state/text", "shared_state/mod"),
];
