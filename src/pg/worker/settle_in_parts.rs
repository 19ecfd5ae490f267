//! The settlement of batches of which something is locked or damaged: everything else of them is deleted.

use pgrx::prelude::*;

use super::deletion::{delete_unlocked, delete_versions, lock_dead_letters, supersede_dead, PATIENCE};
use super::settlement::{Deletion, SettleOutcome};
use super::statements::{lock, Statements};
use crate::pg::process::{in_transaction_or_failure, limit_lock_waits, TransactionFailure};
use crate::pg::subtransaction::unless_unreadable;

/// What happens to versions of objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    Deleted,
    /// Somebody has locked some of them.
    Left,
}

/// What became of the rows of a batch. Those in none of the lists are locked.
#[derive(Default)]
struct Parts {
    ids: Vec<i64>,
    versions: Vec<i64>,
    superseded: i64,
    /// Rows that cannot be deleted, or whose older versions cannot be deleted, with the server's error.
    damaged: Vec<(i64, String)>,
}

/// Deletes rows that are neither locked nor damaged, and removes the others from the lists. The versions of an object
/// are deleted together: if the newest were deleted without the older ones, one of those would be sent next.
pub(super) fn settle_in_parts(
    statements: &Statements,
    delivered: &mut [Deletion],
    versions: Versions,
) -> spi::Result<SettleOutcome> {
    let settled: spi::Result<Result<Option<Vec<Parts>>, TransactionFailure>> =
        in_transaction_or_failure(|| {
            if !lock(statements.queue) {
                return Ok(None);
            }
            limit_lock_waits(PATIENCE);
            let settle = |batch: &Deletion| settle_batch(statements, batch, versions);
            delivered.iter().map(settle).collect::<spi::Result<_>>().map(Some)
        });
    Ok(match settled? {
        Ok(None) => SettleOutcome::Gone,
        Ok(Some(parts)) => {
            for (batch, parts) in delivered.iter_mut().zip(parts) {
                batch.objects.clear();
                (batch.ids, batch.versions) = (parts.ids, parts.versions);
                (batch.superseded, batch.damaged) = (parts.superseded, parts.damaged);
            }
            SettleOutcome::Partly
        }
        Err(failure) => failure.into(),
    })
}

fn settle_batch(statements: &Statements, batch: &Deletion, versions: Versions) -> spi::Result<Parts> {
    let (mut parts, index_id) = (Parts::default(), batch.index_id);
    in_halves(&batch.ids, |id| *id, &mut parts, &|ids| {
        let ids = delete_unlocked(index_id, ids)?;
        Ok(Parts { ids, ..Parts::default() })
    })?;
    if versions == Versions::Left || (batch.may_have_dead && !lock_dead_letters(statements)) {
        return Ok(parts);
    }
    let versions: Vec<(&str, i64)> =
        batch.objects.iter().map(String::as_str).zip(batch.versions.iter().copied()).collect();
    in_halves(&versions, |(_, id)| *id, &mut parts, &|versions| {
        let (objects, versions): (Vec<&str>, Vec<i64>) = versions.iter().copied().unzip();
        Spi::connect_mut(|client| {
            if batch.may_have_dead && !supersede_dead(client, statements, index_id, &objects, &versions)? {
                return Ok(Parts::default());
            }
            let deleted = delete_versions(client, statements, index_id, &objects, &versions)?;
            let superseded = deleted.saturating_sub(versions.len() as i64);
            Ok(Parts { versions, superseded, ..Parts::default() })
        })
    })?;
    Ok(parts)
}

/// Settles rows in a subtransaction. If something is damaged, halves them until the damaged rows are alone.
fn in_halves<R>(
    rows: &[R],
    id_of: fn(&R) -> i64,
    parts: &mut Parts,
    settle: &impl Fn(&[R]) -> spi::Result<Parts>,
) -> spi::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    match (unless_unreadable(|| settle(rows)), rows) {
        (Ok(settled), _) => parts.add(settled?),
        (Err(damage), [row]) => parts.damaged.push((id_of(row), damage.cause())),
        (Err(_), rows) => {
            let (one, other) = rows.split_at(rows.len() / 2);
            in_halves(one, id_of, parts, settle)?;
            in_halves(other, id_of, parts, settle)?;
        }
    }
    Ok(())
}

impl Parts {
    fn add(&mut self, other: Parts) {
        self.ids.extend(other.ids);
        self.versions.extend(other.versions);
        self.superseded += other.superseded;
    }
}
