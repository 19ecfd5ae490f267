//! The transaction of a step. An error of the server aborts it and is returned as a `SqlError`.

use pgrx::pg_sys;

use crate::pg::process::{in_transaction, take_snapshot};
use crate::pg::report::{caught, SqlResult};

/// Runs `work` in a transaction of its own.
pub(super) fn transact<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    // SAFETY: there is a current context whenever PostgreSQL calls.
    let context = unsafe { pg_sys::CurrentMemoryContext };
    let work = || {
        take_snapshot();
        work()
    };
    caught(|| in_transaction(work)).inspect_err(|_| {
        // SAFETY: called outside of any transaction or in the one that has failed. The context outlives it.
        unsafe {
            pg_sys::AbortOutOfAnyTransaction();
            pg_sys::MemoryContextSwitchTo(context);
        }
    })
}
