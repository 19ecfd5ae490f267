//! The scripted faults: what goes wrong, for which requests, and how often.
//!
//! Rules form a queue. A request takes the first rule that matches it, so two `Times::Once` rules apply to two requests
//! in order. A rule that is used up leaves the queue.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};

use super::route::Call;

/// Chooses records by objectID.
#[derive(Clone)]
pub struct IdPredicate(pub(super) Arc<dyn Fn(&str) -> bool + Send + Sync>);

/// The body of a scripted answer.
#[derive(Clone, Debug)]
pub enum FaultBody {
    /// `application/json`.
    Json(Value),
    /// `text/html`, as an edge in front of the service sends.
    Html(String),
    /// `text/plain`.
    Text(String),
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Never answers and applies nothing. `clear_faults` or the stand-in's end closes the connection.
    Hang,
    /// Hangs for a while (or until released), then serves the request as usual.
    HangFor(Duration),
    /// Applies the request after this time, even if nobody is waiting for it any more, and never answers.
    ServeLate(Duration),
    /// Resets the connection; nothing is applied.
    Reset,
    /// Answers this; nothing is applied.
    Status {
        /// The HTTP status.
        code: u16,
        /// The body.
        body: FaultBody,
        /// Further headers, such as `Retry-After`.
        headers: Vec<(String, String)>,
    },
    /// Applies, then lets the body of the answer trickle over this time.
    SlowBody(Duration),
    /// Applies and begins to answer; the body follows when released (see `Hang`).
    StallBody,
    /// Applies, announces the whole answer, sends half of it and closes the connection.
    Truncate,
    /// Applies, then closes the connection without answering.
    AcceptThenDrop,
    /// Applies, then never answers (see `Hang`).
    AcceptThenHang,
    /// Answers 200 and loses the chosen records.
    LoseRecords(IdPredicate),
    /// Answers 307 to this URL; nothing is applied.
    Redirect(String),
    /// Applies, then answers 204 with an empty body.
    EmptyNoContent,
    /// Applies, then answers with objectIDs that nobody sent.
    WrongObjectIds,
    /// Applies, then sends a body that never ends (until released).
    EndlessBody,
}

impl Fault {
    /// An answer with Algolia's JSON error shape.
    pub fn error(code: u16, message: &str) -> Self {
        let body = FaultBody::Json(json!({"message": message, "status": code}));
        Fault::Status { code, body, headers: Vec::new() }
    }

    /// 429, with `Retry-After` in seconds when given.
    pub fn too_many_requests(retry_after: Option<u64>) -> Self {
        let headers = retry_after.map(|s| ("Retry-After".to_owned(), s.to_string())).into_iter().collect();
        let body = FaultBody::Json(json!({"message": "Too many requests", "status": 429}));
        Fault::Status { code: 429, body, headers }
    }

    /// A page of a proxy in front of Algolia, such as a web application firewall.
    pub fn page(code: u16) -> Self {
        let body = FaultBody::Html("<html><h1>This request was not let through</h1></html>".to_owned());
        Fault::Status { code, body, headers: Vec::new() }
    }

    /// 403: the application is suspended.
    pub fn blocked() -> Self {
        Fault::error(
            403,
            "This operation cannot be processed, the application is blocked. Contact us to unblock it.",
        )
    }

    /// 403: the plan's limit of records is reached.
    pub fn record_quota() -> Self {
        Fault::error(
            403,
            "You have exceeded your Record quota. You’ll need to change your plan for more capacity, or delete \
             records. See more details at \
             https://www.algolia.com/account/billing/details?applicationId=STANDIN",
        )
    }

    /// `LoseRecords` from a closure.
    pub fn lose(chosen: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Fault::LoseRecords(IdPredicate(Arc::new(chosen)))
    }
}

impl fmt::Debug for IdPredicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("some records")
    }
}

/// How many requests a rule hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// One.
    Once,
    /// This many.
    Count(u64),
    /// All, until cleared.
    Always,
}

/// A fault and the requests that it is for.
#[derive(Clone, Debug)]
pub struct FaultRule {
    fault: Fault,
    left: Option<u64>,
    host: Option<usize>,
    index: Option<String>,
    text: Option<String>,
    /// The calls that it is for; a request that is no known call matches none.
    calls: Option<fn(Call) -> bool>,
    percent: u64,
    dice: u64,
}

impl FaultRule {
    /// A rule for every request to every host.
    pub fn new(fault: Fault, times: Times) -> Self {
        let left = match times {
            Times::Once => Some(1),
            Times::Count(n) => Some(n),
            Times::Always => None,
        };
        FaultRule { fault, left, host: None, index: None, text: None, calls: None, percent: 100, dice: 0 }
    }

    /// Only requests to this address (its position in `base_urls`).
    pub fn host(mut self, host: usize) -> Self {
        self.host = Some(host);
        self
    }

    /// Only requests whose path names this index (`*` for the multi-index endpoints).
    pub fn index(mut self, index: &str) -> Self {
        self.index = Some(index.to_owned());
        self
    }

    /// Only requests whose decompressed body contains this text, as with a proxy that blocks a record.
    pub fn containing(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// Only requests that write.
    pub fn writes(mut self) -> Self {
        self.calls = Some(Call::writes);
        self
    }

    /// Only requests that read.
    pub fn reads(mut self) -> Self {
        self.calls = Some(|call| !call.writes());
        self
    }

    /// Only requests that write settings.
    pub fn settings(mut self) -> Self {
        self.calls = Some(|call| call == Call::SetSettings);
        self
    }

    /// Only this percentage of the matching requests, drawn from a sequence that the seed determines.
    pub fn percent(mut self, percent: u8, seed: u64) -> Self {
        self.percent = u64::from(percent);
        self.dice = seed;
        self
    }

    fn matches(&mut self, host: usize, index: &str, call: Option<Call>, body: &[u8]) -> bool {
        let contains = |text: &str| std::str::from_utf8(body).is_ok_and(|body| body.contains(text));
        if self.host.is_some_and(|wanted| wanted != host)
            || self.index.as_deref().is_some_and(|wanted| wanted != index)
            || self.calls.is_some_and(|wanted| !call.is_some_and(wanted))
            || self.text.as_deref().is_some_and(|text| !contains(text))
        {
            return false;
        }
        self.percent >= 100 || roll(&mut self.dice) % 100 < self.percent
    }
}

/// The queue of rules.
#[derive(Default)]
pub(super) struct FaultQueue(Vec<FaultRule>);

impl FaultQueue {
    pub(super) fn push(&mut self, rule: FaultRule) {
        if rule.left != Some(0) {
            self.0.push(rule);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the fault for a request, and counts it.
    pub(super) fn take(
        &mut self,
        host: usize,
        index: &str,
        call: Option<Call>,
        body: &[u8],
    ) -> Option<Fault> {
        let at = self.0.iter_mut().position(|rule| rule.matches(host, index, call, body))?;
        let rule = self.0.get_mut(at)?;
        let fault = rule.fault.clone();
        if let Some(left) = &mut rule.left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(at);
            }
        }
        Some(fault)
    }
}

/// One draw of the splitmix64 sequence.
fn roll(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
