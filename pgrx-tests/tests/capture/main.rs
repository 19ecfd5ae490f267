//! Capture and the SQL interface: what is queued, what records look like, and who may do what.
#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod activity;
mod alerts;
mod cache;
mod change_values;
mod changed_queue;
mod changes;
mod columns;
mod ddl;
mod dump;
mod encodings;
mod error_context;
mod event_triggers;
mod filter_meaning;
mod filters;
mod history;
mod hostile;
mod hypertables;
mod input;
mod isolation;
mod keys;
mod memory;
mod names;
mod newer;
mod notifications;
mod pairs;
mod partitions;
mod play;
mod preview;
mod pseudonyms;
mod records;
mod repair;
mod replicas;
mod restore_order;
mod restored;
mod rights;
mod secrecy;
mod sequences;
mod settings;
mod statements;
mod transactions;
mod trees;
mod types;
mod unloaded;
mod values;
mod want_of_memory;
mod watching;

#[path = "../support/mod.rs"]
mod support;
