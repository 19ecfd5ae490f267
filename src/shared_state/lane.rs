//! A lane, which is one index of one database: where its undelivered rows are, its counters, and whether it may be
//! delivered now.
#![forbid(unsafe_code)]

use super::{Claimable, FixedString, Micros, QueueEnd, UnattributedRejections, WorkerLimits};
use crate::id_ranges::{IdRanges, Span};

/// Ids are handed out in blocks of this size, each of which belongs to one transaction. A block is one value of the
/// sequence. Spans consist of whole blocks, so that those of neighbouring transactions merge.
pub const ID_BLOCK: i64 = 1024;

/// Fresh spans that are closer together than this are claimed by one query: the rows between them are mostly in flight,
/// and skipping a few of those costs less than a second query.
pub(super) const NEIGHBOURHOOD: i64 = 64 * ID_BLOCK;

/// Why a batch failed, as far as the lane is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneFailure {
    /// The attempt failed and is repeated after the backoff.
    Retry,
    /// Everything was rejected, and the rejections may concern the index. The next rows may tell.
    UnattributedRejections,
    /// Algolia refuses this client (credentials, rights, quota). Only a person can fix that.
    Blocked,
}

/// The database and index of a lane. `database` 0 marks a free lane.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaneKey {
    pub database: u32,
    pub index_id: i32,
}

/// The state of one index of one database. All zeroes is a lane that has seen nothing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Lane {
    /// The spans published by commits since a worker last looked.
    pub fresh: IdRanges,
    /// The spans of older rows: what fresh claims left over, what was given back, what a sweep must read.
    pub backlog: IdRanges,
    /// The rows that are versions of held objects. They wait until an object may be free: a flight of the lane or a
    /// quarantine has ended, a session has released its objects, or a claim has released objects that it does not send.
    pub deferred: IdRanges,
    /// How often `deferred` has been moved to the backlog.
    pub deferred_retries: u32,
    /// The number of rows in `fresh`, to know whether they fill a batch.
    pub fresh_rows: i64,
    /// When `fresh` stopped being empty.
    pub fresh_since: Micros,
    /// When the batch was sent whose return fresh rows wait for; 0: none.
    pub(super) partial_since: Micros,
    /// How many fresh rows fill a batch and do not wait any longer, as estimated when that batch was taken; 0: rows do
    /// not wait.
    pub(super) full_batch_rows: i64,
    /// The average row size of the latest batch.
    pub(super) row_bytes: i64,
    /// The credit of the tail: each batch taken while there is a backlog adds `tail_share`, and a batch of the oldest
    /// rows costs 100.
    pub tail_credit: u32,
    /// The whole key range has been put into `backlog` since the server started.
    pub swept: bool,
    /// `queued`, `dead` and `repairs` are exact, because a count of the tables has been added since the server started.
    pub counted: bool,
    /// Delivery is paused by `audit_algolia.pause`.
    pub paused: bool,
    /// Algolia refuses this client; `last_error` says why.
    pub blocked: bool,
    /// Failed deliveries in a row. Deliveries that were in flight together count once.
    pub failures: u32,
    /// When the latest of them was recorded.
    pub failed_at: Micros,
    /// No attempt is made before this time.
    pub retry_at: Micros,
    /// When the backoff was last reset, because the cause of failures may have been fixed.
    pub(super) backoff_reset_at: Micros,
    /// Of all attempts that delivered something, the start of the latest.
    pub(super) arrived_at: Micros,
    /// Other rows have been claimed since rows held back were.
    pub(super) is_turn_of_held_back: bool,
    /// Rows of failed attempts that have not been tried again.
    pub retrying: i64,
    /// Committed, undelivered rows, including those in flight.
    pub queued: i64,
    pub dead: i64,
    /// Rows that could not be captured and wait for repair.
    pub repairs: i64,
    /// Rows claimed by workers.
    pub in_flight: i64,
    pub enqueued_total: i64,
    pub delivered_total: i64,
    pub failed_total: i64,
    pub dead_total: i64,
    pub repairs_total: i64,
    pub last_delivered_at: Micros,
    /// The latest indexing task at the current destination. When it is published, everything delivered before is in the
    /// index.
    pub(super) last_task: i64,
    pub last_error: FixedString<400>,
    pub last_error_at: Micros,
    pub stats_reset: Micros,
    /// When a failure, a refusal of the client, and a recovery were last logged; 0: never.
    pub(super) failure_logged_at: Micros,
    pub(super) blocked_logged_at: Micros,
    pub(super) recovery_logged_at: Micros,
    /// When a record that fails by itself was last logged.
    pub(super) isolated_logged_at: Micros,
    /// When dead letters were last logged, and how many there have been since.
    pub(super) dead_logged_at: Micros,
    pub(super) dead_unlogged: i64,
    /// A failure has been logged, and no success since.
    pub(super) is_failure_logged: bool,
    /// What is known about rejections that name no record.
    pub unattributed_rejections: UnattributedRejections,
    pub(super) rate_rows: f64,
    pub(super) rate_at: Micros,
    /// The version of the settings that are to be sent (0: none), when they are due, and how often they have failed in
    /// a row.
    pub(super) settings_version: i64,
    pub(super) settings_due: Micros,
    pub(super) settings_failures: u32,
}

