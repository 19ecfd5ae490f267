//! Alerts: the commit of a record that alerts sends NOTIFY with index, objectID and source.
//!
//! PostgreSQL fails a transaction that has notified when it is prepared, when the notification queue is full, and when
//! `lock_timeout` passes while its commit waits for that queue's lock. None of this may fail a writer. So alerts are kept
//! here until the transaction commits. Alerts of a prepared transaction are stored in a table, and a worker sends them
//! after COMMIT PREPARED.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::direct_function_call;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::encoding::utf8;
use super::failpoint;
use super::owner::table;
use super::report::sql_error;
use crate::alerts::{AlertOrigin, PendingAlerts, CHANNEL};

/// Alerts are sent only while at most this share of the notification queue is used. The rest is for transactions that
/// commit at the same time, so that the queue is not full once this commit has its lock.
const MAX_QUEUE_USAGE: f64 = 0.5;
/// The queue's pages before PostgreSQL 17, and the default of `max_notify_queue_pages` since then.
const QUEUE_PAGES: f64 = 1_048_576.0;
/// Bytes of a notification in the queue beside its payload, rounded up.
const OVERHEAD: usize = 64;
/// The interval at which a session warns that notifications are omitted.
const WARN_EVERY: Duration = Duration::from_secs(60);

thread_local! {
    static PENDING: RefCell<PendingAlerts> = RefCell::new(PendingAlerts::default());
    /// The session's `lock_timeout`, while a commit that notifies has disabled it.
    static LOCK_TIMEOUT: Cell<Option<i32>> = const { Cell::new(None) };
    static WARNED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The current subtransaction has made a record that alerts. The caller also queues it, which registers the callbacks at
/// the end of the transaction.
pub(super) fn note(index: &str, watched: pg_sys::Oid, record: &[u8]) {
    let origin = AlertOrigin { index: index.to_owned(), source: qualified_name(watched) };
    // SAFETY: reads the state of the current transaction. There is one, because a row is being captured.
    let mine = unsafe { pg_sys::GetCurrentSubTransactionId() };
    PENDING.with_borrow_mut(|pending| pending.add(mine, &origin, record));
}

/// The current transaction will send an alert that was stored.
pub(super) fn note_stored(payload: String) {
    PENDING.with_borrow_mut(|pending| pending.add_payload(payload));
}

/// The current name of a table, qualified and quoted.
fn qualified_name(table: pg_sys::Oid) -> String {
    // SAFETY: looks up the catalogs, inside a transaction. Names are C strings in the current context, or null if the
    // object has been dropped.
    unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
        let name = pg_sys::get_rel_name(table);
        if schema.is_null() || name.is_null() {
            return table.to_u32().to_string();
        }
        let qualified = pg_sys::quote_qualified_identifier(schema, name);
        utf8(CStr::from_ptr(qualified).to_bytes()).into_owned()
    }
}

/// A subtransaction has committed into its parent.
pub(super) fn commit_subtransaction(mine: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId) {
    PENDING.with_borrow_mut(|pending| pending.commit_subtransaction(mine, parent));
}

/// A subtransaction has been rolled back.
pub(super) fn abort_subtransaction(mine: pg_sys::SubTransactionId) {
    PENDING.with_borrow_mut(|pending| pending.abort_subtransaction(mine));
}

/// The current transaction is about to commit. Its commit sends what is notified now.
pub(super) fn before_commit() {
    let pending = PENDING.take();
    if pending.is_empty() {
        return;
    }
    let payloads = pending.into_payloads();
    if !has_room(&payloads) {
        return warn_of_full_queue();
    }
    for payload in &payloads {
        notify(payload);
    }
    // SAFETY: a variable of this process. `at_end` restores it.
    unsafe {
        LOCK_TIMEOUT.set(Some(pg_sys::LockTimeout));
        pg_sys::LockTimeout = 0;
    }
}

/// The current transaction has ended.
pub(super) fn at_end() {
    if let Some(timeout) = LOCK_TIMEOUT.take() {
        // SAFETY: a variable of this process.
        unsafe { pg_sys::LockTimeout = timeout };
    }
    PENDING.with_borrow_mut(|pending| {
        if !pending.is_empty() {
            *pending = PendingAlerts::default();
        }
    });
}

fn notify(payload: &str) {
    // SAFETY: the server's own function, with two texts.
    unsafe { direct_function_call::<()>(pg_sys::pg_notify, &[CHANNEL.into_datum(), payload.into_datum()]) };
}

/// Whether the notification queue has room for these payloads, and for others that are sent at the same time.
pub(super) fn has_room(payloads: &[String]) -> bool {
    // SAFETY: the server's own function, without arguments, and a setting that older versions lack.
    let (used, pages) = unsafe {
        let used = direct_function_call::<f64>(pg_sys::pg_notification_queue_usage, &[]);
        let pages = pg_sys::GetConfigOption(c"max_notify_queue_pages".as_ptr(), true, false);
        let pages = (!pages.is_null()).then(|| CStr::from_ptr(pages).to_str().ok()?.parse().ok()).flatten();
        (used.unwrap_or(1.0), pages.unwrap_or(QUEUE_PAGES))
    };
    // A notification that does not fit into the rest of a page starts the next page.
    let bytes: usize = payloads.iter().map(|payload| 2 * (payload.len() + OVERHEAD)).sum();
    let needed = bytes as f64 / f64::from(pg_sys::BLCKSZ);
    used * pages + needed <= MAX_QUEUE_USAGE * pages && !failpoint::is_ordered("notification queue is full")
}

fn warn_of_full_queue() {
    if WARNED_AT.get().is_some_and(|at| at.elapsed() < WARN_EVERY) {
        return;
    }
    WARNED_AT.set(Some(Instant::now()));
    sql_error(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("channel \"{CHANNEL}\" is not notified: there is too little room in the notification queue"),
        "Records that alert are delivered all the same. A session that listens and stays in a transaction keeps the queue from being emptied; see pg_notification_queue_usage().",
    )
    .warn();
}

/// The current transaction is about to be prepared. Stores its alerts, for a worker to send after COMMIT PREPARED. Returns
/// whether there are any.
pub(super) fn before_prepare() -> bool {
    let pending = PENDING.take();
    let prepared = table(c"prepared_alert");
    if pending.is_empty() || prepared == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: the table is open and locked while it is written; after an error, the abort closes it. Its only column is the
    // payload, a text.
    unsafe {
        let relation = pg_sys::table_open(prepared, pg_sys::RowExclusiveLock as i32);
        let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
        for payload in pending.into_payloads() {
            pg_sys::ExecStoreAllNullTuple(slot);
            *(*slot).tts_values = payload.into_datum().unwrap_or(pg_sys::Datum::null());
            *(*slot).tts_isnull = false;
            pg_sys::simple_table_tuple_insert(relation, slot);
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
    true
}
