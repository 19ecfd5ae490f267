//! The queue's heap and indexes, and how rows are inserted into them directly.

use pgrx::pg_sys;

use crate::pg::capture::slot::{clear, TupleSlot};
use crate::pg::list::cells;
use crate::pg::owner::{extension_objects, ExtensionObjects};
use crate::pg::report::SqlResult;
use crate::record::Buffer;

/// The columns of the queue: index_id, source, id, enqueued_at, record, action, object.
const WIDTH: usize = 7;
/// Fewer rows than this are inserted faster one by one.
pub(in crate::pg::capture) const FEW: usize = 4;

/// What happens to a record, as in `audit_algolia.queue.action`.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(in crate::pg::capture) enum QueueAction {
    AddObject = b'a',
    DeleteObject = b'd',
}

/// A row to be written to the queue.
pub(super) struct PendingRow {
    pub(super) id: i64,
    pub(super) action: QueueAction,
    pub(super) record: pg_sys::Datum,
    pub(super) bytes: usize,
    /// The buffer of a long record.
    pub(super) kept: Option<Box<Buffer>>,
    /// The object that it is a version of.
    pub(super) object: Option<pg_sys::Datum>,
}

/// The open queue, for rows of one source.
pub(super) struct QueueTable {
    pub(super) extension: ExtensionObjects,
    heap: pg_sys::Relation,
    pkey: pg_sys::Relation,
    /// The index of objects, in which only versions have entries.
    objects: Option<pg_sys::Relation>,
    is_plain: bool,
    pub(super) index_id: i32,
    pub(super) source: i32,
    pub(super) now: pg_sys::TimestampTz,
    slots: Vec<TupleSlot>,
    /// The context of the slots: the one in which the queue was opened, which outlives those of single batches.
    context: pg_sys::MemoryContext,
}

impl QueueTable {
    /// Opens the queue. Its locks are kept until the transaction ends.
    pub(super) fn open(index_id: i32, source: i32) -> SqlResult<QueueTable> {
        let lock = pg_sys::RowExclusiveLock as i32;
        let known = extension_objects()?;
        // SAFETY: the relation was found by name a moment ago. Opening it raises an error if it is gone.
        let heap = unsafe { pg_sys::table_open(known.queue, lock) };
        // The lock has delivered all invalidations and prevents further changes. The indexes may have been recreated
        // since the first look-up.
        let extension = extension_objects()?;
        if extension.queue != known.queue {
            // SAFETY: opened above.
            unsafe { pg_sys::table_close(heap, lock) };
            return QueueTable::open(index_id, source);
        }
        // SAFETY: as above. The index belongs to the queue. There is a current context whenever PostgreSQL calls.
        unsafe {
            Ok(QueueTable {
                extension,
                heap,
                pkey: pg_sys::index_open(extension.queue_pkey, lock),
                objects: None,
                is_plain: is_plain(heap, [extension.queue_pkey, extension.queue_object]),
                index_id,
                source,
                now: pg_sys::GetCurrentStatementStartTimestamp(),
                slots: Vec::new(),
                context: pg_sys::CurrentMemoryContext,
            })
        }
    }

    /// Writes rows.
    ///
    /// # Safety
    /// The rows' texts are alive.
    pub(super) unsafe fn insert(&mut self, rows: &[PendingRow]) -> SqlResult<()> {
        // SAFETY: the caller guarantees this. The index was found together with the queue.
        unsafe {
            if self.objects.is_none() && rows.iter().any(|row| row.object.is_some()) {
                let lock = pg_sys::RowExclusiveLock as i32;
                self.objects = Some(pg_sys::index_open(self.extension.queue_object, lock));
            }
            if !self.is_plain {
                return self.insert_by_executor(rows);
            }
            match rows.len() < FEW {
                true => self.insert_singly(rows),
                false => self.insert_together(rows),
            }
        }
        Ok(())
    }

    /// Closes the queue.
    pub(super) fn close(self) {
        // SAFETY: everything was opened by `open` or `insert_together` and is not used any more.
        unsafe {
            for slot in self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::index_close(self.pkey, pg_sys::NoLock as i32);
            if let Some(objects) = self.objects {
                pg_sys::index_close(objects, pg_sys::NoLock as i32);
            }
            pg_sys::table_close(self.heap, pg_sys::NoLock as i32);
        }
    }

    /// The values of a row, and which of them are null.
    fn values(&self, row: &PendingRow) -> ([pg_sys::Datum; WIDTH], [bool; WIDTH]) {
        let values = [
            self.index_id.into(),
            self.source.into(),
            row.id.into(),
            self.now.into(),
            row.record,
            pg_sys::Datum::from(row.action as usize),
            row.object.unwrap_or_else(|| pg_sys::Datum::from(0usize)),
        ];
        (values, [false, false, false, false, false, false, row.object.is_none()])
    }

