//! Sends one request: compresses the body once, then tries each host in turn without a pause.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exchange::Exchange;
use crate::delivery::classify::Verdict;
use crate::delivery::clock::Clock;
use crate::delivery::gzip::{compress, may_be_unread, support_shown_by, GzipSupport, SentAs};
use crate::delivery::hosts::{Candidate, HostResult, Hosts};
use crate::delivery::offending_record::OffendingRecord;
use crate::delivery::outcome::{DeliveryOutcome, TransitFailure};
use crate::delivery::settings::DeliverySettings;
use crate::delivery::transport::{Request, Response, Transport, TransportError};
use crate::delivery::wording::{sentence, shorten};
use crate::secret::Secret;

/// How many characters each host contributes at most to the reason of a failed delivery, and the length of the whole.
const CAUSE_CHARS: usize = 120;
const CAUSES_CHARS: usize = 500;

/// Sends requests to the hosts of one application.
pub(super) struct HostClient<T> {
    settings: DeliverySettings,
    user_agent: String,
    transport: T,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    hosts: Hosts,
    rng: fastrand::Rng,
}

/// Whether the next host is tried.
enum HostOutcome {
    Done(DeliveryOutcome),
    Next { cause: String, transit_failure: TransitFailure },
}

impl<T: Transport> HostClient<T> {
    /// The seed decides the request ids.
    pub(super) fn new(settings: DeliverySettings, hosts: Hosts, transport: T, seed: u64) -> HostClient<T> {
        let state = State { hosts, rng: fastrand::Rng::with_seed(seed) };
        HostClient { user_agent: settings.user_agent(), settings, transport, state: Mutex::new(state) }
    }

    pub(super) fn settings(&self) -> &DeliverySettings {
        &self.settings
    }

    /// Ends all requests at once, without success.
    pub(super) fn shutdown(&self) {
        self.transport.shutdown();
    }

    /// A panic in another thread leaves the state intact, because every change of it is a single assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries each working host.
    pub(super) fn try_hosts(&self, exchange: &mut Exchange<'_>, clock: &dyn Clock) -> DeliveryOutcome {
        let plan = {
            let mut state = self.state();
            exchange.request_id = request_id(&mut state.rng);
            state.hosts.plan(clock.instant())
        };
        if self.settings.compression && plan.iter().any(|candidate| candidate.gzip != GzipSupport::Refused) {
            exchange.gzip = compress(exchange.body);
        }
        let mut causes = Vec::with_capacity(plan.len());
        for candidate in &plan {
            match self.try_host(candidate, exchange, clock) {
                HostOutcome::Done(outcome) => {
                    exchange.transit_failure = TransitFailure::None;
                    return outcome;
                }
                HostOutcome::Next { cause, transit_failure } => {
                    exchange.transit_failure = exchange.transit_failure.and(transit_failure);
                    causes.push(format!("{}: {}", candidate.host.name(), shorten(&cause, CAUSE_CHARS)));
                }
            }
        }
        // A pause that one host asks for does not concern the others.
        let not_before = self.state().hosts.wait(clock.instant());
        DeliveryOutcome::Retry { reason: shorten(&causes.join("; "), CAUSES_CHARS), not_before }
    }

    /// Tries one host: a single request, unless a kept connection was closed or the refusal of gzip requires another.
    fn try_host(&self, candidate: &Candidate, exchange: &mut Exchange<'_>, clock: &dyn Clock) -> HostOutcome {
        let mut fresh_connection = false;
        let mut sent = match exchange.gzip {
            Some(_) if candidate.gzip != GzipSupport::Refused => SentAs::Compressed,
            _ => SentAs::Plain,
        };
        loop {
            let answer = self.attempt(candidate, exchange, sent, fresh_connection);
            exchange.may_come_late |= match &answer {
                Ok(response) => is_of_a_gateway(response.status),
                Err(error) => error.may_be_executed(),
            };
            let (health, step) = match answer {
                Ok(response) => match self.judge(&response, candidate, exchange, sent, clock) {
                    Some(verdict) => after_verdict(verdict),
                    None => {
                        sent = SentAs::PlainInstead;
                        continue;
                    }
                },
                // Not the host's fault: the question asked for too much.
                Err(TransportError::BodyTooLarge(reason)) if exchange.reads => {
                    exchange.overflowed = true;
                    (HostResult::Answered, HostOutcome::Done(too_large(reason)))
                }
                Err(TransportError::Closed) => {
                    let reason = TransportError::Closed.to_string();
                    return HostOutcome::Done(DeliveryOutcome::Retry { reason, not_before: None });
                }
                // A host that answered before may have closed an idle connection meanwhile. That says nothing about its
                // health.
                Err(TransportError::Reset(_)) if candidate.answered_before && !fresh_connection => {
                    fresh_connection = true;
                    continue;
                }
                Err(error) => {
                    let timeout =
                        matches!(error, TransportError::Timeout(_) | TransportError::ConnectTimeout(_));
                    let health = if timeout { HostResult::TimedOut } else { HostResult::Failed };
                    let cause = sentence(&self.settings.api_key.redact(&error.to_string()));
                    // If nothing was sent, nobody has seen a record.
                    let transit_failure = match error.may_be_executed() {
                        true => TransitFailure::Unanswered,
                        false => TransitFailure::None,
                    };
                    (health, HostOutcome::Next { cause, transit_failure })
                }
            };
            self.state().hosts.mark(candidate, health, clock.instant());
            return step;
        }
    }

