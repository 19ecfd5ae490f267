//! The harness: what the integration tests, the benchmark and the demo share.

pub mod standin;
pub mod wait;
