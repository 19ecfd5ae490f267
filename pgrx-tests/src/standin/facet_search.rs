//! Searches for the values of a facet.

use serde_json::{json, Map, Value};

use super::auth::Caller;
use super::facets::{by_count, count};
use super::filter::{facet_mode, unwrap};
use super::highlight::{mark, Tags};
use super::index::Index;
use super::parameters::check_members;
use super::query::Search;
use super::reply::Refusal;
use super::schema::Kind;
use super::words::{has_words, words};

/// If there are more searchable facets and searchable attributes than this together, Algolia does not search for facet
/// values.
const MOST_SEARCHABLE: usize = 65;

/// What the body of the single-index endpoint may hold.
const BODY: &[(&str, Kind)] =
    &[("params", Kind::Text), ("facetQuery", Kind::Text), ("maxFacetHits", Kind::Integer(0, 100))];

/// Checks the body of the single-index endpoint.
pub(super) fn check_body(body: &Map<String, Value>) -> Result<(), Refusal> {
    check_members(body, BODY)
}

/// The values of a facet that match `query`, among the records that match the search parameters.
pub(super) fn values_of(
    index: &Index,
    facet: &str,
    query: &str,
    params: &Map<String, Value>,
    caller: &Caller,
    exact: bool,
) -> Result<Value, Refusal> {
    let search = Search::new(params, caller)?;
    if !facet_mode(&index.settings, facet).is_some_and(|mode| mode.contains("searchable")) {
        return Err(Refusal::bad(format!(
            "Cannot search in `{facet}` attribute, you need to add `searchable({facet})` to attributesForFaceting."
        )));
    }
    if searchables(index) > MOST_SEARCHABLE {
        return Err(Refusal::bad("Too many searchable attributes and facets to search for facet values"));
    }
    let wanted = words(query);
    let mut counts = count(index, facet, &search.matches(index));
    counts.retain(|(value, _)| has_words(&words(value), &wanted));
    if search.text(index, "sortFacetValuesBy") != Some("alpha") {
        by_count(&mut counts);
    }
    let tags = search.tags(index);
    let tags = Tags { before: &tags.0, after: &tags.1 };
    let most = search.number(index, "maxFacetHits", 10);
    let hits: Vec<Value> = counts
        .into_iter()
        .take(most)
        .map(|(value, count)| json!({"highlighted": mark(&value, &wanted, &tags).0, "value": value, "count": count}))
        .collect();
    Ok(json!({"facetHits": hits, "exhaustiveFacetsCount": exact, "processingTimeMS": 1}))
}

fn searchables(index: &Index) -> usize {
    let list = |name: &str| index.settings.get(name).and_then(Value::as_array).into_iter().flatten();
    let facets = list("attributesForFaceting").filter_map(Value::as_str);
    facets.filter(|entry| unwrap(entry).0.contains("searchable")).count()
        + list("searchableAttributes").count()
}
