//! Ids of queue rows: blocks of the sequence, each of which belongs to one transaction.

use std::cell::Cell;

use pgrx::prelude::*;
use pgrx::{direct_function_call, pg_sys};

use crate::pg::databases::my_database;
use crate::pg::owner::{as_role, ExtensionObjects};
use crate::pg::shmem;
use crate::record::EPOCH_2000_MILLIS;
use crate::shared_state::{TakenBlock, ID_BLOCK, REFILL_AT, RESERVED_BLOCKS};

/// Which part of the sequence is locked by whoever puts blocks in reserve. A sequence's real parts, its columns, are fewer.
const RESERVING: u16 = u16::MAX;

// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    /// `commands/sequence.h`, which pgrx does not bind: the next value, optionally without asking for rights.
    fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The ids the current transaction may still hand out.
#[derive(Clone, Copy)]
struct IdBlock {
    transaction: pg_sys::TransactionId,
    sequence: pg_sys::Oid,
    next: i64,
    end: i64,
}

/// Which command triggers are called for: the one that is counted now, and the one whose snapshot is active.
type Command = (pg_sys::CommandId, Option<pg_sys::CommandId>);

thread_local! {
    static IDS: Cell<Option<IdBlock>> = const { Cell::new(None) };
    /// Those of versions of objects, with the command they were taken in.
    static FRESH_IDS: Cell<Option<(Command, IdBlock)>> = const { Cell::new(None) };
    /// The last block of history's that this process has taken, and of which sequence.
    static HISTORIC: Cell<Option<(pg_sys::Oid, i64)>> = const { Cell::new(None) };
}

/// The next id of this transaction. Its blocks are its own: no other transaction has ids between theirs.
pub(in crate::pg) fn next_id(objects: &ExtensionObjects) -> i64 {
    next_of(objects.block_sequence, || next_block(objects))
}

/// The same for history, whose blocks are of a sequence of its own.
pub(super) fn next_historic(objects: &ExtensionObjects, sequence: pg_sys::Oid) -> i64 {
    next_of(sequence, || next_historic_block(objects, sequence))
}

fn next_of(sequence: pg_sys::Oid, block: impl FnOnce() -> i64) -> i64 {
    // SAFETY: a transaction is under way, and it writes.
    let transaction = unsafe { pg_sys::GetTopTransactionId() };
    let ids = match IDS.get() {
        Some(ids) if ids.transaction == transaction && ids.sequence == sequence && ids.next < ids.end => ids,
        _ => IdBlock::of(block(), sequence, transaction),
    };
    IDS.set(Some(IdBlock { next: ids.next + 1, ..ids }));
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
pub(super) fn fresh_id(objects: &ExtensionObjects) -> i64 {
    let sequence = objects.block_sequence;
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
        _ => IdBlock::of(next_block(objects), sequence, transaction),
    };
    FRESH_IDS.set(Some((command, IdBlock { next: ids.next + 1, ..ids })));
    ids.next
}

/// The next block of the queue's sequence. To take it by `nextval` would be seen: the writer's `lastval()` would tell of
/// it. So blocks are put in reserve by `setval`, which tells nobody (`do_setval` in `commands/sequence.c`), and taken from
/// there; only where the library was not preloaded is there no such place.
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
    // SAFETY: a transaction is under way. The lock is on a part of the sequence that nothing else names, and is given back
    // below, or by the abort after an error.
    unsafe { pg_sys::LockDatabaseObject(pg_sys::RelationRelationId, sequence, RESERVING, lock) };
    let refill = || {
        let has_room = reserves.make_room(database, sequence.to_u32());
        let unused = reserves.end_of(database, sequence.to_u32());
        let count = if has_room { RESERVED_BLOCKS } else { 1 };
        let last = as_role(objects.owner, || advance(sequence, unused - 1, count));
        // The first is ours: others could take all of them before we do.
        reserves.put(database, sequence.to_u32(), &(last + 2..last + 1 + count));
        last + 1
    };
    let block = match taken {
        // Others go on taking what is left meanwhile.
        Some(TakenBlock { block, .. }) => {
            refill();
            block
        }
        // Whoever had the lock before may have put blocks in reserve.
        None => take().map_or_else(refill, |taken| taken.block),
    };
    // SAFETY: the counterpart of the above.
    unsafe { pg_sys::UnlockDatabaseObject(pg_sys::RelationRelationId, sequence, RESERVING, lock) };
    Some(block)
}

/// Sets a sequence ahead by `count`; returns the value that counts as the last it has handed out. For its owner, who alone
/// may.
///
/// It is never behind the clock, nor behind `used`, the last value known to have been used. Restoring a dump sets the sequence
/// back to where it was when the dump was made, though rows may have been captured meanwhile: later changes must not have the
/// same ids or lower ones. And databases made from one template have the same sequence, but they should not number their
/// changes alike.
fn advance(sequence: pg_sys::Oid, used: i64, count: i64) -> i64 {
    // SAFETY: a function of the server's that takes a sequence. One that has not been used has no last value.
    let last =
        unsafe { direct_function_call::<i64>(pg_sys::pg_sequence_last_value, &[sequence.into_datum()]) };
    let last = last.unwrap_or(0).max(clock_block()).max(used);
    set_value(sequence, last + count);
    last
}

/// The next block of history's, which one process at a time takes. For the reasons that [`advance`] has, the sequence must not
/// be behind the blocks that have been used, though it may have been set back: this process knows its own, and those of
/// others are behind the clock, as a block lasts for longer than a millisecond. But for that, blocks follow each other, so
/// that the ids of many steps make one span.
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

/// The block that sequences are at if they keep up with the clock.
fn clock_block() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() / 1000 + EPOCH_2000_MILLIS }
}

fn set_value(sequence: pg_sys::Oid, value: i64) {
    // SAFETY: a function of the server's that takes a sequence and a number, inside a transaction.
    unsafe {
        direct_function_call::<i64>(pg_sys::setval_oid, &[sequence.into_datum(), value.into_datum()]);
    }
}

fn next_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: a transaction is under way; the sequence was found by name in the extension's schema. The writer needs no
    // right on it, for it hands out nothing but numbers.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) }
}

impl IdBlock {
    fn of(block: i64, sequence: pg_sys::Oid, transaction: pg_sys::TransactionId) -> IdBlock {
        IdBlock { transaction, sequence, next: block * ID_BLOCK, end: (block + 1) * ID_BLOCK }
    }
}
