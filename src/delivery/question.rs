//! What a session asks Algolia, and what Algolia answers: which records an index holds.
//!
//! Answers contain fingerprints of records, not the records.
#![forbid(unsafe_code)]

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::delivery::transport::Method;
use crate::record::Fingerprint;

/// The most records on one page of an index.
pub const PAGE: usize = 1000;

/// A question to Algolia.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which records the index has for these objectIDs, at most 1,000.
    Objects { index: String, ids: Vec<String> },
    /// Which objectIDs the index has, page by page.
    Page {
        index: String,
        /// Only ids with this prefix are returned.
        prefix: String,
        /// A filter in Algolia's grammar, if only some records are wanted.
        filters: Option<String>,
        /// The cursor that the page before returned.
        cursor: Option<String>,
        /// The most records per page. The cursor remembers that of the first page.
        size: usize,
    },
    /// Whether the index has executed an indexing task, and with it everything sent before.
    Task { index: String, task: i64 },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The records in the order of the question; `None` for a record that does not exist.
    Objects(Vec<Option<Fingerprint>>),
    /// The ids, and the cursor of the next page if there is one.
    Page { ids: Vec<String>, cursor: Option<String> },
    /// Whether the task was executed.
    Task { published: bool },
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskError {
    pub kind: AskErrorKind,
    /// One bounded line without secrets.
    pub reason: String,
    /// What to change.
    pub hint: String,
}

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskErrorKind {
    /// Ask again later.
    Transient,
    /// The key may not read at all, or not this index.
    Rights,
    /// The answer or the question is too long: ask for less at a time.
    TooLong,
    /// Something else has to be changed first.
    Refused,
}

/// The result of a question.
pub type AskResult = Result<Answer, AskError>;

impl Question {
    /// The index that the question is about.
    pub fn index(&self) -> &str {
        match self {
            Question::Objects { index, .. } | Question::Page { index, .. } | Question::Task { index, .. } => {
                index
            }
        }
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Question::Task { .. } => Method::Get,
            Question::Objects { .. } | Question::Page { .. } => Method::Post,
        }
    }

    /// The path under `/1/indexes/`; `segment` is the encoded name of the index.
    pub(super) fn path(&self, segment: &str) -> String {
        match self {
            Question::Objects { .. } => "/1/indexes/*/objects".to_owned(),
            Question::Page { .. } => format!("/1/indexes/{segment}/browse"),
            Question::Task { task, .. } => format!("/1/indexes/{segment}/task/{task}"),
        }
    }

    pub(super) fn body(&self) -> String {
        match self {
            Question::Objects { index, ids } => {
                let wanted: Vec<_> =
                    ids.iter().map(|id| json!({"indexName": index, "objectID": id})).collect();
                json!({ "requests": wanted }).to_string()
            }
            // The cursor contains everything else.
            Question::Page { cursor: Some(cursor), .. } => json!({ "cursor": cursor }).to_string(),
            Question::Page { filters, size, .. } => {
                let mut body = json!({"hitsPerPage": size, "attributesToRetrieve": ["objectID"]});
                if let Some(filters) = filters {
                    body["filters"] = json!(filters);
                }
                body.to_string()
            }
            Question::Task { .. } => String::new(),
        }
    }

    /// The answer if Algolia says that something does not exist. An index does not exist until its first record. A task
    /// need not be waited for if it does not exist, or its index does not.
    pub(super) fn of_absence(&self, says: &str) -> Option<Answer> {
        let is_index = says.starts_with("index ") && says.ends_with("does not exist");
        (is_index || matches!(self, Question::Task { .. })).then(|| self.of_nothing())
    }

    fn of_nothing(&self) -> Answer {
        match self {
            Question::Objects { ids, .. } => Answer::Objects(vec![None; ids.len()]),
            Question::Page { .. } => Answer::Page { ids: Vec::new(), cursor: None },
            Question::Task { .. } => Answer::Task { published: true },
        }
    }

    /// The answer if the response is too long and the question cannot be divided. A record of that length is not ours.
    pub(super) fn of_overflow(&self) -> Option<Answer> {
        match self {
            Question::Objects { ids, .. } => {
                Some(Answer::Objects(vec![Some(Fingerprint::FOREIGN); ids.len()]))
            }
            Question::Page { .. } | Question::Task { .. } => None,
        }
    }

    /// Reads the body of an answer; `None` if it is malformed.
    pub(super) fn read(&self, body: &[u8]) -> Option<Answer> {
        match self {
            Question::Objects { ids, .. } => {
                let Results { results } = serde_json::from_slice(body).ok()?;
                let prints = results.iter().map(|found| found.map(|text| Fingerprint::of(text.get())));
                (results.len() == ids.len()).then(|| Answer::Objects(prints.collect()))
            }
            Question::Page { prefix, .. } => {
                let Hits { hits, cursor } = serde_json::from_slice(body).ok()?;
                let ids = hits.into_iter().map(|hit| hit.id).filter(|id| id.starts_with(prefix));
                let ids = ids.collect();
                Some(Answer::Page { ids, cursor: cursor.filter(|cursor| !cursor.is_empty()) })
            }
            Question::Task { .. } => {
                let Status { status } = serde_json::from_slice(body).ok()?;
                Some(Answer::Task { published: status == "published" })
            }
        }
    }

    /// Divides a question whose answer is too long into two; `None` if that is impossible.
    pub(super) fn halves(&self) -> Option<(Question, Question)> {
        let Question::Objects { index, ids } = self else {
            return None;
        };
        let (one, other) = ids.split_at_checked(ids.len() / 2).filter(|(one, _)| !one.is_empty())?;
        let part = |ids: &[String]| Question::Objects { index: index.clone(), ids: ids.to_vec() };
        Some((part(one), part(other)))
    }
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<Option<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "objectID")]
    id: String,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

#[cfg(test)]
#[path = "question_tests.rs"]
mod tests;
