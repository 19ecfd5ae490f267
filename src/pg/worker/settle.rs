//! The short transactions after a delivery: delivered rows are deleted, and rejected ones become dead letters.

use pgrx::prelude::*;

use super::deletion::{delete_versions, lock_dead_letters, supersede_dead, PATIENCE};
use super::settle_in_parts::{settle_in_parts, Versions};
use super::settlement::{DeadLetter, Deletion, SettleOutcome};
use super::statements::{lock, Statements};
use crate::id_ranges::Span;
use crate::pg::encoding::is_utf8;
use crate::pg::process::{in_transaction_or_failure, limit_lock_waits, TransactionFailure};
use crate::pg::{failpoint, xact};
use crate::record::escape_non_ascii;
use crate::runs::Runs;

/// Deletes delivered rows of several batches in one transaction. Dead letters of older versions go first: while
/// somebody moves one back to the queue, it must not be missed in both places.
pub(super) fn settle(statements: &Statements, delivered: &mut [Deletion]) -> spi::Result<SettleOutcome> {
    failpoint::reach("before settlement");
    let settled = settle_as_a_whole(statements, delivered);
    failpoint::reach("after settlement");
    match settled? {
        Ok(settled) => Ok(settled),
        Err(TransactionFailure::OutOfMemory) => Ok(SettleOutcome::OutOfMemory),
        Err(TransactionFailure::Locked) => settle_in_parts(statements, delivered, Versions::Left),
        Err(TransactionFailure::Damaged(_)) => {
            match settle_in_parts(statements, delivered, Versions::Deleted)? {
                SettleOutcome::Busy => settle_in_parts(statements, delivered, Versions::Left),
                settled => Ok(settled),
            }
        }
    }
}

fn settle_as_a_whole(
    statements: &Statements,
    delivered: &mut [Deletion],
) -> spi::Result<Result<SettleOutcome, TransactionFailure>> {
    in_transaction_or_failure(|| {
        if !lock(statements.queue) {
            return Ok(SettleOutcome::Gone);
        }
        limit_lock_waits(PATIENCE);
        if delivered.iter().any(|batch| batch.may_have_dead) && !lock_dead_letters(statements) {
            return Ok(SettleOutcome::Busy);
        }
        Spi::connect_mut(|client| {
            for Deletion { index_id, objects, versions, .. } in
                delivered.iter().filter(|batch| batch.may_have_dead)
            {
                if !supersede_dead(client, statements, *index_id, objects, versions)? {
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
                    let Deletion { index_id, objects, versions, .. } = &*batch;
                    let deleted = delete_versions(client, statements, *index_id, objects, versions)?;
                    failpoint::reach("in settlement");
                    batch.superseded = deleted.saturating_sub(batch.versions.len() as i64);
                }
            }
            Ok(SettleOutcome::Done)
        })
    })
}

/// Moves rejected rows of one index to the dead letters, and deletes older versions of their objects. The server copies
/// the records one by one; they are not read into this process's own memory.
pub(super) fn dead_letter(
    statements: &Statements,
    index_id: i32,
    dead: &[DeadLetter],
) -> spi::Result<SettleOutcome> {
    let moved: spi::Result<Result<SettleOutcome, TransactionFailure>> = in_transaction_or_failure(|| {
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
            let moved = client.update(&statements.dead_letter, None, &arguments)?.len() as i64;
            xact::note_removed(index_id, moved);
            xact::note_dead(index_id, moved);
            // A version that a rejected one supersedes must not be sent.
            let versions = dead.iter().filter_map(|row| Some((row.object.clone()?, row.id)));
            let (objects, ids): (Vec<String>, Vec<i64>) = versions.unzip();
            if !ids.is_empty() {
                delete_versions(client, statements, index_id, &objects, &ids)?;
            }
            failpoint::reach("while dead-lettering");
            Ok(SettleOutcome::Done)
        })
    });
    Ok(moved?.unwrap_or_else(SettleOutcome::from))
}

/// A text that this database can store: in an encoding other than UTF-8, only ASCII is certain to be representable.
/// Records are stored in the same way.
pub(in crate::pg) fn storable(text: &str) -> String {
    let text = text.replace('\0', " ");
    if is_utf8() {
        text
    } else {
        escape_non_ascii(&text).unwrap_or_default().into_owned()
    }
}
