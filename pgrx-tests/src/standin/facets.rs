//! Facet counts and facet statistics.

use roaring::RoaringBitmap;
use serde_json::{json, Map, Value};

use super::filter::{facet_mode, unwrap};
use super::index::Index;
use super::query::Search;

/// Adds `facets`, `facets_stats` and what is exhaustive about them to an answer. Attributes that are not
/// declared for faceting, or only for filtering, are left out, as Algolia does.
pub(super) fn add(
    answer: &mut Value,
    search: &Search<'_>,
    index: &Index,
    matches: &RoaringBitmap,
    exact: bool,
) {
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
        let mut counts = count(index, &attribute, matches);
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
        if let Some(numbers) = statistics(index, &attribute, matches) {
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
pub(super) fn count(index: &Index, attribute: &str, matches: &RoaringBitmap) -> Vec<(String, u64)> {
    index.records.facets(attribute, |column| {
        let mut counts: Vec<(String, u64)> = Vec::new();
        let mut before: Option<&RoaringBitmap> = None;
        for ((text, _), having) in column {
            let mut count = having.intersection_len(matches);
            match (counts.last_mut(), before) {
                // The same value as text and as number, which one record may have both.
                (Some((last, total)), Some(others)) if last == text => {
                    count -= (having & others).intersection_len(matches);
                    *total += count;
                }
                _ => counts.push((text.clone(), count)),
            }
            before = Some(having);
        }
        counts.retain(|(_, count)| *count > 0);
        counts
    })
}

fn statistics(index: &Index, attribute: &str, matches: &RoaringBitmap) -> Option<Value> {
    let (mut min, mut max, mut sum, mut total) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0);
    index.records.facets(attribute, |column| {
        for ((text, is_number), having) in column {
            let count = if *is_number { having.intersection_len(matches) } else { 0 };
            if let (Ok(number), 1..) = (text.parse::<f64>(), count) {
                (min, max) = (min.min(number), max.max(number));
                sum += number * count as f64;
                total += count;
            }
        }
    });
    (total > 0).then(|| json!({"min": min, "max": max, "avg": sum / total as f64, "sum": sum}))
}
