//! The stand-in shows, searches and manages indices as the contract says.
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use audit_algolia_tests::standin::StandinConfig;
use serde_json::{json, Value};
use support::{add, batch, catalogue, start, Client};

#[test]
fn settings_are_merged_and_unknown_ones_refused_by_name() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    assert_eq!(client.get("/1/indexes/t/settings").message(), "Index t does not exist");
    let put = |body: Value| client.json("PUT", "/1/indexes/t/settings?forwardToReplicas=true", &body);
    assert_eq!(put(json!({"customRanking": ["desc(ts)"], "hitsPerPage": 5})).status, 200);
    assert_eq!(put(json!({"hitsPerPage": null})).status, 200);
    assert_eq!(standin.settings("t").map(Value::Object), Some(json!({"customRanking": ["desc(ts)"]})));
    let shown = client.get("/1/indexes/t/settings?getVersion=2").json;
    assert_eq!((&shown["hitsPerPage"], &shown["customRanking"]), (&json!(20), &json!(["desc(ts)"])));
    let refused = put(json!({"nonsense": 1}));
    assert_eq!(refused.status, 400);
    assert!(refused.message().starts_with("Invalid object attributes: nonsense near line"));
}

#[test]
fn single_objects_are_put_read_and_deleted() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let path = "/1/indexes/t/a%2Fb%20c";
    assert_eq!(client.json("PUT", path, &json!({"x": 1})).json["objectID"], "a/b c");
    assert_eq!(client.get(path).json, json!({"objectID": "a/b c", "x": 1}));
    assert_eq!(client.post("/1/indexes/t", &json!({"x": 2})).status, 201);
    let partial = format!("{path}/partial?createIfNotExists=false");
    assert_eq!(client.post(&partial, &json!({"y": 2})).status, 200);
    assert_eq!(client.get(path).json, json!({"objectID": "a/b c", "x": 1, "y": 2}));
    assert!(client.raw("DELETE", path, b"", &[]).json["deletedAt"].is_string());
    assert_eq!(client.get(path).message(), "ObjectID does not exist");
    assert_eq!(client.raw("DELETE", "/1/indexes/t/", b"", &[]).status, 200, "drops the index");
    assert!(standin.indices().is_empty());
}

#[test]
fn get_objects_keeps_the_order_and_says_null() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    batch(&client, "t", add([json!({"objectID": "a", "x": 1, "y": 2}), json!({"objectID": "b"})]));
    let ask = |id: &str| json!({"indexName": "t", "objectID": id, "attributesToRetrieve": ["x"]});
    let answer = client.post("/1/indexes/*/objects", &json!({"requests": [ask("b"), ask("none"), ask("a")]}));
    assert_eq!(answer.json["results"], json!([{"objectID": "b"}, null, {"objectID": "a", "x": 1}]));
    let many: Vec<Value> = (0..1001).map(|_| ask("a")).collect();
    assert_eq!(client.post("/1/indexes/*/objects", &json!({"requests": many})).status, 400);
}

#[test]
fn browsing_goes_through_all_records_by_cursor() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    client.json("PUT", "/1/indexes/t/settings", &json!({"customRanking": ["desc(n)"]}));
    batch(&client, "t", add((0..25).map(|n| json!({"objectID": format!("r{n}"), "n": n}))));
    let mut body = json!({"hitsPerPage": 10, "attributesToRetrieve": ["n"], "filters": "n >= 2"});
    let mut seen = Vec::new();
    loop {
        let answer = client.post("/1/indexes/t/browse", &body);
        assert_eq!((answer.status, &answer.json["nbHits"]), (200, &json!(23)));
        for hit in answer.json["hits"].as_array().expect("hits") {
            seen.push(hit["n"].as_i64().expect("n"));
        }
        match answer.json["cursor"].as_str() {
            Some(cursor) => {
                assert!(cursor.contains('+') && cursor.contains('='), "{cursor}");
                body = json!({"cursor": cursor});
            }
            None => break,
        }
    }
    assert_eq!(seen, (2..25).rev().collect::<Vec<i64>>());
    assert_eq!(client.post("/1/indexes/t/browse", &json!({"cursor": "x"})).message(), "invalid cursor");
    assert!(client.post("/1/indexes/t/browse", &json!({"page": 2})).message().starts_with("you should pass"));
}

