//! Deliveries against a transport that plays back answers and remembers requests. Where a test restates a
//! case of the common test suite of Algolia's clients, its name says so in that suite's words.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::delivery::batch::{Action, BatchBuilder, Push};
use crate::delivery::clock::SystemClock;
use crate::delivery::host_url::parse_hosts;
use crate::delivery::settings::for_tests;
use crate::secret::Secret;

type Answer = Result<Response, TransportError>;

/// What was asked of the transport.
struct Seen {
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeouts: (u64, u64),
    fresh: bool,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

impl Transport for Script {
    fn send(&self, request: &Request<'_>) -> Answer {
        self.seen.lock().unwrap().push(Seen {
            method: request.method,
            host: request.host.name().to_owned(),
            path: request.path.to_owned(),
            headers: request
                .headers
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            body: request.body.to_vec(),
            timeouts: (request.connect_timeout.as_secs(), request.request_timeout.as_secs()),
            fresh: request.fresh_connection,
        });
        self.answers.lock().unwrap().pop_front().expect("a request more than the script has answers")
    }
}

struct Stage {
    sink: Sink<Arc<Script>>,
    script: Arc<Script>,
}

fn stage_with(answers: Vec<Answer>, change: impl FnOnce(&mut Settings)) -> Stage {
    let script = Arc::new(Script { answers: Mutex::new(answers.into()), ..Script::default() });
    let mut settings = for_tests();
    settings.hosts = parse_hosts("http://a:1,http://b:2,http://c:3").unwrap();
    change(&mut settings);
    Stage { sink: Sink::new(settings, Arc::clone(&script), 7).unwrap(), script }
}

fn stage(answers: Vec<Answer>) -> Stage {
    stage_with(answers, |_| ())
}

impl Stage {
    fn deliver(&self, batch: &Batch) -> Report {
        self.sink.deliver("audit", batch, &SystemClock)
    }

    fn hosts(&self) -> Vec<String> {
        self.script.seen.lock().unwrap().iter().map(|seen| seen.host.clone()).collect()
    }

