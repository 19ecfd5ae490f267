//! The trigger function: rows of a watched table become records in the queue, in the writer's own transaction.
//!
//! It runs with the writer's rights and needs none: rules and queue are reached past the executor, and where that
//! is not possible, as the extension's owner under a pinned search_path. Output functions of the table's types are
//! called with the writer's rights, so a hostile type gains nothing; filters are evaluated with the table owner's.

mod bound;
mod column;
mod context;
mod decode;
mod history;
mod key;
mod mirror;
mod present;
mod queue;
mod rows;
mod statement;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::filter::Filter;
use super::hypertables::is_hypertable;
use super::owner::{self, as_user, home};
use super::report::{failure, reported, Failure, Outcome};
use super::rules::SourceRules;
use crate::record::Operation;
use crate::rules::Mode;
use context::Context;
use key::KeyIndex;
use rows::value_in;

pub(super) use bound::Bound;
pub(super) use column::{attribute, columns};
pub(super) use decode::{utf8, varlena_bytes};
pub(super) use history::{file_of, History, Written};
pub(super) use present::{identity_of, identity_of_id, Key, Present};
pub(super) use queue::{next_id, Writer};

/// The second argument of a trigger that may outlive its source, or its table's being a partition of the watched one.
pub(super) const LEAF: &str = "partition";

/// A source as one of its triggers sees it.
struct Source {
    id: i32,
    index_id: i32,
    /// The watched table, which the trigger's may be a partition of.
    watched: pg_sys::Oid,
    operations: Vec<Operation>,
    /// Its records tell of changes.
    are_changes: bool,
    bound: Bound,
    filter: Option<Filter>,
    /// Updates are told of that change nothing the index holds.
    tells_all: bool,
    /// Of a mirrored table, by what its rows are found.
    key: Option<KeyIndex>,
}

impl Source {
    fn depends_on_settings(&self) -> bool {
        self.bound.depends_on_settings
            || self.filter.as_ref().is_some_and(|filter| filter.depends_on_settings)
    }
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
            Some(call) if call.type_ == pg_sys::NodeTag::T_TriggerData => match Event::of(call) {
                Some(event) => capture(call, event),
                None => Err(not_ours()),
            },
            _ => Err(not_ours()),
        }
    };
    reported(outcome).unwrap_or_report();
    pg_sys::Datum::from(0usize)
}

/// What a trigger is called for.
#[derive(Clone, Copy)]
struct Event {
    operation: Operation,
    /// With one row at hand, not with all of a statement.
    is_row: bool,
    /// Before the change rather than after it.
    is_before: bool,
}

impl Event {
    /// What a call is for; nothing when the trigger is not shaped like ours: after the change, with the row or with all
    /// rows at hand, or before a TRUNCATE.
    fn of(call: &pg_sys::TriggerData) -> Option<Event> {
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
        (has_rows && is_timely).then_some(Event { operation, is_row, is_before })
    }

    /// Whether a source's trigger is called like this. To mirror a table each row has to be at hand, and those that
    /// TRUNCATE removes.
    fn suits(self, source: &Source) -> bool {
        let shaped = match (&source.key, self.operation) {
            (Some(_), Operation::Truncate) => self.is_before,
            (Some(_), _) => self.is_row,
            (None, _) => !self.is_before,
        };
        shaped && source.operations.contains(&self.operation)
    }
}

/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
unsafe fn capture(call: &pg_sys::TriggerData, event: Event) -> Outcome<()> {
    // SAFETY: handed on to the caller.
    unsafe {
        let context = Context::enter(call);
        let Some(source) = source_of(call, event)? else {
            context.leave();
            return Ok(());
        };
        if !event.suits(&source) {
            return Err(not_ours());
        }
        let level = source.depends_on_settings().then(|| {
            let level = pg_sys::NewGUCNestLevel();
            owner::set_output_aside();
            level
        });
        statement::capture(call, event, &source, &context)?;
        if let Some(level) = level {
            pg_sys::AtEOXact_GUC(false, level);
        }
        context.leave();
        Ok(())
    }
}

/// The error of a call that is no trigger of ours.
fn not_ours() -> Box<Failure> {
    failure(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "function audit_algolia.capture() was not called by a trigger that watch() has made",
        "Drop the trigger, and let audit_algolia.watch() put one in place.",
    )
}

