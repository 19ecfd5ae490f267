//! What the current transaction changes in the queue, passed to shared state when it commits.
//!
//! PostgreSQL's own callbacks are registered once per process: pgrx's one-shot closures stay armed after PREPARE
//! TRANSACTION and would fire at the next, unrelated commit. Nothing may raise in the COMMIT event.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::shmem;
use crate::id_ranges::IdRanges;
use crate::shared_state::{Announced, Commit, CommitDelta};

/// What one subtransaction did to one index.
struct PendingDelta {
    subtransaction: pg_sys::SubTransactionId,
    change: CommitDelta,
}

#[derive(Default)]
struct PendingChanges {
    deltas: Vec<PendingDelta>,
    /// They have been announced.
    announced: Option<Announced>,
    /// An index or a pause has changed: the workers must read them again.
    stale: bool,
    /// Which subtransaction has paused or resumed which index, in the order it happened.
    pauses: Vec<(pg_sys::SubTransactionId, i32, bool)>,
    /// Settings are wanted for an index.
    wants_settings: bool,
    /// An extension has come or gone: launcher and workers must look.
    launcher: bool,
    /// There is one more database, or one is open or closed to us.
    databases: bool,
    /// Rows may have come into the extension's tables past capture.
    imported: bool,
    /// The databases that our processes have left for the sake of a statement, and whether it drops them.
    vacated: Vec<(u32, bool)>,
}

