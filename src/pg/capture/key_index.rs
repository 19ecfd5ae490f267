//! The unique index over a mirrored table's key, and the row it finds for a key at this moment.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::slot::TupleSlot;
use crate::pg::descriptor::relation_name;
use crate::pg::list::cells;
use crate::pg::report::{sql_error, SqlResult};

/// A unique index over exactly the key columns.
pub(super) struct KeyIndex {
    index: pg_sys::Oid,
    columns: Vec<KeyColumn>,
}

/// How a key column is compared.
struct KeyColumn {
    /// Its place in a row.
    place: usize,
    equality: pg_sys::Oid,
    collation: pg_sys::Oid,
}

impl KeyIndex {
    /// Finds the index over the columns at `places`.
    ///
    /// # Safety
    /// `relation` is open and locked.
    pub(super) unsafe fn find(relation: pg_sys::Relation, places: &[usize]) -> SqlResult<KeyIndex> {
        // SAFETY: the caller guarantees this. Indexes of a locked relation are not dropped.
        unsafe {
            let list = pg_sys::RelationGetIndexList(relation);
            for cell in cells(list) {
                let index = pg_sys::index_open(cell.oid_value, pg_sys::AccessShareLock as i32);
                let columns = columns_of(index, places);
                pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
                if let Some(columns) = columns {
                    return Ok(KeyIndex { index: cell.oid_value, columns });
                }
            }
            Err(sql_error(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "mirrored table \"{}\" no longer has a unique index over its key",
                    relation_name(relation)
                ),
                "Create it again, or call audit_algolia.unwatch().",
            ))
        }
    }

    /// The row whose key equals that of the row in `slot`, as `snapshot` shows it, in a slot of its own; `None` if
    /// there is none.
    ///
    /// # Safety
    /// `relation` is the one that the index was found for. The key columns of `slot` have been deformed and
    /// are not null. The snapshot is valid.
    pub(super) unsafe fn find_row(
        &self,
        relation: pg_sys::Relation,
        slot: TupleSlot,
        snapshot: pg_sys::Snapshot,
    ) -> Option<TupleSlot> {
        // SAFETY: the caller guarantees this. The row is copied before the scan is closed.
        unsafe {
            let mut keys: Vec<pg_sys::ScanKeyData> = Vec::with_capacity(self.columns.len());
            for column in &self.columns {
                let mut key = pg_sys::ScanKeyData::default();
                pg_sys::ScanKeyEntryInitialize(
                    &mut key,
                    0,
                    (column.place + 1) as pg_sys::AttrNumber,
                    pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                    pg_sys::InvalidOid,
                    column.collation,
                    column.equality,
                    *(*slot).tts_values.add(column.place),
                );
                keys.push(key);
            }
            let scan = pg_sys::systable_beginscan(
                relation,
                self.index,
                true,
                snapshot,
                keys.len() as i32,
                keys.as_mut_ptr(),
            );
            let tuple = pg_sys::systable_getnext(scan);
            let copy = (!tuple.is_null()).then(|| pg_sys::heap_copytuple(tuple));
            pg_sys::systable_endscan(scan);
            copy.map(|copy| {
                let live =
                    pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsHeapTuple);
                pg_sys::ExecForceStoreHeapTuple(copy, live, true);
                live
            })
        }
    }
}

/// Whether the version in `slot` is still the current one. The current transaction may have changed the row since.
///
/// # Safety
/// The slot holds a version that was read from `relation`.
pub(super) unsafe fn is_current(relation: pg_sys::Relation, slot: TupleSlot) -> bool {
    // SAFETY: the caller guarantees this. The snapshot is a constant of the server.
    unsafe { pg_sys::table_tuple_satisfies_snapshot(relation, slot, &raw mut pg_sys::SnapshotSelfData) }
}

/// How to look up the key in an index; `None` if the index is not over exactly these columns.
///
/// # Safety
/// `index` is an open index.
unsafe fn columns_of(index: pg_sys::Relation, places: &[usize]) -> Option<Vec<KeyColumn>> {
    // SAFETY: the caller guarantees this. An index has as many key columns, families, types and collations as its
    // catalog entry says.
    unsafe {
        let form = &*(*index).rd_index;
        let count = usize::try_from(form.indnkeyatts).ok()?;
        let fits = form.indisunique
            && form.indimmediate
            && form.indisvalid
            && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && count == places.len()
            && pg_sys::RelationGetIndexPredicate(index).is_null();
        if !fits {
            return None;
        }
        let mut columns = Vec::with_capacity(count);
        for (nth, number) in form.indkey.values.as_slice(count).iter().enumerate() {
            // An expression has no column number.
            let place = usize::try_from(*number).ok()?.checked_sub(1)?;
            if !places.contains(&place) {
                return None;
            }
            let of_type = *(*index).rd_opcintype.add(nth);
            let strategy = pg_sys::BTEqualStrategyNumber as i16;
            let operator =
                pg_sys::get_opfamily_member(*(*index).rd_opfamily.add(nth), of_type, of_type, strategy);
            let equality = pg_sys::get_opcode(operator);
            columns.push(KeyColumn { place, equality, collation: *(*index).rd_indcollation.add(nth) });
        }
        Some(columns)
    }
}
