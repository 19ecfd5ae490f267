//! Hooks into the server: what launcher and workers must know of other sessions at once.
//!
//! A worker that is connected to a database keeps it from being dropped, renamed, moved or copied. So the session that
//! runs such a statement asks the workers to leave first, waits for them, and readmits them afterwards.

mod statement_effect;

use std::os::raw::c_char;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::clock::now;
use super::databases::my_database;
use super::{process, restores, shmem, xact};
use crate::shared_state::Micros;
use statement_effect::{effect_of, StatementEffect};

/// How long a statement waits until our processes have left its database. They never need that long. If they do, the
/// server itself reports the connections.
const PATIENCE: Micros = 5_000_000;
/// How long workers stay away if the end of the statement goes unnoticed.
const VACATED_FOR: Micros = 3_600_000_000;
/// How often the waiting session checks whether they have left.
const LOOK_EVERY_MS: i64 = 5;

static mut PREVIOUS_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut PREVIOUS_ACCESS: pg_sys::object_access_hook_type = None;

/// Installs the hooks. Call it while the library is preloaded.
pub(super) fn install() {
    // SAFETY: hooks are global variables, set while the single-threaded postmaster loads libraries.
    unsafe {
        PREVIOUS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(on_utility);
        PREVIOUS_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(on_object_access);
    }
}

/// Notices that an extension is created, updated or dropped in any way, including DROP OWNED and DROP SCHEMA … CASCADE.
#[pg_guard]
unsafe extern "C-unwind" fn on_object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    argument: *mut std::ffi::c_void,
) {
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    // SAFETY: the previous hook is called as the server would have called it.
    unsafe {
        if let Some(previous) = PREVIOUS_ACCESS {
            // The previous hook has no pgrx guard and may raise an error.
            pg_sys::ffi::pg_guard_ffi_boundary(|| previous(access, class, object, sub, argument));
        }
    }
    if class == pg_sys::ExtensionRelationId && matches!(access, OAT_POST_CREATE | OAT_POST_ALTER | OAT_DROP) {
        xact::note_extension();
    }
}

/// What remains to be done after a statement.
#[derive(Clone, Copy)]
#[repr(C)]
enum AfterStatement {
    Nothing,
    CopyIn,
    CommitPrepared(u64),
    RollbackPrepared(u64),
}

/// How long the backfill process is waited for before it is stopped. Its steps are short, but some queries may not be.
const STEP_PATIENCE: Micros = 500_000;

/// The hook itself is not guarded, and its frame owns nothing: an error of the statement passes through it as through a
/// C function. pgrx's guard would raise the error anew, without its position, its context and the names of table and
/// constraint. Our own code before and after the statement is guarded.
#[allow(clippy::too_many_arguments, reason = "the server's signature")]
unsafe extern "C-unwind" fn on_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: declared as in the server's headers.
    extern "C-unwind" {
        /// `tcop/utility.h`, which pgrx binds only with its guard.
        fn standard_ProcessUtility(
            statement: *mut pg_sys::PlannedStmt,
            text: *const c_char,
            read_only_tree: bool,
            context: pg_sys::ProcessUtilityContext::Type,
            parameters: pg_sys::ParamListInfo,
            environment: *mut pg_sys::QueryEnvironment,
            destination: *mut pg_sys::DestReceiver,
            completion: *mut pg_sys::QueryCompletion,
        );
    }
    // SAFETY: the server passes a valid statement. The arguments are passed on unchanged, to the previous hook or to
    // the server's function.
    unsafe {
        let after = before_utility(statement);
        let go_on = PREVIOUS_UTILITY.unwrap_or(standard_ProcessUtility);
        go_on(statement, text, read_only_tree, context, parameters, environment, destination, completion);
        after_utility(after);
    }
}

/// # Safety
/// `statement` is what the server passes to the hook.
#[pg_guard]
unsafe extern "C-unwind" fn before_utility(statement: *mut pg_sys::PlannedStmt) -> AfterStatement {
    // SAFETY: the caller guarantees this. The statement is valid.
    match unsafe { effect_of((*statement).utilityStmt) } {
        StatementEffect::None => (),
        // The server refuses to drop or copy a database inside a transaction. SAFETY: reads the session's state.
        StatementEffect::Database { is_rename: false, .. } if unsafe { pg_sys::IsTransactionBlock() } => (),
        StatementEffect::Database { oid, is_drop, .. } => vacate(oid, is_drop),
        // Others see it after the commit.
        StatementEffect::Databases => xact::note_databases(),
        // The backfill process may be reading a large table while it has locked ours. What it has not committed is read
        // again.
        StatementEffect::DropExtension => stop_backfill(my_database()),
        StatementEffect::CopyIn => {
            xact::note_copy();
            return AfterStatement::CopyIn;
        }
        StatementEffect::Prepare(gid) => xact::note_prepare(gid),
        StatementEffect::CommitPrepared(gid) => return AfterStatement::CommitPrepared(gid),
        StatementEffect::RollbackPrepared(gid) => return AfterStatement::RollbackPrepared(gid),
    }
    AfterStatement::Nothing
}

#[pg_guard]
unsafe extern "C-unwind" fn after_utility(after: AfterStatement) {
    match after {
        AfterStatement::Nothing => (),
        // The rows are visible only after the commit, and a user who may not copy into these tables is no restore.
        AfterStatement::CopyIn => restores::begin(),
        AfterStatement::CommitPrepared(gid) => {
            shmem::change_and_wake(|shared_state| shared_state.commit_prepared(gid, my_database(), now()));
        }
        AfterStatement::RollbackPrepared(gid) => {
            if let Some(mut shared_state) = shmem::shared_state() {
                shared_state.rollback_prepared(gid, my_database());
            }
        }
    }
}

/// Asks our processes to leave a database and waits until they have left. They are readmitted at the end of the
/// transaction, when they can see what has become of the database.
fn vacate(oid: u32, is_drop: bool) {
    xact::note_vacated(oid, is_drop);
    let deadline = now() + PATIENCE;
    let Some((latches, counter)) = shmem::shared_state().map(|mut shared_state| {
        let latches = shared_state.vacate_database(oid, now() + VACATED_FOR);
        (
            latches,
            shared_state.databases.iter().find(|entry| entry.oid == oid).map_or(0, |entry| entry.counter),
        )
    }) else {
        return;
    };
    shmem::wake(latches);
    terminate(counter);
    let mut is_stopped = false;
    while shmem::shared_state().is_some_and(|mut shared_state| shared_state.is_occupied(oid))
        && now() < deadline
    {
        if !is_stopped && now() > deadline - PATIENCE + STEP_PATIENCE {
            is_stopped = true;
            stop_backfill(oid);
        }
        process::wait(None, LOOK_EVERY_MS);
    }
}

fn stop_backfill(database: u32) {
    terminate(shmem::shared_state().map_or(0, |shared_state| shared_state.backfiller(database).pid));
}

/// Sends SIGTERM to a process of ours, if there is one.
fn terminate(pid: i32) {
    if pid > 0 {
        // It may have ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}
