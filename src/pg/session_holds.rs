//! The objects that the current transaction corrects. None of them is delivered until it ends.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::databases::my_database;
use crate::pg::report::{reported, sql_error};
use crate::pg::shmem;
use crate::shared_state::{object_hash, HeldObject, NotHeld};

/// The most objects that one transaction can hold: half of what all sessions can hold, which is half of the table.
pub(super) const MOST: usize = crate::shared_state::OBJECTS / 8;
/// This many are released at a time, so that shared state is not locked for long.
const AT_A_TIME: usize = 1000;

thread_local! {
    static HELD: Cell<Vec<HeldObject>> = const { Cell::new(Vec::new()) };
    /// There was no room for an object.
    static TURNED_AWAY: Cell<bool> = const { Cell::new(false) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Holds an object, given by its identity in the queue; `false` if a version of it is in flight, or there is no room.
pub(super) fn hold(index_id: i32, object: &str) -> bool {
    if !REGISTERED.replace(true) {
        // SAFETY: a guarded function that lives as long as the library.
        unsafe { pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut()) };
    }
    let mut held = HELD.take();
    let held_object =
        if held.len() < MOST { hold_in_shared_state(index_id, object) } else { Err(NotHeld::NoRoom) };
    held.extend(held_object);
    HELD.set(held);
    if held_object == Err(NotHeld::NoRoom) {
        TURNED_AWAY.set(true);
    }
    held_object.is_ok()
}

/// Whether there was no room for an object in this transaction since the last call.
pub(super) fn were_too_many() -> bool {
    TURNED_AWAY.take()
}

fn hold_in_shared_state(index_id: i32, object: &str) -> Result<HeldObject, NotHeld> {
    let mut shared_state = shmem::shared_state().ok_or(NotHeld::NoRoom)?;
    shared_state.hold_object(my_pid(), my_database(), index_id, object_hash(object))
}

fn my_pid() -> i32 {
    // SAFETY: reads what is set at the start of the session.
    unsafe { pg_sys::MyProcPid }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // If another session commits the transaction, nobody would release the objects.
        XACT_EVENT_PRE_PREPARE => {
            let held = HELD.take();
            let is_holding = !held.is_empty();
            HELD.set(held);
            if is_holding {
                let refusal = sql_error(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    "cannot prepare a transaction that has repaired records of a mirrored table",
                    "Commit it, or call audit_algolia.reconcile() in a transaction of its own.",
                );
                if let Err(report) = reported::<()>(Err(refusal)) {
                    report.report(PgLogLevel::ERROR);
                }
            }
        }
        // The queued versions are visible now or never will be. Nothing here raises an error.
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT => {
            TURNED_AWAY.set(false);
            for objects in HELD.take().chunks(AT_A_TIME) {
                shmem::change_and_wake(|shared_state| {
                    shared_state.release_held_objects(my_pid(), my_database(), objects)
                });
            }
        }
        _ => (),
    }
}
