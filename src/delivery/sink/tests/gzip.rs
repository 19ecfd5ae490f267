//! Compressed bodies: which hosts get them, and what a refusal of one means.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::delivery::question::Answer as Told;

/// Both of its records are large enough to be compressed.
fn large() -> Batch {
    batch_with(5000)
}

fn json(message: &str) -> Answer {
    status(400, &serde_json::json!({"message": message, "status": 400}).to_string())
}

fn unsupported() -> Answer {
    status(415, r#"{"message":"unrecognized Content-Encoding: gzip","status":415}"#)
}

fn named() -> Answer {
    status(400, r#"{"message":"Record 2 is too big: size: 1","status":400}"#)
}

/// Which requests had a compressed body.
fn compressed(stage: &Stage) -> Vec<bool> {
    let seen = stage.script.seen.lock().unwrap();
    seen.iter().map(|seen| seen.header("content-encoding") == Some("gzip")).collect()
}

fn is_rejected(report: &SendResult) -> bool {
    matches!(report.outcome, DeliveryOutcome::Rejected { .. })
}

/// A clock that the test sets.
struct At(Instant);

impl Clock for At {
    fn instant(&self) -> Instant {
        self.0
    }

    fn system_time(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[test]
fn a_host_that_cannot_read_gzip_gets_plain_bodies_whatever_it_says() {
    let says = [
        unsupported(),
        json("Bad Request"),
        json("Invalid JSON near line:1 column:1"),
        status(400, "<html>Bad Request</html>"),
        status(422, r#"{"detail":"not JSON"}"#),
    ];
    for refusal in says {
        let stage = stage(vec![refusal, receipt(1), receipt(2)]);
        let report = stage.deliver(&large());
        assert_eq!((report.outcome, report.attempts, report.wire_bytes), (delivered(1), 2, large().bytes()));
        assert_eq!(stage.deliver(&large()).outcome, delivered(2));
        assert_eq!(stage.hosts(), ["a:1", "a:1", "a:1"]);
        assert_eq!(compressed(&stage), [true, false, false]);
    }
}

#[test]
fn a_large_question_is_asked_plain_of_a_host_that_cannot_read_gzip() {
    let stage = stage(vec![json("Bad Request"), status(200, r#"{"results":[null]}"#)]);
    let question = Question::Objects { index: "a".to_owned(), ids: vec!["x".repeat(5000)] };
    assert_eq!(stage.sink.ask(&question, &SystemClock), Ok(Told::Objects(vec![None])));
    assert_eq!(compressed(&stage), [true, false]);
}

#[test]
fn what_one_host_cannot_read_is_sent_to_others_nevertheless() {
    let stage = stage(vec![unsupported(), receipt(1), status(503, ""), receipt(2)]);
    stage.deliver(&large());
    assert_eq!(stage.deliver(&large()).outcome, delivered(2));
    assert_eq!(stage.hosts(), ["a:1", "a:1", "a:1", "b:2"]);
    assert_eq!(compressed(&stage), [true, false, false, true]);
}

#[test]
fn a_host_is_asked_anew_after_a_while_whether_it_reads_gzip() {
    let stage = stage(vec![unsupported(), receipt(1), receipt(2), receipt(3)]);
    let start = Instant::now();
    for minutes in [0, 4, 5] {
        let clock = At(start + Duration::from_secs(60 * minutes));
        stage.sink.deliver("audit", &large(), &clock);
    }
    assert_eq!(compressed(&stage), [true, false, false, true]);
}

#[test]
fn a_refusal_that_names_a_record_is_about_that_record() {
    let stage = stage(vec![named()]);
    assert!(is_rejected(&stage.deliver(&large())));
    assert_eq!(compressed(&stage), [true]);
}

#[test]
fn a_plain_body_that_is_refused_as_well_is_no_sign_against_gzip() {
    let stage = stage(vec![json("no"), json("no"), receipt(1)]);
    let report = stage.deliver(&large());
    assert!(is_rejected(&report) && report.attempts == 2);
    stage.deliver(&large());
    assert_eq!(compressed(&stage), [true, false, true]);
}

#[test]
fn a_plain_body_of_which_a_record_is_named_has_been_read_where_the_other_was_not() {
    let stage = stage(vec![json("no"), named(), receipt(1)]);
    assert!(is_rejected(&stage.deliver(&large())));
    stage.deliver(&large());
    assert_eq!(compressed(&stage), [true, false, false]);
}

#[test]
fn a_host_that_reads_gzip_is_sent_a_refused_batch_once() {
    let stage = stage(vec![receipt(1), json("no"), receipt(2), json("no")]);
    for _ in 0..4 {
        stage.deliver(&large());
    }
    assert_eq!(compressed(&stage), [true; 4]);
}

#[test]
fn a_host_that_has_stopped_to_read_gzip_is_found_out_at_the_second_refusal() {
    let stage = stage(vec![receipt(1), json("no"), json("no"), receipt(2), receipt(3)]);
    stage.deliver(&large());
    assert!(is_rejected(&stage.deliver(&large())));
    assert_eq!(stage.deliver(&large()).outcome, delivered(2));
    assert_eq!(stage.deliver(&large()).outcome, delivered(3));
    assert_eq!(compressed(&stage), [true, true, true, false, false]);
}

#[test]
fn a_host_that_says_that_it_has_stopped_to_read_gzip_is_sent_plain_bodies_at_once() {
    let stage = stage(vec![receipt(1), unsupported(), receipt(2), receipt(3)]);
    for task in 1..=3 {
        assert_eq!(stage.deliver(&large()).outcome, delivered(task));
    }
    assert_eq!(compressed(&stage), [true, true, false, false]);
}

#[test]
fn a_record_alone_is_not_blamed_before_it_has_been_sent_plain() {
    let stage = stage(vec![receipt(1), json("no"), json("no")]);
    stage.deliver(&large());
    assert!(is_rejected(&stage.deliver(&large().subset(&[1]).unwrap())));
    assert_eq!(compressed(&stage), [true, true, false]);
}

#[test]
fn a_plain_body_that_is_refused_for_its_encoding_stops_the_index() {
    let stage = stage(vec![unsupported(), unsupported()]);
    assert!(matches!(stage.deliver(&large()).outcome, DeliveryOutcome::Blocked { status: Some(415), .. }));
    assert_eq!(compressed(&stage), [true, false]);
}

#[test]
fn compression_can_be_switched_off() {
    let stage = stage_with(vec![receipt(1)], |s| s.compression = false);
    assert_eq!(stage.deliver(&large()).wire_bytes, large().bytes());
}
