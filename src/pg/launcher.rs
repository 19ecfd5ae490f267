//! The launcher: keeps the right number of delivery workers in each database that has the extension.
//!
//! It is connected to no database and reads only the shared catalog of databases. The first worker that it sends to a
//! database reports whether the extension is there. The launcher keeps everything in shared state, so a restarted
//! launcher finds the workers of the one before.

use std::collections::HashSet;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::clock::now;
use super::connection::connect;
use super::databases::{self, CatalogDatabase};
use super::process;
use super::shortage::{note_trouble, Shortage, FEWER_WORKERS, MORE_PROCESSES};
use super::worker::argument;
use super::{guc, shmem};
use crate::shared_state::{Extension, Micros, SlotState, DATABASES};

/// How long the launcher sleeps if nobody wakes it.
const NAP_MS: i64 = 60_000;
/// The pause after a start that failed because no background worker slot was free.
const RETRY_MS: i64 = 10_000;
/// A process that has not started within this time is given up.
const START_LIMIT: Micros = 20_000_000;

/// Registers the launcher. Call it while the library is preloaded.
pub(super) fn register() {
    BackgroundWorkerBuilder::new("audit_algolia launcher")
        .set_type("audit_algolia launcher")
        .set_library("audit_algolia")
        .set_function("audit_algolia_launcher_main")
        .enable_spi_access()
        // On a standby the postmaster starts it only after promotion.
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(std::time::Duration::from_secs(1)))
        .load();
}

