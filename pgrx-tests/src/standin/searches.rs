//! The endpoints that search: one index, several at once, and the values of a facet.

use serde_json::{json, Map, Value};

use super::answer::answer;
use super::auth::Caller;
use super::body::{members, requests, search_params, text};
use super::engine::Engine;
use super::facet_search;
use super::parameters::check_members;
use super::query::Search;
use super::reply::Refusal;
use super::route::{Call, Route};
use super::schema::Kind;

/// The maximum number of queries in one request.
const MOST_QUERIES: usize = 50;

/// The members of a body with several queries.
const SEVERAL: &[(&str, Kind)] =
    &[("requests", Kind::Anything), ("strategy", Kind::Word(&["none", "stopIfEnoughMatches"]))];

/// The members of one of several queries, besides its search parameters.
const OF_A_QUERY: &[(&str, Kind)] = &[
    ("indexName", Kind::Text),
    ("type", Kind::Word(&["default", "facet"])),
    ("facet", Kind::Text),
    ("facetQuery", Kind::Text),
    ("maxFacetHits", Kind::Integer(0, 100)),
    ("extensions", Kind::Object),
];

pub(super) fn serve(
    engine: &mut Engine,
    route: &Route,
    mut body: Map<String, Value>,
    caller: &Caller,
    exact: bool,
) -> Result<Value, Refusal> {
    match route.call {
        Call::MultiQuery => several(engine, &body, caller, exact),
        Call::FacetSearch => {
            facet_search::check_body(&body)?;
            let query = body.remove("facetQuery");
            let query = query.as_ref().and_then(Value::as_str).unwrap_or_default();
            let params = search_params(body);
            facet_search::values_of(
                engine.existing(&route.index)?,
                &route.object,
                query,
                &params,
                caller,
                exact,
            )
        }
        _ => {
            let params = search_params(body);
            let search = Search::new(&params, caller)?;
            Ok(answer(&search, engine.existing(&route.index)?, caller, exact))
        }
    }
}

fn several(
    engine: &mut Engine,
    body: &Map<String, Value>,
    caller: &Caller,
    exact: bool,
) -> Result<Value, Refusal> {
    check_members(body, SEVERAL)?;
    let queries = requests(body)?;
    if queries.len() > MOST_QUERIES {
        return Err(Refusal::bad("Too many queries in multi query request"));
    }
    let mut results = Vec::with_capacity(queries.len());
    for query in queries {
        let name = text(query, "indexName")?;
        if !caller.sees(name) {
            return Err(Refusal::index_not_allowed());
        }
        let mut params = members(query)?;
        let is_own = |name: &String| OF_A_QUERY.iter().any(|(own, _)| own == name);
        let own: Map<String, Value> = params
            .iter()
            .filter(|(name, _)| is_own(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        check_members(&own, OF_A_QUERY)?;
        params.retain(|name, _| !is_own(name) || name == "maxFacetHits");
        let params = search_params(params);
        let index = engine.existing(name)?;
        let word = |name: &str| own.get(name).and_then(Value::as_str);
        let mut result = match (word("type"), word("facet")) {
            (Some("facet"), Some(facet)) => {
                let query = word("facetQuery").unwrap_or_default();
                facet_search::values_of(index, facet, query, &params, caller, exact)?
            }
            (Some("facet"), None) => return Err(Refusal::bad("Missing mandatory attribute: facet")),
            _ => answer(&Search::new(&params, caller)?, index, caller, exact),
        };
        result["index"] = json!(name);
        results.push(result);
    }
    Ok(json!({"results": results}))
}
