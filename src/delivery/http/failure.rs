//! Says in a few words why there is no response. It never quotes other software's messages, which might repeat the
//! request.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::time::Duration;

use ureq::{Error, Timeout};

use crate::delivery::transport::{Request, TransportError};

/// The kind and the reason of an error.
pub(super) fn explain(error: Error, request: &Request<'_>) -> TransportError {
    match error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => no_connection_in_time(request),
        Error::Timeout(Timeout::RecvResponse) => no_answer_within(request.answer_timeout),
        Error::Timeout(_) => no_answer_within(request.request_timeout),
        Error::HostNotFound => TransportError::Connect("host name not found".to_owned()),
        Error::ConnectionFailed => TransportError::Connect("no connection".to_owned()),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
            TransportError::Connect("no connection through the proxy".to_owned())
        }
        Error::Io(error) => explain_io(&error, request),
        Error::Rustls(error) => TransportError::Tls(tls(&error.to_string())),
        Error::Tls(_) | Error::TlsRequired | Error::Pem(_) => {
            TransportError::Tls("no secure connection".to_owned())
        }
        Error::BodyExceedsLimit(limit) => {
            TransportError::BodyTooLarge(format!("answer is longer than {limit} bytes"))
        }
        Error::LargeResponseHeader(..) => {
            TransportError::Other("header of the answer is too long".to_owned())
        }
        Error::Decompress(..) => TransportError::Other("answer cannot be decompressed".to_owned()),
        Error::Protocol(_) => TransportError::Other("answer is not HTTP".to_owned()),
        Error::BadUri(_) | Error::Http(_) => TransportError::Other("request cannot be built".to_owned()),
        // The text of any other error might repeat the request.
        _ => TransportError::Other("request failed".to_owned()),
    }
}

fn explain_io(error: &io::Error, request: &Request<'_>) -> TransportError {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => no_answer_within(request.request_timeout),
        ErrorKind::ConnectionRefused => TransportError::Connect("connection refused".to_owned()),
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => TransportError::Connect("host is unreachable".to_owned()),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof
        | ErrorKind::WriteZero => TransportError::Reset("connection was closed by the host".to_owned()),
        // rustls reports all of its errors in this way.
        ErrorKind::InvalidData => TransportError::Tls(tls(&error.to_string())),
        kind => TransportError::Other(kind.to_string()),
    }
}

fn tls(text: &str) -> String {
    if text.contains("No CA certificates") {
        return "this machine has no certificate authorities; install them or set audit_algolia.ca_file"
            .to_owned();
    }
    if text.contains("UnknownIssuer") {
        return "certificate is signed by an unknown authority; name a private one in audit_algolia.ca_file"
            .to_owned();
    }
    for (sign, meaning) in [
        ("NotValidForName", "certificate is for another name"),
        ("not valid for name", "certificate is for another name"),
        ("Expired", "certificate has expired"),
        ("certificate expired", "certificate has expired"),
        ("not valid yet", "certificate is not valid yet"),
        ("Revoked", "certificate has been revoked"),
    ] {
        if text.contains(sign) {
            return meaning.to_owned();
        }
    }
    format!("no secure connection: {text}")
}

fn no_connection_in_time(request: &Request<'_>) -> TransportError {
    TransportError::ConnectTimeout(format!("no connection within {}", seconds(request.connect_timeout)))
}

fn no_answer_within(time: Duration) -> TransportError {
    TransportError::Timeout(format!("no answer within {}", seconds(time)))
}

/// A duration such as `2 s` or `0.25 s`.
fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 1000.0).round() / 1000.0)
}
