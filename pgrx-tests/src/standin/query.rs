//! Searches: parses a query, finds and orders matching records, and selects what is shown of a record.

use std::cmp::Ordering;

use serde_json::{json, Map, Value};

use super::auth::Caller;
use super::filter::{tag_item, unwrap, values, Condition, Test};
use super::filter_lists::{facet_item, numeric_item, parse_list};
use super::filter_text::parse;
use super::highlight::{highlights, Tags};
use super::parameters::check_search;
use super::record::{Index, Record};
use super::reply::Refusal;

/// A search, its parameters checked.
pub(super) struct Search<'a> {
    pub(super) params: &'a Map<String, Value>,
    pub(super) condition: Condition,
    pub(super) words: Vec<String>,
}

/// A record with its id.
pub(super) type Found<'a> = (&'a String, &'a Record);

impl<'a> Search<'a> {
    pub(super) fn new(params: &'a Map<String, Value>, caller: &Caller) -> Result<Self, Refusal> {
        check_search(params)?;
        let query = params.get("query").and_then(Value::as_str).unwrap_or_default();
        if query.len() > 512 {
            let message = "Invalid value for \"query\" parameter, expected string shorter than 512 bytes";
            return Err(Refusal::bad(message));
        }
        let mut condition = condition(params)?;
        if let Some(filters) = &caller.filters {
            condition.and(parse(filters)?);
        }
        Ok(Search { params, condition, words: words(query) })
    }

    /// A number parameter of the query, else of the index's settings, else the default.
    pub(super) fn number(&self, index: &Index, name: &str, default: usize) -> usize {
        let found = self.params.get(name).or_else(|| index.settings.get(name)).and_then(Value::as_u64);
        found.map_or(default, |number| number as usize)
    }

    /// A text parameter of the query, else of the index's settings.
    pub(super) fn text<'s>(&'s self, index: &'s Index, name: &str) -> Option<&'s str> {
        self.params.get(name).or_else(|| index.settings.get(name)).and_then(Value::as_str)
    }

    /// A list parameter of the query, else of the index's settings.
    pub(super) fn list(&self, index: &Index, name: &str) -> Option<Vec<String>> {
        match self.params.get(name).or_else(|| index.settings.get(name))? {
            Value::String(one) => Some(one.split(',').map(str::to_owned).collect()),
            Value::Array(list) => Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            _ => None,
        }
    }

    /// The matching records, by their ids.
    pub(super) fn matches<'i>(&self, index: &'i Index) -> Vec<Found<'i>> {
        let searchable = self.list(index, "searchableAttributes");
        let condition = self.condition.on(&index.settings);
        index
            .records
            .iter()
            .filter(|(id, record)| condition.holds(id, record))
            .filter(|(_, record)| self.words.is_empty() || self.reads(record, searchable.as_deref()))
            .collect()
    }

    /// Sorts the first `most` of the matching records in the index's order. The others stay in any order.
    pub(super) fn rank(&self, index: &Index, found: &mut [Found<'_>], most: usize) {
        let ranking = self.list(index, "customRanking").unwrap_or_default();
        // Records with the same ranking are ordered by their ids.
        let order = |a: &Found<'_>, b: &Found<'_>| compare(a.1, b.1, &ranking).then_with(|| a.0.cmp(b.0));
        if most > 0 && most < found.len() {
            found.select_nth_unstable_by(most, order);
        }
        if let Some(first) = found.get_mut(..most.min(found.len())) {
            first.sort_unstable_by(order);
        }
    }

    /// Whether the query's words occur in the searchable attributes.
    fn reads(&self, record: &Record, searchable: Option<&[String]>) -> bool {
        let mut have = Vec::new();
        match searchable {
            None => record.values().for_each(|value| texts(value, &mut have)),
            Some(names) => names
                .iter()
                .flat_map(|entry| entry.split(','))
                .flat_map(|name| values(record, unwrap(name).1))
                .for_each(|value| texts(value, &mut have)),
        }
        has_words(&have, &self.words)
    }

    /// A record as the answer shows it.
    pub(super) fn show(&self, index: &Index, (id, record): Found<'_>, caller: &Caller) -> Value {
        let wanted = self.list(index, "attributesToRetrieve");
        project(id, record, wanted.as_deref(), index, caller)
    }

    /// The same, with matches highlighted in the attributes of `attributesToHighlight`, by default in all that are
    /// searched.
    pub(super) fn show_marked(&self, index: &Index, found: Found<'_>, caller: &Caller) -> Value {
        let mut shown = self.show(index, found, caller);
        let of = |name: &str| self.list(index, name);
        let entries = of("attributesToHighlight").or_else(|| of("searchableAttributes"));
        let entries = entries.unwrap_or_else(|| vec!["*".to_owned()]);
        let (before, after) = self.tags(index);
        let tags = Tags { before: &before, after: &after };
        if let (Value::Object(shown), false) = (&mut shown, entries.is_empty()) {
            let visible: Record = found
                .1
                .iter()
                .filter(|(name, _)| !is_hidden(name, index, caller))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            shown.insert("_highlightResult".to_owned(), highlights(&visible, &entries, &self.words, &tags));
        }
        shown
    }

    /// The tags before and after a word that was found.
    pub(super) fn tags(&self, index: &Index) -> (String, String) {
        let tag = |name: &str, default: &str| self.text(index, name).unwrap_or(default).to_owned();
        (tag("highlightPreTag", "<em>"), tag("highlightPostTag", "</em>"))
    }
}

