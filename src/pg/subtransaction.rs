//! Work that is undone if it fails, while the transaction around it goes on.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::report::{SqlError, SqlResult};

/// How the work ended.
enum End<T> {
    Done(SqlResult<T>),
    /// An error that must be raised further.
    Broken(Box<CaughtError>),
}

/// Runs `work` in a subtransaction. If it fails for a reason of its own, the subtransaction is rolled back and the
/// error is returned. Other errors are raised further: the statement is to be ended, the server lacks a resource or is
/// damaged, or transactions conflict.
pub(super) fn guarded<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<Result<T, Box<SqlError>>> {
    Ok(rolled_back_with(work, |code| !is_about_the_server(code)))
}

/// Runs `work`, which reads or deletes data that may be damaged on disk, in a subtransaction. Returns the error if the
/// data cannot be read, and raises all other errors further.
pub(super) fn unless_unreadable<T>(work: impl FnOnce() -> T) -> SqlResult<T> {
    rolled_back_with(|| Ok(work()), is_unreadable)
}

/// Runs `work` in a subtransaction, and returns those errors that `is_its_own` accepts.
pub(super) fn rolled_back_with<T>(
    work: impl FnOnce() -> SqlResult<T>,
    is_its_own: fn(PgSqlErrorCode) -> bool,
) -> SqlResult<T> {
    // SAFETY: PL/pgSQL does the same for a block with exceptions. `work` runs in the caller's memory context, so that
    // its results outlive the subtransaction. Afterwards context, resource owner and error context stack are restored.
    // It is rolled back before any error is raised further, because whoever catches that error rolls back a
    // subtransaction of their own.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        let frames = pg_sys::error_context_stack;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let end = PgTryBuilder::new(AssertUnwindSafe(|| End::Done(work())))
            .catch_others(|error| match error {
                CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
                    if is_its_own(report.sql_error_code()) =>
                {
                    End::Done(Err(SqlError::of(&report)))
                }
                error => End::Broken(Box::new(error)),
            })
            .execute();
        pg_sys::MemoryContextSwitchTo(memory);
        match &end {
            End::Done(Ok(_)) => pg_sys::ReleaseCurrentSubTransaction(),
            _ => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        pg_sys::error_context_stack = frames;
        match end {
            End::Done(done) => done,
            End::Broken(error) => error.rethrow(),
        }
    }
}

/// Whether an error is about the state of the server or the transaction, and not about a row. A lack of memory is
/// mostly due to a large row, whose memory is freed again.
fn is_about_the_server(code: PgSqlErrorCode) -> bool {
    if code == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY {
        return false;
    }
    super::report::is_transient_code(code) || is_damage(code)
}

/// Whether data cannot be read. The server does not report all of that as damage: a failing disk or file has codes of
/// its own, and an impossible length or compression is an internal error.
fn is_unreadable(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    is_damage(code) || [ERRCODE_IO_ERROR, ERRCODE_UNDEFINED_FILE, ERRCODE_INTERNAL_ERROR].contains(&code)
}

/// Whether the server reports damage on disk.
fn is_damage(code: PgSqlErrorCode) -> bool {
    [PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED].contains(&code)
}
