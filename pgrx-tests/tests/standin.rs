//! The stand-in Algolia behaves as the contract says: writes, reads, permissions, tasks.
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::io::Write;
use std::time::Duration;

use audit_algolia_tests::standin::{ApiKey, ErrorShape, Standin, StandinConfig, ADMIN_KEY};
use audit_algolia_tests::wait::wait_until;
use data_encoding::BASE64;
use flate2::{write::GzEncoder, Compression};
use serde_json::{json, Value};
use support::{start, Client};

fn batch(client: &Client, index: &str, requests: Value) -> support::Answer {
    client.post(
        &format!("/1/indexes/{index}/batch"),
        &json!({"requests": requests}),
    )
}

fn add(records: impl IntoIterator<Item = Value>) -> Value {
    records
        .into_iter()
        .map(|body| json!({"action": "addObject", "body": body}))
        .collect()
}

#[test]
fn a_mixed_batch_leaves_what_the_reference_test_says() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let before = ["one", "two", "three", "four", "five"].map(|id| json!({"objectID": id, "key": "value"}));
    assert_eq!(batch(&client, "t", add(before)).status, 200);
    let answer = batch(
        &client,
        "t",
        json!([
            {"action": "addObject", "body": {"objectID": "zero", "key": "value"}},
            {"action": "updateObject", "body": {"objectID": "one", "k": "v"}},
            {"action": "partialUpdateObject", "body": {"objectID": "two", "k": "v"}},
            {"action": "partialUpdateObject", "body": {"objectID": "two_bis", "key": "value"}},
            {"action": "partialUpdateObjectNoCreate", "body": {"objectID": "three", "k": "v"}},
            {"action": "deleteObject", "body": {"objectID": "four"}},
        ]),
    );
    assert_eq!(
        answer.json["objectIDs"],
        json!(["zero", "one", "two", "two_bis", "three", "four"])
    );
    let after: Value = standin
        .index("t")
        .into_iter()
        .collect::<serde_json::Map<_, _>>()
        .into();
    assert_eq!(
        after,
        json!({
            "zero": {"objectID": "zero", "key": "value"},
            "one": {"objectID": "one", "k": "v"},
            "two": {"objectID": "two", "key": "value", "k": "v"},
            "two_bis": {"objectID": "two_bis", "key": "value"},
            "three": {"objectID": "three", "key": "value", "k": "v"},
            "five": {"objectID": "five", "key": "value"},
        })
    );
    assert_eq!(standin.operations("t"), 11);
    let arrivals = standin.arrivals();
    assert_eq!(arrivals.len(), 11);
    assert_eq!(
        (arrivals[10].object_id.as_str(), arrivals[10].action),
        ("four", "deleteObject")
    );
}

#[test]
fn one_bad_record_refuses_the_whole_batch_in_the_classic_shape() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let big = "x".repeat(10_000);
    let answer = batch(
        &client,
        "t",
        add([
            json!({"objectID": "a"}),
            json!({"objectID": "b", "v": big}),
            json!({}),
        ]),
    );
    assert_eq!(answer.status, 400);
    let message = answer.message();
    assert!(
        message.starts_with("Record at the position 1 objectID=b is too big size=10023/10000 bytes."),
        "{message}"
    );
    assert_eq!(
        (&answer.json["position"], &answer.json["objectID"]),
        (&json!(1), &json!("b"))
    );
    assert!(standin.indices().is_empty());
    assert_eq!(standin.arrivals().len(), 0);
}

#[test]
fn a_record_of_exactly_the_limit_is_accepted_and_the_new_shape_has_only_a_sentence() {
    let config = StandinConfig {
        error_shape: ErrorShape::New,
        ..StandinConfig::default()
    };
    let standin = start(config);
    let client = Client::of(&standin);
    let sized = |n: usize| json!({"objectID": "b", "v": "é".to_owned() + &"x".repeat(n - 25)});
    assert_eq!(batch(&client, "t", add([sized(10_000)])).status, 200);
    let answer = batch(&client, "t", add([sized(10_001)]));
    let expected = "Record b is too big: size: 10001 byte(s), maximum allowed: 10000 byte(s).";
    assert!(answer.message().starts_with(expected), "{}", answer.message());
    assert_eq!(answer.json.get("position"), None);
    assert_eq!(answer.json.get("objectID"), None);
}

