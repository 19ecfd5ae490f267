//! Which record of a rejected batch Algolia complains about.
//!
//! Algolia rejects a batch as a whole and reports only the first offender, in one of several shapes. Its messages are
//! no stable interface, so every pattern here is only a shortcut. A message that no pattern matches gives
//! [`OffendingRecord::Unknown`], and the caller finds the record by halving.
#![forbid(unsafe_code)]

use serde::Deserialize;

use crate::delivery::batch::Batch;

/// What a rejection says about which record is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffendingRecord {
    /// The record or records with this objectID.
    ObjectId(String),
    /// The record at this place in the batch, counted from 0.
    Position(usize),
    /// A column of the body, counted from 1. It is only a hint and may lie beside the record, so a record found by it
    /// is sent alone before it is given up.
    Column(usize),
    /// Nothing that is understood.
    Unknown,
}

/// The body of an error, as far as it is understood. Other keys are ignored.
#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) message: String,
    #[serde(default)]
    position: serde_json::Value,
    #[serde(default, rename = "objectID")]
    object_id: serde_json::Value,
}

impl ErrorBody {
    /// Reads the JSON of a client error; `None` if the body is something else, such as a proxy's page.
    pub(crate) fn read(body: &[u8]) -> Option<ErrorBody> {
        serde_json::from_slice(body).ok()
    }

    /// The record that the complaint names. Keys take precedence over the message, and exact places over guesses.
    pub(crate) fn offending_record(&self) -> OffendingRecord {
        let by_key = match &self.object_id {
            serde_json::Value::String(id) if !id.is_empty() => Some(OffendingRecord::ObjectId(id.clone())),
            serde_json::Value::Number(id) => Some(OffendingRecord::ObjectId(id.to_string())),
            _ => None,
        };
        let by_position = || Some(OffendingRecord::Position(usize::try_from(self.position.as_u64()?).ok()?));
        by_key
            .or_else(by_position)
            .or_else(|| classic(&self.message))
            .or_else(|| newer(&self.message))
            .or_else(|| number_after(&self.message, "near line:1 column:").map(OffendingRecord::Column))
            .unwrap_or(OffendingRecord::Unknown)
    }
}

/// `Record at the position 76 objectID=X is too big …`. The position is more reliable: the id reads `undefined` if the
/// record had none.
fn classic(message: &str) -> Option<OffendingRecord> {
    let rest = message.strip_prefix("Record at the position ")?;
    number_after(rest, "").map(OffendingRecord::Position)
}

/// `Record X is too big: size: …`. An objectID may contain this very phrase, hence the last occurrence counts.
fn newer(message: &str) -> Option<OffendingRecord> {
    let (id, _) = message.strip_prefix("Record ")?.rsplit_once(" is too big")?;
    let id = id.strip_prefix("objectID=").unwrap_or(id);
    (!id.is_empty()).then(|| OffendingRecord::ObjectId(id.to_owned()))
}

