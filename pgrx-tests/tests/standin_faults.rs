//! Each fault of the stand-in does what its name says.
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use audit_algolia_tests::standin::{Fault, FaultBody, FaultRule, Standin, StandinConfig, Times};
use audit_algolia_tests::wait::wait_until;
use serde_json::{json, Value};
use support::{start, Client};

const PATH: &str = "/1/indexes/t/batch";
const SOON: Duration = Duration::from_secs(5);

fn body(ids: &[&str]) -> Vec<u8> {
    let requests: Value =
        ids.iter().map(|id| json!({"action": "addObject", "body": {"objectID": id}})).collect();
    json!({"requests": requests}).to_string().into_bytes()
}

fn faulty(fault: Fault) -> (Standin, Client) {
    let standin = start(StandinConfig::default());
    standin.fault(None, fault, Times::Once);
    let client = Client::of(&standin);
    (standin, client)
}

/// After its fault, the stand-in works as usual.
fn assert_served(client: &Client) {
    assert_eq!(client.attempt("POST", PATH, &body(&["after"]), &[]).expect("an answer").status, 200);
}

#[test]
fn a_hang_lasts_until_it_is_cleared_and_applies_nothing() {
    for (fault, applied) in [(Fault::Hang, 0), (Fault::AcceptThenHang, 1)] {
        let (standin, client) = faulty(fault);
        let hanging = {
            let client = client.clone();
            thread::spawn(move || client.attempt("POST", PATH, &body(&["a"]), &[]).is_err())
        };
        wait_until("the request hangs", SOON, || standin.in_hang() == 1);
        assert_eq!(standin.index("t").len(), applied);
        standin.clear_faults();
        assert!(hanging.join().expect("no panic"), "an error, not an answer");
        wait_until("nothing hangs", SOON, || standin.in_hang() == 0);
        assert_served(&client);
    }
}

#[test]
fn a_proxy_eats_what_contains_a_text_compressed_or_not() {
    use std::io::Write;
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    standin.inject(FaultRule::new(Fault::page(406), Times::Always).containing("poison"));
    let zipped = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    let gzip = [("content-encoding", "gzip")];
    for (id, status) in [("harmless", 200), ("poison", 406), ("a poisonous one", 406)] {
        let plain = body(&["other", id]);
        let answer = client.attempt("POST", PATH, &plain, &[]).expect("an answer");
        assert_eq!(answer.status, status, "{id}");
        let answer = client.attempt("POST", PATH, &zipped(&plain), &gzip).expect("an answer");
        assert_eq!(answer.status, status, "{id}, compressed");
    }
    let entries = standin.requests();
    assert_eq!(entries.len(), 6);
    assert_eq!(standin.index("t").len(), 2, "what was eaten is not applied");
}

#[test]
fn a_hanging_request_whose_client_left_is_not_counted() {
    let (standin, client) = faulty(Fault::Hang);
    let impatient = client.with_timeout(Duration::from_millis(50));
    assert!(impatient.attempt("POST", PATH, &body(&["a"]), &[]).is_err());
    drop(impatient);
    wait_until("the client's leaving is noticed", SOON, || standin.in_hang() == 0);
    assert_eq!(standin.requests()[0].status, None);
}

#[test]
fn stopping_ends_what_hangs() {
    let (standin, client) = faulty(Fault::Hang);
    let hanging = thread::spawn(move || client.attempt("POST", PATH, &body(&["a"]), &[]).is_err());
    wait_until("the request hangs", SOON, || standin.in_hang() == 1);
    let begun = Instant::now();
    drop(standin);
    assert!(hanging.join().expect("no panic"));
    assert!(begun.elapsed() < SOON);
}

#[test]
fn a_hang_for_a_while_answers_late() {
    let (standin, client) = faulty(Fault::HangFor(Duration::from_millis(80)));
    let begun = Instant::now();
    assert_served(&client);
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(standin.index("t").len(), 1);
}

