//! Takes the snapshot boundary, which tells history from captured rows by the transactions that have ended at this
//! moment.

use pgrx::pg_sys;

use crate::backfill::SnapshotBoundary;
use crate::pg::latest_snapshot::{all_rows, oids};
use crate::pg::partitions::leaves;
use crate::pg::report::SqlResult;

/// Whether the current transaction's own rows have been captured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::pg) enum OwnRows {
    /// Rows that it may have written so far have not been captured.
    Uncaptured,
    /// All its rows are captured.
    Captured,
}

impl OwnRows {
    /// For a source that is watched already and whose rules the transaction `rules` has written: if that is the current
    /// (sub)transaction, its rows from before the watch are not captured.
    pub(in crate::pg) fn since(rules: u32) -> OwnRows {
        // SAFETY: reads the state of the session.
        match unsafe { pg_sys::TransactionIdIsCurrentTransactionId(pg_sys::TransactionId::from(rules)) } {
            true => OwnRows::Uncaptured,
            false => OwnRows::Captured,
        }
    }
}

/// The next transaction to begin.
pub(in crate::pg) fn next_transaction() -> i64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::ReadNextFullTransactionId().value as i64 }
}

/// Identifies this cluster.
pub(in crate::pg) fn cluster() -> i64 {
    // SAFETY: set when the server starts.
    unsafe { pg_sys::GetSystemIdentifier() as i64 }
}

/// The current (sub)transaction, which is about to write the rules of a source.
pub(in crate::pg) fn this_transaction() -> u32 {
    // SAFETY: within a transaction that is about to write.
    unsafe { pg_sys::GetCurrentTransactionId() }.into_inner()
}

/// Takes the snapshot boundary of a table. `rules` is the transaction that wrote its rules. No transaction in progress
/// may have written to the table without being captured: either the caller has locked the table against writers, or the
/// table has its triggers.
pub(in crate::pg) fn take(table: pg_sys::Oid, rules: u32, own: OwnRows) -> SqlResult<SnapshotBoundary> {
    let files = files_of(table)?;
    let is_captured = own == OwnRows::Captured || !files.iter().any(|(oid, _)| may_hold_own_rows(*oid));
    // SAFETY: a new snapshot, read at once. Its arrays have the lengths that it says.
    let (first_unended, mut running) = unsafe {
        let snapshot = &*pg_sys::GetLatestSnapshot();
        let mut running: Vec<u32> = Vec::new();
        if snapshot.xcnt > 0 {
            let xip = std::slice::from_raw_parts(snapshot.xip, snapshot.xcnt as usize);
            running.extend(xip.iter().map(|xid| xid.into_inner()));
        }
        if snapshot.subxcnt > 0 && !snapshot.suboverflowed {
            let subxip = std::slice::from_raw_parts(snapshot.subxip, snapshot.subxcnt as usize);
            running.extend(subxip.iter().map(|xid| xid.into_inner()));
        }
        (snapshot.xmax.into_inner(), running)
    };
    let next = next_transaction();
    let widen = |xid: u32| next - i64::from((next as u32).wrapping_sub(xid));
    // The list does not contain the transactions after the last one that has ended.
    running.extend((widen(first_unended)..next).map(|xid| xid as u32));
    // SAFETY: reads the state of the session.
    running.retain(|xid| unsafe {
        !pg_sys::TransactionIdIsCurrentTransactionId(pg_sys::TransactionId::from(*xid))
    });
    // SAFETY: as above.
    let (own, innermost, command) = unsafe {
        (
            pg_sys::GetTopTransactionIdIfAny().into_inner(),
            pg_sys::GetCurrentTransactionIdIfAny().into_inner(),
            pg_sys::GetCurrentCommandId(false),
        )
    };
    let mut watching = None;
    if is_captured {
        running.extend([own, innermost]);
    } else if own != 0 {
        watching = Some((widen(own), command));
    }
    let mut running: Vec<i64> = running.into_iter().filter(|xid| *xid >= 3).map(widen).collect();
    running.sort_unstable();
    running.dedup();
    Ok(SnapshotBoundary { cluster: cluster(), rules, next, own: watching, running, files })
}

/// The table or its partitions or chunks, with their files.
fn files_of(table: pg_sys::Oid) -> SqlResult<Vec<(u32, u32)>> {
    let found =
        all_rows(include_str!("../../../sql/backfill/files_of.sql"), &[oids(&leaves(table)?)], |row| {
            Some((row.get::<pg_sys::Oid>(1)?.to_u32(), row.get::<pg_sys::Oid>(2)?.to_u32()))
        })?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether the current transaction may have written rows to a table: it has locked the table as writers do, or has
/// created it and it is not empty.
fn may_hold_own_rows(table: u32) -> bool {
    // SAFETY: the table was found in the catalogs a moment ago. If it is gone, nothing happens.
    unsafe {
        let relation = pg_sys::try_relation_open(pg_sys::Oid::from(table), pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let writes = pg_sys::CheckRelationLockedByMe(relation, pg_sys::RowExclusiveLock as i32, false);
        let made = (*relation).rd_createSubid != 0
            && pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) > 0;
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        writes || made
    }
}
