//! How long a worker waits between attempts, looks and log messages.

use crate::shared_state::Micros;

/// When all is quiet except for rows that are counted but not known anywhere, for example because somebody had them
/// locked, the queue is searched for them: first after this time, then after twice as long each time, up to the longest
/// sleep.
pub(super) const SEARCH_AFTER_MS: i64 = 5_000;
/// The pause after a failure of our own, for example when no thread could be started.
pub(super) const PAUSE: Micros = 1_000_000;
/// The pause when the claim table is full.
pub(super) const CLAIM_TABLE_FULL: Micros = 20_000;
/// A problem of our own is logged at most this often.
pub(super) const LOG_EVERY: Micros = 60_000_000;
