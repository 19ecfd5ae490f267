//! Filters: which rows are queued, which filters are allowed, and with whose rights they are evaluated.

use serde_json::Value;

use crate::changes::briefs;
use crate::play::{failure, one, texts, Play};

pub(crate) const TABLE: &str =
    "create table t (id int primary key, v text, level int, secret text, at timestamptz)";

#[test]
fn only_rows_for_which_a_filter_is_true_are_queued() {
    for (name, filter, expected) in [
        ("filter_simple", "level > 1", vec!["3", "4"]),
        ("filter_null", "v <> 'x'", vec!["1", "3"]),
        ("filter_mixed", "(level between 1 and 2 or secret like 's%') and id % 2 = 1", vec!["1", "3", "5"]),
        ("filter_case", "case when v is null then level = 3 else v = any ('{a,c}') end", vec!["1", "3", "4"]),
        ("filter_none", "false", vec![]),
        ("filter_all", "true", vec!["1", "2", "3", "4", "5"]),
        ("filter_constant", "null", vec![]),
        ("filter_qualified", "t.level = 1", vec!["1"]),
        ("filter_stable", "at < now() and at > '2020-01-01'", vec!["1", "2"]),
        ("filter_regexp", "coalesce(v, '') ~ '^[ac]$' -- and that is all", vec!["1", "3"]),
    ] {
        let mut play = Play::new(name, TABLE);
        let quoted = filter.replace('\'', "''");
        play.watch("t", &format!("columns => '{{id}}', filter => '{quoted}'"));
        let rows = "(1, 'a', 1, null, '2025-01-01'), (2, 'x', 0, 'n', '2025-01-01'), (3, 'c', 2, null, null), (4, null, 3, 'x', 'infinity'), (5, 'x', null, 's5', '2010-01-01')";
        play.run(&format!("insert into t values {rows}"));
        assert_eq!(play.ids(), texts(expected.iter()), "{filter}");
        let shown = play.admin.query("select audit_algolia.preview('t')", &[]).unwrap();
        let mut previewed: Vec<String> =
            shown.iter().map(|row| row.get::<_, Value>(0)["objectID"].as_str().unwrap().to_owned()).collect();
        previewed.sort();
        assert_eq!(previewed, texts(expected.iter()), "preview of {filter}");
        let some = play.admin.query("select audit_algolia.preview('t', 1)", &[]).unwrap();
        assert_eq!(some.len(), expected.len().min(1), "{filter}");
    }
}

#[test]
fn a_filter_looks_at_new_rows_and_of_deletions_at_old_ones() {
    let mut play = Play::new("filtered_changes", TABLE);
    play.watch(
        "t",
        "columns => '{v}', filter => 'level > 1', operations => '{insert, update, delete, truncate}'",
    );
    play.run("insert into t values (1, 'a', 1), (2, 'b', 2)");
    play.run("update t set level = 2, v = 'a2' where id = 1");
    play.run("update t set level = 0, v = 'b2' where id = 2");
    play.run("update t set v = 'b3' where id = 2");
    play.run("delete from t");
    play.owner.batch_execute("truncate t").unwrap();
    assert_eq!(briefs(&mut play), ["2 insert b", "1 update a2 a", "1 delete a2", " truncate"]);
}

#[test]
fn filters_of_partitions_find_their_columns_wherever_they_are() {
    let mut play = Play::new(
        "filtered_parts",
        "create table t (id int primary key, level int, v text) partition by range (id);
         create table low partition of t for values from (0) to (100);
         create table high (v text, gone int, id int not null, level int, primary key (id));
         alter table high drop column gone;
         alter table t attach partition high for values from (100) to (200)",
    );
    play.watch(
        "t",
        "columns => '{v}', filter => 'level = 1 and t.id % 2 = 0', operations => '{insert, update}'",
    );
    play.run("insert into t values (1, 1, 'a'), (2, 1, 'b'), (101, 1, 'c'), (102, 1, 'd'), (104, 2, 'e')");
    play.run("update t set v = v || '2', level = 1");
    assert_eq!(
        briefs(&mut play),
        ["2 insert b", "102 insert d", "2 update b2 b", "102 update d2 d", "104 update e2 e"]
    );
}

#[test]
fn a_filter_over_many_rows_queues_each_that_fits_once() {
    let mut play = Play::new("filtered_bulk", TABLE);
    play.watch(
        "t",
        "columns => '{v}', filter => 'id % 1000 = 0 or id > 9900', operations => '{insert, update}'",
    );
    play.run("insert into t select i, 'a' from generate_series(1, 10000) as i");
    assert_eq!(play.records().len(), 109);
    play.run("update t set v = 'b'");
    assert_eq!(play.records().len(), 218);
    assert_eq!(play.arrivals(), 218);
}

