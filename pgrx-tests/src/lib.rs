//! The harness: what the integration tests, the benchmark and the demo share.

pub mod cargo;
pub mod chaos;
pub mod crates;
pub mod history;
pub mod memory;
pub mod mirror;
pub mod page;
mod partition_sql;
pub mod server;
pub mod stage;
pub mod standin;
pub mod wait;
pub mod worked_examples;
pub mod workload;
