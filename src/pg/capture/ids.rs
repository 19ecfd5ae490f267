//! Ids of rows of the queue: blocks of the sequence, each of which belongs to one transaction.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::ledger::ID_BLOCK;

// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    /// `commands/sequence.h`, which pgrx does not bind: the next value, optionally without asking for rights.
    fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The ids the current transaction may still hand out.
#[derive(Clone, Copy)]
struct Ids {
    transaction: pg_sys::TransactionId,
    sequence: pg_sys::Oid,
    next: i64,
    end: i64,
}

/// Which command triggers are called for: the one that is counted now, and the one whose snapshot is active.
type Command = (pg_sys::CommandId, Option<pg_sys::CommandId>);

thread_local! {
    static IDS: Cell<Option<Ids>> = const { Cell::new(None) };
    /// Those of versions of objects, with the command they were taken in.
    static FRESH_IDS: Cell<Option<(Command, Ids)>> = const { Cell::new(None) };
}

/// The next id of this transaction. Its blocks are its own: no other transaction has ids between theirs.
pub(in crate::pg) fn next_id(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: a transaction is under way, and it writes.
    let transaction = unsafe { pg_sys::GetTopTransactionId() };
    let ids = match IDS.get() {
        Some(ids) if ids.transaction == transaction && ids.sequence == sequence && ids.next < ids.end => ids,
        _ => next_block(sequence, transaction),
    };
    IDS.set(Some(Ids { next: ids.next + 1, ..ids }));
    ids.next
}

/// An id above those of all versions that other transactions have queued of the rows this one has locked.
///
/// Whoever changes a row has it, or its place in the unique index, to itself until the transaction ends; so it is enough
/// that the block is younger than the locks, which the ids of a transaction's first statement need not be. All rows that
/// a command changes are locked by the time its triggers fire, so those of one command can share a block, if no
/// subtransaction counts up between them, as each does under `warn`. A command within another has a number of its own; but
/// a function in SQL (`executor/functions.c`) counts up before each of its commands and not after the last, so that the
/// outer one, whose rows may not be locked yet, goes on with its number. Their snapshots tell them apart.
pub(super) fn fresh_id(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: a transaction is under way, and it writes. An active snapshot is there to be read.
    let (transaction, command) = unsafe {
        let snapshot = pg_sys::ActiveSnapshotSet().then(|| (*pg_sys::GetActiveSnapshot()).curcid);
        (pg_sys::GetTopTransactionId(), (pg_sys::GetCurrentCommandId(true), snapshot))
    };
    let ids = match FRESH_IDS.get() {
        Some((of, ids))
            if of == command
                && ids.transaction == transaction
                && ids.sequence == sequence
                && ids.next < ids.end =>
        {
            ids
        }
        _ => next_block(sequence, transaction),
    };
    FRESH_IDS.set(Some((command, Ids { next: ids.next + 1, ..ids })));
    ids.next
}

fn next_block(sequence: pg_sys::Oid, transaction: pg_sys::TransactionId) -> Ids {
    // SAFETY: a transaction is under way; the sequence was found by name in the extension's schema. The writer needs no
    // right on it, for it hands out nothing but numbers.
    let block = unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) };
    Ids { transaction, sequence, next: block * ID_BLOCK, end: (block + 1) * ID_BLOCK }
}
