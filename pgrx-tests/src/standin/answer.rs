//! The answer to a search: its page of hits and its other members.

use serde_json::{json, Map, Value};

use super::auth::Caller;
use super::facets;
use super::index::Index;
use super::query::Search;

/// Which of the matching records an answer shows.
struct Page {
    first: usize,
    most: usize,
    /// Its description in the answer.
    told: Vec<(&'static str, usize)>,
}

impl Page {
    /// `offset` and `length` take precedence over `page` and `hitsPerPage`.
    fn of(search: &Search<'_>, index: &Index, reachable: usize) -> Page {
        if search.params.contains_key("offset") {
            let (first, most) = (search.number(index, "offset", 0), search.number(index, "length", 20));
            return Page { first, most, told: vec![("offset", first), ("length", most)] };
        }
        let (page, most) = (search.number(index, "page", 0), search.number(index, "hitsPerPage", 20));
        let pages = if most == 0 { 0 } else { reachable.div_ceil(most) };
        let told = vec![("page", page), ("nbPages", pages), ("hitsPerPage", most)];
        Page { first: page.saturating_mul(most), most, told }
    }
}

/// The answer to a search.
pub(super) fn answer(search: &Search<'_>, index: &Index, caller: &Caller, exact: bool) -> Value {
    let matches = search.matches(index);
    let count = matches.len() as usize;
    let reachable = count.min(search.number(index, "paginationLimitedTo", 1000));
    let page = Page::of(search, index, reachable);
    let most = if page.most == 0 { 0 } else { reachable.min(page.first.saturating_add(page.most)) };
    let hits: Vec<Value> = search
        .ranked(index, &matches, most)
        .into_iter()
        .skip(page.first)
        .map(|one| search.show_marked(index, one, caller))
        .collect();
    let mut answer = json!({
        "hits": hits,
        "nbHits": count,
        "query": search.params.get("query").and_then(Value::as_str).unwrap_or_default(),
        "params": encode(search.params),
        "processingTimeMS": 1,
        "exhaustiveNbHits": exact,
        "exhaustiveTypo": exact,
        "exhaustive": {"nbHits": exact, "typo": exact},
    });
    facets::add(&mut answer, search, index, &matches, exact);
    if let Value::Object(members) = &mut answer {
        members.extend(page.told.into_iter().map(|(name, number)| (name.to_owned(), json!(number))));
        if search.params.get("clickAnalytics") == Some(&json!(true)) {
            members.insert("queryID".to_owned(), json!(query_id(search.params)));
        }
        if let Some(fields) =
            search.list(index, "responseFields").filter(|fields| !fields.iter().any(|f| f == "*"))
        {
            members.retain(|name, _| fields.contains(name));
        }
    }
    answer
}

/// An id of a query for click analytics: 32 hexadecimal digits.
fn query_id(params: &Map<String, Value>) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (encode(params), super::clock::unix_micros()).hash(&mut hasher);
    format!("{:032x}", hasher.finish())
}

/// The parameters as Algolia echoes them: readable, not meant to be parsed.
fn encode(params: &Map<String, Value>) -> String {
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        })
        .collect();
    pairs.join("&")
}