#[rustfmt::skip] // A line for each.
const WRONG: &[(&str, &str, &str)] = &[
    ("", "42601", "not a single expression"),
    (" -- nothing", "42601", "not a single expression"),
    ("level >", "42601", "syntax error at end of input"),
    ("level > 1; drop table t", "42601", "syntax error at or near"),
    ("level > 1) or (true", "42601", "syntax error at or near"),
    ("true, true", "42601", "not a single expression"),
    ("true as x", "42601", "not a single expression"),
    ("*", "42601", "not a single expression"),
    ("distinct true", "42601", "not a single expression"),
    ("true from t", "42601", "not a single expression"),
    ("true where true", "42601", "not a single expression"),
    ("true order by 1", "42601", "not a single expression"),
    ("true limit 1", "42601", "not a single expression"),
    ("true for update", "42601", "not a single expression"),
    ("true union select true", "42601", "syntax error at or near"),
    ("level", "42804", "must be type boolean, not type integer"),
    ("'x' || v", "42804", "must be type boolean"),
    ("missing = 1", "42703", "column \"missing\" does not exist"),
    ("new.level = 1", "42P01", "missing FROM-clause entry for table \"new\""),
    ("nothing(level)", "42883", "function nothing(integer) does not exist"),
    ("level = 'x'", "22P02", "invalid input syntax for type integer"),
    ("level = (select 1)", "0A000", "cannot use subquery"),
    ("exists (select)", "0A000", "cannot use subquery"),
    ("sum(level) > 1", "42803", "aggregate functions are not allowed"),
    ("row_number() over () = 1", "42P20", "window functions are not allowed"),
    ("generate_series(1, 2) = 1", "0A000", "set-returning functions are not allowed"),
    ("$1", "42P02", "there is no parameter $1"),
    ("ctid is not null", "42P17", "cannot use system columns"),
    ("tableoid = 1", "42P17", "cannot use system columns"),
    ("t is not null", "42P17", "cannot use the row as a whole"),
    ("t.* is not null", "42P17", "cannot use the row as a whole"),
    ("random() < 0.5", "42P17", "cannot call volatile functions"),
    ("clock_timestamp() > at", "42P17", "cannot call volatile functions"),
    ("nextval('counter') > 0", "42P17", "cannot call volatile functions"),
    ("1 / 0 = level", "22012", "division by zero"),
];

#[test]
fn wrong_filters_are_explained() {
    let mut play = Play::new("wrong_filters", &format!("{TABLE}; create sequence counter"));
    let mut wrong = Vec::new();
    for (filter, code, part) in WRONG {
        let quoted = filter.replace('\'', "''");
        let error = failure(
            &mut play.admin,
            &format!("select audit_algolia.watch('t', columns => '{{v}}', filter => '{quoted}')"),
        );
        let prefix = "invalid filter for table \"t\": ";
        let is_right = error.code().code() == *code
            && error.message().starts_with(prefix)
            && error.message().contains(part)
            && error.hint().is_some();
        if !is_right {
            wrong.push(format!("{filter}: {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let sources = "select count(*) from audit_algolia.sources where source = 't'::regclass";
    assert_eq!(one::<i64>(&mut play.admin, sources), 0);
}

#[test]
fn an_error_in_a_filter_fails_the_statement_and_names_the_source() {
    let mut play = Play::new("filter_errors", TABLE);
    play.watch("t", "columns => '{v}', filter => '10 / level > 1'");
    let id: i32 = one(&mut play.admin, "select id from audit_algolia.sources where source = 't'::regclass");
    for statement in [
        "insert into t values (1, 'a', 0)",
        "insert into t select i, 'b', 500 - i from generate_series(1, 600) as i",
    ] {
        let error = failure(&mut play.app, statement);
        let message = "the filter of watched table \"t\" failed: division by zero (22012)";
        assert_eq!((error.code().code(), error.message()), ("22012", message));
        let context = error.where_().unwrap();
        let expected = format!("audit_algolia filter of table \"t\", trigger audit_algolia_{id}_insert");
        assert!(context.contains(&expected), "{context}");
    }
    play.run("begin; insert into t values (2, 'b', 2); savepoint s");
    failure(&mut play.app, "insert into t values (3, 'c', 0)");
    play.run("rollback to s; insert into t values (4, 'd', 4); commit");
    assert_eq!(play.ids(), ["2", "4"]);
    assert_eq!(
        one::<String>(&mut play.app, "select current_user::text"),
        "app",
        "the writer is who they were"
    );
}

#[test]
fn a_filter_whose_column_changes_stays_right_or_stops() {
    for (name, change, code) in [
        ("filter_renamed", "rename column level to rank", Some("42703")),
        ("filter_dropped", "drop column level", Some("42703")),
        ("filter_retyped", "alter column level type jsonb using to_jsonb(level)", Some("42883")),
        ("filter_widened", "alter column level type numeric", None),
        ("filter_unlisted", "drop column secret, add column level2 int default 0", None),
    ] {
        let mut play = Play::new(name, TABLE);
        play.watch("t", "columns => '{v}', filter => 'level > 1'");
        play.run("insert into t (id, v, level) values (1, 'a', 1), (2, 'b', 2)");
        play.owner.batch_execute(&format!("alter table t {change}")).unwrap();
        match code {
            None => {
                play.run("insert into t (id, v, level) values (3, 'c', 1), (4, 'd', 2)");
                assert_eq!(play.ids(), ["2", "4"], "{name}");
            }
            Some(code) => {
                let error = failure(&mut play.app, "insert into t (id, v) values (3, 'c')");
                assert_eq!(error.code().code(), code, "{name}: {}", error.message());
                assert!(error.hint().unwrap().contains("audit_algolia.unwatch()"), "{name}");
                assert_eq!(play.ids(), ["2"], "{name}");
            }
        }
    }
}

#[test]
fn two_sources_of_a_table_have_their_own_filters() {
    let mut play = Play::new("two_filters", TABLE);
    play.watch("t", "columns => '{v}', filter => 'level = 1'");
    crate::play::watch(&mut play.admin, "t", "two_filters_b", "columns => '{v}', filter => 'level = 2'");
    play.run("insert into t values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    assert_eq!(play.ids(), ["1"]);
    crate::play::settle(&mut play.admin, "two_filters_b");
    let other = play.stage.standin.index("two_filters_b");
    assert_eq!(other.into_keys().collect::<Vec<_>>(), ["2"]);
}
