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

/// A source as one of its triggers uses it.
pub(super) struct Source {
    pub(super) id: i32,
    pub(super) index_id: i32,
    /// The name of the index, if the source has an alert.
    pub(super) alert_index: Option<String>,
    /// The watched table. The trigger's relation may be a partition of it.
    pub(super) watched: pg_sys::Oid,
    pub(super) operations: Vec<Operation>,
    /// The trigger's relation.
    pub(super) relation: BoundRelation,
    /// Whether updates are queued even if they change nothing in the record.
    pub(super) reports_all: bool,
}

impl Source {
    /// Whether this source has a trigger that is called like this. Mirroring needs every row, and before a TRUNCATE all
    /// rows of the table.
    pub(super) fn expects(&self, event: TriggerEvent) -> bool {
        let shaped = match (self.relation.is_mirrored, event.operation) {
            (true, Operation::Truncate) => event.is_before,
            (true, _) => event.is_row,
            (false, _) => !event.is_before,
        };
        shaped && self.operations.contains(&event.operation)
    }
}

/// The oids of a relation, whose columns differ between partitions, and of a trigger, which each `watch` creates anew.
type TriggerKey = (u32, u32);

thread_local! {
    static SOURCES: RefCell<HashMap<TriggerKey, Rc<Source>>> = RefCell::new(HashMap::new());
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// Counts changes of anything that a source may depend on.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    /// Triggers without a source, and the start of the statement that found them. The next statement looks again,
    /// because rules that are copied into the table, for example by a restore, send no invalidation.
    static ORPHANS: RefCell<(pg_sys::TimestampTz, Vec<TriggerKey>)> = const { RefCell::new((0, Vec::new())) };
    /// The tables about which this session has been warned.
    static WARNED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Whether the current statement has already found that a trigger has no source.
fn is_orphan(key: TriggerKey) -> bool {
    // SAFETY: reads the start of the session's statement.
    let begun_at = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    ORPHANS.with_borrow(|(of, orphans)| *of == begun_at && orphans.contains(&key))
}

/// Remembers that a trigger has no source, and warns once per session. The table was restored without the rules, for
/// example from a dump of the schema only, or before them. That is no reason to fail a writer.
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
            format!("changes of table \"{table}\" are not captured, because its trigger belongs to no source of audit_algolia"),
            "Put the table under watch with audit_algolia.watch(), or call audit_algolia.unwatch(), which removes the trigger.",
        )
        .warn();
    }
}

/// The cached source of a trigger, if there is one.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
pub(super) unsafe fn known_source(call: &pg_sys::TriggerData) -> Option<Rc<Source>> {
    register_invalidation();
    // SAFETY: the caller guarantees this.
    let key = unsafe { key_of(call) };
    SOURCES.with_borrow(|sources| sources.get(&key).cloned())
}

/// Relation and trigger.
///
/// # Safety
/// As for `known_source`; both are valid during the call.
unsafe fn key_of(call: &pg_sys::TriggerData) -> TriggerKey {
    // SAFETY: the caller guarantees this.
    unsafe { ((*call.tg_relation).rd_id.to_u32(), (*call.tg_trigger).tgoid.to_u32()) }
}

/// Loads the source of a trigger, found by the table `member`; `None` if the trigger has outlived its source or was
/// created without one.
///
/// # Safety
/// `call` is what PostgreSQL passes to a trigger function.
pub(super) unsafe fn source_of(
    call: &pg_sys::TriggerData,
    event: TriggerEvent,
    member: pg_sys::Oid,
) -> SqlResult<Option<Rc<Source>>> {
    let changes = CHANGES.get();
    // SAFETY: relation and trigger are valid during the call.
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
        // SAFETY: as above. A partitioned table itself has no rows to look up.
        unsafe { bound.find_key_index(call.tg_relation) }?;
    }
    let source = Rc::new(Source {
        id,
        index_id: rules.index_id,
        alert_index: rules.alert_index,
        watched: rules.relation,
        operations: rules.operations,
        relation: bound,
        reports_all: rules.is_backfilled,
    });
    // A change since the load began may not be included. This statement uses the source, and the next one loads it
    // again. A removed partition has no trigger, so its source could not be found in the cache.
    if CHANGES.get() == changes && member == relation {
        SOURCES.with_borrow_mut(|sources| sources.insert(key, source.clone()));
    }
    Ok(Some(source))
}

/// Refuses a table that became a hypertable after it was watched: its triggers would misread the rows of chunks.
fn refuse_hypertable(relation: pg_sys::Oid, table: &str) -> SqlResult<()> {
    if as_user(extension_objects()?.owner, || is_hypertable(relation))? {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table \"{table}\" has become a hypertable since it was watched"),
            "Call audit_algolia.unwatch() for it, then audit_algolia.watch() again.",
        ));
    }
    Ok(())
}

/// Registers callbacks that empty the cache when a relation, its columns or its triggers change, and remove
/// sources with conditions when a function changes.
fn register_invalidation() {
    if !REGISTERED.replace(true) {
        // SAFETY: the callbacks are guarded functions that live as long as the library, which is never unloaded.
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

/// A condition that was planned with a function inlined may need a new plan.
#[pg_guard]
unsafe extern "C-unwind" fn on_function_change(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    SOURCES.with_borrow_mut(|sources| sources.retain(|_, source| source.relation.conditions.are_none()));
}
