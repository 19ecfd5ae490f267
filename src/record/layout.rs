//! What is known about a source's records before the first row: names, order and treatment of the fields.

#![forbid(unsafe_code)]

use crate::record::buckets::Buckets;
use crate::record::name::{field_key, json_string};

/// One attribute of the records and how its values are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The attribute's name in the index.
    pub attribute: String,
    /// Replace each value by its pseudonym. The values must be [`Value::Text`](crate::record::Value::Text) with the
    /// column's output text.
    pub pseudonymize: bool,
    /// This is the time column: the record also gets the four time buckets named after it. A pseudonymized field gets
    /// none, because they would reveal what the pseudonym hides.
    pub bucketed: bool,
}

/// A source's fields. Everything that does not depend on the row is serialised already.
///
/// A layout caches the time buckets of the last minute, so it may be sent to another thread but not shared between
/// threads.
pub struct RecordLayout {
    /// `{"objectID":"` and the prefix, still inside the string.
    pub(super) opening: Vec<u8>,
    /// Whether the objectID has a prefix.
    pub(super) has_prefix: bool,
    /// For each key column, whether the objectID contains its pseudonym.
    pub(super) key_pseudonymize: Vec<bool>,
    pub(super) fields: Vec<FieldLayout>,
    /// Further attributes, which occur only in change records, and only when they change.
    tracked: Vec<FieldLayout>,
}

pub(super) struct FieldLayout {
    /// `,"attribute":`
    pub(super) key: Vec<u8>,
    pub(super) pseudonymize: bool,
    pub(super) buckets: Option<Buckets>,
}

impl RecordLayout {
    /// Prepares records whose objectID consists of `prefix` and the key's parts, and whose attributes are `fields`.
    ///
    /// `key_pseudonymize` has one entry per key column. The attributes' names, including those of the buckets, must be
    /// distinct; `rules` ensures that.
    pub fn new(prefix: &str, fields: Vec<Field>, key_pseudonymize: Vec<bool>) -> RecordLayout {
        let mut opening = b"{\"objectID\":".to_vec();
        opening.extend_from_slice(json_string(prefix).as_bytes());
        // The closing quote comes after the key's parts.
        opening.pop();
        let fields = fields.into_iter().map(FieldLayout::new).collect();
        RecordLayout {
            opening,
            has_prefix: !prefix.is_empty(),
            key_pseudonymize,
            fields,
            tracked: Vec::new(),
        }
    }

    /// Adds fields whose changes are recorded although the row's record does not have them: key columns that `columns`
    /// does not name.
    pub fn tracking(mut self, fields: Vec<Field>) -> RecordLayout {
        self.tracked = fields.into_iter().map(FieldLayout::new).collect();
        self
    }

    /// The attributes whose changes are recorded: first those of the row, then the added ones.
    pub(super) fn tracked(&self, place: usize) -> Option<&FieldLayout> {
        self.fields.iter().chain(&self.tracked).nth(place)
    }

    /// Whether [`write_record`](crate::record::write_record) needs a pseudonymizer.
    pub fn pseudonymizes(&self) -> bool {
        self.key_pseudonymize.contains(&true) || self.fields.iter().any(|field| field.pseudonymize)
    }
}

impl FieldLayout {
    fn new(field: Field) -> FieldLayout {
        let buckets = (field.bucketed && !field.pseudonymize).then(|| Buckets::new(&field.attribute));
        FieldLayout { key: field_key(&field.attribute), pseudonymize: field.pseudonymize, buckets }
    }

    /// `"attribute"`
    pub(super) fn name(&self) -> &[u8] {
        self.key.get(1..self.key.len() - 1).unwrap_or_default()
    }
}
