//! What a response means for the rows of its batch. These are pure functions; their callers act.
//!
//! The statuses and texts are those of Algolia's engines, of gateways in front of them and of Algolia's official
//! clients. Messages are matched loosely, and every status has a verdict without its message.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::delivery::offending_record::{ErrorBody, OffendingRecord};
use crate::delivery::transport::Response;
use crate::delivery::wording::{describe, sentence};

/// The longest wait that `Retry-After` can demand. A wrong clock must not stop delivery for years.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The meaning of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Algolia has queued the batch.
    Delivered {
        /// The indexing task, if the answer names one.
        task_id: Option<i64>,
    },
    /// This host does not work. Another one may.
    NextHost {
        /// The response in words.
        reason: String,
        /// How long the host asks not to be called.
        not_before: Option<Duration>,
    },
    /// A proxy, gateway or firewall in front of this host has refused the request; the answer is not Algolia's. Another
    /// host may be reachable.
    Gateway {
        /// The response in words.
        reason: String,
        /// The HTTP status.
        status: u16,
    },
    /// The application is throttled, on every host alike.
    Retry {
        /// The response in words.
        reason: String,
        /// How long Algolia asks not to be called.
        not_before: Option<Duration>,
    },
    /// Because of one record, nothing of the batch was queued.
    Rejected {
        /// Algolia's complaint.
        reason: String,
        /// The HTTP status.
        status: u16,
        /// The record that the complaint names.
        offending_record: OffendingRecord,
    },
    /// Nothing can be delivered until somebody changes a setting, a key or the plan.
    Blocked {
        /// The response in words.
        reason: String,
        /// What to change.
        hint: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// The body is larger than the host accepts.
    TooLarge {
        /// The response in words.
        reason: String,
    },
    /// The host does not accept gzip.
    CompressionRefused {
        /// The response in words.
        reason: String,
    },
}

/// Classifies the response to a batch of `rows` rows.
///
/// A 2xx counts as delivered only if its JSON lists one objectID per row. A proxy's page or a truncated body proves
/// nothing, and sending the same objectIDs again does no harm. A 204 does not count either: Algolia's clients accept
/// it, but the batch endpoint never returns it, and broken proxies often do.
pub fn classify(response: &Response, rows: usize, now: SystemTime) -> Verdict {
    if (200..300).contains(&response.status) {
        return accepted(response, rows);
    }
    classify_error(response, now)
}

/// Classifies the response to an index's settings.
///
/// A 2xx counts only with the JSON of a task, or as 204. A refusal that concerns only settings, for example because the
/// key may write nothing but records, rejects them. Otherwise they would be retried for ever while records are
/// delivered.
pub fn classify_settings(response: &Response, now: SystemTime) -> Verdict {
    let status = response.status;
    if (200..300).contains(&status) {
        return applied(response);
    }
    let verdict = classify_error(response, now);
    let hint = match &verdict {
        Verdict::Blocked { .. } | Verdict::Gateway { .. } if matches!(status, 404 | 405) => {
            "Check whether the proxy or gateway in front of Algolia lets settings pass."
        }
        Verdict::Blocked { hint, .. } if *hint == MORE_RIGHTS => {
            "Give the API key the right editSettings, then call audit_algolia.redrive()."
        }
        _ => return verdict,
    };
    let error_body = error_body(response).map(|error_body| error_body.message);
    let reason = format!("{}; {hint}", describe(response, error_body.as_deref()));
    Verdict::Rejected { reason, status, offending_record: OffendingRecord::Unknown }
}

