//! Answers in words: one printable line of bounded length, fit for a log.
#![forbid(unsafe_code)]

use crate::delivery::transport::Response;

/// The most characters of a reason.
pub(crate) const REASON_CHARS: usize = 300;

/// `503 Service Unavailable: message (Correlation-ID: …)`, or the kind of the body instead of the message. The body
/// itself is not quoted, because a proxy's page may repeat anything.
pub(crate) fn describe(response: &Response, message: Option<&str>) -> String {
    let mut text = match name(response.status) {
        Some(name) => format!("{} {name}", response.status),
        None => response.status.to_string(),
    };
    match message {
        Some(message) => text.push_str(&format!(": {message}")),
        None if response.body.is_empty() => {}
        None => {
            let kind = response.content_type.as_deref().map_or("unnamed content", |kind| kind);
            let kind: String = kind.chars().take_while(|&c| c != ';').take(40).collect();
            text.push_str(&format!(" with {} bytes of {kind}", response.body.len()));
        }
    }
    let id: String = response.correlation_id.iter().flat_map(|id| id.chars()).take(64).collect();
    if id.is_empty() {
        return sentence(&text);
    }
    let id = sentence(&format!(" (Correlation-ID: {id})"));
    shorten(&sentence(&text), REASON_CHARS - id.chars().count()) + &id
}

/// Makes a text fit for one line of a log: printable and bounded.
pub(crate) fn sentence(text: &str) -> String {
    let printable = |c: char| {
        if c.is_control() || is_formatting(c) {
            ' '
        } else {
            c
        }
    };
    shorten(&text.chars().take(REASON_CHARS + 1).map(printable).collect::<String>(), REASON_CHARS)
}

/// Characters that are no controls but reverse or hide the text around them.
fn is_formatting(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Cuts a text that is too long.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars.saturating_sub(1)).chain(['…']).collect()
}

/// The name of a status.
fn name(status: u16) -> Option<&'static str> {
    Some(match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => return None,
    })
}
