//! The counter: a short-lived process that counts the queue of one database and corrects the counters, while others
//! write and deliver.
//!
//! It takes its snapshot and copies the counters in one moment, under shared state's lock. Later commits are in
//! neither. Commits that are visible and not yet counted are known by their announcements. So the difference between
//! the count and the counters of that moment is exactly the error, and can be added at any time.
//!
//! Counting millions of rows takes seconds, and a session that wants the table to itself, as `DROP EXTENSION` does,
//! must not wait that long. So rows are read in parts, and between two parts the counter gives way.

use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::clock::now;
use super::connection::connect;
use super::locks::is_lockable;
use super::owner::table;
use super::process::{self, RoundMemory};
use super::{failpoint, shmem};
use crate::shared_state::Count;

thread_local! {
    static DATABASE: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// The entry point of the counter.
///
/// # Safety
/// Only PostgreSQL's background worker machinery may call it.
#[no_mangle]
#[pg_guard]
pub unsafe extern "C-unwind" fn audit_algolia_counter_main(argument: pg_sys::Datum) {
    process::obey_signals();
    let database = argument.value() as u32;
    let leave = shmem::shared_state().is_none_or(|mut shared_state| {
        // SAFETY: set at the start of every process.
        let pid = unsafe { pg_sys::MyProcPid };
        let entry = shared_state.database_mut(database);
        entry.is_none_or(|entry| {
            entry.counter = pid;
            entry.is_vacated(now())
        })
    });
    DATABASE.set(Some(database));
    // SAFETY: a guarded function that lives as long as the library.
    unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
    if leave {
        return;
    }
    connect(Some(database), &[]);
    process::report_activity(true, "counting the queue");
    // Each table is counted under its own snapshot and lock. A DROP EXTENSION locks the tables in another order, so
    // locking several could deadlock.
    if RoundMemory::new()
        .round(|| [QUEUE, DEAD_LETTERS, REPAIRS].iter().all(|subject| count(database, subject)))
    {
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.counted(database);
        }
        DATABASE.set(None);
        end(database, false);
    }
}

/// If the count was not finished, it is requested again.
#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
    shmem::release_locks();
    if let Some(database) = DATABASE.take() {
        end(database, true);
    }
}

fn end(database: u32, again: bool) {
    shmem::change_and_wake(|shared_state| shared_state.counter_ended(database, again, now()));
}

/// How many rows are read before checking for lock waiters.
const PART: i64 = 10_000;

/// One of the tables that are counted.
struct CountedTable {
    table: &'static CStr,
    query: &'static str,
    /// The part of a counter or announcement that concerns this table.
    part: fn(Count) -> i64,
    /// The inverse.
    count: fn(i64) -> Count,
}

const QUEUE: CountedTable = CountedTable {
    table: c"queue",
    query: include_str!("../../sql/counts/count.sql"),
    part: |count| count.queued,
    count: |queued| Count { queued, ..Count::default() },
};

const DEAD_LETTERS: CountedTable = CountedTable {
    table: c"dead_letter",
    query: include_str!("../../sql/counts/count_dead.sql"),
    part: |count| count.dead,
    count: |dead| Count { dead, ..Count::default() },
};

const REPAIRS: CountedTable = CountedTable {
    table: c"repair",
    query: include_str!("../../sql/counts/count_repairs.sql"),
    part: |count| count.repairs,
    count: |repairs| Count { repairs, ..Count::default() },
};

/// Counts a table. `false`: it failed or gave way to others, and must be repeated.
fn count(database: u32, subject: &CountedTable) -> bool {
    // SAFETY: our own transaction, which keeps its snapshot to the end.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::XactIsoLevel = pg_sys::XACT_REPEATABLE_READ as i32;
    }
    let oid = table(subject.table);
    let mut done = true;
    failpoint::reach("in count");
    if process::wait_for_table(oid, pg_sys::AccessShareLock) {
        let before = expected(database, subject);
        match (count_rows(subject), shmem::shared_state()) {
            (Ok(Some(counted)), Some(mut shared_state)) => {
                shared_state.correct_counts(database, &before, &counted)
            }
            _ => done = false,
        }
    }
    // SAFETY: ends the transaction started above.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::CommitTransactionCommand();
        pg_sys::pgstat_report_stat(true);
    }
    done
}

/// The result that the count would have if the counters were right: the counters, plus changes that the snapshot shows
/// but the counters do not include yet. The transaction's snapshot is taken at the same moment.
fn expected(database: u32, subject: &CountedTable) -> HashMap<i32, Count> {
    let Some(shared_state) = shmem::shared_state() else {
        return HashMap::new();
    };
    // SAFETY: a repeatable-read transaction has a single snapshot. Taking it waits for no lock of ours.
    let snapshot = unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::GetActiveSnapshot()
    };
    let mut expected: HashMap<i32, i64> = shared_state
        .lanes_of(database)
        .filter_map(|(place, index)| Some((index, (subject.part)(shared_state.lane(place)?.count()))))
        .collect();
    for announcement in shared_state.announced(shared_state.announcements(), database) {
        let xid = pg_sys::TransactionId::from(announcement.xid);
        // SAFETY: reads the snapshot and the commit log.
        let is_visible =
            unsafe { !pg_sys::XidInMVCCSnapshot(xid, snapshot) && pg_sys::TransactionIdDidCommit(xid) };
        if is_visible {
            *expected.entry(announcement.index_id).or_default() += (subject.part)(announcement.count);
        }
    }
    expected.into_iter().map(|(index, rows)| (index, (subject.count)(rows))).collect()
}

/// The number of rows of each index; `None` if somebody else wants the table.
fn count_rows(subject: &CountedTable) -> spi::Result<Option<HashMap<i32, Count>>> {
    let cursor = Spi::connect(|client| {
        Ok::<_, spi::Error>(client.try_open_cursor(subject.query, &[])?.detach_into_name())
    })?;
    let mut counted: HashMap<i32, i64> = HashMap::new();
    loop {
        // Each part has its own SPI connection, whose end frees its rows.
        let read = Spi::connect(|client| {
            let mut cursor = client.find_cursor(&cursor)?;
            let rows = cursor.fetch(PART)?;
            let read = rows.len() as i64;
            for row in rows {
                if let Some(index) = row.get(1)? {
                    *counted.entry(index).or_default() += 1;
                }
            }
            cursor.detach_into_name();
            Ok::<_, spi::Error>(read)
        })?;
        failpoint::reach("in the middle of a count");
        if read < PART {
            break;
        }
        if is_wanted(subject.table) {
            return Ok(None);
        }
    }
    Ok(Some(counted.into_iter().map(|(index, rows)| (index, (subject.count)(rows))).collect()))
}

/// Whether somebody waits for a lock on the table that conflicts with ours.
///
/// This requests, without waiting, another kind of lock that conflicts with theirs: a lock request queues behind
/// earlier waiters. (The server's `LockHasWaiters` is not made for a lock as weak as ours, which may be missing from
/// the lock table that it searches.)
fn is_wanted(name: &CStr) -> bool {
    // Our lock on the table stays, so the oid keeps its meaning.
    !is_lockable(table(name), pg_sys::RowShareLock)
}
