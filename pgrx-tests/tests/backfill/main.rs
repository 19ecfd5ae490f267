//! Backfill: the rows that a table held before it was watched are delivered, each once, after all live rows, whatever
//! happens meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod asking;
mod faults;
mod large;
mod memory;
mod mirror;
mod order;
mod pace;
mod records;
mod snapshot_boundary;
mod support;
mod tables;
