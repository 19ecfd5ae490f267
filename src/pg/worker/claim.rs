//! The short transaction before a delivery: the claim takes the newest rows and makes a batch of them.

mod entries;
mod taking;

use pgrx::prelude::*;

use super::statements::{lock, Statements};
use crate::delivery::batch::Batch;
use crate::pg::process::{in_transaction_unless_hindered, Obstacle};
use crate::pg::{failpoint, shmem};
use crate::shared_state::{Claimable, Durable, Trial};
use entries::ClaimEntries;
pub(super) use entries::Short;
use taking::take;

/// What one request may carry.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: i64,
    pub(super) bytes: usize,
    /// The largest record.
    pub(super) record_bytes: usize,
}

/// What came of a claim.
pub(super) enum ClaimOutcome {
    Batch(Claimed),
    /// Nothing of the span was left to claim.
    Nothing,
    /// All workers together hold as many rows as shared state can keep track of.
    Crowded,
    /// There was no memory for the batch, or rows of it are damaged.
    Short(Short),
    /// The queue is no more: the extension has been dropped.
    Gone,
}

/// A claimed batch. Its rows belong to this worker until they are settled or released.
pub(super) struct Claimed {
    /// Its place among the worker's flights.
    pub(super) flight: usize,
    pub(super) ids: Vec<i64>,
    /// Of each, which object it is a version of.
    pub(super) objects: Vec<Option<String>>,
    pub(super) batch: Batch,
    /// Claimed with the others, and not part of the batch.
    pub(super) unsent: Vec<Unsent>,
    /// How far the log must be on disk before the batch may leave.
    durable: Durable,
}

impl Claimed {
    /// Sees to it that no crash can take back a row of the batch: writers who do not wait for the disk may have queued
    /// some. Where everybody waits, there is nothing left to do. To be called after the claiming transaction.
    pub(super) fn make_durable(&self) {
        // SAFETY: waits for the log, outside of a transaction, up to the end of a commit that it holds. Our own, of the
        // claim, comes after those of all rows that it has seen.
        unsafe {
            pg_sys::XLogFlush(match self.durable {
                Durable::Until(place) => place,
                Durable::All => pg_sys::XactLastCommitEnd,
            });
        }
    }
}

/// A record that is not sent.
pub(super) struct Unsent {
    pub(super) id: i64,
    pub(super) object_id: Option<String>,
    /// Which object it is a version of.
    pub(super) object: Option<String>,
    pub(super) why: Why,
}

/// Why a record is not sent.
#[derive(Clone)]
pub(super) enum Why {
    /// It is too large: its bytes, as Algolia measures it.
    TooLarge(usize),
    /// So often the server has crashed while this record alone was on its way.
    Crashes(u32),
    /// It is damaged, and cannot be read: what the server says of that.
    Damaged(String),
}

/// Claims rows of the span shared state has handed out. The claim is in shared state before the claiming transaction
/// ends, so that no other worker can lock the rows before it could know that they are taken; and each row is
/// checked against shared state after it was locked, for it may have been taken before.
///
/// Of a version of an object it is the object that is claimed. Which version is the newest is read only then: until this
/// batch has landed nobody else delivers or deletes one.
///
/// Records are read last, when it is known which of them the batch has room for.
pub(super) fn claim(
    slot: usize,
    lane: usize,
    index_id: i32,
    claimable: Claimable,
    statements: &Statements,
    limits: Limits,
    trial: Option<Trial>,
) -> spi::Result<ClaimOutcome> {
    failpoint::reach("before claim");
    let Some(limits) = bounded(slot, claimable, limits) else { return Ok(ClaimOutcome::Crowded) };
    let mut entered = ClaimEntries::new(slot, lane, trial);
    let caught = in_transaction_unless_hindered(|| {
        if !lock(statements.queue) {
            return Ok(Some(ClaimOutcome::Gone));
        }
        Spi::connect_mut(|client| take(client, index_id, claimable, statements, limits, &mut entered))
    });
    failpoint::reach("after claim");
    match caught {
        Ok(Ok(Some(catch))) => Ok(catch),
        Ok(Err(Obstacle::Locked)) => Ok(ClaimOutcome::Nothing),
        Ok(Ok(None) | Err(Obstacle::Short)) => Ok(ClaimOutcome::Short(entered.short(None))),
        Ok(Err(Obstacle::Damaged(damage))) => Ok(ClaimOutcome::Short(entered.short(Some(damage)))),
        Err(error) => {
            entered.give_up();
            Err(error)
        }
    }
}

/// Rows that could not be claimed are not to be read and locked. `None`: not a single one could; the span is given back.
fn bounded(slot: usize, claimable: Claimable, limits: Limits) -> Option<Limits> {
    if claimable.apart.is_some() {
        // Their rows are in the table already.
        return Some(limits);
    }
    let mut shared_state = shmem::shared_state()?;
    let left = shared_state.claims_left();
    if left == 0 {
        shared_state.claimed(slot, Some(claimable.span), None);
        return None;
    }
    Some(Limits { rows: limits.rows.min(i64::try_from(left).unwrap_or(i64::MAX)), ..limits })
}
