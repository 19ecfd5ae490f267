//! What a session asks Algolia, and what Algolia answers: which records an index holds.
//!
//! Answers contain fingerprints of records, not the records.
#![forbid(unsafe_code)]

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::delivery::transport::Method;
use crate::record::Fingerprint;

/// Most records on one page of an index.
pub const PAGE: usize = 1000;

/// Something to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What these objects of an index are; 1,000 at most.
    Objects { index: String, ids: Vec<String> },
    /// Which objects an index has, page by page.
    Page {
        index: String,
        /// Only those whose ids begin with it are told.
        prefix: String,
        /// Only those that match are looked at, in Algolia's grammar.
        filters: Option<String>,
        /// What the page before came with.
        cursor: Option<String>,
        /// How many records a page has at most. A cursor remembers the first page's.
        size: usize,
    },
    /// Whether what was sent to an index has been carried out up to a task.
    Task { index: String, task: i64 },
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The objects in the order of the question; nothing for those that are not there.
    Objects(Vec<Option<Fingerprint>>),
    /// Ids, and what leads to the next page, if there is one.
    Page { ids: Vec<String>, cursor: Option<String> },
    /// Whether it has been carried out.
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

/// What an asker can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskErrorKind {
    /// Ask again later.
    Transient,
    /// The key may not read, or not this index.
    Rights,
    /// The answer is too long, or the question: less may be asked at a time.
    TooLong,
    /// Somebody has to change something else.
    Refused,
}

/// What comes back to whoever asked.
pub type AskResult = Result<Answer, AskError>;

impl Question {
    /// The index in question.
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
            // All else is in the cursor.
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

    /// The answer to a question about something of which Algolia says that it does not exist. An index comes into being
    /// with its first record. A task is not to be waited for any more, whatever it is that is not there.
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

    /// The answer when there is more than may be read of something that cannot be asked for in parts: one record as long
    /// as that is none of ours.
    pub(super) fn of_overflow(&self) -> Option<Answer> {
        match self {
            Question::Objects { ids, .. } => {
                Some(Answer::Objects(vec![Some(Fingerprint::FOREIGN); ids.len()]))
            }
            Question::Page { .. } | Question::Task { .. } => None,
        }
    }

    /// Reads the body of an answer; nothing if it is none.
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

    /// Two questions for one whose answer is too long; nothing if it cannot be cut.
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
