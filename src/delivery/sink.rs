//! Delivers one batch: compresses it, tries the hosts in turn without a pause, and sums up what happened.
//!
//! A sink is shared by the helper threads of a worker. It never logs, and it holds its lock only to ask
//! which host is next and to note how an attempt ended, never during an attempt. How long to wait
//! before the next delivery is the caller's business.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

use crate::delivery::batch::{Batch, Endpoint};
use crate::delivery::classify::{
    classify, classify_read, classify_settings, sentence, shorten, Verdict, MORE_RIGHTS_TO_READ,
};
use crate::delivery::clock::Clock;
use crate::delivery::culprit::Culprit;
use crate::delivery::hosts::{Candidate, HostResult, Hosts, Timeouts};
pub use crate::delivery::outcome::{Outcome, Report};
use crate::delivery::question::{Answer, Question, Reply, Trouble, TroubleKind};
use crate::delivery::settings::{Settings, SettingsError};
use crate::delivery::transport::{Method, Request, Response, Transport, TransportError};
use crate::secret::Secret;

/// Bodies below this many bytes are not worth compressing.
const COMPRESS_FROM: usize = 1024;

/// A proper answer repeats the objectIDs of the batch and little else.
const RESPONSE_ALLOWANCE: usize = 4 << 20;

/// Most characters of what one host contributes to the reason of a delivery, and of the whole.
const CAUSE_CHARS: usize = 120;
const CAUSES_CHARS: usize = 500;

/// What stays as it is in a path segment: the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Delivers batches to one application.
pub struct Sink<T> {
    settings: Settings,
    user_agent: String,
    transport: T,
    /// Set once a host refused gzip; it stays off until the settings are read again.
    uncompressed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    hosts: Hosts,
    /// What answers slowly to questions may well take records, and the other way round: each has a book of its own.
    read_hosts: Hosts,
    dice: fastrand::Rng,
}

impl State {
    fn hosts(&mut self, reads: bool) -> &mut Hosts {
        if reads {
            &mut self.read_hosts
        } else {
            &mut self.hosts
        }
    }
}

/// One delivery, or one question, on its way over the hosts.
struct Delivery<'a> {
    method: Method,
    path: String,
    body: &'a [u8],
    response_limit: usize,
    judge: &'a dyn Fn(&Response, SystemTime) -> Verdict,
    /// It is a question.
    reads: bool,
    request_id: String,
    gzip: Option<Vec<u8>>,
    host: String,
    attempts: u32,
    wire_bytes: usize,
    may_come_late: bool,
}

/// How the walk over the hosts goes on after one of them.
enum Step {
    Done(Outcome),
    Next { cause: String },
}

impl<T: Transport> Sink<T> {
    /// A sink for the settings. The seed decides the order of Algolia's fallback hosts and the request ids.
    pub fn new(settings: Settings, transport: T, seed: u64) -> Result<Self, SettingsError> {
        settings.check()?;
        let timeouts = Timeouts { connect: settings.connect_timeout, request: settings.request_timeout };
        let (hosts, read_hosts) = if settings.hosts.is_empty() {
            let id = &settings.application_id;
            (Hosts::for_application(id, seed, timeouts), Hosts::for_reading(id, seed, timeouts))
        } else {
            let explicit = || Hosts::explicit(settings.hosts.clone(), timeouts);
            (explicit(), explicit())
        };
        Ok(Sink {
            user_agent: settings.user_agent(),
            uncompressed: AtomicBool::new(!settings.compression),
            state: Mutex::new(State { hosts, read_hosts, dice: fastrand::Rng::with_seed(seed) }),
            settings,
            transport,
        })
    }

    /// Ends the deliveries under way at once, without success.
    pub fn shutdown(&self) {
        self.transport.shutdown();
    }

