//! Questions: which are asked in parts, and which cannot be answered.

use super::*;
use crate::delivery::question::Answer as Told;
use crate::record::Fingerprint;

fn objects(ids: &[&str]) -> Question {
    Question::Objects { index: "a".to_owned(), ids: ids.iter().map(|id| (*id).to_owned()).collect() }
}

fn page() -> Question {
    Question::Page { index: "a".to_owned(), prefix: String::new(), filters: None, cursor: None, size: 1000 }
}

fn too_long() -> Answer {
    Err(TransportError::BodyTooLarge("answer is longer than 9 bytes".into()))
}

fn found(ids: &[&str]) -> Answer {
    let results: Vec<_> = ids.iter().map(|id| serde_json::json!({"objectID": id})).collect();
    status(200, &serde_json::json!({ "results": results }).to_string())
}

fn print(id: &str) -> Option<Fingerprint> {
    Some(Fingerprint::of(&serde_json::json!({"objectID": id}).to_string()))
}

fn asking(answers: Vec<Answer>, change: impl FnOnce(&mut DeliverySettings)) -> Stage {
    stage_of(Sink::for_reading, answers, change)
}

fn ask(question: &Question, answers: Vec<Answer>) -> AskResult {
    let stage = asking(answers, |_| ());
    let reply = stage.sink.ask(question, &SystemClock);
    assert!(stage.script.answers.lock().unwrap().is_empty(), "all is asked");
    reply
}

#[test]
fn a_record_too_long_to_be_read_is_none_of_ours_and_hides_no_other() {
    let answers = vec![too_long(), found(&["1"]), too_long(), too_long(), found(&["3"])];
    let prints = vec![print("1"), Some(Fingerprint::FOREIGN), print("3")];
    assert_eq!(ask(&objects(&["1", "2", "3"]), answers), Ok(Told::Objects(prints)));
}

#[test]
fn a_key_that_allows_few_hits_is_asked_for_few() {
    let few = || {
        let says = "Method not allowed with this API key (nbObjects > hitsPerPage)";
        status(403, &serde_json::json!({"message": says, "status": 403}).to_string())
    };
    let prints = vec![print("1"), print("2"), print("3")];
    let answers = vec![few(), found(&["1"]), found(&["2", "3"])];
    assert_eq!(ask(&objects(&["1", "2", "3"]), answers), Ok(Told::Objects(prints)));
    let refused = status(403, r#"{"message":"Method not allowed with this API key","status":403}"#);
    assert_eq!(ask(&objects(&["1", "2"]), vec![refused]).unwrap_err().kind, AskErrorKind::Rights);
}

#[test]
fn what_a_gateway_finds_too_large_is_told() {
    let refused = || status(413, "<html>too large</html>");
    let answers = vec![refused(), found(&["1"]), refused()];
    for (question, answers) in [
        (objects(&["1", "2"]), answers),
        (page(), vec![refused()]),
        (page(), vec![too_long()]),
        (Question::Task { index: "a".to_owned(), task: 7 }, vec![refused()]),
        (Question::Task { index: "a".to_owned(), task: 7 }, vec![too_long()]),
    ] {
        let error = ask(&question, answers).unwrap_err();
        assert_eq!(error.kind, AskErrorKind::TooLong, "{question:?}");
        assert!(error.reason.contains("413") || error.reason.contains("longer"), "{error:?}");
    }
}

#[test]
fn an_answer_is_waited_for_as_long_as_official_clients_do_and_longer_each_time() {
    let one_host = |settings: &mut DeliverySettings| settings.hosts = parse_hosts("http://a:1").unwrap();
    let stage = asking(vec![timeout(), timeout(), timeout(), timeout(), timeout()], one_host);
    for _ in 0..5 {
        stage.sink.ask(&page(), &SystemClock).unwrap_err();
    }
    let seen = stage.script.seen.lock().unwrap();
    let waits: Vec<_> = seen.iter().map(|seen| (seen.answer_timeout, seen.timeouts.1)).collect();
    assert_eq!(waits, [(5, 30), (10, 60), (15, 90), (20, 120), (20, 120)]);
}

#[test]
fn an_answer_is_not_waited_for_longer_than_any_request() {
    let stage = asking(vec![timeout(), timeout(), timeout()], |settings| {
        settings.request_timeout = std::time::Duration::from_secs(3);
    });
    stage.sink.ask(&page(), &SystemClock).unwrap_err();
    assert!(stage.script.seen.lock().unwrap().iter().all(|seen| seen.answer_timeout == 3));
}
