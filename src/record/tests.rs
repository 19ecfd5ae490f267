//! Whole records, by example. `buckets`, `changes` and `properties` use the same helpers.

#![forbid(unsafe_code)]

mod buckets;
mod changes;
mod properties;

use super::*;
use crate::pseudonym::Pseudonymizer;
use serde_json::{json, Value as Json};
use std::borrow::Cow;

/// 2026-11-20 13:30:00 UTC, a Friday.
const FRIDAY: i64 = 1_795_181_400;

/// A zone with a fixed offset in seconds, which counts how often it is asked.
struct Offset {
    seconds: i64,
    generation: u64,
    asked: usize,
}

impl Offset {
    fn new(seconds: i64) -> Offset {
        Offset { seconds, generation: 0, asked: 0 }
    }
}

impl Calendar for Offset {
    fn hour_of(&mut self, unix_seconds: i64) -> CivilHour {
        self.asked += 1;
        let local = unix_seconds + self.seconds;
        let days = local.div_euclid(86_400);
        let (year, month, day) = civil(days);
        let hour = (local.rem_euclid(86_400) / 3600) as u8;
        CivilHour { year, month, day, hour, weekday: (days + 4).rem_euclid(7) as u8 }
    }

    fn generation(&self) -> u64 {
        self.generation
    }
}

/// The date `days` after 1970-01-01, counting years from March within eras of 400 years.
fn civil(days: i64) -> (i32, u8, u8) {
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + shifted.div_euclid(146_097) * 400 + i64::from(month <= 2);
    (year as i32, month as u8, day as u8)
}

fn field(attribute: &str) -> Field {
    Field { attribute: attribute.to_owned(), pseudonymize: false, bucketed: false }
}

fn pseudonymized(attribute: &str) -> Field {
    Field { pseudonymize: true, ..field(attribute) }
}

fn bucketed(attribute: &str) -> Field {
    Field { bucketed: true, ..field(attribute) }
}

fn text(value: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(value))
}

fn number(value: &str) -> Value<'_> {
    Value::Numeric(Cow::Borrowed(value))
}

fn pseudonymizer() -> Pseudonymizer {
    Pseudonymizer::new(b"key").unwrap()
}

