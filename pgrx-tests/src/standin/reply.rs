//! Answers before they are sent, and the texts of refusals that several endpoints share.

use bytes::Bytes;
use serde_json::{json, Map, Value};

use super::fault::FaultBody;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Reply::raw(status, body.to_string())
    }

    pub(super) fn ok(body: &Value) -> Self {
        Reply::json(200, body)
    }

    /// JSON text.
    pub(super) fn raw(status: u16, body: String) -> Self {
        Reply {
            status,
            content_type: "application/json; charset=UTF-8",
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Reply { status, content_type: "application/json", headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn scripted(status: u16, body: FaultBody, headers: Vec<(String, String)>) -> Self {
        let (content_type, body) = match body {
            FaultBody::Json(value) => ("application/json; charset=UTF-8", value.to_string()),
            FaultBody::Html(text) => ("text/html", text),
            FaultBody::Text(text) => ("text/plain", text),
        };
        Reply { status, content_type, headers, body: body.into() }
    }
}

/// A refusal: an HTTP status, a message, and possibly more members.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) extra: Vec<(&'static str, Value)>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into(), extra: Vec::new() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(400, message)
    }

    pub(super) fn bad_credentials() -> Self {
        Refusal::new(403, "Invalid Application-ID or API key")
    }

    pub(super) fn method_not_allowed() -> Self {
        Refusal::new(403, "Method not allowed with this API key")
    }

    pub(super) fn index_not_allowed() -> Self {
        Refusal::new(403, "Index not allowed with this API key")
    }

    pub(super) fn no_index(name: &str) -> Self {
        Refusal::new(404, format!("Index {name} does not exist"))
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.extra.push((key, value.into()));
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let mut body = Map::new();
        body.insert("message".to_owned(), json!(refusal.message));
        body.insert("status".to_owned(), json!(refusal.status));
        for (key, value) in refusal.extra {
            body.insert(key.to_owned(), value);
        }
        Reply::json(refusal.status, &Value::Object(body))
    }
}
