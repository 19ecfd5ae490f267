//! Evaluates filters: a conjunction of disjunctions of tests on one record.

use std::borrow::Cow;

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

    /// The condition for records of an index with these settings, which are looked up once and not for each record.
    pub(super) fn on<'a>(&'a self, settings: &Map<String, Value>) -> ConditionOn<'a> {
        let of = |test: &'a Test| TestOn { test, declared: test.is_declared(settings) };
        ConditionOn(self.0.iter().map(|clause| clause.iter().map(of).collect()).collect())
    }
}

/// A condition with what an index declares of its attributes.
pub(super) struct ConditionOn<'a>(Vec<Vec<TestOn<'a>>>);

struct TestOn<'a> {
    test: &'a Test,
    declared: bool,
}

impl ConditionOn<'_> {
    pub(super) fn holds(&self, id: &str, record: &Record) -> bool {
        self.0.iter().all(|clause| clause.iter().any(|one| one.declared && one.test.holds(id, record)))
    }
}

impl Test {
    /// An attribute that was not declared for filtering matches nothing, as in Algolia.
    fn is_declared(&self, settings: &Map<String, Value>) -> bool {
        match &self.kind {
            Kind::Facet(_) => {
                let always = ["objectID", "_tags"].contains(&self.attribute.as_str());
                always || facet_mode(settings, &self.attribute).is_some()
            }
            Kind::Number(Comparison::Equal | Comparison::NotEqual, _) => self.is_numeric(settings, true),
            Kind::Number(..) | Kind::Range(..) => self.is_numeric(settings, false),
        }
    }

    fn is_numeric(&self, settings: &Map<String, Value>, is_equality: bool) -> bool {
        match settings.get("numericAttributesForFiltering") {
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).map(unwrap).any(|(modifier, name)| {
                    name == self.attribute && (is_equality || modifier != "equalOnly")
                })
            }
            _ => true,
        }
    }

    fn holds(&self, id: &str, record: &Record) -> bool {
        let found = match &self.kind {
            Kind::Facet(wanted) if self.attribute == "objectID" => id == wanted,
            Kind::Facet(wanted) => any(record, &self.attribute, &mut |value| {
                facet_text(value).is_some_and(|text| is_same_facet(&text, wanted))
            }),
            Kind::Number(comparison, wanted) => {
                let wanted = to_thousandths(*wanted);
                self.any_number(record, |thousandths| match comparison {
                    Comparison::Less => thousandths < wanted,
                    Comparison::LessOrEqual => thousandths <= wanted,
                    Comparison::Equal => thousandths == wanted,
                    Comparison::NotEqual => thousandths != wanted,
                    Comparison::GreaterOrEqual => thousandths >= wanted,
                    Comparison::Greater => thousandths > wanted,
                })
            }
            Kind::Range(low, high) => self.any_number(record, |thousandths| {
                to_thousandths(*low) <= thousandths && thousandths <= to_thousandths(*high)
            }),
        };
        found != self.negated
    }

    fn any_number(&self, record: &Record, accepts: impl Fn(f64) -> bool) -> bool {
        any(record, &self.attribute, &mut |value| {
            value.as_f64().is_some_and(|number| accepts(to_thousandths(number)))
        })
    }
}

/// Whether two values of a facet are equal. Case is ignored.
fn is_same_facet(text: &str, wanted: &str) -> bool {
    if text.is_ascii() && wanted.is_ascii() {
        text.eq_ignore_ascii_case(wanted)
    } else {
        text.to_lowercase() == wanted.to_lowercase()
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

/// The test for a tag; `-tag` excludes.
pub(super) fn tag_item(text: &str) -> Result<Test, Refusal> {
    let (negated, tag) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    Ok(Test { negated, attribute: "_tags".to_owned(), kind: Kind::Facet(tag.to_owned()) })
}

/// Refuses a filter that cannot be parsed.
pub(super) fn refuse(message: &str) -> Refusal {
    Refusal::bad(format!("filters: {message}"))
}
