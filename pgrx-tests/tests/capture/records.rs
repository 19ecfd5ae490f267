//! The records for each type, and their objectIDs.

use serde_json::{json, Value};

use crate::play::{failure, one, Play};

const TYPES: &str = "
    create type mood as enum ('glad', 'so \"so\"');
    create type point2 as (x int, y numeric);
    create type place as (label text, at point2, seen timestamptz, tags text[]);
    create domain score as numeric check (value >= 0);
    create domain scores as score[];
    create table t (
        id int primary key, yes bool, tiny smallint, big bigint, huge bigint, r real, d double precision, odd double precision,
        n numeric, n2 numeric(10, 4), wide numeric, nan numeric, txt text, vc varchar(5), ch char(4), m mood,
        u uuid, ip inet, net cidr, mac macaddr, j json, jb jsonb, words text[], grid int[], none int[], moods mood[],
        p place, ps point2[], bin bytea, stz timestamptz, ts timestamp, day date, clock time, span interval,
        s score, ss scores, ir int4range, mr int4multirange, bits bit(5), x xml, v oidvector, cash money, cls regclass,
        nothing text)";

const ROW: &str = r#"
    insert into t values (
        1, true, -32768, 9007199254740991, 9007199254740992, 0.1, 1e-7, 'NaN',
        12.50, 3.1, 123456789012345678901234567890.5, 'NaN', E'a "quoted" \\ \t\n\u0001 é 中 😀 \u2028', 'abc', 'ab', 'so "so"',
        'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03',
        '{"b": 1,  "a": [1, null, "x y"]}', '{"n": 12345678901234567890, "s": "é"}',
        '{a,NULL,"b c",""}', '{{1,2},{3,NULL}}', '{}', '{glad,NULL}',
        row('here', row(1, 2.5), '2026-01-01 00:00:00+00', '{x}'), array[row(1, null), null]::point2[],
        '\x00ff10', '2026-01-02 03:04:05.678901+00', '2026-01-02 03:04:05', '2026-01-02', '03:04:05.5',
        '1 year 2 mons -3 days 04:05:06.7', 1.50, '{1.5,2}', '[1,5)', '{[1,3),[5,7)}', '10101',
        '<a>b</a>', '1 2 3', 12.5, 't', null)"#;

/// Session settings that affect output texts.
pub(crate) const ODD_SESSION: &str = "
    set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'; set intervalstyle = 'iso_8601';
    set bytea_output = 'escape'; set extra_float_digits = -15; set xmlbinary = hex; set quote_all_identifiers = on;";

fn all_types() -> Value {
    json!({
        "objectID": "1", "yes": true, "tiny": -32768, "big": 9_007_199_254_740_991_i64, "huge": "9007199254740992",
        "r": 0.1, "d": 1e-7, "odd": "NaN", "n": 12.5, "n2": 3.1, "wide": "123456789012345678901234567890.5", "nan": "NaN",
        "txt": "a \"quoted\" \\ \t\n\u{1} é 中 😀 \u{2028}", "vc": "abc", "ch": "ab  ", "m": "so \"so\"",
        "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ip": "10.0.0.1/8", "net": "10.0.0.0/8", "mac": "08:00:2b:01:02:03",
        "j": {"b": 1, "a": [1, null, "x y"]}, "jb": {"n": 12_345_678_901_234_567_890_u64, "s": "é"},
        "words": ["a", null, "b c", ""], "grid": [[1, 2], [3, null]], "none": [], "moods": ["glad", null],
        "p": {"label": "here", "at": {"x": 1, "y": 2.5}, "seen": 1_767_225_600, "tags": ["x"]}, "ps": [{"x": 1}, null],
        "bin": "AP8Q", "stz": 1_767_323_045.678, "ts": 1_767_323_045, "day": 1_767_312_000, "clock": "03:04:05.5",
        "span": "1 year 2 mons -3 days +04:05:06.7", "s": 1.5, "ss": [1.5, 2], "ir": "[1,5)", "mr": "{[1,3),[5,7)}",
        "bits": "10101", "x": "<a>b</a>", "v": "1 2 3", "cash": "$12.50", "cls": "types.t",
    })
}

