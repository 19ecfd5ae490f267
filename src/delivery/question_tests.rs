//! Questions as requests, and how their answers are parsed.
#![forbid(unsafe_code)]

use super::*;

fn objects(ids: &[&str]) -> Question {
    Question::Objects { index: "a/b".to_owned(), ids: ids.iter().map(|id| (*id).to_owned()).collect() }
}

fn page(cursor: Option<&str>) -> Question {
    Question::Page {
        index: "a".to_owned(),
        prefix: "p:".to_owned(),
        filters: Some("\"ts\" >= 1".to_owned()),
        cursor: cursor.map(str::to_owned),
        size: 500,
    }
}

#[test]
fn objects_are_asked_for_by_index_and_id() {
    let question = objects(&["1", "x\"y"]);
    assert_eq!((question.method(), question.path("a%2Fb").as_str()), (Method::Post, "/1/indexes/*/objects"));
    let body: serde_json::Value = serde_json::from_str(&question.body()).unwrap();
    let wanted = json!([{"indexName": "a/b", "objectID": "1"}, {"indexName": "a/b", "objectID": "x\"y"}]);
    assert_eq!(body["requests"], wanted);
}

#[test]
fn of_objects_the_fingerprints_are_read_in_order() {
    let question = objects(&["1", "2"]);
    let body =
        br#"{"results":[null,{"objectID":"2","b":[1.50],"a":null}],"message":"ObjectID 1 does not exist."}"#;
    let print = Fingerprint::of(r#"{"a":null,"b":[1.5],"objectID":"2"}"#);
    assert_eq!(question.read(body), Some(Answer::Objects(vec![None, Some(print)])));
    for wrong in [&b"{\"results\":[null]}"[..], b"{\"results\":[null,{", b"<html>", b"{}"] {
        assert_eq!(question.read(wrong), None, "{}", String::from_utf8_lossy(wrong));
    }
}

#[test]
fn a_record_nested_deeply_is_read_all_the_same() {
    let deep = format!("{{\"results\":[{{\"d\":{}{}}}]}}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(
        objects(&["1"]).read(deep.as_bytes()),
        Some(Answer::Objects(vec![Some(Fingerprint::UNREADABLE)]))
    );
}

#[test]
fn pages_follow_the_cursor_alone() {
    let first: serde_json::Value = serde_json::from_str(&page(None).body()).unwrap();
    let wanted = json!({"hitsPerPage": 500, "attributesToRetrieve": ["objectID"], "filters": "\"ts\" >= 1"});
    assert_eq!(first, wanted);
    assert_eq!(page(Some("c+=")).body(), r#"{"cursor":"c+="}"#);
    assert_eq!(page(None).path("a%2Fb"), "/1/indexes/a%2Fb/browse");
}

#[test]
fn of_a_page_the_ids_with_the_prefix_are_told() {
    let body = br#"{"hits":[{"objectID":"p:1"},{"objectID":"q:1"},{"objectID":"p:2"}],"cursor":"c"}"#;
    let ids = vec!["p:1".to_owned(), "p:2".to_owned()];
    assert_eq!(page(None).read(body), Some(Answer::Page { ids, cursor: Some("c".to_owned()) }));
    let last = Some(Answer::Page { ids: Vec::new(), cursor: None });
    assert_eq!(page(None).read(br#"{"hits":[],"nbHits":0}"#), last);
    assert_eq!(page(None).read(br#"{"hits":[],"cursor":""}"#), last);
    assert_eq!(page(None).read(br#"{"message":"none"}"#), None);
}

#[test]
fn a_task_is_asked_for_without_a_body() {
    let question = Question::Task { index: "a".to_owned(), task: 7 };
    assert_eq!((question.method(), question.path("a").as_str()), (Method::Get, "/1/indexes/a/task/7"));
    assert_eq!(question.read(br#"{"status":"published"}"#), Some(Answer::Task { published: true }));
    let pending = question.read(br#"{"status":"notPublished","pendingTask":true}"#);
    assert_eq!(pending, Some(Answer::Task { published: false }));
}

#[test]
fn what_does_not_exist_answers_some_questions() {
    let task = Question::Task { index: "a".to_owned(), task: 7 };
    for (says, is_index) in [
        ("index a does not exist", true),
        ("index does not exist", true),
        ("objectid does not exist", false),
        ("no route matched with those values", false),
    ] {
        let nothing = Answer::Page { ids: Vec::new(), cursor: None };
        assert_eq!(page(None).of_absence(says), is_index.then_some(nothing), "{says}");
        let none = Answer::Objects(vec![None, None]);
        assert_eq!(objects(&["1", "2"]).of_absence(says), is_index.then_some(none), "{says}");
        assert_eq!(task.of_absence(says), Some(Answer::Task { published: true }), "{says}");
    }
}

#[test]
fn questions_for_several_objects_can_be_cut() {
    let (one, other) = objects(&["1", "2", "3"]).halves().unwrap();
    assert_eq!((one, other), (objects(&["1"]), objects(&["2", "3"])));
    assert_eq!(objects(&["1"]).halves(), None);
    assert_eq!(page(None).halves(), None);
}