#[test]
fn filters_are_declared_facets_and_numbers() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    for (params, expected) in [
        (json!({}), 10),
        (json!({"filters": "actor.id:u1"}), 5),
        (json!({"filters": "action:\"log in\" AND n >= 3"}), 3),
        (json!({"filters": "NOT action:'log in' AND (actor.id:U0 OR actor.id:U1)"}), 6),
        (json!({"filters": "n:2 TO 4"}), 3),
        (json!({"filters": "n=2 OR n=3 OR n>8"}), 3),
        (json!({"filters": "team:red"}), 10),
        (json!({"filters": "undeclared:x"}), 0),
        (json!({"filters": "objectID:r1"}), 1),
        (json!({"filters": "objectID:R1"}), 0),
        (json!({"numericFilters": ["n>=1", ["n<3", "n=9"]]}), 3),
        (json!({"facetFilters": [["actor.id:U0", "actor.id:U1"], "action:-delete"]}), 4),
        (json!({"query": "number 7"}), 1),
        (json!({"query": "ro"}), 10),
        (json!({"query": "absent"}), 0),
        (json!({"params": "filters=n%20%3E%208&hitsPerPage=0"}), 1),
    ] {
        let answer = client.post("/1/indexes/t/query", &params);
        assert_eq!((answer.status, &answer.json["nbHits"]), (200, &json!(expected)), "{params}");
    }
    assert_eq!(client.post("/1/indexes/t/query", &json!({"filters": "a:1 OR n>1"})).status, 400);
    assert_eq!(client.post("/1/indexes/t/query", &json!({"nope": 1})).message(), "Unknown parameter: nope");
}

#[test]
fn facets_count_what_was_declared_for_it() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let ask = json!({"facets": ["*"], "hitsPerPage": 2, "page": 1, "attributesToRetrieve": ["n", "secret"],
        "attributesToHighlight": []});
    let answer = client.post("/1/indexes/t/query", &ask).json;
    assert_eq!(answer["facets"]["action"], json!({"delete": 6, "log in": 4}));
    assert_eq!(answer["facets"]["actor.id"], json!({"U0": 5, "U1": 5}));
    assert_eq!(answer["facets"].get("team"), None, "filterOnly has no counts");
    assert_eq!(answer["facets_stats"]["n"], json!({"min": 0.0, "max": 9.0, "avg": 4.5, "sum": 45.0}));
    assert_eq!(answer["exhaustive"]["facetsCount"], json!(true));
    assert_eq!(answer["hits"][0], json!({"objectID": "r7", "n": 7, "secret": "s"}));
    let cut = client.post("/1/indexes/t/query", &json!({"facets": ["n"], "maxValuesPerFacet": 3})).json;
    assert_eq!(cut["facets"]["n"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(cut["exhaustive"]["facetValues"], json!(false));
    let two = json!({"requests": [{"indexName": "t", "query": ""}, {"indexName": "t", "filters": "n>7"}]});
    let many = client.post("/1/indexes/*/queries", &two).json;
    assert_eq!((&many["results"][0]["nbHits"], &many["results"][1]["nbHits"]), (&json!(10), &json!(2)));
}

#[test]
fn whole_indices_are_copied_moved_cleared_listed_and_dropped() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let operate =
        |from: &str, body: Value| client.post(&format!("/1/indexes/{from}/operation"), &body).status;
    assert_eq!(operate("t", json!({"operation": "copy", "destination": "u", "scope": ["settings"]})), 200);
    assert_eq!((standin.index("u").len(), standin.settings("u")), (0, standin.settings("t")));
    assert_eq!(operate("t", json!({"operation": "move", "destination": "u"})), 200);
    assert_eq!(operate("missing", json!({"operation": "move", "destination": "u"})), 200);
    assert_eq!((standin.index("u").len(), standin.indices()), (10, vec!["u".to_owned()]));
    assert_eq!(operate("missing", json!({"operation": "copy", "destination": "v"})), 200);
    let list = client.get("/1/indexes").json;
    assert_eq!((&list["items"][0]["name"], &list["items"][0]["entries"]), (&json!("u"), &json!(10)));
    let delete = |body: Value| client.post("/1/indexes/u/deleteByQuery", &body).status;
    assert_eq!((delete(json!({"filters": "n < 4"})), delete(json!({}))), (200, 400));
    assert_eq!(standin.index("u").len(), 6);
    client.post("/1/indexes/u/clear", &json!({}));
    assert_eq!((standin.index("u").len(), standin.settings("u").is_some()), (0, true));
    client.raw("DELETE", "/1/indexes/u", b"", &[]);
    assert_eq!(standin.indices(), vec!["v".to_owned()]);
}