/// What the answer to a question is read from.
#[derive(Clone, Copy, Debug)]
pub enum Material<'a> {
    /// The body of a success.
    Body(&'a [u8]),
    /// A message that something does not exist, in lower case.
    Absence(&'a str),
}

/// Classifies the response to a question. It counts as an answer only if `read` understands it.
pub fn classify_read(
    response: &Response,
    now: SystemTime,
    read: impl FnOnce(Material<'_>) -> bool,
) -> Verdict {
    let status = response.status;
    if (200..300).contains(&status) {
        if read(Material::Body(&response.body)) {
            return Verdict::Delivered { task_id: None };
        }
        let reason =
            sentence(&format!("{}, but the answer is not the JSON asked for", describe(response, None)));
        return Verdict::NextHost { reason, not_before: None };
    }
    let says =
        error_body(response).map_or(String::new(), |error_body| error_body.message.to_ascii_lowercase());
    if status == 404 && !says.is_empty() && read(Material::Absence(&says)) {
        return Verdict::Delivered { task_id: None };
    }
    match classify_error(response, now) {
        // "Method not allowed with this API key (nbObjects > hitsPerPage)": the key's maxHitsPerQuery allows fewer
        // objects per request.
        Verdict::Blocked { reason, hint: MORE_RIGHTS, .. } if says.contains("hitsperpage") => {
            Verdict::TooLarge { reason }
        }
        Verdict::Blocked { reason, hint: MORE_RIGHTS | READABLE, status } => {
            Verdict::Blocked { reason, hint: MORE_RIGHTS_TO_READ, status }
        }
        other => other,
    }
}

/// Algolia's error message; `None` if somebody else answered, for example a proxy.
fn error_body(response: &Response) -> Option<ErrorBody> {
    let kind = response.content_type.as_deref().unwrap_or("json").to_ascii_lowercase();
    kind.contains("json").then(|| ErrorBody::read(&response.body)).flatten()
}

fn applied(response: &Response) -> Verdict {
    #[derive(serde::Deserialize)]
    struct IndexingTask {
        #[serde(rename = "taskID")]
        task_id: i64,
    }
    if response.status == 204 && response.body.is_empty() {
        return Verdict::Delivered { task_id: None };
    }
    match serde_json::from_slice::<IndexingTask>(&response.body) {
        Ok(task) => Verdict::Delivered { task_id: Some(task.task_id) },
        Err(_) => {
            let reason = format!("{}, but the answer is not the JSON of a task", describe(response, None));
            Verdict::NextHost { reason: sentence(&reason), not_before: None }
        }
    }
}

fn classify_error(response: &Response, now: SystemTime) -> Verdict {
    let status = response.status;
    let error_body = error_body(response);
    let message = error_body.as_ref().map(|c| c.message.as_str());
    let reason = describe(response, message);
    let not_before = response.retry_after.as_deref().and_then(|text| retry_after(text, now));
    match (status, &error_body) {
        (400, Some(error_body)) if about_the_index(&error_body.message) => {
            Verdict::Blocked { reason, hint: "Use an index name that Algolia accepts.", status }
        }
        (400 | 422, Some(error_body)) => {
            Verdict::Rejected { reason, status, offending_record: error_body.offending_record() }
        }
        (408 | 421 | 425, _) => Verdict::NextHost { reason, not_before },
        (413, _) => Verdict::TooLarge { reason },
        (415, _) => Verdict::CompressionRefused { reason },
        (429, _) => Verdict::Retry { reason, not_before },
        (407, _) | (400..=499, Some(_)) => {
            Verdict::Blocked { reason, hint: hint(status, message.unwrap_or_default()), status }
        }
        (400..=499, None) => Verdict::Gateway { reason, status },
        _ => Verdict::NextHost { reason, not_before },
    }
}

fn accepted(response: &Response, rows: usize) -> Verdict {
    let reason = match serde_json::from_slice::<Receipt>(&response.body) {
        Ok(receipt) if receipt.ids.len() == rows => {
            return Verdict::Delivered { task_id: receipt.task_id.as_i64() };
        }
        Ok(receipt) => format!("answer lists {} objectIDs for {rows} rows", receipt.ids.len()),
        Err(_) if response.body.is_empty() => "answer is empty".to_owned(),
        Err(error) if error.is_eof() => "answer is cut short".to_owned(),
        Err(_) => "answer is not the JSON of a batch".to_owned(),
    };
    let reason = sentence(&format!("{}, but the {reason}", describe(response, None)));
    Verdict::NextHost { reason, not_before: None }
}

/// The answer to a batch. Unknown keys are ignored, as Algolia recommends.
#[derive(serde::Deserialize)]
struct Receipt {
    #[serde(rename = "objectIDs")]
    ids: Vec<Id>,
    #[serde(default, rename = "taskID")]
    task_id: serde_json::Value,
}

/// An objectID that is only counted. Algolia returns every id as a string.
struct Id;

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct AnyString;
        impl Visitor<'_> for AnyString {
            type Value = Id;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an objectID")
            }
            fn visit_str<E: Error>(self, _: &str) -> Result<Id, E> {
                Ok(Id)
            }
        }
        deserializer.deserialize_str(AnyString)
    }
}

/// Whether the complaint is about the index's name, so that every other batch would fail as well.
fn about_the_index(message: &str) -> bool {
    message.to_ascii_lowercase().starts_with("indexname is not valid")
}

/// The hint for a key that may not write records.
const MORE_RIGHTS: &str = "Give the API key the rights addObject and deleteObject.";

/// The hint for a key that is restricted to other indices.
const READABLE: &str = "Let the API key write to this index.";

/// The hint for a key that may not read records.
pub(crate) const MORE_RIGHTS_TO_READ: &str =
    "Give the API key the rights search and browse on the index; reconcile reads records with them.";

/// The hint for a refusal by a proxy, gateway or firewall.
pub(crate) const ASK_THE_GATEWAY: &str =
    "The answer is not Algolia's: see why the gateway, proxy or firewall in front of it refuses the request.";

fn hint(status: u16, message: &str) -> &'static str {
    let message = message.to_ascii_lowercase();
    let says = |words: &str| message.contains(words);
    match status {
        402 => "The application's Algolia plan does not include this. Check its billing page.",
        407 => "A proxy demands credentials. Check the proxy settings in the server's environment.",
        404 | 405 => "Check audit_algolia.hosts and audit_algolia.application_id.",
        _ if says("quota") => "Raise the quota of the Algolia plan, or delete records.",
        _ if says("blocked") => "The Algolia application is suspended. Contact Algolia.",
        _ if says("index not allowed") => READABLE,
        _ if says("referer") => "Use an API key without a restriction on referers.",
        _ if says("not enough rights") || says("method not allowed") => MORE_RIGHTS,
        401 | 403 => "Check audit_algolia.application_id and audit_algolia.api_key.",
        _ => "Check audit_algolia.hosts, and any proxy or gateway in front of them.",
    }
}

/// The wait that a `Retry-After` header demands, in seconds or as an HTTP date; `None` if it is neither.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
