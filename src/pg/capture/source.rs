//! Sources as their triggers see them: bound to the columns of the relation at hand, and cached until either changes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::bound_relation::BoundRelation;
use super::trigger_call::{arguments, not_ours, TriggerEvent, PARTITION_ARGUMENT};
use crate::pg::descriptor::relation_name;
use crate::pg::failpoint;
use crate::pg::hypertables::is_hypertable;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::{sql_error, SqlResult};
use crate::pg::rules::SourceRules;
use crate::record::Operation;

/// A source as one of its triggers sees it.
pub(super) struct Source {
    pub(super) id: i32,
    pub(super) index_id: i32,
    /// The watched table, which the trigger's may be a partition of.
    pub(super) watched: pg_sys::Oid,
    pub(super) operations: Vec<Operation>,
    /// The trigger's relation.
    pub(super) relation: BoundRelation,
    /// Updates are told of that change nothing the index holds.
    pub(super) reports_all: bool,
}

impl Source {
    /// Whether a trigger of the source is called like this. To mirror a table each row has to be at hand, and those that
    /// TRUNCATE removes.
    pub(super) fn expects(&self, event: TriggerEvent) -> bool {
        let shaped = match (self.relation.is_mirrored, event.operation) {
            (true, Operation::Truncate) => event.is_before,
            (true, _) => event.is_row,
            (false, _) => !event.is_before,
        };
        shaped && self.operations.contains(&event.operation)
    }
}

/// A relation (a partition has columns of its own) and a trigger (a new watch makes a new one).
type TriggerKey = (u32, u32);

thread_local! {
    static SOURCES: RefCell<HashMap<TriggerKey, Rc<Source>>> = RefCell::new(HashMap::new());
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// How often something has changed that a source may depend on.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    /// Triggers without a source, and the start of the statement that has found them so. The next one looks again: a source
    /// that is copied into its table, as from a dump, tells nobody.
    static ORPHANS: RefCell<(pg_sys::TimestampTz, Vec<TriggerKey>)> = const { RefCell::new((0, Vec::new())) };
    /// Tables whose writer this session has warned of that.
    static WARNED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Whether the statement under way has found that a trigger has no source.
fn is_orphan(key: TriggerKey) -> bool {
    // SAFETY: reads when the session's statement has begun.
    let begun_at = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    ORPHANS.with_borrow(|(of, orphans)| *of == begun_at && orphans.contains(&key))
}

/// Remembers that a trigger has no source, and says so once per session. Its table has come without the rules, as from a dump
/// of the schema alone, or they are yet to come; that is no reason to fail a writer.
fn note_orphan(key: TriggerKey, table: &str) {
    // SAFETY: as above.
    let begun_at = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    ORPHANS.with_borrow_mut(|(of, orphans)| {
        if *of != begun_at {
            *of = begun_at;
            orphans.clear();
        }
        orphans.push(key);
    });
    let is_news = WARNED.with_borrow_mut(|warned| {
        let is_news = !warned.contains(&key.0);
        if is_news {
            warned.push(key.0);
        }
        is_news
    });
    if is_news {
        sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("changes of table \"{table}\" are not captured: its trigger belongs to no source of audit_algolia"),
            "Put the table under watch with audit_algolia.watch(), or call audit_algolia.unwatch(), which removes the trigger.",
        )
        .warn();
    }
}

/// The source a trigger belongs to, if it is in the cache.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
pub(super) unsafe fn known_source(call: &pg_sys::TriggerData) -> Option<Rc<Source>> {
    register_invalidation();
    // SAFETY: handed on to the caller.
    let key = unsafe { key_of(call) };
    SOURCES.with_borrow(|sources| sources.get(&key).cloned())
}

/// Relation and trigger.
///
/// # Safety
/// As for `known_source`; both are valid for the length of the call.
unsafe fn key_of(call: &pg_sys::TriggerData) -> TriggerKey {
    // SAFETY: handed on to the caller.
    unsafe { ((*call.tg_relation).rd_id.to_u32(), (*call.tg_trigger).tgoid.to_u32()) }
}

/// The source a trigger belongs to, from the extension's table, known by the table `member`; none when the trigger has
/// outlived it, or has come without.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
pub(super) unsafe fn source_of(
    call: &pg_sys::TriggerData,
    event: TriggerEvent,
    member: pg_sys::Oid,
) -> SqlResult<Option<Rc<Source>>> {
    let changes = CHANGES.get();
    // SAFETY: relation and trigger are valid for the length of the call.
    let (key, arguments) = unsafe { (key_of(call), arguments(call)) };
    if is_orphan(key) {
        return Ok(None);
    }
    // SAFETY: the relation is open.
    let table = unsafe { relation_name(call.tg_relation) };
    let relation = pg_sys::Oid::from(key.0);
    if !event.is_row && event.operation != Operation::Truncate {
        refuse_hypertable(relation, &table)?;
    }
    let Some(id) = arguments.first().and_then(|argument| argument.parse().ok()) else {
        return Err(not_ours());
    };
    // SAFETY: the relation is open.
    let rules = as_user(extension_objects()?.owner, || unsafe {
        SourceRules::load_for(id, member, call.tg_relation)
    })?;
    let Some(rules) = rules else {
        if arguments.get(1).is_none_or(|argument| argument != PARTITION_ARGUMENT) {
            note_orphan(key, &table);
        }
        return Ok(None);
    };
    // SAFETY: the relation is open, and locked by the statement that changes it.
    let mut bound = unsafe { BoundRelation::bind(&rules, call.tg_relation) }?;
    failpoint::reach("in the load of a source");
    if bound.is_mirrored {
        // SAFETY: as above. A partitioned table has no rows to be found.
        unsafe { bound.find_key_index(call.tg_relation) }?;
    }
    let source = Rc::new(Source {
        id,
        index_id: rules.index_id,
        watched: rules.relation,
        operations: rules.operations,
        relation: bound,
        reports_all: rules.is_backfilled,
    });
    // What has changed since the load began may have been read before: this statement goes by it, the next one looks anew.
    // A departure has no trigger by which it would be found again.
    if CHANGES.get() == changes && member == relation {
        SOURCES.with_borrow_mut(|sources| sources.insert(key, source.clone()));
    }
    Ok(Some(source))
}

/// A table that was watched before it became a hypertable has triggers that do not see its rows as they are.
fn refuse_hypertable(relation: pg_sys::Oid, table: &str) -> SqlResult<()> {
    if as_user(extension_objects()?.owner, || is_hypertable(relation))? {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table \"{table}\" has become a hypertable since it is watched"),
            "Call audit_algolia.unwatch() for it, then audit_algolia.watch() again.",
        ));
    }
    Ok(())
}

/// Has the cache emptied when a relation changes, its columns or its triggers; and of filters when a function does.
fn register_invalidation() {
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
    CHANGES.set(CHANGES.get().wrapping_add(1));
    let all = relation == pg_sys::InvalidOid;
    ORPHANS.with_borrow_mut(|(_, orphans)| orphans.clear());
    SOURCES.with_borrow_mut(|sources| {
        sources.retain(|(of, _), source| !all && *of != relation.to_u32() && source.watched != relation);
    });
}

/// A filter that was planned with a function in it may have to be planned anew.
#[pg_guard]
unsafe extern "C-unwind" fn on_function_change(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    SOURCES.with_borrow_mut(|sources| sources.retain(|_, source| source.relation.filter.is_none()));
}
