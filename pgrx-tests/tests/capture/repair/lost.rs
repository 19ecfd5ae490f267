//! Changes that can no longer be repaired, and changes that need not be.

use audit_algolia_tests::wait::eventually;
use serde_json::json;

use super::*;

const TABLE: &str = "create table t (id bigint primary key, v int)";

#[test]
fn a_row_that_has_gone_becomes_a_dead_letter_with_its_key() {
    let mut scene = shared("gone");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{id, v}}', {FILTER}"));
    scene.run("begin; insert into t values (1, 0), (2, 0); delete from t where id < 3; commit");
    wait_until("dead letters", SOON, || scene.counts() == (0, 2, 2));
    let letters = scene
        .db
        .query("select object_id, record, error, http_status from audit_algolia.dead_letters where index_name = 'gone' order by 1", &[])
        .unwrap();
    let told: Vec<(String, serde_json::Value, String, Option<i32>)> =
        letters.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(told[0].1, json!({"objectID": "1", "id": 1}));
    assert_eq!((told[1].0.as_str(), told[1].3), ("2", None));
    assert_eq!(told[0].2, "not captured: division by zero (22012); only the row's key is still known");
    let ids: Vec<i64> = scene
        .db
        .query("select id from audit_algolia.dead_letters where index_name = 'gone' and object_id = '1'", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let redriven: i64 =
        scene.db.query_one("select audit_algolia.redrive('gone', $1)", &[&ids]).unwrap().get(0);
    assert_eq!(redriven, 1);
    scene.stage.wait_for_records("gone", 1);
    assert_eq!(one::<i64>(&mut scene.db, "select audit_algolia.discard('gone')"), 1);
    assert_eq!(scene.counts(), (0, 2, 0));
}

#[test]
fn of_rows_with_the_same_key_none_is_taken_for_another() {
    let mut scene = shared("same_key");
    scene.run("create table t (id bigint, v int)");
    scene.watch("t", &format!("columns => '{{v}}', object_id => '{{id}}', {FILTER}"));
    scene.run("insert into t values (1, 0), (1, 0), (2, 0); update t set v = 1");
    wait_until("dead letters", SOON, || scene.counts() == (0, 3, 2));
    scene.stage.wait_for_records("same_key", 1);
    assert_eq!(scene.ids(), ["2"]);
}

#[test]
fn a_key_that_leads_to_no_row_any_more_ends_as_a_dead_letter() {
    for mode in ["append", "mirror"] {
        let mut scene = shared(&format!("other_key_{mode}"));
        scene.run("create table t (a bigint not null unique, b bigint not null unique, v int)");
        let rules = format!("columns => '{{v}}', mode => '{mode}', {FILTER}, object_id =>");
        scene.watch("t", &format!("{rules} '{{a}}'"));
        // The first row remains, the second is deleted.
        scene.run("insert into t values (1, 10, 0), (2, 20, 0)");
        scene.wait_for_attempts();
        // In one transaction. Otherwise a repair in between would find that the table is not watched and store that as
        // the reason.
        scene.run("begin; select audit_algolia.unwatch('t'); delete from t where a = 2; update t set v = 1");
        scene.watch("t", &format!("{rules} '{{b}}'"));
        scene.run("commit");
        wait_until("the end", SOON, || {
            let (waiting, _, dead) = scene.counts();
            (waiting, dead) == (0, 1)
        });
        scene.stage.wait_for_records(&scene.name, 1);
        assert_eq!(scene.ids(), ["10"], "{mode}");
        let letter = scene
            .db
            .query_one(
                "select object_id, record, error from audit_algolia.dead_letters where index_name = $1",
                &[&scene.name],
            )
            .unwrap();
        assert_eq!((letter.get(0), letter.get(1)), ("2".to_owned(), json!({"objectID": "2"})), "{mode}");
        assert_eq!(
            letter.get::<_, String>(2),
            "not captured: division by zero (22012); its key is not the one by which the table is now watched"
        );
    }
}

#[test]
fn a_change_whose_key_column_is_gone_is_not_looked_for_for_ever() {
    let mut scene = shared("renamed_key");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0)");
    scene.run("select audit_algolia.unwatch('t'); alter table t rename column id to key");
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    wait_until("the end", SOON, || scene.counts() == (0, 1, 1));
    scene.run("select audit_algolia.discard('renamed_key')");
}

#[test]
fn a_change_whose_key_column_has_another_type_is_not_looked_for_for_ever() {
    let mut scene = shared("retyped_key");
    scene.run("create table t (id text primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values ('three', 0), ('7', 0)");
    scene.wait_for_attempts();
    scene.run("alter table t alter column id type bigint using case id when '7' then 7 else 3 end");
    wait_until("the end", SOON, || scene.counts() == (1, 2, 1));
    scene.run("update t set v = 1");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["7"]);
    scene.run("select audit_algolia.discard('retyped_key')");
}

#[test]
fn with_the_table_its_repairs_go() {
    let mut scene = shared("dropped");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0), (2, 0)");
    scene.wait_for_attempts();
    scene.run("drop table t");
    scene.wait_for_repairs();
    assert_eq!(scene.counts(), (0, 2, 0));
}

#[test]
fn repairs_deleted_by_hand_are_not_counted_for_long() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "by_hand");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0), (2, 0)");
    scene.wait_for_attempts();
    scene.run("delete from audit_algolia.repair");
    scene.wait_for_repairs();
    assert_eq!(scene.counts(), (0, 2, 0));
}

#[test]
fn the_process_leaves_when_nothing_waits() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "leaves_again");
    let there = "select count(*) from pg_stat_activity where backend_type = 'audit_algolia backfill'";
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0)");
    eventually("a process", SOON, || (one::<i64>(&mut scene.db, there) == 1).then_some(()));
    scene.run("update t set v = 1");
    scene.wait_for_repairs();
    wait_until("it to leave", SOON, || one::<i64>(&mut scene.db, there) == 0);
    scene.run("insert into t values (2, 0); update t set v = 2 where id = 2");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["1", "2"]);
}