#[test]
fn a_missing_object_id_is_named_by_a_byte_column_inside_its_item() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let body =
        r#"{"requests":[{"action":"addObject","body":{"é":1}},{"action":"updateObject","body":{"x":1}}]}"#;
    let answer = client.raw("POST", "/1/indexes/t/batch", body.as_bytes(), &[]);
    let expected = "The 'objectID' attribute is required to use action=updateObject near line:1 column:";
    let column: usize = answer
        .message()
        .strip_prefix(expected)
        .expect("the text")
        .parse()
        .expect("a number");
    assert_eq!(&body.as_bytes()[column - 7..column], br#"{"x":1}"#);
}

#[test]
fn malformed_batches_are_refused_in_algolias_words() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    for (body, expected) in [
        (
            "[]",
            "JSON root must be an object (array not allowed) near line:1 column:1",
        ),
        (
            r#"{"requests":[],"extra":1}"#,
            "Invalid object attributes:extra near line:1 column:",
        ),
        (
            r#"{"requests":[{"action":"addObject","body":{},"x":1}]}"#,
            "Invalid object attributes:x near line:1",
        ),
        (
            r#"{"requests":[{"action":"addObject","body":[1]}]}"#,
            "The 'body' attribute must be an object near",
        ),
        (
            r#"{"requests":[{"action":"no","body":{}}]}"#,
            "Invalid action: no near",
        ),
        (r#"{"requests":[{"#, "Invalid JSON near line:1"),
        (
            r#"{"requests":[{"action":"addObject","body":{"objectID":""}}]}"#,
            "Invalid objectID",
        ),
    ] {
        let answer = client.raw("POST", "/1/indexes/t/batch", body.as_bytes(), &[]);
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer.message().starts_with(expected),
            "{body}: {}",
            answer.message()
        );
    }
    assert_eq!(
        batch(&client, "a%01b", json!([])).message(),
        "indexName is not valid"
    );
    assert_eq!(
        batch(&client, "t", json!([])).json,
        json!({"taskID": 0, "objectIDs": []})
    );
}

#[test]
fn ids_come_back_as_strings_and_absent_ones_are_made_up() {
    let standin = start(StandinConfig::default());
    let answer = batch(
        &Client::of(&standin),
        "t",
        add([json!({"objectID": 7}), json!({"a": 1})]),
    );
    assert_eq!(answer.json["objectIDs"][0], json!("7"));
    let made_up = answer.json["objectIDs"][1].as_str().expect("a string");
    assert_eq!(standin.index("t")[made_up], json!({"objectID": made_up, "a": 1}));
}

#[test]
fn increment_set_keeps_the_newer_version() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    for (version, text) in [(2, "new"), (1, "old"), (3, "newest"), (3, "again")] {
        let body =
            json!({"objectID": "a", "text": text, "v": {"_operation": "IncrementSet", "value": version}});
        assert_eq!(
            batch(
                &client,
                "t",
                json!([{"action": "partialUpdateObject", "body": body}])
            )
            .status,
            200
        );
    }
    assert_eq!(
        standin.index("t")["a"],
        json!({"objectID": "a", "text": "newest", "v": 3})
    );
}

#[test]
fn a_multi_index_batch_has_a_task_for_each_index() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let item =
        |index: &str, id: &str| json!({"action": "addObject", "indexName": index, "body": {"objectID": id}});
    let requests = json!({"requests": [item("a", "1"), item("b", "2"), item("a", "3")]});
    let answer = client.post("/1/indexes/*/batch", &requests);
    assert_eq!(answer.json["objectIDs"], json!(["1", "2", "3"]));
    assert!(answer.json["taskID"]["a"].is_i64() && answer.json["taskID"]["b"].is_i64());
    assert_eq!((standin.index("a").len(), standin.index("b").len()), (2, 1));
}

#[test]
fn a_change_is_invisible_until_its_task_is_published() {
    let config = StandinConfig {
        indexing_delay: Duration::from_millis(80),
        ..StandinConfig::default()
    };
    let standin = start(config);
    let client = Client::of(&standin);
    let task = batch(&client, "t", add([json!({"objectID": "a"})])).json["taskID"].clone();
    let path = format!("/1/indexes/t/task/{task}");
    let first = client.get(&path).json;
    assert_eq!(
        (&first["status"], first["pendingTask"].is_boolean()),
        (&json!("notPublished"), true)
    );
    assert!(standin.index("t").is_empty());
    wait_until("the task is published", Duration::from_secs(5), || {
        client.get(&path).json["status"] == "published"
    });
    assert_eq!(standin.index("t").len(), 1);
    assert_eq!(client.get(&format!("/1/task/{task}")).json["status"], "published");
    assert_eq!(client.get("/1/indexes/t/task/0").json["status"], "published");
    assert_eq!(client.get("/1/indexes/t/task/999").json["status"], "notPublished");
}

