//! Asking Algolia, through a worker.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::delivery::question::{Answer, Question, Reply, Trouble, TroubleKind};
use crate::ledger::Stage;
use crate::mailbox::{Found, BOX_BYTES};
use crate::pg::api::my_database;
use crate::pg::latest::first_row;
use crate::pg::report::{failure, Failure, Outcome};
use crate::pg::{failpoint, shmem};
use crate::record::Fingerprint;

/// Most objects asked for at a time.
const OBJECTS: usize = 1000;
/// A worker that was called is called again after so long; it may have died, or have been about to go.
const CALL_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for a worker to turn up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long Algolia may be out of reach, all in all, before the comparison is given up, and how soon it is asked again.
const OUTAGE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);
/// How soon to look whether a task has been carried out; twice as long each time, up to a second.
const LOOK: Duration = Duration::from_millis(20);
/// How long a task is waited for. Algolia's own clients give up sooner; but a task that was lost is waited for by nobody else.
const INDEXING: Duration = Duration::from_secs(600);

/// A page is too long; the error if it cannot be shorter.
pub(super) struct TooLong(pub(super) Box<Failure>);

/// A session's inquiries about one index.
pub(super) struct Inquiry {
    index_id: i32,
    index: String,
}

/// The name of an index; call it with the owner's rights.
pub(super) fn index_name(index_id: i32) -> Outcome<String> {
    let arguments = [(pg_sys::INT4OID, index_id.into())];
    let query = include_str!("../../../../sql/name_of_index.sql");
    Ok(first_row(query, &arguments, |row| Ok(row.get::<String>(1)))?.flatten().unwrap_or_default())
}

impl Inquiry {
    pub(super) fn new(index_id: i32, index: String) -> Outcome<Inquiry> {
        if !shmem::is_preloaded() {
            return Err(nobody_reads(
                "audit_algolia is not preloaded, so nobody can read what Algolia has",
                "Add audit_algolia to shared_preload_libraries in postgresql.conf and restart the server.",
            ));
        }
        Ok(Inquiry { index_id, index })
    }

    /// How many rows have been queued for the index so far. What is delivered has been counted.
    pub(super) fn enqueued(&self) -> i64 {
        let ledger = shmem::ledger();
        let lane = ledger.as_ref().and_then(|l| l.lane(l.find_lane(my_database(), self.index_id)?));
        lane.map_or(0, |lane| lane.enqueued_total)
    }

    /// The fingerprints of objects, in their order.
    pub(super) fn objects(&self, ids: &[&str]) -> Outcome<Vec<Option<Fingerprint>>> {
        let mut prints = Vec::with_capacity(ids.len());
        for ids in ids.chunks(OBJECTS) {
            self.some_objects(ids, &mut prints)?;
        }
        Ok(prints)
    }