#[test]
fn a_reset_is_a_network_error() {
    let (standin, client) = faulty(Fault::Reset);
    let error = client.attempt("POST", PATH, &body(&["a"]), &[]).expect_err("no answer");
    match &error {
        ureq::Error::Io(io) => assert_eq!(io.kind(), std::io::ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    assert!(standin.arrivals().is_empty());
    assert_served(&client);
}

#[test]
fn a_status_comes_with_its_body_and_headers() {
    let (standin, client) = faulty(Fault::too_many_requests(Some(7)));
    let html = FaultBody::Html("<h1>Too Many Requests</h1>".to_owned());
    standin.fault(None, Fault::Status { code: 429, body: html, headers: Vec::new() }, Times::Once);
    standin.fault(None, Fault::error(503, "try later"), Times::Once);
    let first = client.raw("POST", PATH, &body(&["a"]), &[]);
    assert_eq!((first.status, first.message()), (429, "Too many requests"));
    assert_eq!(first.header("retry-after"), Some("7"));
    let second = client.raw("POST", PATH, &body(&["a"]), &[]);
    assert_eq!((second.status, second.header("content-type")), (429, Some("text/html")));
    assert_eq!((second.text.as_str(), second.header("retry-after")), ("<h1>Too Many Requests</h1>", None));
    let third = client.raw("POST", PATH, &body(&["a"]), &[]);
    assert_eq!((third.status, third.message()), (503, "try later"));
    assert!(standin.arrivals().is_empty());
    assert_served(&client);
}

#[test]
fn quota_and_block_are_403s() {
    let (standin, client) = faulty(Fault::blocked());
    standin.fault(None, Fault::record_quota(), Times::Once);
    for start in ["This operation cannot be processed, the application is blocked", "You have exceeded your"]
    {
        let answer = client.raw("POST", PATH, &body(&["a"]), &[]);
        assert_eq!(answer.status, 403);
        assert!(answer.message().starts_with(start), "{}", answer.message());
    }
}

#[test]
fn a_slow_body_arrives_whole() {
    let (_standin, client) = faulty(Fault::SlowBody(Duration::from_millis(100)));
    let begun = Instant::now();
    let answer = client.raw("POST", PATH, &body(&["a"]), &[]);
    assert_eq!(answer.json["objectIDs"], json!(["a"]));
    assert!(begun.elapsed() >= Duration::from_millis(90));
}

#[test]
fn accepted_batches_whose_answer_breaks_are_in_the_index() {
    for fault in [Fault::Truncate, Fault::AcceptThenDrop] {
        let (standin, client) = faulty(fault.clone());
        assert!(client.attempt("POST", PATH, &body(&["a"]), &[]).is_err(), "{fault:?}");
        assert_eq!(standin.index("t").len(), 1, "{fault:?}");
        assert_served(&client);
    }
}

#[test]
fn lost_records_are_acknowledged_all_the_same() {
    let (standin, client) = faulty(Fault::lose(|id| id == "b"));
    let answer = client.raw("POST", PATH, &body(&["a", "b", "c"]), &[]);
    assert_eq!((answer.status, &answer.json["objectIDs"]), (200, &json!(["a", "b", "c"])));
    assert_eq!(standin.index("t").into_keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(standin.operations("t"), 3);
}

#[test]
fn odd_successes_are_odd() {
    let (standin, client) = faulty(Fault::Redirect("http://127.0.0.1:1/x".to_owned()));
    standin.fault(None, Fault::EmptyNoContent, Times::Once);
    standin.fault(None, Fault::WrongObjectIds, Times::Once);
    let moved = client.raw("POST", PATH, &body(&["a"]), &[]);
    assert_eq!((moved.status, moved.header("location")), (307, Some("http://127.0.0.1:1/x")));
    assert!(standin.arrivals().is_empty());
    let empty = client.raw("POST", PATH, &body(&["a"]), &[]);
    assert_eq!((empty.status, empty.text.as_str()), (204, ""));
    let wrong = client.raw("POST", PATH, &body(&["b"]), &[]);
    assert_eq!((wrong.status, &wrong.json["objectIDs"]), (200, &json!(["not-b"])));
    assert_eq!(standin.index("t").into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn an_endless_body_ends_with_the_readers_patience() {
    let (standin, client) = faulty(Fault::EndlessBody);
    let impatient = client.with_timeout(Duration::from_millis(200));
    assert!(impatient.attempt("POST", PATH, &body(&["a"]), &[]).is_err());
    assert_eq!(standin.index("t").len(), 1);
    assert_served(&client);
}

#[test]
fn rules_are_for_a_host_an_index_a_kind_and_a_share() {
    let standin = start(StandinConfig { hosts: 2, ..StandinConfig::default() });
    let [first, second] = [0, 1].map(|host| Client::to(&standin.base_urls()[host]));
    let status = |client: &Client| client.raw("POST", PATH, &body(&["a"]), &[]).status;
    standin.fault(Some(1), Fault::error(500, "x"), Times::Count(2));
    assert_eq!([&first, &second, &first, &second, &second].map(status), [200, 500, 200, 500, 200]);
    standin.inject(FaultRule::new(Fault::error(500, "x"), Times::Always).index("other").writes());
    assert_eq!(status(&first), 200);
    assert_eq!(first.raw("POST", "/1/indexes/other/batch", &body(&["a"]), &[]).status, 500);
    assert_eq!(first.get("/1/indexes/other/settings").status, 404, "only writes");
    standin.clear_faults();
    let draw = || {
        standin.inject(FaultRule::new(Fault::error(500, "x"), Times::Always).percent(30, 42));
        let drawn: Vec<u16> = (0..40).map(|_| status(&first)).collect();
        standin.clear_faults();
        drawn
    };
    let drawn = draw();
    let share = drawn.iter().filter(|&&code| code == 500).count();
    assert!((4..=20).contains(&share), "{share} of 40");
    assert_eq!(drawn, draw(), "the seed fixes the sequence");
    let hosts: Vec<usize> = standin.requests().iter().take(3).map(|entry| entry.host).collect();
    assert_eq!(hosts, [0, 1, 0]);
}

#[test]
fn latency_is_added_to_writes_only() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    assert_served(&client);
    standin.set_latency(Duration::from_millis(60));
    let begun = Instant::now();
    assert_served(&client);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    standin.set_latency(Duration::from_secs(3600));
    assert_eq!(client.get("/1/indexes").status, 200);
}

#[test]
fn idle_connections_are_closed_between_requests_but_not_during_one() {
    use std::io::Read;
    let standin = start(StandinConfig {
        idle_close: Some(Duration::from_millis(40)),
        latency: Duration::from_millis(120),
        ..StandinConfig::default()
    });
    let address = standin.base_urls()[0].replace("http://", "");
    let mut idle = std::net::TcpStream::connect(address).expect("a connection");
    idle.set_read_timeout(Some(SOON)).expect("a timeout");
    assert_eq!(idle.read(&mut [0; 16]).expect("an end, not a timeout"), 0);
    assert_served(&Client::of(&standin));
}

#[test]
fn a_reset_forgets_everything_but_the_task_ids() {
    let standin = start(StandinConfig::default());
    let client = Client::of(&standin);
    let task = |client: &Client| client.raw("POST", PATH, &body(&["a"]), &[]).json["taskID"].as_i64();
    let before = task(&client);
    standin.fault(None, Fault::error(500, "x"), Times::Always);
    standin.reset();
    assert!(standin.index("t").is_empty() && standin.requests().is_empty() && standin.operations("t") == 0);
    assert!(task(&client) > before);
}