#[test]
fn writes_are_throttled_while_too_many_tasks_are_pending() {
    let standin = start(StandinConfig {
        indexing_delay: Duration::from_millis(100),
        pending_limit: Some(1),
        ..StandinConfig::default()
    });
    let client = Client::of(&standin);
    assert_eq!(batch(&client, "t", add([json!({"objectID": "a"})])).status, 200);
    let refused = batch(&client, "t", add([json!({"objectID": "b"})]));
    assert_eq!((refused.status, refused.message()), (429, "Too many requests"));
    wait_until("writes are let in again", Duration::from_secs(5), || {
        batch(&client, "t", add([json!({"objectID": "b"})])).status == 200
    });
}

#[test]
fn settings_are_merged_and_unknown_ones_refused_by_name() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    assert_eq!(
        client.get("/1/indexes/t/settings").message(),
        "Index t does not exist"
    );
    let put = |body: Value| client.json("PUT", "/1/indexes/t/settings?forwardToReplicas=true", &body);
    assert_eq!(
        put(json!({"customRanking": ["desc(ts)"], "hitsPerPage": 5})).status,
        200
    );
    assert_eq!(put(json!({"hitsPerPage": null})).status, 200);
    assert_eq!(
        standin.settings("t").map(Value::Object),
        Some(json!({"customRanking": ["desc(ts)"]}))
    );
    let shown = client.get("/1/indexes/t/settings?getVersion=2").json;
    assert_eq!(
        (&shown["hitsPerPage"], &shown["customRanking"]),
        (&json!(20), &json!(["desc(ts)"]))
    );
    let refused = put(json!({"nonsense": 1}));
    assert_eq!(refused.status, 400);
    assert!(refused
        .message()
        .starts_with("Invalid object attributes: nonsense near line"));
}

#[test]
fn single_objects_are_put_read_and_deleted() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let path = "/1/indexes/t/a%2Fb%20c";
    assert_eq!(
        client.json("PUT", path, &json!({"x": 1})).json["objectID"],
        "a/b c"
    );
    assert_eq!(client.get(path).json, json!({"objectID": "a/b c", "x": 1}));
    assert_eq!(client.post("/1/indexes/t", &json!({"x": 2})).status, 201);
    let partial = format!("{path}/partial?createIfNotExists=false");
    assert_eq!(client.post(&partial, &json!({"y": 2})).status, 200);
    assert_eq!(
        client.get(path).json,
        json!({"objectID": "a/b c", "x": 1, "y": 2})
    );
    assert!(client.raw("DELETE", path, b"", &[]).json["deletedAt"].is_string());
    assert_eq!(client.get(path).message(), "ObjectID does not exist");
    assert_eq!(
        client.raw("DELETE", "/1/indexes/t/", b"", &[]).status,
        200,
        "drops the index"
    );
    assert!(standin.indices().is_empty());
}

#[test]
fn get_objects_keeps_the_order_and_says_null() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    batch(
        &client,
        "t",
        add([json!({"objectID": "a", "x": 1, "y": 2}), json!({"objectID": "b"})]),
    );
    let ask = |id: &str| json!({"indexName": "t", "objectID": id, "attributesToRetrieve": ["x"]});
    let answer = client.post(
        "/1/indexes/*/objects",
        &json!({"requests": [ask("b"), ask("none"), ask("a")]}),
    );
    assert_eq!(
        answer.json["results"],
        json!([{"objectID": "b"}, null, {"objectID": "a", "x": 1}])
    );
    let many: Vec<Value> = (0..1001).map(|_| ask("a")).collect();
    assert_eq!(
        client
            .post("/1/indexes/*/objects", &json!({"requests": many}))
            .status,
        400
    );
}