/// The condition that the four filter parameters make together.
pub(super) fn condition(params: &Map<String, Value>) -> Result<Condition, Refusal> {
    let mut all = match params.get("filters") {
        None | Some(Value::Null) => Condition::default(),
        Some(Value::String(text)) => parse(text)?,
        Some(_) => return Err(Refusal::bad("Invalid value for \"filters\" parameter, expected string")),
    };
    let mut add = |name: &str, item: fn(&str) -> Result<Test, Refusal>| {
        params.get(name).map_or(Ok(()), |value| parse_list(&unquote(value), item).map(|more| all.and(more)))
    };
    add("facetFilters", facet_item)?;
    add("numericFilters", numeric_item)?;
    add("tagFilters", tag_item)?;
    Ok(all)
}

/// An array parameter from a `params` string.
fn unquote(value: &Value) -> Value {
    match value.as_str().filter(|text| text.starts_with('[')) {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        None => value.clone(),
    }
}

/// A record with its id, reduced to the attributes that are wanted and allowed.
pub(super) fn project(
    id: &str,
    record: &Record,
    wanted: Option<&[String]>,
    index: &Index,
    caller: &Caller,
) -> Value {
    let everything = wanted.is_none_or(|names| names.is_empty() || names.iter().any(|name| name == "*"));
    let excluded =
        |name: &str| wanted.is_some_and(|names| names.iter().any(|n| n.strip_prefix('-') == Some(name)));
    let listed =
        |name: &str| wanted.is_some_and(|names| names.iter().any(|n| n.split('.').next() == Some(name)));
    let mut shown: Map<String, Value> = record
        .iter()
        .filter(|(name, _)| {
            (everything || listed(name)) && !excluded(name) && !is_hidden(name, index, caller)
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    shown.insert("objectID".to_owned(), json!(id));
    Value::Object(shown)
}

fn is_hidden(name: &str, index: &Index, caller: &Caller) -> bool {
    let list = index.settings.get("unretrievableAttributes").and_then(Value::as_array);
    list.is_some_and(|list| list.iter().any(|n| n.as_str() == Some(name)))
        && !caller.may("seeUnretrievableAttributes")
}

/// Compares by custom ranking; records that lack the attribute come last.
fn compare(a: &Record, b: &Record, ranking: &[String]) -> Ordering {
    for rule in ranking {
        let (direction, attribute) = unwrap(rule);
        let key = |record: &Record| values(record, attribute).first().and_then(|value| value.as_f64());
        let order = match (key(a), key(b)) {
            (Some(a), Some(b)) if direction == "desc" => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
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

/// Whether all wanted words are there; the last one may be the beginning of a word.
pub(super) fn has_words(have: &[String], wanted: &[String]) -> bool {
    let last = wanted.len().saturating_sub(1);
    wanted.iter().enumerate().all(|(at, word)| {
        have.iter().any(|own| own == word || (at == last && own.starts_with(word.as_str())))
    })
}

/// The words of a text, in lower case.
pub(super) fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
}
