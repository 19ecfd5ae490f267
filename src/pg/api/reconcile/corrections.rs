//! Corrections of mirrored tables.
//!
//! They are made after everything has been compared. An object that is corrected is held until the transaction ends,
//! and its changes are not delivered before. So nothing is held during the comparison.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::capture::{OpenTables, QueueWriter, RowKey};
use crate::pg::owner::{as_user, pin_output_settings};
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::session_holds;

/// Objects to be corrected, each with the key of its row; at most as many as one transaction can hold.
#[derive(Default)]
pub(super) struct PendingCorrections {
    objects: Vec<(RowKey, String)>,
    has_more: bool,
}

impl PendingCorrections {
    pub(super) fn keep(&mut self, key: RowKey, id: String) {
        if self.objects.len() < session_holds::MOST {
            self.objects.push((key, id));
        } else {
            self.has_more = true;
        }
    }
}

/// What is to be corrected for a source.
pub(super) struct Corrections {
    pub(super) source: i32,
    pub(super) index_id: i32,
    /// The table's name.
    pub(super) table: String,
    pub(super) present: OpenTables,
    pub(super) pending_corrections: PendingCorrections,
}

/// Corrects the objects according to what the tables hold now, and returns how many were queued.
pub(super) fn make(all: Vec<Corrections>, caller: pg_sys::Oid) -> SqlResult<i64> {
    let (mut repaired, mut has_more) = (0, false);
    for corrections in all {
        has_more |= corrections.pending_corrections.has_more;
        repaired += as_user(caller, || {
            pin_output_settings();
            corrections.make()
        })?;
    }
    if has_more || session_holds::were_too_many() {
        too_many().warn();
    }
    Ok(repaired)
}

impl Corrections {
    fn make(mut self) -> SqlResult<i64> {
        if self.pending_corrections.objects.is_empty() {
            return Ok(0);
        }
        let mut writer = QueueWriter::open_for_many(self.index_id, self.source)?;
        let objects =
            self.pending_corrections.objects.iter().map(|(key, id)| (key, id.as_str())).collect::<Vec<_>>();
        let index_id = self.index_id;
        let corrected =
            self.present.correct(&mut writer, &objects, |object| session_holds::hold(index_id, object))?;
        writer.close();
        if corrected.is_unsettled {
            partitions_are_changing(&self.table).warn();
        }
        Ok(corrected.queued)
    }
}

fn too_many() -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!(
            "not all records could be repaired: one transaction can repair {} records of mirrored tables, and all transactions together can repair {}",
            session_holds::MOST,
            2 * session_holds::MOST
        ),
        "Commit, and call audit_algolia.reconcile() again for the rest, or call audit_algolia.backfill() to send all rows.",
    )
}

/// The warning when orphaned records cannot be told from those of a partition that is being attached.
fn partitions_are_changing(table: &str) -> Box<SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        format!(
            "no orphaned record was deleted, because another session may be attaching a partition to table {table}"
        ),
        "Call audit_algolia.reconcile() again when no other session holds a lock on the table.",
    )
}