    /// Classifies a response; `None` if that requires sending the body without gzip first.
    fn judge(
        &self,
        response: &Response,
        candidate: &Candidate,
        exchange: &Exchange<'_>,
        sent: SentAs,
        clock: &dyn Clock,
    ) -> Option<Verdict> {
        let verdict = (exchange.judge)(response, clock.system_time());
        // A batch that will not be divided is not given up because of its compression.
        let is_cut = exchange.divisible && matches!(verdict, Verdict::Rejected { .. });
        let in_doubt = candidate.gzip != GzipSupport::Read || !is_cut;
        if sent == SentAs::Compressed && in_doubt && may_be_unread(response.status, &verdict) {
            return None;
        }
        if let Some(gzip) =
            support_shown_by(sent, response.status, &verdict).filter(|gzip| *gzip != candidate.gzip)
        {
            self.state().hosts.note_gzip(candidate, gzip, clock.instant());
        }
        Some(verdict)
    }

    fn attempt(
        &self,
        candidate: &Candidate,
        exchange: &mut Exchange<'_>,
        sent: SentAs,
        fresh_connection: bool,
    ) -> Result<Response, TransportError> {
        exchange.attempts += 1;
        exchange.host = candidate.host.name().to_owned();
        let mut headers = vec![
            ("x-algolia-application-id", self.settings.application_id.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("user-agent", self.user_agent.as_str()),
            ("request-id", exchange.request_id.as_str()),
        ];
        let gzip = exchange.gzip.as_deref().filter(|_| sent == SentAs::Compressed);
        if gzip.is_some() {
            headers.push(("content-encoding", "gzip"));
        }
        let body = gzip.unwrap_or(exchange.body);
        exchange.wire_bytes = body.len();
        let mut response = self.transport.send(&Request {
            method: exchange.method,
            host: &candidate.host,
            path: &exchange.path,
            headers: &headers,
            api_key: &self.settings.api_key,
            body,
            connect_timeout: candidate.connect_timeout,
            answer_timeout: candidate.answer_timeout,
            request_timeout: candidate.request_timeout,
            response_limit: exchange.response_limit,
            fresh_connection,
        })?;
        self.redact(&mut response);
        Ok(response)
    }

    /// Removes the key from an answer that echoes it, before any part of the answer becomes a reason.
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
        // JSON can spell a character in several ways. Serialised again, it has one spelling.
        let spelled = serde_json::Value::from(key.expose()).to_string();
        let spelled = Secret::new(spelled.get(1..spelled.len() - 1).unwrap_or_default());
        if let Ok(json) = serde_json::from_slice::<serde_json::Value>(&response.body) {
            let json = json.to_string();
            if json.contains(spelled.expose()) {
                response.body = spelled.redact(&json).into_bytes();
            }
        }
    }
}

/// Whether the status means that a gateway has stopped waiting for the host: the host may have the request and still
/// execute it. After any other answer, a request is not executed any more.
fn is_of_a_gateway(status: u16) -> bool {
    matches!(status, 499 | 502 | 504 | 520..=527)
}

fn too_large(reason: String) -> DeliveryOutcome {
    DeliveryOutcome::Rejected { reason, status: 413, offending_record: OffendingRecord::Unknown }
}

/// What a verdict means for the host and for the delivery.
fn after_verdict(verdict: Verdict) -> (HostResult, HostOutcome) {
    let outcome = match verdict {
        Verdict::NextHost { reason, not_before } => {
            let health = not_before.map_or(HostResult::Failed, HostResult::AskedToWait);
            return (
                health,
                HostOutcome::Next { cause: reason, transit_failure: TransitFailure::Unanswered },
            );
        }
        Verdict::Gateway { reason, status } => {
            let transit_failure = TransitFailure::Refused(status);
            return (HostResult::Answered, HostOutcome::Next { cause: reason, transit_failure });
        }
        Verdict::Delivered { task_id } => DeliveryOutcome::Delivered { task_id },
        Verdict::Retry { reason, not_before } => DeliveryOutcome::Retry { reason, not_before },
        Verdict::Rejected { reason, status, offending_record } => {
            DeliveryOutcome::Rejected { reason, status, offending_record }
        }
        Verdict::Blocked { reason, hint, status } => {
            DeliveryOutcome::Blocked { reason, hint, status: Some(status) }
        }
        Verdict::TooLarge { reason } => too_large(reason),
        Verdict::CompressionRefused { reason } => DeliveryOutcome::Blocked {
            reason,
            hint: "Check audit_algolia.hosts, and any proxy or gateway in front of them.",
            status: Some(415),
        },
    };
    (HostResult::Answered, HostOutcome::Done(outcome))
}

/// An id by which Algolia's support finds the request: eleven letters and digits, the same for all attempts of a
/// delivery.
fn request_id(rng: &mut fastrand::Rng) -> String {
    (0..11).map(|_| rng.alphanumeric()).collect()
}
