//! What our processes share with sessions that wait for the network: signals, waiting on the latch, and transactions
//! that abort on failure.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::report::cause;
use super::wait_set::WaitSet;

/// Somebody has asked for this process's end.
static TERMINATED: AtomicBool = AtomicBool::new(false);

// pgrx's bindings wrap functions for calls from Rust; a handler has to be the server's function itself.
// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    fn die(signal: std::ffi::c_int);
    fn SignalHandlerForConfigReload(signal: std::ffi::c_int);
}

/// The server's handler of SIGTERM, and a note of it: by the exit code alone, its end could be that of an error.
unsafe extern "C-unwind" fn die_and_note(signal: std::ffi::c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
    // SAFETY: called as the server would call it.
    unsafe { die(signal) }
}

/// Whether this process ends because somebody has asked for it.
pub(super) fn was_terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

/// Installs PostgreSQL's own handlers, so that a query or a lock wait ends at once on SIGTERM, and lets signals in.
/// pgrx's handlers only set flags that nobody would look at in the middle of a query.
pub(super) fn obey_signals() {
    // SAFETY: both handlers are the server's own, made for processes like ours; a background worker starts with
    // signals blocked until it has installed its handlers.
    unsafe {
        install(pg_sys::SIGTERM as i32, die_and_note);
        install(pg_sys::SIGHUP as i32, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
        // A reload between the fork and the handler has been missed: the settings are as old as the fork.
        pg_sys::ConfigReloadPending = 1;
    }
}

/// Installs a handler of a signal.
///
/// # Safety
/// It is to do no more than a handler may.
pub(super) unsafe fn install(signal: i32, handler: unsafe extern "C-unwind" fn(std::ffi::c_int)) {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal as install;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as install;
    // SAFETY: the caller guarantees this.
    unsafe { install(signal, Some(handler)) };
}

/// Waits until the latch is set, `fd` is readable or `timeout_ms` has passed (negative: for ever); returns whether the
/// time ran out. Ends the process when the postmaster dies or somebody has asked for its end, and raises an error when the
/// statement has been cancelled.
pub(super) fn wait(fd: Option<RawFd>, timeout_ms: i64) -> bool {
    let mut events = (pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    if timeout_ms >= 0 {
        events |= pg_sys::WL_TIMEOUT as i32;
    }
    if fd.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE as i32;
    }
    // SAFETY: MyLatch is this process's latch; the descriptor, if any, is open: it belongs to the caller's pool of senders.
    let events = unsafe {
        let happened = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events,
            fd.unwrap_or(pg_sys::PGINVALID_SOCKET),
            timeout_ms,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        happened
    };
    pgrx::check_for_interrupts!();
    events & pg_sys::WL_TIMEOUT as i32 != 0
}

/// As [`wait`], for what is waited for again and again.
pub(super) fn wait_for(wait_set: &WaitSet, timeout_ms: i64) -> bool {
    let is_over = wait_set.wait(timeout_ms);
    // SAFETY: MyLatch is this process's latch.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    pgrx::check_for_interrupts!();
    is_over
}

/// Whether the configuration is to be read again.
pub(super) fn is_reload_asked_for() -> bool {
    // SAFETY: the flag is set by the server's SIGHUP handler.
    unsafe { pg_sys::ConfigReloadPending != 0 }
}

/// Reads the configuration again if a reload was asked for; returns whether it was.
pub(super) fn reload_if_asked() -> bool {
    // SAFETY: the flag is set by the server's SIGHUP handler; the file is read outside of the handler.
    unsafe {
        if !is_reload_asked_for() {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    true
}

/// Runs `work` in a transaction of its own: commits when it returns `Ok`, aborts when it returns `Err`. A PostgreSQL
/// error passes through and ends the process, whose exit callback gives back what it held; pgrx's own
/// `BackgroundWorker::transaction` would commit in the first case.
///
/// The transaction begins without a snapshot: `work` locks what it needs, and then calls [`take_snapshot`] if it makes
/// queries.
pub(super) fn in_transaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: called by a connected process outside of any transaction; each start has its commit or abort here.
    let context = unsafe {
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        context
    };
    let result = work();
    // SAFETY: the counterpart of the above. pgstat_report_stat tells autovacuum what this process has written;
    // only the main loop of ordinary sessions does it by itself.
    unsafe {
        if result.is_ok() {
            if pg_sys::ActiveSnapshotSet() {
                pg_sys::PopActiveSnapshot();
            }
            pg_sys::CommitTransactionCommand();
        } else {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(false);
        // The end of a transaction leaves the context current that lives as long as the process.
        pg_sys::MemoryContextSwitchTo(context);
    }
    result
}

/// Takes the snapshot for the queries of a transaction of ours. Whatever is waited for is waited for before: a snapshot
/// keeps vacuum from removing rows, in all tables of the database.
pub(super) fn take_snapshot() {
    // SAFETY: called inside a transaction; it ends with the snapshot, see `in_transaction`.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
}

/// Waits for a lock on a table, without a snapshot, and holds it until the transaction ends; `false` when the table is no
/// more. To be called before anything else is done in the transaction.
pub(super) fn wait_for_table(table: pg_sys::Oid, mode: u32) -> bool {
    if table == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: what has been looked up in the catalogs may have left a snapshot of them, which nobody needs any more; then
    // waits for whoever is dropping the table, and looks whether it is still there.
    unsafe {
        pg_sys::InvalidateCatalogSnapshot();
        let opened = pg_sys::try_relation_open(table, mode as i32);
        if opened.is_null() {
            return false;
        }
        pg_sys::relation_close(opened, pg_sys::NoLock as i32);
    }
    true
}

/// What may keep a transaction from its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TransactionFailure {
    /// A lock was not to be had; how long it is waited for is for the work to say, see [`limit_lock_waits`].
    Locked,
    /// There was no memory.
    OutOfMemory,
    /// The server cannot read what is on its disk: what it says of that.
    Damaged(String),
}

/// As [`in_transaction`], but an obstacle makes it abort, and is told.
pub(super) fn in_transaction_or_failure<T, E>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<Result<T, TransactionFailure>, E> {
    // SAFETY: reads what is current.
    let context = unsafe { pg_sys::CurrentMemoryContext };
    let abort = move |failure| {
        // SAFETY: ends the transaction that the error has broken off, as the server's own main loop does.
        unsafe {
            pg_sys::AbortCurrentTransaction();
            pg_sys::MemoryContextSwitchTo(context);
        }
        Ok(Err(failure))
    };
    PgTryBuilder::new(AssertUnwindSafe(|| in_transaction(work).map(Ok)))
        .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, move |_| abort(TransactionFailure::Locked))
        .catch_when(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, move |_| abort(TransactionFailure::OutOfMemory))
        .catch_when(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, move |error| {
            abort(TransactionFailure::Damaged(cause(&error)))
        })
        .catch_when(PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED, move |error| {
            abort(TransactionFailure::Damaged(cause(&error)))
        })
        .execute()
}

/// For the rest of the transaction, nobody's lock is waited for longer than this.
pub(super) fn limit_lock_waits(limit: &CStr) {
    // SAFETY: two C strings; the setting falls back with the transaction's end.
    unsafe {
        pg_sys::set_config_option(
            c"lock_timeout".as_ptr(),
            limit.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        )
    };
}

/// Tells autovacuum at once what this process has written.
pub(super) fn report_statistics() {
    // SAFETY: called outside of any transaction.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// A memory context for one round after the other: outside of transactions the current one lives as long as the
/// process. It is made once, for pgrx keeps a context's name in the context that was current when it was made.
pub(super) struct RoundMemory(PgMemoryContexts);

impl RoundMemory {
    pub(super) fn new() -> RoundMemory {
        RoundMemory(PgMemoryContexts::new("audit_algolia round"))
    }

    /// Runs `work` in the context, and empties it.
    pub(super) fn round<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: nothing that `work` returns is allocated by PostgreSQL in the context that is emptied here.
        unsafe {
            let result = self.0.switch_to(|_| work());
            self.0.reset();
            result
        }
    }
}

/// Shows in `pg_stat_activity` what the process is doing.
pub(super) fn report_activity(busy: bool, what: &str) {
    let state = if busy { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    if let Ok(what) = CString::new(what) {
        // SAFETY: the text is copied into shared memory.
        unsafe { pg_sys::pgstat_report_activity(state, what.as_ptr()) };
    }
}

/// Has the allocator keep little of what is free. By itself glibc keeps blocks of up to 32 MB for later, once one of them has
/// been given back; memory for large batches is to go back to the system at once. And it gives almost every thread an arena
/// of its own, which reserves 64 MB or more of address space, and keeps what its thread has freed: where address space is
/// limited (`ulimit -v`), it is then wanting for small things that nobody asks for politely, which ends the process.
/// Two arenas do for all of its threads: senders wait for the network most of the time.
pub(super) fn limit_what_the_allocator_keeps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets three numbers of the allocator's, before there are other threads.
    unsafe {
        use nix::libc::{mallopt, M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD};
        mallopt(M_MMAP_THRESHOLD, 1 << 20);
        mallopt(M_TRIM_THRESHOLD, 1 << 20);
        mallopt(M_ARENA_MAX, 2);
    }
}

/// Has the allocator give back to the system what it keeps of free memory.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only touches memory that is free.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

/// Has the threads of a session share its main thread's arena, for the reason above. All else is as the server has it:
/// the session has more to do than to ask Algolia.
pub(super) fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's, which it may be told at any time: a thread of a call that was broken off
    // may still be there, and keeps the arena that it has.
    unsafe {
        use nix::libc::{mallopt, M_ARENA_MAX};
        mallopt(M_ARENA_MAX, 1);
    }
}