    /// Tries to deliver the batch, at each host in working order once.
    ///
    /// Takes at most as long as the timeouts of all hosts together; shutting the transport down ends it at once.
    pub fn deliver(&self, index_name: &str, batch: &Batch, clock: &dyn Clock) -> Report {
        let judge = |response: &Response, now| match batch.endpoint() {
            Endpoint::Batch => classify(response, batch.rows(), now),
            Endpoint::Settings => classify_settings(response, now),
        };
        let mut delivery = Delivery {
            method: match batch.endpoint() {
                Endpoint::Batch => Method::Post,
                Endpoint::Settings => Method::Put,
            },
            path: path(index_name, batch.endpoint()),
            body: batch.body(),
            response_limit: RESPONSE_ALLOWANCE.saturating_add(batch.bytes()),
            judge: &judge,
            reads: false,
            request_id: String::new(),
            gzip: None,
            host: String::new(),
            attempts: 0,
            wire_bytes: 0,
            may_come_late: false,
        };
        let nothing = (batch.rows() == 0).then_some(Outcome::Delivered { task_id: None });
        let outcome =
            nothing.or_else(|| unusable(index_name)).unwrap_or_else(|| self.walk(&mut delivery, clock));
        let Delivery { host, attempts, wire_bytes, may_come_late, .. } = delivery;
        Report {
            outcome,
            delivered: Vec::new(),
            last_task: None,
            refused: Vec::new(),
            host,
            attempts,
            wire_bytes,
            may_come_late,
        }
    }

    /// Asks Algolia, at each host in working order once; as long as [`Sink::deliver`] takes at most, and again as long for
    /// each part of an answer that is too long.
    pub fn ask(&self, question: &Question, clock: &dyn Clock) -> Reply {
        let answer: RefCell<Option<Answer>> = RefCell::default();
        let judge = |response: &Response, now| {
            classify_read(response, now, |body| {
                let read = if body.is_empty() { Some(question.of_nothing()) } else { question.read(body) };
                read.map(|read| *answer.borrow_mut() = Some(read)).is_some()
            })
        };
        let body = question.body();
        let mut delivery = Delivery {
            method: question.method(),
            path: question.path(&segment(question.index())),
            body: body.as_bytes(),
            response_limit: RESPONSE_ALLOWANCE.saturating_add(2 * body.len()),
            judge: &judge,
            reads: true,
            request_id: String::new(),
            gzip: None,
            host: String::new(),
            attempts: 0,
            wire_bytes: 0,
            may_come_late: false,
        };
        let outcome = unusable(question.index()).unwrap_or_else(|| self.walk(&mut delivery, clock));
        match (outcome, answer.take()) {
            (Outcome::Delivered { .. }, Some(answer)) => Ok(answer),
            (Outcome::Rejected { status: 413, .. }, _) => self.ask_in_parts(question, clock),
            (outcome, _) => Err(trouble(outcome)),
        }
    }

    /// Asks for less at a time. One record that is too long by itself is none of ours.
    fn ask_in_parts(&self, question: &Question, clock: &dyn Clock) -> Reply {
        let Some((one, other)) = question.halves() else {
            return Ok(question.of_something_else());
        };
        match (self.ask(&one, clock)?, self.ask(&other, clock)?) {
            (Answer::Objects(mut one), Answer::Objects(other)) => {
                one.extend(other);
                Ok(Answer::Objects(one))
            }
            (other, _) => Ok(other),
        }
    }

    fn walk(&self, delivery: &mut Delivery<'_>, clock: &dyn Clock) -> Outcome {
        let plan = {
            let mut state = self.state();
            delivery.request_id = request_id(&mut state.dice);
            state.hosts(delivery.reads).plan(clock.instant())
        };
        delivery.gzip = self.compress(delivery.body);
        let mut causes = Vec::with_capacity(plan.len());
        for candidate in &plan {
            match self.at_host(candidate, delivery, clock) {
                Step::Done(outcome) => return outcome,
                Step::Next { cause } => {
                    causes.push(format!("{}: {}", candidate.host.name(), shorten(&cause, CAUSE_CHARS)));
                }
            }
        }
        // What one host asks for itself is no reason to keep from the others.
        let not_before = self.state().hosts(delivery.reads).wait(clock.instant());
        Outcome::Retry { reason: shorten(&causes.join("; "), CAUSES_CHARS), not_before }
    }

