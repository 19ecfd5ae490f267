//! The trigger function: rows of a watched table become records in the queue, in the writer's own transaction.
//!
//! It runs with the writer's rights and needs none: rules and queue are reached past the executor, and where that
//! is not possible, as the extension's owner under a pinned search_path. Output functions of the table's types are
//! called with the writer's rights, so a hostile type gains nothing.

mod bound;
mod decode;
mod queue;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::owner::{self, as_user, home};
use super::report::{failure, reported, Outcome};
use super::rules::{pseudonymizer, ServerCalendar, SourceRules};
use queue::Writer;

pub(super) use bound::{columns, Bound};
pub(super) use decode::utf8;
pub(super) use queue::next_id;

/// A source as one of its triggers sees it.
struct Source {
    id: i32,
    index_id: i32,
    bound: Bound,
}

thread_local! {
    /// By relation (a partition has columns of its own) and trigger (a new watch makes a new one).
    static SOURCES: RefCell<HashMap<(u32, u32), Rc<Source>>> = RefCell::new(HashMap::new());
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// The version-1 call information PostgreSQL asks for before it calls `audit_algolia_capture`.
#[no_mangle]
#[allow(unreachable_pub, reason = "PostgreSQL looks the symbol up")]
pub extern "C" fn pg_finfo_audit_algolia_capture() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

/// `audit_algolia.capture()`.
///
/// # Safety
/// To be called by PostgreSQL's function manager alone.
#[no_mangle]
#[allow(unreachable_pub, reason = "PostgreSQL looks the symbol up")]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_capture(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function manager passes valid call information; a trigger call is told by its context node.
    let outcome = unsafe {
        match (*fcinfo).context.cast::<pg_sys::TriggerData>().as_ref() {
            Some(call) if call.type_ == pg_sys::NodeTag::T_TriggerData && is_ours(call) => capture(call),
            _ => Err(failure(
                PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "function audit_algolia.capture() was not called by a trigger that watch() has made",
                "Drop the trigger, and let audit_algolia.watch() put one in place.",
            )),
        }
    };
    reported(outcome).unwrap_or_report();
    pg_sys::Datum::from(0usize)
}

/// Whether a trigger has the shape of ours: after inserts, with the row or with all rows at hand.
fn is_ours(call: &pg_sys::TriggerData) -> bool {
    let has = |mask, bits| call.tg_event & mask == bits;
    has(pg_sys::TRIGGER_EVENT_OPMASK, pg_sys::TRIGGER_EVENT_INSERT)
        && has(pg_sys::TRIGGER_EVENT_TIMINGMASK, pg_sys::TRIGGER_EVENT_AFTER)
        && (has(pg_sys::TRIGGER_EVENT_ROW, pg_sys::TRIGGER_EVENT_ROW) || !call.tg_newtable.is_null())
}

/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
unsafe fn capture(call: &pg_sys::TriggerData) -> Outcome<()> {
    // SAFETY: handed on to the caller.
    unsafe {
        let source = source_of(call)?;
        let level = source.bound.depends_on_settings.then(|| {
            let level = pg_sys::NewGUCNestLevel();
            owner::set_output_aside();
            level
        });
        let mut writer = Writer::open(source.index_id, source.id)?;
        let outcome = if call.tg_newtable.is_null() {
            capture_row(call, &source, &mut writer)
        } else {
            capture_table(call, &source, &mut writer)
        };
        outcome?;
        writer.close();
        if let Some(level) = level {
            pg_sys::AtEOXact_GUC(false, level);
        }
        Ok(())
    }
}

/// All rows of a statement, from its transition table.
///
/// # Safety
/// `call` comes from a statement-level trigger with a transition table.
unsafe fn capture_table(call: &pg_sys::TriggerData, source: &Source, writer: &mut Writer) -> Outcome<()> {
    // SAFETY: the tuplestore is read through a pointer of our own, for another trigger may be reading it too, and
    // it may have spilled; a forgotten pointer (on error) dies with the statement's tuplestore.
    unsafe {
        let store = call.tg_newtable;
        let reader = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
        pg_sys::tuplestore_select_read_pointer(store, reader);
        pg_sys::tuplestore_rescan(store);
        let slot = pg_sys::MakeSingleTupleTableSlot(
            (*call.tg_relation).rd_att,
            &raw const pg_sys::TTSOpsMinimalTuple,
        );
        let mut scratch = PgMemoryContexts::new("audit_algolia capture");
        let mut copy = || {
            let pseudonymizer = source.bound.pseudonymizes().then(pseudonymizer).flatten();
            let mut calendar = ServerCalendar::current();
            let mut record = Vec::with_capacity(512);
            let mut more = true;
            while more {
                // Values and texts of one batch share a context that is reset with it, so that the memory of a
                // statement over millions of rows stays flat. A row read from a tuplestore that has spilled is in it
                // too, and belongs to the slot: the slot lets go of it first.
                queue::clear(slot);
                scratch.reset();
                more = scratch.switch_to(|_| -> Outcome<bool> {
                    loop {
                        if !pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
                            writer.flush()?;
                            return Ok(false);
                        }
                        record.clear();
                        let row = |place| value_in(slot, place);
                        read(slot, source.bound.width);
                        source.bound.write(row, pseudonymizer.as_deref(), &mut calendar, &mut record)?;
                        if writer.push(&record) {
                            writer.flush()?;
                            return Ok(true);
                        }
                    }
                })?;
            }
            Ok(())
        };
        let outcome = copy();
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        outcome
    }
}

