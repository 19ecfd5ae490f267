//! Faults of processes, server and data while writers go on: what was committed is in the index, each row once, and
//! nothing else was ever sent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod asynchronous;
mod copies;
mod kills;
mod lanes;
mod locks;
mod subscriber;
mod succession;
#[path = "../workers/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the workers")]
mod support;
mod traffic;
mod upgrade;
mod upkeep;