fn parts<'a>(key: &'a [Option<&'a str>]) -> impl ExactSizeIterator<Item = Option<Cow<'a, str>>> {
    key.iter().map(|part| part.map(Cow::Borrowed))
}

fn written(layout: &RecordLayout, key: &[Option<&str>], values: &[Value<'_>], clock: &mut Offset) -> String {
    let mut out = Buffer::default();
    let values = values.iter().cloned();
    write_record(layout, parts(key), values, Some(&pseudonymizer()), clock, &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

/// The record of one attribute `a`, without its objectID.
fn check_value(value: Value<'_>, expected: &str) {
    let layout = RecordLayout::new("", vec![field("a")], vec![false]);
    let record = written(&layout, &[Some("1")], &[value], &mut Offset::new(0));
    assert_eq!(record, format!("{{\"objectID\":\"1\"{expected}}}"));
}

fn check_object_id(prefix: &str, key: &[Option<&str>], expected: &str) {
    let layout = RecordLayout::new(prefix, vec![], vec![false; key.len()]);
    let record: Json = serde_json::from_str(&written(&layout, key, &[], &mut Offset::new(0))).unwrap();
    assert_eq!(record, json!({ "objectID": expected }));
}

#[test]
fn a_record_has_its_object_id_first() {
    let layout =
        RecordLayout::new("orders/", vec![field("id"), pseudonymized("user"), bucketed("at")], vec![false]);
    let values = [Value::Int(42), text("42"), Value::Time(Moment::Micros(FRIDAY * 1_000_000 + 250_000))];
    assert_eq!(
        written(&layout, &[Some("42")], &values, &mut Offset::new(0)),
        concat!(
            r#"{"objectID":"orders/42","id":42,"user":"p_6kmrw7hjqhilllof42qpggwk5n","at":1795181400.25,"#,
            r#""at_day":"2026-11-20","at_hour":"2026-11-20T13","at_weekday":"Fri","at_hour_of_day":"13"}"#
        )
    );
}

#[test]
fn object_ids_are_unambiguous() {
    check_object_id("", &[Some("42")], "42");
    check_object_id("p:", &[Some("a"), Some("b")], "p:a:b");
    check_object_id("", &[Some("a:b"), Some("c")], r"a\:b:c");
    check_object_id("", &[Some("a"), Some("b:c")], r"a:b\:c");
    check_object_id("", &[Some(r"a\"), Some("b")], r"a\\:b");
    check_object_id("", &[Some("::"), Some("")], r"\:\::");
    check_object_id("\"é\\", &[Some("\"quoted\"\n😀:\u{1}")], "\"é\\\"quoted\"\n😀\\:\u{1}");
}

#[test]
fn a_pseudonymized_key_column_appears_as_its_pseudonym() {
    let layout = RecordLayout::new("", vec![], vec![true, false]);
    assert!(layout.pseudonymizes());
    let record = written(&layout, &[Some("42"), Some("7")], &[], &mut Offset::new(0));
    assert_eq!(record, r#"{"objectID":"p_6kmrw7hjqhilllof42qpggwk5n:7"}"#);
}

#[test]
fn values_have_their_json_form() {
    check_value(Value::Null, "");
    check_value(Value::Bool(true), r#","a":true"#);
    check_value(Value::Int(-7), r#","a":-7"#);
    check_value(Value::Int(9_007_199_254_740_991), r#","a":9007199254740991"#);
    check_value(Value::Int(9_007_199_254_740_992), r#","a":"9007199254740992""#);
    check_value(Value::Int(i64::MIN), r#","a":"-9223372036854775808""#);
    check_value(Value::Float4(0.1), r#","a":0.1"#);
    check_value(Value::Float8(0.1), r#","a":0.1"#);
    check_value(Value::Float8(1e300), r#","a":1e+300"#);
    check_value(Value::Float8(f64::NAN), r#","a":"NaN""#);
    check_value(Value::Float4(f32::INFINITY), r#","a":"Infinity""#);
    check_value(Value::Float8(f64::NEG_INFINITY), r#","a":"-Infinity""#);
    check_value(number("1.10"), r#","a":1.1"#);
    check_value(number("123456789.123456789"), r#","a":"123456789.123456789""#);
    check_value(number("NaN"), r#","a":"NaN""#);
    check_value(text("a \"b\"\\\n\u{1}é😀"), r#","a":"a \"b\"\\\n\u0001é😀""#);
    check_value(Value::Json(r#"{"b": [1, null], "c": "x, y"}"#.into()), r#","a":{"b":[1,null],"c":"x, y"}"#);
    check_value(Value::Json("null".into()), r#","a":null"#);
    check_value(Value::Time(Moment::Days(20_777)), r#","a":1795132800"#);
    check_value(Value::Time(Moment::Infinity), "");
    check_value(Value::Bytes(b"\x00\xff\x10".as_slice().into()), r#","a":"AP8Q""#);
    check_value(Value::Bytes(b"a".as_slice().into()), r#","a":"YQ==""#);
    check_value(Value::Bytes(b"".as_slice().into()), r#","a":"""#);
}

#[test]
fn absent_values_are_null_in_arrays_and_left_out_of_objects() {
    let absent = || vec![Value::Null, Value::Time(Moment::Infinity), Value::Int(1)];
    check_value(Elements::of(absent()), r#","a":[null,null,1]"#);
    check_value(
        Elements::of(vec![Elements::of(vec![]), Elements::of(absent())]),
        r#","a":[[],[null,null,1]]"#,
    );
    let members = ["x", "y", "z \""].into_iter().map(Cow::from).zip(absent());
    check_value(Value::Object(members.collect()), r#","a":{"z \"":1}"#);
}

/// Tries to append a record to `before`, and asserts that nothing of it remains.
fn refused(layout: &RecordLayout, key: &[Option<&str>], values: &[Value<'_>], key_set: bool) -> RecordError {
    let mut out = Buffer::default();
    out.extend_from_slice(b"before");
    let pseudonymizer = key_set.then(pseudonymizer);
    let values = values.iter().cloned();
    let error =
        write_record(layout, parts(key), values, pseudonymizer.as_ref(), &mut Offset::new(0), &mut out)
            .expect_err("a record was written");
    assert_eq!(&*out, b"before");
    error
}

#[test]
fn what_cannot_be_a_record_leaves_nothing_behind() {
    let layout = RecordLayout::new("", vec![field("a"), pseudonymized("b")], vec![false, true]);
    let key = [Some("1"), Some("2")];
    let good = [Value::Int(1), text("secret")];
    let error = refused(&layout, &[Some("1"), None], &good, true);
    assert!(matches!(error, RecordError::NullKey { part: 1 }));
    assert_eq!(error.to_string(), "key column 2 is null");
    let error = refused(&layout, &key, &[Value::Int(1), Value::Int(2)], true);
    assert!(matches!(error, RecordError::PseudonymNeedsText { field: 1 }));
    assert!(matches!(refused(&layout, &key, &good, false), RecordError::PseudonymKeyMissing));
    let error = refused(&layout, &key[..1], &good, true);
    assert!(matches!(error, RecordError::KeyCount { expected: 2, found: 1 }));
    let error = refused(&layout, &key, &good[..1], true);
    assert!(matches!(error, RecordError::ValueCount { expected: 2, found: 1 }));
}