#[test]
fn browsing_goes_through_all_records_by_cursor() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    client.json(
        "PUT",
        "/1/indexes/t/settings",
        &json!({"customRanking": ["desc(n)"]}),
    );
    batch(
        &client,
        "t",
        add((0..25).map(|n| json!({"objectID": format!("r{n}"), "n": n}))),
    );
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
    assert_eq!(
        client
            .post("/1/indexes/t/browse", &json!({"cursor": "x"}))
            .message(),
        "invalid cursor"
    );
    assert!(client
        .post("/1/indexes/t/browse", &json!({"page": 2}))
        .message()
        .starts_with("you should pass"));
}

fn catalogue(client: &Client) {
    let settings = json!({
        "attributesForFaceting": ["actor.id", "searchable(action)", "filterOnly(team)", "n"],
        "customRanking": ["desc(n)"],
        "unretrievableAttributes": ["secret"],
    });
    client.json("PUT", "/1/indexes/t/settings", &settings);
    let records = (0..10).map(|n| {
        let action = if n % 3 == 0 { "log in" } else { "delete" };
        json!({
            "objectID": format!("r{n}"), "n": n, "action": action, "actor": {"id": format!("U{}", n % 2)},
            "team": "red", "undeclared": "x", "secret": "s", "text": format!("row number {n}"),
        })
    });
    batch(client, "t", add(records));
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
        (
            json!({"filters": "NOT action:'log in' AND (actor.id:U0 OR actor.id:U1)"}),
            6,
        ),
        (json!({"filters": "n:2 TO 4"}), 3),
        (json!({"filters": "n=2 OR n=3 OR n>8"}), 3),
        (json!({"filters": "team:red"}), 10),
        (json!({"filters": "undeclared:x"}), 0),
        (json!({"filters": "objectID:r1"}), 1),
        (json!({"filters": "objectID:R1"}), 0),
        (json!({"numericFilters": ["n>=1", ["n<3", "n=9"]]}), 3),
        (
            json!({"facetFilters": [["actor.id:U0", "actor.id:U1"], "action:-delete"]}),
            4,
        ),
        (json!({"query": "number 7"}), 1),
        (json!({"query": "ro"}), 10),
        (json!({"query": "absent"}), 0),
        (json!({"params": "filters=n%20%3E%208&hitsPerPage=0"}), 1),
    ] {
        let answer = client.post("/1/indexes/t/query", &params);
        assert_eq!(
            (answer.status, &answer.json["nbHits"]),
            (200, &json!(expected)),
            "{params}"
        );
    }
    assert_eq!(
        client
            .post("/1/indexes/t/query", &json!({"filters": "a:1 OR n>1"}))
            .status,
        400
    );
    assert_eq!(
        client.post("/1/indexes/t/query", &json!({"nope": 1})).message(),
        "Unknown parameter: nope"
    );
}

