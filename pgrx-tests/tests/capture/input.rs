//! Invalid arguments: each function says what is wrong, with the right SQLSTATE, and how to fix it.

use crate::play::{failure, one, Play};

const TABLES: &str = "
    create table t (id int primary key, v text, at timestamptz, \"Case\" int);
    create table keyless (v text, w text);
    create table other (id int primary key);
    create table watched (id int primary key, v text);
    create view a_view as select * from t;
    create materialized view matted as select * from t;
    create sequence counter;
    create index some_index on t (v);
    create type part as (a int);
    create table parted (id int primary key) partition by list (id)";

/// Call, SQLSTATE, a part of the message, whether there is a hint.
type Case = (&'static str, &'static str, &'static str, bool);

#[rustfmt::skip] // A line for each.
const TARGETS: &[Case] = &[
    ("watch(null, columns => '{v}')", "22004", "table must not be null", true),
    ("watch('missing', columns => '{v}')", "42P01", "\"missing\" does not exist", false),
    ("watch(4000000000::oid::regclass, columns => '{v}')", "42P01", "oid 4000000000", true),
    ("watch('a_view', columns => '{v}')", "42809", "a_view, because it is a view", true),
    ("watch('matted', columns => '{v}')", "42809", "is a materialized view", true),
    ("watch('counter', columns => '{last_value}')", "42809", "is not a table", true),
    ("watch('some_index', columns => '{v}')", "42809", "is not a table", true),
    ("watch('part', columns => '{a}')", "42809", "is not a table", true),
    ("watch('pg_temp.temporary', columns => '{id}')", "42809", "is a temporary table", true),
    ("watch('pg_class', columns => '{relname}')", "42809", "is a system catalog", true),
    ("watch('pg_stat_activity', columns => '{query}')", "42809", "cannot watch pg_catalog.pg_stat_activity", true),
    ("watch('information_schema.sql_features', columns => '{feature_id}', object_id => '{feature_id}')", "42809", "is a system catalog", true),
    ("watch('audit_algolia.queue', columns => '{record}')", "42809", "table of audit_algolia itself", true),
    ("watch('audit_algolia.source', columns => '{filter}')", "42809", "table of audit_algolia itself", true),
    ("watch('keyless', columns => '{v}')", "55000", "keyless has no primary key", true),
    ("watch('watched', 'taken', columns => '{v}')", "42710", "already watched for index \"taken\"", true),
    ("watch('other', 'taken', columns => '{id}')", "22023", "watched already delivers to index \"taken\"", true),
    ("watch('t', '', columns => '{v}')", "22023", "index name", true),
    ("watch('t', '   ', columns => '{v}')", "22023", "must not be empty", true),
    ("watch('t', '*', columns => '{v}')", "22023", "all indexes", true),
    ("watch('t', E'a\\nb', columns => '{v}')", "22023", "control characters", true),
    ("watch('t', repeat('é', 129), columns => '{v}')", "22023", "longer than 256 bytes", true),
];

#[rustfmt::skip] // A line for each.
const RULES: &[Case] = &[
    ("watch('t')", "22023", "no columns are allowed", true),
    ("watch('t', columns => '{}')", "22023", "no columns are allowed", true),
    ("watch('t', columns => '{v,null}')", "22004", "columns must not contain nulls", true),
    ("watch('t', columns => '{v,\"\"}')", "22023", "empty entries", true),
    ("watch('t', columns => '{missing}')", "42703", "column \"missing\" does not exist", true),
    ("watch('t', columns => '{case}')", "42703", "column \"case\" does not exist", true),
    ("watch('t', columns => '{ctid}')", "42703", "column \"ctid\" does not exist", true),
    ("watch('t', columns => '{v,\"id as v\"}')", "42701", "attribute \"v\" is given more than once", true),
    ("watch('t', columns => '{v,v}')", "42701", "more than once", true),
    ("watch('t', columns => '{v as objectID}')", "42939", "\"objectID\" is reserved", true),
    ("watch('t', columns => '{v as _tags}')", "42939", "\"_tags\" is reserved", true),
    ("watch('t', columns => '{v as }')", "22023", "neither a column nor", true),
    ("watch('t', columns => '{v}', pseudonymize => '{at}')", "22023", "\"at\", which is not allowed", true),
    ("watch('t', columns => '{v}', pseudonymize => '{nope}')", "42703", "\"nope\" does not exist", true),
    ("watch('t', columns => '{v}', pseudonymize => null)", "22004", "pseudonymize must not be null", true),
    ("watch('t', columns => '{v}', pseudonymize => '{null}')", "22004", "must not contain nulls", true),
    ("watch('t', columns => '{v}', object_id => '{}')", "22023", "object_id names no columns", true),
    ("watch('t', columns => '{v}', object_id => '{id,id}')", "42701", "more than once", true),
    ("watch('t', columns => '{v}', object_id => '{nope}')", "42703", "\"nope\" does not exist", true),
    ("watch('t', columns => '{v}', time_column => 'at')", "22023", "\"at\", which is not allowed", true),
    ("watch('t', columns => '{v}', time_column => 'nope')", "42703", "\"nope\" does not exist", true),
    ("watch('t', columns => '{at}', time_column => 'at', pseudonymize => '{at}')", "22023", "must not be pseudonymized", true),
    ("watch('t', columns => '{at,\"v as at_day\"}', time_column => 'at')", "42701", "time bucket", true),
    ("watch('t', columns => '{v}', facets => '{nope}')", "42703", "facet \"nope\"", true),
    ("watch('t', columns => '{v}', facets => null)", "22004", "facets must not be null", true),
    ("watch('t', columns => '{v}', operations => '{}')", "22023", "names no operation", true),
    ("watch('t', columns => '{v}', operations => '{upsert}')", "22023", "unrecognized operation \"upsert\"", true),
    ("watch('t', columns => '{v}', operations => '{insert,null}')", "22004", "operations must not contain nulls", true),
    ("watch('t', columns => '{v}', operations => '{insert,\"\"}')", "22023", "operations must not contain empty entries", true),
    ("watch('t', columns => '{\"v as op\"}', operations => '{insert,update}')", "42701", "\"op\" is also an attribute that change records have of their own", true),
    ("watch('t', columns => '{\"v as previous\"}', operations => '{truncate}')", "42701", "attribute \"previous\" is also an attribute", true),
    ("watch('t', columns => '{\"v as id\"}', operations => '{delete}')", "42701", "\"id\" is also the name of a key column", true),
    ("watch('t', columns => '{v}', facets => '{op}')", "42703", "facet \"op\"", true),
    ("watch('t', columns => '{v}', operations => null)", "22004", "operations must not be null", true),
    ("watch('t', columns => '{v}', mode => 'mirror', operations => '{insert,update}')", "22023", "mirror takes all operations", true),
    ("watch('t', columns => '{v}', mode => 'mirror', object_id => '{v}')", "55000", "(v) of table input.t are not a key", true),
    ("watch('t', columns => '{v}', mode => 'copy')", "22023", "unrecognized mode \"copy\"", true),
    ("watch('t', columns => '{v}', mode => null)", "22004", "mode must not be null", true),
    (
        "watch('t', columns => '{v}', operations => '{update}', backfill => true)",
        "22023",
        "a table whose insertions are not watched cannot be backfilled",
        true,
    ),
    ("watch('t', columns => '{v}', backfill => null)", "22004", "backfill must not be null", true),
    ("watch('t', columns => '{v}', object_prefix => null)", "22004", "object_prefix must not be null", true),
];

#[rustfmt::skip] // A line for each.
const OTHERS: &[Case] = &[
    ("unwatch(null)", "22004", "table must not be null", true),
    ("unwatch('t')", "42704", "t is not watched", true),
    ("unwatch('watched', 'elsewhere')", "42704", "not watched for index \"elsewhere\"", true),
    ("unwatch('missing')", "42P01", "\"missing\" does not exist", false),
    ("preview(null)", "22004", "table must not be null", true),
    ("preview('t')", "42704", "t is not watched", true),
    ("preview('a_view')", "42704", "a_view is not watched", true),
    ("preview('watched', -1)", "22023", "max_rows must be zero or more", true),
    ("preview('watched', null)", "22023", "max_rows must be zero or more", true),
    ("pause('nowhere')", "42704", "index \"nowhere\" does not exist", true),
    ("resume('nowhere')", "42704", "index \"nowhere\" does not exist", true),
    ("flush(null)", "22023", "max_wait must be an interval of zero or more", true),
    ("flush('-1 s')", "22023", "max_wait must be an interval of zero or more", true),
    ("capture()", "39P01", "was not called by a trigger", true),
    ("follow_partitions()", "0A000", "event_trigger", false),
];

#[test]
fn wrong_arguments_are_explained() {
    let mut play = Play::new("input", TABLES);
    play.admin.batch_execute("create temp table temporary (id int primary key)").unwrap();
    play.admin.batch_execute("select audit_algolia.watch('watched', 'taken', columns => '{v}')").unwrap();
    let mut wrong = Vec::new();
    for (call, code, part, has_hint) in TARGETS.iter().chain(RULES).chain(OTHERS) {
        let error = failure(&mut play.admin, &format!("select audit_algolia.{call}"));
        let seen = (error.code().code(), error.message().contains(part), error.hint().is_some());
        if seen != (*code, true, *has_hint) {
            wrong.push(format!("{call}: {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let traces: i64 = one(
        &mut play.admin,
        "select count(*) from pg_trigger where tgname ~ '^audit_algolia_' and tgrelid::regclass::text in
             ('t', 'keyless', 'other', 'parted', 'temporary')",
    );
    assert_eq!(traces, 0);
    let sources: i64 = one(
        &mut play.admin,
        "select count(*) from audit_algolia.sources where source in ('t'::regclass, 'other'::regclass)",
    );
    assert_eq!(sources, 0);
    play.run("insert into watched values (1, 'a')");
    crate::play::settle(&mut play.admin, "taken");
    assert_eq!(play.stage.standin.index("taken").len(), 1);
}

#[test]
fn pseudonyms_without_a_key_are_refused() {
    let stage = audit_algolia_tests::stage::Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create table t (id int primary key, v text);
             select audit_algolia.watch('t', columns => '{v}', pseudonymize => '{v}')",
        )
        .unwrap();
    stage.cluster.set(&[("audit_algolia.pseudonym_key", "")]).unwrap();
    audit_algolia_tests::wait::wait_until("no key", audit_algolia_tests::stage::SOON, || {
        one::<String>(&mut stage.admin(), "show audit_algolia.pseudonym_key").is_empty()
    });
    let mut admin = stage.admin();
    for statement in [
        "select audit_algolia.pseudonym('a')",
        "select audit_algolia.watch('t', 'u', columns => '{v}', pseudonymize => '{v}')",
        "insert into t values (1, 'raw')",
    ] {
        let error = failure(&mut admin, statement);
        assert_eq!(error.code().code(), "55000", "{statement}");
        assert!(error.message().contains("no pseudonym key is set"));
        assert!(error.hint().unwrap().contains("audit_algolia.pseudonym_key_file"));
    }
    let queued: i64 = one(&mut admin, "select count(*) from audit_algolia.queue where record like '%raw%'");
    assert_eq!(queued, 0);
}

#[test]
fn tables_put_under_watch_at_once_can_share_a_new_index() {
    let mut play = Play::new("at_once", "create table t (id int primary key); create table u (id int primary key); create table v (id int primary key)");
    let mut other = play.stage.admin();
    play.admin.batch_execute("begin").unwrap();
    play.watch("t", "columns => '{id}', object_prefix => 't:'");
    let second = std::thread::spawn(move || {
        other.batch_execute(
            "select audit_algolia.watch('at_once.u', 'at_once', columns => '{id}', object_prefix => 'u:')",
        )?;
        other.batch_execute(
            "select audit_algolia.watch('at_once.v', 'at_once', columns => '{id}', object_prefix => 't:')",
        )
    });
    let mut watcher = play.stage.admin();
    audit_algolia_tests::wait::wait_until("the second to wait", audit_algolia_tests::stage::SOON, || {
        one::<i64>(&mut watcher, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%at_once.u%'") == 1
    });
    play.admin.batch_execute("commit").unwrap();
    let refused = second.join().unwrap().unwrap_err();
    assert!(refused.to_string().contains("db error"));
    assert_eq!(refused.code().unwrap().code(), "22023");
    play.run("insert into t values (1); insert into u values (1); insert into v values (1)");
    assert_eq!(play.ids(), ["t:1", "u:1"]);
}
