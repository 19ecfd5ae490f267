//! Keeps the CONTEXT of errors that pass through our functions.
//!
//! An error of the server passes our frames as a panic, which keeps its message, detail and hint, and is raised again
//! behind them. The CONTEXT that callbacks below our frames added would be lost. So our frame records it, and adds it
//! again when the same error is reported.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void, CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

// SAFETY: declared as in the server's header; a format and its arguments as for printf.
unsafe extern "C-unwind" {
    /// `utils/elog.h`, which pgrx does not export: adds a line to the CONTEXT of the error being reported.
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

thread_local! {
    /// The message of the last error, and the CONTEXT that it had within our frames.
    static HEARD: RefCell<Option<(CString, CString)>> = const { RefCell::new(None) };
}

/// Adds a line to the CONTEXT of the error being reported.
///
/// # Safety
/// Only an error context callback may call it.
pub(super) unsafe fn tell(text: &CStr) {
    let (format, text) = (c"%s".as_ptr(), text.as_ptr());
    // SAFETY: the caller guarantees this. The server copies the text.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| errcontext_msg(format, text)) };
}

/// Forgets the last error, which has been handled.
pub(super) fn forget() {
    HEARD.with_borrow_mut(|heard| heard.take());
}

/// Remembers the CONTEXT of the error being reported, or restores it if this is the remembered error.
///
/// # Safety
/// Only an error context callback may call it.
pub(super) unsafe fn keep() {
    // SAFETY: copies the error being reported. The copy cannot be made in the context of errors, and is freed at once.
    // Its texts are C strings or null. If memory is lacking, no copy is made: that would fail as well, be reported in
    // the same way, and so on.
    let (level, message, context) = unsafe {
        let code = PgSqlErrorCode::from(pg_sys::geterrcode());
        if pg_sys::CurTransactionContext.is_null() || code == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY {
            return;
        }
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
        let error = pg_sys::CopyErrorData();
        let text = |text: *mut c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_owned());
        let copied = ((*error).elevel, text((*error).message), text((*error).context));
        pg_sys::FreeErrorData(error);
        pg_sys::MemoryContextSwitchTo(before);
        copied
    };
    let Some(message) = message.filter(|_| level >= PgLogLevel::ERROR as i32) else { return };
    let told = HEARD.with_borrow_mut(|heard| match (context, heard.as_ref()) {
        (Some(context), _) => {
            *heard = Some((message, context));
            None
        }
        (None, Some((known, context))) if *known == message => Some(context.clone()),
        _ => None,
    });
    if let Some(told) = told {
        // SAFETY: the caller guarantees this.
        unsafe { tell(&told) };
    }
}

/// The error with the message `message` is reported as `by` from now on.
pub(super) fn reword(message: &str, by: &str) {
    HEARD.with_borrow_mut(|heard| {
        let heard = heard.as_mut().filter(|(known, _)| known.to_bytes() == message.as_bytes());
        if let (Some((known, _)), Ok(by)) = (heard, CString::new(by)) {
            *known = by;
        }
    });
}

/// Runs `work` of one of our functions within a [`Frame`]. After an error, the frame stays on the server's stack until
/// the function has reported the error; the server then removes it.
pub(super) fn with_error_context<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let frame = Frame::enter();
    let done = work()?;
    frame.leave();
    Ok(done)
}

/// A frame on the server's stack that remembers the CONTEXT of errors. It is stored in PostgreSQL's memory, because the
/// error is reported after our stack frames are gone.
pub(super) struct Frame(*mut pg_sys::ErrorContextCallback);

impl Frame {
    /// After an error, the server removes it itself.
    pub(super) fn enter() -> Frame {
        forget();
        // SAFETY: the memory lives until the (sub)transaction ends, and its error is reported before that.
        unsafe {
            let size = size_of::<pg_sys::ErrorContextCallback>();
            let frame = pg_sys::MemoryContextAllocZero(pg_sys::CurTransactionContext, size)
                .cast::<pg_sys::ErrorContextCallback>();
            (*frame).previous = pg_sys::error_context_stack;
            (*frame).callback = Some(on_error);
            pg_sys::error_context_stack = frame;
            Frame(frame)
        }
    }

    pub(super) fn leave(self) {
        // SAFETY: everything pushed later has been removed. The frame was created by `enter`.
        unsafe {
            pg_sys::error_context_stack = (*self.0).previous;
            pg_sys::pfree(self.0.cast());
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_error(_argument: *mut c_void) {
    // SAFETY: the server calls this with the error being reported.
    unsafe { keep() };
}
