//! The stand-in answers what web pages and official clients ask: several queries, facet values, highlights, other
//! origins.
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use audit_algolia_tests::standin::{ApiKey, StandinConfig, ADMIN_KEY, APP_ID};
use serde_json::{json, Value};
use support::{add, batch, catalogue, start, Client};

#[test]
fn values_of_a_facet_are_searched() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let ask = |facet: &str, body: Value| client.post(&format!("/1/indexes/t/facets/{facet}/query"), &body);
    let found =
        ask("action", json!({"facetQuery": "lo", "params": "filters=n%20%3E%202&highlightPreTag=%3Cb%3E"}));
    assert_eq!(
        (found.status, &found.json["facetHits"]),
        (200, &json!([{"value": "log in", "highlighted": "<b>lo</em>g in", "count": 3}]))
    );
    assert_eq!(found.json["exhaustiveFacetsCount"], json!(true));
    let all = |body: Value| {
        let hits = ask("action", body).json["facetHits"].clone();
        hits.as_array().expect("hits").iter().map(|hit| hit["value"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(all(json!({})), ["delete", "log in"], "the most frequent first");
    assert_eq!(all(json!({"maxFacetHits": 1})), ["delete"]);
    assert_eq!(all(json!({"facetQuery": "in"})), ["log in"]);
    assert_eq!(all(json!({"facetQuery": "absent"})), [Value::Null; 0]);
    for facet in ["team", "actor.id", "undeclared"] {
        let refused = ask(facet, json!({"facetQuery": "r"}));
        assert_eq!(refused.status, 400);
        assert!(refused.message().contains(&format!("add `searchable({facet})`")), "{}", refused.message());
    }
    for (body, expected) in [
        (json!({"maxFacetHits": 101}), "expected integer between 0 and 100"),
        (json!({"query": "lo"}), "Unknown parameter: query"),
        (json!({"params": "nope=1"}), "Unknown parameter: nope"),
    ] {
        let refused = ask("action", body);
        assert!(refused.status == 400 && refused.message().contains(expected), "{}", refused.message());
    }
    assert_eq!(client.post("/1/indexes/none/facets/a/query", &json!({})).status, 404);
}

#[test]
fn facets_with_two_modifiers_are_counted_and_searched() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let settings = json!({"attributesForFaceting": ["afterDistinct(searchable(action))"]});
    assert_eq!(client.json("PUT", "/1/indexes/t/settings", &settings).status, 200);
    let found = client.post("/1/indexes/t/facets/action/query", &json!({"facetQuery": "del"}));
    assert_eq!(found.json["facetHits"][0]["count"], json!(6), "{}", found.text);
    let counted = client.post("/1/indexes/t/query", &json!({"facets": "action", "hitsPerPage": 0}));
    assert_eq!(counted.json["facets"]["action"]["delete"], json!(6));
}

#[test]
fn several_queries_go_together_for_hits_and_for_facet_values() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let ask = |requests: Value| client.post("/1/indexes/*/queries", &json!({ "requests": requests }));
    let answer = ask(json!([
        {"indexName": "t", "query": "", "facets": ["action"], "facetFilters": [["action:delete"]], "hitsPerPage": 2},
        // As InstantSearch counts a facet by which it filters.
        {"indexName": "t", "query": "", "facets": "action", "hitsPerPage": 0, "page": 0, "analytics": false,
         "clickAnalytics": false},
        {"indexName": "t", "params": "query=row&numericFilters=%5B%22n%3C3%22%5D&clickAnalytics=true&userToken=12"},
        {"indexName": "t", "type": "facet", "facet": "action", "facetQuery": "log", "maxFacetHits": 5},
    ]));
    let results = answer.json["results"].as_array().expect("results");
    assert_eq!(results[0]["nbHits"], json!(6));
    assert_eq!(results[0]["facets"], json!({"action": {"delete": 6}}));
    assert_eq!(results[1]["facets"], json!({"action": {"delete": 6, "log in": 4}}));
    assert_eq!((&results[2]["nbHits"], &results[2]["index"]), (&json!(3), &json!("t")));
    assert_eq!(results[2]["queryID"].as_str().map(str::len), Some(32));
    assert_eq!(
        results[3]["facetHits"][0],
        json!({"value": "log in", "highlighted": "<em>log</em> in", "count": 4})
    );
    for (request, expected) in [
        (json!({"indexName": "t", "hitsPerPage": 1001}), "expected integer between 0 and 1000"),
        (json!({"indexName": "t", "type": "values"}), "expected one of"),
        (json!({"indexName": "t", "type": "facet"}), "Missing mandatory attribute: facet"),
        (json!({"query": "x"}), "Missing mandatory attribute: indexName"),
        (json!("t"), "Missing mandatory attribute: indexName"),
    ] {
        let refused = ask(json!([request]));
        assert!(refused.status == 400 && refused.message().contains(expected), "{}", refused.text);
    }
}

