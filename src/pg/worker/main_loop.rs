//! The worker's main loop: settle what senders have returned, claim what there is room for, wait.
//!
//! | step | file |
//! |---|---|
//! | settings and indices that have changed are read again | `refresh` |
//! | batches are claimed and given to senders | `claiming`; `batch_reduction` makes them smaller when memory is short |
//! | results are collected, and claims given back | `results` |
//! | a result becomes a settlement: which rows arrived, which die, which are tried again | `row_outcomes` |
//! | rows are deleted, or moved to the dead letters | `settling` |
//! | the lane backs off after a failure | `backoff` |
//! | settings of indices are sent | `index_settings` |
//! | the worker's own problems are logged | `problem` |
//! | what the worker knows from one round to the next, and how often it does what | `state`, `intervals` |

mod backoff;
mod batch_reduction;
mod claiming;
mod index_settings;
mod intervals;
mod problem;
mod refresh;
mod results;
mod row_outcomes;
mod settling;
mod state;

use std::collections::HashMap;

use super::extension_check::still_has_extension;
use crate::delivery::sender_pool::SenderPool;
use crate::pg::clock::now;
use crate::pg::process;
use crate::pg::shmem;
use crate::pg::wait_set::WaitSet;
use crate::shared_state::Micros;
use intervals::SEARCH_AFTER_MS;
pub(super) use state::WorkerLoop;

/// How long an idle worker sleeps at most. Commits wake it earlier; this is only a safety net.
const NAP_MS: i64 = 60_000;
/// How often the indices are read again and the whole queue is searched for rows that nobody has published: they were
/// inserted by hand, or were locked when they were read.
const SWEEP_EVERY: Micros = 600_000_000;
/// The server accepts table statistics at most once a second, so the last ones are reported after this time.
const TELL_AFTER_MS: i64 = 1_100;
/// After this idle time, memory is returned to the system.
const GIVE_BACK_AFTER_MS: i64 = 30_000;

impl WorkerLoop {
    /// Works until it is told to leave.
    pub(super) fn run(mut self) {
        let mut fresh_settings = true;
        let mut scratch = process::RoundMemory::new();
        self.read_indices();
        loop {
            let orders = self.orders();
            if orders.leave || (orders.retire && self.is_idle()) {
                return;
            }
            if process::reload_if_asked() || fresh_settings {
                fresh_settings = false;
                self.read_settings();
            }
            if orders.stale || std::mem::take(&mut self.queue_is_gone) {
                if !still_has_extension(self.slot) {
                    return;
                }
                self.read_indices();
            }
            if orders.sweep {
                self.read_indices();
                shmem::change_and_wake(|shared_state| shared_state.sweep(self.database, true));
            }
            let wake_at = scratch.round(|| self.round(orders.retire));
            self.note_health();
            self.wait_for_work(wake_at, orders.retire);
        }
    }

    /// One round. Returns when there is something to do again, if that is known.
    fn round(&mut self, retire: bool) -> Option<Micros> {
        self.settle_results();
        let wake_at = match retire {
            // Everything is settled: at the next look at its orders, the worker leaves.
            true => self.is_idle().then(now),
            false => [self.send_settings(), self.claim_all()].into_iter().flatten().min(),
        };
        self.report_activity();
        wake_at
    }

    /// After a successful round, clears the reason why workers could not work.
    fn note_health(&mut self) {
        let is_well = self.other_version.is_none() && self.statements.is_some();
        if is_well && !self.is_well {
            if let Some(mut shared_state) = shmem::shared_state() {
                shared_state.forget_trouble(self.database);
            }
        }
        self.is_well = is_well;
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.settings_in_flight.is_empty()
    }

    /// Shows what is in flight.
    fn report_activity(&self) {
        let mut rows: HashMap<i32, usize> = HashMap::new();
        for in_flight in self.in_flight.values() {
            *rows.entry(in_flight.index_id).or_default() += in_flight.ids.len();
        }
        let name = |index: &i32| self.indices.get(index).map_or("", |known| &*known.name);
        match rows.iter().next() {
            None if !self.settings_in_flight.is_empty() => {
                process::report_activity(true, "sending index settings")
            }
            None => process::report_activity(false, "waiting for rows"),
            Some((index, count)) if rows.len() == 1 => {
                let text = format!("delivering {count} rows to index \"{}\"", name(index));
                process::report_activity(true, &text);
            }
            Some(_) => {
                let count: usize = rows.values().sum();
                let text = format!("delivering {count} rows to {} indices", rows.len());
                process::report_activity(true, &text);
            }
        }
    }

    /// Waits until there is something to do.
    fn wait_for_work(&mut self, wake_at: Option<Micros>, retiring: bool) {
        // Waiting for a lock or a page resets the latch, so an event during the round may have gone unnoticed.
        pgrx::check_for_interrupts!();
        if self.queue_is_gone || process::is_reload_asked_for() || self.has_new_orders(retiring) {
            return;
        }
        let mut timeout =
            wake_at.map_or(NAP_MS, |at| (at.saturating_sub(now()) / 1000).saturating_add(1).clamp(0, NAP_MS));
        let is_miscounted =
            shmem::shared_state().is_some_and(|shared_state| shared_state.is_miscounted(self.database));
        self.search_after_ms = if is_miscounted { self.search_after_ms } else { SEARCH_AFTER_MS };
        let searches = is_miscounted && timeout >= self.search_after_ms;
        if searches {
            timeout = self.search_after_ms;
        }
        if self.stats_pending {
            timeout = timeout.min(TELL_AFTER_MS);
        }
        if self.keeps_memory {
            timeout = timeout.min(GIVE_BACK_AFTER_MS);
        }
        let bell = self.sender_pool.as_ref().map(SenderPool::bell);
        let wait_set = match self.wait_set.take().filter(|wait_set| wait_set.is_for(bell)) {
            Some(known) => known,
            None => WaitSet::new(bell),
        };
        let slept = process::wait_for(self.wait_set.insert(wait_set), timeout);
        if slept && self.stats_pending {
            self.stats_pending = false;
            self.keeps_memory = true;
            process::report_statistics();
        } else if slept && self.keeps_memory && timeout >= GIVE_BACK_AFTER_MS && self.is_idle() {
            self.keeps_memory = false;
            self.sender_pool.as_mut().into_iter().for_each(SenderPool::dismiss_idle);
            process::give_memory_back();
        }
        if slept && searches && timeout == self.search_after_ms {
            self.search_after_ms = (2 * self.search_after_ms).min(NAP_MS);
            shmem::change_and_wake(|shared_state| shared_state.sweep(self.database, false));
        }
    }

    /// Whether there are new orders. The order to retire takes a while to follow.
    fn has_new_orders(&self, retiring: bool) -> bool {
        let shared_state = shmem::shared_state();
        let me = shared_state.as_ref().and_then(|shared_state| shared_state.workers.get(self.slot));
        me.is_none_or(|me| me.leave || me.stale || me.retire != retiring)
    }

    fn orders(&mut self) -> Orders {
        let Some(mut shared_state) = shmem::shared_state() else {
            return Orders::LEAVE;
        };
        let sweep = shared_state.is_sweep_due(self.database, SWEEP_EVERY, now());
        match shared_state.workers.get_mut(self.slot) {
            None => Orders::LEAVE,
            Some(me) => Orders { leave: me.leave, retire: me.retire, stale: me.stale, sweep },
        }
    }
}

struct Orders {
    leave: bool,
    retire: bool,
    stale: bool,
    sweep: bool,
}

impl Orders {
    const LEAVE: Orders = Orders { leave: true, retire: false, stale: false, sweep: false };
}