    fn some_objects(&self, ids: &[&str], prints: &mut Vec<Option<Fingerprint>>) -> Outcome<()> {
        let ids_owned = ids.iter().map(|id| (*id).to_owned()).collect();
        let question = Question::Objects { index: self.index.clone(), ids: ids_owned };
        if encoded(&question).len() > BOX_BYTES {
            let (one, other) = ids.split_at(ids.len() / 2);
            if one.is_empty() {
                // An id this long is one that Algolia refuses.
                prints.push(None);
                return Ok(());
            }
            self.some_objects(one, prints)?;
            return self.some_objects(other, prints);
        }
        match self.ask(&question)? {
            Answer::Objects(found) if found.len() == ids.len() => prints.extend(found),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// The ids on a page of the index, and what leads to the next one.
    pub(super) fn page(
        &self,
        (prefix, filters): (&str, Option<&str>),
        cursor: Option<String>,
        size: usize,
    ) -> Outcome<Result<(Vec<String>, Option<String>), TooLong>> {
        let (index, prefix) = (self.index.clone(), prefix.to_owned());
        let question = Question::Page { index, prefix, filters: filters.map(str::to_owned), cursor, size };
        match self.reply(&question)? {
            Ok(Answer::Page { ids, cursor }) => Ok(Ok((ids, cursor))),
            Ok(other) => Err(unexpected(&other)),
            Err(trouble) if trouble.kind == TroubleKind::TooLong => Ok(Err(TooLong(self.explain(trouble)))),
            Err(trouble) => Err(self.explain(trouble)),
        }
    }

    /// Waits until all that has been delivered so far can be found in the index.
    pub(super) fn wait_until_indexed(&self) -> Outcome<()> {
        let task = shmem::ledger().and_then(|ledger| ledger.last_task(my_database(), self.index_id));
        let Some(task) = task else { return Ok(()) };
        let question = Question::Task { index: self.index.clone(), task };
        let patience =
            if failpoint::is_ordered("waiting for a task in vain") { Duration::ZERO } else { INDEXING };
        let (started, mut pause) = (Instant::now(), LOOK);
        loop {
            match self.ask(&question)? {
                Answer::Task { published: true } => return Ok(()),
                Answer::Task { published: false } if started.elapsed() < patience => drop(nap(pause)),
                Answer::Task { published: false } => return Err(self.never_indexed(task)),
                other => return Err(unexpected(&other)),
            }
            pause = (2 * pause).min(CALL_EVERY);
        }
    }

    fn never_indexed(&self, task: i64) -> Box<Failure> {
        let minutes = INDEXING.as_secs() / 60;
        failure(
            PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
            format!("index \"{}\" has not indexed within {minutes} minutes what was delivered", self.index),
            "Call the function again when Algolia has caught up. If it has lost the task, the next record that is delivered \
             to the index brings another.",
        )
        .with_detail(format!("Task {task} is not published. Nothing has been changed."))
    }

    fn ask(&self, question: &Question) -> Outcome<Answer> {
        self.reply(question)?.map_err(|trouble| self.explain(trouble))
    }

    /// Asks until there is an answer, or trouble that does not pass.
    fn reply(&self, question: &Question) -> Outcome<Reply> {
        let (started, mut pause) = (Instant::now(), RETRY);
        loop {
            match ask_once(question)? {
                Err(trouble) if trouble.kind == TroubleKind::Passing && started.elapsed() < OUTAGE => {
                    nap(pause);
                    pause = (2 * pause).min(CALL_EVERY);
                }
                reply => return Ok(reply),
            }
        }
    }

    fn explain(&self, trouble: Trouble) -> Box<Failure> {
        let Trouble { kind, reason, hint } = trouble;
        let message = format!("could not read index \"{}\": {reason}", self.index);
        match kind {
            TroubleKind::Passing => failure(
                PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
                message,
                "Call the function again when Algolia can be reached. Nothing has been changed.",
            ),
            TroubleKind::Rights => failure(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, hint),
            TroubleKind::TooLong | TroubleKind::Refused => {
                failure(PgSqlErrorCode::ERRCODE_SYSTEM_ERROR, message, hint)
            }
            TroubleKind::NotConfigured => nobody_reads(&message, &hint),
        }
    }
}

fn nobody_reads(message: &str, hint: &str) -> Box<Failure> {
    failure(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message, hint)
}

fn unexpected(answer: &Answer) -> Box<Failure> {
    let message = match answer {
        Answer::Objects(_) => "a worker has answered a question with objects that were not asked for",
        Answer::Page { .. } | Answer::Task { .. } => "a worker has answered another question than was asked",
    };
    failure(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        message,
        "Restart the server with the library installed now.",
    )
}

/// What consists of texts and numbers is always JSON.
fn encoded(question: &Question) -> Vec<u8> {
    serde_json::to_vec(question).unwrap_or_default()
}

/// A question in the mailbox; it is closed however its asker fares.
struct Ticket(u64);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mut mailbox) = shmem::mailbox() {
            mailbox.close(self.0);
        }
    }
}

