//! What the result of an attempt means for its lane: how long the lane backs off, what is logged and how often, and the
//! totals.
#![forbid(unsafe_code)]

use super::time::move_time;
use super::{Count, Lane, LaneFailure, Micros};

/// The time over which the delivery rate is averaged, in seconds.
const RATE_WINDOW: f64 = 10.0;

/// At most this often, problems of an index are logged, by all workers together.
const TELL_EVERY: Micros = 60_000_000;

impl Lane {
    /// Algolia has accepted or rejected the records of an attempt, so delivery works again. This does not hold if the
    /// attempt was already in flight when the latest failure was recorded.
    pub fn answered(&mut self, started_at: Micros) {
        if !self.started_before_failure(started_at) {
            self.failures = 0;
            self.retry_at = 0;
            self.retrying = 0;
            self.blocked = false;
        }
    }

    /// `rows` rows were delivered.
    pub fn delivered(&mut self, rows: i64, now: Micros) {
        if rows > 0 {
            self.unattributed_rejections.delivered(rows, now);
        }
        self.delivered_total = self.delivered_total.saturating_add(rows);
        self.last_delivered_at = now;
        self.rate_rows = self.decayed(now) + rows as f64;
        self.rate_at = now;
    }

    /// Whether an attempt was already in flight when the latest failure was recorded. If so, its failure is the same
    /// one and must not extend the pause.
    pub fn started_before_failure(&self, started_at: Micros) -> bool {
        self.failures > 0 && started_at <= self.failed_at
    }

    /// An attempt failed with `rows` rows; the next one is made at `retry_at`.
    pub fn back_off(
        &mut self,
        failure: LaneFailure,
        rows: i64,
        reason: &str,
        (started_at, retry_at): (Micros, Micros),
        now: Micros,
    ) {
        if self.started_before_failure(started_at) {
            self.retrying = self.retrying.saturating_add(rows);
        } else {
            self.failures = self.failures.saturating_add(1);
            self.failed_at = now;
            self.retrying = rows;
        }
        // If the attempt began before the backoff was reset, it says nothing about what was fixed. The next one will.
        if started_at >= self.backoff_reset_at {
            self.retry_at = self.retry_at.max(retry_at);
        }
        self.failed_total = self.failed_total.saturating_add(rows);
        self.blocked = failure == LaneFailure::Blocked;
        self.last_error.set(reason);
        self.last_error_at = now;
    }

    /// The current counters.
    pub fn count(&self) -> Count {
        Count { queued: self.queued, dead: self.dead, repairs: self.repairs }
    }

    /// `rows` rows have failed, which says nothing about the others.
    pub fn note_failed(&mut self, rows: i64, reason: &str, now: Micros) {
        self.failed_total = self.failed_total.saturating_add(rows);
        self.last_error.set(reason);
        self.last_error_at = now;
    }

    /// Whether a failure is to be logged now. If so, the caller must log it. A blocked index is news even if it was
    /// backing off before.
    pub fn should_log_failure(&mut self, failure: LaneFailure, now: Micros) -> bool {
        let failure_logged_at = match failure {
            LaneFailure::Retry | LaneFailure::UnattributedRejections => &mut self.failure_logged_at,
            LaneFailure::Blocked => &mut self.blocked_logged_at,
        };
        let is_news = is_long_ago(*failure_logged_at, now);
        if is_news {
            *failure_logged_at = now;
            self.is_failure_logged = true;
        }
        is_news
    }

    /// Whether it is to be logged now that a record fails by itself.
    pub fn should_log_isolated(&mut self, now: Micros) -> bool {
        let is_news = is_long_ago(self.isolated_logged_at, now);
        if is_news {
            self.isolated_logged_at = now;
        }
        is_news
    }

    /// Whether a success is to be logged now, because the last thing logged was a failure.
    pub fn should_log_recovery(&mut self, now: Micros) -> bool {
        let is_news = self.is_failure_logged && is_long_ago(self.recovery_logged_at, now);
        if is_news {
            self.recovery_logged_at = now;
            self.is_failure_logged = false;
        }
        is_news
    }

    /// Adds `dead` dead letters. Returns how many are to be logged now, if any.
    pub fn dead_to_log(&mut self, dead: i64, now: Micros) -> Option<i64> {
        self.dead_unlogged = self.dead_unlogged.saturating_add(dead);
        let is_news = self.dead_unlogged > 0 && is_long_ago(self.dead_logged_at, now);
        is_news.then(|| {
            self.dead_logged_at = now;
            std::mem::take(&mut self.dead_unlogged)
        })
    }

    /// Moves all times back with the clock.
    pub(super) fn move_back(&mut self, by: Micros) {
        for time in [
            &mut self.fresh_since,
            &mut self.partial_since,
            &mut self.failed_at,
            &mut self.retry_at,
            &mut self.backoff_reset_at,
            &mut self.arrived_at,
            &mut self.settings_due,
            &mut self.failure_logged_at,
            &mut self.blocked_logged_at,
            &mut self.recovery_logged_at,
            &mut self.isolated_logged_at,
            &mut self.dead_logged_at,
        ] {
            move_time(time, by);
        }
    }

    /// Ends the backoff: the next attempt may start at once, and failures of attempts in flight do not count.
    pub fn retry_now(&mut self, now: Micros) {
        self.backoff_reset_at = now;
        self.retry_at = 0;
        self.failures = 0;
        self.blocked = false;
        self.settings_due = 0;
        self.settings_failures = 0;
    }

    /// Rows per second, averaged over about ten seconds.
    pub fn delivered_per_second(&self, now: Micros) -> f64 {
        let rate = self.decayed(now) / RATE_WINDOW;
        if rate < 0.001 {
            0.0
        } else {
            rate
        }
    }

    fn decayed(&self, now: Micros) -> f64 {
        let seconds = now.saturating_sub(self.rate_at).max(0) as f64 / 1e6;
        self.rate_rows * (-seconds / RATE_WINDOW).exp()
    }

    /// Sets the totals to zero. The numbers of queued rows, dead letters and repairs stay.
    pub fn reset_stats(&mut self, now: Micros) {
        self.enqueued_total = 0;
        self.delivered_total = 0;
        self.failed_total = 0;
        self.dead_total = 0;
        self.repairs_total = 0;
        self.last_error.clear();
        self.last_error_at = 0;
        self.last_delivered_at = 0;
        self.stats_reset = now;
        self.rate_rows = 0.0;
    }
}

fn is_long_ago(failure_logged_at: Micros, now: Micros) -> bool {
    failure_logged_at == 0 || now.saturating_sub(failure_logged_at) >= TELL_EVERY
}
