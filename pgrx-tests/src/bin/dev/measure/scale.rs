//! How much is measured: in under five minutes, or in under 45 on a quiet machine with two cores.

use std::time::Duration;

use super::rows::Records;

/// Rows, repeats and times. Those of a quick run show that everything works, and approximate figures.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// The disk space that the largest cluster needs, in gigabytes.
    pub(super) disk: u64,
    /// How often each comparison is repeated.
    pub(super) repeats: usize,
    /// How often each field of the larger tables is measured.
    pub(super) fields: usize,
    /// Rows of a bulk insert, and of a COPY.
    pub(super) bulk: u64,
    /// Rows of a loop of single inserts in the server.
    pub(super) singles: u64,
    /// Rows in statements of a hundred.
    pub(super) hundreds: u64,
    /// Rows of a loop of single inserts from a client, in one transaction.
    pub(super) client: u64,
    /// How often, and for how many seconds each time, clients commit single rows.
    pub(super) writing: (usize, u64),
    /// Rows of the statement whose memory is measured.
    pub(super) writer: u64,
    /// Rows of a drain.
    pub(super) drain: u64,
    /// Rows given to a polling service.
    pub(super) polled: u64,
    /// The latencies in the table of drains, in milliseconds.
    pub(super) latencies: &'static [u64],
    /// The record lengths in the table of drains.
    pub(super) records: &'static [Records],
    /// Rows of a drain in the table of drains, unless the latency requires fewer.
    pub(super) field: u64,
    /// The backlog behind which the delay of new rows is measured.
    pub(super) backlog: u64,
    /// Rows delivered while a snapshot is held.
    pub(super) pinned: u64,
    /// Rows delivered while autovacuum is off.
    pub(super) unvacuumed: u64,
    /// Rows queued when the statistics are read.
    pub(super) counted: u64,
    /// After so many rows, a worker's memory is measured.
    pub(super) looks: [u64; 3],
    /// Rows of 8 MB.
    pub(super) large: u64,
    /// So many attempts fail before its memory is measured again.
    pub(super) attempts: i64,
    /// Rows of each drain and of each capture in the tables of growth.
    pub(super) grown: u64,
    /// How long each phase of steady traffic takes.
    pub(super) phase: Duration,
    /// How long the stream takes for which delays are measured.
    pub(super) stream: Duration,
    /// How long idle processes are watched.
    pub(super) idle: Duration,
    /// How long a worker rests before its memory is measured.
    pub(super) rest: Duration,
}

pub(super) const QUICK: Scale = Scale {
    disk: 6,
    repeats: 2,
    fields: 1,
    bulk: 30_000,
    singles: 10_000,
    hundreds: 5_000,
    client: 2_000,
    writing: (1, 1),
    writer: 100_000,
    drain: 200_000,
    polled: 20_000,
    latencies: &[0, 50],
    records: &[Records::Small],
    field: 40_000,
    backlog: 300_000,
    pinned: 120_000,
    unvacuumed: 120_000,
    counted: 500_000,
    looks: [50_000, 100_000, 200_000],
    large: 24,
    attempts: 200,
    grown: 20_000,
    phase: Duration::from_secs(2),
    stream: Duration::from_secs(3),
    idle: Duration::from_secs(10),
    rest: Duration::from_secs(2),
};

pub(super) const FULL: Scale = Scale {
    disk: 16,
    repeats: 5,
    fields: 3,
    bulk: 200_000,
    singles: 50_000,
    hundreds: 20_000,
    client: 10_000,
    writing: (5, 1),
    writer: 1_000_000,
    drain: 1_000_000,
    polled: 80_000,
    latencies: &[0, 50, 300],
    records: &[Records::Small, Records::Large],
    field: 120_000,
    backlog: 5_000_000,
    pinned: 2_000_000,
    unvacuumed: 1_000_000,
    counted: 10_000_000,
    looks: [100_000, 500_000, 1_000_000],
    large: 256,
    attempts: 2_000,
    grown: 200_000,
    phase: Duration::from_secs(20),
    stream: Duration::from_secs(10),
    idle: Duration::from_secs(60),
    rest: Duration::from_secs(70),
};
