//! Rows that cannot be captured when they are written: who is warned, what is missing, and how it is delivered later.

use audit_algolia_tests::wait::stays_true;
use serde_json::json;

use super::*;
use crate::notifications::Listener;
use crate::play::{failure, texts};

const TABLE: &str = "create table t (id bigint primary key, v int, who text)";

#[test]
fn of_a_thousand_rows_only_the_offending_one_is_left_out_and_it_arrives_when_it_is_repaired() {
    let mut scene = shared("one_of_many");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run(
        "insert into t select n, case when n = 500 then 0 else n end from generate_series(1, 1000) as n",
    );
    let warned = scene.warned();
    let told: Vec<(&str, &str)> = warned.iter().map(|one| (one.severity(), one.message())).collect();
    let expected =
        "a change of table \"t\" could not be captured for index \"one_of_many\": division by zero (22012)";
    assert_eq!(told, [("WARNING", expected)]);
    assert!(warned[0].hint().is_some_and(|hint| hint.contains("audit_algolia.repair")));
    scene.stage.wait_for_records("one_of_many", 999);
    assert_eq!(scene.counts(), (1, 1, 0));
    scene.wait_for_attempts();
    let error: String =
        one(&mut scene.db, &format!("select error from audit_algolia.repair where {}", of("one_of_many")));
    assert_eq!(error, "division by zero (22012)");
    scene.run("update t set v = 7 where id = 500");
    scene.wait_for_repairs();
    assert_eq!(scene.stage.standin.index("one_of_many")["500"], json!({"objectID": "500", "v": 7}));
    assert_eq!((scene.ids().len(), scene.counts()), (1000, (0, 1, 0)));
    // Rows that can be captured cause no warning.
    scene.run("insert into t values (2000, 1)");
    assert!(scene.warned().is_empty());
}

#[test]
fn a_row_that_the_filter_turns_down_when_it_is_repaired_is_not_sent() {
    let mut scene = shared("turned_down");
    scene.run(TABLE);
    scene.watch("t", "columns => '{v}', filter => '100 / v < 50'");
    scene.run("insert into t values (1, 0), (2, 0), (3, 0), (4, 50)");
    assert_eq!(scene.warned()[0].message().split(' ').next(), Some("3"));
    scene.run(
        "update t set v = 1 where id = 1; update t set v = 10 where id = 2; update t set v = 20 where id = 3",
    );
    scene.wait_for_repairs();
    assert_eq!(texts(scene.ids()), ["2", "3", "4"]);
}

#[test]
fn a_repaired_change_alerts_and_is_notified() {
    for (name, mode) in [("repaired_alert", "append"), ("repaired_alert_mirror", "mirror")] {
        let mut scene = shared(name);
        let mut listener = Listener::on(scene.stage);
        scene.run(TABLE);
        scene.watch("t", &format!("columns => '{{v}}', mode => '{mode}', alert => '100 / v < 50'"));
        scene.run("insert into t values (1, 0), (2, 4), (3, 1)");
        scene.wait_for_attempts();
        assert_eq!(listener.ids(name), ["2"]);
        scene.run("update t set v = 5 where id = 1");
        scene.wait_for_repairs();
        let index = scene.stage.standin.index(name);
        let alerting = index.iter().filter(|(_, record)| record.get("alert").is_some()).map(|(id, _)| id);
        assert_eq!(texts(alerting), ["1", "2"], "{mode}");
        assert!(listener.ids(name).contains(&"1".to_owned()), "{mode}");
    }
}

#[test]
fn a_repair_leaves_the_writers_lastval_alone() {
    let mut scene = shared("own_lastval");
    scene.run("create table t (id bigserial primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t (v) values (1), (0)");
    assert_eq!(scene.counts(), (1, 1, 0));
    assert_eq!(one::<i64>(&mut scene.db, "select lastval()"), 2);
    scene.run("update t set v = 2");
    scene.wait_for_repairs();
}

#[test]
fn repairs_go_with_the_transaction_that_asked_for_them() {
    let mut scene = shared("with_transactions");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("begin; insert into t values (1, 0); rollback");
    scene.run("begin; insert into t values (2, 0); savepoint a; insert into t values (3, 0), (4, 4); rollback to a; commit");
    assert_eq!((scene.counts(), one::<i64>(&mut scene.db, &noted("with_transactions"))), ((1, 1, 0), 1));
    scene.run("begin; insert into t values (5, 0), (6, 6); prepare transaction 'repair'");
    scene.run("begin; insert into t values (7, 0); prepare transaction 'no_repair'");
    assert_eq!(scene.counts(), (1, 1, 0));
    scene.run("commit prepared 'repair'");
    scene.run("rollback prepared 'no_repair'");
    assert_eq!((scene.counts(), one::<i64>(&mut scene.db, &noted("with_transactions"))), ((2, 2, 0), 2));
    scene.run("update t set v = id where v = 0");
    scene.wait_for_repairs();
    assert_eq!(texts(scene.ids()), ["2", "5", "6"]);
    assert_eq!(scene.counts(), (0, 2, 0));
}

