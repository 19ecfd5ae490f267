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

/// Somebody has terminated this process.
static TERMINATED: AtomicBool = AtomicBool::new(false);

// pgrx's bindings wrap functions for calls from Rust, but a handler must be the server's own function. SAFETY: declared
// as in the server's headers.
unsafe extern "C-unwind" {
    fn die(signal: std::ffi::c_int);
    fn SignalHandlerForConfigReload(signal: std::ffi::c_int);
}

/// Records the signal and calls the server's handler of SIGTERM. By its exit code alone, the process could have failed.
unsafe extern "C-unwind" fn die_and_note(signal: std::ffi::c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
    // SAFETY: called as the server would call it.
    unsafe { die(signal) }
}

/// Whether this process ends because somebody terminated it.
pub(super) fn was_terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

/// Installs PostgreSQL's own handlers, so that SIGTERM ends a query or lock wait at once, and unblocks signals. pgrx's
/// handlers only set flags that nobody checks during a query.
pub(super) fn obey_signals() {
    // SAFETY: the handlers are the server's own, made for processes like ours. A background worker starts with signals
    // blocked until it has installed its handlers.
    unsafe {
        install(pg_sys::SIGTERM as i32, die_and_note);
        install(pg_sys::SIGHUP as i32, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
        // A reload between the fork and now has been missed.
        pg_sys::ConfigReloadPending = 1;
    }
}

/// Installs a signal handler.
///
/// # Safety
/// The handler must be async-signal-safe.
pub(super) unsafe fn install(signal: i32, handler: unsafe extern "C-unwind" fn(std::ffi::c_int)) {
    #[cfg(not(feature = "pg18"))]
    use pg_sys::pqsignal as install;
    #[cfg(feature = "pg18")]
    use pg_sys::pqsignal_be as install;
    // SAFETY: the caller guarantees this.
    unsafe { install(signal, Some(handler)) };
}

/// Waits until the latch is set, `fd` is readable or `timeout_ms` has passed (negative: never). Returns whether the
/// time has passed. Ends the process if the postmaster has died or somebody has terminated the process. Raises an error
/// if the statement was cancelled.
pub(super) fn wait(fd: Option<RawFd>, timeout_ms: i64) -> bool {
    let mut events = (pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    if timeout_ms >= 0 {
        events |= pg_sys::WL_TIMEOUT as i32;
    }
    if fd.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE as i32;
    }
    // SAFETY: MyLatch is this process's latch. The descriptor, if any, is open and belongs to the caller's sender pool.
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

/// Like [`wait`], for events that are waited for repeatedly.
pub(super) fn wait_for(wait_set: &WaitSet, timeout_ms: i64) -> bool {
    let is_over = wait_set.wait(timeout_ms);
    // SAFETY: MyLatch is this process's latch.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    pgrx::check_for_interrupts!();
    is_over
}

/// Whether a reload was requested.
pub(super) fn is_reload_asked_for() -> bool {
    // SAFETY: the flag is set by the server's SIGHUP handler.
    unsafe { pg_sys::ConfigReloadPending != 0 }
}

/// Reloads the configuration if a reload was requested. Returns whether it was.
pub(super) fn reload_if_asked() -> bool {
    // SAFETY: the server's SIGHUP handler sets the flag. The file is read outside of the handler.
    unsafe {
        if !is_reload_asked_for() {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
    true
}

/// Runs `work` in a transaction of its own: commits if it returns `Ok`, aborts if it returns `Err`. A PostgreSQL error
/// passes through and ends the process, whose exit callback gives back what it held. pgrx's
/// `BackgroundWorker::transaction` would commit in all cases.
///
/// The transaction begins without a snapshot: `work` first takes its locks, and then calls [`take_snapshot`] if it runs
/// queries.
pub(super) fn in_transaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: called by a connected process outside of any transaction. Each start has its commit or abort here.
    let context = unsafe {
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        context
    };
    let result = work();
    // SAFETY: ends the transaction started above. pgstat_report_stat reports to autovacuum what this process has
    // written; only ordinary sessions do that by themselves.
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
        // After the end of a transaction, the current context is the one that lives as long as the process.
        pg_sys::MemoryContextSwitchTo(context);
    }
    result
}

/// Takes the snapshot for the queries of our transaction. Locks are waited for earlier, because a snapshot keeps vacuum
/// from removing rows in all tables of the database.
pub(super) fn take_snapshot() {
    // SAFETY: called inside a transaction, which ends with the snapshot; see `in_transaction`.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
}

/// Waits for a lock on a table without a snapshot, and holds it until the transaction ends; `false` if the table was
/// dropped. Call it first in the transaction.
pub(super) fn wait_for_table(table: pg_sys::Oid, mode: u32) -> bool {
    if table == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: a look-up in the catalogs may have left a catalog snapshot, which is not needed any more. This waits for
    // whoever is dropping the table, and checks whether it still exists.
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

/// What can prevent a transaction from doing its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TransactionFailure {
    /// A lock could not be taken in time. The work limits the wait, see [`limit_lock_waits`].
    Locked,
    /// Memory was lacking.
    OutOfMemory,
    /// The server cannot read its disk: its error.
    Damaged(String),
}

/// Like [`in_transaction`], but an obstacle aborts it and is returned.
pub(super) fn in_transaction_or_failure<T, E>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<Result<T, TransactionFailure>, E> {
    // SAFETY: reads what is current.
    let context = unsafe { pg_sys::CurrentMemoryContext };
    let abort = move |failure| {
        // SAFETY: ends the transaction that the error has interrupted, as the server's own main loop does.
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

/// Limits lock waits for the rest of the transaction.
pub(super) fn limit_lock_waits(limit: &CStr) {
    // SAFETY: two C strings. The setting is reset at the end of the transaction.
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

/// Reports to autovacuum at once what this process has written.
pub(super) fn report_statistics() {
    // SAFETY: called outside of any transaction.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// A memory context for one round after another. Outside of transactions the current context lives as long as the
/// process. It is created once, because pgrx stores the context's name in the context that is current then.
pub(super) struct RoundMemory(PgMemoryContexts);

impl RoundMemory {
    pub(super) fn new() -> RoundMemory {
        RoundMemory(PgMemoryContexts::new("audit_algolia round"))
    }

    /// Runs `work` in the context, and then resets it.
    pub(super) fn round<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: nothing that `work` returns was allocated by PostgreSQL in this context.
        unsafe {
            let result = self.0.switch_to(|_| work());
            self.0.reset();
            result
        }
    }
}

/// Shows in `pg_stat_activity` what the process does.
pub(super) fn report_activity(busy: bool, what: &str) {
    let state = if busy { pg_sys::BackendState::STATE_RUNNING } else { pg_sys::BackendState::STATE_IDLE };
    if let Ok(what) = CString::new(what) {
        // SAFETY: the text is copied into shared memory.
        unsafe { pg_sys::pgstat_report_activity(state, what.as_ptr()) };
    }
}

/// Limits how much free memory the allocator keeps. By default, glibc keeps blocks of up to 32 MB once one of them was
/// freed, but the memory of large batches should return to the system at once. It also gives almost every thread an
/// arena of its own, which reserves 64 MB or more of address space and keeps what its thread has freed. If address
/// space is limited (`ulimit -v`), small infallible allocations then fail, which ends the process. Two arenas suffice,
/// because senders mostly wait for the network.
pub(super) fn limit_what_the_allocator_keeps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets three parameters of the allocator before there are other threads.
    unsafe {
        use nix::libc::{mallopt, M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD};
        mallopt(M_MMAP_THRESHOLD, 1 << 20);
        mallopt(M_TRIM_THRESHOLD, 1 << 20);
        mallopt(M_ARENA_MAX, 2);
    }
}

/// Makes the allocator return free memory to the system.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only affects free memory.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

/// Makes the threads of a session share its main thread's arena, for the reason above. Nothing else is changed, because
/// the session does more than ask Algolia.
pub(super) fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a parameter of the allocator, which is allowed at any time. A thread of an interrupted call may
    // still exist, and keeps its arena.
    unsafe {
        use nix::libc::{mallopt, M_ARENA_MAX};
        mallopt(M_ARENA_MAX, 1);
    }
}
