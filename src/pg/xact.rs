//! What the current transaction changes in the queue, passed to shared state when it commits.
//!
//! PostgreSQL's own callbacks are registered once per process: pgrx's one-shot closures stay armed after PREPARE
//! TRANSACTION and would fire at the next, unrelated commit. Nothing may raise in the COMMIT event.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::pending_changes::PendingChanges;
use super::{alerts, shmem};
use crate::id_ranges::IdRanges;
use crate::shared_state::{Announced, Commit, CommitDelta};

thread_local! {
    static PENDING: RefCell<PendingChanges> = RefCell::new(PendingChanges::default());
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// The hashed global identifier under which the current transaction is being prepared.
    static PREPARING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Registers the callbacks, once per process.
pub(super) fn register() {
    if !REGISTERED.replace(true) {
        // SAFETY: the callbacks are guarded functions that live as long as the library, which is never unloaded.
        unsafe {
            pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
        }
    }
}

/// The current subtransaction has queued `rows` rows of an index at `spans`.
pub(super) fn note_queued(index_id: i32, rows: i64, spans: &IdRanges) {
    change(index_id, |change| {
        change.queued += rows;
        for span in spans.iter() {
            change.spans.add(span.lo, span.hi);
        }
    });
}

/// The current subtransaction has removed `rows` rows of an index from the queue.
pub(super) fn note_removed(index_id: i32, rows: i64) {
    change(index_id, |change| change.removed += rows);
}

/// The current subtransaction has added dead letters of an index, or (negative) has redriven or discarded them.
pub(super) fn note_dead(index_id: i32, rows: i64) {
    change(index_id, |change| change.dead += rows);
}

/// The current subtransaction has stored repairs of an index, or (negative) has made or given up repairs.
pub(super) fn note_repairs(index_id: i32, rows: i64) {
    change(index_id, |change| change.repairs += rows);
}

/// The current transaction has changed an index; the workers are told when it commits.
pub(super) fn note_stale() {
    register();
    PENDING.with_borrow_mut(|pending| pending.stale = true);
}

/// The current subtransaction has paused or resumed an index, effective from its commit on.
pub(super) fn note_paused(index_id: i32, paused: bool) {
    register();
    // SAFETY: reads the state of the current transaction. There is one, because a table is being written.
    let mine = unsafe { pg_sys::GetCurrentSubTransactionId() };
    PENDING.with_borrow_mut(|pending| {
        pending.pauses.retain(|(by, index, _)| (*by, *index) != (mine, index_id));
        pending.pauses.push((mine, index_id, paused));
    });
}

/// The current transaction wants settings of an index to be sent; the workers are told when it commits.
pub(super) fn note_wanted_settings() {
    note_stale();
    PENDING.with_borrow_mut(|pending| pending.wants_settings = true);
}

/// The current transaction has created or dropped an extension; launcher and workers are told when it commits.
pub(super) fn note_extension() {
    register();
    PENDING.with_borrow_mut(|pending| pending.launcher = true);
}

/// The current transaction copies rows into the extension's tables, as a restore does. When it commits, the workers
/// read and count the queue again.
pub(super) fn note_copy() {
    register();
    PENDING.with_borrow_mut(|pending| pending.copied_into = true);
}

/// The current transaction creates a database, or changes who may connect to one; the launcher is told when it commits.
pub(super) fn note_databases() {
    register();
    PENDING.with_borrow_mut(|pending| pending.databases = true);
}

/// The current transaction needs a database for itself until it ends.
pub(super) fn note_vacated(database: u32, is_drop: bool) {
    register();
    PENDING.with_borrow_mut(|pending| pending.vacated.push((database, is_drop)));
}

/// Readmits our processes to databases, or forgets dropped databases.
fn readmit_workers(vacated: Vec<(u32, bool)>, committed: bool) {
    for (database, is_drop) in vacated {
        shmem::change_and_wake(|shared_state| {
            if is_drop && committed {
                shmem::reserves().inspect(|reserves| reserves.forget(database));
                shared_state.forget_database(database);
                shared_state.wake_launcher()
            } else {
                shared_state.readmit_workers(database)
            }
        });
    }
}

/// The current transaction is about to be prepared under a global identifier.
pub(super) fn note_prepare(gid: u64) {
    register();
    PREPARING.set(Some(gid));
}

/// Whether the current transaction has queued rows or settings that nobody else can see yet.
pub(super) fn has_queued() -> bool {
    PENDING.with_borrow(PendingChanges::has_queued)
}

fn change(index_id: i32, apply: impl FnOnce(&mut CommitDelta)) {
    register();
    // SAFETY: reads the state of the current transaction. There is one, because rows are being written.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    PENDING.with_borrow_mut(|pending| apply(pending.delta(subtransaction, index_id)));
}

/// Whether the current transaction becomes visible before its commit is flushed.
fn commits_lazily() -> bool {
    // SAFETY: reads a setting.
    let level = unsafe { pg_sys::synchronous_commit };
    u32::try_from(level) == Ok(pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF)
}

/// Announces the changes of the current transaction, which is about to commit.
fn announce(xid: u32, database: u32) {
    PENDING.with_borrow_mut(|pending| {
        let changes = pending.changes();
        let Some(announcements) = shmem::announcements().filter(|_| !changes.is_empty()) else { return };
        let is_lazy = commits_lazily();
        // SAFETY: set at the start of every process.
        let start = usize::try_from(unsafe { pg_sys::MyProcPid }).unwrap_or(0);
        let announced = announcements.announce(start, xid, database, &changes, is_lazy);
        if is_lazy && !announced.is_complete(&changes) {
            // SAFETY: the transaction is about to commit. Unannounced, it must not be visible before it is flushed.
            unsafe { pg_sys::ForceSyncCommit() };
        }
        pending.announced = Some(announced);
    });
}

/// Publishes the changes of the current transaction, which has just committed.
fn publish(database: u32, announced: Option<Announced>, changes: &[CommitDelta]) {
    // SAFETY: the transaction has its end time by now, and the end of its commit record.
    let (at, lsn) = unsafe { (pg_sys::GetCurrentTransactionStopTimestamp(), pg_sys::XactLastCommitEnd) };
    let (announced, announcements) = (announced.unwrap_or_default(), shmem::announcements());
    let commit = Commit { lsn, at };
    let Some(announcements) = announcements else { return };
    let is_announced = announced.is_complete(changes);
    let announced = match announcements.add_pending(announced, changes, commit) {
        Ok(false) => return shmem::publish_pending(),
        // Whoever locks shared state publishes all of them.
        Ok(true) => return drop(shmem::shared_state()),
        Err(announced) => announced,
    };
    shmem::change_and_wake(|shared_state| {
        if changes.iter().any(|change| change.queued > 0) {
            shared_state.note_commit_lsn(lsn);
        }
        announcements.take_back(&announced, shared_state);
        match is_announced {
            true => shared_state.publish(database, changes, at),
            false => shared_state.publish_unannounced(database, changes, at),
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    // SAFETY: reads process-wide state that is set while a transaction ends.
    let (xid, database) =
        unsafe { (pg_sys::GetTopTransactionIdIfAny().into_inner(), pg_sys::MyDatabaseId.to_u32()) };
    match event {
        XACT_EVENT_PRE_COMMIT => {
            alerts::before_commit();
            announce(xid, database);
        }
        XACT_EVENT_PRE_PREPARE => {
            let are_stored = alerts::before_prepare();
            // The workers look for stored alerts when the transaction is committed.
            PENDING.with_borrow_mut(|pending| pending.stale |= are_stored);
        }
        XACT_EVENT_COMMIT => {
            alerts::at_end();
            let mut pending = PENDING.take();
            // This must precede the publication of rows of the same transaction.
            if !pending.pauses.is_empty() {
                shmem::change_and_wake(|shared_state| {
                    for (_, index, paused) in &pending.pauses {
                        shared_state.set_paused(database, *index, *paused);
                    }
                    // What the workers have read may be older, and must not override this.
                    shared_state.mark_stale(database)
                });
            }
            let announced = pending.announced.take();
            let changes = pending.changes();
            if !changes.is_empty() {
                publish(database, announced, &changes);
            }
            if pending.copied_into {
                // A restore also sets the sequence.
                shmem::reserves().inspect(|reserves| reserves.drop_blocks(database));
                shmem::change_and_wake(|shared_state| shared_state.read_again(database));
            }
            if pending.launcher {
                shmem::change_and_wake(|shared_state| shared_state.extension_changed(database));
            } else if pending.stale {
                shmem::change_and_wake(|shared_state| shared_state.mark_stale(database));
            }
            readmit_workers(pending.vacated, true);
            if pending.databases {
                shmem::change_and_wake(|shared_state| shared_state.wake_launcher());
            }
        }
        XACT_EVENT_ABORT => {
            alerts::at_end();
            PREPARING.set(None);
            let pending = PENDING.take();
            if let (Some(announced), Some(mut shared_state)) = (pending.announced, shmem::shared_state()) {
                shared_state.announcements().take_back(&announced, &mut shared_state);
            }
            // If an error has left shared state locked until now, others relied on us for their commits.
            shmem::publish_pending();
            readmit_workers(pending.vacated, false);
        }
        // The rows become visible by COMMIT PREPARED, perhaps in another session. Shared state remembers them.
        XACT_EVENT_PREPARE => {
            let mut pending = PENDING.take();
            readmit_workers(std::mem::take(&mut pending.vacated), false);
            let changes = pending.changes();
            // Copied rows are unknown. COMMIT PREPARED then finds nothing, and has the queue read again.
            let gid = PREPARING.take().filter(|_| !pending.copied_into);
            if let (Some(gid), Some(mut shared_state)) = (gid, shmem::shared_state()) {
                let stale = pending.stale || pending.launcher;
                shared_state.prepare(gid, xid, database, &changes, stale);
            }
        }
        _ => (),
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    mine: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    use pg_sys::SubXactEvent::*;
    match event {
        SUBXACT_EVENT_COMMIT_SUB => alerts::commit_subtransaction(mine, parent),
        SUBXACT_EVENT_ABORT_SUB => alerts::abort_subtransaction(mine),
        _ => (),
    }
    PENDING.with_borrow_mut(|pending| match event {
        SUBXACT_EVENT_COMMIT_SUB => pending.commit_subtransaction(mine, parent),
        SUBXACT_EVENT_ABORT_SUB => pending.abort_subtransaction(mine),
        _ => (),
    });
}
