//! Mirror mode: the index holds exactly the rows of the table, whatever happens meanwhile.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod attached;
mod partitions;
mod rows;
mod seeds;
mod snapshots;
