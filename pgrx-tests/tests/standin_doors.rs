//! What surrounds the endpoints of the stand-in: keys, compression, headers, light mode, ports.
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::io::Write;
use std::time::Duration;

use audit_algolia_tests::standin::{ApiKey, Gzip, Standin, StandinConfig, ADMIN_KEY};
use audit_algolia_tests::wait::wait_until;
use data_encoding::BASE64;
use flate2::{write::GzEncoder, Compression};
use serde_json::{json, Value};
use support::{add, batch, catalogue, start, Client};

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
    assert_eq!(refused(&client.with_key("reader"), "t", one()), "Method not allowed with this API key");
    let writer = client.with_key("writer");
    assert_eq!(refused(&writer, "t", one()), "Index not allowed with this API key");
    assert_eq!(batch(&writer, "audit_x", one()).status, 200);
    let delete = json!([{"action": "deleteObject", "body": {"objectID": "a"}}]);
    assert!(
        refused(&writer, "audit_x", delete).starts_with("Not enough rights to delete an object near line:1")
    );
    let item = |index: &str| json!({"action": "addObject", "indexName": index, "body": {"objectID": "b"}});
    let mixed = json!({"requests": [item("audit_x"), item("t")]});
    assert_eq!(writer.post("/1/indexes/*/batch", &mixed).message(), "Index not allowed with this API key");
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
    for key in [secured("searcher", "validUntil=1000"), secured(ADMIN_KEY, "filters=x"), secured("no", "a=b")]
    {
        assert_eq!(admin.with_key(&key).post("/1/indexes/t/query", &query).status, 403);
    }
}

#[test]
fn gzip_goes_both_ways_or_is_refused() {
    let body = json!({"requests": add([json!({"objectID": "a", "t": "x".repeat(2000)})])}).to_string();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).expect("memory");
    let packed = encoder.finish().expect("memory");
    for (gzip, status) in [(Gzip::Read, 200), (Gzip::Refused, 415)] {
        let standin = start(StandinConfig { gzip, ..StandinConfig::default() });
        let client = Client::of(&standin);
        let answer = client.raw("POST", "/1/indexes/t/batch", &packed, &[("content-encoding", "gzip")]);
        assert_eq!(answer.status, status);
        if gzip == Gzip::Read {
            let entry = &standin.requests()[0];
            assert_eq!((entry.body_bytes, entry.decoded_bytes), (packed.len(), body.len()));
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
    let config =
        StandinConfig { light: true, light_ids: true, light_times: true, ..StandinConfig::default() };
    let standin = start(config);
    let client = Client::of(&standin);
    let answer =
        batch(&client, "t", add(["a", "b\"c", "a"].map(|id| json!({"objectID": id, "x": [1, {"y": 2}]}))));
    assert_eq!(answer.json["objectIDs"], json!(["a", "b\"c", "a"]));
    let counts = standin.light_counts("t");
    assert_eq!((counts.operations, counts.distinct, counts.repeated), (3, 2, 1));
    assert_eq!((standin.operations("t"), standin.light_times("t").len()), (3, 3));
    let item = json!({"action": "addObject", "indexName": "u", "body": {"objectID": "1"}});
    let many = client.post("/1/indexes/*/batch", &json!({"requests": [item]}));
    assert_eq!((many.json["taskID"]["u"].is_i64(), standin.operations("u")), (true, 1));
    assert!(standin.light_contains("t", audit_algolia_tests::standin::id_hash("b\"c")));
    assert!(standin.indices().is_empty());
}

#[test]
fn a_stopped_stand_in_can_come_back_on_the_same_port() {
    let standin = start(StandinConfig::default());
    let url = standin.base_urls().remove(0);
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    drop(standin);
    let mut again = None;
    wait_until("the port is free", Duration::from_secs(5), || {
        again = Standin::start(StandinConfig { ports: vec![port], ..StandinConfig::default() }).ok();
        again.is_some()
    });
    let again = again.expect("just started");
    assert_eq!(again.base_urls(), [url]);
    assert_eq!(Client::of(&again).get("/1/indexes").status, 200);
}
