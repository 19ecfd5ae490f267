//! The call of a trigger: its event and its arguments.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::report::{sql_error, SqlError};
use crate::record::Operation;

/// The second argument of a trigger that may outlive its source or its partition's attachment to the watched table.
pub(in crate::pg) const PARTITION_ARGUMENT: &str = "partition";

/// What a trigger is called for.
#[derive(Clone, Copy)]
pub(super) struct TriggerEvent {
    pub(super) operation: Operation,
    /// For a single row, and not for a statement.
    pub(super) is_row: bool,
    /// Before the change, and not after it.
    pub(super) is_before: bool,
}

impl TriggerEvent {
    /// Describes a call; `None` if the trigger does not have the form of ours: after the change, with the row or the
    /// transition tables, or before a TRUNCATE.
    pub(super) fn of(call: &pg_sys::TriggerData) -> Option<TriggerEvent> {
        let has = |mask, bits| call.tg_event & mask == bits;
        let operation = match call.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
            _ => Operation::Truncate,
        };
        let (has_old, has_new) = (!call.tg_oldtable.is_null(), !call.tg_newtable.is_null());
        let is_row = has(pg_sys::TRIGGER_EVENT_ROW, pg_sys::TRIGGER_EVENT_ROW);
        let has_rows = match operation {
            Operation::Insert => is_row || has_new,
            Operation::Update => is_row || (has_old && has_new),
            Operation::Delete => is_row || has_old,
            Operation::Truncate => true,
        };
        let is_before = has(pg_sys::TRIGGER_EVENT_TIMINGMASK, pg_sys::TRIGGER_EVENT_BEFORE);
        let is_after = has(pg_sys::TRIGGER_EVENT_TIMINGMASK, pg_sys::TRIGGER_EVENT_AFTER);
        let is_timely = is_after || (is_before && operation == Operation::Truncate);
        (has_rows && is_timely).then_some(TriggerEvent { operation, is_row, is_before })
    }
}

/// The trigger's arguments.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
pub(super) unsafe fn arguments(call: &pg_sys::TriggerData) -> Vec<String> {
    // SAFETY: the caller guarantees this. There are as many arguments as the trigger says, and each is a C string.
    unsafe {
        let trigger = &*call.tg_trigger;
        let text = |nth| CStr::from_ptr(*trigger.tgargs.add(nth)).to_string_lossy().into_owned();
        (0..usize::try_from(trigger.tgnargs).unwrap_or(0)).map(text).collect()
    }
}

/// The error of a call that does not come from one of our triggers.
pub(super) fn not_ours() -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "function audit_algolia.capture() was not called by a trigger that watch() has created",
        "Drop the trigger, and call audit_algolia.watch() to create one.",
    )
}
