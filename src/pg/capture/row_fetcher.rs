//! Fetches rows that a query has found, by their place in a table or partition.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::bound_relation::BoundRelation;
use super::slot::{clear, TupleSlot};
use crate::backfill::TupleVersion;
use crate::pg::condition::Evaluations;
use crate::pg::descriptor::relation_name;
use crate::pg::latest_snapshot::first_row;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::rules::SourceRules;

/// Fetches rows of one table or partition.
pub(super) struct RowFetcher {
    relation: pg_sys::Relation,
    pub(super) slot: TupleSlot,
    file: u32,
    pub(super) bound: BoundRelation,
    /// The prepared conditions, for the rest of the transaction.
    conditions: Evaluations,
}

impl RowFetcher {
    pub(super) fn open(source: i32, oid: pg_sys::Oid) -> SqlResult<RowFetcher> {
        let owner = extension_objects()?.owner;
        // SAFETY: the query that has shown a row of the relation keeps it locked until the transaction ends. The name
        // is a C string.
        unsafe {
            let relation = pg_sys::table_open(oid, pg_sys::AccessShareLock as i32);
            let table = relation_name(relation);
            if (*(*relation).rd_rel).relkind != pg_sys::RELKIND_RELATION as i8 {
                return Err(sql_error(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    format!(
                        "cannot backfill rows of partition \"{table}\", because it is not a table of this server"
                    ),
                    "Give since or until so that its rows are excluded, or detach it meanwhile.",
                ));
            }
            let rules = as_user(owner, || SourceRules::load_for(source, oid, relation))?;
            let bound = BoundRelation::bind(&rules.ok_or_else(|| not_watched(&table))?, relation)?;
            Ok(RowFetcher {
                slot: pg_sys::table_slot_create(relation, std::ptr::null_mut()),
                relation,
                file: file_of(oid)?,
                conditions: bound.conditions.prepare(),
                bound,
            })
        }
    }

    /// Fetches a row that the active snapshot has just shown; `false` if it is gone.
    pub(super) fn fetch(&self, mut place: pg_sys::ItemPointerData) -> bool {
        // SAFETY: the relation is open, and locked by the query that has shown the row. The slot belongs to it.
        unsafe {
            clear(self.slot);
            let snapshot = pg_sys::GetActiveSnapshot();
            pg_sys::table_tuple_fetch_row_version(self.relation, &raw mut place, snapshot, self.slot)
        }
    }

    /// Whether the filter accepts the row fetched last.
    ///
    /// # Safety
    /// The slot holds a fetched row.
    pub(super) unsafe fn accepts(&self) -> bool {
        // SAFETY: the caller guarantees this. The conditions were compiled for the relation.
        unsafe { self.conditions.accepts(self.slot) }
    }

    /// Whether the record of the row fetched last alerts.
    ///
    /// # Safety
    /// As for `accepts`.
    pub(super) unsafe fn alerts(&self) -> bool {
        // SAFETY: as in `accepts`.
        unsafe { self.conditions.alerts(self.slot) }
    }

    /// Locks the row fetched last against changes until the transaction ends. A mirrored row must not change between
    /// being read and being queued: its new version could be delivered before the old one is queued, and the old one
    /// would then overwrite it.
    ///
    /// # Safety
    /// The slot holds a fetched row.
    pub(super) unsafe fn lock(&self) -> RowLock {
        // SAFETY: the caller guarantees this. The row is locked or skipped without waiting, and the slot holds the same
        // row afterwards.
        unsafe {
            let mut place = (*self.slot).tts_tid;
            let mut failure = pg_sys::TM_FailureData::default();
            let result = pg_sys::table_tuple_lock(
                self.relation,
                &raw mut place,
                pg_sys::GetActiveSnapshot(),
                self.slot,
                pg_sys::GetCurrentCommandId(true),
                pg_sys::LockTupleMode::LockTupleShare,
                pg_sys::LockWaitPolicy::LockWaitSkip,
                0,
                &raw mut failure,
            );
            match result {
                pg_sys::TM_Result::TM_Ok => RowLock::Taken,
                pg_sys::TM_Result::TM_WouldBlock | pg_sys::TM_Result::TM_BeingModified => RowLock::Busy,
                _ => RowLock::Changed,
            }
        }
    }

    /// # Safety
    /// The slot holds a fetched row.
    pub(super) unsafe fn version(&self, relation: pg_sys::Oid) -> TupleVersion {
        let mut version = TupleVersion {
            relation: relation.to_u32(),
            file: self.file,
            xmin: 0,
            frozen: false,
            updated: false,
            command: None,
        };
        // SAFETY: the caller guarantees this. A slot of this kind holds a tuple in a pinned buffer. Other table access
        // methods do not reveal their rows' transactions; those rows count as history.
        unsafe {
            if (*self.slot).tts_ops == &raw const pg_sys::TTSOpsBufferHeapTuple {
                let tuple = (*self.slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple;
                let header = &*(*tuple).t_data;
                let flags = u32::from(header.t_infomask);
                version.xmin = header.t_choice.t_heap.t_xmin.into_inner();
                version.frozen = flags & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
                version.updated = flags & pg_sys::HEAP_UPDATED != 0;
                // A transaction that has tried to delete the row has overwritten the command id of the insert.
                let is_untouched = header.t_choice.t_heap.t_xmax == pg_sys::InvalidTransactionId
                    && flags & pg_sys::HEAP_COMBOCID == 0
                    && !version.frozen;
                version.command = is_untouched.then_some(header.t_choice.t_heap.t_field3.t_cid);
            }
        }
        version
    }

    /// Closes it and keeps the lock until the transaction ends.
    pub(super) fn close(self) {
        self.conditions.close();
        // SAFETY: created by `open`, and not used any more.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}

/// The result of locking a row.
pub(super) enum RowLock {
    Taken,
    /// The row has been changed or deleted since it was fetched.
    Changed,
    /// Somebody else has locked it.
    Busy,
}

/// The relfilenode of a relation.
pub(in crate::pg) fn file_of(oid: pg_sys::Oid) -> SqlResult<u32> {
    let query = include_str!("../../../sql/capture/file_of.sql");
    let file = first_row(query, &[(pg_sys::OIDOID, oid.into())], |row| Ok(row.get::<pg_sys::Oid>(1)))?;
    Ok(file.flatten().unwrap_or(pg_sys::InvalidOid).to_u32())
}

pub(super) fn not_watched(table: &str) -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("table \"{table}\" is no longer watched"),
        "Put it under watch again with audit_algolia.watch().",
    )
}
