//! The launcher: keeps the right number of delivery workers in each database that has the extension.
//!
//! It is connected to no database and reads only the shared catalog of databases. Which of them have the extension
//! it learns from the first worker it sends there. Its book is the ledger, so that a launcher that is started again
//! finds the workers of the one before.

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::process::{self, in_transaction};
use super::worker::argument;
use super::{guc, shmem};
use crate::ledger::{Extension, Micros, Stage};

/// How long the launcher sleeps when nobody wakes it.
const NAP_MS: i64 = 60_000;
/// How soon it looks again after a start that failed for want of a process slot.
const RETRY_MS: i64 = 10_000;
/// A process that has been asked for and has not come in this time never will.
const START_LIMIT: Micros = 20_000_000;

/// What `pg_database.datconnlimit` says of a database that was dropped halfway.
const DATCONNLIMIT_INVALID_DB: i32 = -2;

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

/// Entry point of the launcher.
///
/// # Safety
/// To be called by PostgreSQL's background worker machinery alone.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_launcher_main(_argument: pg_sys::Datum) {
    process::obey_signals();
    // SAFETY: called once, at the start of a background worker that asked for a database connection; null names mean
    // the shared catalogs alone.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
        pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize));
    }
    process::set_time_limits_aside();
    if let Some(mut ledger) = shmem::ledger() {
        ledger.launcher_latch = shmem::my_latch();
        // SAFETY: set at the start of every process.
        ledger.launcher_pid = unsafe { pg_sys::MyProcPid };
    }
    log!("audit_algolia launcher started");
    let mut launcher = Launcher { starting: Vec::new(), out_of_slots: false, short: false };
    let mut scratch = process::Scratch::new();
    loop {
        process::reload_if_asked();
        let timeout = scratch.round(|| launcher.round());
        process::wait(None, timeout);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
    if let Some(mut ledger) = shmem::ledger() {
        ledger.launcher_latch = 0;
        ledger.launcher_pid = 0;
    }
}

struct Launcher {
    /// Slots whose processes have been asked for: slot, launch, when.
    starting: Vec<(usize, u32, Micros)>,
    /// The shortage of process slots has been told, and lasts.
    out_of_slots: bool,
    /// It has been met in this round.
    short: bool,
}

impl Launcher {
    /// Starts what is missing; returns how long to sleep.
    fn round(&mut self) -> i64 {
        process::report_activity(true, "looking for databases to serve");
        let now = now();
        self.give_up_on_no_shows(now);
        let mut timeout = NAP_MS;
        self.short = false;
        let before = shmem::ledger().map(|ledger| ledger.known_databases()).unwrap_or_default();
        let found = databases();
        if let Some(mut ledger) = shmem::ledger() {
            let oids: Vec<u32> = found.iter().map(|database| database.oid).collect();
            ledger.forget_missing_databases(&before, &oids);
        }
        for Database { oid: database, name, .. } in found.into_iter().filter(|database| database.is_open) {
            if !guc::serves(&name) {
                self.dismiss(database, 0);
                continue;
            }
            timeout = timeout.min(self.serve(database, &name, now));
        }
        self.out_of_slots = self.short;
        process::report_activity(false, "");
        timeout
    }

    /// A reserved slot whose process has not reported must not stay reserved for ever.
    fn give_up_on_no_shows(&mut self, now: Micros) {
        let Some(mut ledger) = shmem::ledger() else { return };
        self.starting.retain(|(slot, launch, since)| {
            let waiting = ledger
                .workers
                .get(*slot)
                .is_some_and(|worker| worker.stage == Stage::Starting && worker.launch == *launch);
            let overdue = now.saturating_sub(*since) > START_LIMIT;
            if waiting && overdue {
                ledger.give_up(*slot, *launch);
            }
            waiting && !overdue
        });
        // Reserved by a launcher that is no more: nobody else would ever free it.
        for slot in 0..crate::ledger::WORKERS {
            let orphan = ledger.workers.get(slot).filter(|worker| {
                worker.stage == Stage::Starting
                    && !self.starting.iter().any(|(s, l, _)| *s == slot && *l == worker.launch)
            });
            if let Some(launch) = orphan.map(|worker| worker.launch) {
                ledger.give_up(slot, launch);
            }
        }
    }

