//! Filters: a conjunction of disjunctions of tests on a record's values, and where those values are.

use serde_json::{Map, Value};

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
}

impl Test {
    /// An attribute that was not declared for filtering matches nothing, as in Algolia.
    pub(super) fn is_declared(&self, settings: &Map<String, Value>) -> bool {
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
}

/// Whether two values of a facet are equal. Case is ignored.
pub(super) fn is_same_facet(text: &str, wanted: &str) -> bool {
    if text.is_ascii() && wanted.is_ascii() {
        text.eq_ignore_ascii_case(wanted)
    } else {
        text.to_lowercase() == wanted.to_lowercase()
    }
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

/// The test for a tag; `-tag` excludes.
pub(super) fn tag_item(text: &str) -> Result<Test, Refusal> {
    let (negated, tag) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    Ok(Test { negated, attribute: "_tags".to_owned(), kind: Kind::Facet(tag.to_owned()) })
}

/// Refuses a filter that cannot be parsed.
pub(super) fn refuse(message: &str) -> Refusal {
    Refusal::bad(format!("filters: {message}"))
}
