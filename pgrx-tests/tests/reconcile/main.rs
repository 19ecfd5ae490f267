//! `reconcile`: what Algolia has lost or should not have is found, counted and repaired, and nothing else is.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../support/mod.rs"]
mod client;

mod append;
mod asking;
mod input;
mod interleaving;
mod keys;
mod memory;
mod mirror;
mod motion;
mod room;
mod session;
mod support;
mod tasks;
mod trouble;