    /// Sees to the workers of one database; returns how long to sleep at most, in milliseconds.
    fn serve(&mut self, database: u32, name: &str, now: Micros) -> i64 {
        let (is_present, allowed, missing, recount, wait, mut nap) = {
            let Some(mut ledger) = shmem::ledger() else {
                return NAP_MS;
            };
            let running: Vec<u32> = ledger.workers_of(database).map(|worker| worker.number).collect();
            let Some(entry) = ledger.database_mut(database) else {
                return NAP_MS;
            };
            let never_came = entry.counter < 0 && now.saturating_sub(entry.counter_since) > START_LIMIT;
            let free = entry.counter == 0 || never_came;
            let is_held = entry.is_held(now);
            let may_count = free && !is_held && entry.extension == Extension::Present;
            let due = entry.recount && entry.recount_at <= now;
            let recount = (due || never_came) && may_count;
            if recount {
                entry.recount = false;
                entry.counter = -1;
                entry.counter_since = now;
            }
            let is_present = entry.extension == Extension::Present;
            let wanted = match entry.extension {
                Extension::Absent => 0,
                // One goes and looks, unless there are some: those look by themselves.
                Extension::Unknown if running.is_empty() => guc::workers().min(1),
                Extension::Unknown => 0,
                Extension::Present => guc::workers(),
            };
            let allowed = match entry.extension {
                Extension::Absent => 0,
                Extension::Unknown | Extension::Present => guc::workers(),
            };
            let held_until = if is_held { entry.held_until } else { 0 };
            let wait = (entry.restart_at.max(held_until) - now).max(0) / 1000;
            let count_in =
                if entry.recount && may_count { (entry.recount_at - now).max(0) / 1000 + 1 } else { NAP_MS };
            let missing: Vec<u32> = (0..wanted).filter(|number| !running.contains(number)).collect();
            (is_present, allowed, missing, recount, wait, count_in.min(NAP_MS))
        };
        if recount && !start("audit_algolia counter", "audit_algolia_counter_main", i64::from(database)) {
            if let Some(mut ledger) = shmem::ledger() {
                ledger.counter_ended(database, true, now);
            }
            nap = RETRY_MS;
        }
        nap = nap.min(self.see_to_backfill(database, name, now));
        self.dismiss(database, allowed);
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

    /// Starts who sends history, if that is due; returns how long to sleep at most.
    fn see_to_backfill(&mut self, database: u32, name: &str, now: Micros) -> i64 {
        if guc::workers() == 0 {
            return NAP_MS;
        }
        let is_due = shmem::ledger().is_some_and(|mut ledger| ledger.awaits_backfiller(database, now));
        if is_due && !start("audit_algolia backfill", "audit_algolia_backfill_main", i64::from(database)) {
            if let Some(mut ledger) = shmem::ledger() {
                ledger.no_room_for_backfiller(database, now.saturating_add(RETRY_MS * 1000));
            }
            self.tell_shortage("audit_algolia could not start its backfill: no process slot is free", name);
        }
        let starts_at = shmem::ledger().and_then(|ledger| ledger.backfiller(database).starts_at());
        starts_at.map_or(NAP_MS, |at| (at.saturating_sub(now).max(0) / 1000 + 1).min(NAP_MS))
    }

    fn start_worker(&mut self, database: u32, number: u32, name: &str, now: Micros) -> bool {
        let enlisted = {
            let Some(mut ledger) = shmem::ledger() else {
                return false;
            };
            if ledger.is_held(database, now) {
                // Since a moment ago; its end wakes the launcher.
                return true;
            }
            ledger.enlist(database, number)
        };
        let Some((slot, launch)) = enlisted else {
            self.tell_shortage("audit_algolia has as many workers as it can keep track of", name);
            return false;
        };
        if start("audit_algolia worker", "audit_algolia_worker_main", argument(slot, launch)) {
            self.starting.push((slot, launch, now));
            return true;
        }
        if let Some(mut ledger) = shmem::ledger() {
            ledger.give_up(slot, launch);
        }
        self.tell_shortage("audit_algolia could not start a worker: no process slot is free", name);
        false
    }

    fn tell_shortage(&mut self, message: &str, database: &str) {
        self.short = true;
        if !std::mem::replace(&mut self.out_of_slots, true) {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                format!("{message}; rows of database \"{database}\" wait"),
                "audit_algolia launcher",
            )
            .set_hint(
                "Raise max_worker_processes, or lower audit_algolia.workers. It is tried again every 10 s.",
            )
            .report(PgLogLevel::WARNING);
        }
    }

    /// Has workers beyond the wanted number retire.
    fn dismiss(&mut self, database: u32, wanted: u32) {
        let wakes = shmem::ledger().map(|mut ledger| ledger.dismiss(database, wanted));
        shmem::wake(wakes.unwrap_or_default());
    }
}

/// Asks the postmaster for a process; `false` when it has none left.
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

/// A database of the server.
struct Database {
    oid: u32,
    name: String,
    /// It can be connected to and is no template: a worker in one would keep it from being copied.
    is_open: bool,
}

/// All databases there are.
fn databases() -> Vec<Database> {
    let list: Result<Vec<Database>, std::convert::Infallible> = in_transaction(|| {
        let mut found = Vec::new();
        // SAFETY: the shared catalog of databases is read under a catalog snapshot, inside a transaction; each tuple is
        // read before the next is fetched.
        unsafe {
            let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
            loop {
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                let Some(tuple) = tuple.as_ref() else { break };
                let header = tuple.t_data;
                let row: *const pg_sys::FormData_pg_database =
                    header.cast::<u8>().add(usize::from((*header).t_hoff)).cast();
                // A database whose DROP was broken off takes no connections either.
                let is_invalid = (*row).datconnlimit == DATCONNLIMIT_INVALID_DB;
                let name = std::ffi::CStr::from_ptr((*row).datname.data.as_ptr());
                found.push(Database {
                    oid: (*row).oid.to_u32(),
                    name: name.to_string_lossy().into_owned(),
                    is_open: (*row).datallowconn && !(*row).datistemplate && !is_invalid,
                });
            }
            if let Some(end) = (*(*(*scan).rs_rd).rd_tableam).scan_end {
                pg_sys::ffi::pg_guard_ffi_boundary(|| end(scan));
            }
            pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        }
        Ok(found)
    });
    list.unwrap_or_else(|never| match never {})
}

fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}
