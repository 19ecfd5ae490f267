//! One request to an application, and what became of it.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use crate::delivery::classify::Verdict;
use crate::delivery::outcome::TransitFailure;
use crate::delivery::transport::{Method, Response};

/// One delivery or question while its hosts are tried.
pub(super) struct Exchange<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: &'a [u8],
    pub(super) response_limit: usize,
    pub(super) judge: &'a dyn Fn(&Response, SystemTime) -> Verdict,
    /// Whether it is a question.
    pub(super) reads: bool,
    /// Whether parts of it are sent if it is refused.
    pub(super) divisible: bool,
    /// Whether an answer was longer than allowed.
    pub(super) overflowed: bool,
    pub(super) request_id: String,
    pub(super) gzip: Option<Vec<u8>>,
    pub(super) host: String,
    pub(super) attempts: u32,
    pub(super) wire_bytes: usize,
    pub(super) may_come_late: bool,
    pub(super) transit_failure: TransitFailure,
}

impl<'a> Exchange<'a> {
    /// A delivery that has not begun. `judge` classifies a response, which may have `response_limit` bytes.
    pub(super) fn new(
        method: Method,
        path: String,
        body: &'a [u8],
        response_limit: usize,
        judge: &'a dyn Fn(&Response, SystemTime) -> Verdict,
    ) -> Exchange<'a> {
        Exchange {
            method,
            path,
            body,
            response_limit,
            judge,
            reads: false,
            divisible: false,
            overflowed: false,
            request_id: String::new(),
            gzip: None,
            host: String::new(),
            attempts: 0,
            wire_bytes: 0,
            may_come_late: false,
            transit_failure: TransitFailure::None,
        }
    }
}