fn number_after(text: &str, words: &str) -> Option<usize> {
    let rest = &text[text.find(words)? + words.len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

impl OffendingRecord {
    /// Whether the record was named exactly, so that it may be given up without being sent alone.
    pub fn is_certain(&self) -> bool {
        matches!(self, OffendingRecord::ObjectId(_) | OffendingRecord::Position(_))
    }

    /// The places of the records that the complaint can mean. Empty if it names none, or none of this batch; then
    /// halving must find it.
    pub fn rows_in(&self, batch: &Batch) -> Vec<usize> {
        match self {
            OffendingRecord::ObjectId(id) => {
                (0..batch.rows()).filter(|&row| batch.record(row).is_some_and(|r| has_id(r, id))).collect()
            }
            OffendingRecord::Position(row) => Vec::from_iter(Some(*row).filter(|&row| row < batch.rows())),
            OffendingRecord::Column(column) => Vec::from_iter(batch.record_at_offset(*column)),
            OffendingRecord::Unknown => Vec::new(),
        }
    }
}

fn has_id(record: &str, id: &str) -> bool {
    object_id(record).is_some_and(|own| own == id)
}

/// The objectID of a record, as text.
pub fn object_id(record: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Identified {
        #[serde(rename = "objectID")]
        object_id: serde_json::Value,
    }
    match serde_json::from_str(record).ok().map(|Identified { object_id }| object_id)? {
        serde_json::Value::String(own) => Some(own),
        serde_json::Value::Number(own) => Some(own.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::batch::{Action, BatchBuilder, Push};

    fn batch(records: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new(usize::MAX, usize::MAX);
        for record in records {
            assert_eq!(builder.push(Action::AddObject, record), Push::Taken);
        }
        builder.finish()
    }

    fn named_by(body: &str) -> OffendingRecord {
        ErrorBody::read(body.as_bytes()).unwrap().offending_record()
    }

    fn said(message: &str) -> OffendingRecord {
        named_by(&serde_json::json!({"message": message, "status": 400}).to_string())
    }

    #[test]
    fn keys_come_before_the_message() {
        let message = "Record at the position 7 objectID=Z is too big";
        let body = |keys: &str| format!(r#"{{"message":"{message}",{keys},"status":400}}"#);
        assert_eq!(named_by(&body(r#""position":3,"objectID":"X""#)), OffendingRecord::ObjectId("X".into()));
        assert_eq!(named_by(&body(r#""position":3,"objectID":12"#)), OffendingRecord::ObjectId("12".into()));
        assert_eq!(named_by(&body(r#""position":3,"objectID":"""#)), OffendingRecord::Position(3));
        assert_eq!(named_by(&body(r#""position":3,"objectID":null"#)), OffendingRecord::Position(3));
        assert_eq!(named_by(&body(r#""position":-3"#)), OffendingRecord::Position(7));
    }

    #[test]
    fn ids_with_spaces_and_the_phrase_itself_survive() {
        assert_eq!(said("Record a b is too big: size: 1"), OffendingRecord::ObjectId("a b".into()));
        assert_eq!(
            said("Record x is too big is too big: size: 1"),
            OffendingRecord::ObjectId("x is too big".into())
        );
        assert_eq!(said("Record is too big size=1 bytes"), OffendingRecord::Unknown);
    }

    #[test]
    fn an_absurd_number_is_no_place() {
        assert_eq!(said("near line:1 column:99999999999999999999999"), OffendingRecord::Unknown);
        assert_eq!(said("near line:1 column:"), OffendingRecord::Unknown);
        assert_eq!(
            said("Record at the position x is too big"),
            OffendingRecord::ObjectId("at the position x".into())
        );
    }

    #[test]
    fn a_body_that_is_no_complaint_is_not_read_as_one() {
        for body in ["", "<html>", "{}", "[]", r#"{"message":1}"#, r#"{"message":"a""#, "\u{1}"] {
            assert!(ErrorBody::read(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn offending_records_are_found_in_the_batch() {
        let batch = batch(&[r#"{"objectID":"a"}"#, r#"{"x":1,"objectID":7}"#, r#"{"objectID":"a"}"#, "{}"]);
        assert_eq!(OffendingRecord::ObjectId("a".into()).rows_in(&batch), [0, 2]);
        assert_eq!(OffendingRecord::ObjectId("7".into()).rows_in(&batch), [1]);
        assert_eq!(OffendingRecord::Position(3).rows_in(&batch), [3]);
        assert_eq!(OffendingRecord::Column(20).rows_in(&batch), [0]);
        for nobody in [
            OffendingRecord::ObjectId("b".into()),
            OffendingRecord::Position(4),
            OffendingRecord::Column(1),
            OffendingRecord::Unknown,
        ] {
            assert_eq!(nobody.rows_in(&batch), [] as [usize; 0]);
        }
    }
}
