//! Searches: parses a query, finds and orders matching records, and selects what is shown of a record.

use std::cmp::Ordering;

use roaring::RoaringBitmap;
use serde_json::{json, Map, Value};

use super::auth::Caller;
use super::filter::{tag_item, unwrap, Condition, Test};
use super::filter_lists::{facet_item, numeric_item, parse_list};
use super::filter_text::parse;
use super::highlight::{highlights, Tags};
use super::index::{Found, Index};
use super::matching::with_words;
use super::parameters::check_search;
use super::record::{values, Record};
use super::reply::Refusal;
use super::words::words;

/// A search, its parameters checked.
pub(super) struct Search<'a> {
    pub(super) params: &'a Map<String, Value>,
    pub(super) condition: Condition,
    pub(super) words: Vec<String>,
}

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

    /// The numbers of the matching records.
    pub(super) fn matches(&self, index: &Index) -> RoaringBitmap {
        let found = self.condition.matching(index);
        if self.words.is_empty() {
            return found;
        }
        found & with_words(index, &self.words, self.list(index, "searchableAttributes").as_deref())
    }

    /// The first `most` of the matching records, in the index's order.
    pub(super) fn ranked<'i>(
        &self,
        index: &'i Index,
        matches: &RoaringBitmap,
        most: usize,
    ) -> Vec<Found<'i>> {
        if most == 0 {
            return Vec::new();
        }
        let ranking = self.list(index, "customRanking").unwrap_or_default();
        let rules: Vec<(String, &str)> = ranking.iter().map(|rule| unwrap(rule)).collect();
        let candidates = leading(index, matches, most, rules.first());
        let mut found: Vec<(Vec<f64>, Found<'i>)> = candidates
            .iter()
            .filter_map(|number| index.records.numbered(number))
            .map(|one| (rank(one.1, &rules), one))
            .collect();
        if most < found.len() {
            found.select_nth_unstable_by(most, order);
        }
        found.truncate(most);
        found.sort_unstable_by(order);
        found.into_iter().map(|(_, one)| one).collect()
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

/// What a record is ordered by, the smallest first: a number for each rule. Records that lack the attribute come last.
fn rank(record: &Record, rules: &[(String, &str)]) -> Vec<f64> {
    let place = |(direction, attribute): &(String, &str)| {
        let number = values(record, attribute).first().and_then(|value| value.as_f64());
        number.map_or(f64::INFINITY, |number| if direction == "desc" { -number } else { number })
    };
    rules.iter().map(place).collect()
}

/// The order of records with their ranks. Those with the same rank are ordered by their ids.
fn order((a, one): &(Vec<f64>, Found<'_>), (b, other): &(Vec<f64>, Found<'_>)) -> Ordering {
    let differing = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
    differing.unwrap_or_else(|| one.0.cmp(other.0))
}

/// Some of the matching records, among them the first `most` by the first rule of the ranking.
fn leading(
    index: &Index,
    matches: &RoaringBitmap,
    most: usize,
    rule: Option<&(String, &str)>,
) -> RoaringBitmap {
    let Some((direction, attribute)) = rule else {
        return matches.clone();
    };
    index.records.ranks(attribute, |column| {
        let mut found = RoaringBitmap::new();
        let buckets: Box<dyn Iterator<Item = &RoaringBitmap>> = match direction.as_str() {
            "desc" => Box::new(column.values().rev()),
            _ => Box::new(column.values()),
        };
        for bucket in buckets {
            if found.len() >= most as u64 {
                return found;
            }
            found |= bucket & matches;
        }
        // Those that lack the attribute come last.
        matches.clone()
    })
}