/// The source a trigger belongs to, from the cache or from the extension's table; none when the trigger has rightly
/// outlived it.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
unsafe fn source_of(call: &pg_sys::TriggerData, event: Event) -> Outcome<Option<Rc<Source>>> {
    register_invalidation();
    // SAFETY: relation and trigger are valid for the length of the call; arguments are C strings.
    let (key, arguments, descriptor) = unsafe {
        let trigger = &*call.tg_trigger;
        let text = |nth| CStr::from_ptr(*trigger.tgargs.add(nth)).to_string_lossy();
        let arguments: Vec<_> = (0..usize::try_from(trigger.tgnargs).unwrap_or(0)).map(text).collect();
        let relation = &*call.tg_relation;
        ((relation.rd_id.to_u32(), trigger.tgoid.to_u32()), arguments, relation.rd_att)
    };
    if let Some(source) = SOURCES.with_borrow(|sources| sources.get(&key).cloned()) {
        return Ok(Some(source));
    }
    // SAFETY: the relation is open.
    let (columns, table) = unsafe {
        let name = CStr::from_ptr((*(*call.tg_relation).rd_rel).relname.data.as_ptr());
        (columns(descriptor), name.to_string_lossy().into_owned())
    };
    let names: Vec<&str> = columns.iter().map(|(_, name, _)| name.as_str()).collect();
    let relation = pg_sys::Oid::from(key.0);
    if !event.is_row && event.operation != Operation::Truncate {
        refuse_hypertable(relation, &table)?;
    }
    let id: Option<i32> = arguments.first().and_then(|argument| argument.parse().ok());
    let may_be_orphaned = arguments.get(1).is_some_and(|argument| argument == LEAF);
    let rules = match id {
        None => None,
        Some(id) => as_user(home()?.owner, || SourceRules::load(id, relation, &table, &names))?,
    };
    let (Some(id), Some(rules)) = (id, rules) else {
        if may_be_orphaned {
            return Ok(None);
        }
        return Err(failure(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the trigger on table \"{table}\" belongs to no source of audit_algolia"),
            "Drop the trigger, or put the table under watch again with audit_algolia.watch().",
        ));
    };
    let bound = Bound::new(&rules, &columns, &table)?;
    let filter = match &rules.filter {
        None => None,
        // SAFETY: the relation is open, and locked by the statement that changes it.
        Some(text) => Some(unsafe { Filter::compile(text, call.tg_relation, rules.owner, Some) }?),
    };
    let key_index = match rules.mode {
        Mode::Append => None,
        // SAFETY: as above. A partitioned table has no rows to be found.
        Mode::Mirror => Some(unsafe { KeyIndex::find(call.tg_relation, &bound.key_places()) }?),
    };
    let source = Rc::new(Source {
        id,
        index_id: rules.index_id,
        watched: rules.relation,
        are_changes: rules.are_changes(),
        operations: rules.operations,
        bound,
        filter,
        tells_all: rules.is_backfilled,
        key: key_index,
    });
    SOURCES.with_borrow_mut(|sources| sources.insert(key, source.clone()));
    Ok(Some(source))
}

/// A table that was watched before it became a hypertable has triggers that do not see its rows as they are.
fn refuse_hypertable(relation: pg_sys::Oid, table: &str) -> Outcome<()> {
    if as_user(home()?.owner, || is_hypertable(relation))? {
        return Err(failure(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table \"{table}\" has become a hypertable since it is watched"),
            "Call audit_algolia.unwatch() for it, then audit_algolia.watch() again.",
        ));
    }
    Ok(())
}

/// Has the caches emptied when a relation changes: its columns, its triggers, or the queue itself; and of filters when
/// a function does.
pub(super) fn register_invalidation() {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a guarded function that lives as long as the library, which is never unloaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_change), pg_sys::Datum::from(0usize));
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::PROCOID as i32,
                Some(on_function_change),
                pg_sys::Datum::from(0usize),
            );
        };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_relation_change(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let all = relation == pg_sys::InvalidOid;
    SOURCES.with_borrow_mut(|sources| {
        sources.retain(|(of, _), source| !all && *of != relation.to_u32() && source.watched != relation);
    });
    if all || owner::is_home(relation) {
        owner::forget_home();
    }
}

/// A filter that was planned with a function in it may have to be planned anew.
#[pg_guard]
unsafe extern "C-unwind" fn on_function_change(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    SOURCES.with_borrow_mut(|sources| sources.retain(|_, source| source.filter.is_none()));
}