#[test]
fn rows_that_triggers_see_one_by_one_are_left_out_one_by_one() {
    let mut scene = shared("one_by_one");
    scene.run(
        "create table t (id bigint primary key, v int) partition by range (id);
         create table low (v int, gone int, id bigint not null); alter table low drop column gone;
         alter table t attach partition low for values from (0) to (100);
         create table high partition of t for values from (100) to (200)",
    );
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into low (id, v) values (1, 1), (2, 0), (3, 3), (4, 0)");
    let warned = scene.warned();
    assert_eq!(warned.len(), 1, "a statement warns once");
    assert!(warned[0].message().starts_with("a change of table \"low\""), "{:?}", warned[0]);
    scene.run("insert into t values (5, 0), (105, 0), (106, 6)");
    assert_eq!(scene.counts(), (4, 4, 0));
    scene.run("update t set v = 9 where v = 0");
    scene.wait_for_repairs();
    assert_eq!(texts(scene.ids()), ["1", "105", "106", "2", "3", "4", "5"]);
    assert_eq!(scene.stage.standin.index("one_by_one")["2"], json!({"objectID": "2", "v": 9}));
}

#[test]
fn changes_are_told_as_far_as_they_are_known() {
    let mut scene = shared("told_changes");
    scene.run(TABLE);
    scene.watch("t", "columns => '{v}', operations => '{insert, update, delete}'");
    scene.run("set audit_algolia.actor = 'alice'; insert into t values (1, 1), (2, 2), (3, 3)");
    // If a column is missing, no record can be made.
    scene.run("alter table t rename column v to w");
    scene.run("update t set w = 10 where id = 1; delete from t where id = 2; insert into t values (4, 4); delete from t where id = 4");
    assert_eq!(scene.warned().len(), 4);
    scene.run("set audit_algolia.actor = 'bob'");
    scene.wait_for_attempts();
    let error: String = one(
        &mut scene.db,
        &format!("select distinct error from audit_algolia.repair where {}", of("told_changes")),
    );
    assert_eq!(error, "column \"v\" of watched table \"t\" no longer exists");
    let before: Vec<String> = scene.ids();
    scene.run("alter table t rename column w to v");
    scene.wait_for_repairs();
    let mut later: Vec<serde_json::Value> = scene
        .stage
        .standin
        .index("told_changes")
        .into_iter()
        .filter(|(id, _)| !before.contains(id))
        .map(|(_, record)| record)
        .collect();
    later.sort_by_key(|record| {
        record["objectID"].as_str().unwrap().rsplit_once('@').unwrap().1.parse::<i64>().unwrap()
    });
    let mut transactions = Vec::new();
    let told: Vec<serde_json::Value> = later
        .iter_mut()
        .map(|record| {
            let record = record.as_object_mut().unwrap();
            let id = record.remove("objectID").unwrap();
            record.insert("key".into(), id.as_str().unwrap().split('@').next().unwrap().into());
            assert!(record.remove("changed_at").unwrap().is_number());
            transactions.push(record.remove("transaction_id").unwrap());
            serde_json::Value::Object(record.clone())
        })
        .collect();
    assert_eq!(
        told,
        [
            json!({"key": "1", "v": 10, "op": "update", "changed": [], "previous": {}, "changed_by": "alice"}),
            json!({"key": "2", "op": "delete", "changed_by": "alice"}),
            json!({"key": "4", "op": "insert", "changed_by": "alice"}),
            json!({"key": "4", "op": "delete", "changed_by": "alice"}),
        ]
    );
    transactions.dedup();
    assert!(transactions.len() == 1 || transactions.len() == 4, "{transactions:?}");
    // The changes are in the order in which they were made.
    let ids = scene.ids();
    assert_eq!(ids.len(), 7);
}