impl Lane {
    /// A lane that has seen nothing.
    pub const EMPTY: Lane = Lane {
        fresh: IdRanges::new(),
        backlog: IdRanges::new(),
        deferred: IdRanges::new(),
        deferred_retries: 0,
        fresh_rows: 0,
        fresh_since: 0,
        partial_since: 0,
        full_batch_rows: 0,
        row_bytes: 0,
        tail_credit: 0,
        swept: false,
        counted: false,
        paused: false,
        blocked: false,
        failures: 0,
        failed_at: 0,
        retry_at: 0,
        backoff_reset_at: 0,
        arrived_at: 0,
        is_turn_of_held_back: false,
        retrying: 0,
        queued: 0,
        dead: 0,
        repairs: 0,
        in_flight: 0,
        enqueued_total: 0,
        delivered_total: 0,
        failed_total: 0,
        dead_total: 0,
        repairs_total: 0,
        last_delivered_at: 0,
        last_task: 0,
        last_error: FixedString::EMPTY,
        last_error_at: 0,
        stats_reset: 0,
        failure_logged_at: 0,
        blocked_logged_at: 0,
        recovery_logged_at: 0,
        isolated_logged_at: 0,
        dead_logged_at: 0,
        dead_unlogged: 0,
        is_failure_logged: false,
        unattributed_rejections: UnattributedRejections::NONE,
        rate_rows: 0.0,
        rate_at: 0,
        settings_version: 0,
        settings_due: 0,
        settings_failures: 0,
    };

    /// A commit has made `rows` rows within `spans` visible.
    pub fn publish(&mut self, spans: &IdRanges, rows: i64, now: Micros) {
        // History is never fresh. It waits behind all live rows and is sent newest first.
        for span in spans.iter().filter(|span| span.hi < 0) {
            self.backlog.add(span.lo, span.hi);
        }
        if spans.newest().is_none_or(|span| span.hi < 0) {
            return;
        }
        if self.fresh.is_empty() {
            self.fresh_since = now;
            self.fresh_rows = 0;
        }
        for span in spans.iter().filter(|span| span.hi >= 0) {
            // The rest of the last block belongs to the same transaction, so no other rows can be in it.
            self.fresh.add(span.lo, span.hi | (ID_BLOCK - 1));
        }
        self.fresh_rows = self.fresh_rows.saturating_add(rows);
    }

    /// The whole key range must be read again, because rows may be anywhere.
    pub fn sweep(&mut self) {
        self.backlog.add(i64::MIN, i64::MAX);
        self.swept = true;
    }

    /// Whether a batch may be sent at `now`. After a failure, a single batch is tried before others follow.
    pub fn is_open(&self, now: Micros) -> bool {
        !self.paused && self.retry_at <= now && (self.failures == 0 || self.in_flight == 0)
    }

