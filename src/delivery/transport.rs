//! The interface between the sink, which decides, and the HTTP client, which sends.
//!
//! Tests of the sink use a transport that plays back answers.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::delivery::host_url::HostUrl;
use crate::secret::Secret;

/// The HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Has no body.
    Get,
    Post,
    Put,
}

/// One attempt: a request to one host.
pub struct Request<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The host, to which the path is appended.
    pub host: &'a HostUrl,
    /// The encoded path, beginning with a slash.
    pub path: &'a str,
    /// Headers other than the key.
    pub headers: &'a [(&'static str, &'a str)],
    /// The key, apart from the other headers so that it is not shown by accident.
    pub api_key: &'a Secret,
    /// The body as sent.
    pub body: &'a [u8],
    /// Limits the name lookup, and separately the set-up of the connection.
    pub connect_timeout: Duration,
    /// Limits the wait for the beginning of the answer, after everything was sent.
    pub answer_timeout: Duration,
    /// Limits the whole attempt.
    pub request_timeout: Duration,
    /// The most bytes of a response body, after decompression.
    pub response_limit: usize,
    /// Whether a new connection must be opened.
    pub fresh_connection: bool,
}

/// A response of any status, as far as it matters.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The header `content-type`.
    pub content_type: Option<String>,
    /// The header `retry-after`: seconds or an HTTP date.
    pub retry_after: Option<String>,
    /// The header `correlation-id`, by which Algolia's support finds the request.
    pub correlation_id: Option<String>,
    /// The body after decompression.
    pub body: Vec<u8>,
}

/// Why there is no response. The texts are short, lower-case and free of secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The answer took too long. The request may have been executed.
    #[error("{0}")]
    Timeout(String),
    /// No connection in time. Nothing was sent.
    #[error("{0}")]
    ConnectTimeout(String),
    /// No connection: unknown host, refused, or unreachable.
    #[error("{0}")]
    Connect(String),
    /// The host could not prove its identity, or does not speak TLS.
    #[error("{0}")]
    Tls(String),
    /// The connection broke during the attempt, or an idle one had been closed before.
    #[error("{0}")]
    Reset(String),
    /// The response is longer than allowed.
    #[error("{0}")]
    BodyTooLarge(String),
    /// The client was shut down. The host is not at fault.
    #[error("delivery is shutting down")]
    Closed,
    /// Anything else, such as an answer that is not HTTP.
    #[error("{0}")]
    Other(String),
}

impl TransportError {
    /// Whether the host may have received the request and may execute it.
    pub fn may_be_executed(&self) -> bool {
        !matches!(
            self,
            TransportError::ConnectTimeout(_) | TransportError::Connect(_) | TransportError::Tls(_)
        )
    }
}

/// Sends one request and reads its response. Called from several threads at once.
pub trait Transport: Send + Sync {
    /// One attempt. Every status is a response; an error means that there is none.
    fn send(&self, request: &Request<'_>) -> Result<Response, TransportError>;

    /// Ends every attempt under way and refuses new ones, with [`TransportError::Closed`].
    fn shutdown(&self) {}
}

impl<T: Transport + ?Sized> Transport for std::sync::Arc<T> {
    fn send(&self, request: &Request<'_>) -> Result<Response, TransportError> {
        (**self).send(request)
    }

    fn shutdown(&self) {
        (**self).shutdown();
    }
}