    /// # Safety
    /// The queue is open, and the rows' texts are alive.
    unsafe fn insert_singly(&self, rows: &[PendingRow]) {
        // SAFETY: values and nulls have as many entries as the queue has columns, which is_plain has checked. No
        // options and no bulk state, as heap_insert's documentation requires.
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            for row in rows {
                let (mut values, mut nulls) = self.values(row);
                let tuple =
                    pg_sys::heap_form_tuple((*self.heap).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
                pg_sys::heap_insert(self.heap, tuple, command, 0, std::ptr::null_mut());
                self.insert_keys(row, &raw mut (*tuple).t_self);
                pg_sys::heap_freetuple(tuple);
            }
        }
    }

    /// # Safety
    /// The queue is open, and the rows' texts are alive.
    unsafe fn insert_together(&mut self, rows: &[PendingRow]) {
        // SAFETY: a slot has as many values and nulls as the queue has columns. Slots are cleared before they are
        // filled and after their tuples were written. They live in the context in which the queue was opened, because
        // the current one is reset after each batch.
        unsafe {
            let batch_context = pg_sys::MemoryContextSwitchTo(self.context);
            while self.slots.len() < rows.len() {
                self.slots.push(pg_sys::MakeSingleTupleTableSlot(
                    (*self.heap).rd_att,
                    &raw const pg_sys::TTSOpsHeapTuple,
                ));
            }
            pg_sys::MemoryContextSwitchTo(batch_context);
            for (row, slot) in rows.iter().zip(&self.slots) {
                let (values, nulls) = self.values(row);
                for (place, (value, is_null)) in values.into_iter().zip(nulls).enumerate() {
                    *(**slot).tts_values.add(place) = value;
                    *(**slot).tts_isnull.add(place) = is_null;
                }
                pg_sys::ExecStoreVirtualTuple(*slot);
            }
            pg_sys::heap_multi_insert(
                self.heap,
                self.slots.as_mut_ptr(),
                rows.len() as i32,
                pg_sys::GetCurrentCommandId(true),
                0,
                std::ptr::null_mut(),
            );
            for (row, slot) in rows.iter().zip(&self.slots) {
                self.insert_keys(row, &raw mut (**slot).tts_tid);
                clear(*slot);
            }
        }
    }

    /// # Safety
    /// `place` is where the row was just written.
    unsafe fn insert_keys(&self, row: &PendingRow, place: pg_sys::ItemPointer) {
        use pg_sys::IndexUniqueCheck::{UNIQUE_CHECK_NO, UNIQUE_CHECK_YES};
        let (index_id, id) = (self.index_id.into(), row.id.into());
        // SAFETY: the primary key is over exactly (index_id, id), the other index over (index_id, object, id) of rows
        // that have an object.
        unsafe {
            self.insert_entry(self.pkey, &mut [index_id, id], UNIQUE_CHECK_YES, place);
            if let (Some(objects), Some(object)) = (self.objects, row.object) {
                self.insert_entry(objects, &mut [index_id, object, id], UNIQUE_CHECK_NO, place);
            }
        }
    }

    /// # Safety
    /// The index is a b-tree of the queue over columns with these values, none of them null, in the row at
    /// `place`.
    unsafe fn insert_entry<const N: usize>(
        &self,
        index: pg_sys::Relation,
        key: &mut [pg_sys::Datum; N],
        check: pg_sys::IndexUniqueCheck::Type,
        place: pg_sys::ItemPointer,
    ) {
        let mut nulls = [false; N];
        // SAFETY: the caller guarantees this. A b-tree needs no IndexInfo.
        unsafe {
            pg_sys::index_insert(
                index,
                key.as_mut_ptr(),
                nulls.as_mut_ptr(),
                place,
                self.heap,
                check,
                false,
                std::ptr::null_mut(),
            );
        }
    }
}

/// Whether the queue is as the extension created it, so that writing to its heap bypasses nothing.
///
/// # Safety
/// `heap` is an open relation; `known` are the indexes that it was created with.
unsafe fn is_plain(heap: pg_sys::Relation, known: [pg_sys::Oid; 2]) -> bool {
    // SAFETY: reads the relation's cache entry, which does not change while the relation is locked and no invalidations
    // are processed.
    unsafe {
        let class = &*(*heap).rd_rel;
        let constraints = (*(*heap).rd_att).constr;
        // The server returns a copy of the list. Once the original exists, it can be read directly.
        if !(*heap).rd_indexvalid {
            pg_sys::list_free(pg_sys::RelationGetIndexList(heap));
        }
        let indexes = (*heap).rd_indexlist;
        let has = |oid: &pg_sys::Oid| cells(indexes).iter().any(|cell| cell.oid_value == *oid);
        let only_known = cells(indexes).len() == known.len() && known.iter().all(has);
        class.relkind == pg_sys::RELKIND_RELATION as i8
            && class.relpersistence == pg_sys::RELPERSISTENCE_PERMANENT as i8
            && class.relam == pg_sys::HEAP_TABLE_AM_OID
            && usize::try_from((*(*heap).rd_att).natts) == Ok(WIDTH)
            && (*heap).trigdesc.is_null()
            && (*heap).rd_rules.is_null()
            && !class.relrowsecurity
            && (constraints.is_null()
                || ((*constraints).num_check == 0 && !(*constraints).has_generated_stored))
            && only_known
    }
}
