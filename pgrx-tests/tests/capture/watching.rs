//! The life of a watch: begun, ended, begun again, and what `sources` says about it.

use crate::play::{failure, one, Play};

fn state(play: &mut Play) -> Vec<(String, String)> {
    let query = format!(
        "select source::text, state from audit_algolia.sources where index_name = '{}' order by id",
        play.name
    );
    let rows = play.admin.query(&query, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn rows_queued_before_the_watch_ended_still_arrive() {
    let mut play = Play::new("ended", "create table t (id int primary key)");
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("select audit_algolia.pause('ended')").unwrap();
    play.run("insert into t select generate_series(1, 500)");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.run("insert into t values (501)");
    assert_eq!(state(&mut play), []);
    assert_eq!(play.stage.standin.index("ended").len(), 0);
    play.admin.batch_execute("select audit_algolia.resume('ended')").unwrap();
    assert_eq!(play.records().len(), 500);
    play.watch("t", "columns => '{id}', object_prefix => 'again:'");
    play.run("insert into t values (502)");
    let ids = play.ids();
    assert_eq!(ids.len(), 501);
    assert!(ids.contains(&"again:502".to_owned()));
}

#[test]
fn rows_of_a_dropped_table_still_arrive() {
    let mut play = Play::new("dropped", "create table t (id int primary key)");
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("select audit_algolia.pause('dropped')").unwrap();
    play.run("insert into t select generate_series(1, 500)");
    play.owner.batch_execute("drop table t").unwrap();
    assert_eq!(state(&mut play), []);
    play.admin.batch_execute("select audit_algolia.resume('dropped')").unwrap();
    assert_eq!(play.records().len(), 500);
    play.owner.batch_execute("create table t (id int primary key)").unwrap();
    play.watch("t", "columns => '{id}'");
    play.run("insert into t values (501)");
    assert_eq!(play.records().len(), 501);
}

#[test]
fn a_watch_that_is_rolled_back_leaves_nothing() {
    let mut play = Play::new("undone", "create table t (id int primary key)");
    play.admin.batch_execute("begin").unwrap();
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("insert into t values (1); rollback").unwrap();
    play.run("insert into t values (2)");
    let known: i64 = one(&mut play.admin, "select count(*) from audit_algolia.index where name = 'undone'");
    assert_eq!(known, 0);
    play.admin.batch_execute("begin").unwrap();
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("insert into t values (3); commit").unwrap();
    play.admin
        .batch_execute("begin; select audit_algolia.unwatch('t'); insert into t values (4); rollback")
        .unwrap();
    play.run("insert into t values (5)");
    assert_eq!(play.ids(), ["3", "5"]);
}

#[test]
fn sources_tell_whether_the_trigger_is_in_place() {
    let mut play = Play::new("states", "create table t (id int primary key); create table p (id int primary key) partition by list (id); create table leaf partition of p default");
    play.watch("t", "columns => '{id}'");
    play.watch("p", "columns => '{id}', object_prefix => 'p'");
    assert_eq!(
        state(&mut play),
        [("t".to_owned(), "watching".to_owned()), ("p".to_owned(), "watching".to_owned())]
    );
    let id: i32 = one(&mut play.admin, "select id from audit_algolia.sources where source = 't'::regclass");
    play.owner.batch_execute(&format!("alter table t disable trigger audit_algolia_{id}_insert")).unwrap();
    assert_eq!(state(&mut play)[0].1, "trigger disabled");
    play.run("insert into t values (1)");
    play.owner.batch_execute(&format!("alter table t enable trigger audit_algolia_{id}_insert")).unwrap();
    assert_eq!(state(&mut play)[0].1, "watching");
    play.owner.batch_execute(&format!("drop trigger audit_algolia_{id}_insert on t")).unwrap();
    assert_eq!(state(&mut play)[0].1, "trigger missing");
    play.run("insert into t values (2)");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{id}'");
    play.run("insert into t values (3)");
    assert_eq!(play.ids(), ["3"]);
}

#[test]
fn a_table_may_be_watched_for_several_indices() {
    let mut play = Play::new("several", "create table t (id int primary key, v text, w text)");
    play.watch("t", "columns => '{v}'");
    crate::play::watch(&mut play.admin, "t", "several_more", "columns => '{w AS x}'");
    play.run("insert into t values (1, 'a', 'b')");
    play.admin.batch_execute("select audit_algolia.unwatch('t', 'several')").unwrap();
    play.run("insert into t values (2, 'c', 'd')");
    assert_eq!(play.ids(), ["1"]);
    crate::play::settle(&mut play.admin, "several_more");
    let more = play.stage.standin.index("several_more");
    assert_eq!(more.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(more["2"], serde_json::json!({"objectID": "2", "x": "d"}));
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    let error = failure(&mut play.admin, "select audit_algolia.unwatch('t')");
    assert_eq!(error.code().code(), "42704");
}

/// Sessions that have captured rows before must follow the new rules at once.
#[test]
fn other_sessions_follow_new_rules_at_once() {
    let mut play = Play::new("followed", "create table t (id int primary key, v text, w text)");
    play.watch("t", "columns => '{v}'");
    play.run("insert into t values (1, 'a', 'b')");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{w}'");
    play.run("insert into t values (2, 'c', 'd')");
    play.admin
        .batch_execute("begin; select audit_algolia.unwatch('t'); select audit_algolia.watch('t', 'followed', columns => '{v,w}'); commit")
        .unwrap();
    play.run("insert into t values (3, 'e', 'f')");
    let records = play.records();
    assert_eq!(records["2"], serde_json::json!({"objectID": "2", "w": "d"}));
    assert_eq!(records["3"], serde_json::json!({"objectID": "3", "v": "e", "w": "f"}));
}

#[test]
fn dropping_the_extension_lets_writers_go_on() {
    let stage = audit_algolia_tests::stage::Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create table t (id int primary key)").unwrap();
    crate::play::watch(&mut admin, "t", "t", "columns => '{id}'");
    let mut writer = stage.admin();
    writer.batch_execute("insert into t values (1)").unwrap();
    stage.wait_for_records("t", 1);
    let refused = failure(&mut admin, "drop extension audit_algolia");
    assert_eq!(refused.code().code(), "2BP01");
    admin.batch_execute("drop extension audit_algolia cascade").unwrap();
    writer.batch_execute("insert into t values (2)").unwrap();
    let mut watcher = stage.admin();
    audit_algolia_tests::wait::wait_until("no worker", audit_algolia_tests::stage::SOON, || {
        one::<i64>(
            &mut watcher,
            "select count(*) from pg_stat_activity where backend_type = 'audit_algolia worker'",
        ) == 0
    });
    admin.batch_execute("create extension audit_algolia").unwrap();
    crate::play::watch(&mut admin, "t", "t", "columns => '{id}'");
    writer.batch_execute("insert into t values (3); insert into t select generate_series(10, 500)").unwrap();
    stage.wait_for_records("t", 493);
}
