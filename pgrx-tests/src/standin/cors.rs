//! Lets pages of other origins send requests: answers preflight requests, and adds a header to every answer.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};

use super::reply::Reply;

const ALLOW_ORIGIN: HeaderName = HeaderName::from_static("access-control-allow-origin");
const REQUESTED: &str = "access-control-request-headers";

/// Whether a browser asks for permission before it sends a request.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key("origin")
}

/// Allows what the browser asks for.
pub(super) fn preflight(headers: &HeaderMap) -> Reply {
    let requested = headers.get(REQUESTED).and_then(|value| value.to_str().ok());
    let allowed = requested.unwrap_or("content-type, x-algolia-application-id, x-algolia-api-key");
    let mut reply = Reply::empty(200);
    for (name, value) in [
        ("access-control-allow-methods", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
        ("access-control-allow-headers", allowed),
        ("access-control-max-age", "86400"),
    ] {
        reply.headers.push((name.to_owned(), value.to_owned()));
    }
    reply
}

/// Lets pages of any origin read the answer.
pub(super) fn open(headers: &mut HeaderMap) {
    headers.insert(ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert("access-control-expose-headers", HeaderValue::from_static("correlation-id"));
}
