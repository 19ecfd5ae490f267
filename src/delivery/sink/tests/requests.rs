//! Requests: their addresses, names and compression, and that the key is never shown.
#![forbid(unsafe_code)]

use std::io::Read;

use super::*;

#[test]
fn save_objects_sends_the_bodies_to_the_batch_endpoint() {
    let stage = stage(vec![receipt(333)]);
    let report = stage.deliver(&batch());
    assert_eq!(report.outcome, delivered(333));
    let seen = &stage.script.seen.lock().unwrap()[0];
    assert_eq!(seen.path, "/1/indexes/audit/batch");
    let sent: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(sent["requests"][1]["action"], "addObject");
    assert_eq!(sent["requests"][1]["body"]["name"], "Benoit");
    assert_eq!(seen.header("x-algolia-application-id"), Some("TESTAPP"));
    assert_eq!(seen.header("content-encoding"), None);
    assert_eq!(report.wire_bytes, seen.body.len());
}

#[test]
fn the_request_id_is_stable_over_retries_and_fresh_for_each_delivery() {
    let stage = stage(vec![status(500, ""), receipt(1), receipt(2)]);
    stage.deliver(&batch());
    stage.deliver(&batch());
    let seen = stage.script.seen.lock().unwrap();
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("request-id").unwrap()).collect();
    assert!(ids.iter().all(|id| id.len() == 11 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[test]
fn a_refusal_shows_the_correlation_id() {
    let mut refusal = status(403, r#"{"message":"no"}"#).unwrap();
    refusal.correlation_id = Some("corr-1".into());
    let stage = stage(vec![Ok(refusal)]);
    match stage.deliver(&batch()).outcome {
        DeliveryOutcome::Blocked { reason, .. } => {
            assert_eq!(reason, "403 Forbidden: no (Correlation-ID: corr-1)")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn large_bodies_are_compressed_once_and_arrive_intact() {
    let stage = stage(vec![status(500, ""), receipt(1)]);
    let batch = batch_with(5000);
    let report = stage.deliver(&batch);
    let seen = stage.script.seen.lock().unwrap();
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[1].header("content-encoding"), Some("gzip"));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&seen[1].body[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, batch.body());
    assert_eq!(report.wire_bytes, seen[1].body.len());
    assert!(report.wire_bytes < 500);
}

#[test]
fn a_key_that_an_answer_echoes_is_hidden() {
    let key = for_tests().api_key.expose().to_owned();
    let mut echo = status(403, &format!(r#"{{"message":"bad key {key}"}}"#)).unwrap();
    echo.correlation_id = Some(key.clone());
    let failure = Err(TransportError::Other(format!("cannot send {key}")));
    let stage = stage(vec![failure, Ok(echo)]);
    let report = format!("{:?}", stage.deliver(&batch()));
    assert!(report.contains("bad key ***") && !report.contains(&key), "{report}");
}

#[test]
fn a_key_that_an_answer_spells_in_another_way_is_hidden() {
    for spelling in [r#"a\/b\"c\\d\""#, r#"a/b\u0022c\u005cd\u0022"#, r#"\u0061\u002Fb\"c\\\u0064\""#] {
        let echo = status(403, &format!(r#"{{"message":"bad key {spelling}, really"}}"#));
        let stage = stage_with(vec![echo], |settings| settings.api_key = Secret::new(r#"a/b"c\d""#));
        let report = format!("{:?}", stage.deliver(&batch()));
        assert!(report.contains("bad key ***, really"), "{report}");
    }
}

#[test]
fn index_names_are_encoded_and_those_that_lead_elsewhere_are_not_sent() {
    let stage = stage(vec![receipt(1)]);
    stage.sink.deliver("a/b <c>é*.x", &batch(), &SystemClock);
    assert_eq!(stage.script.seen.lock().unwrap()[0].path, "/1/indexes/a%2Fb%20%3Cc%3E%C3%A9%2A.x/batch");
    for name in ["", ".", "..", "*"] {
        let report = stage.sink.deliver(name, &batch(), &SystemClock);
        assert!(matches!(report.outcome, DeliveryOutcome::Blocked { status: None, .. }));
        assert_eq!(report.attempts, 0);
    }
}

#[test]
fn an_empty_batch_needs_no_request() {
    let stage = stage(vec![]);
    let report = stage.deliver(&batch().subset(&[]).unwrap());
    assert_eq!((report.outcome, report.attempts), (DeliveryOutcome::Delivered { task_id: None }, 0));
}

#[test]
fn missing_credentials_make_no_sink() {
    for change in [
        |s: &mut DeliverySettings| s.application_id.clear(),
        |s: &mut DeliverySettings| s.api_key = Secret::default(),
    ] {
        let mut settings = for_tests();
        change(&mut settings);
        assert!(Sink::new(settings, Arc::new(Script::default()), 0).is_err());
    }
}

#[test]
fn settings_are_put_in_their_own_place() {
    let body = r#"{"customRanking":["desc(at)"]}"#;
    let stage = stage(vec![status(503, "{}"), status(200, r#"{"taskID":9,"updatedAt":"2026"}"#)]);
    let report = stage.sink.deliver("a b/c", &Batch::settings(body.to_owned()), &SystemClock);
    assert_eq!(report.outcome, delivered(9));
    let seen = stage.script.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for request in seen.iter() {
        assert_eq!(request.method, Method::Put);
        assert_eq!(request.path, "/1/indexes/a%20b%2Fc/settings?forwardToReplicas=false");
        assert_eq!(request.body, body.as_bytes());
    }
}

#[test]
fn a_batch_is_posted() {
    let stage = stage(vec![receipt(1)]);
    stage.deliver(&batch());
    assert_eq!(stage.script.seen.lock().unwrap()[0].method, Method::Post);
}
