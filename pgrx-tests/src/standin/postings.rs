//! What makes searches fast: which records have a value, a number or a word in an attribute. An attribute is indexed when
//! it is first asked for; from then on, every write keeps it up to date.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use serde_json::Value;

use super::record::{any, facet_text, to_thousandths, ById, Record};
use super::words::words;

/// The numbers of the records that have a key.
pub(super) type Column<K> = BTreeMap<K, RoaringBitmap>;

/// A value of a facet as it is shown, and whether it is a number.
pub(super) type FacetKey = (String, bool);

/// How many thousandths have one bucket: of a time, a little more than four minutes. At both ends of a range, the records of
/// a bucket are looked at one by one.
const BUCKET: f64 = 262_144.0;

/// How many buckets make a span. A long range consists of spans, and of buckets at its ends.
pub(super) const SPAN: i64 = 256;

/// All columns of an index.
#[derive(Clone, Debug)]
pub(super) struct Postings {
    pub(super) facets: Family<FacetKey>,
    pub(super) numbers: Family<i64>,
    pub(super) spans: Family<i64>,
    pub(super) ranks: Family<i64>,
    pub(super) words: Family<String>,
}

impl Default for Postings {
    fn default() -> Self {
        Postings {
            facets: Family::of(facet_keys),
            numbers: Family::of(number_keys),
            spans: Family::of(span_keys),
            ranks: Family::of(rank_keys),
            words: Family::of(word_keys),
        }
    }
}

impl Postings {
    pub(super) fn add(&mut self, number: u32, record: &Record) {
        self.facets.add(number, record);
        self.numbers.add(number, record);
        self.spans.add(number, record);
        self.ranks.add(number, record);
        self.words.add(number, record);
    }

    pub(super) fn remove(&mut self, number: u32, record: &Record) {
        self.facets.remove(number, record);
        self.numbers.remove(number, record);
        self.spans.remove(number, record);
        self.ranks.remove(number, record);
        self.words.remove(number, record);
    }
}

/// Columns by attribute, and how a record's keys are found.
#[derive(Clone, Debug)]
pub(super) struct Family<K> {
    keys: fn(&Record, &str) -> Vec<K>,
    columns: HashMap<String, Column<K>>,
}

impl<K: Ord> Family<K> {
    fn of(keys: fn(&Record, &str) -> Vec<K>) -> Self {
        Family { keys, columns: HashMap::new() }
    }

    /// The column of an attribute, made from the records if there is none yet.
    pub(super) fn column(&mut self, path: &str, records: &ById) -> &Column<K> {
        let keys = self.keys;
        self.columns.entry(path.to_owned()).or_insert_with(|| {
            let mut column = Column::new();
            for (number, record) in records.values() {
                enter(&mut column, *number, keys(record, path));
            }
            column
        })
    }

    fn add(&mut self, number: u32, record: &Record) {
        for (path, column) in &mut self.columns {
            enter(column, number, (self.keys)(record, path));
        }
    }

    fn remove(&mut self, number: u32, record: &Record) {
        for (path, column) in &mut self.columns {
            for key in (self.keys)(record, path) {
                if let Some(numbers) = column.get_mut(&key) {
                    numbers.remove(number);
                    if numbers.is_empty() {
                        column.remove(&key);
                    }
                }
            }
        }
    }
}

fn enter<K: Ord>(column: &mut Column<K>, number: u32, keys: Vec<K>) {
    for key in keys {
        column.entry(key).or_default().insert(number);
    }
}

/// The bucket of a number; larger numbers are in the same or a later one.
pub(super) fn bucket(number: f64) -> i64 {
    (to_thousandths(number) / BUCKET).floor() as i64
}

fn facet_keys(record: &Record, path: &str) -> Vec<FacetKey> {
    collected(record, path, |value| Some((facet_text(value)?.into_owned(), value.is_number())))
}

fn number_keys(record: &Record, path: &str) -> Vec<i64> {
    collected(record, path, |value| value.as_f64().map(bucket))
}

fn span_keys(record: &Record, path: &str) -> Vec<i64> {
    number_keys(record, path).into_iter().map(|bucket| bucket.div_euclid(SPAN)).collect()
}

/// Of several numbers the first one counts.
fn rank_keys(record: &Record, path: &str) -> Vec<i64> {
    let mut first = None;
    any(record, path, &mut |value| {
        first = value.as_f64().map(bucket);
        true
    });
    first.into_iter().collect()
}

fn word_keys(record: &Record, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    match path {
        "" => record.values().for_each(|value| texts(value, &mut found)),
        path => {
            any(record, path, &mut |value| {
                texts(value, &mut found);
                false
            });
        }
    }
    found
}

fn collected<K>(record: &Record, path: &str, key: impl Fn(&Value) -> Option<K>) -> Vec<K> {
    let mut found = Vec::new();
    any(record, path, &mut |value| {
        found.extend(key(value));
        false
    });
    found
}

fn texts(value: &Value, have: &mut Vec<String>) {
    match value {
        Value::String(text) => have.extend(words(text)),
        Value::Number(number) => have.push(number.to_string()),
        Value::Bool(flag) => have.push(flag.to_string()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, have)),
        Value::Object(members) => members.values().for_each(|item| texts(item, have)),
        Value::Null => {}
    }
}
