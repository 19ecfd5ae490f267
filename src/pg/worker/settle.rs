//! The short transactions after a delivery: what has arrived is deleted, what was refused is buried.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::settlement::{DeadLetter, Deletion};
use super::statements::{lock, Statements};
use crate::id_ranges::Span;
use crate::pg::encoding::is_utf8;
use crate::pg::locks::try_lock;
use crate::pg::process::{in_transaction_or_failure, limit_lock_waits, TransactionFailure};
use crate::pg::{failpoint, xact};
use crate::record::escape_non_ascii;
use crate::runs::Runs;

/// How long a settlement waits for rows that somebody else has locked. Everything else this worker has to do waits with
/// it.
const PATIENCE: &CStr = c"500ms";

/// What came of a settlement.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SettleOutcome {
    Done,
    /// Somebody has locked rows: the lists have those that are done.
    Partly,
    /// Somebody has locked rows, or the dead letters: no row of the queue is deleted. Dead letters that have been superseded
    /// may be, which they are all the same.
    Busy,
    /// There was no memory for it: nothing has changed.
    Short,
    /// The server cannot read what is on its disk: nothing has changed, and this is what it says.
    Damaged(String),
    /// The queue is no more: the extension has been dropped.
    Gone,
}

impl From<TransactionFailure> for SettleOutcome {
    fn from(failure: TransactionFailure) -> SettleOutcome {
        match failure {
            TransactionFailure::Locked => SettleOutcome::Busy,
            TransactionFailure::Short => SettleOutcome::Short,
            TransactionFailure::Damaged(damage) => SettleOutcome::Damaged(damage),
        }
    }
}

/// Deletes delivered rows, in one transaction for all the batches at hand. Dead letters of older versions go first: one
/// that somebody is just putting back into the queue must not be overlooked in both places.
pub(super) fn settle(statements: &Statements, delivered: &mut [Deletion]) -> spi::Result<SettleOutcome> {
    failpoint::reach("before settlement");
    let settled: spi::Result<Result<SettleOutcome, TransactionFailure>> = in_transaction_or_failure(|| {
        if !lock(statements.queue) {
            return Ok(SettleOutcome::Gone);
        }
        limit_lock_waits(PATIENCE);
        if delivered.iter().any(|batch| batch.may_have_dead) && !lock_dead_letters(statements) {
            return Ok(SettleOutcome::Busy);
        }
        Spi::connect_mut(|client| {
            for batch in delivered.iter().filter(|batch| batch.may_have_dead) {
                let arguments =
                    [batch.index_id.into(), batch.objects.clone().into(), batch.versions.clone().into()];
                let row = client.update(&statements.supersede, Some(1), &arguments)?.first();
                xact::note_dead(batch.index_id, -row.get::<i64>(1)?.unwrap_or_default());
                if row.get::<bool>(2)?.unwrap_or_default() {
                    return Ok(SettleOutcome::Busy);
                }
            }
            for batch in delivered.iter_mut() {
                if !batch.ids.is_empty() {
                    let runs = Runs::of(&batch.ids);
                    let mut deleted = 0;
                    for Span { lo, hi } in runs.long {
                        let arguments = [batch.index_id.into(), lo.into(), hi.into()];
                        deleted += client.update(&statements.settle_run, None, &arguments)?.len();
                    }
                    if !runs.others.is_empty() {
                        let arguments = [batch.index_id.into(), runs.others.into()];
                        deleted += client.update(&statements.settle, None, &arguments)?.len();
                    }
                    xact::note_removed(batch.index_id, deleted as i64);
                    failpoint::reach("in settlement");
                }
                if !batch.versions.is_empty() {
                    let arguments =
                        [batch.index_id.into(), batch.objects.clone().into(), batch.versions.clone().into()];
                    let deleted = client.update(&statements.settle_versions, None, &arguments)?.len() as i64;
                    xact::note_removed(batch.index_id, deleted);
                    failpoint::reach("in settlement");
                    batch.superseded = deleted.saturating_sub(batch.versions.len() as i64);
                }
            }
            Ok(SettleOutcome::Done)
        })
    });
    failpoint::reach("after settlement");
    match settled? {
        Ok(settled) => Ok(settled),
        Err(TransactionFailure::Locked) => settle_unlocked(statements, delivered),
        Err(failure) => Ok(failure.into()),
    }
}

/// Deletes delivered rows that nobody has locked, and takes the others off the lists. An object's versions stay together:
/// were the newest deleted without the older ones, one of those would be sent next.
fn settle_unlocked(statements: &Statements, delivered: &mut [Deletion]) -> spi::Result<SettleOutcome> {
    let settled: spi::Result<Result<SettleOutcome, TransactionFailure>> = in_transaction_or_failure(|| {
        if !lock(statements.queue) {
            return Ok(SettleOutcome::Gone);
        }
        Spi::connect_mut(|client| {
            for batch in delivered {
                batch.objects.clear();
                batch.versions.clear();
                batch.superseded = 0;
                let arguments = [batch.index_id.into(), std::mem::take(&mut batch.ids).into()];
                let rows = client.update(
                    include_str!("../../../sql/worker/settle_unlocked.sql"),
                    None,
                    &arguments,
                )?;
                for row in rows {
                    batch.ids.extend(row.get::<i64>(1)?);
                }
                xact::note_removed(batch.index_id, batch.ids.len() as i64);
            }
            Ok(SettleOutcome::Partly)
        })
    });
    Ok(settled?.unwrap_or_else(SettleOutcome::from))
}

/// Locks the dead letters without waiting. It is the second table, which is not waited for, see `lock`; being a member of
/// the extension that has the queue, it is there for as long as the queue is locked.
fn lock_dead_letters(statements: &Statements) -> bool {
    try_lock(statements.dead_letters, pg_sys::RowExclusiveLock)
}

/// Moves refused rows of one index to the dead letters. Older versions of their objects are deleted. The server copies one
/// record after the other; none comes into our hands.
pub(super) fn bury(
    statements: &Statements,
    index_id: i32,
    dead: &[DeadLetter],
) -> spi::Result<SettleOutcome> {
    let buried: spi::Result<Result<SettleOutcome, TransactionFailure>> = in_transaction_or_failure(|| {
        if !lock(statements.queue) {
            return Ok(SettleOutcome::Gone);
        }
        if !lock_dead_letters(statements) {
            return Ok(SettleOutcome::Busy);
        }
        limit_lock_waits(PATIENCE);
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
            // What a refused version supersedes is not sent in its stead.
            let versions = dead.iter().filter_map(|row| Some((row.object.clone()?, row.id)));
            let (objects, ids): (Vec<String>, Vec<i64>) = versions.unzip();
            if !ids.is_empty() {
                let arguments = [index_id.into(), objects.into(), ids.into()];
                let superseded = client.update(&statements.settle_versions, None, &arguments)?.len() as i64;
                xact::note_removed(index_id, superseded);
            }
            failpoint::reach("in burial");
            Ok(SettleOutcome::Done)
        })
    });
    Ok(buried?.unwrap_or_else(SettleOutcome::from))
}

/// A text as this database can store it: in an encoding other than UTF-8, only ASCII is sure to have a place. Records are
/// kept likewise.
pub(in crate::pg) fn storable(text: &str) -> String {
    let text = text.replace('\0', " ");
    if is_utf8() {
        text
    } else {
        escape_non_ascii(&text).unwrap_or_default().into_owned()
    }
}
