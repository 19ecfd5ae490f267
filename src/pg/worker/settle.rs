//! The short transactions after a delivery: what has arrived is deleted, what was refused is buried.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::claim::{lock, Statements};
use crate::pg::process::in_transaction;
use crate::pg::{failpoint, xact};
use crate::record::escape_non_ascii;

/// A record that is given up.
pub(super) struct Dead {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    pub(super) attempts: i32,
    pub(super) status: Option<u16>,
    pub(super) reason: String,
}

/// What came of a settlement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Done,
    /// Somebody has locked the dead letters.
    Busy,
    /// The queue is no more: the extension has been dropped.
    Gone,
}

/// Deletes delivered rows, in one transaction for all the batches at hand.
pub(super) fn settle<'a>(
    statements: &Statements,
    delivered: impl Iterator<Item = (i32, &'a [i64])>,
) -> spi::Result<Settled> {
    failpoint::reach("before settlement");
    let settled = in_transaction(|| {
        if !lock(statements.queue) {
            return Ok(Settled::Gone);
        }
        Spi::connect_mut(|client| {
            for (index_id, ids) in delivered {
                let deleted =
                    client.update(&statements.settle, None, &[index_id.into(), ids.to_vec().into()])?;
                xact::note_removed(index_id, deleted.len() as i64);
                failpoint::reach("in settlement");
            }
            Ok(Settled::Done)
        })
    });
    failpoint::reach("after settlement");
    settled
}

/// Moves refused rows of one index to the dead letters.
pub(super) fn bury(statements: &Statements, index_id: i32, dead: &[Dead]) -> spi::Result<Settled> {
    in_transaction(|| {
        if !lock(statements.queue) {
            return Ok(Settled::Gone);
        }
        // The second table is not waited for, see `lock`. It is a member of the extension that has the queue, so it is
        // there for as long as the queue is locked.
        // SAFETY: the oid was found together with the queue's.
        let is_free = unsafe {
            pg_sys::ConditionalLockRelationOid(statements.dead_letters, pg_sys::RowExclusiveLock as i32)
        };
        if !is_free {
            return Ok(Settled::Busy);
        }
        let ids: Vec<i64> = dead.iter().map(|row| row.id).collect();
        let object_ids: Vec<Option<String>> =
            dead.iter().map(|row| row.object_id.as_deref().map(storable)).collect();
        let attempts: Vec<i32> = dead.iter().map(|row| row.attempts).collect();
        let statuses: Vec<Option<i32>> = dead.iter().map(|row| row.status.map(i32::from)).collect();
        let reasons: Vec<String> = dead.iter().map(|row| storable(&row.reason)).collect();
        Spi::connect_mut(|client| {
            let arguments = [
                index_id.into(),
                ids.into(),
                object_ids.into(),
                attempts.into(),
                statuses.into(),
                reasons.into(),
            ];
            let buried = client.update(&statements.bury, None, &arguments)?.len() as i64;
            xact::note_removed(index_id, buried);
            xact::note_dead(index_id, buried);
            failpoint::reach("in burial");
            Ok(Settled::Done)
        })
    })
}

/// A text as this database can store it: in an encoding other than UTF-8, only ASCII is sure to have a place. Records are
/// kept likewise.
pub(super) fn storable(text: &str) -> String {
    // SAFETY: reads what is set when the process is connected.
    let in_utf8 = unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32;
    let text = text.replace('\0', " ");
    if in_utf8 {
        text
    } else {
        escape_non_ascii(&text).into_owned()
    }
}
