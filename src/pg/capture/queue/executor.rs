//! Inserts rows by the executor, if the queue is not as the extension created it and has, for example, a trigger.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::table::{PendingRow, QueueTable};
use crate::pg::owner::as_user;
use crate::pg::report::SqlResult;

impl QueueTable {
    /// # Safety
    /// The rows' texts are alive.
    pub(super) unsafe fn insert_by_executor(&self, rows: &[PendingRow]) -> SqlResult<()> {
        // A long record is not copied except by the executor.
        let (long, short): (Vec<&PendingRow>, Vec<&PendingRow>) =
            rows.iter().partition(|row| row.kept.is_some());
        for row in long {
            self.insert_one_by_executor(row)?;
        }
        if short.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = short.iter().map(|row| row.id).collect();
        let actions: Vec<String> = short.iter().map(|row| char::from(row.action as u8).to_string()).collect();
        // SAFETY: each text was made from a str.
        let text = |datum: pg_sys::Datum| unsafe { String::from_datum(datum, false) };
        let records: Vec<Option<String>> = short.iter().map(|row| text(row.record)).collect();
        let objects: Vec<Option<String>> = short.iter().map(|row| row.object.and_then(text)).collect();
        as_user(self.extension.owner, || {
            Spi::connect_mut(|client| {
                client.update(
                    include_str!("../../../../sql/capture/enqueue.sql"),
                    None,
                    &[
                        self.index_id.into(),
                        self.source.into(),
                        ids.into(),
                        // SAFETY: the datum is a timestamptz.
                        unsafe { pgrx::datum::DatumWithOid::new(self.now, pg_sys::TIMESTAMPTZOID) },
                        actions.into(),
                        records.into(),
                        objects.into(),
                    ],
                )?;
                Ok(())
            })
        })
    }

    fn insert_one_by_executor(&self, row: &PendingRow) -> SqlResult<()> {
        as_user(self.extension.owner, || {
            Spi::connect_mut(|client| {
                // SAFETY: the datums have the types of the queue's columns.
                let of = |datum: pg_sys::Datum, oid| unsafe { DatumWithOid::new(datum, oid) };
                let arguments = [
                    self.index_id.into(),
                    self.source.into(),
                    row.id.into(),
                    of(self.now.into(), pg_sys::TIMESTAMPTZOID),
                    of(pg_sys::Datum::from(row.action as usize), pg_sys::CHAROID),
                    of(row.record, pg_sys::TEXTOID),
                    row.object
                        .map_or_else(DatumWithOid::null::<String>, |object| of(object, pg_sys::TEXTOID)),
                ];
                client.update(include_str!("../../../../sql/capture/enqueue_one.sql"), None, &arguments)?;
                Ok(())
            })
        })
    }
}
