//! Capture and the SQL interface: what is queued and what is not, what records look like, who may do what.
#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod changed_queue;
mod columns;
mod dump;
mod encodings;
mod hostile;
mod input;
mod isolation;
mod names;
mod partitions;
mod play;
mod preview;
mod pseudonyms;
mod records;
mod rights;
mod secrecy;
mod statements;
mod transactions;
mod unloaded;
mod watching;