fn columns() -> String {
    let names = all_types();
    let names = names.as_object().unwrap().keys().filter(|name| *name != "objectID");
    format!("columns => '{{{},nothing}}'", names.cloned().collect::<Vec<_>>().join(","))
}

#[test]
fn every_type_has_its_form_in_any_session() {
    let mut play = Play::new("types", TYPES);
    play.watch("t", &columns());
    play.run(ROW);
    play.run(ODD_SESSION);
    play.run(&ROW.replacen("1, true", "2, true", 1));
    // One row at a time, by a row trigger, in a partition.
    play.owner
        .batch_execute("create table parted (like t) partition by range (id); create table one partition of parted default; alter table parted add primary key (id)")
        .unwrap();
    play.watch("parted", &format!("{}, object_prefix => 'p'", columns()));
    play.run(&ROW.replacen("into t", "into parted", 1));
    let records = play.records();
    for (id, record) in &records {
        let mut expected = all_types();
        expected["objectID"] = json!(id);
        assert_eq!(record, &expected);
    }
    assert_eq!(records.into_keys().collect::<Vec<_>>(), ["1", "2", "p1"]);
    play.admin.batch_execute(ODD_SESSION).unwrap();
    let shown = play.admin.query("select audit_algolia.preview('t')", &[]).unwrap();
    for row in shown {
        let record: Value = row.get(0);
        let mut expected = all_types();
        expected["objectID"] = record["objectID"].clone();
        assert_eq!(record, expected);
    }
}

#[test]
fn extreme_values_keep_their_meaning() {
    let mut play = Play::new(
        "extremes",
        "create table t (id int primary key, b bigint, r real, d double precision, n numeric, at timestamptz, ts timestamp, day date)",
    );
    play.watch("t", "columns => '{b, r, d, n, at, ts, day}', time_column => 'at'");
    play.run(
        "insert into t values
         (1, -9223372036854775808, 'Infinity', '-Infinity', 'Infinity', 'infinity', '-infinity', 'infinity'),
         (2, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 1e-5, '0044-03-15 12:00:00+00 BC', '4713-01-01 00:00:00 BC', '0001-01-01'),
         (3, -9007199254740992, 1e-45, 5e-324, -0.000, '294276-12-31 23:59:59.999999+00', '294276-12-31 23:59:59.999', '5874897-12-31'),
         (4, 0, '-0', '-0', 1e50000, '1970-01-01 00:00:00+00', '1969-12-31 23:59:59.5', '1970-01-01')",
    );
    let records = play.records();
    assert_eq!(
        records["1"],
        json!({"objectID": "1", "b": "-9223372036854775808", "r": "Infinity", "d": "-Infinity", "n": "Infinity"})
    );
    let second = &records["2"];
    assert_eq!(second["b"], "9223372036854775807");
    assert_eq!(second["d"], json!(1.797_693_134_862_315_7e308));
    assert_eq!(second["n"], json!(1e-5));
    let epoch: f64 = one(&mut play.admin, "select extract(epoch from at)::float8 from t where id = 2");
    assert_eq!(second["at"].as_f64().unwrap(), epoch);
    assert_eq!(second["at_day"], "-0043-03-15");
    assert_eq!(second["day"], json!(-62_135_596_800_i64));
    let third = &records["3"];
    assert_eq!((&third["b"], &third["d"]), (&json!("-9007199254740992"), &json!(5e-324)));
    assert!((third["at"].as_f64().unwrap() - 9_224_318_015_999.999).abs() < 0.01);
    assert_eq!(records["4"]["ts"], json!(-0.5));
    assert_eq!(records["4"]["at_hour"], "1970-01-01T00");
    assert_eq!(records["4"]["n"].as_str().unwrap().len(), 50_001);
}