/// The entry point of the launcher.
///
/// # Safety
/// Only PostgreSQL's background worker machinery may call it.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_launcher_main(_argument: pg_sys::Datum) {
    process::obey_signals();
    connect(None, &[]);
    // SAFETY: a guarded function that lives as long as the library.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
    if let Some(mut shared_state) = shmem::shared_state() {
        shared_state.launcher_latch = shmem::my_latch();
        shared_state.launcher_started(now());
        // SAFETY: set at the start of every process.
        shared_state.launcher_pid = unsafe { pg_sys::MyProcPid };
    }
    log!("audit_algolia launcher started");
    let mut launcher = Launcher::default();
    let mut scratch = process::RoundMemory::new();
    loop {
        process::reload_if_asked();
        let timeout = scratch.round(|| launcher.round());
        // Waiting for a lock or a page resets the latch, so an event during the round may have gone unnoticed.
        pgrx::check_for_interrupts!();
        let is_called = shmem::shared_state().is_some_and(|shared_state| shared_state.launcher_called);
        if !is_called && !process::is_reload_asked_for() {
            process::wait(None, timeout);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
    shmem::release_locks();
    if let Some(mut shared_state) = shmem::shared_state() {
        shared_state.launcher_latch = 0;
        shared_state.launcher_pid = 0;
    }
}

#[derive(Default)]
struct Launcher {
    /// Slots whose processes were requested: slot, launch, and when.
    starting: Vec<(usize, u32, Micros)>,
    /// Databases without the extension, as far as is known. Shared state may have reused their entries.
    without_extension: HashSet<u32>,
    slots: Shortage,
    entries: Shortage,
}

impl Launcher {
    /// Starts what is missing. Returns how long to sleep.
    fn round(&mut self) -> i64 {
        process::report_activity(true, "looking for databases to serve");
        let now = now();
        self.free_slots_of_no_shows(now);
        let mut timeout = NAP_MS;
        let before = shmem::shared_state().map(|mut shared_state| {
            shared_state.launcher_called = false;
            shared_state.tick(now);
            shared_state.known_databases()
        });
        let before = before.unwrap_or_default();
        let found = databases::all();
        if let Some(mut shared_state) = shmem::shared_state() {
            let oids: Vec<u32> = found.iter().map(|database| database.oid).collect();
            shared_state.forget_missing_databases(&before, &oids);
            for oid in before.iter().filter(|oid| !oids.contains(oid)) {
                shmem::reserves().inspect(|reserves| reserves.forget(*oid));
            }
            let unlisted_database = std::mem::take(&mut shared_state.unlisted_database);
            self.without_extension
                .retain(|oid| oids.contains(oid) && !shared_state.knows(*oid) && *oid != unlisted_database);
            self.without_extension.extend(shared_state.without_extension());
        }
        for CatalogDatabase { oid: database, name, is_open } in found {
            // A template is to be copied, and a database that accepts no connections is to be left alone.
            if !is_open || !guc::serves(&name) {
                self.retire_workers(database, 0);
                continue;
            }
            timeout = timeout.min(self.serve(database, &name, now));
        }
        self.slots.end_round();
        self.entries.end_round();
        process::report_activity(false, "");
        timeout
    }

    /// Frees slots whose processes have never started.
    fn free_slots_of_no_shows(&mut self, now: Micros) {
        let Some(mut shared_state) = shmem::shared_state() else { return };
        self.starting.retain(|(slot, launch, since)| {
            let waiting = shared_state
                .workers
                .get(*slot)
                .is_some_and(|worker| worker.slot_state == SlotState::Starting && worker.launch == *launch);
            // If the clock was set back, this is unknown as well.
            let overdue = !(0..=START_LIMIT).contains(&now.saturating_sub(*since));
            if waiting && overdue {
                shared_state.cancel_slot(*slot, *launch);
            }
            waiting && !overdue
        });
        // Slots reserved by a previous launcher would never be freed otherwise.
        for slot in 0..crate::shared_state::WORKERS {
            let orphan = shared_state.workers.get(slot).filter(|worker| {
                worker.slot_state == SlotState::Starting
                    && !self.starting.iter().any(|(s, l, _)| *s == slot && *l == worker.launch)
            });
            if let Some(launch) = orphan.map(|worker| worker.launch) {
                shared_state.cancel_slot(slot, launch);
            }
        }
    }

    /// Starts and retires the workers of one database. Returns how long to sleep at most, in milliseconds.
    fn serve(&mut self, database: u32, name: &str, now: Micros) -> i64 {
        let (is_present, allowed, missing, recount, wait, mut nap) = {
            let Some(mut shared_state) = shmem::shared_state() else {
                return NAP_MS;
            };
            if self.without_extension.contains(&database) && !shared_state.knows(database) {
                return NAP_MS;
            }
            let running: Vec<u32> = shared_state.workers_of(database).map(|worker| worker.number).collect();
            let is_full = shared_state.database_list_is_full();
            let Some(entry) = shared_state.database_mut(database) else {
                drop(shared_state);
                // Unless all databases have the extension, the launcher is woken when a worker has looked into one of
                // them.
                if is_full {
                    self.entries.log_once(
                        &format!("audit_algolia cannot serve more than {DATABASES} databases"),
                        name,
                        "Name the databases to serve in audit_algolia.databases, and restart the server.",
                    );
                }
                return NAP_MS;
            };
            let never_came = entry.counter < 0 && now.saturating_sub(entry.counter_since) > START_LIMIT;
            let free = entry.counter == 0 || never_came;
            let is_vacated = entry.is_vacated(now);
            let may_count = free && !is_vacated && entry.extension == Extension::Present;
            let due = entry.recount && entry.recount_at <= now;
            let recount = (due || never_came) && may_count;
            if recount {
                entry.count_begins(now);
            }
            let is_present = entry.extension == Extension::Present;
            let wanted = match entry.extension {
                Extension::Absent => 0,
                // One worker is started to look for the extension, unless there are some, which look by themselves.
                Extension::Unknown if running.is_empty() => guc::workers().min(1),
                Extension::Unknown => 0,
                Extension::Present => guc::workers(),
            };
            let allowed = match entry.extension {
                Extension::Absent => 0,
                Extension::Unknown | Extension::Present => guc::workers(),
            };
            let vacated_until = if is_vacated { entry.vacated_until } else { 0 };
            let wait = (entry.restart_at.max(vacated_until) - now).max(0) / 1000;
            let count_in =
                if entry.recount && may_count { (entry.recount_at - now).max(0) / 1000 + 1 } else { NAP_MS };
            let missing: Vec<u32> = (0..wanted).filter(|number| !running.contains(number)).collect();
            (is_present, allowed, missing, recount, wait, count_in.min(NAP_MS))
        };
        if recount && !start("audit_algolia counter", "audit_algolia_counter_main", i64::from(database)) {
            if let Some(mut shared_state) = shmem::shared_state() {
                shared_state.counter_ended(database, true, now);
            }
            nap = RETRY_MS;
        }
        nap = nap.min(self.start_backfill_if_due(database, name, now));
        self.retire_workers(database, allowed);
        if missing.is_empty() {
            return nap;
        }
        if wait > 0 {
            return nap.min(wait + 1);
        }
        if is_present {
            log!("audit_algolia launcher starts {} workers for database \"{name}\"", missing.len());
        }
        for number in missing {
            if !self.start_worker(database, number, name, now) {
                return RETRY_MS;
            }
        }
        nap
    }

    /// Starts the backfill process if it is due. Returns how long to sleep at most.
    fn start_backfill_if_due(&mut self, database: u32, name: &str, now: Micros) -> i64 {
        if guc::workers() == 0 {
            return NAP_MS;
        }
        let is_due = shmem::shared_state()
            .is_some_and(|mut shared_state| shared_state.should_start_backfiller(database, now));
        if is_due && !start("audit_algolia backfill", "audit_algolia_backfill_main", i64::from(database)) {
            if let Some(mut shared_state) = shmem::shared_state() {
                shared_state.backfiller_not_started(database, now.saturating_add(RETRY_MS * 1000));
            }
            let message = "audit_algolia could not start its backfill: no process slot is free";
            self.slots.log_once(message, name, MORE_PROCESSES);
        }
        let starts_at =
            shmem::shared_state().and_then(|shared_state| shared_state.backfiller(database).starts_at());
        starts_at.map_or(NAP_MS, |at| (at.saturating_sub(now).max(0) / 1000 + 1).min(NAP_MS))
    }

    fn start_worker(&mut self, database: u32, number: u32, name: &str, now: Micros) -> bool {
        let reserved = {
            let Some(mut shared_state) = shmem::shared_state() else {
                return false;
            };
            if shared_state.is_vacated(database, now) {
                // This has just changed. The end of the statement wakes the launcher.
                return true;
            }
            shared_state.reserve_slot(database, number)
        };
        let Some((slot, launch)) = reserved else {
            let message = "audit_algolia cannot start more workers";
            note_trouble(database, message, FEWER_WORKERS, now);
            self.slots.log_once(message, name, FEWER_WORKERS);
            return false;
        };
        if start("audit_algolia worker", "audit_algolia_worker_main", argument(slot, launch)) {
            self.starting.push((slot, launch, now));
            return true;
        }
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.cancel_slot(slot, launch);
        }
        let message = "audit_algolia could not start a worker: no process slot is free";
        note_trouble(database, message, MORE_PROCESSES, now);
        self.slots.log_once(message, name, MORE_PROCESSES);
        false
    }

    /// Retires workers beyond the wanted number.
    fn retire_workers(&mut self, database: u32, wanted: u32) {
        shmem::change_and_wake(|shared_state| shared_state.retire_workers(database, wanted));
    }
}

/// Starts a background worker; `false` if no slot is free.
fn start(kind: &str, function: &str, argument: i64) -> bool {
    // SAFETY: set at the start of every process.
    let pid = unsafe { pg_sys::MyProcPid };
    BackgroundWorkerBuilder::new(kind)
        .set_type(kind)
        .set_library("audit_algolia")
        .set_function(function)
        .enable_spi_access()
        .set_argument(argument.into_datum())
        .set_notify_pid(pid)
        .set_restart_time(None)
        .load_dynamic()
        .is_ok()
}
