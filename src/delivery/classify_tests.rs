//! The meaning of every refusal seen in practice, word for word.
#![forbid(unsafe_code)]

use super::*;
use crate::delivery::wording::REASON_CHARS;
use proptest::prelude::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn answer(status: u16, content_type: &str, body: &str) -> Response {
    Response {
        status,
        content_type: Some(content_type.to_owned()),
        body: body.as_bytes().to_vec(),
        ..Response::default()
    }
}

fn json(status: u16, body: &str) -> Verdict {
    classify(&answer(status, "application/json", body), 2, now())
}

fn said(status: u16, message: &str) -> Verdict {
    json(status, &serde_json::json!({"message": message, "status": status}).to_string())
}

fn html(status: u16) -> Verdict {
    classify(&answer(status, "text/html; charset=utf-8", "<html>a page</html>"), 2, now())
}

fn offending_record(verdict: Verdict) -> OffendingRecord {
    match verdict {
        Verdict::Rejected { status: 400, offending_record, .. } => offending_record,
        other => panic!("not rejected: {other:?}"),
    }
}

fn reason(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Delivered { .. } => "",
        Verdict::NextHost { reason, .. }
        | Verdict::Retry { reason, .. }
        | Verdict::Gateway { reason, .. }
        | Verdict::Rejected { reason, .. }
        | Verdict::Blocked { reason, .. }
        | Verdict::TooLarge { reason }
        | Verdict::CompressionRefused { reason } => reason,
    }
}

