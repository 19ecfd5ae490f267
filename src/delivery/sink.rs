//! Delivers one batch, or asks one question, and sums up what happened; `try_hosts` tries the hosts.
//!
//! All senders of a worker share one sink; a session that asks has one of its own. A sink never logs. It holds its lock
//! only to choose the next host and to note how an attempt ended, never during an attempt. The caller decides how long
//! to wait before the next delivery.
#![forbid(unsafe_code)]

mod exchange;
mod try_hosts;

use std::cell::RefCell;
use std::time::Duration;

use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

use crate::delivery::batch::{Batch, Endpoint};
use crate::delivery::classify::{
    classify, classify_read, classify_settings, Material, ASK_THE_GATEWAY, MORE_RIGHTS_TO_READ,
};
use crate::delivery::clock::Clock;
use crate::delivery::hosts::{Hosts, Timeouts};
use crate::delivery::outcome::TransitFailure;
pub use crate::delivery::outcome::{DeliveryOutcome, SendResult};
use crate::delivery::question::{Answer, AskError, AskErrorKind, AskResult, Question};
use crate::delivery::settings::{DeliverySettings, SettingsError};
use crate::delivery::transport::{Method, Response, Transport};
use exchange::Exchange;
use try_hosts::HostClient;

/// A proper answer contains the objectIDs of the batch and little else.
const RESPONSE_ALLOWANCE: usize = 4 << 20;

/// How long a host may take to begin its answer to a question, at first; Algolia's clients wait as long. A question
/// that is answered late does no harm, so the next host is asked sooner than with a delivery.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Characters that are not encoded in a path segment: RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Delivers batches to one application, or asks it questions.
pub struct Sink<T> {
    client: HostClient<T>,
}

impl<T: Transport> Sink<T> {
    /// A sink for deliveries. The seed decides the order of Algolia's fallback hosts, and the request ids.
    pub fn new(settings: DeliverySettings, transport: T, seed: u64) -> Result<Self, SettingsError> {
        let answer = settings.request_timeout;
        Sink::with(settings, transport, seed, answer, Hosts::for_application)
    }

    /// A sink for questions. It uses Algolia's hosts for reading and expects answers soon.
    pub fn for_reading(settings: DeliverySettings, transport: T, seed: u64) -> Result<Self, SettingsError> {
        let answer = settings.request_timeout.min(READ_TIMEOUT);
        Sink::with(settings, transport, seed, answer, Hosts::for_reading)
    }

    fn with(
        settings: DeliverySettings,
        transport: T,
        seed: u64,
        answer: Duration,
        hosts: impl FnOnce(&str, u64, Timeouts) -> Hosts,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let DeliverySettings { connect_timeout: connect, request_timeout: request, .. } = settings;
        let timeouts = Timeouts { connect, answer, request };
        let hosts = if settings.hosts.is_empty() {
            hosts(&settings.application_id, seed, timeouts)
        } else {
            Hosts::explicit(settings.hosts.clone(), timeouts)
        };
        Ok(Sink { client: HostClient::new(settings, hosts, transport, seed) })
    }

    /// Where it delivers to; see [`DeliverySettings::destination`].
    pub fn destination(&self) -> u64 {
        self.client.settings().destination()
    }

    /// Ends all deliveries at once, without success.
    pub fn shutdown(&self) {
        self.client.shutdown();
    }

    /// Tries to deliver the batch at one working host after the other.
    ///
    /// A host gets one request, and another one only if a kept connection turns out to be closed or the host refuses
    /// gzip. Each request is limited by its timeout. A shutdown of the transport ends the delivery at once.
    pub fn deliver(&self, index_name: &str, batch: &Batch, clock: &dyn Clock) -> SendResult {
        let judge = |response: &Response, now| match batch.endpoint() {
            Endpoint::Batch => classify(response, batch.rows(), now),
            Endpoint::Settings => classify_settings(response, now),
        };
        let method = match batch.endpoint() {
            Endpoint::Batch => Method::Post,
            Endpoint::Settings => Method::Put,
        };
        let path = path(index_name, batch.endpoint());
        let limit = RESPONSE_ALLOWANCE.saturating_add(batch.bytes());
        let mut exchange = Exchange::new(method, path, batch.body(), limit, &judge);
        exchange.divisible = batch.rows() > 1;
        let nothing = (batch.rows() == 0).then_some(DeliveryOutcome::Delivered { task_id: None });
        let outcome = nothing
            .or_else(|| unusable(index_name))
            .unwrap_or_else(|| self.client.try_hosts(&mut exchange, clock));
        let Exchange { host, attempts, wire_bytes, may_come_late, transit_failure, .. } = exchange;
        SendResult { transit_failure, host, attempts, wire_bytes, may_come_late, ..SendResult::of(outcome) }
    }