    /// One host's turn: a single attempt, unless a stale connection or its dislike of gzip gives it a second.
    fn at_host(&self, candidate: &Candidate, delivery: &mut Delivery<'_>, clock: &dyn Clock) -> Step {
        let mut fresh_connection = false;
        loop {
            let answer = self.attempt(candidate, delivery, fresh_connection);
            delivery.may_come_late |= match &answer {
                Ok(response) => is_of_a_gateway(response.status),
                Err(error) => error.may_be_executed(),
            };
            let (health, step) = match answer {
                Ok(response) => match (delivery.judge)(&response, clock.system_time()) {
                    Verdict::CompressionRefused { .. } if delivery.gzip.take().is_some() => {
                        self.uncompressed.store(true, Ordering::Relaxed);
                        continue;
                    }
                    verdict => settle(verdict),
                },
                // No fault of the host: it was asked for too much.
                Err(TransportError::BodyTooLarge(reason)) if delivery.reads => {
                    (HostResult::Answered, Step::Done(too_large(reason)))
                }
                Err(TransportError::Closed) => {
                    let reason = TransportError::Closed.to_string();
                    return Step::Done(Outcome::Retry { reason, not_before: None });
                }
                // A host that answered before may have closed a kept connection while nobody looked,
                // which says nothing about its health.
                Err(TransportError::Reset(_)) if candidate.answered_before && !fresh_connection => {
                    fresh_connection = true;
                    continue;
                }
                Err(error) => {
                    let timeout =
                        matches!(error, TransportError::Timeout(_) | TransportError::ConnectTimeout(_));
                    let health = if timeout { HostResult::TimedOut } else { HostResult::Failed };
                    let cause = sentence(&self.settings.api_key.redact(&error.to_string()));
                    (health, Step::Next { cause })
                }
            };
            self.state().hosts(delivery.reads).mark(candidate, health, clock.instant());
            return step;
        }
    }

    fn attempt(
        &self,
        candidate: &Candidate,
        delivery: &mut Delivery<'_>,
        fresh_connection: bool,
    ) -> Result<Response, TransportError> {
        delivery.attempts += 1;
        delivery.host = candidate.host.name().to_owned();
        let mut headers = vec![
            ("x-algolia-application-id", self.settings.application_id.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("user-agent", self.user_agent.as_str()),
            ("request-id", delivery.request_id.as_str()),
        ];
        if delivery.gzip.is_some() {
            headers.push(("content-encoding", "gzip"));
        }
        let body = delivery.gzip.as_deref().unwrap_or(delivery.body);
        delivery.wire_bytes = body.len();
        let mut response = self.transport.send(&Request {
            method: delivery.method,
            host: &candidate.host,
            path: &delivery.path,
            headers: &headers,
            api_key: &self.settings.api_key,
            body,
            connect_timeout: candidate.connect_timeout,
            request_timeout: candidate.request_timeout,
            response_limit: delivery.response_limit,
            fresh_connection,
        })?;
        self.redact(&mut response);
        Ok(response)
    }

    /// Takes the key out of an answer that echoes it, before any part of the answer becomes a reason.
    fn redact(&self, response: &mut Response) {
        let key = &self.settings.api_key;
        for header in [&mut response.content_type, &mut response.correlation_id].into_iter().flatten() {
            *header = key.redact(header);
        }
        if (200..300).contains(&response.status) {
            return;
        }
        let bytes = key.expose().as_bytes();
        if response.body.windows(bytes.len().max(1)).any(|window| window == bytes) {
            response.body = key.redact(&String::from_utf8_lossy(&response.body)).into_bytes();
        }
        // JSON can spell a character in several ways; written anew, it has one.
        let spelled = serde_json::Value::from(key.expose()).to_string();
        let spelled = Secret::new(spelled.get(1..spelled.len() - 1).unwrap_or_default());
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&response.body) {
            let json = json.to_string();
            if json.contains(spelled.expose()) {
                response.body = spelled.redact(&json).into_bytes();
            }
        }
    }