    fn play(&self, answers: Vec<Answer>) {
        self.script.answers.lock().unwrap().extend(answers);
    }
}

fn status(status: u16, body: &str) -> Answer {
    Ok(Response { status, body: body.as_bytes().to_vec(), ..Response::default() })
}

fn receipt(task: i64) -> Answer {
    status(200, &format!(r#"{{"taskID":{task},"objectIDs":["1","2"]}}"#))
}

/// A host that asks for time.
fn busy(retry_after: &str) -> Answer {
    Ok(Response { retry_after: Some(retry_after.to_owned()), ..status(503, "")? })
}

fn timeout() -> Answer {
    Err(TransportError::Timeout("no answer within 30 s".into()))
}

fn reset() -> Answer {
    Err(TransportError::Reset("connection reset".into()))
}

fn delivered(task: i64) -> Outcome {
    Outcome::Delivered { task_id: Some(task) }
}

fn batch_with(filler: usize) -> Batch {
    let mut builder = BatchBuilder::new(10, usize::MAX);
    for (id, name) in [("1", "Adam"), ("2", "Benoit")] {
        let record = serde_json::json!({"objectID": id, "name": name, "text": "x".repeat(filler)});
        assert_eq!(builder.push(Action::AddObject, &record.to_string()), Push::Taken);
    }
    builder.finish()
}

fn batch() -> Batch {
    batch_with(0)
}

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
    assert_eq!(report.outcome, Outcome::Retry { reason, not_before: None });
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
fn save_objects_reports_errors_without_retrying() {
    let stage = stage(vec![status(403, r#"{"message":"Invalid Application-ID or API key","status":403}"#)]);
    match stage.deliver(&batch()).outcome {
        Outcome::Blocked { reason, hint, status: Some(403) } => {
            assert_eq!(reason, "403 Forbidden: Invalid Application-ID or API key");
            assert!(hint.contains("audit_algolia.api_key"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.hosts(), ["a:1"]);
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
        Outcome::Blocked { reason, .. } => assert_eq!(reason, "403 Forbidden: no (Correlation-ID: corr-1)"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_html_error_is_too_many_requests_and_stays_at_its_host() {
    let mut page = status(429, "<html><h1>429</h1></html>").unwrap();
    page.content_type = Some("text/html".into());
    let stage = stage(vec![Ok(page), receipt(1)]);
    let reason = "429 Too Many Requests with 25 bytes of text/html".to_owned();
    assert_eq!(stage.deliver(&batch()).outcome, Outcome::Retry { reason, not_before: None });
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
    assert_eq!(stage.deliver(&batch()).outcome, Outcome::Retry { reason, not_before: None });
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts()[3], "a:1", "the host that only timed out is still up");
}

#[test]
fn what_one_host_asks_for_stops_no_other() {
    let refused = || Err(TransportError::Connect("connection refused".into()));
    let stage = stage(vec![busy("3600"), refused(), refused(), receipt(1)]);
    assert!(matches!(stage.deliver(&batch()).outcome, Outcome::Retry { not_before: None, .. }));
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
    assert_eq!(stage.hosts(), ["a:1", "b:2", "c:3", "b:2"]);
}

#[test]
fn when_all_hosts_ask_for_time_the_first_that_may_be_called_again_counts() {
    let stage = stage(vec![busy("3600"), busy("600"), busy("1800")]);
    match stage.deliver(&batch()).outcome {
        Outcome::Retry { not_before: Some(wait), .. } => {
            assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
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
fn gzip_is_given_up_for_good_when_it_is_refused() {
    let refusal = || status(415, r#"{"message":"unrecognized Content-Encoding: gzip","status":415}"#);
    let stage = stage(vec![refusal(), receipt(1), receipt(2), refusal()]);
    let batch = batch_with(5000);
    let report = stage.deliver(&batch);
    assert_eq!((report.outcome, report.attempts, report.wire_bytes), (delivered(1), 2, batch.bytes()));
    assert_eq!(stage.deliver(&batch).outcome, delivered(2));
    assert!(matches!(stage.deliver(&batch).outcome, Outcome::Blocked { status: Some(415), .. }));
    assert_eq!(stage.hosts(), ["a:1", "a:1", "a:1", "a:1"]);
    let encodings =
        stage.script.seen.lock().unwrap().iter().filter(|s| s.header("content-encoding").is_some()).count();
    assert_eq!(encodings, 1);
}

#[test]
fn compression_can_be_switched_off() {
    let stage = stage_with(vec![receipt(1)], |s| s.compression = false);
    assert_eq!(stage.deliver(&batch_with(5000)).wire_bytes, batch_with(5000).bytes());
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
        Outcome::Rejected { status: 400, culprit, .. } => assert_eq!(culprit.rows_in(&batch()), [1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_that_is_too_large_is_rejected_without_a_culprit() {
    let stage = stage(vec![status(413, "")]);
    assert!(matches!(
        stage.deliver(&batch()).outcome,
        Outcome::Rejected { status: 413, culprit: Culprit::Unknown, .. }
    ));
}

#[test]
fn a_shutdown_ends_the_walk_and_blames_no_host() {
    let stage = stage(vec![Err(TransportError::Closed)]);
    let report = stage.deliver(&batch());
    assert!(matches!(report.outcome, Outcome::Retry { .. }));
    assert_eq!(report.attempts, 1);
    stage.play(vec![receipt(1)]);
    stage.deliver(&batch());
    assert_eq!(stage.hosts(), ["a:1", "a:1"]);
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
        assert!(matches!(report.outcome, Outcome::Blocked { status: None, .. }));
        assert_eq!(report.attempts, 0);
    }
}

#[test]
fn an_empty_batch_needs_no_request() {
    let stage = stage(vec![]);
    let report = stage.deliver(&batch().subset(&[]));
    assert_eq!((report.outcome, report.attempts), (Outcome::Delivered { task_id: None }, 0));
}

#[test]
fn missing_credentials_make_no_sink() {
    for change in
        [|s: &mut Settings| s.application_id.clear(), |s: &mut Settings| s.api_key = Secret::default()]
    {
        let mut settings = for_tests();
        change(&mut settings);
        assert!(Sink::new(settings, Arc::new(Script::default()), 0).is_err());
    }
}

#[test]
fn a_panic_while_the_lock_is_held_does_not_spread() {
    let stage = stage(vec![receipt(1)]);
    std::thread::scope(|scope| {
        let poisoner = scope.spawn(|| {
            let _guard = stage.sink.state.lock();
            panic!("poison");
        });
        assert!(poisoner.join().is_err());
    });
    assert_eq!(stage.deliver(&batch()).outcome, delivered(1));
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
