//! How long a worker waits between attempts, looks and log messages.

use crate::shared_state::Micros;

/// When all is quiet but for rows that are counted and nowhere, as after somebody had them locked, they are searched for:
/// for the first time after so long, and then after twice as long each time, up to a nap.
pub(super) const SEARCH_AFTER_MS: i64 = 5_000;
/// How long nothing is tried after a fault of our own, such as no thread to be had.
pub(super) const PAUSE: Micros = 1_000_000;
/// How soon to look again when all workers together hold as many rows as can be kept track of.
pub(super) const CLAIM_TABLE_FULL: Micros = 20_000;
/// A trouble of our own is logged this often at most.
pub(super) const LOG_EVERY: Micros = 60_000_000;
