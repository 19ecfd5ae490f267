//! A record, and the values in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A record without its objectID, which is its key.
pub(super) type Record = Map<String, Value>;

/// Records by their ids, with their numbers.
pub(super) type ById = BTreeMap<String, (u32, Record)>;

/// The values at a path, with arrays flattened. A key that contains a dot takes precedence over a path.
pub(super) fn values<'a>(record: &'a Record, path: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    any(record, path, &mut |value| {
        found.push(value);
        false
    });
    found
}

/// Whether one of the values at a path is accepted.
pub(super) fn any<'a>(record: &'a Record, path: &str, accepts: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    if let Some(value) = record.get(path) {
        return any_item(value, accepts);
    }
    path.split_once('.').is_some_and(|(first, rest)| {
        record.get(first).is_some_and(|value| {
            any_item(value, &mut |parent| parent.as_object().is_some_and(|inner| any(inner, rest, accepts)))
        })
    })
}

fn any_item<'a>(value: &'a Value, accepts: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| any_item(item, accepts)),
        value => accepts(value),
    }
}

/// A value as a facet shows it.
pub(super) fn facet_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        Value::Bool(false) => Some(Cow::Borrowed("false")),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Numbers are compared with three decimals.
pub(super) fn to_thousandths(number: f64) -> f64 {
    (number * 1000.0).round()
}
