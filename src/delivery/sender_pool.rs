//! The threads that wait for the network, so that the worker's main thread never does.
//!
//! A sender takes one batch at a time to a sink and reports back. It knows nothing of PostgreSQL, and all signals are
//! blocked in it: they belong to the main thread, whose handlers must not run anywhere else.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::delivery::batch::Batch;
use crate::delivery::clock::SystemClock;
use crate::delivery::isolate::isolate;
use crate::delivery::outcome::{Outcome, Report, Suspicion};
use crate::delivery::question::{Question, Reply, Trouble, TroubleKind};
use crate::delivery::sink::Sink;
use crate::delivery::transport::Transport;

/// A batch on its way out.
pub struct SendJob<T> {
    /// The caller's name for the batch.
    pub flight: usize,
    pub index_name: Arc<str>,
    pub batch: Batch,
    pub sink: Arc<Sink<T>>,
}

/// What came of an job.
pub struct Return {
    pub flight: usize,
    pub report: Report,
}

/// What the senders have brought.
#[derive(Default)]
pub struct Collected {
    pub returns: Vec<Return>,
    /// Answers to questions, each with its ticket.
    pub replies: Vec<(u64, Reply)>,
}

/// What a sender is given.
enum Job<T> {
    Deliver(SendJob<T>),
    Ask { ticket: u64, question: Question, sink: Arc<Sink<T>> },
}

enum Brought {
    Return(Return),
    Reply(u64, Reply),
}

/// The senders, and the two queues between them and the main thread.
pub struct SenderPool<T> {
    jobs: Sender<Job<T>>,
    waiting: Arc<Mutex<Receiver<Job<T>>>>,
    returns: Receiver<Brought>,
    report_to: Sender<Brought>,
    bell: UnixStream,
    ringer: Arc<UnixStream>,
    hired: usize,
    /// Errands whose return has not been collected.
    under_way: usize,
}

impl<T: Transport + 'static> SenderPool<T> {
    /// Senders are started as they are needed.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let (report_to, returns) = channel();
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        Ok(SenderPool {
            jobs,
            waiting: Arc::new(Mutex::new(waiting)),
            returns,
            report_to,
            bell,
            ringer: Arc::new(ringer),
            hired: 0,
            under_way: 0,
        })
    }

    /// A descriptor that becomes readable when a sender has returned.
    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Sends a sender out.
    ///
    /// # Errors
    /// When no thread can be started; the job is lost then, and its batch has not been sent.
    pub fn send(&mut self, job: SendJob<T>) -> io::Result<()> {
        self.give(Job::Deliver(job))
    }

    /// Sends a sender out with a question.
    ///
    /// # Errors
    /// When no thread can be started; the question has not been asked.
    pub fn ask(&mut self, ticket: u64, question: Question, sink: Arc<Sink<T>>) -> io::Result<()> {
        self.give(Job::Ask { ticket, question, sink })
    }

    fn give(&mut self, job: Job<T>) -> io::Result<()> {
        if self.hired <= self.under_way {
            self.hire()?;
        }
        self.under_way += 1;
        self.jobs.send(job).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// The jobs that have ended since the last call.
    pub fn collect(&mut self) -> Collected {
        let mut rung = [0; 64];
        while matches!(self.bell.read(&mut rung), Ok(read) if read > 0) {}
        let mut collected = Collected::default();
        for brought in self.returns.try_iter() {
            self.under_way = self.under_way.saturating_sub(1);
            match brought {
                Brought::Return(one) => collected.returns.push(one),
                Brought::Reply(ticket, reply) => collected.replies.push((ticket, reply)),
            }
        }
        collected
    }

    fn hire(&mut self) -> io::Result<()> {
        let (waiting, report_to, ringer) =
            (self.waiting.clone(), self.report_to.clone(), self.ringer.clone());
        // The mask is set before the thread starts and inherited by it, and by any thread it starts in turn.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(io::Error::from)?;
        let hired = thread::Builder::new().name("sender".to_owned()).spawn(move || loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let brought = match next {
                Err(_) => return,
                Ok(Job::Deliver(job)) => Brought::Return(Return { flight: job.flight, report: run(job) }),
                Ok(Job::Ask { ticket, question, sink }) => Brought::Reply(ticket, ask(&question, &sink)),
            };
            if report_to.send(brought).is_err() {
                return;
            }
            // A full pipe has a ring in it already.
            let _ = (&*ringer).write(&[1]);
        });
        before.thread_set_mask().map_err(io::Error::from)?;
        hired?;
        self.hired += 1;
        Ok(())
    }
}

/// A fault in a library must not lose the batch: it counts as a failed attempt.
fn run<T: Transport>(job: SendJob<T>) -> Report {
    let SendJob { index_name, batch, sink, .. } = job;
    let send = |part: &Batch| sink.deliver(&index_name, part, &SystemClock);
    catch_unwind(AssertUnwindSafe(|| isolate(&batch, send))).unwrap_or_else(|_| Report {
        outcome: Outcome::Retry { reason: "internal error while sending".to_owned(), not_before: None },
        delivered: Vec::new(),
        last_task: None,
        refused: Vec::new(),
        suspicion: Suspicion::None,
        host: String::new(),
        attempts: 1,
        wire_bytes: 0,
        may_come_late: true,
        short_of_memory: false,
    })
}

/// A fault in a library is told, and no answer.
fn ask<T: Transport>(question: &Question, sink: &Sink<T>) -> Reply {
    catch_unwind(AssertUnwindSafe(|| sink.ask(question, &SystemClock))).unwrap_or_else(|_| {
        let reason = "internal error while asking".to_owned();
        Err(Trouble { kind: TroubleKind::Passing, reason, hint: String::new() })
    })
}
