//! The values of each type: as an attribute, as an old value, as a pseudonym, in arrays and composites.

use std::collections::BTreeSet;

use serde_json::{json, Value};

use crate::changes::changes;
use crate::play::{one, Play};

/// A type, two different literals of it, and the JSON of each.
type Case = (&'static str, [&'static str; 2], fn() -> [Value; 2]);

#[rustfmt::skip] // A line for each.
const SCALARS: &[Case] = &[
    ("boolean", ["true", "false"], || [json!(true), json!(false)]),
    ("smallint", ["-32768", "32767"], || [json!(-32768), json!(32767)]),
    ("integer", ["-2147483648", "2147483647"], || [json!(-2_147_483_648_i64), json!(2_147_483_647)]),
    ("bigint", ["9007199254740991", "-9223372036854775808"], || [json!(9_007_199_254_740_991_i64), json!("-9223372036854775808")]),
    ("real", ["0.1", "-Infinity"], || [json!(0.1), json!("-Infinity")]),
    ("double precision", ["5e-324", "NaN"], || [json!(5e-324), json!("NaN")]),
    ("numeric", ["0.30", "123456789012345678901234567890.000001"], || [json!(0.3), json!("123456789012345678901234567890.000001")]),
    ("numeric(6,3)", ["-1.5", "NaN"], || [json!(-1.5), json!("NaN")]),
    ("money", ["12.5", "-3"], || [json!("$12.50"), json!("-$3.00")]),
    ("text", ["a \"b\" \\ \u{7f}", "😀\u{ffff}\u{10ffff}\u{feff}\u{200d}"], || [json!("a \"b\" \\ \u{7f}"), json!("😀\u{ffff}\u{10ffff}\u{feff}\u{200d}")]),
    ("varchar(3)", ["", "é中😀"], || [json!(""), json!("é中😀")]),
    ("character(4)", ["ab", "abcd"], || [json!("ab  "), json!("abcd")]),
    ("\"char\"", ["a", "\""], || [json!("a"), json!("\"")]),
    ("name", ["a name", "b"], || [json!("a name"), json!("b")]),
    ("bytea", ["\\x", "\\x00ff10"], || [json!(""), json!("AP8Q")]),
    ("date", ["1969-12-31", "4713-01-01 BC"], || [json!(-86400), json!(-210_863_520_000_i64)]),
    ("time", ["24:00:00", "00:00:00.000001"], || [json!("24:00:00"), json!("00:00:00.000001")]),
    ("time with time zone", ["23:59:59.5-15:59", "00:00:00+00"], || [json!("23:59:59.5-15:59"), json!("00:00:00+00")]),
    ("timestamp", ["1969-12-31 23:59:59.999", "294276-12-31 23:59:59"], || [json!(-0.001), json!(9_224_318_015_999_i64)]),
    ("timestamptz", ["1901-12-13 20:45:51+00", "2026-01-02 03:04:05.678901+00"], || [json!(-2_147_483_649_i64), json!(1_767_323_045.678)]),
    ("interval", ["-178000000 years", "1 year 2 mons -3 days 04:05:06.789"], || [json!("-178000000 years"), json!("1 year 2 mons -3 days +04:05:06.789")]),
    ("uuid", ["00000000-0000-0000-0000-000000000000", "A0EEBC999C0B4EF8BB6D6BB9BD380A11"], || [json!("00000000-0000-0000-0000-000000000000"), json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")]),
    ("inet", ["::1", "10.0.0.1/8"], || [json!("::1"), json!("10.0.0.1/8")]),
    ("cidr", ["2001:db8::/32", "10.0.0.0/8"], || [json!("2001:db8::/32"), json!("10.0.0.0/8")]),
    ("macaddr", ["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"], || [json!("08:00:2b:01:02:03"), json!("ff:ff:ff:ff:ff:ff")]),
    ("macaddr8", ["08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03"], || [json!("08:00:2b:01:02:03:04:05"), json!("08:00:2b:ff:fe:01:02:03")]),
    ("bit(3)", ["101", "000"], || [json!("101"), json!("000")]),
    ("bit varying", ["", "1011"], || [json!(""), json!("1011")]),
    ("json", [" {\"b\" : [1, null ,\"x  y\"]}", "null"], || [json!({"b": [1, null, "x  y"]}), json!(null)]),
    ("jsonb", ["{\"a\": 1e2, \"b\": {\"c\": []}}", "\"text\""], || [json!({"a": 100, "b": {"c": []}}), json!("text")]),
    ("jsonpath", ["$.a[*] ? (@ > 1)", "$"], || [json!("$.\"a\"[*]?(@ > 1)"), json!("$")]),
    ("xml", ["<a>é</a>", "text"], || [json!("<a>é</a>"), json!("text")]),
    ("tsvector", ["b:1A a", ""], || [json!("'a' 'b':1A"), json!("")]),
    ("tsquery", ["a & !b", "a"], || [json!("'a' & !'b'"), json!("'a'")]),
    ("point", ["(1,2.5)", "(NaN,-Infinity)"], || [json!("(1,2.5)"), json!("(NaN,-Infinity)")]),
    ("line", ["{1,2,3}", "{0,1,0}"], || [json!("{1,2,3}"), json!("{0,1,0}")]),
    ("lseg", ["[(0,0),(1,1)]", "[(0,0),(2,2)]"], || [json!("[(0,0),(1,1)]"), json!("[(0,0),(2,2)]")]),
    ("box", ["(1,1),(0,0)", "(2,2),(0,0)"], || [json!("(1,1),(0,0)"), json!("(2,2),(0,0)")]),
    ("path", ["[(0,0),(1,1)]", "((0,0),(1,1))"], || [json!("[(0,0),(1,1)]"), json!("((0,0),(1,1))")]),
    ("polygon", ["((0,0),(1,1))", "((0,0),(1,1),(2,0))"], || [json!("((0,0),(1,1))"), json!("((0,0),(1,1),(2,0))")]),
    ("circle", ["<(0,0),1>", "<(1,1),0>"], || [json!("<(0,0),1>"), json!("<(1,1),0>")]),
    ("int4range", ["[1,5)", "empty"], || [json!("[1,5)"), json!("empty")]),
    ("int8range", ["(,)", "[1,)"], || [json!("(,)"), json!("[1,)")]),
    ("numrange", ["[1.50,2]", "(,0)"], || [json!("[1.50,2]"), json!("(,0)")]),
    ("daterange", ["[2026-01-01,infinity)", "(,2026-01-01)"], || [json!("[2026-01-01,infinity)"), json!("(,2026-01-01)")]),
    ("tsrange", ["[2026-01-01 00:00,2026-01-02 00:00]", "empty"], || [json!("[\"2026-01-01 00:00:00\",\"2026-01-02 00:00:00\"]"), json!("empty")]),
    ("tstzrange", ["[2026-01-01 00:00+02,)", "empty"], || [json!("[\"2025-12-31 22:00:00+00\",)"), json!("empty")]),
    ("int4multirange", ["{[1,3),[5,7)}", "{}"], || [json!("{[1,3),[5,7)}"), json!("{}")]),
    ("int8multirange", ["{[1,3)}", "{}"], || [json!("{[1,3)}"), json!("{}")]),
    ("nummultirange", ["{[1.5,3)}", "{}"], || [json!("{[1.5,3)}"), json!("{}")]),
    ("datemultirange", ["{[2026-01-01,2026-01-02)}", "{}"], || [json!("{[2026-01-01,2026-01-02)}"), json!("{}")]),
    ("tsmultirange", ["{[2026-01-01 00:00,)}", "{}"], || [json!("{[\"2026-01-01 00:00:00\",)}"), json!("{}")]),
    ("tstzmultirange", ["{[2026-01-01 00:00+02,)}", "{}"], || [json!("{[\"2025-12-31 22:00:00+00\",)}"), json!("{}")]),
    ("oid", ["0", "4294967295"], || [json!("0"), json!("4294967295")]),
    ("xid", ["3", "4294967295"], || [json!("3"), json!("4294967295")]),
    ("xid8", ["3", "18446744073709551615"], || [json!("3"), json!("18446744073709551615")]),
    ("cid", ["0", "1"], || [json!("0"), json!("1")]),
    ("tid", ["(0,1)", "(4294967295,65535)"], || [json!("(0,1)"), json!("(4294967295,65535)")]),
    ("pg_lsn", ["0/0", "FFFFFFFF/FFFFFFFF"], || [json!("0/0"), json!("FFFFFFFF/FFFFFFFF")]),
    ("pg_snapshot", ["10:20:10,14", "1:1:"], || [json!("10:20:10,14"), json!("1:1:")]),
    ("txid_snapshot", ["10:20:10,14", "1:1:"], || [json!("10:20:10,14"), json!("1:1:")]),
    ("int2vector", ["1 -2", "3"], || [json!("1 -2"), json!("3")]),
    ("oidvector", ["1 2", "3"], || [json!("1 2"), json!("3")]),
    ("refcursor", ["c", "d"], || [json!("c"), json!("d")]),
    ("aclitem", ["postgres=r/postgres", "=w/postgres"], || [json!("postgres=r/postgres"), json!("=w/postgres")]),
    ("regclass", ["pg_class", "pg_proc"], || [json!("pg_class"), json!("pg_proc")]),
    ("regtype", ["integer", "text[]"], || [json!("integer"), json!("text[]")]),
    ("regproc", ["now", "-"], || [json!("now"), json!("-")]),
    ("regprocedure", ["lower(text)", "-"], || [json!("lower(text)"), json!("-")]),
    ("regoper", ["||/", "0"], || [json!("||/"), json!("0")]),
    ("regoperator", ["+(integer,integer)", "0"], || [json!("+(integer,integer)"), json!("0")]),
    ("regrole", ["postgres", "-"], || [json!("postgres"), json!("-")]),
    ("regnamespace", ["pg_catalog", "-"], || [json!("pg_catalog"), json!("-")]),
    ("regcollation", ["\"C\"", "-"], || [json!("\"C\""), json!("-")]),
    ("regconfig", ["simple", "-"], || [json!("simple"), json!("-")]),
    ("regdictionary", ["simple", "-"], || [json!("simple"), json!("-")]),
];

#[rustfmt::skip] // A line for each.
const MADE: &[Case] = &[
    ("mood", ["glad", "so \"so\""], || [json!("glad"), json!("so \"so\"")]),
    ("score", ["1.50", "0"], || [json!(1.5), json!(0)]),
    ("scores", ["{1.5,NULL}", "{}"], || [json!([1.5, null]), json!([])]),
    ("place", ["(here,\"(1,2.5)\",\"2026-01-01 00:00:00+00\",\"{x,NULL}\")", "(,,,)"], || [json!({"label": "here", "at": {"x": 1, "y": 2.5}, "seen": 1_767_225_600, "tags": ["x", null]}), json!({})]),
    ("home", ["(here,,infinity,\"{}\")", "(,,-infinity,)"], || [json!({"label": "here", "tags": []}), json!({})]),
    ("place[]", ["{\"(a,,,)\",NULL}", "{}"], || [json!([{"label": "a"}, null]), json!([])]),
    ("shape", ["(1,\"{\"\"(a,,,)\"\"}\")", "(,)"], || [json!({"n": 1, "places": [{"label": "a"}]}), json!({})]),
    ("boolean[]", ["{t,f,NULL}", "{}"], || [json!([true, false, null]), json!([])]),
    ("smallint[]", ["{1,2}", "{}"], || [json!([1, 2]), json!([])]),
    ("integer[]", ["[0:1]={7,8}", "{{1,2},{3,NULL}}"], || [json!([7, 8]), json!([[1, 2], [3, null]])]),
    ("integer[][]", ["{{{1},{2}},{{3},{4}}}", "{}"], || [json!([[[1], [2]], [[3], [4]]]), json!([])]),
    ("bigint[]", ["{9007199254740993}", "{0}"], || [json!(["9007199254740993"]), json!([0])]),
    ("double precision[]", ["{NaN,1e300}", "{}"], || [json!(["NaN", 1e300]), json!([])]),
    ("numeric[]", ["{0.1,NaN}", "{}"], || [json!([0.1, "NaN"]), json!([])]),
    ("text[]", ["{\"\",NULL,\"NULL\",\"a,b\",é}", "{{a},{b}}"], || [json!(["", null, "NULL", "a,b", "é"]), json!([["a"], ["b"]])]),
    ("bytea[]", ["{\"\\\\x00ff10\"}", "{}"], || [json!(["AP8Q"]), json!([])]),
    ("timestamptz[]", ["{infinity,1970-01-01 00:00:01+00}", "{}"], || [json!([null, 1]), json!([])]),
    ("json[]", ["{\"{\\\"a\\\": 1}\",NULL,\"null\"}", "{}"], || [json!([{"a": 1}, null, null]), json!([])]),
    ("jsonb[]", ["{\"[1]\"}", "{}"], || [json!([[1]]), json!([])]),
    ("uuid[]", ["{00000000-0000-0000-0000-000000000000}", "{}"], || [json!(["00000000-0000-0000-0000-000000000000"]), json!([])]),
    ("int4range[]", ["{\"[1,3)\"}", "{}"], || [json!(["[1,3)"]), json!([])]),
    ("mood[]", ["{glad,NULL}", "{}"], || [json!(["glad", null]), json!([])]),
    ("score[]", ["{1.50}", "{}"], || [json!([1.5]), json!([])]),
    ("span_of_moods", ["[glad,\"so \\\"so\\\"\"]", "empty"], || [json!("[glad,\"so \"\"so\"\"\"]"), json!("empty")]),
    ("hstore", ["a=>1, b=>NULL", ""], || [json!("\"a\"=>\"1\", \"b\"=>NULL"), json!("")]),
    ("citext", ["Ab", "ab"], || [json!("Ab"), json!("ab")]),
    ("citext[]", ["{Ab,NULL}", "{}"], || [json!(["Ab", null]), json!([])]),
    ("ltree", ["a.b.c", ""], || [json!("a.b.c"), json!("")]),
    ("lquery", ["a.*", "b"], || [json!("a.*"), json!("b")]),
    ("cube", ["(1,2),(3,4)", "(0)"], || [json!("(1, 2),(3, 4)"), json!("(0)")]),
    ("seg", ["1 .. 2", "5"], || [json!("1 .. 2"), json!("5")]),
    ("isbn", ["978-0-393-04002-9", "0-11-000533-3"], || [json!("0-393-04002-X"), json!("0-11-000533-3")]),
];

const TYPES: &str = "
    create type mood as enum ('glad', 'so \"so\"');
    create type span_of_moods as range (subtype = mood);
    create type point2 as (x int, gone text, y numeric);
    alter type point2 drop attribute gone;
    create type place as (label text, at point2, seen timestamptz, tags text[]);
    create type shape as (n int, places place[]);
    create domain home as place check ((value).label is distinct from 'nowhere');
    create domain score as numeric check (value >= 0);
    create domain scores as score[];
    create table t (id int primary key)";

/// Inserts, updates and pseudonymizes each case's values in a table of its own, and compares the records.
fn check(play: &mut Play, cases: &[Case]) {
    let mut written = Vec::new();
    for (number, (kind, literals, expected)) in cases.iter().enumerate() {
        let table = format!("t{number}");
        play.owner
            .batch_execute(&format!("create table {table} (id int primary key, v {kind}, w {kind})"))
            .unwrap();
        play.watch(
            &table,
            &format!("columns => '{{v, w}}', pseudonymize => '{{w}}', operations => '{{insert, update}}', object_prefix => '{number}:'"),
        );
        let [first, second] = literals.map(|literal| format!("'{}'", literal.replace('\'', "''")));
        let name = play.name;
        let write = format!("insert into {name}.{table} values (1, {first}, {first}), (2, null, null); update {name}.{table} set v = {second}, w = {second}");
        play.app.batch_execute(&write).unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        let pseudonyms: Vec<String> = play
            .admin
            .query(
                &format!("select audit_algolia.pseudonym(format('%s', v)) from (values ({first}::{kind}), ({second}::{kind})) as t (v)"),
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let [before, after] = expected();
        written.push((number, kind, before, after, pseudonyms));
    }
    let records = changes(play);
    let mut complaints = Vec::new();
    for (number, kind, before, after, pseudonyms) in written {
        let mine: Vec<&Value> = records
            .iter()
            .filter(|record| record["objectID"].as_str().unwrap().starts_with(&format!("{number}:")))
            .collect();
        let (inserted, updated, from_null) = (mine[0], mine[2], mine[3]);
        let seen = json!([
            inserted["v"],
            inserted["w"],
            updated["v"],
            updated["w"],
            updated["previous"],
            updated["changed"],
            from_null["previous"],
        ]);
        let expected = json!([
            before, pseudonyms[0], after, pseudonyms[1], {"v": before, "w": pseudonyms[0]}, ["v", "w"], {"v": null, "w": null},
        ]);
        if seen != expected {
            complaints.push(format!("{kind}:\n  {seen}\n  {expected}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn values_of_every_built_in_type_arrive_as_they_are() {
    let mut play = Play::new("shapes_of_types", TYPES);
    check(&mut play, SCALARS);
    let named: BTreeSet<u32> = SCALARS
        .iter()
        .map(|(kind, _, _)| one::<u32>(&mut play.admin, &format!("select '{kind}'::regtype::oid")))
        .collect();
    let missing: Vec<String> = play
        .admin
        .query(
            "select oid::regtype::text from pg_type
             where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') and typcategory not in ('A', 'Z')
                 and not oid = any ($1)
                 -- A type that no table uses, because it has no input.
                 and typname not in ('gtsvector')",
            &[&named.into_iter().collect::<Vec<u32>>()],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "types without a case");
}

#[test]
fn values_of_made_types_arrays_and_modules_arrive_as_they_are() {
    let mut play = Play::new("shapes_made", TYPES);
    for extension in ["hstore", "citext", "ltree", "cube", "seg", "isn"] {
        play.admin
            .batch_execute(&format!("create extension if not exists {extension} schema public"))
            .unwrap();
    }
    for session in [&mut play.admin, &mut play.owner, &mut play.app] {
        session.batch_execute("set search_path = shapes_made, public").unwrap();
    }
    check(&mut play, MADE);
}

/// A filter on types of extensions, whose operators are found in the search_path of the user who calls watch().
#[test]
fn filters_use_the_operators_of_their_columns_types() {
    let mut play = Play::new("filter_types", "");
    for extension in ["citext", "hstore"] {
        play.admin
            .batch_execute(&format!("create extension if not exists {extension} schema public"))
            .unwrap();
    }
    play.admin.batch_execute("set search_path = filter_types, public").unwrap();
    play.owner
        .batch_execute("create table t (id int primary key, c public.citext, h public.hstore, d date[])")
        .unwrap();
    play.watch(
        "t",
        "columns => '{c}', filter => 'c = ''AB'' and h -> ''k'' = ''v'' and ''2026-01-01'' = any (d)'",
    );
    play.run("set search_path = filter_types");
    play.run("insert into t values (1, 'ab', 'k=>v', '{2026-01-01}'), (2, 'ac', 'k=>v', '{2026-01-01}'), (3, 'Ab', 'k=>w', '{2026-01-01}'), (4, 'Ab', 'k=>v', '{}')");
    assert_eq!(play.ids(), ["1"]);
}

#[test]
fn unlogged_tables_are_captured() {
    let mut play = Play::new("unlogged", "create unlogged table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}', operations => '{insert, update, delete}'");
    play.run("insert into t values (1, 'a'); update t set v = 'b'; delete from t");
    assert_eq!(changes(&mut play).len(), 3);
}

#[test]
fn foreign_tables_are_refused_with_a_hint() {
    let mut play = Play::new("foreign_tables", "");
    play.admin
        .batch_execute("create extension file_fdw; create server files foreign data wrapper file_fdw; create foreign table f (id int) server files options (filename '/dev/null')")
        .unwrap();
    let error = crate::play::failure(&mut play.admin, "select audit_algolia.watch('f', columns => '{id}')");
    assert_eq!(error.code().code(), "42809");
    assert!(error.message().ends_with("because it is a foreign table"), "{}", error.message());
    assert!(error.hint().unwrap().contains("Watch the table there"));
}
