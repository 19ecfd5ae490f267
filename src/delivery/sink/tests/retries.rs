//! Which hosts are tried, how often, and with what result.
#![forbid(unsafe_code)]

use super::*;
use crate::delivery::offending_record::OffendingRecord;

#[test]
fn retry_strategy_two_hosts_hang_and_the_third_answers() {
    let stage = stage(vec![timeout(), timeout(), receipt(3)]);
    let report = stage.deliver(&batch());
    assert_eq!(report.outcome, delivered(3));
    assert_eq!((report.host.as_str(), report.attempts), ("c:3", 3));
    let seen = stage.script.seen.lock().unwrap();
    assert!(seen.iter().all(|seen| seen.timeouts == (2, 30)), "each host starts with the base timeouts");
}

#[test]
fn retry_on_timeout_tries_a_single_host_once() {
    let stage = stage_with(vec![timeout()], |s| s.hosts = parse_hosts("http://a:1").unwrap());
    let report = stage.deliver(&batch());
    let reason = "a:1: no answer within 30 s".to_owned();
    assert_eq!(report.outcome, DeliveryOutcome::Retry { reason, not_before: None });
    assert_eq!(report.attempts, 1);
}

#[test]
fn retry_on_5xx_sends_exactly_three_requests() {
    let stage = stage(vec![status(500, ""), status(500, ""), receipt(3)]);
    assert_eq!(stage.deliver(&batch()).outcome, delivered(3));
    assert_eq!(stage.hosts(), ["a:1", "b:2", "c:3"]);
}

#[test]
fn does_not_retry_on_success() {
    let stage = stage(vec![receipt(1), receipt(2)]);
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.deliver(&batch()).outcome, delivered(2));
    assert_eq!(stage.hosts(), ["a:1", "a:1"]);
}