#[test]
fn hits_show_where_the_query_was_found() {
    let keys =
        vec![ApiKey::new(ADMIN_KEY, &["addObject", "editSettings"]), ApiKey::new("search-key", &["search"])];
    let standin = start(StandinConfig { keys, ..StandinConfig::default() });
    catalogue(&Client::of(&standin));
    let client = Client::of(&standin).with_key("search-key");
    let hit = |body: Value| client.post("/1/indexes/t/query", &body).json["hits"][0].clone();
    let found = hit(json!({"query": "number 7", "attributesToHighlight": ["text", "secret"]}));
    assert_eq!(
        found["_highlightResult"],
        json!({"text": {"value": "row <em>number</em> <em>7</em>", "matchLevel": "full",
                "matchedWords": ["number", "7"], "fullyHighlighted": false}}),
        "and nothing of what is not shown to anybody"
    );
    assert_eq!(hit(json!({"query": "red"}))["_highlightResult"]["team"]["value"], "<em>red</em>");
    assert_eq!(hit(json!({"query": "7", "attributesToHighlight": []})).get("_highlightResult"), None);
}

#[test]
fn hits_are_asked_for_by_page_or_by_offset_and_answers_in_parts() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let ask = |body: Value| client.post("/1/indexes/t/query", &body).json;
    let part = ask(json!({"offset": 3, "length": 2, "attributesToRetrieve": ["n"]}));
    assert_eq!((&part["hits"][0]["n"], part["hits"].as_array().map(Vec::len)), (&json!(6), Some(2)));
    assert_eq!((&part["offset"], &part["length"], part.get("page")), (&json!(3), &json!(2), None));
    let few = ask(json!({"responseFields": ["nbHits", "facets"], "facets": ["team"]}));
    assert_eq!(few, json!({"nbHits": 10, "facets": {}}));
}

#[test]
fn a_number_that_is_only_compared_for_equality_has_no_order() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let settings = json!({"numericAttributesForFiltering": ["equalOnly(n)"]});
    client.json("PUT", "/1/indexes/t/settings", &settings);
    let count = |filters: &str| {
        client.post("/1/indexes/t/query", &json!({ "filters": filters })).json["nbHits"].clone()
    };
    assert_eq!([count("n = 3"), count("n > 3"), count("n:3 TO 4")], [json!(1), json!(0), json!(0)]);
}