    /// Whether the latest attempt failed. Until one succeeds, only one batch at a time is in flight.
    pub fn is_in_trouble(&self) -> bool {
        self.failures > 0
    }

    /// When the waiting rows may next be claimed; `None` if no rows wait, or the lane opens only by an event.
    /// `backlog`: whether rows of the backlog count.
    pub fn opens_at(&self, worker_limits: &WorkerLimits, backlog: bool) -> Option<Micros> {
        if self.paused || (self.failures > 0 && self.in_flight > 0) {
            return None;
        }
        let waiting = match (self.fresh.is_empty(), backlog && !self.backlog.is_empty()) {
            (_, true) => Micros::MIN,
            (false, false) => self.fresh_due(worker_limits),
            (true, false) => return None,
        };
        Some(waiting.max(self.retry_at))
    }

    /// The end of the backoff: rows that are published before it wake nobody.
    pub fn backs_off_until(&self, now: Micros) -> Option<Micros> {
        let alone = self.failures == 0 || self.in_flight == 0;
        (!self.paused && alone && self.retry_at > now).then_some(self.retry_at)
    }

    /// Takes the span of the fresh rows if it is due.
    pub fn take_fresh(&mut self, worker_limits: &WorkerLimits, now: Micros) -> Option<Claimable> {
        if self.fresh.is_empty() || self.fresh_due(worker_limits) > now {
            return None;
        }
        self.credit_tail(worker_limits.tail_share);
        let partial = self.is_partial(worker_limits);
        let mut span = self.fresh.take_newest()?;
        while let Some(next) = self.fresh.newest() {
            if span.lo.saturating_sub(next.hi) > NEIGHBOURHOOD {
                break;
            }
            self.fresh.take_newest();
            span.lo = next.lo;
        }
        if self.fresh.is_empty() {
            self.fresh_rows = 0;
        }
        Some(Claimable { span, end: QueueEnd::Newest, fresh: true, partial, held_back: None })
    }

    /// Whether the next batch is taken from the tail. The tail comes before the newest rows; otherwise a stream of new
    /// rows would keep the oldest waiting for ever.
    pub fn is_tails_turn(&self, tail_share: u32) -> bool {
        self.has_tail() && self.tail_credit + tail_share >= 100
    }

    /// Whether there is a backlog of live rows. History has no tail: it yields to live rows and is sent newest first.
    fn has_tail(&self) -> bool {
        self.backlog.newest().is_some_and(|span| span.hi >= 0)
    }

    /// Adds to the tail's credit, because a batch is about to be taken.
    fn credit_tail(&mut self, tail_share: u32) {
        if self.has_tail() {
            // At most one turn is saved up while the tail cannot have the current one.
            self.tail_credit = (self.tail_credit + tail_share).min(200);
        }
    }

    /// Takes the oldest span of live rows in the backlog.
    pub fn take_tail(&mut self, tail_share: u32) -> Option<Claimable> {
        self.credit_tail(tail_share);
        self.tail_credit = self.tail_credit.saturating_sub(100);
        let span = self.backlog.take_oldest_from(0)?;
        Some(Claimable { span, end: QueueEnd::Oldest, fresh: false, partial: false, held_back: None })
    }

    /// Takes the newest span of the backlog.
    pub fn take_backlog(&mut self, tail_share: u32) -> Option<Claimable> {
        self.credit_tail(tail_share);
        let span = self.backlog.take_newest()?;
        Some(Claimable { span, end: QueueEnd::Newest, fresh: false, partial: false, held_back: None })
    }

    /// Gives back the rest of a claim.
    pub fn give_back(&mut self, span: Span) {
        if span.lo <= span.hi {
            self.backlog.add(span.lo, span.hi);
        }
    }

    /// Looks again at the rows that wait for held objects, because one may be free.
    pub fn retry_deferred(&mut self) {
        self.deferred_retries = self.deferred_retries.wrapping_add(1);
        let deferred = std::mem::take(&mut self.deferred);
        for span in deferred.iter() {
            self.give_back(span);
        }
    }
}
