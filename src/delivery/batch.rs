//! The body of one request: records copied, in order, into the JSON that Algolia's batch endpoint takes.
//!
//! A batch remembers where each record is, so that an answer that names a place leads to a row.
#![forbid(unsafe_code)]

use std::collections::TryReserveError;
use std::ops::Range;

use crate::memory::reserve_exact;

const HEAD: &str = r#"{"requests":["#;
const TAIL: &str = "]}";

/// What Algolia does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Insert the record, or replace it entirely. Idempotent, since every record carries its objectID.
    AddObject,
    /// Delete the record; the body holds its objectID only. An absent record is fine.
    DeleteObject,
}

impl Action {
    /// The action's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::AddObject => "addObject",
            Action::DeleteObject => "deleteObject",
        }
    }
}

/// The endpoint that a body is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The index's batch endpoint.
    Batch,
    /// The index's settings.
    Settings,
}

/// Whether a batch took a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a record that was not taken belongs to the next batch"]
pub enum Push {
    /// The record is part of the batch.
    Taken,
    /// The batch is unchanged and has no room for the record.
    Full,
}

/// Builds a batch of limited rows and bytes.
#[derive(Debug)]
pub struct BatchBuilder {
    max_rows: usize,
    max_bytes: usize,
    body: String,
    items: Vec<Item>,
}

/// One entry of the batch: where it starts in the body, and the range of its record.
#[derive(Clone, Debug)]
struct Item {
    start: usize,
    record: Range<usize>,
}

impl BatchBuilder {
    /// `max_bytes` limits the whole uncompressed body. One record is always taken, even if a limit is zero, because a
    /// record that fits into no batch would never leave.
    pub fn new(max_rows: usize, max_bytes: usize) -> Self {
        BatchBuilder { max_rows, max_bytes, body: String::from(HEAD), items: Vec::new() }
    }

    /// A builder without limits, with room for `rows` records whose entries have `bytes` bytes in all.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn with_room(rows: usize, bytes: usize) -> Result<Self, TryReserveError> {
        let mut body = String::from(HEAD).into_bytes();
        reserve_exact(&mut body, bytes.saturating_add(TAIL.len()))?;
        let body = String::from_utf8(body).unwrap_or_default();
        let mut items = Vec::new();
        items.try_reserve_exact(rows)?;
        Ok(BatchBuilder { max_rows: usize::MAX, max_bytes: usize::MAX, body, items })
    }

    /// Appends a record, a JSON object that is copied as it is. The first record is always taken, even if it exceeds
    /// the limit: Algolia decides about it.
    pub fn push(&mut self, action: Action, record: &str) -> Push {
        const AROUND: usize = r#",{"action":"","body":}"#.len() + TAIL.len();
        let grown = self.body.len() + AROUND + action.as_str().len() + record.len();
        if !self.items.is_empty() && (self.items.len() >= self.max_rows || grown > self.max_bytes) {
            return Push::Full;
        }
        if !self.items.is_empty() {
            self.body.push(',');
        }
        let start = self.body.len();
        for text in [r#"{"action":""#, action.as_str(), r#"","body":"#, record] {
            self.body.push_str(text);
        }
        self.items.push(Item { start, record: self.body.len() - record.len()..self.body.len() });
        self.body.push('}');
        Push::Taken
    }

    /// The number of records so far.
    pub fn rows(&self) -> usize {
        self.items.len()
    }

    /// The length of the body if it were finished now.
    pub fn bytes(&self) -> usize {
        self.body.len() + TAIL.len()
    }

    /// Finishes the body.
    pub fn finish(mut self) -> Batch {
        self.body.push_str(TAIL);
        Batch { endpoint: Endpoint::Batch, body: self.body, items: self.items }
    }
}

/// A finished request body.
#[derive(Clone, Debug)]
pub struct Batch {
    endpoint: Endpoint,
    body: String,
    items: Vec<Item>,
}

impl Batch {
    /// A batch that consists of an index's settings, a JSON object. It counts as one row.
    pub fn settings(settings: String) -> Batch {
        let whole = Item { start: 0, record: 0..settings.len() };
        Batch { endpoint: Endpoint::Settings, body: settings, items: vec![whole] }
    }

    /// The endpoint it is sent to.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The number of records.
    pub fn rows(&self) -> usize {
        self.items.len()
    }

