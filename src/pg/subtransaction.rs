//! Work that is undone if it fails, while the transaction around it goes on.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use super::report::{SqlError, SqlResult};

/// What came of the work.
enum End<T> {
    Done(SqlResult<T>),
    /// An error that says nothing of what the work was done with.
    Broken(Box<CaughtError>),
}

/// Runs `work` in a subtransaction. When it fails by its own fault, nothing remains of it and the failure is returned.
/// Other errors are raised on: somebody wants the statement to end, the server is short of something or damaged, or
/// transactions have got in each other's way.
pub(super) fn guarded<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<Result<T, Box<SqlError>>> {
    Ok(rolled_back_with(work, |code| !is_about_the_server(code)))
}

/// Runs `work`, which reads or deletes what may be damaged on disk, in a subtransaction. That it cannot be read is returned,
/// all other errors are raised on.
pub(super) fn unless_unreadable<T>(work: impl FnOnce() -> T) -> SqlResult<T> {
    rolled_back_with(|| Ok(work()), is_unreadable)
}

/// Runs `work` in a subtransaction, and returns the errors that are its own.
pub(super) fn rolled_back_with<T>(
    work: impl FnOnce() -> SqlResult<T>,
    is_its_own: fn(PgSqlErrorCode) -> bool,
) -> SqlResult<T> {
    // SAFETY: as PL/pgSQL does it for a block with exceptions. Inside, the caller's memory context is current, so that
    // results outlive the subtransaction; after it, context, resource owner and the stack of error contexts are as
    // before. It is rolled back before any error is raised on, for whoever catches that one rolls back one of their own.
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

/// Whether an error is about the state the server or the transaction is in, not about a row. There is no memory for a
/// large row mostly, and what it took is given back.
fn is_about_the_server(code: PgSqlErrorCode) -> bool {
    if code == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY {
        return false;
    }
    super::report::is_transient_code(code) || is_damage(code)
}

/// Whether what was to be read cannot be. Not all of that the server tells as damage: a disk or a file that fails has codes of
/// its own, and a length or a compression that makes no sense is an internal error.
fn is_unreadable(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    is_damage(code) || [ERRCODE_IO_ERROR, ERRCODE_UNDEFINED_FILE, ERRCODE_INTERNAL_ERROR].contains(&code)
}

/// Whether the server tells of damage on disk.
fn is_damage(code: PgSqlErrorCode) -> bool {
    [PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED].contains(&code)
}
