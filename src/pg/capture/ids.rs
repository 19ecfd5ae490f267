//! Ids of queue rows: blocks of the sequence, each of which belongs to one transaction.

use std::cell::Cell;

use pgrx::prelude::*;
use pgrx::{direct_function_call, pg_sys};

use crate::pg::databases::my_database;
use crate::pg::owner::{as_role, ExtensionObjects};
use crate::pg::shmem;
use crate::record::EPOCH_2000_MILLIS;
use crate::shared_state::{TakenBlock, ID_BLOCK, REFILL_AT, RESERVED_BLOCKS};

/// The object sub-id of a sequence that is locked while blocks are reserved. Its real sub-ids, those of its columns,
/// are lower.
const RESERVING: u16 = u16::MAX;

// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    /// `commands/sequence.h`, which pgrx does not bind: the next value, optionally without a check of privileges.
    fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The ids that the current transaction may still use.
#[derive(Clone, Copy)]
struct IdBlock {
    transaction: pg_sys::TransactionId,
    sequence: pg_sys::Oid,
    next: i64,
    end: i64,
}

/// The command that triggers are called for: the current command id, and that of the active snapshot.
type Command = (pg_sys::CommandId, Option<pg_sys::CommandId>);

thread_local! {
    static IDS: Cell<Option<IdBlock>> = const { Cell::new(None) };
    /// The ids for versions of objects, with the command in which they were taken.
    static FRESH_IDS: Cell<Option<(Command, IdBlock)>> = const { Cell::new(None) };
    /// The last block of history that this process has taken, and its sequence.
    static HISTORIC: Cell<Option<(pg_sys::Oid, i64)>> = const { Cell::new(None) };
}

/// The next id of this transaction. A block belongs to one transaction: no other has ids within it.
pub(in crate::pg) fn next_id(objects: &ExtensionObjects) -> i64 {
    next_of(objects.block_sequence, || next_block(objects))
}

/// The same for history, whose blocks come from another sequence.
pub(super) fn next_historic(objects: &ExtensionObjects, sequence: pg_sys::Oid) -> i64 {
    next_of(sequence, || next_historic_block(objects, sequence))
}

fn next_of(sequence: pg_sys::Oid, block: impl FnOnce() -> i64) -> i64 {
    // SAFETY: within a transaction that writes.
    let transaction = unsafe { pg_sys::GetTopTransactionId() };
    let ids = match IDS.get() {
        Some(ids) if ids.transaction == transaction && ids.sequence == sequence && ids.next < ids.end => ids,
        _ => IdBlock::of(block(), sequence, transaction),
    };
    IDS.set(Some(IdBlock { next: ids.next + 1, ..ids }));
    ids.next
}

/// An id that is higher than those of all versions that other transactions have queued for the rows this transaction
/// has locked.
///
/// A transaction that changes a row holds it, or its entry in the unique index, until it ends. So it is enough that the
/// block was taken after the rows were locked, which need not be true of the transaction's first block. All rows that a
/// command changes are locked before its triggers fire, so the versions of one command can share a block, unless a
/// subtransaction in between increments the command counter, as each does under `warn`. A nested command has a command
/// id of its own. There is one exception: a function in SQL (`executor/functions.c`) increments the counter before each
/// of its commands and not after the last one. After such a function, the outer command has the same command id as the
/// function's last command, though its own rows may not be locked yet. So the command is identified by command id and
/// snapshot.
pub(super) fn fresh_id(objects: &ExtensionObjects) -> i64 {
    let sequence = objects.block_sequence;
    // SAFETY: within a transaction that writes. The snapshot is only read if it exists.
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
        _ => IdBlock::of(next_block(objects), sequence, transaction),
    };
    FRESH_IDS.set(Some((command, IdBlock { next: ids.next + 1, ..ids })));
    ids.next
}

/// The next block of the queue's sequence. `nextval` would change what the writer's `lastval()` returns. So blocks are
/// reserved by `setval`, which does not (`do_setval` in `commands/sequence.c`), and taken from the reserve. Only if the
/// library was not preloaded is there no reserve.
fn next_block(objects: &ExtensionObjects) -> i64 {
    reserved_block(objects).unwrap_or_else(|| next_value(objects.block_sequence))
}