#[test]
fn save_objects_reports_errors_without_retrying() {
    let stage = stage(vec![status(403, r#"{"message":"Invalid Application-ID or API key","status":403}"#)]);
    match stage.deliver(&batch()).outcome {
        DeliveryOutcome::Blocked { reason, hint, status: Some(403) } => {
            assert_eq!(reason, "403 Forbidden: Invalid Application-ID or API key");
            assert!(hint.contains("audit_algolia.api_key"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.hosts(), ["a:1"]);
}

fn page(code: u16) -> Answer {
    Ok(Response { content_type: Some("text/html".into()), ..status(code, "<html>no</html>")? })
}

#[test]
fn a_gateways_refusal_is_taken_to_the_next_host_and_says_nothing_of_the_first() {
    let stage = stage(vec![page(403), receipt(3), receipt(4)]);
    assert_eq!(stage.deliver(&batch()).outcome, delivered(3));
    assert_eq!(stage.deliver(&batch()).outcome, delivered(4));
    assert_eq!(stage.hosts(), ["a:1", "b:2", "a:1"]);
}

#[test]
fn it_is_told_what_may_be_about_a_record() {
    let gone = || Err(TransportError::Connect("connection refused".into()));
    let transit_failure = |answers: Vec<Answer>| stage(answers).deliver(&batch()).transit_failure;
    assert_eq!(transit_failure(vec![page(403), page(406), page(403)]), TransitFailure::Refused(403));
    assert_eq!(transit_failure(vec![gone(), page(403), gone()]), TransitFailure::Refused(403));
    assert_eq!(transit_failure(vec![page(403), reset(), page(403)]), TransitFailure::Unanswered);
    assert_eq!(transit_failure(vec![status(503, ""), gone(), timeout()]), TransitFailure::Unanswered);
    assert_eq!(
        transit_failure(vec![gone(), gone(), gone()]),
        TransitFailure::None,
        "no record was on its way"
    );
    assert_eq!(
        transit_failure(vec![page(403), status(429, "")]),
        TransitFailure::None,
        "Algolia asks for patience"
    );
    assert_eq!(transit_failure(vec![page(403), receipt(1)]), TransitFailure::None);
}

#[test]
fn an_html_error_is_too_many_requests_and_stays_at_its_host() {
    let mut page = status(429, "<html><h1>429</h1></html>").unwrap();
    page.content_type = Some("text/html".into());
    let stage = stage(vec![Ok(page), receipt(1)]);
    let reason = "429 Too Many Requests with 25 bytes of text/html".to_owned();
    assert_eq!(stage.deliver(&batch()).outcome, DeliveryOutcome::Retry { reason, not_before: None });
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts(), ["a:1", "a:1"]);
}

#[test]
fn two_thousand_deliveries_use_one_host_and_no_id_twice() {
    let stage = stage((0..2000).map(receipt).collect());
    for task in 0..2000 {
        assert_eq!(stage.deliver(&batch()).outcome, delivered(task));
    }
    let seen = stage.script.seen.lock().unwrap();
    let ids: std::collections::HashSet<_> = seen.iter().map(|seen| seen.header("request-id")).collect();
    assert_eq!(ids.len(), 2000);
    assert!(seen.iter().all(|seen| seen.host == "a:1"));
}

#[test]
fn timeouts_grow_for_an_unroutable_host_and_shrink_after_a_success() {
    let stage = stage_with(vec![timeout(), timeout(), timeout(), receipt(1), timeout()], |s| {
        s.hosts = parse_hosts("http://a:1").unwrap();
    });
    for _ in 0..5 {
        stage.deliver(&batch());
    }
    let seen = stage.script.seen.lock().unwrap();
    let connect: Vec<_> = seen.iter().map(|seen| seen.timeouts.0).collect();
    assert_eq!(connect, [2, 4, 6, 8, 2]);
}

#[test]
fn algolias_own_hosts_are_tried_when_none_are_listed() {
    let stage = stage_with(vec![status(503, ""), receipt(1)], |s| s.hosts.clear());
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts()[0], "TESTAPP.algolia.net");
    assert!(stage.hosts()[1].ends_with(".algolianet.com"));
}

#[test]
fn when_no_host_works_each_cause_is_kept() {
    let refused = Err(TransportError::Connect("connection refused".into()));
    let stage = stage(vec![timeout(), refused, busy("9"), receipt(1)]);
    let reason =
        "a:1: no answer within 30 s; b:2: connection refused; c:3: 503 Service Unavailable".to_owned();
    assert_eq!(stage.deliver(&batch()).outcome, DeliveryOutcome::Retry { reason, not_before: None });
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts()[3], "a:1", "the host that only timed out is still up");
}

#[test]
fn what_one_host_asks_for_stops_no_other() {
    let refused = || Err(TransportError::Connect("connection refused".into()));
    let stage = stage(vec![busy("3600"), refused(), refused(), receipt(1)]);
    assert!(matches!(stage.deliver(&batch()).outcome, DeliveryOutcome::Retry { not_before: None, .. }));
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts(), ["a:1", "b:2", "c:3", "b:2"]);
}

#[test]
fn when_all_hosts_ask_for_time_the_first_that_may_be_called_again_counts() {
    let stage = stage(vec![busy("3600"), busy("600"), busy("1800")]);
    match stage.deliver(&batch()).outcome {
        DeliveryOutcome::Retry { not_before: Some(wait), .. } => {
            assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reset_on_a_kept_connection_gets_a_fresh_one_before_the_host_is_blamed() {
    let stage = stage(vec![receipt(1), reset(), receipt(2), reset(), reset(), receipt(3), receipt(4)]);
    for task in 1..=4 {
        assert_eq!(stage.deliver(&batch()).outcome, delivered(task));
    }
    assert_eq!(stage.hosts(), ["a:1", "a:1", "a:1", "a:1", "a:1", "b:2", "b:2"]);
    let fresh: Vec<_> = stage.script.seen.lock().unwrap().iter().map(|seen| seen.fresh).collect();
    assert_eq!(fresh, [false, false, true, false, true, false, false]);
}

#[test]
fn a_reset_by_a_host_never_heard_of_is_its_own_fault() {
    let stage = stage(vec![reset(), receipt(1)]);
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts(), ["a:1", "b:2"]);
}

#[test]
fn a_success_that_cannot_be_trusted_is_sent_again_elsewhere() {
    let stage = stage(vec![status(200, "<html>"), status(200, r#"{"objectIDs":["1"]}"#), receipt(1)]);
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts(), ["a:1", "b:2", "c:3"]);
}

#[test]
fn a_poison_record_is_named() {
    let body = r#"{"message":"Record at the position 1 objectID=2 is too big","position":1,"objectID":"2","status":400}"#;
    let stage = stage(vec![status(400, body)]);
    match stage.deliver(&batch()).outcome {
        DeliveryOutcome::Rejected { status: 400, offending_record, .. } => {
            assert_eq!(offending_record.rows_in(&batch()), [1])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_that_is_too_large_is_rejected_without_an_offending_record() {
    let stage = stage(vec![status(413, "")]);
    assert!(matches!(
        stage.deliver(&batch()).outcome,
        DeliveryOutcome::Rejected { status: 413, offending_record: OffendingRecord::Unknown, .. }
    ));
}

#[test]
fn a_shutdown_ends_the_walk_and_blames_no_host() {
    let stage = stage(vec![Err(TransportError::Closed)]);
    let report = stage.deliver(&batch());
    assert!(matches!(report.outcome, DeliveryOutcome::Retry { .. }));
    assert_eq!(report.attempts, 1);
    stage.play(vec![receipt(1)]);
    stage.deliver(&batch());
    assert_eq!(stage.hosts(), ["a:1", "a:1"]);
}

#[test]
fn a_panic_while_the_lock_is_held_does_not_spread() {
    let stage = stage(vec![receipt(1)]);
    std::thread::scope(|scope| {
        let poisoner = scope.spawn(|| {
            let _guard = stage.sink.client.state.lock();
            panic!("poison");
        });
        assert!(poisoner.join().is_err());
    });
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
}
