//! Watched tables that are altered: values always come from the column that was named.

use serde_json::json;

use crate::play::{failure, Play};

#[test]
fn dropped_added_generated_and_identity_columns_are_read_rightly() {
    let mut play = Play::new(
        "shapes",
        "create table t (
             gone int default 1, id bigint generated always as identity primary key, also_gone text default 'x',
             a int, doubled int generated always as (a * 2) stored, last_gone text default 'y', z text);
         alter table t drop column gone, drop column also_gone, drop column last_gone",
    );
    play.watch("t", "columns => '{a, doubled, z}'");
    play.run("insert into t (a, z) values (5, 'first')");
    play.owner.batch_execute("alter table t add column late text default 'default'").unwrap();
    play.run("insert into t (a, z) values (6, 'second'), (7, 'third'), (8, 'fourth'), (9, 'fifth')");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{a, doubled, z, late}'");
    play.run("insert into t (a, z) values (10, 'sixth')");
    let records = play.records();
    assert_eq!(records["1"], json!({"objectID": "1", "a": 5, "doubled": 10, "z": "first"}));
    assert_eq!(records["5"], json!({"objectID": "5", "a": 9, "doubled": 18, "z": "fifth"}));
    assert_eq!(
        records["6"],
        json!({"objectID": "6", "a": 10, "doubled": 20, "z": "sixth", "late": "default"})
    );
}

#[test]
fn a_column_that_changes_its_type_is_read_as_the_new_one() {
    let mut play = Play::new("retyped", "create table t (id bigint primary key, v int)");
    play.watch("t", "columns => '{v}'");
    play.run("insert into t values (1, 7)");
    play.owner.batch_execute("alter table t alter column v type text using 'now ' || v").unwrap();
    play.run("insert into t values (2, 'text')");
    play.owner.batch_execute("alter table t alter column v type numeric using 1").unwrap();
    play.run("insert into t values (3, 2.50)");
    let records = play.records();
    assert_eq!(
        (&records["1"]["v"], &records["2"]["v"], &records["3"]["v"]),
        (&json!(7), &json!("text"), &json!(2.5))
    );
}

#[test]
fn a_type_that_changes_is_read_as_it_is_now() {
    let mut play = Play::new(
        "retyped_parts",
        "create type mood as enum ('glad'); create type part as (a int, m mood);
         create table t (id bigint primary key, p part, m mood)",
    );
    play.watch("t", "columns => '{p, m}'");
    play.run("insert into t values (1, row(1, 'glad'), 'glad')");
    play.owner
        .batch_execute("alter type mood rename value 'glad' to 'merry'; alter type part drop attribute a; alter type part add attribute b text")
        .unwrap();
    play.run("insert into t values (2, row('merry', 'x'), 'merry')");
    let records = play.records();
    assert_eq!(records["1"], json!({"objectID": "1", "p": {"a": 1, "m": "glad"}, "m": "glad"}));
    assert_eq!(records["2"], json!({"objectID": "2", "p": {"m": "merry", "b": "x"}, "m": "merry"}));
}

#[test]
fn an_insert_fails_clearly_when_a_watched_column_is_gone() {
    for (name, object_id, change, column) in [
        ("gone_renamed", "id", "rename column v to w", "v"),
        ("gone_dropped", "id", "drop column v", "v"),
        ("gone_pseudonymized", "id", "rename column who to whom", "who"),
        ("gone_key", "k", "rename column k to l", "k"),
        ("gone_key_dropped", "k", "drop column k", "k"),
        ("gone_time", "id", "rename column at to since", "at"),
    ] {
        let mut play = Play::new(
            name,
            "create table t (id bigint primary key, k int default 1, v text, who text, at timestamptz, secret text)",
        );
        play.watch(
            "t",
            &format!("columns => '{{v AS value, who, at}}', pseudonymize => '{{who}}', time_column => 'at', object_id => '{{{object_id}}}'"),
        );
        play.run("insert into t (id, v) values (1, 'a')");
        play.owner.batch_execute(&format!("alter table t {change}")).unwrap();
        let error = failure(&mut play.app, "insert into t (id, secret) values (2, 'raw')");
        assert_eq!(error.code().code(), "42703", "{name}");
        assert_eq!(error.message(), format!("column \"{column}\" of watched table \"t\" no longer exists"));
        assert!(error.hint().unwrap().contains("unwatch"), "{name}");
        let again = failure(&mut play.app, "insert into t (id, secret) values (3, 'raw')");
        assert_eq!(again.message(), error.message());
        assert_eq!(play.records().len(), 1, "{name}");
    }
}

#[test]
fn changes_of_a_table_that_was_altered_are_told_rightly_or_fail() {
    let mut play = Play::new(
        "altered",
        "create table t (gone int, id bigint generated always as identity primary key, v text, twice text generated always as (v || v) stored);
         alter table t drop column gone",
    );
    play.watch("t", "columns => '{v, twice}', operations => '{insert, update, delete}'");
    play.run("insert into t (v) values ('a'), ('b'), ('c'), ('d')");
    play.owner.batch_execute("alter table t add column late text default 'x', add column gone int").unwrap();
    play.run("update t set v = 'a2' where id = 1");
    play.owner.batch_execute("alter table t drop column gone").unwrap();
    play.run("update t set late = 'y' where id = 1; update t set v = 'b2' where id = 2; delete from t where id = 3");
    let told: Vec<serde_json::Value> = crate::changes::changes(&mut play).split_off(4);
    assert_eq!(told[0]["previous"], json!({"v": "a", "twice": "aa"}));
    assert_eq!((&told[1]["changed"], &told[1]["twice"]), (&json!(["v", "twice"]), &json!("b2b2")));
    assert_eq!((&told[2]["op"], &told[2]["twice"], told.len()), (&json!("delete"), &json!("cc"), 3));
    play.owner.batch_execute("alter table t rename column v to w").unwrap();
    for statement in ["insert into t (w) values ('e')", "update t set w = 'x'", "delete from t"] {
        let error = failure(&mut play.app, statement);
        assert_eq!((error.code().code(), error.hint().is_some()), ("42703", true), "{statement}");
        assert!(error.where_().unwrap().contains("audit_algolia capture of table \"t\""), "{statement}");
    }
    play.owner.batch_execute("alter table t rename column w to v").unwrap();
    play.run("update t set v = 'd2' where id = 4");
    assert_eq!(crate::changes::changes(&mut play)[7]["previous"], json!({"v": "d", "twice": "dd"}));
    // Old row versions are read with the current columns.
    play.owner
        .batch_execute(
            "alter table t drop column twice; alter table t alter column v type int using length(v)",
        )
        .unwrap();
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{v}', operations => '{update}'");
    play.run("update t set v = 5 where id = 4");
    let last = crate::changes::changes(&mut play).pop().unwrap();
    assert_eq!((&last["v"], &last["previous"]), (&json!(5), &json!({"v": 2})));
}

#[test]
fn an_unlisted_column_may_come_go_and_change() {
    let mut play = Play::new("unlisted", "create table t (id bigint primary key, v text, secret text)");
    play.watch("t", "columns => '{v}'");
    play.owner
        .batch_execute("alter table t drop column secret, add column other int; alter table t rename to u")
        .unwrap();
    play.run("insert into u values (1, 'a', 2)");
    assert_eq!(play.records()["1"], json!({"objectID": "1", "v": "a"}));
}