    /// The body with gzip, if that is wanted and worth it. Speed counts for more than the last bytes.
    fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() < COMPRESS_FROM || self.uncompressed.load(Ordering::Relaxed) {
            return None;
        }
        let buffer = Vec::with_capacity(body.len() / 4);
        let mut encoder = flate2::write::GzEncoder::new(buffer, flate2::Compression::fast());
        // Writing to memory does not fail; if it did, the plain body would still be right.
        encoder.write_all(body).ok()?;
        encoder.finish().ok()
    }

    /// A panic of another thread leaves the state whole: every change of it is a single assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a status says that somebody before the host has stopped waiting for it: the request may be there, and be
/// executed yet. Any other answer is the last that is heard of a request, executed or not.
fn is_of_a_gateway(status: u16) -> bool {
    matches!(status, 499 | 502 | 504 | 520..=527)
}

/// Replicas have settings of their own, which are nobody's business here.
fn path(index_name: &str, endpoint: Endpoint) -> String {
    let index = segment(index_name);
    match endpoint {
        Endpoint::Batch => format!("/1/indexes/{index}/batch"),
        Endpoint::Settings => format!("/1/indexes/{index}/settings?forwardToReplicas=false"),
    }
}

fn segment(index_name: &str) -> String {
    utf8_percent_encode(index_name, SEGMENT).to_string()
}

/// A name that would lead to another endpoint.
fn unusable(index_name: &str) -> Option<Outcome> {
    matches!(index_name, "" | "." | ".." | "*").then(|| Outcome::Blocked {
        reason: format!("index name \"{index_name}\" cannot be used"),
        hint: "Use an index name that Algolia accepts.",
        status: None,
    })
}

fn too_large(reason: String) -> Outcome {
    Outcome::Rejected { reason, status: 413, culprit: Culprit::Unknown }
}

/// What a question that was not answered came to.
fn trouble(outcome: Outcome) -> Trouble {
    let (kind, reason, hint) = match outcome {
        Outcome::Delivered { .. } => (TroubleKind::Passing, "internal error".to_owned(), ""),
        Outcome::Retry { reason, .. } => (TroubleKind::Passing, reason, ""),
        Outcome::Rejected { reason, .. } => (TroubleKind::Refused, reason, "Check the name of the index."),
        Outcome::Blocked { reason, hint, .. } if hint == MORE_RIGHTS_TO_READ => {
            (TroubleKind::Rights, reason, hint)
        }
        Outcome::Blocked { reason, hint, .. } => (TroubleKind::Refused, reason, hint),
    };
    Trouble { kind, reason, hint: hint.to_owned() }
}

/// What a verdict means for its host and for the delivery.
fn settle(verdict: Verdict) -> (HostResult, Step) {
    let outcome = match verdict {
        Verdict::NextHost { reason, not_before } => {
            let health = not_before.map_or(HostResult::Failed, HostResult::Unwilling);
            return (health, Step::Next { cause: reason });
        }
        Verdict::Delivered { task_id } => Outcome::Delivered { task_id },
        Verdict::Retry { reason, not_before } => Outcome::Retry { reason, not_before },
        Verdict::Rejected { reason, status, culprit } => Outcome::Rejected { reason, status, culprit },
        Verdict::Blocked { reason, hint, status } => Outcome::Blocked { reason, hint, status: Some(status) },
        Verdict::TooLarge { reason } => too_large(reason),
        Verdict::CompressionRefused { reason } => Outcome::Blocked {
            reason,
            hint: "Check audit_algolia.hosts and what stands before them.",
            status: Some(415),
        },
    };
    (HostResult::Answered, Step::Done(outcome))
}

/// An id by which Algolia's support finds the request: exactly eleven letters and digits, one per
/// delivery and the same for all its attempts.
fn request_id(dice: &mut fastrand::Rng) -> String {
    (0..11).map(|_| dice.alphanumeric()).collect()
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
