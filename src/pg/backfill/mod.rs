//! The backfill process: it reads what watched tables held before the watch, newest first, and queues it behind all
//! live rows, no faster than it is delivered. It also repairs changes that capture has left out, and replaces outdated
//! triggers.
//!
//! The process runs while its database has such work. All it knows is in the tables `backfill` and `repair`, so it can
//! end at any moment; the next one goes on from what it has committed.

mod lock_tree;
mod outdated;
mod progress;
mod read_order;
mod reading;
mod repair;
mod repair_store;
mod repair_turns;
mod rows;
mod scheduler;
mod snapshot_boundary;
mod source_table;
mod step;
mod transaction;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::clock::now;
use super::connection::connect;
use super::process;
use super::report::SqlResult;
use super::rules::SourceRules;
use super::{failpoint, shmem, worker};
use crate::shared_state::BackfillerExit;
use outdated::OutdatedTriggers;
use repair::Repairs;
use scheduler::Scheduler;

pub(super) use lock_tree::{lock_against_writers, lock_tree};
pub(super) use read_order::Bounds;
pub(super) use rows::qualified_name;
pub(super) use snapshot_boundary::{take, this_transaction, OwnRows};

/// How long the process sleeps if nobody wakes it and nothing is due.
const NAP_MS: i64 = 60_000;

thread_local! {
    static DATABASE: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Checks that a table can be read as a backfill with these bounds would. Call it as the extension's owner.
pub(super) fn check(rules: &SourceRules, bounds: Bounds) -> SqlResult<()> {
    read_order::ReadOrder::of(rules, bounds).map(|_| ())
}

/// The entry point of the process.
///
/// # Safety
/// Only PostgreSQL's background worker machinery may call it.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_backfill_main(argument: pg_sys::Datum) {
    process::obey_signals();
    let database = argument.value() as u32;
    // SAFETY: set at the start of every process.
    let pid = unsafe { pg_sys::MyProcPid };
    let stays = shmem::shared_state().is_some_and(|mut shared_state| {
        shared_state.attach_backfiller(database, pid, shmem::my_latch(), now())
    });
    DATABASE.set(Some(database));
    // SAFETY: guarded functions that live as long as the library. The second is called first, while locks work.
    unsafe { pg_sys::on_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
    if !stays {
        return;
    }
    // If a crash undid a step, it would be repeated, and its rows would be sent twice.
    connect(Some(database), &[(c"synchronous_commit", c"local")]);
    // SAFETY: as above.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
    if run(database) {
        leave(BackfillerExit::Done);
    }
}

/// Works until nothing is left to do or the process must leave. Returns whether it is done.
fn run(database: u32) -> bool {
    let (mut scheduler, mut repairs) = (Scheduler::new(database), Repairs::new(database));
    let mut outdated = OutdatedTriggers::default();
    let mut scratch = process::RoundMemory::new();
    let mut look = true;
    loop {
        if process::reload_if_asked() || look {
            look = false;
            if !worker::is_served() || !worker::is_of_our_version() {
                return true;
            }
        }
        let Some((held, asked, is_new)) = shmem::shared_state().map(|mut shared_state| {
            let (asked, is_new) =
                (shared_state.take_backfill_request(database), shared_state.take_repair_request(database));
            (shared_state.is_vacated(database, now()), asked, is_new)
        }) else {
            return true;
        };
        if held {
            return false;
        }
        if asked {
            look = true;
            scheduler.forget();
            outdated.look();
        }
        if asked || is_new {
            repairs.look();
        }
        process::report_activity(true, "queueing history");
        failpoint::reach("before backfill");
        let repair_at = scratch.round(|| repairs.round());
        let replace_at = scratch.round(|| outdated.round());
        let step_at = scratch.round(|| scheduler.round());
        let Some(wake_at) = [repair_at, replace_at, step_at].into_iter().flatten().min() else { return true };
        let nap = wake_at.saturating_sub(now()) / 1000 + 1;
        process::report_activity(false, "waiting to queue history");
        if wake_at > now() {
            process::report_statistics();
            process::wait(None, nap.clamp(0, NAP_MS));
        } else {
            pgrx::check_for_interrupts!();
        }
    }
}

/// Reports that the process ends, for whatever reason. It may be called twice; the second call does nothing.
#[pg_guard]
unsafe extern "C-unwind" fn on_exit(code: i32, _argument: pg_sys::Datum) {
    shmem::release_locks();
    leave(if code == 0 { BackfillerExit::Stopped } else { BackfillerExit::Failed });
}

fn leave(exit: BackfillerExit) {
    if let Some(database) = DATABASE.take() {
        // SAFETY: set at the start of every process.
        let pid = unsafe { pg_sys::MyProcPid };
        shmem::change_and_wake(|shared_state| shared_state.backfiller_exited(database, pid, exit, now()));
    }
}
