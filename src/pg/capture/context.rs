//! The CONTEXT line of errors that are raised during capture. It names the source.

use std::ffi::{CStr, CString};
use std::os::raw::c_void;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::condition::ConditionKind;
use crate::pg::error_context;
use crate::pg::report::{SqlError, SqlResult};
use crate::pg::subtransaction::guarded;

/// The error context of a capture. It is stored in PostgreSQL's memory, because the error is reported after our stack
/// frames are gone.
pub(super) struct CaptureErrorContext(*mut ErrorLocation);

#[repr(C)]
struct ErrorLocation {
    frame: pg_sys::ErrorContextCallback,
    call: *const pg_sys::TriggerData,
    evaluated: Option<ConditionKind>,
}

impl CaptureErrorContext {
    /// Pushes it on the server's stack. After an error, the server removes it itself.
    ///
    /// # Safety
    /// `call` is what PostgreSQL passes to a trigger function.
    pub(super) unsafe fn enter(call: &pg_sys::TriggerData) -> CaptureErrorContext {
        error_context::forget();
        // SAFETY: the memory lives until the trigger returns or its error has been reported.
        unsafe {
            let place: *mut ErrorLocation = pg_sys::palloc0(size_of::<ErrorLocation>()).cast();
            (*place).frame.previous = pg_sys::error_context_stack;
            (*place).frame.callback = Some(tell);
            (*place).frame.arg = place.cast();
            (*place).call = call;
            (*place).evaluated = None;
            pg_sys::error_context_stack = &raw mut (*place).frame;
            CaptureErrorContext(place)
        }
    }

    /// Says which condition is being evaluated, if any.
    pub(super) fn evaluates(&self, condition: Option<ConditionKind>) {
        // SAFETY: the memory lives as long as the trigger's call.
        unsafe { (*self.0).evaluated = condition };
    }

    /// Removes it from the stack.
    pub(super) fn leave(self) {
        // SAFETY: everything pushed later has been removed.
        unsafe { pg_sys::error_context_stack = (*self.0).frame.previous };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn tell(argument: *mut c_void) {
    // SAFETY: the argument is the memory of `enter`. Relation and trigger belong to the server until the transaction
    // ends. The server copies the text.
    unsafe {
        error_context::keep();
        let place = &*argument.cast::<ErrorLocation>();
        let call = &*place.call;
        let table = CStr::from_ptr((*(*call.tg_relation).rd_rel).relname.data.as_ptr()).to_string_lossy();
        let trigger = CStr::from_ptr((*call.tg_trigger).tgname).to_string_lossy();
        let what = place.evaluated.map_or("capture", ConditionKind::word);
        let text = format!("audit_algolia {what} of table \"{table}\", trigger {trigger}");
        if let Ok(text) = CString::new(text) {
            error_context::tell(&text);
        }
    }
}

/// Runs `work` of a capture in a subtransaction, see [`guarded`].
pub(super) fn attempted<T>(
    context: &CaptureErrorContext,
    work: impl FnOnce() -> SqlResult<T>,
) -> SqlResult<Result<T, Box<SqlError>>> {
    let done = guarded(work)?;
    if done.is_err() {
        context.evaluates(None);
    }
    Ok(done)
}