#[test]
fn facets_count_what_was_declared_for_it() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let ask = json!({"facets": ["*"], "hitsPerPage": 2, "page": 1, "attributesToRetrieve": ["n", "secret"]});
    let answer = client.post("/1/indexes/t/query", &ask).json;
    assert_eq!(answer["facets"]["action"], json!({"delete": 6, "log in": 4}));
    assert_eq!(answer["facets"]["actor.id"], json!({"U0": 5, "U1": 5}));
    assert_eq!(answer["facets"].get("team"), None, "filterOnly has no counts");
    assert_eq!(
        answer["facets_stats"]["n"],
        json!({"min": 0.0, "max": 9.0, "avg": 4.5, "sum": 45.0})
    );
    assert_eq!(answer["exhaustive"]["facetsCount"], json!(true));
    assert_eq!(
        answer["hits"][0],
        json!({"objectID": "r7", "n": 7, "secret": "s"})
    );
    let cut = client
        .post(
            "/1/indexes/t/query",
            &json!({"facets": ["n"], "maxValuesPerFacet": 3}),
        )
        .json;
    assert_eq!(cut["facets"]["n"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(cut["exhaustive"]["facetValues"], json!(false));
    let two = json!({"requests": [{"indexName": "t", "query": ""}, {"indexName": "t", "filters": "n>7"}]});
    let many = client.post("/1/indexes/*/queries", &two).json;
    assert_eq!(
        (&many["results"][0]["nbHits"], &many["results"][1]["nbHits"]),
        (&json!(10), &json!(2))
    );
}

#[test]
fn whole_indices_are_copied_moved_cleared_listed_and_dropped() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    catalogue(&client);
    let operate =
        |from: &str, body: Value| client.post(&format!("/1/indexes/{from}/operation"), &body).status;
    assert_eq!(
        operate(
            "t",
            json!({"operation": "copy", "destination": "u", "scope": ["settings"]})
        ),
        200
    );
    assert_eq!(
        (standin.index("u").len(), standin.settings("u")),
        (0, standin.settings("t"))
    );
    assert_eq!(
        operate("t", json!({"operation": "move", "destination": "u"})),
        200
    );
    assert_eq!(
        operate("missing", json!({"operation": "move", "destination": "u"})),
        200
    );
    assert_eq!(
        (standin.index("u").len(), standin.indices()),
        (10, vec!["u".to_owned()])
    );
    assert_eq!(
        operate("missing", json!({"operation": "copy", "destination": "v"})),
        200
    );
    let list = client.get("/1/indexes").json;
    assert_eq!(
        (&list["items"][0]["name"], &list["items"][0]["entries"]),
        (&json!("u"), &json!(10))
    );
    let delete = |body: Value| client.post("/1/indexes/u/deleteByQuery", &body).status;
    assert_eq!(
        (delete(json!({"filters": "n < 4"})), delete(json!({}))),
        (200, 400)
    );
    assert_eq!(standin.index("u").len(), 6);
    client.post("/1/indexes/u/clear", &json!({}));
    assert_eq!(
        (standin.index("u").len(), standin.settings("u").is_some()),
        (0, true)
    );
    client.raw("DELETE", "/1/indexes/u", b"", &[]);
    assert_eq!(standin.indices(), vec!["v".to_owned()]);
}

#[test]
fn keys_are_checked_for_permission_and_index() {
    let config = StandinConfig::default();
    let mut keys = config.keys.clone();
    keys.push(ApiKey::new("writer", &["addObject"]).on(&["audit_*"]));
    keys.push(ApiKey::new("reader", &["search"]));
    let standin = start(StandinConfig { keys, ..config });
    let client = Client::of(&standin);
    let one = || add([json!({"objectID": "a"})]);
    let refused = |client: &Client, index: &str, requests: Value| {
        let answer = batch(client, index, requests);
        assert_eq!(answer.status, 403);
        answer.message().to_owned()
    };
    let bad = "Invalid Application-ID or API key";
    assert_eq!(refused(&client.with_key("wrong"), "t", one()), bad);
    assert_eq!(refused(&client.with_app("OTHER"), "t", one()), bad);
    assert_eq!(
        refused(&client.with_key("reader"), "t", one()),
        "Method not allowed with this API key"
    );
    let writer = client.with_key("writer");
    assert_eq!(
        refused(&writer, "t", one()),
        "Index not allowed with this API key"
    );
    assert_eq!(batch(&writer, "audit_x", one()).status, 200);
    let delete = json!([{"action": "deleteObject", "body": {"objectID": "a"}}]);
    assert!(
        refused(&writer, "audit_x", delete).starts_with("Not enough rights to delete an object near line:1")
    );
    let item = |index: &str| json!({"action": "addObject", "indexName": index, "body": {"objectID": "b"}});
    let mixed = json!({"requests": [item("audit_x"), item("t")]});
    assert_eq!(
        writer.post("/1/indexes/*/batch", &mixed).message(),
        "Index not allowed with this API key"
    );
    assert_eq!(standin.index("audit_x").len(), 1);
}

#[test]
fn a_secured_key_restricts_filters_indices_and_time() {
    use hmac::{Hmac, Mac};
    let secured = |parent: &str, params: &str| {
        let mac = Hmac::<sha2::Sha256>::new_from_slice(parent.as_bytes()).expect("any length");
        let hex = data_encoding::HEXLOWER.encode(&mac.chain_update(params).finalize().into_bytes());
        BASE64.encode(format!("{hex}{params}").as_bytes())
    };
    let config = StandinConfig::default();
    let mut keys = config.keys.clone();
    keys.push(ApiKey::new("searcher", &["search"]));
    let standin = start(StandinConfig { keys, ..config });
    let admin = Client::of(&standin);
    catalogue(&admin);
    batch(&admin, "other", add([json!({"objectID": "a"})]));
    let key = secured("searcher", "filters=actor.id%3AU1&restrictIndices=t");
    let client = admin.with_key(&key);
    let query = json!({"filters": "n > 2"});
    assert_eq!(client.post("/1/indexes/t/query", &query).json["nbHits"], json!(4));
    assert_eq!(
        client.post("/1/indexes/other/query", &query).message(),
        "Index not allowed with this API key"
    );
    assert_eq!(batch(&client, "t", add([json!({"objectID": "z"})])).status, 403);
    for key in [
        secured("searcher", "validUntil=1000"),
        secured(ADMIN_KEY, "filters=x"),
        secured("no", "a=b"),
    ] {
        assert_eq!(
            admin.with_key(&key).post("/1/indexes/t/query", &query).status,
            403
        );
    }
}

