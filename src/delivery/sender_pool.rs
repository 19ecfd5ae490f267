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
use crate::delivery::bisect::bisect;
use crate::delivery::clock::SystemClock;
use crate::delivery::outcome::{DeliveryOutcome, SendResult};
use crate::delivery::question::{AskError, AskErrorKind, AskResult, Question};
use crate::delivery::sink::Sink;
use crate::delivery::transport::Transport;

/// The work of a sender.
pub trait Job: Send + 'static {
    /// The result of the work.
    type Result: Send + 'static;

    /// Does the work. A panic in a library gives a result as well.
    fn run(self) -> Self::Result;
}

/// A batch to be sent.
pub struct SendJob<T> {
    /// The number by which the caller knows the batch.
    pub flight: usize,
    pub index_name: Arc<str>,
    pub body: Batch,
    pub sink: Arc<Sink<T>>,
}

/// A question to be asked.
pub struct AskJob<T> {
    pub question: Question,
    pub sink: Arc<Sink<T>>,
}

/// The senders. Each has a channel for its jobs; all share one for results. When the pool is dropped they end: those
/// that are busy report to nobody, and the others have nothing to wait for.
pub struct SenderPool<J: Job> {
    /// By number. A place is free if its sender was dismissed.
    senders: Vec<Option<Sender<J>>>,
    /// The senders without work. The one that returned last is used first, because its memory and connection are ready.
    idle: Vec<usize>,
    results: Receiver<(usize, J::Result)>,
    report_to: Sender<(usize, J::Result)>,
    bell: UnixStream,
    ringer: Arc<UnixStream>,
}

impl<J: Job> SenderPool<J> {
    /// A pool without threads. They are started when they are needed.
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

    /// A descriptor that becomes readable when a sender has a result.
    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Gives a job to a sender.
    ///
    /// # Errors
    /// When no thread can be started. The job is lost then, and nothing of it was sent.
    pub fn send(&mut self, job: J) -> io::Result<()> {
        let number = match self.idle.pop() {
            Some(number) => number,
            None => self.spawn()?,
        };
        let sender = self.senders.get(number).and_then(Option::as_ref);
        match sender.map(|sender| sender.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }

    /// The results since the last call.
    pub fn collect(&mut self) -> Vec<J::Result> {
        let mut rung = [0; 64];
        // A sender that returns later rings again. So if a read does not fill the buffer, nothing is left to be read.
        while matches!(self.bell.read(&mut rung), Ok(read) if read == rung.len()) {}
        let mut results = Vec::new();
        for (number, result) in self.results.try_iter() {
            self.idle.push(number);
            results.push(result);
        }
        results
    }

    /// Ends the senders without work and frees the memory they keep for it.
    pub fn dismiss_idle(&mut self) {
        for number in self.idle.drain(..) {
            if let Some(sender) = self.senders.get_mut(number) {
                *sender = None;
            }
        }
    }

    fn spawn(&mut self) -> io::Result<usize> {
        let free = self.senders.iter().position(Option::is_none);
        let number = free.unwrap_or(self.senders.len());
        let (sender, jobs) = channel::<J>();
        let (report_to, ringer) = (self.report_to.clone(), self.ringer.clone());
        // Set before the thread starts: the thread inherits the mask, and so do the threads that it starts.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(io::Error::from)?;
        let spawned = thread::Builder::new().name("sender".to_owned()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                if report_to.send((number, job.run())).is_err() {
                    return;
                }
                // If the pipe is full, it already rings.
                let _ = (&*ringer).write(&[1]);
            }
        });
        before.thread_set_mask().map_err(io::Error::from)?;
        spawned?;
        match self.senders.get_mut(number) {
            Some(place) => *place = Some(sender),
            None => self.senders.push(Some(sender)),
        }
        Ok(number)
    }
}

impl<T: Transport + 'static> Job for SendJob<T> {
    /// The caller's number of the batch, and its result.
    type Result = (usize, SendResult);

    /// Sends the batch. A panic in a library must not lose it: it counts as a failed attempt.
    fn run(self) -> (usize, SendResult) {
        let SendJob { flight, index_name, body, sink } = self;
        let send = |part: &Batch| sink.deliver(&index_name, part, &SystemClock);
        let result = catch_unwind(AssertUnwindSafe(|| bisect(&body, send))).unwrap_or_else(|_| {
            let reason = "internal error while sending".to_owned();
            let outcome = DeliveryOutcome::Retry { reason, not_before: None };
            SendResult { attempts: 1, may_come_late: true, ..SendResult::of(outcome) }
        });
        (flight, result)
    }
}

impl<T: Transport + 'static> Job for AskJob<T> {
    type Result = AskResult;

    /// Asks the question. A panic in a library is an error.
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