    /// The length of the body in bytes, before compression.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The body before compression.
    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }

    /// The text of the record at a place in the batch.
    pub fn record(&self, row: usize) -> Option<&str> {
        self.body.get(self.items.get(row)?.record.clone())
    }

    /// The record at a column of the body, which is a single line. Columns count from 1, as in Algolia's messages
    /// (`near line:1 column:20640`). A comma belongs to the record before it: a parser that complains about a whole
    /// record has just read past its end.
    pub fn record_at_offset(&self, column: usize) -> Option<usize> {
        let offset = column.checked_sub(1).filter(|&offset| offset < self.body.len() - 1)?;
        self.items.partition_point(|item| item.start <= offset).checked_sub(1)
    }

    /// How many bytes of the body these records take up.
    pub fn bytes_of(&self, rows: &[usize]) -> usize {
        let items = rows.iter().filter_map(|&row| self.items.get(row));
        items.map(|item| item.record.end - item.start + "},".len()).sum()
    }

    /// A batch of some of the records, in the given order. Places that do not exist are skipped.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn subset(&self, rows: &[usize]) -> Result<Batch, TryReserveError> {
        let mut builder = BatchBuilder::with_room(rows.len(), self.bytes_of(rows))?;
        for item in rows.iter().filter_map(|&row| self.items.get(row)) {
            let start = builder.body.len() + usize::from(!builder.items.is_empty());
            if !builder.items.is_empty() {
                builder.body.push(',');
            }
            let moved = |place: usize| place - item.start + start;
            builder.body.push_str(self.body.get(item.start..item.record.end).unwrap_or_default());
            builder.body.push('}');
            builder.items.push(Item { start, record: moved(item.record.start)..moved(item.record.end) });
        }
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(batch: &Batch) -> &str {
        std::str::from_utf8(batch.body()).unwrap()
    }

    fn batch_of(records: &[String]) -> Batch {
        let mut builder = BatchBuilder::new(usize::MAX, usize::MAX);
        for record in records {
            assert_eq!(builder.push(Action::AddObject, record), Push::Taken);
        }
        builder.finish()
    }

    #[test]
    fn the_body_is_what_the_batch_endpoint_takes() {
        let mut builder = BatchBuilder::new(10, 1000);
        assert_eq!(builder.push(Action::AddObject, r#"{"objectID":"1","name":"Adam"}"#), Push::Taken);
        assert_eq!(builder.push(Action::DeleteObject, r#"{"objectID":"2"}"#), Push::Taken);
        let bytes = builder.bytes();
        let batch = builder.finish();
        assert_eq!(
            text(&batch),
            concat!(
                r#"{"requests":[{"action":"addObject","body":{"objectID":"1","name":"Adam"}},"#,
                r#"{"action":"deleteObject","body":{"objectID":"2"}}]}"#
            )
        );
        assert_eq!((batch.rows(), batch.bytes(), bytes), (2, text(&batch).len(), text(&batch).len()));
        assert_eq!(batch.record(1), Some(r#"{"objectID":"2"}"#));
        assert_eq!(batch.record(2), None);
    }

    #[test]
    fn a_batch_is_full_at_its_number_of_rows() {
        let mut builder = BatchBuilder::new(2, 1000);
        assert_eq!(builder.push(Action::AddObject, "{}"), Push::Taken);
        assert_eq!(builder.push(Action::AddObject, "{}"), Push::Taken);
        assert_eq!(builder.push(Action::AddObject, "{}"), Push::Full);
        assert_eq!(builder.finish().rows(), 2);
    }

    #[test]
    fn a_batch_may_have_exactly_its_number_of_bytes() {
        let whole = batch_of(&["{}".to_owned(), "{}".to_owned()]).bytes();
        for (limit, second) in [(whole, Push::Taken), (whole - 1, Push::Full)] {
            let mut builder = BatchBuilder::new(10, limit);
            assert_eq!(builder.push(Action::AddObject, "{}"), Push::Taken);
            assert_eq!(builder.push(Action::AddObject, "{}"), second);
        }
    }

    #[test]
    fn a_record_larger_than_a_batch_travels_alone() {
        let mut builder = BatchBuilder::new(0, 10);
        assert_eq!(builder.push(Action::AddObject, r#"{"objectID":"larger than that"}"#), Push::Taken);
        assert_eq!(builder.push(Action::AddObject, "{}"), Push::Full);
        assert_eq!(builder.finish().rows(), 1);
    }

    #[test]
    fn an_empty_batch_is_valid_json() {
        assert_eq!(text(&batch_of(&[])), r#"{"requests":[]}"#);
        assert_eq!(batch_of(&[]).record_at_offset(5), None);
    }

    #[test]
    fn a_column_outside_the_records_names_none() {
        let batch = batch_of(&["{}".to_owned(), "{}".to_owned()]);
        for column in [0, 1, HEAD.len(), batch.bytes(), batch.bytes() + 1, usize::MAX] {
            assert_eq!(batch.record_at_offset(column), None, "column {column}");
        }
        assert_eq!(batch.record_at_offset(HEAD.len() + 1), Some(0));
        assert_eq!(batch.record_at_offset(batch.bytes() - 1), Some(1));
    }

    proptest! {
        #[test]
        fn every_byte_of_a_record_leads_back_to_it(names in prop::collection::vec("\\PC{0,12}", 1..12)) {
            let records: Vec<_> = names.iter().map(|n| serde_json::json!({"objectID": n}).to_string()).collect();
            let batch = batch_of(&records);
            for (row, record) in records.iter().enumerate() {
                prop_assert_eq!(batch.record(row), Some(record.as_str()));
                let place = &batch.items[row];
                for offset in place.start..=place.record.end + 1 {
                    prop_assert_eq!(batch.record_at_offset(offset + 1), Some(row));
                }
            }
            let json: serde_json::Value = serde_json::from_slice(batch.body()).unwrap();
            prop_assert_eq!(json["requests"].as_array().unwrap().len(), records.len());
        }

        #[test]
        fn a_subset_equals_a_batch_built_of_the_same_records(
            names in prop::collection::vec("\\PC{0,12}", 0..12), picks in prop::collection::vec(0usize..14, 0..14),
        ) {
            let records: Vec<_> = names.iter().map(|n| serde_json::json!({"objectID": n}).to_string()).collect();
            let chosen: Vec<_> = picks.iter().filter_map(|&row| records.get(row).cloned()).collect();
            let (subset, built) = (batch_of(&records).subset(&picks).unwrap(), batch_of(&chosen));
            prop_assert_eq!(text(&subset), text(&built));
            prop_assert!(HEAD.len() + batch_of(&records).bytes_of(&picks) + TAIL.len() >= subset.bytes());
            for row in 0..chosen.len() {
                prop_assert_eq!(subset.record(row), built.record(row));
            }
        }
    }
}
