//! The threads that wait for the network, so that the main thread of a worker or session never does.
//!
//! A sender takes one job at a time to a sink and reports the result. It does not use PostgreSQL. It blocks all
//! signals, because their handlers must run in the main thread only.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::delivery::batch::Batch;
use crate::delivery::clock::SystemClock;
use crate::delivery::isolate::isolate;
use crate::delivery::outcome::{DeliveryOutcome, SendResult, UnattributedFailure};
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

/// Senders, each with a channel of its own to be sent out by, and the channel by which they all report. They end with it:
/// whoever is under way reports to nobody, and the others have nothing to wait for.
pub struct SenderPool<J: Job> {
    /// By their numbers. A place is free when its sender has been dismissed.
    senders: Vec<Option<Sender<J>>>,
    /// Those that have nothing to do. Whoever has returned last goes first: what it needs is at hand, and the others rest.
    idle: Vec<usize>,
    results: Receiver<(usize, J::Result)>,
    report_to: Sender<(usize, J::Result)>,
    bell: UnixStream,
    ringer: Arc<UnixStream>,
}

impl<J: Job> SenderPool<J> {
    /// A pool without senders, which are started as they are needed.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let (report_to, results) = channel();
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        let ringer = Arc::new(ringer);
        Ok(SenderPool { senders: Vec::new(), idle: Vec::new(), results, report_to, bell, ringer })
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
        let number = match self.idle.pop() {
            Some(number) => number,
            None => self.hire()?,
        };
        let sender = self.senders.get(number).and_then(Option::as_ref);
        match sender.map(|sender| sender.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }

    /// What came of the jobs that have ended since the last call.
    pub fn collect(&mut self) -> Vec<J::Result> {
        let mut rung = [0; 64];
        // Whoever returns later rings again: no more is to be read where less was read than there is room for.
        while matches!(self.bell.read(&mut rung), Ok(read) if read == rung.len()) {}
        let mut results = Vec::new();
        for (number, result) in self.results.try_iter() {
            self.idle.push(number);
            results.push(result);
        }
        results
    }

    /// Lets those go that have nothing to do, with the memory they keep for their work.
    pub fn dismiss_idle(&mut self) {
        for number in self.idle.drain(..) {
            if let Some(sender) = self.senders.get_mut(number) {
                *sender = None;
            }
        }
    }

    fn hire(&mut self) -> io::Result<usize> {
        let free = self.senders.iter().position(Option::is_none);
        let number = free.unwrap_or(self.senders.len());
        let (sender, jobs) = channel::<J>();
        let (report_to, ringer) = (self.report_to.clone(), self.ringer.clone());
        // The mask is set before the thread starts and inherited by it, and by any thread it starts in turn.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(io::Error::from)?;
        let hired = thread::Builder::new().name("sender".to_owned()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                if report_to.send((number, job.run())).is_err() {
                    return;
                }
                // A full pipe has a ring in it already.
                let _ = (&*ringer).write(&[1]);
            }
        });
        before.thread_set_mask().map_err(io::Error::from)?;
        hired?;
        match self.senders.get_mut(number) {
            Some(place) => *place = Some(sender),
            None => self.senders.push(Some(sender)),
        }
        Ok(number)
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
            unattributed_failure: UnattributedFailure::None,
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    use super::*;

    /// Meets others, if there are any to be met, and tells who has done it.
    struct Meet(Option<Arc<Barrier>>);

    impl Job for Meet {
        type Result = thread::ThreadId;

        fn run(self) -> thread::ThreadId {
            if let Some(barrier) = self.0 {
                barrier.wait();
            }
            thread::current().id()
        }
    }

    /// Waits until so many have returned.
    fn returned(pool: &mut SenderPool<Meet>, count: usize) -> Vec<thread::ThreadId> {
        let (started, mut all) = (Instant::now(), Vec::new());
        while all.len() < count {
            assert!(started.elapsed() < Duration::from_secs(20), "{} of {count} have returned", all.len());
            all.extend(pool.collect());
            thread::yield_now();
        }
        all
    }

    /// Has so many senders work at once.
    fn together(pool: &mut SenderPool<Meet>, count: usize) -> Vec<thread::ThreadId> {
        let barrier = Arc::new(Barrier::new(count));
        for _ in 0..count {
            pool.send(Meet(Some(barrier.clone()))).unwrap();
        }
        returned(pool, count)
    }

    #[test]
    fn jobs_one_after_the_other_are_done_by_whoever_has_returned_last() {
        let mut pool = SenderPool::new().unwrap();
        let last = *together(&mut pool, 3).last().unwrap();
        for _ in 0..10 {
            pool.send(Meet(None)).unwrap();
            assert_eq!(returned(&mut pool, 1), [last]);
        }
        assert_eq!(pool.senders.len(), 3);
    }

    #[test]
    fn the_bell_is_silent_when_all_is_collected() {
        let mut pool = SenderPool::new().unwrap();
        together(&mut pool, 100);
        // The last ones ring after they have reported.
        let started = Instant::now();
        while !matches!((&pool.bell).read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            assert!(started.elapsed() < Duration::from_secs(20));
            pool.collect();
        }
    }

    #[test]
    fn who_has_nothing_to_do_can_be_dismissed_and_others_are_hired() {
        let mut pool = SenderPool::new().unwrap();
        let before = together(&mut pool, 4);
        let threads = Arc::downgrade(&pool.ringer);
        assert_eq!(threads.strong_count(), 5);
        pool.dismiss_idle();
        let started = Instant::now();
        while threads.strong_count() > 1 {
            assert!(started.elapsed() < Duration::from_secs(20), "the threads go on");
            thread::yield_now();
        }
        let after = together(&mut pool, 2);
        assert!(after.iter().all(|id| !before.contains(id)));
        assert_eq!(pool.senders.iter().flatten().count(), 2);
    }
}