#[test]
fn gzip_goes_both_ways_or_is_refused() {
    let body = json!({"requests": add([json!({"objectID": "a", "t": "x".repeat(2000)})])}).to_string();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).expect("memory");
    let packed = encoder.finish().expect("memory");
    for (gzip, status) in [(true, 200), (false, 415)] {
        let standin = start(StandinConfig {
            gzip,
            ..StandinConfig::default()
        });
        let client = Client::of(&standin);
        let answer = client.raw(
            "POST",
            "/1/indexes/t/batch",
            &packed,
            &[("content-encoding", "gzip")],
        );
        assert_eq!(answer.status, status);
        if gzip {
            let entry = &standin.requests()[0];
            assert_eq!(
                (entry.body_bytes, entry.decoded_bytes),
                (packed.len(), body.len())
            );
            assert_eq!((entry.body_text(), entry.status), (body.clone(), Some(200)));
            let answer = client.raw("GET", "/1/indexes/t/a", b"", &[("accept-encoding", "gzip")]);
            assert_eq!(answer.json["objectID"], "a", "the client unpacked it");
        } else {
            assert_eq!(answer.message(), "unrecognized Content-Encoding: gzip");
        }
    }
}

#[test]
fn every_answer_has_a_correlation_id_that_ends_in_a_valid_request_id() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    for (path, id, ends) in [
        ("/1/indexes", "abcDEF12345", true),
        ("/nowhere", "abcDEF12345", true),
        ("/1/indexes", "too-short", false),
    ] {
        let answer = client.raw("GET", path, b"", &[("request-id", id)]);
        let correlation = answer.header("correlation-id").expect("a correlation id");
        assert_eq!(correlation.ends_with(id), ends, "{correlation}");
    }
    assert_eq!(client.get("/nowhere").status, 404);
}

#[test]
fn light_mode_counts_ids_without_keeping_contents() {
    let config = StandinConfig {
        light: true,
        light_ids: true,
        light_times: true,
        ..StandinConfig::default()
    };
    let standin = start(config);
    let client = Client::of(&standin);
    let answer = batch(
        &client,
        "t",
        add(["a", "b\"c", "a"].map(|id| json!({"objectID": id, "x": [1, {"y": 2}]}))),
    );
    assert_eq!(answer.json["objectIDs"], json!(["a", "b\"c", "a"]));
    let counts = standin.light_counts("t");
    assert_eq!((counts.operations, counts.distinct, counts.repeated), (3, 2, 1));
    assert_eq!((standin.operations("t"), standin.light_times("t").len()), (3, 3));
    let item = json!({"action": "addObject", "indexName": "u", "body": {"objectID": "1"}});
    let many = client.post("/1/indexes/*/batch", &json!({"requests": [item]}));
    assert_eq!(
        (many.json["taskID"]["u"].is_i64(), standin.operations("u")),
        (true, 1)
    );
    assert!(standin.light_contains("t", audit_algolia_tests::standin::id_hash("b\"c")));
    assert!(standin.indices().is_empty());
}

#[test]
fn a_stopped_stand_in_can_come_back_on_the_same_port() {
    let standin = start(StandinConfig::default());
    let url = standin.base_urls().remove(0);
    let port = url
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    drop(standin);
    let mut again = None;
    wait_until("the port is free", Duration::from_secs(5), || {
        again = Standin::start(StandinConfig {
            ports: vec![port],
            ..StandinConfig::default()
        })
        .ok();
        again.is_some()
    });
    let again = again.expect("just started");
    assert_eq!(again.base_urls(), [url]);
    assert_eq!(Client::of(&again).get("/1/indexes").status, 200);
}
