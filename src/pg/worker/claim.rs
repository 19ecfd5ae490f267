//! The short transaction before a delivery: a claim takes the newest rows and makes a batch of them.

mod claim_in_progress;
mod claimed;
mod entries;
mod fill;

use pgrx::prelude::*;

use super::statements::{lock, Statements};
use crate::pg::process::{in_transaction_or_failure, TransactionFailure};
use crate::pg::{failpoint, shmem};
use claim_in_progress::take;
pub(super) use claimed::{ClaimOrder, ClaimOutcome, Claimed, FailedClaim};
use entries::ClaimEntries;

/// Claims rows of the span that shared state has handed out. The claim is entered into shared state before the claiming
/// transaction ends, so that no other worker can lock the rows before it knows that they are taken. Each row is checked
/// against shared state after it was locked, because it may have been claimed before.
///
/// A row that is a version of an object leads to a claim of the object. Only then is the newest version read: until
/// this batch returns, nobody else delivers or deletes one.
///
/// Records are read last, when it is known which of them fit into the batch.
pub(super) fn claim(mut order: ClaimOrder, statements: &Statements) -> spi::Result<ClaimOutcome> {
    failpoint::reach("before claim");
    if !fits_table(&mut order) {
        return Ok(ClaimOutcome::TableFull);
    }
    let mut entered = ClaimEntries::new(order.slot, order.lane, order.crash_retry);
    let outcome = in_transaction_or_failure(|| {
        if !lock(statements.queue) {
            return Ok(Some(ClaimOutcome::QueueGone));
        }
        Spi::connect_mut(|client| take(client, &order, statements, &mut entered))
    });
    failpoint::reach("after claim");
    match outcome {
        Ok(Ok(Some(outcome))) => Ok(outcome),
        Ok(Err(TransactionFailure::Locked)) => Ok(ClaimOutcome::Nothing),
        Ok(Ok(None) | Err(TransactionFailure::OutOfMemory)) => Ok(ClaimOutcome::Failed(entered.failed(None))),
        Ok(Err(TransactionFailure::Damaged(damage))) => {
            Ok(ClaimOutcome::Failed(entered.failed(Some(damage))))
        }
        Err(error) => {
            entered.give_up();
            Err(error)
        }
    }
}

/// Limits the claim to the rows that the claim table has room for, so that no others are read and locked. `false`:
/// there is no room at all, and the span is given back.
fn fits_table(order: &mut ClaimOrder) -> bool {
    if order.claimable.held_back.is_some() {
        // These rows are in the table already.
        return true;
    }
    let Some(mut shared_state) = shmem::shared_state() else { return false };
    let left = shared_state.claims_left();
    if left == 0 {
        shared_state.enter_claim(order.slot, Some(order.claimable.span), None);
    }
    order.limits.rows = order.limits.rows.min(i64::try_from(left).unwrap_or(i64::MAX));
    left > 0
}