#[test]
fn a_page_of_another_origin_may_ask() {
    let keys =
        vec![ApiKey::new(ADMIN_KEY, &["addObject", "editSettings"]), ApiKey::new("search-key", &["search"])];
    let standin = start(StandinConfig { keys, ..StandinConfig::default() });
    catalogue(&Client::of(&standin));
    let page = Client::of(&standin).with_key("").with_app("");
    let origin = ("origin", "http://localhost:3000");
    let asked = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-algolia-api-key"),
    ];
    let preflight = page.raw("OPTIONS", "/1/indexes/t/query", b"", &asked);
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("x-algolia-api-key"));
    assert!(preflight.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    // As the JavaScript client does in a browser: credentials in the query string, and plain text, which needs no
    // preflight request.
    let path = format!("/1/indexes/*/queries?x-algolia-application-id={APP_ID}&x-algolia-api-key=search-key");
    let body = json!({"requests": [{"indexName": "t"}]}).to_string();
    let answer = page.raw("POST", &path, body.as_bytes(), &[origin, ("content-type", "text/plain")]);
    assert_eq!((answer.status, &answer.json["results"][0]["nbHits"]), (200, &json!(10)));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let refused = page.raw("POST", "/1/indexes/t/query", b"{}", &[origin]);
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (403, Some("*")),
        "a page can read why"
    );
}

#[test]
fn settings_show_no_nulls_and_bodies_have_no_unknown_members() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    batch(&client, "t", add([json!({"objectID": "a"})]));
    let shown = client.get("/1/indexes/t/settings").json;
    assert!(shown.as_object().expect("settings").values().all(|value| !value.is_null()), "{shown}");
    for (path, body) in [
        ("/1/indexes/*/objects", json!({"requests": [], "extra": 1})),
        (
            "/1/indexes/*/objects",
            json!({"requests": [{"indexName": "t", "objectID": "a", "attributes": ["b"]}]}),
        ),
        ("/1/indexes/*/objects", json!({"requests": [{"indexName": "t", "objectID": 7}]})),
        ("/1/indexes/*/queries", json!({"requests": [], "strategy": "some"})),
        ("/1/indexes/t/browse", json!({"hitsPerPage": 1001})),
        ("/1/indexes/t/operation", json!({"operation": "copy", "destination": "u", "scope": ["records"]})),
        ("/1/indexes/t/operation", json!({"operation": "copy", "destination": "u", "extra": 1})),
        ("/1/indexes/t/deleteByQuery", json!({"filters": 1})),
    ] {
        let refused = client.post(path, &body);
        assert_eq!(refused.status, 400, "{path} {body}: {}", refused.text);
    }
}

