//! A question's way through the mailbox, and the answer's way back.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::nobody_reads;
use crate::delivery::question::{Question, Reply};
use crate::mailbox::Found;
use crate::pg::api::my_database;
use crate::pg::report::{failure, Failure, Outcome};
use crate::pg::shmem;
use crate::shared_state::{Stage, Wakes};

/// Workers that were called are called again after so long; they may have died, or have been about to go.
const CALL_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for a worker to turn up, and for a turn before that is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon to look whether there is room for a question; twice as long each time, up to the other.
const LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_millis(200);

/// What consists of texts and numbers is always JSON.
pub(super) fn encoded(question: &Question) -> Vec<u8> {
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

/// What a session remembers of the questions it has put.
#[derive(Default)]
pub(super) struct Post {
    /// It has been said that there is a wait.
    told: Cell<bool>,
    /// Whom to call first: all workers, once one alone has not come.
    call: Cell<Call>,
}

impl Post {
    /// Asks once; again only when a worker dies over it.
    pub(super) fn ask(&self, question: &Question) -> Outcome<Reply> {
        close_at_exit();
        let question = encoded(question);
        loop {
            if let ControlFlow::Break(answer) = self.wait_for_answer(&self.put(&question)?)? {
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
    fn put(&self, question: &[u8]) -> Outcome<Ticket> {
        let (since, mut pause) = (Instant::now(), LOOK);
        loop {
            // SAFETY: reads what is set when the session begins.
            let pid = unsafe { pg_sys::MyProcPid };
            let ticket = shmem::mailbox()
                .and_then(|mut mailbox| mailbox.ask(my_database(), pid, shmem::my_latch(), question));
            if let Some(ticket) = ticket {
                return Ok(Ticket(ticket));
            }
            // Others ask. There is no queue for boxes, and seldom more askers than those.
            self.tell_of_wait(since);
            nap(pause);
            pause = (2 * pause).min(LONGEST_LOOK);
        }
    }

    /// The whole answer; `Continue`: the question has to be put again.
    fn wait_for_answer(&self, ticket: &Ticket) -> Outcome<ControlFlow<Vec<u8>>> {
        let (mut answer, since, mut served_at, mut call) =
            (Vec::new(), Instant::now(), Instant::now(), Some(self.call.get()));
        loop {
            let Some(found) = shmem::mailbox().map(|mut mailbox| mailbox.look(ticket.0, &mut answer)) else {
                return Ok(ControlFlow::Continue(()));
            };
            match found {
                Found::Last => return Ok(ControlFlow::Break(answer)),
                Found::Lost => return Ok(ControlFlow::Continue(())),
                Found::Piece { worker } => {
                    let shared_state = shmem::shared_state();
                    let latch = shared_state
                        .and_then(|shared_state| shared_state.workers.get(worker).map(|worker| worker.latch));
                    shmem::wake_latch(latch.unwrap_or_default());
                    served_at = Instant::now();
                }
                Found::Nothing => served_at = Instant::now(),
                Found::Unread => {
                    if let Some(whom) = call {
                        self.call.set(whom);
                        if call_workers(whom) {
                            served_at = Instant::now();
                            self.tell_of_wait(since);
                        }
                    }
                    if served_at.elapsed() > PATIENCE {
                        return Err(nobody_serves());
                    }
                }
            }
            // The first may have its hands full, while the others sleep.
            call = nap(CALL_EVERY).then_some(Call::All);
        }
    }

    /// Says once that others are asking, when that takes long. It ends by itself: what hangs is given up after a while.
    fn tell_of_wait(&self, since: Instant) {
        if since.elapsed() <= PATIENCE || self.told.replace(true) {
            return;
        }
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            "waiting for a turn to ask what Algolia has",
            "Questions of other calls fill the mailbox, or keep the workers of this database busy."
        );
    }
}

fn nobody_serves() -> Box<Failure> {
    nobody_reads(
        "no worker of audit_algolia serves this database, so nobody can read what Algolia has",
        "Check audit_algolia.workers and audit_algolia.databases, and that this server is no standby.",
    )
}

/// Whom to call.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Call {
    #[default]
    One,
    All,
}

/// Sets the latch of a worker that can take a question, or of all; returns whether there is one.
fn call_workers(call: Call) -> bool {
    let mut wakes = Wakes::default();
    if let Some(mut shared_state) = shmem::shared_state() {
        let workers = shared_state.workers_of(my_database());
        let running = workers.filter(|one| one.stage == Stage::Running && !one.leave && !one.retire);
        let some = if call == Call::One { 1 } else { usize::MAX };
        running.take(some).for_each(|one| wakes.add(one.latch));
    }
    shmem::wake(wakes);
    wakes != Wakes::default()
}

/// Waits for the latch, so long at most; returns whether the time ran out.
pub(super) fn nap(at_most: Duration) -> bool {
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
    shmem::let_go();
    // SAFETY: reads what is set when the session begins.
    let pid = unsafe { pg_sys::MyProcPid };
    if let Some(mut mailbox) = shmem::mailbox() {
        mailbox.close_all(pid);
    }
}