thread_local! {
    static PENDING: RefCell<PendingChanges> = RefCell::new(PendingChanges::default());
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// The global identifier, hashed, under which the current transaction is being prepared.
    static PREPARING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Registers the callbacks, once per process.
fn register() {
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

/// The current subtransaction has made dead letters of so many rows of an index, or (negative) has put dead letters back
/// or discarded them.
pub(super) fn note_dead(index_id: i32, rows: i64) {
    change(index_id, |change| change.dead += rows);
}

/// The current subtransaction asks for so many repairs of an index, or (negative) has made or given up repairs.
pub(super) fn note_repairs(index_id: i32, rows: i64) {
    change(index_id, |change| change.repairs += rows);
}

/// The current transaction has changed an index; the workers are told when it commits.
pub(super) fn note_stale() {
    register();
    PENDING.with_borrow_mut(|pending| pending.stale = true);
}

/// The current subtransaction has paused an index, or has it resumed: in force from the moment of its commit.
pub(super) fn note_paused(index_id: i32, paused: bool) {
    register();
    // SAFETY: reads the state of the current transaction; there is one, for a table is being written.
    let mine = unsafe { pg_sys::GetCurrentSubTransactionId() };
    PENDING.with_borrow_mut(|pending| {
        pending.pauses.retain(|(by, index, _)| (*by, *index) != (mine, index_id));
        pending.pauses.push((mine, index_id, paused));
    });
}

/// The current transaction wants an index to be given settings; the workers are told when it commits.
pub(super) fn note_wanted_settings() {
    note_stale();
    PENDING.with_borrow_mut(|pending| pending.wants_settings = true);
}

/// The current transaction has created or dropped an extension; launcher and workers are told when it commits.
pub(super) fn note_extension() {
    register();
    PENDING.with_borrow_mut(|pending| pending.launcher = true);
}

/// The current transaction copies rows into the extension's tables, as restoring a dump does; the workers read and
/// count the queue again when it commits.
pub(super) fn note_import() {
    register();
    PENDING.with_borrow_mut(|pending| pending.imported = true);
}

/// The current transaction makes a database, or changes what may be done in one; the launcher is told when it commits.
pub(super) fn note_databases() {
    register();
    PENDING.with_borrow_mut(|pending| pending.databases = true);
}

/// The current transaction wants a database to itself until it ends.
pub(super) fn note_vacated(database: u32, is_drop: bool) {
    register();
    PENDING.with_borrow_mut(|pending| pending.vacated.push((database, is_drop)));
}

/// Lets our processes into databases again, or forgets those that are no more.
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

/// Whether the current transaction has queued rows, or settings, that nobody else can see yet.
pub(super) fn has_queued() -> bool {
    PENDING
        .with_borrow(|pending| pending.wants_settings || pending.deltas.iter().any(|n| n.change.queued > 0))
}

fn change(index_id: i32, apply: impl FnOnce(&mut CommitDelta)) {
    register();
    // SAFETY: reads the state of the current transaction; there is one, for rows are being written.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    PENDING.with_borrow_mut(|pending| apply(pending.delta(subtransaction, index_id)));
}

impl PendingChanges {
    /// The notes of a subtransaction are together at the end of the list: those of its children have been merged into
    /// them or dropped, and its parent writes none while it is under way.
    fn first_delta_of(&self, subtransaction: pg_sys::SubTransactionId) -> usize {
        let others = self.deltas.iter().rposition(|delta| delta.subtransaction != subtransaction);
        others.map_or(0, |last| last + 1)
    }

    fn take_deltas_of(&mut self, subtransaction: pg_sys::SubTransactionId) -> Vec<PendingDelta> {
        self.deltas.split_off(self.first_delta_of(subtransaction))
    }

    /// What a subtransaction, the innermost that has notes, did to an index.
    fn delta(&mut self, subtransaction: pg_sys::SubTransactionId, index_id: i32) -> &mut CommitDelta {
        let first = self.first_delta_of(subtransaction);
        let known = self.deltas.iter().skip(first).position(|delta| delta.change.index_id == index_id);
        let place = known.map_or(self.deltas.len(), |place| first + place);
        if place == self.deltas.len() {
            let change = CommitDelta { index_id, ..CommitDelta::EMPTY };
            self.deltas.push(PendingDelta { subtransaction, change });
        }
        &mut self.deltas[place].change
    }
}

/// Whether the current transaction will be visible to others before it is on disk.
fn commits_lazily() -> bool {
    // SAFETY: reads a setting.
    let level = unsafe { pg_sys::synchronous_commit };
    u32::try_from(level) == Ok(pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF)
}

/// Publishes what the current transaction, which has just committed, has changed.
fn publish(database: u32, announced: Option<Announced>, changes: &[CommitDelta]) {
    // SAFETY: the transaction has its end's time by now, and the end of its commit record.
    let (at, lsn) = unsafe { (pg_sys::GetCurrentTransactionStopTimestamp(), pg_sys::XactLastCommitEnd) };
    let (announced, announcements) = (announced.unwrap_or_default(), shmem::announcements());
    let commit = Commit { lsn, at };
    let Some(announcements) = announcements else { return };
    let is_announced = announced.is_complete(changes);
    let announced = match announcements.add_pending(announced, changes, commit) {
        Ok(false) => return shmem::publish_pending(),
        // Whoever locks shared state publishes them.
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

/// The deltas as changes, one per index.
fn merged(deltas: &[PendingDelta]) -> Cow<'_, [CommitDelta]> {
    if let [delta] = deltas {
        return Cow::Borrowed(std::slice::from_ref(&delta.change));
    }
    let mut changes: Vec<CommitDelta> = Vec::new();
    for delta in deltas {
        match changes.iter_mut().find(|c| c.index_id == delta.change.index_id) {
            None => changes.push(delta.change),
            Some(known) => known.add(&delta.change),
        }
    }
    Cow::Owned(changes)
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    // SAFETY: reads of process-wide state that is set while a transaction ends.
    let (xid, database) =
        unsafe { (pg_sys::GetTopTransactionIdIfAny().into_inner(), pg_sys::MyDatabaseId.to_u32()) };
    match event {
        XACT_EVENT_PRE_COMMIT => PENDING.with_borrow_mut(|pending| {
            if pending.deltas.is_empty() {
                return;
            }
            let Some(announcements) = shmem::announcements() else { return };
            let is_lazy = commits_lazily();
            // SAFETY: set at the start of every process.
            let start = usize::try_from(unsafe { pg_sys::MyProcPid }).unwrap_or(0);
            let changes = merged(&pending.deltas);
            let announced = announcements.announce(start, xid, database, &changes, is_lazy);
            if is_lazy && !announced.is_complete(&changes) {
                // SAFETY: the transaction is about to commit. Unannounced, it must not be visible before it is safe.
                unsafe { pg_sys::ForceSyncCommit() };
            }
            pending.announced = Some(announced);
        }),
        XACT_EVENT_COMMIT => {
            let pending = PENDING.take();
            // Before rows of the same transaction are published.
            if !pending.pauses.is_empty() {
                shmem::change_and_wake(|shared_state| {
                    for (_, index, paused) in &pending.pauses {
                        shared_state.set_paused(database, *index, *paused);
                    }
                    // What the workers have read may be outdated: they leave this alone then.
                    shared_state.mark_stale(database)
                });
            }
            if !pending.deltas.is_empty() {
                publish(database, pending.announced, &merged(&pending.deltas));
            }
            if pending.imported {
                // A dump sets the sequence, too.
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
            PREPARING.set(None);
            let pending = PENDING.take();
            if let (Some(announced), Some(mut shared_state)) = (pending.announced, shmem::shared_state()) {
                shared_state.announcements().take_back(&announced, &mut shared_state);
            }
            // An error may have left shared state locked until now, and others relied on us for their commits.
            shmem::publish_pending();
            readmit_workers(pending.vacated, false);
        }
        // The rows become visible by COMMIT PREPARED, perhaps in another session: shared state keeps them in mind.
        XACT_EVENT_PREPARE => {
            let pending = PENDING.take();
            readmit_workers(pending.vacated, false);
            let changes = merged(&pending.deltas);
            // What has come past capture is not known: COMMIT PREPARED, which finds nothing then, has the queue read again.
            let gid = PREPARING.take().filter(|_| !pending.imported);
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
    PENDING.with_borrow_mut(|pending| match event {
        SUBXACT_EVENT_COMMIT_SUB => {
            // Merged rather than renamed, so that a million savepoints leave one note for each index.
            for delta in pending.take_deltas_of(mine) {
                pending.delta(parent, delta.change.index_id).add(&delta.change);
            }
            for (by, ..) in pending.pauses.iter_mut().filter(|(by, ..)| *by == mine) {
                *by = parent;
            }
        }
        SUBXACT_EVENT_ABORT_SUB => {
            drop(pending.take_deltas_of(mine));
            pending.pauses.retain(|(by, ..)| *by != mine);
        }
        _ => (),
    });
}
