//! Runs DDL of ours, either as a statement of the user who asked for it, or as part of the statement that they are
//! running.
//!
//! Event triggers of other people are called for each DDL statement, with the rights of whoever runs it and under their
//! settings. They must never be called for a statement that runs as the extension's owner. So our DDL runs as the
//! caller, or as part of a statement for which no event trigger fires.

use std::ffi::{c_int, CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::error_context::Frame;
use super::list::cells;
use super::owner::set_locally;
use super::report::SqlResult;

/// The user who calls one of our functions, with their environment.
pub(super) struct Caller {
    pub(super) user: pg_sys::Oid,
    context: c_int,
    path: CString,
}

impl Caller {
    /// Must be called before another role is assumed, by a function that pins no search_path.
    pub(super) fn current() -> Caller {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: reads the state of the session. The setting's value is a C string, copied at once.
        let path = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let path = pg_sys::GetConfigOption(c"search_path".as_ptr(), true, false);
            if path.is_null() { c"" } else { CStr::from_ptr(path) }.to_owned()
        };
        Caller { user, context, path }
    }

    /// Runs a statement as the caller, with their privileges and search_path. Names in it must be qualified.
    pub(super) fn run(&self, statement: &str) -> SqlResult<()> {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        let frame = Frame::enter();
        // SAFETY: user, context and nest level are handled as in the server's own code. After an error, the abort of
        // the (sub)transaction restores them.
        let level = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
            pg_sys::NewGUCNestLevel()
        };
        set_locally(c"search_path", &self.path);
        let done = Spi::run(statement);
        // SAFETY: restores what was saved above.
        unsafe {
            pg_sys::AtEOXact_GUC(false, level);
            pg_sys::SetUserIdAndSecContext(user, context);
        }
        frame.leave();
        Ok(done?)
    }
}

/// Runs a statement with the current privileges, as a part of the current statement. No event trigger is called for it,
/// just as for the triggers that the server itself creates on partitions.
pub(super) fn run_as_part(statement: &str) {
    let text = CString::new(statement).unwrap_or_default();
    // SAFETY: the server parses the text, which outlives the parse tree, and executes its single statement, as its own
    // code does with parts of statements. There is an active snapshot, because a function is being called.
    unsafe {
        let parsed = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        for cell in cells(parsed) {
            let planned = pg_sys::palloc0(size_of::<pg_sys::PlannedStmt>()).cast::<pg_sys::PlannedStmt>();
            (*planned).type_ = pg_sys::NodeTag::T_PlannedStmt;
            (*planned).commandType = pg_sys::CmdType::CMD_UTILITY;
            (*planned).utilityStmt = (*cell.ptr_value.cast::<pg_sys::RawStmt>()).stmt;
            (*planned).stmt_location = -1;
            pg_sys::ProcessUtility(
                planned,
                text.as_ptr(),
                false,
                pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                pg_sys::None_Receiver,
                std::ptr::null_mut(),
            );
            pg_sys::CommandCounterIncrement();
        }
    }
}
