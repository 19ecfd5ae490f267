//! A lane, which is one index of one database: where its undelivered rows are, its counters, and whether it may be
//! delivered now.
#![forbid(unsafe_code)]

use super::{Claimable, FixedString, Micros, QueueEnd, UnattributedRejections, WorkerLimits};
use crate::id_ranges::{IdRanges, Span};

/// Ids are handed out in blocks of this many, one `nextval` each; spans are kept at block
/// granularity so that neighbouring transactions melt into one span.
pub const ID_BLOCK: i64 = 1024;

/// Fresh spans closer to each other than this are claimed by one query: the stretch between
/// them holds rows in flight at most, and walking a few of those is cheaper than a second query.
const NEIGHBOURHOOD: i64 = 64 * ID_BLOCK;

/// How a batch ended, as far as the lane is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneFailure {
    /// The attempt failed and is repeated after the backoff.
    Retry,
    /// All was refused, and it is not known what for; the next rows may show.
    UnattributedRejections,
    /// Algolia refuses this client (credentials, rights, quota): only a person can fix it.
    Blocked,
}

/// Which database and index a lane is for; `database` 0 marks a free lane.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaneKey {
    pub database: u32,
    pub index_id: i32,
}

/// One index of one database. All zeroes is a lane that has seen nothing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Lane {
    /// Spans published by commits since a worker last looked.
    pub fresh: IdRanges,
    /// Where older rows wait: what fresh claims left over, what was given back, what a sweep must read.
    pub backlog: IdRanges,
    /// Where versions of objects wait that somebody else holds: given back when a flight of the lane lands or a
    /// quarantine ends.
    pub deferred: IdRanges,
    /// How often that has been looked at again.
    pub deferred_retries: u32,
    /// Rows published in `fresh`; whether they fill a batch.
    pub fresh_rows: i64,
    /// When `fresh` stopped being empty.
    pub fresh_since: Micros,
    /// Since when the latest of the batches is on its way whose return fresh rows wait for; 0: none is.
    pub(super) partial_since: Micros,
    /// So many rows fill a batch and wait no longer, as far as the worker knows that has taken it; 0: none waits.
    pub(super) full_at: i64,
    /// How large a row of the latest batch was.
    pub(super) row_bytes: i64,
    /// What the tail may ask for: each batch taken while there is a backlog adds `tail_share`, 100 buy a batch of the
    /// oldest rows.
    pub tail_credit: u32,
    /// A worker has put the whole key range into `backlog` since the server started.
    pub swept: bool,
    /// `queued`, `dead` and `repairs` are exact: a count of the tables has been added since the server started.
    pub counted: bool,
    /// Delivery is paused by `audit_algolia.pause`.
    pub paused: bool,
    /// Algolia refuses this client; `last_error` says why.
    pub blocked: bool,
    /// Failed attempts in a row; attempts that were under way together count as one.
    pub failures: u32,
    /// When the latest of them was noted.
    pub failed_at: Micros,
    /// No attempt before this time.
    pub retry_at: Micros,
    /// When the backoff was last reset, because the cause of failures may have been fixed.
    pub(super) backoff_reset_at: Micros,
    /// When the latest of the attempts began that have delivered something.
    pub(super) arrived_at: Micros,
    /// Other rows have been claimed since some held back were.
    pub(super) is_turn_of_held_back: bool,
    /// Rows given back by a failed attempt and not tried again since.
    pub retrying: i64,
    /// Committed, undelivered rows, those in flight included.
    pub queued: i64,
    pub dead: i64,
    /// Rows that could not be captured and wait to be repaired.
    pub repairs: i64,
    /// Rows claimed by a worker.
    pub in_flight: i64,
    pub enqueued_total: i64,
    pub delivered_total: i64,
    pub failed_total: i64,
    pub dead_total: i64,
    pub repairs_total: i64,
    pub last_delivered_at: Micros,
    /// The latest indexing task that an answer of the present destination has named: when it is published, so is all that
    /// was delivered there before.
    pub(super) last_task: i64,
    pub last_error: FixedString<400>,
    pub last_error_at: Micros,
    pub stats_reset: Micros,
    /// When these were last logged, 0: never. A failure, a refusal, a success after either.
    pub(super) failure_logged_at: Micros,
    pub(super) blocked_logged_at: Micros,
    pub(super) recovery_logged_at: Micros,
    /// The same of a record that fails by itself.
    pub(super) isolated_logged_at: Micros,
    /// The same of records that were given up, and how many there have been since.
    pub(super) dead_logged_at: Micros,
    pub(super) dead_unlogged: i64,
    /// A failure has been logged, and no success since.
    pub(super) is_failure_logged: bool,
    /// What to think of refusals that name no record.
    pub unattributed_rejections: UnattributedRejections,
    pub(super) rate_rows: f64,
    pub(super) rate_at: Micros,
    /// The version of the settings the index is to be given, 0: none; not before when; and how often that has failed
    /// in a row.
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
        full_at: 0,
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
        // History is never fresh: it waits behind all live rows, the newest of it first.
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
            // The rest of the last block belongs to the same transaction, so nothing else can be in it.
            self.fresh.add(span.lo, span.hi | (ID_BLOCK - 1));
        }
        self.fresh_rows = self.fresh_rows.saturating_add(rows);
    }

    /// The whole key range has to be read again: rows may be anywhere.
    pub fn sweep(&mut self) {
        self.backlog.add(i64::MIN, i64::MAX);
        self.swept = true;
    }

    /// Whether a batch may be sent at `now`. After a failure a single batch is tried before the rest follows.
    pub fn is_open(&self, now: Micros) -> bool {
        !self.paused && self.retry_at <= now && (self.failures == 0 || self.in_flight == 0)
    }

    /// Whether the latest attempt failed: until one succeeds, a single batch is under way at a time.
    pub fn is_in_trouble(&self) -> bool {
        self.failures > 0
    }

    /// When rows that wait here may next be claimed: `None` when none wait or only a person can open the lane.
    /// `backlog`: whether rows of the backlog count as well as fresh ones.
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

    /// Until when no batch is sent: what is published before then wakes nobody.
    pub fn backs_off_until(&self, now: Micros) -> Option<Micros> {
        let alone = self.failures == 0 || self.in_flight == 0;
        (!self.paused && alone && self.retry_at > now).then_some(self.retry_at)
    }

    /// Takes the fresh rows' span when one is due.
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

    /// Whether the next batch is the tail's: it has its turn before the newest rows have theirs, or a stream of new
    /// rows would keep the oldest waiting for ever.
    pub fn is_tails_turn(&self, tail_share: u32) -> bool {
        self.has_tail() && self.tail_credit + tail_share >= 100
    }

    /// Whether there is a backlog of live rows. History has no tail: it yields to them, and goes newest first.
    fn has_tail(&self) -> bool {
        self.backlog.newest().is_some_and(|span| span.hi >= 0)
    }

    /// A batch is about to be taken: the tail earns its share of it.
    fn credit_tail(&mut self, tail_share: u32) {
        if self.has_tail() {
            // No more than a second turn is saved up while the tail cannot have its first.
            self.tail_credit = (self.tail_credit + tail_share).min(200);
        }
    }

    /// Takes the oldest span of the backlog, as far as it is of live rows.
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

    /// Gives back what a claim did not use up.
    pub fn give_back(&mut self, span: Span) {
        if span.lo <= span.hi {
            self.backlog.add(span.lo, span.hi);
        }
    }

    /// Has what waits for held objects be looked at again: one may be free.
    pub fn retry_deferred(&mut self) {
        self.deferred_retries = self.deferred_retries.wrapping_add(1);
        let deferred = std::mem::take(&mut self.deferred);
        for span in deferred.iter() {
            self.give_back(span);
        }
    }
}
