//! The stand-in for Algolia accepts and refuses batches as the contract says.
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::time::Duration;

use audit_algolia_tests::standin::{ErrorShape, StandinConfig};
use audit_algolia_tests::wait::wait_until;
use serde_json::{json, Value};
use support::{add, batch, start, Client};

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
    assert_eq!(answer.json["objectIDs"], json!(["zero", "one", "two", "two_bis", "three", "four"]));
    let after: Value = standin.index("t").into_iter().collect::<serde_json::Map<_, _>>().into();
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
    assert_eq!((arrivals[10].object_id.as_str(), arrivals[10].action), ("four", "deleteObject"));
}

#[test]
fn one_bad_record_refuses_the_whole_batch_in_the_classic_shape() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let big = "x".repeat(10_000);
    let answer =
        batch(&client, "t", add([json!({"objectID": "a"}), json!({"objectID": "b", "v": big}), json!({})]));
    assert_eq!(answer.status, 400);
    let message = answer.message();
    assert!(
        message.starts_with("Record at the position 1 objectID=b is too big size=10023/10000 bytes."),
        "{message}"
    );
    assert_eq!((&answer.json["position"], &answer.json["objectID"]), (&json!(1), &json!("b")));
    assert!(standin.indices().is_empty());
    assert_eq!(standin.arrivals().len(), 0);
}

#[test]
fn a_record_of_exactly_the_limit_is_accepted_and_the_new_shape_has_only_a_sentence() {
    let config = StandinConfig { error_shape: ErrorShape::New, ..StandinConfig::default() };
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
    let column: usize = answer.message().strip_prefix(expected).expect("the text").parse().expect("a number");
    assert_eq!(&body.as_bytes()[column - 7..column], br#"{"x":1}"#);
}

#[test]
fn malformed_batches_are_refused_in_algolias_words() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    for (body, expected) in [
        ("[]", "JSON root must be an object (array not allowed) near line:1 column:1"),
        (r#"{"requests":[],"extra":1}"#, "Invalid object attributes:extra near line:1 column:"),
        (
            r#"{"requests":[{"action":"addObject","body":{},"x":1}]}"#,
            "Invalid object attributes:x near line:1",
        ),
        (
            r#"{"requests":[{"action":"addObject","body":[1]}]}"#,
            "The 'body' attribute must be an object near",
        ),
        (r#"{"requests":[{"action":"no","body":{}}]}"#, "Invalid action: no near"),
        (r#"{"requests":[{"#, "Invalid JSON near line:1"),
        (r#"{"requests":[{"action":"addObject","body":{"objectID":""}}]}"#, "Invalid objectID"),
    ] {
        let answer = client.raw("POST", "/1/indexes/t/batch", body.as_bytes(), &[]);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.message().starts_with(expected), "{body}: {}", answer.message());
    }
    assert_eq!(batch(&client, "a%01b", json!([])).message(), "indexName is not valid");
    assert_eq!(batch(&client, "t", json!([])).json, json!({"taskID": 0, "objectIDs": []}));
}

#[test]
fn ids_come_back_as_strings_and_absent_ones_are_made_up() {
    let standin = start(StandinConfig::default());
    let answer = batch(&Client::of(&standin), "t", add([json!({"objectID": 7}), json!({"a": 1})]));
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
        assert_eq!(batch(&client, "t", json!([{"action": "partialUpdateObject", "body": body}])).status, 200);
    }
    assert_eq!(standin.index("t")["a"], json!({"objectID": "a", "text": "newest", "v": 3}));
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
    let config = StandinConfig { indexing_delay: Duration::from_millis(80), ..StandinConfig::default() };
    let standin = start(config);
    let client = Client::of(&standin);
    let task = batch(&client, "t", add([json!({"objectID": "a"})])).json["taskID"].clone();
    let path = format!("/1/indexes/t/task/{task}");
    let first = client.get(&path).json;
    assert_eq!((&first["status"], first["pendingTask"].is_boolean()), (&json!("notPublished"), true));
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
