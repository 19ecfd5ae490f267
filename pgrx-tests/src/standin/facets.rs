//! Facet counts and facet statistics.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{json, Map, Value};

use super::filter::{any, facet_mode, facet_text, unwrap, values};
use super::query::{Found, Search};
use super::record::Index;

/// Adds `facets`, `facets_stats` and what is exhaustive about them to an answer. Attributes that are not
/// declared for faceting, or only for filtering, are left out, as Algolia does.
pub(super) fn add(answer: &mut Value, search: &Search<'_>, index: &Index, found: &[Found<'_>], exact: bool) {
    let Some(wanted) = search.list(index, "facets") else {
        return;
    };
    let limit = search.number(index, "maxValuesPerFacet", 100);
    let by_name = search.text(index, "sortFacetValuesBy") == Some("alpha");
    let (mut facets, mut stats, mut complete) = (Map::new(), Map::new(), true);
    for attribute in expand(&wanted, index) {
        if facet_mode(&index.settings, &attribute).is_none_or(|mode| mode.contains("filterOnly")) {
            continue;
        }
        let mut counts = count(&attribute, found);
        if counts.is_empty() {
            continue;
        }
        if !by_name {
            by_count(&mut counts);
        }
        complete &= counts.len() <= limit;
        let shown: Map<String, Value> =
            counts.into_iter().take(limit).map(|(value, count)| (value, json!(count))).collect();
        facets.insert(attribute.clone(), Value::Object(shown));
        if let Some(numbers) = statistics(&attribute, found) {
            stats.insert(attribute, numbers);
        }
    }
    if let Some(Value::Object(exhaustive)) = answer.get_mut("exhaustive") {
        exhaustive.insert("facetsCount".to_owned(), json!(exact));
        exhaustive.insert("facetValues".to_owned(), json!(exact && complete));
    }
    if let Value::Object(answer) = answer {
        answer.insert("exhaustiveFacetsCount".to_owned(), json!(exact));
        answer.insert("facets".to_owned(), Value::Object(facets));
        if !stats.is_empty() {
            answer.insert("facets_stats".to_owned(), Value::Object(stats));
        }
    }
}

/// `*` stands for every declared attribute.
fn expand(wanted: &[String], index: &Index) -> Vec<String> {
    if !wanted.iter().any(|name| name == "*") {
        return wanted.to_vec();
    }
    let declared = index.settings.get("attributesForFaceting").and_then(Value::as_array);
    let entries = declared.into_iter().flatten().filter_map(Value::as_str);
    entries.map(|entry| unwrap(entry).1.to_owned()).collect()
}

/// The most frequent first.
pub(super) fn by_count(counts: &mut [(String, u64)]) {
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}

/// Records per value, by value.
pub(super) fn count(attribute: &str, found: &[Found<'_>]) -> Vec<(String, u64)> {
    let mut counts: HashMap<Cow<'_, str>, u64> = HashMap::new();
    let mut texts: Vec<Cow<'_, str>> = Vec::new();
    for (_, record) in found {
        any(record, attribute, &mut |value| {
            texts.extend(facet_text(value));
            false
        });
        // A record that has a value twice counts once.
        if texts.len() > 1 {
            texts.sort_unstable();
            texts.dedup();
        }
        for text in texts.drain(..) {
            *counts.entry(text).or_default() += 1;
        }
    }
    let mut counts: Vec<(String, u64)> =
        counts.into_iter().map(|(value, count)| (value.into_owned(), count)).collect();
    counts.sort_unstable();
    counts
}

fn statistics(attribute: &str, found: &[Found<'_>]) -> Option<Value> {
    let numbers: Vec<f64> =
        found.iter().flat_map(|(_, record)| values(record, attribute)).filter_map(Value::as_f64).collect();
    let (min, max) =
        numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), &n| (min.min(n), max.max(n)));
    let sum: f64 = numbers.iter().sum();
    (!numbers.is_empty())
        .then(|| json!({"min": min, "max": max, "avg": sum / numbers.len() as f64, "sum": sum}))
}
