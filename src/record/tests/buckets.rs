//! Time buckets in records: zones, years, and what is cached.

#![forbid(unsafe_code)]

use super::*;

fn buckets_of(seconds: i64, clock: &mut Offset) -> [String; 4] {
    let layout = RecordLayout::new("", vec![bucketed("t")], vec![]);
    let record = written(&layout, &[], &[Value::Time(Moment::Millis(seconds * 1000))], clock);
    let record: Json = serde_json::from_str(&record).unwrap();
    BUCKET_SUFFIXES.map(|suffix| record[format!("t{suffix}")].as_str().unwrap().to_owned())
}

#[test]
fn buckets_follow_the_zone() {
    assert_eq!(buckets_of(FRIDAY, &mut Offset::new(0)), ["2026-11-20", "2026-11-20T13", "Fri", "13"]);
    assert_eq!(buckets_of(FRIDAY, &mut Offset::new(39_600)), ["2026-11-21", "2026-11-21T00", "Sat", "00"]);
    assert_eq!(buckets_of(FRIDAY, &mut Offset::new(-19_800)), ["2026-11-20", "2026-11-20T08", "Fri", "08"]);
    assert_eq!(buckets_of(-1, &mut Offset::new(0)), ["1969-12-31", "1969-12-31T23", "Wed", "23"]);
}

#[test]
fn years_out_of_four_digits_take_the_expanded_form() {
    let day = |seconds| buckets_of(seconds, &mut Offset::new(0))[0].clone();
    assert_eq!(day(253_402_300_799), "9999-12-31");
    assert_eq!(day(253_402_300_800), "+10000-01-01");
    assert_eq!(day(9_224_318_015_999), "+294276-12-31");
    assert_eq!(day(185_542_587_187_199), "+5881580-07-11");
    assert_eq!(day(-62_135_596_800), "0001-01-01");
    assert_eq!(day(-62_135_596_801), "0000-12-31");
    assert_eq!(day(-62_167_219_201), "-0001-12-31");
    assert_eq!(day(-210_866_803_200), "-4713-11-24");
}

/// Before 1972, a minute could belong to two hours of the clock: Monrovia was 44 minutes and 30 seconds behind.
#[test]
fn offsets_with_seconds_are_exact_where_zones_have_them() {
    let layout = RecordLayout::new("", vec![bucketed("t")], vec![]);
    let mut monrovia = Offset::new(-2670);
    let mut hour_at = |seconds: i64| {
        let record = written(&layout, &[], &[Value::Time(Moment::Millis(seconds * 1000))], &mut monrovia);
        serde_json::from_str::<Json>(&record).unwrap()["t_hour"].as_str().unwrap().to_owned()
    };
    assert_eq!(hour_at(2669), "1969-12-31T23");
    assert_eq!(hour_at(2670), "1970-01-01T00");
    assert_eq!(hour_at(2669), "1969-12-31T23");
}

#[test]
fn the_calendar_is_asked_once_a_minute() {
    let layout = RecordLayout::new("", vec![bucketed("t")], vec![]);
    let mut clock = Offset::new(0);
    let record_at = |seconds: i64, clock: &mut Offset| {
        written(&layout, &[], &[Value::Time(Moment::Millis(seconds * 1000))], clock)
    };
    for second in 0..60 {
        record_at(FRIDAY + second, &mut clock);
    }
    assert_eq!(clock.asked, 1);
    assert!(record_at(FRIDAY + 1800, &mut clock).contains("T14"));
    assert_eq!(clock.asked, 2);
    // Another zone, the same minute.
    clock.generation = 1;
    clock.seconds = 3600;
    assert!(record_at(FRIDAY + 1800, &mut clock).contains("T15"));
    assert_eq!(clock.asked, 3);
}

#[test]
fn a_time_column_without_a_time_has_no_buckets() {
    let layout = RecordLayout::new("", vec![bucketed("t"), bucketed("u")], vec![]);
    let record = written(&layout, &[], &[Value::Null, Value::Time(Moment::Infinity)], &mut Offset::new(0));
    assert_eq!(record, r#"{"objectID":""}"#);
}

#[test]
fn a_pseudonymized_time_column_has_no_buckets() {
    let hidden = Field { pseudonymize: true, ..bucketed("t") };
    let layout = RecordLayout::new("", vec![hidden], vec![]);
    let record = written(&layout, &[], &[text("2026-11-20")], &mut Offset::new(0));
    assert_eq!(record.matches("\":\"").count(), 2, "{record}");
}
