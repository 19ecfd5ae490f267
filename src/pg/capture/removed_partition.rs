//! Deletes the objects of rows that leave a mirrored table with their partition.
//!
//! This uses the code that runs before a TRUNCATE: a deletion is queued for each row, in the transaction that removes
//! the partition. That transaction has locked the partition against everybody, and its parent against whoever would
//! attach another partition for the same rows. So nobody changes such a row meanwhile, and a row that is inserted later
//! with the same key takes a higher id.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::trigger::capture;
use super::trigger_call::{TriggerEvent, PARTITION_ARGUMENT};
use crate::pg::owner::as_user;
use crate::pg::report::SqlResult;
use crate::record::Operation;

/// A partition that leaves the table of a source.
pub(in crate::pg) struct RemovedPartition {
    pub(in crate::pg) source: i32,
    /// The watched table and its owner.
    pub(in crate::pg) watched: pg_sys::Oid,
    pub(in crate::pg) owner: pg_sys::Oid,
    /// The table that has the rows.
    pub(in crate::pg) leaf: pg_sys::Oid,
}

impl RemovedPartition {
    /// Queues the deletions, as the owner of the watched table. The partition is locked exclusively.
    pub(in crate::pg) fn queue_deletions(&self) -> SqlResult<()> {
        // SAFETY: the relation is locked. It is closed below, or by the abort after an error.
        let relation = unsafe { pg_sys::try_relation_open(self.leaf, pg_sys::NoLock as i32) };
        if relation.is_null() {
            return Ok(());
        }
        let event = TriggerEvent { operation: Operation::Truncate, is_row: false, is_before: true };
        // SAFETY: the call is that of a trigger as `TriggerEvent` describes it, and its relation is open.
        unsafe {
            let call = self.call(relation);
            as_user(self.owner, || capture(call, event, self.watched))?;
            pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        }
        Ok(())
    }

    /// The call that the partition's TRUNCATE trigger would get. It is stored in PostgreSQL's memory, because an error
    /// is reported after our stack frames are gone.
    ///
    /// # Safety
    /// The relation is open.
    unsafe fn call(&self, relation: pg_sys::Relation) -> &'static pg_sys::TriggerData {
        // SAFETY: the memory has the requested sizes and is zeroed. Texts are copied into the current memory context,
        // which outlives the event trigger's call.
        unsafe {
            let text = |text: &str| {
                let text = CString::new(text).unwrap_or_default();
                pg_guard_ffi_boundary(|| pg_sys::pstrdup(text.as_ptr()))
            };
            let arguments: *mut *mut std::os::raw::c_char = pg_sys::palloc0(2 * size_of::<usize>()).cast();
            *arguments = text(&self.source.to_string());
            *arguments.add(1) = text(PARTITION_ARGUMENT);
            let trigger: *mut pg_sys::Trigger = pg_sys::palloc0(size_of::<pg_sys::Trigger>()).cast();
            (*trigger).tgname = text(&format!("audit_algolia_{}_truncate", self.source));
            (*trigger).tgnargs = 2;
            (*trigger).tgargs = arguments;
            let call: *mut pg_sys::TriggerData = pg_sys::palloc0(size_of::<pg_sys::TriggerData>()).cast();
            (*call).type_ = pg_sys::NodeTag::T_TriggerData;
            (*call).tg_event = pg_sys::TRIGGER_EVENT_TRUNCATE | pg_sys::TRIGGER_EVENT_BEFORE;
            (*call).tg_relation = relation;
            (*call).tg_trigger = trigger;
            &*call
        }
    }
}