#[test]
fn a_change_that_was_left_out_has_its_place_in_the_order_of_its_transaction() {
    let mut scene = shared("in_order");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', operations => '{{insert, delete}}', {FILTER}"));
    scene.run(
        "begin; insert into t values (1, 1); insert into t values (2, 0); insert into t values (3, 3); commit",
    );
    scene.run("update t set v = 2 where id = 2");
    scene.wait_for_repairs();
    let mut told: Vec<(i64, String)> = scene
        .ids()
        .into_iter()
        .map(|id| {
            let (key, number) = id.split_once('@').unwrap();
            (number.parse().unwrap(), key.to_owned())
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[test]
fn a_statement_warns_once_of_each_source() {
    let mut scene = shared("each_source");
    scene.run(
        "create table t (id bigint primary key, v int) partition by range (id);
         create table low partition of t for values from (0) to (100)",
    );
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    crate::play::watch(&mut scene.db, "t", "each_source_2", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0), (2, 0), (3, 0), (4, 4)");
    assert_eq!(scene.warned().len(), 2);
    scene.run("update t set v = 1");
    scene.wait_for_repairs();
    assert_eq!(scene.ids().len(), 4);
}

#[test]
fn a_source_that_is_made_anew_takes_over_what_the_one_before_could_not_do() {
    let mut scene = shared("taken_over");
    scene.run(TABLE);
    scene.watch("t", "columns => '{v, who}'");
    scene.run("alter table t drop column who; insert into t select n, n from generate_series(1, 1500) as n");
    assert_eq!(scene.warned().len(), 1);
    assert_eq!(scene.counts(), (1500, 1500, 0));
    scene.run("select audit_algolia.unwatch('t')");
    let waits = format!(
        "select bool_and(error = 'the table is no longer watched') from audit_algolia.repair where {}",
        of("taken_over")
    );
    wait_until("nobody to repair for", SOON, || one::<bool>(&mut scene.db, &waits));
    scene.watch("t", "columns => '{v}'");
    scene.wait_for_repairs();
    assert_eq!(scene.ids().len(), 1500);
}

#[test]
fn many_repairs_that_fail_hold_up_no_other_table() {
    let stage = warning().setting("audit_algolia.retry_max", "5min").start().unwrap();
    let mut scene = Scene::new(&stage, "many_fail");
    scene.run(&format!("{TABLE}; create table other (id bigint primary key, v int)"));
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    crate::play::watch(&mut scene.db, "other", "other", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t select n, 0 from generate_series(1, 1500) as n");
    scene.run("insert into other values (1, 0); update other set v = 1");
    stage.wait_for_records("other", 1);
    assert_eq!(scene.counts(), (1500, 1500, 0));
    // While none can be made, only one step of them is tried at a time.
    let tried =
        format!("select count(*) from audit_algolia.repair where attempts > 0 and {}", of("many_fail"));
    assert!(one::<i64>(&mut scene.db, &tried) < 1500);
    scene.run("update t set v = 1");
    scene.wait_for_repairs();
    assert_eq!(scene.ids().len(), 1500);
}

#[test]
fn what_could_not_be_found_again_fails_as_ever() {
    let mut scene = shared("not_found_again");
    scene.run(
        "create table h (id text primary key, v int);
         create table n (id int, v int)",
    );
    scene.watch("h", &format!("columns => '{{v}}', pseudonymize => '{{id}}', {FILTER}"));
    scene.watch("n", &format!("columns => '{{v}}', object_id => '{{id}}', object_prefix => 'n', {FILTER}"));
    for (statement, why) in [
        ("insert into h values ('alice', 0)", "its key is pseudonymized"),
        ("insert into n values (null, 0)", "a column of its key is null"),
    ] {
        let error = failure(&mut scene.db, statement);
        assert_eq!(error.code().code(), "22012", "{error:?}");
        assert!(error.detail().is_some_and(|detail| detail.contains(why)), "{error:?}");
    }
    scene.run("insert into h values ('bob', 1); insert into n values (1, 1)");
    scene.stage.wait_for_records("not_found_again", 2);
    assert_eq!(scene.counts(), (0, 0, 0));
}

#[test]
fn under_error_the_statement_fails_and_nothing_is_noted() {
    let mut play = crate::play::Play::new("no_warning", TABLE);
    play.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    let error = failure(&mut play.app, "insert into t select n, n - 500 from generate_series(1, 1000) as n");
    assert_eq!(error.code().code(), "22012");
    assert_eq!(one::<i64>(&mut play.admin, "select count(*) from audit_algolia.repair"), 0);
    let admin = &mut play.admin;
    stays_true("nothing queued", MOMENT, || {
        one::<i64>(admin, "select count(*) from audit_algolia.queue_stats() where index_name = 'no_warning' and enqueued_total > 0") == 0
    });
    play.run("insert into t values (1, 1)");
    assert_eq!(play.ids(), ["1"]);
}