fn reserved_block(objects: &ExtensionObjects) -> Option<i64> {
    let reserves = shmem::reserves()?;
    let (database, sequence) = (my_database(), objects.block_sequence);
    let take = || reserves.take_block(database, sequence.to_u32());
    let taken = take();
    match taken {
        Some(TakenBlock { block, left }) if left != REFILL_AT => return Some(block),
        _ => (),
    }
    let lock = pg_sys::ExclusiveLock as i32;
    // SAFETY: within a transaction. The locked sub-id is used for nothing else. The lock is released below, or by the
    // abort after an error.
    unsafe { pg_sys::LockDatabaseObject(pg_sys::RelationRelationId, sequence, RESERVING, lock) };
    let refill = || {
        let has_room = reserves.make_room(database, sequence.to_u32());
        let unused = reserves.end_of(database, sequence.to_u32());
        let count = if has_room { RESERVED_BLOCKS } else { 1 };
        let last = as_role(objects.owner, || advance(sequence, unused - 1, count));
        // The first block is ours, so that others cannot take all of them.
        reserves.put(database, sequence.to_u32(), &(last + 2..last + 1 + count));
        last + 1
    };
    let block = match taken {
        // Others continue to take what is left.
        Some(TakenBlock { block, .. }) => {
            refill();
            block
        }
        // The previous holder of the lock may have reserved blocks.
        None => take().map_or_else(refill, |taken| taken.block),
    };
    // SAFETY: releases the lock taken above.
    unsafe { pg_sys::UnlockDatabaseObject(pg_sys::RelationRelationId, sequence, RESERVING, lock) };
    Some(block)
}

/// Advances a sequence by `count`, and returns the value that counts as the last one used before. Only the sequence's
/// owner may do this.
///
/// The sequence must be neither behind the clock nor behind `used`, the last value known to have been used. Restoring a
/// dump resets the sequence, although rows may have been captured since the dump: later changes must not get the same
/// or lower ids. Databases made from one template also have the same sequence, and their changes should not get the
/// same numbers.
fn advance(sequence: pg_sys::Oid, used: i64, count: i64) -> i64 {
    // SAFETY: a server function that takes a sequence. An unused sequence has no last value.
    let last =
        unsafe { direct_function_call::<i64>(pg_sys::pg_sequence_last_value, &[sequence.into_datum()]) };
    let last = last.unwrap_or(0).max(clock_block()).max(used);
    set_value(sequence, last + count);
    last
}

/// The next block of history. Only one process at a time takes one. As explained at [`advance`], the sequence must not
/// be behind the blocks that were used, but may have been reset. This process knows its own blocks, and those of other
/// processes are behind the clock, because a block lasts longer than a millisecond. Otherwise blocks are consecutive,
/// so that the ids of many steps form one span.
fn next_historic_block(objects: &ExtensionObjects, sequence: pg_sys::Oid) -> i64 {
    let used = match HISTORIC.get() {
        Some((of, last)) if of == sequence => last,
        _ => clock_block(),
    };
    let mut block = next_value(sequence);
    if block <= used {
        block = used + 1;
        as_role(objects.owner, || set_value(sequence, block));
    }
    HISTORIC.set(Some((sequence, block)));
    block
}

/// The block that corresponds to the current time.
fn clock_block() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() / 1000 + EPOCH_2000_MILLIS }
}

fn set_value(sequence: pg_sys::Oid, value: i64) {
    // SAFETY: a server function that takes a sequence and a number, within a transaction.
    unsafe {
        direct_function_call::<i64>(pg_sys::setval_oid, &[sequence.into_datum(), value.into_datum()]);
    }
}

fn next_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: within a transaction. The sequence was found by name in the extension's schema. The writer needs no
    // privilege on it, because this returns only numbers.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) }
}

impl IdBlock {
    fn of(block: i64, sequence: pg_sys::Oid, transaction: pg_sys::TransactionId) -> IdBlock {
        IdBlock { transaction, sequence, next: block * ID_BLOCK, end: (block + 1) * ID_BLOCK }
    }
}