/// Asks once; again only when a worker dies over it.
fn ask_once(question: &Question) -> Outcome<Reply> {
    close_at_exit();
    let question = encoded(question);
    loop {
        if let ControlFlow::Break(answer) = wait_for_answer(&put(&question)?)? {
            return serde_json::from_slice(&answer).map_err(|_| {
                failure(
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    "a worker has answered in another language",
                    "Restart the server with the library installed now.",
                )
            });
        }
    }
}

/// Puts a question into the mailbox, as soon as there is room.
fn put(question: &[u8]) -> Outcome<Ticket> {
    loop {
        // SAFETY: reads what is set when the session begins.
        let pid = unsafe { pg_sys::MyProcPid };
        let ticket = shmem::mailbox()
            .and_then(|mut mailbox| mailbox.ask(my_database(), pid, shmem::my_latch(), question));
        if let Some(ticket) = ticket {
            return Ok(Ticket(ticket));
        }
        // Others ask. There is no queue for boxes, and seldom more askers than those.
        nap(LOOK);
    }
}

/// The whole answer; `Continue`: the question has to be put again.
fn wait_for_answer(ticket: &Ticket) -> Outcome<ControlFlow<Vec<u8>>> {
    let (mut answer, mut served_at, mut calls) = (Vec::new(), Instant::now(), true);
    loop {
        let Some(found) = shmem::mailbox().map(|mut mailbox| mailbox.look(ticket.0, &mut answer)) else {
            return Ok(ControlFlow::Continue(()));
        };
        match found {
            Found::Last => return Ok(ControlFlow::Break(answer)),
            Found::Lost => return Ok(ControlFlow::Continue(())),
            Found::Piece { worker } => {
                let ledger = shmem::ledger();
                let latch = ledger.and_then(|ledger| ledger.workers.get(worker).map(|worker| worker.latch));
                shmem::wake_latch(latch.unwrap_or_default());
                served_at = Instant::now();
            }
            Found::Nothing => served_at = Instant::now(),
            Found::Unread => {
                if calls && call_a_worker() {
                    served_at = Instant::now();
                }
                if served_at.elapsed() > PATIENCE {
                    return Err(nobody_reads(
                        "no worker of audit_algolia serves this database, so nobody can read what Algolia has",
                        "Check audit_algolia.workers and audit_algolia.databases, and that this server is no standby.",
                    ));
                }
            }
        }
        calls = nap(CALL_EVERY);
    }
}

/// Sets the latch of a worker that can take a question; returns whether there is one.
fn call_a_worker() -> bool {
    let latch = shmem::ledger().and_then(|mut ledger| {
        let mut workers = ledger.workers_of(my_database());
        let found = workers.find(|one| one.stage == Stage::Running && !one.leave && !one.retire);
        found.map(|one| one.latch)
    });
    shmem::wake_latch(latch.unwrap_or_default());
    latch.is_some()
}

/// Waits for the latch, so long at most; returns whether the time ran out.
fn nap(at_most: Duration) -> bool {
    // SAFETY: the session's own latch; waiting ends at once when the postmaster dies, and a request to cancel or
    // to end is served right after.
    let events = unsafe {
        let events = pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        events
    };
    pgrx::check_for_interrupts!();
    events & pg_sys::WL_TIMEOUT as i32 != 0
}

thread_local! {
    static REGISTERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A session that is terminated unwinds nothing: its questions are closed when it exits.
fn close_at_exit() {
    if !REGISTERED.replace(true) {
        // SAFETY: a guarded function that lives as long as the library.
        unsafe { pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize)) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: reads what is set when the session begins.
    let pid = unsafe { pg_sys::MyProcPid };
    if let Some(mut mailbox) = shmem::mailbox() {
        mailbox.close_all(pid);
    }
}
