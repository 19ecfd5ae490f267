//! Change records: what they contain besides the row.

#![forbid(unsafe_code)]

use super::*;

const AT: Moment = Moment::Millis(FRIDAY * 1000 + 250);

fn layout() -> RecordLayout {
    let fields = vec![field("level"), pseudonymized("user"), bucketed("at")];
    RecordLayout::new("p:", fields, vec![false]).tracking(vec![field("id \"k\"")])
}

fn origin(layout: &RecordLayout) -> ChangeOrigin {
    ChangeOrigin::new(layout, "alice", AT, 77, Some(&pseudonymizer())).unwrap()
}

fn change<'a>(
    operation: Operation,
    previous: &'a [(usize, Value<'a>)],
    origin: &'a ChangeOrigin,
) -> Change<'a> {
    Change { operation, number: 1024, previous, origin }
}

fn written_change(layout: &RecordLayout, change: &Change<'_>, values: &[Value<'_>]) -> String {
    let mut out = Buffer::default();
    let mut clock = Offset::new(0);
    let (key, values) = (parts(&[Some("42")]), values.iter().cloned());
    write_change(layout, change, key, values, Some(&pseudonymizer()), &mut clock, &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn an_update_names_what_changed_and_keeps_what_it_was() {
    let layout = layout();
    let origin = origin(&layout);
    let previous =
        [(0, Value::Null), (1, text("b")), (2, Value::Time(Moment::Infinity)), (3, Value::Int(41))];
    let values = [text("admin"), text("a"), Value::Time(Moment::Days(0))];
    let record: Json = serde_json::from_str(&written_change(
        &layout,
        &change(Operation::Update, &previous, &origin),
        &values,
    ))
    .unwrap();
    let pseudonym = |of: &str| {
        let mut out = Buffer::default();
        pseudonymizer().append(of, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(
        record,
        json!({
            "objectID": "p:42@1024", "level": "admin", "user": pseudonym("a"), "at": 0,
            "at_day": "1970-01-01", "at_hour": "1970-01-01T00", "at_weekday": "Thu", "at_hour_of_day": "00",
            "op": "update", "changed": ["level", "user", "at", "id \"k\""],
            "previous": {"level": null, "user": pseudonym("b"), "at": null, "id \"k\"": 41},
            "changed_by": pseudonym("alice"), "changed_at": 1_795_181_400.25, "transaction_id": 77,
        })
    );
}

#[test]
fn inserts_and_deletes_hold_the_row_alone() {
    let layout = RecordLayout::new("", vec![field("v")], vec![false]);
    let origin = ChangeOrigin::new(&layout, "al \"ice\"", AT, i64::MAX, None).unwrap();
    for operation in [Operation::Insert, Operation::Delete] {
        assert_eq!(
            written_change(&layout, &change(operation, &[], &origin), &[Value::Int(5)]),
            format!(
                r#"{{"objectID":"42@1024","v":5,"op":"{}","changed_by":"al \"ice\"","changed_at":1795181400.25,"transaction_id":"9223372036854775807"}}"#,
                operation.word()
            )
        );
    }
}

#[test]
fn a_truncate_has_no_row() {
    let layout = layout();
    let mut out = Buffer::default();
    write_truncate(&layout, 9, &origin(&layout), &mut out).unwrap();
    let record: Json = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        record,
        json!({
            "objectID": "p:@9", "op": "truncate", "changed_by": record["changed_by"],
            "changed_at": 1_795_181_400.25, "transaction_id": 77,
        })
    );
    assert!(record["changed_by"].as_str().unwrap().starts_with("p_"));
}

#[test]
fn a_change_that_cannot_be_written_leaves_nothing_behind() {
    let layout = layout();
    let origin = origin(&layout);
    let values = [text("x"), Value::Null, Value::Null];
    let refused = |previous: &[(usize, Value<'_>)], key: Option<&str>| {
        let mut out = Buffer::default();
        out.extend_from_slice(b"before");
        let change = change(Operation::Update, previous, &origin);
        let (key, values) = ([key], values.iter().cloned());
        let error = write_change(&layout, &change, parts(&key), values, None, &mut Offset::new(0), &mut out)
            .expect_err("a record was written");
        assert_eq!(&*out, b"before");
        error
    };
    assert!(matches!(refused(&[(4, Value::Null)], Some("1")), RecordError::NotTracked { place: 4 }));
    assert!(matches!(refused(&[(1, text("raw"))], Some("1")), RecordError::PseudonymKeyMissing));
    assert!(matches!(
        refused(&[(1, Value::Int(1))], Some("1")),
        RecordError::PseudonymNeedsText { field: 1 }
    ));
    assert!(matches!(refused(&[], None), RecordError::NullKey { part: 0 }));
    let unkeyed = ChangeOrigin::new(&layout, "alice", AT, 1, None);
    assert!(matches!(unkeyed, Err(RecordError::PseudonymKeyMissing)));
}

#[test]
fn operations_are_words() {
    for operation in Operation::ALL {
        assert_eq!(Operation::of(operation.word()), Some(operation));
        assert_eq!(Operation::of(&operation.word().to_uppercase()), Some(operation));
    }
    assert_eq!(Operation::of("upsert"), None);
}

#[test]
fn a_change_that_was_noted_tells_who_made_it_as_far_as_that_is_known() {
    let layout = layout();
    let told = |changed_by: Option<&str>| {
        let origin =
            ChangeOrigin::of_skipped(&layout, changed_by, Some(AT), Some(77), Some(&pseudonymizer()))
                .unwrap();
        let mut out = Buffer::default();
        write_truncate(&layout, 5, &origin, &mut out).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&out).unwrap();
        record
    };
    let pseudonym = pseudonymizer().pseudonym("alice");
    assert_eq!(told(Some("alice"))["changed_by"], *pseudonym, "an original never leaves");
    assert_eq!(told(Some(&pseudonym))["changed_by"], *pseudonym, "a pseudonym stays what it is");
    let unknown = told(None);
    assert_eq!((unknown.get("changed_by"), &unknown["transaction_id"]), (None, &serde_json::json!(77)));
    let of_plan = ChangeOrigin::new(&layout, "alice", AT, 77, Some(&pseudonymizer())).unwrap();
    let mut out = Buffer::default();
    write_truncate(&layout, 5, &of_plan, &mut out).unwrap();
    assert_eq!(told(Some("alice")), serde_json::from_slice::<serde_json::Value>(&out).unwrap());
}
