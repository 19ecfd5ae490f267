//! Owns what a filter means: a conjunction of disjunctions of tests on one record.

use serde_json::{Map, Value};

use super::record::Record;
use super::reply::Refusal;

/// One test.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Test {
    pub(super) negated: bool,
    pub(super) attribute: String,
    pub(super) kind: Kind,
}

/// What a test compares.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Facet(String),
    Number(Comparison, f64),
    Range(f64, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Comparison {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            "=" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            ">=" => Comparison::GreaterOrEqual,
            ">" => Comparison::Greater,
            _ => return None,
        })
    }
}

/// All clauses must hold; a clause holds when one of its tests does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Condition(pub(super) Vec<Vec<Test>>);

impl Condition {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn and(&mut self, other: Condition) {
        self.0.extend(other.0);
    }

    pub(super) fn holds(&self, id: &str, record: &Record, settings: &Map<String, Value>) -> bool {
        self.0.iter().all(|clause| clause.iter().any(|test| test.holds(id, record, settings)))
    }
}

impl Test {
    /// An attribute that was not declared for filtering matches nothing, as in Algolia.
    fn holds(&self, id: &str, record: &Record, settings: &Map<String, Value>) -> bool {
        match &self.kind {
            Kind::Facet(wanted) if self.attribute == "objectID" => (id == wanted) != self.negated,
            Kind::Facet(wanted) => {
                let declared = self.attribute == "_tags" || facet_mode(settings, &self.attribute).is_some();
                let wanted = wanted.to_lowercase();
                let found = values(record, &self.attribute)
                    .into_iter()
                    .any(|value| facet_text(value).is_some_and(|text| text.to_lowercase() == wanted));
                declared && found != self.negated
            }
            Kind::Number(comparison, wanted) => {
                let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
                self.holds_for_number(record, settings, is_equality, |thousandths| {
                    let wanted = to_thousandths(*wanted);
                    match comparison {
                        Comparison::Less => thousandths < wanted,
                        Comparison::LessOrEqual => thousandths <= wanted,
                        Comparison::Equal => thousandths == wanted,
                        Comparison::NotEqual => thousandths != wanted,
                        Comparison::GreaterOrEqual => thousandths >= wanted,
                        Comparison::Greater => thousandths > wanted,
                    }
                })
            }
            Kind::Range(low, high) => self.holds_for_number(record, settings, false, |thousandths| {
                to_thousandths(*low) <= thousandths && thousandths <= to_thousandths(*high)
            }),
        }
    }

    fn holds_for_number(
        &self,
        record: &Record,
        settings: &Map<String, Value>,
        is_equality: bool,
        accepts: impl Fn(f64) -> bool,
    ) -> bool {
        let declared = match settings.get("numericAttributesForFiltering") {
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).map(unwrap).any(|(modifier, name)| {
                    name == self.attribute && (is_equality || modifier != "equalOnly")
                })
            }
            _ => true,
        };
        let found = values(record, &self.attribute)
            .into_iter()
            .filter_map(Value::as_f64)
            .any(|number| accepts(to_thousandths(number)));
        declared && found != self.negated
    }
}

/// Numbers are compared with three decimals.
fn to_thousandths(number: f64) -> f64 {
    (number * 1000.0).round()
}

/// How an attribute is declared in attributesForFaceting: its modifier, empty when plain.
pub(super) fn facet_mode(settings: &Map<String, Value>, attribute: &str) -> Option<String> {
    let list = settings.get("attributesForFaceting")?.as_array()?;
    list.iter()
        .filter_map(Value::as_str)
        .map(unwrap)
        .find(|(_, name)| *name == attribute)
        .map(|found| found.0)
}

/// `filterOnly(x)` as (`filterOnly`, `x`); `afterDistinct(searchable(x))` as (`afterDistinct searchable`, `x`).
pub(super) fn unwrap(entry: &str) -> (String, &str) {
    match entry.split_once('(').and_then(|(modifier, rest)| Some((modifier.trim(), rest.strip_suffix(')')?)))
    {
        Some((modifier, rest)) => match unwrap(rest.trim()) {
            (inner, name) if inner.is_empty() => (modifier.to_owned(), name),
            (inner, name) => (format!("{modifier} {inner}"), name),
        },
        None => (String::new(), entry.trim()),
    }
}

/// The values that a path leads to, arrays taken apart. A key with a dot wins over a path.
pub(super) fn values<'a>(record: &'a Record, path: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    collect(record, path, &mut found);
    found
}

fn collect<'a>(record: &'a Record, path: &str, found: &mut Vec<&'a Value>) {
    if let Some(value) = record.get(path) {
        flatten(value, found);
    } else if let Some((first, rest)) = path.split_once('.') {
        let mut parents = Vec::new();
        if let Some(value) = record.get(first) {
            flatten(value, &mut parents);
        }
        for parent in parents.into_iter().filter_map(Value::as_object) {
            collect(parent, rest, found);
        }
    }
}

fn flatten<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, found)),
        value => found.push(value),
    }
}

/// A value as a facet shows it.
pub(super) fn facet_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The test for a tag; `-tag` excludes.
pub(super) fn tag_item(text: &str) -> Result<Test, Refusal> {
    let (negated, tag) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    Ok(Test { negated, attribute: "_tags".to_owned(), kind: Kind::Facet(tag.to_owned()) })
}

/// A filter that cannot be understood.
pub(super) fn refuse(message: &str) -> Refusal {
    Refusal::bad(format!("filters: {message}"))
}