/// The one row of a row-level trigger.
///
/// # Safety
/// `call` comes from a row-level trigger.
unsafe fn capture_row(call: &pg_sys::TriggerData, source: &Source, writer: &mut Writer) -> Outcome<()> {
    let pseudonymizer = source.bound.pseudonymizes().then(pseudonymizer).flatten();
    let mut record = Vec::with_capacity(512);
    // SAFETY: an after-insert row trigger has its row in tg_trigslot; the trigger's own memory context lives until we
    // return.
    unsafe {
        let slot = call.tg_trigslot;
        read(slot, source.bound.width);
        let row = |place| value_in(slot, place);
        source.bound.write(row, pseudonymizer.as_deref(), &mut ServerCalendar::current(), &mut record)?;
    }
    writer.push(&record);
    writer.flush()
}

/// Reads a slot's first `width` values, unless they have been read already.
///
/// # Safety
/// The slot holds a row of a relation with so many columns.
unsafe fn read(slot: *mut pg_sys::TupleTableSlot, width: usize) {
    // SAFETY: handed on to the caller; this is slot_getsomeattrs, an inline function of the server's.
    unsafe {
        if usize::try_from((*slot).tts_nvalid).unwrap_or(0) < width {
            pg_sys::slot_getsomeattrs_int(slot, width as i32);
        }
    }
}

/// # Safety
/// The slot's first `place` + 1 values have been read.
unsafe fn value_in(slot: *mut pg_sys::TupleTableSlot, place: usize) -> Option<pg_sys::Datum> {
    // SAFETY: handed on to the caller.
    unsafe { (!*(*slot).tts_isnull.add(place)).then(|| *(*slot).tts_values.add(place)) }
}

/// The source a trigger belongs to, from the cache or from the extension's table.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
unsafe fn source_of(call: &pg_sys::TriggerData) -> Outcome<Rc<Source>> {
    register_invalidation();
    // SAFETY: relation and trigger are valid for the length of the call; arguments are C strings.
    let (key, argument, descriptor) = unsafe {
        let trigger = &*call.tg_trigger;
        let argument = (trigger.tgnargs == 1).then(|| CStr::from_ptr(*trigger.tgargs).to_string_lossy());
        let relation = &*call.tg_relation;
        ((relation.rd_id.to_u32(), trigger.tgoid.to_u32()), argument, relation.rd_att)
    };
    if let Some(source) = SOURCES.with_borrow(|sources| sources.get(&key).cloned()) {
        return Ok(source);
    }
    // SAFETY: the relation is open.
    let (columns, table) = unsafe {
        let name = CStr::from_ptr((*(*call.tg_relation).rd_rel).relname.data.as_ptr());
        (columns(descriptor), name.to_string_lossy().into_owned())
    };
    let names: Vec<&str> = columns.iter().map(|(_, name, _)| name.as_str()).collect();
    let relation = pg_sys::Oid::from(key.0);
    let id: Option<i32> = argument.and_then(|argument| argument.parse().ok());
    let rules = match id {
        None => None,
        Some(id) => as_user(home()?.owner, || SourceRules::load(id, relation, &table, &names))?,
    };
    let (Some(id), Some(rules)) = (id, rules) else {
        return Err(failure(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the trigger on table \"{table}\" belongs to no source of audit_algolia"),
            "Drop the trigger, or put the table under watch again with audit_algolia.watch().",
        ));
    };
    let bound = Bound::new(&rules, &columns, &table)?;
    let source = Rc::new(Source { id, index_id: rules.index_id, bound });
    SOURCES.with_borrow_mut(|sources| sources.insert(key, source.clone()));
    Ok(source)
}

/// Has the caches emptied when a relation changes: its columns, its triggers, or the queue itself.
pub(super) fn register_invalidation() {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a guarded function that lives as long as the library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_change), pg_sys::Datum::from(0usize))
        };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation_change(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let all = relation == pg_sys::InvalidOid;
    SOURCES.with_borrow_mut(|sources| sources.retain(|(of, _), _| !all && *of != relation.to_u32()));
    if all || owner::is_home(relation) {
        owner::forget_home();
    }
}