    /// Asks Algolia, at one working host after the other as [`Sink::deliver`] does. If the answer is too long, asks for
    /// each half in the same way.
    pub fn ask(&self, question: &Question, clock: &dyn Clock) -> AskResult {
        let answer: RefCell<Option<Answer>> = RefCell::default();
        let judge = |response: &Response, now| {
            classify_read(response, now, |material| {
                let read = match material {
                    Material::Body(body) => question.read(body),
                    Material::Absence(says) => question.of_absence(says),
                };
                read.map(|read| *answer.borrow_mut() = Some(read)).is_some()
            })
        };
        let body = question.body();
        let path = question.path(&segment(question.index()));
        let limit = RESPONSE_ALLOWANCE.saturating_add(2 * body.len());
        let mut exchange = Exchange::new(question.method(), path, body.as_bytes(), limit, &judge);
        exchange.reads = true;
        let outcome =
            unusable(question.index()).unwrap_or_else(|| self.client.try_hosts(&mut exchange, clock));
        match (outcome, answer.take()) {
            (DeliveryOutcome::Delivered { .. }, Some(answer)) => Ok(answer),
            (outcome @ DeliveryOutcome::Rejected { status: 413, .. }, _) => match question.halves() {
                Some(halves) => self.ask_in_parts(halves, clock),
                None => {
                    question.of_overflow().filter(|_| exchange.overflowed).ok_or_else(|| ask_error(outcome))
                }
            },
            (DeliveryOutcome::Retry { reason, .. }, _)
                if matches!(exchange.transit_failure, TransitFailure::Refused(_)) =>
            {
                let hint = ASK_THE_GATEWAY.to_owned();
                Err(AskError { kind: AskErrorKind::Refused, reason, hint })
            }
            (outcome, _) => Err(ask_error(outcome)),
        }
    }

    /// Asks for half at a time.
    fn ask_in_parts(&self, (one, other): (Question, Question), clock: &dyn Clock) -> AskResult {
        match (self.ask(&one, clock)?, self.ask(&other, clock)?) {
            (Answer::Objects(mut one), Answer::Objects(other)) => {
                one.extend(other);
                Ok(Answer::Objects(one))
            }
            (other, _) => Ok(other),
        }
    }
}

/// The path of a request. Settings are not forwarded to replicas, which may have their own.
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

/// Refuses a name that would lead to another endpoint.
fn unusable(index_name: &str) -> Option<DeliveryOutcome> {
    matches!(index_name, "" | "." | ".." | "*").then(|| DeliveryOutcome::Blocked {
        reason: format!("index name \"{index_name}\" cannot be used"),
        hint: "Use an index name that Algolia accepts.",
        status: None,
    })
}

/// The error of a question that was not answered.
fn ask_error(outcome: DeliveryOutcome) -> AskError {
    let (kind, reason, hint) = match outcome {
        DeliveryOutcome::Delivered { .. } => (AskErrorKind::Transient, "internal error".to_owned(), ""),
        DeliveryOutcome::Retry { reason, .. } => (AskErrorKind::Transient, reason, ""),
        DeliveryOutcome::Rejected { reason, status: 413, .. } => (
            AskErrorKind::TooLong,
            reason,
            "Check audit_algolia.hosts, and any proxy or gateway in front of them; or compare less at a time, by since and until.",
        ),
        DeliveryOutcome::Rejected { reason, .. } => (AskErrorKind::Refused, reason, "Check the name of the index."),
        DeliveryOutcome::Blocked { reason, hint, .. } if hint == MORE_RIGHTS_TO_READ => {
            (AskErrorKind::Rights, reason, hint)
        }
        DeliveryOutcome::Blocked { reason, hint, .. } => (AskErrorKind::Refused, reason, hint),
    };
    AskError { kind, reason, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
