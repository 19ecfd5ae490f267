//! The threads that wait for the network, so that the main thread of a worker or session never does.
//!
//! A sender takes one job at a time to a sink and reports back. It knows nothing of PostgreSQL, and all signals are
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
use crate::delivery::outcome::{DeliveryOutcome, SendResult, Suspicion};
use crate::delivery::question::{AskError, AskErrorKind, AskResult, Question};
use crate::delivery::sink::Sink;
use crate::delivery::transport::Transport;

/// What a sender is given to do.
pub trait Job: Send + 'static {
    /// What comes of it.
    type Result: Send + 'static;

    /// Does it. A fault in a library is a result, too.
    fn run(self) -> Self::Result;
}

/// A batch on its way out.
pub struct SendJob<T> {
    /// The caller's name for the batch.
    pub flight: usize,
    pub index_name: Arc<str>,
    pub body: Batch,
    pub sink: Arc<Sink<T>>,
}

/// A question on its way to Algolia.
pub struct AskJob<T> {
    pub question: Question,
    pub sink: Arc<Sink<T>>,
}

/// Senders, and the two queues between them and the main thread. They end with it: whoever is under way reports to nobody,
/// and the others have nothing to wait for.
pub struct SenderPool<J: Job> {
    jobs: Sender<J>,
    waiting: Arc<Mutex<Receiver<J>>>,
    results: Receiver<J::Result>,
    report_to: Sender<J::Result>,
    bell: UnixStream,
    ringer: Arc<UnixStream>,
    hired: usize,
    /// Jobs whose result has not been collected.
    under_way: usize,
}

impl<J: Job> SenderPool<J> {
    /// A pool without senders, which are started as they are needed.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let (report_to, results) = channel();
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        Ok(SenderPool {
            jobs,
            waiting: Arc::new(Mutex::new(waiting)),
            results,
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
    /// When no thread can be started; the job is lost then, and nothing of it has been sent.
    pub fn send(&mut self, job: J) -> io::Result<()> {
        if self.hired <= self.under_way {
            self.hire()?;
        }
        self.under_way += 1;
        self.jobs.send(job).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// What came of the jobs that have ended since the last call.
    pub fn collect(&mut self) -> Vec<J::Result> {
        let mut rung = [0; 64];
        while matches!(self.bell.read(&mut rung), Ok(read) if read > 0) {}
        let results: Vec<_> = self.results.try_iter().collect();
        self.under_way = self.under_way.saturating_sub(results.len());
        results
    }

    fn hire(&mut self) -> io::Result<()> {
        let (waiting, report_to, ringer) =
            (self.waiting.clone(), self.report_to.clone(), self.ringer.clone());
        // The mask is set before the thread starts and inherited by it, and by any thread it starts in turn.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(io::Error::from)?;
        let hired = thread::Builder::new().name("sender".to_owned()).spawn(move || loop {
            let Ok(job) = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
            if report_to.send(job.run()).is_err() {
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

impl<T: Transport + 'static> Job for SendJob<T> {
    /// The batch by the caller's name for it, and what came of it.
    type Result = (usize, SendResult);

    /// A fault in a library must not lose the batch: it counts as a failed attempt.
    fn run(self) -> (usize, SendResult) {
        let SendJob { flight, index_name, body, sink } = self;
        let send = |part: &Batch| sink.deliver(&index_name, part, &SystemClock);
        let result = catch_unwind(AssertUnwindSafe(|| isolate(&body, send))).unwrap_or_else(|_| SendResult {
            outcome: DeliveryOutcome::Retry {
                reason: "internal error while sending".to_owned(),
                not_before: None,
            },
            delivered: Vec::new(),
            last_task: None,
            refused: Vec::new(),
            suspicion: Suspicion::None,
            host: String::new(),
            attempts: 1,
            wire_bytes: 0,
            may_come_late: true,
            short_of_memory: false,
        });
        (flight, result)
    }
}

impl<T: Transport + 'static> Job for AskJob<T> {
    type Result = AskResult;

    /// A fault in a library is told, and no answer.
    fn run(self) -> AskResult {
        let AskJob { question, sink } = self;
        catch_unwind(AssertUnwindSafe(|| sink.ask(&question, &SystemClock))).unwrap_or_else(|_| {
            let reason = "internal error while asking".to_owned();
            Err(AskError { kind: AskErrorKind::Transient, reason, hint: String::new() })
        })
    }
}