#[test]
fn texts_of_every_plane_arrive_unchanged() {
    let mut play = Play::new("planes", "create table t (id int primary key, v text, k text)");
    play.watch("t", "columns => array['v', 'k AS ключ / 100% \"q\"']");
    let characters: Vec<char> = (1..0x11_0000_u32)
        .filter(|code| *code < 0x3000 || code % 251 == 0 || code & 0xFFFE == 0xFFFE)
        .filter_map(char::from_u32)
        .collect();
    for (id, chunk) in (0..).zip(characters.chunks(4000)) {
        let text: String = chunk.iter().collect();
        play.app.execute("insert into t values ($1, $2, $2)", &[&id, &text]).unwrap();
    }
    let records = play.records();
    for (id, chunk) in characters.chunks(4000).enumerate() {
        let text: String = chunk.iter().collect();
        assert!(records[&id.to_string()]["v"] == json!(text), "chunk {id}");
        assert!(records[&id.to_string()]["ключ / 100% \"q\""] == json!(text), "chunk {id}");
    }
}

#[test]
fn large_values_are_read_whatever_way_they_are_stored() {
    let mut play = Play::new(
        "toasted",
        "create table t (id int primary key, squeezed text, apart text, words text[], p json, b bytea);
         alter table t alter apart set storage external",
    );
    play.watch("t", "columns => '{squeezed, apart, words, p, b}'");
    play.run(
        "insert into t select i, repeat('x', 20000), repeat('y', 20000), array[repeat('z', 9000), 'end'],
             json_build_object('k', repeat('j', 5000)), decode(repeat('00ff', 5000), 'hex') from generate_series(1, 5) as i",
    );
    play.run("insert into t select id + 10, squeezed, apart, words, p, b from t");
    for (id, record) in play.records() {
        assert_eq!(record["squeezed"].as_str().unwrap(), "x".repeat(20_000), "{id}");
        assert_eq!(record["apart"].as_str().unwrap(), "y".repeat(20_000), "{id}");
        assert_eq!(record["words"], json!(["z".repeat(9000), "end"]));
        assert_eq!(record["p"], json!({"k": "j".repeat(5000)}));
        assert_eq!(record["b"].as_str().unwrap().len(), 13_336);
    }
}

#[test]
fn object_ids_join_prefix_and_key() {
    let mut play = Play::new(
        "object_ids",
        "create table t (id int, a text, b text, d date, u bytea, more int default 1, primary key (b, a) include (more));
         create table other (id int, a text, b text, d date, f float8, at timestamptz, yes bool)",
    );
    play.watch("t", "columns => '{id}'");
    play.watch("other", "columns => '{id}', object_id => '{a, d, f, at, yes}', object_prefix => 'o:\"\\'");
    play.run(ODD);
    play.run(
        r#"insert into t values (1, 'a:b', 'c'), (2, 'b', 'c:a'), (3, 'x\', 'y'), (4, 'é "q" 😀', E'tab\t'), (5, '', '')"#,
    );
    play.run("insert into other (id, a, d, f, at, yes) values (1, 'k', '01.02.2026'::date, 0.1, '2026-01-02 03:04:05.5+00', true)");
    let mut expected = vec![
        r"c:a\:b".to_owned(),
        r"c\:a:b".to_owned(),
        r"y:x\\".to_owned(),
        "tab\t:é \"q\" 😀".to_owned(),
        ":".to_owned(),
        "o:\"\\k:2026-02-01:0.1:2026-01-02 03\\:04\\:05.5+00:t".to_owned(),
    ];
    expected.sort();
    assert_eq!(play.ids(), expected);
    let error = failure(&mut play.app, "insert into other (id, a) values (2, 'raw value')");
    assert_eq!(error.code().code(), "23502");
    assert!(error.message().contains("column \"d\""), "{}", error.message());
    assert!(error.hint().is_some());
}

const ODD: &str = "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'; set extra_float_digits = -15";
