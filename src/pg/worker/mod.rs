//! A delivery worker: it claims the newest rows of its database, has them delivered, deletes what has arrived, and
//! waits.
//!
//! Only the main thread uses PostgreSQL. A few senders, threads that use neither PostgreSQL nor its settings, make the
//! requests. No transaction is open while the network is waited for. An unexpected error ends the process but loses no
//! work: the exit callback gives back what the worker held, and the launcher starts another.

mod claim;
mod deletion;
mod extension_check;
mod in_flight;
mod index_settings;
mod limits;
mod main_loop;
mod planning;
mod prepared_alerts;
mod rows;
mod settle;
mod settle_in_parts;
mod settlement;
mod statements;
pub(super) mod unused;

use std::cell::Cell;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::clock::now;
use super::connection::connect;
use super::process::{self, in_transaction};
use super::version::LIBRARY_VERSION;
use super::{flight_recorder, guc, report, shmem};
use crate::shared_state::WorkerExit;
use extension_check::still_has_extension;
use main_loop::WorkerLoop;
pub(super) use settle::storable;

/// The argument consists of the launch number and, in this many bits, the slot.
const SLOT_BITS: u32 = 8;

/// Settings that a worker makes for itself.
const SETTINGS: &[(&CStr, &CStr)] = &[
    // If a crash undoes a settlement, its rows are sent once more, with the same objectIDs.
    (c"synchronous_commit", c"off"),
    // The queue's size changes too quickly for statistics. Its primary key is always the right access path.
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"enable_sort", c"off"),
    (c"plan_cache_mode", c"force_generic_plan"),
];

/// Packs a slot and a launch number into a background worker's argument.
pub(super) fn argument(slot: usize, launch: u32) -> i64 {
    (i64::from(launch) << SLOT_BITS) | slot as i64
}

thread_local! {
    static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
    static NOTED: Cell<bool> = const { Cell::new(false) };
}

/// The entry point of a worker.
///
/// # Safety
/// Only PostgreSQL's background worker machinery may call it.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_worker_main(argument: pg_sys::Datum) {
    let argument = argument.value() as i64;
    let slot = (argument & ((1 << SLOT_BITS) - 1)) as usize;
    let launch = (argument >> SLOT_BITS) as u32;
    process::obey_signals();
    let Some(database) = attach_worker(slot, launch) else {
        return;
    };
    let work = || {
        connect(Some(database), SETTINGS);
        // SAFETY: a guarded function that lives as long as the library. It is registered after the connection's own
        // callbacks and therefore called before them: shared state is updated while locks still work.
        unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
        process::limit_what_the_allocator_keeps();
        flight_recorder::begin(slot);
        if is_served() && still_has_extension(slot) {
            WorkerLoop::new(slot, database).run();
        }
    };
    PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|error| {
            let why = report::cause(&error);
            // If the error has left shared state locked, waiting for the lock would never end.
            shmem::release_locks();
            note_trouble(database, &format!("a worker has ended with an error: {why}"));
            error.rethrow()
        })
        .execute();
}

/// Records for `queue_stats()` why this worker cannot work. Only the first reason counts, because later errors result
/// from it.
fn note_trouble(database: u32, trouble: &str) {
    if !NOTED.replace(true) {
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.note_trouble(database, trouble, now());
        }
    }
}

/// Whether the database is to be served. It may have been renamed since the launcher read its name.
pub(super) fn is_served() -> bool {
    let name = in_transaction(|| {
        // SAFETY: a look-up in the shared catalog, inside a transaction. The name, if found, is a C string.
        let name = unsafe {
            let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        name.ok_or(())
    });
    name.is_ok_and(|name| guc::serves(&name))
}

/// Whether the extension exists in the library's version.
pub(super) fn is_of_our_version() -> bool {
    statements::extension_version().is_ok_and(|found| found.as_deref() == Some(LIBRARY_VERSION))
}

/// Takes the slot that the launcher reserved. Returns the database to serve; `None` if the slot was given up or the
/// database is being vacated.
fn attach_worker(slot: usize, launch: u32) -> Option<u32> {
    // SAFETY: set at the start of every process.
    let pid = unsafe { pg_sys::MyProcPid };
    let mut shared_state = shmem::shared_state()?;
    if !shared_state.attach_worker(slot, launch, pid, shmem::my_latch(), now()) {
        return None;
    }
    SLOT.set(Some(slot));
    let database = shared_state.workers.get(slot)?.database;
    let leave = shared_state.workers.get(slot)?.leave;
    drop(shared_state);
    // If connecting fails, the process ends before the callback below is registered. SAFETY: a guarded function that
    // lives as long as the library.
    unsafe { pg_sys::on_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
    (!leave).then_some(database)
}

/// Gives everything back, however the process ends. It may be called twice; the second call does nothing.
///
/// The current transaction is ended first: as long as it locks rows, other workers would skip them and not look for
/// them again for a while.
#[pg_guard]
unsafe extern "C-unwind" fn on_exit(code: i32, _argument: pg_sys::Datum) {
    shmem::release_locks();
    if let Some(slot) = SLOT.take() {
        // SAFETY: the server itself does this first when a session ends. It does nothing outside of a transaction.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
        let exit = match code {
            0 => WorkerExit::Orderly,
            _ if process::was_terminated() => WorkerExit::Terminated,
            _ => WorkerExit::Failed,
        };
        let database = shmem::shared_state()
            .and_then(|shared_state| shared_state.workers.get(slot).map(|me| me.database));
        if let (WorkerExit::Failed, Some(database)) = (exit, database) {
            // The server ends the process by itself if an error is fatal.
            note_trouble(database, "a worker has ended with a fatal error: see the server's log");
        }
        flight_recorder::end(slot);
        shmem::change_and_wake(|shared_state| {
            shared_state.worker_exited(slot, exit, guc::quarantine(), now())
        });
    }
}