#[test]
fn a_receipt_for_every_row_is_a_delivery() {
    let whole = r#"{"taskID":4611686018427387904,"objectIDs":["1","2"],"new":{"deep":[1]}}"#;
    assert_eq!(json(200, whole), Verdict::Delivered { task_id: Some(4_611_686_018_427_387_904) });
    assert_eq!(json(201, r#"{"objectIDs":["1","2"]}"#), Verdict::Delivered { task_id: None });
    let per_index = r#"{"taskID":{"a":11,"b":12},"objectIDs":["1","2"]}"#;
    assert_eq!(json(200, per_index), Verdict::Delivered { task_id: None });
}

#[test]
fn a_success_without_content_delivers_nothing() {
    for (status, name) in [(200, "200 OK"), (202, "202"), (204, "204 No Content")] {
        let verdict = json(status, "");
        assert!(matches!(verdict, Verdict::NextHost { .. }), "{verdict:?}");
        assert_eq!(reason(&verdict), format!("{name}, but the answer is empty"));
    }
}

#[test]
fn a_success_that_cannot_be_trusted_is_none() {
    for (body, words) in [
        (r#"{"taskID":1,"objectIDs":["1"]}"#, "lists 1 objectIDs for 2 rows"),
        (r#"{"taskID":1,"objectIDs":["1","2","3"]}"#, "lists 3 objectIDs for 2 rows"),
        (r#"{"taskID":1,"objectIDs":["1",null]}"#, "not the JSON of a batch"),
        (r#"{"taskID":1}"#, "not the JSON of a batch"),
        (r#"{"taskID":1,"objectIDs":["1","#, "cut short"),
        ("[]", "not the JSON of a batch"),
    ] {
        let verdict = json(200, body);
        assert!(matches!(verdict, Verdict::NextHost { .. }), "{body}: {verdict:?}");
        assert!(reason(&verdict).contains(words), "{body}: {verdict:?}");
    }
    let page = html(200);
    assert_eq!(reason(&page), "200 OK with 19 bytes of text/html, but the answer is not the JSON of a batch");
}

#[test]
fn too_big_records_are_named_in_each_dialect() {
    let link = "Please have a look at https://www.algolia.com/doc/guides/x#record-size-limits";
    let classic = format!(
        r#"{{"message":"Record at the position 76 objectID=X is too big size=14072/10000 bytes. {link}","position":76,"objectID":"X","status":400}}"#
    );
    assert_eq!(offending_record(json(400, &classic)), OffendingRecord::ObjectId("X".into()));
    let undefined = "Record at the position 76 objectID=undefined is too big size=14072/10000 bytes.";
    assert_eq!(offending_record(said(400, undefined)), OffendingRecord::Position(76));
    let newer = format!("Record X is too big: size: 11072 byte(s), maximum allowed: 100000 byte(s). {link}");
    assert_eq!(offending_record(said(400, &newer)), OffendingRecord::ObjectId("X".into()));
    let older = "Record at the position 1 objectID=56 is too big size=20715 bytes. Contact us if you need an extended quota";
    assert_eq!(offending_record(said(400, older)), OffendingRecord::Position(1));
    assert_eq!(
        offending_record(said(400, "Record is too big size=20715 bytes. Contact us")),
        OffendingRecord::Unknown
    );
}

#[test]
fn a_column_points_into_the_body() {
    for (message, column) in [
        ("The 'objectID' attribute is required to use action=updateObject near line:1 column:20640", 20640),
        ("Invalid object attributes:NAME near line:1 column:166", 166),
        ("Invalid object attributes: NAME near line:1 column:166", 166),
        ("JSON root must be an object (array not allowed) near line:1 column:1", 1),
    ] {
        assert_eq!(offending_record(said(400, message)), OffendingRecord::Column(column), "{message}");
    }
}

#[test]
fn other_complaints_about_a_batch_name_nobody() {
    for message in [
        "invalid cursor",
        "you should pass cursor of current page to fetch next page",
        "Too many queries in multi query request",
        "Invalid value for \"query\" parameter, expected string shorter than 512 bytes",
        "a text nobody has seen before",
        "",
    ] {
        assert_eq!(offending_record(said(400, message)), OffendingRecord::Unknown, "{message}");
    }
    assert!(matches!(said(422, "Invalid payload"), Verdict::Rejected { status: 422, .. }));
}

#[test]
fn no_record_dies_for_the_name_of_its_index() {
    assert!(matches!(said(400, "indexName is not valid"), Verdict::Blocked { status: 400, .. }));
}

#[test]
fn no_record_dies_for_a_page_of_a_gateway() {
    for status in [400, 401, 402, 403, 404, 405, 406, 410, 422, 451, 499] {
        assert!(matches!(html(status), Verdict::Gateway { status: own, .. } if own == status), "{status}");
    }
}

#[test]
fn what_is_not_the_json_of_algolia_is_a_gateways_word() {
    let shape = r#"{"message":"Invalid Application-ID or API key","status":403}"#;
    for (kind, body) in [
        ("text/html", "<html>"),
        ("application/json", ""),
        ("application/json", "{}"),
        ("application/json", r#"{"error":"forbidden"}"#),
        ("text/plain", "Forbidden"),
        ("text/html", shape),
    ] {
        let verdict = classify(&answer(403, kind, body), 2, now());
        assert!(matches!(verdict, Verdict::Gateway { status: 403, .. }), "{kind} {body}: {verdict:?}");
    }
    for kind in ["application/json", "application/json; charset=UTF-8", "Application/JSON"] {
        let verdict = classify(&answer(403, kind, shape), 2, now());
        assert!(matches!(verdict, Verdict::Blocked { status: 403, .. }), "{kind}: {verdict:?}");
    }
    // A proxy that asks for credentials answers in its own words.
    assert!(matches!(html(407), Verdict::Blocked { status: 407, hint, .. } if hint.contains("proxy")));
}

#[test]
fn refused_credentials_rights_and_quotas_block_with_a_hint() {
    let quota = "You have exceeded your Record quota. You’ll need to change your plan for more capacity, or delete records. See more details at https://www.algolia.com/account/billing/details?applicationId=X";
    for (status, message, word) in [
        (403, "Invalid Application-ID or API key", "api_key"),
        (401, "Invalid credentials", "api_key"),
        (403, "Method not allowed with this API key", "addObject"),
        (403, "Not enough rights to add an object near line:1 column:332", "addObject"),
        (403, "Index not allowed with this API key", "this index"),
        (403, "Method not allowed with this referer", "referers"),
        (403, quota, "quota"),
        (403, "Record quota exceeded, change plan or delete records.", "quota"),
        (403, "Operations quota exceeded, change plan to get more Operations.", "quota"),
        (
            403,
            "This operation cannot be processed, the application is blocked. Contact us to unblock it.",
            "Contact",
        ),
        (402, "Feature not enabled", "plan"),
        (404, "Index does not exist", "hosts"),
        (404, "Index NAME does not exist", "hosts"),
        (404, "ObjectID does not exist", "hosts"),
        (405, "Method not allowed", "hosts"),
        (407, "Proxy authentication required", "proxy"),
        (451, "", "hosts"),
    ] {
        match said(status, message) {
            Verdict::Blocked { hint, status: given, reason } => {
                assert!(hint.contains(word), "{message}: {hint}");
                assert_eq!(given, status);
                assert!(reason.contains(message), "{reason}");
            }
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[test]
fn throttling_waits_as_long_as_it_is_asked_to() {
    let asked = |header: &str| {
        let mut response = answer(429, "application/json", r#"{"message":"Too many requests","status":429}"#);
        response.retry_after = Some(header.to_owned());
        match classify(&response, 2, now()) {
            Verdict::Retry { not_before, .. } => not_before,
            other => panic!("{other:?}"),
        }
    };
    let date = |offset: i64| {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs((1_800_000_000 + offset) as u64))
    };
    assert_eq!(asked(" 7 "), Some(Duration::from_secs(7)));
    assert_eq!(asked(&date(90)), Some(Duration::from_secs(90)));
    assert_eq!(asked(&date(-90)), Some(Duration::ZERO));
    assert_eq!(asked("99999999999"), Some(MAX_RETRY_AFTER));
    for nonsense in ["", "soon", "-1", "1.5", "99999999999999999999999"] {
        assert_eq!(asked(nonsense), None, "{nonsense}");
    }
}

#[test]
fn throttling_by_an_edge_needs_no_json() {
    assert_eq!(
        html(429),
        Verdict::Retry {
            reason: "429 Too Many Requests with 19 bytes of text/html".into(),
            not_before: None
        }
    );
}

#[test]
fn size_and_encoding_have_verdicts_of_their_own() {
    assert!(matches!(
        json(413, r#"{"status":413,"message":"Request Entity Too Large"}"#),
        Verdict::TooLarge { .. }
    ));
    assert!(matches!(html(413), Verdict::TooLarge { .. }));
    assert_eq!(
        said(415, "unrecognized Content-Encoding: gzip"),
        Verdict::CompressionRefused {
            reason: "415 Unsupported Media Type: unrecognized Content-Encoding: gzip".into()
        }
    );
}

#[test]
fn a_host_that_fails_or_redirects_gives_way_to_the_next() {
    for status in [0, 100, 199, 301, 302, 304, 307, 308, 399, 408, 421, 500, 502, 503, 504, 599, 600, 999] {
        assert!(matches!(html(status), Verdict::NextHost { .. }), "{status}");
    }
    let mut response = answer(503, "text/plain", "");
    response.retry_after = Some("3".to_owned());
    let not_before = Some(Duration::from_secs(3));
    assert_eq!(
        classify(&response, 2, now()),
        Verdict::NextHost { reason: "503 Service Unavailable".into(), not_before }
    );
}

#[test]
fn reasons_are_short_printable_and_traceable() {
    let mut response = answer(403, "application/json", "");
    response.body =
        serde_json::json!({"message": format!("a\u{1b}[31m\u{202e}{}", "é".repeat(900))}).to_string().into();
    response.correlation_id = Some("corr-AbCdEfGhIjK".to_owned());
    let verdict = classify(&response, 2, now());
    let reason = reason(&verdict);
    assert!(reason.starts_with("403 Forbidden: a [31m é"), "{reason}");
    assert!(
        reason.ends_with("…(Correlation-ID: corr-AbCdEfGhIjK)")
            || reason.ends_with("… (Correlation-ID: corr-AbCdEfGhIjK)")
    );
    assert_eq!(reason.chars().count(), REASON_CHARS);
}

proptest! {
    #[test]
    fn no_answer_panics_and_only_a_full_receipt_delivers(
        status in prop_oneof![0u16..1000, Just(200), Just(204), any::<u16>()],
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "\\{\"taskID\":[0-9]{1,25},\"objectIDs\":\\[(\"a\",){0,3}\"b\"\\]\\}?".prop_map(String::into_bytes),
            "\\{\"message\":\"(Record )?\\PC{0,30}( is too big)?\",\"position\":-?[0-9]{1,22}\\}".prop_map(String::into_bytes),
        ],
        retry_after in prop::option::of("\\PC{0,40}"),
        correlation_id in prop::option::of("\\PC{0,90}"),
        rows in 0usize..5,
    ) {
        let response = Response { status, content_type: None, retry_after, correlation_id, body };
        let verdict = classify(&response, rows, now());
        if let Verdict::Delivered { .. } = verdict {
            prop_assert!((200..300).contains(&status));
            let receipt: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            prop_assert_eq!(receipt["objectIDs"].as_array().unwrap().len(), rows);
        }
        let reason = reason(&verdict);
        prop_assert!(reason.chars().count() <= REASON_CHARS);
        prop_assert!(!reason.chars().any(char::is_control));
    }

    #[test]
    fn no_wish_to_wait_is_longer_than_an_hour_or_misread(
        text in prop_oneof!["\\PC{0,40}", "[0-9]{1,30}", "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"],
        seconds in 0u64..100_000,
    ) {
        let wait = retry_after(&text, now());
        prop_assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
        let asked = Duration::from_secs(seconds);
        prop_assert_eq!(retry_after(&seconds.to_string(), now()), Some(asked.min(MAX_RETRY_AFTER)));
        let date = httpdate::fmt_http_date(now() + asked);
        prop_assert_eq!(retry_after(&date, now()), Some(asked.min(MAX_RETRY_AFTER)));
        let past = httpdate::fmt_http_date(now() - asked);
        prop_assert_eq!(retry_after(&past, now()), Some(Duration::ZERO));
    }
}

fn of_settings(status: u16, body: &str) -> Verdict {
    classify_settings(&answer(status, "application/json", body), now())
}

#[test]
fn settings_are_accepted_by_a_task() {
    let body = r#"{"taskID":7,"updatedAt":"2026-11-20T13:00:00.000Z"}"#;
    assert_eq!(of_settings(200, body), Verdict::Delivered { task_id: Some(7) });
    assert_eq!(of_settings(204, ""), Verdict::Delivered { task_id: None });
    for body in ["", "<html>", "{}", r#"{"taskID":7"#, r#"{"objectIDs":["1"]}"#] {
        assert!(matches!(of_settings(200, body), Verdict::NextHost { .. }), "{body}");
    }
}

#[test]
fn what_stands_in_the_way_of_settings_alone_rejects_them() {
    let said = |status: u16, message: &str| {
        of_settings(status, &serde_json::json!({"message": message, "status": status}).to_string())
    };
    for (status, message, hint) in [
        (400, "Invalid object attributes: nonsense near line:1 column:12", ""),
        (403, "Method not allowed with this API key", "editSettings"),
        (404, "Not Found", "lets settings pass"),
        (405, "Method Not Allowed", "lets settings pass"),
    ] {
        let verdict = said(status, message);
        assert!(matches!(&verdict, Verdict::Rejected { status: own, .. } if *own == status), "{verdict:?}");
        assert!(reason(&verdict).contains(message) && reason(&verdict).contains(hint), "{verdict:?}");
    }
}

#[test]
fn what_stands_in_the_way_of_everything_lets_settings_wait() {
    let blocked = |status: u16, message: &str| {
        let body = serde_json::json!({"message": message, "status": status}).to_string();
        matches!(of_settings(status, &body), Verdict::Blocked { .. })
    };
    assert!(blocked(403, "Invalid Application-ID or API key"));
    assert!(blocked(403, "Index not allowed with this API key"));
    assert!(blocked(403, "This operation cannot be processed, the application is blocked."));
    assert!(blocked(402, "feature not enabled"));
    assert!(matches!(of_settings(429, "{}"), Verdict::Retry { .. }));
    assert!(matches!(of_settings(503, "{}"), Verdict::NextHost { .. }));
    assert!(matches!(of_settings(415, "{}"), Verdict::CompressionRefused { .. }));
}