#[test]
fn pages_together_are_the_whole_in_order() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let settings = json!({"attributesForFaceting": ["tags"], "customRanking": ["desc(n)"]});
    client.json("PUT", "/1/indexes/t/settings", &settings);
    // Each rank occurs several times, and one record has none.
    let records =
        (0..23).map(|n| json!({"objectID": format!("r{n:02}"), "n": n % 4, "tags": ["a", "A b", "a"]}));
    batch(&client, "t", add(records.chain([json!({"objectID": "last"})])));
    let ask = |body: Value| client.post("/1/indexes/t/query", &body).json;
    let ids = |answer: &Value| {
        let hits = answer["hits"].as_array().expect("hits").iter();
        hits.map(|hit| hit["objectID"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let whole = ids(&ask(json!({"hitsPerPage": 100})));
    let mut expected: Vec<String> = (0..4)
        .rev()
        .flat_map(|rank| (0..23).filter(move |n| n % 4 == rank).map(|n| format!("r{n:02}")))
        .collect();
    expected.push("last".to_owned());
    assert_eq!(whole, expected);
    let pages: Vec<String> =
        (0..5).flat_map(|page| ids(&ask(json!({"hitsPerPage": 5, "page": page})))).collect();
    assert_eq!(pages, whole);
    let counted = ask(json!({"hitsPerPage": 0, "facets": ["tags"], "filters": "tags:A"}));
    assert_eq!(counted["facets"]["tags"], json!({"a": 23, "A b": 23}), "a record counts once for a value");
}

#[test]
fn a_search_sees_what_was_written_after_an_earlier_one() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let ask = |filters: &str, query: &str| {
        let body =
            json!({"filters": filters, "query": query, "facets": ["action"], "attributesToRetrieve": ["n"]});
        let answer = client.post("/1/indexes/t/query", &body).json;
        let shown = answer["hits"].as_array().expect("hits").iter();
        let numbers: Vec<i64> = shown.map(|hit| hit["n"].as_i64().expect("a number")).collect();
        (numbers, answer["facets"]["action"].clone())
    };
    assert_eq!(ask("action:delete AND n > 4", ""), (vec![8, 7, 5], json!({"delete": 3})));
    assert_eq!(ask("", "number 7"), (vec![7], json!({"delete": 1})));
    let changed = json!([
        {"action": "updateObject", "body": {"objectID": "r7", "n": 100_000, "action": "log in", "text": "new words"}},
        {"action": "deleteObject", "body": {"objectID": "r5"}},
        {"action": "addObject", "body": {"objectID": "r10", "n": 10, "action": "delete", "text": "row number 10"}},
        {"action": "partialUpdateObject", "body": {"objectID": "r1", "action": "purge"}},
    ]);
    batch(&client, "t", changed);
    assert_eq!(ask("action:delete AND n > 4", ""), (vec![10, 8], json!({"delete": 2})));
    assert_eq!(ask("n > 9", ""), (vec![100_000, 10], json!({"delete": 1, "log in": 1})));
    assert_eq!(ask("", "number 7").0, [0; 0]);
    assert_eq!(ask("", "new wor"), (vec![100_000], json!({"log in": 1})));
    assert_eq!(ask("action:purge", ""), (vec![1], json!({"purge": 1})));
    client.post("/1/indexes/t/deleteByQuery", &json!({"filters": "n < 8"}));
    assert_eq!(ask("", "").0, [100_000, 10, 9, 8]);
    client.post("/1/indexes/t/clear", &json!({}));
    assert_eq!(ask("", ""), (vec![], Value::Null));
}

/// Numbers are found by buckets and then one by one; nothing may fall between.
#[test]
fn ranges_of_numbers_are_exact_whatever_their_size() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let numbers =
        [-1e15, -4194.304, -0.001, 0.0, 0.0004, 4194.303, 4194.304, 4194.305, 1.8e9, 1.8e9 + 4194.304, 9e15];
    client.json("PUT", "/1/indexes/t/settings", &json!({"customRanking": ["asc(n.of)"]}));
    let records = numbers
        .iter()
        .enumerate()
        .map(|(place, n)| json!({"objectID": format!("{place:02}"), "n": {"of": [n]}}));
    batch(&client, "t", add(records));
    let found = |filters: String| {
        let answer = client.post("/1/indexes/t/query", &json!({"filters": filters})).json;
        let hits = answer["hits"].as_array().expect("hits").iter();
        hits.map(|hit| hit["objectID"].as_str().and_then(|id| id.parse().ok()).expect("a place"))
            .collect::<Vec<usize>>()
    };
    let thousandths = |n: f64| (n * 1000.0).round();
    let expected = |holds: &dyn Fn(f64) -> bool| {
        (0..numbers.len()).filter(|place| holds(thousandths(numbers[*place]))).collect::<Vec<usize>>()
    };
    for bound in numbers {
        let own = thousandths(bound);
        assert_eq!(found(format!("n.of < {bound}")), expected(&|n| n < own), "< {bound}");
        assert_eq!(found(format!("n.of <= {bound}")), expected(&|n| n <= own), "<= {bound}");
        assert_eq!(found(format!("n.of = {bound}")), expected(&|n| n == own), "= {bound}");
        assert_eq!(found(format!("n.of != {bound}")), expected(&|n| n != own), "!= {bound}");
        assert_eq!(found(format!("n.of > {bound}")), expected(&|n| n > own), "> {bound}");
        assert_eq!(
            found(format!("n.of:{bound} TO 5000")),
            expected(&|n| own <= n && n <= 5_000_000.0),
            "{bound} TO"
        );
        assert_eq!(found(format!("NOT n.of >= {bound}")), expected(&|n| n < own), "NOT >= {bound}");
    }
}
