//! Repairs of mirrored tables: afterwards the index holds the rows of the table, whatever happened meanwhile.

use std::collections::BTreeMap;

use audit_algolia_tests::wait::stays_true;
use nix::sys::signal::Signal;

use super::*;

const TABLE: &str = "create table t (id bigint primary key, v int)";

/// Asserts that the index holds the rows of the table.
#[track_caller]
fn assert_holds(scene: &mut Scene<'_>) {
    let rows = scene.db.query("select id::text, v from t", &[]).unwrap();
    let rows: BTreeMap<String, i64> =
        rows.iter().map(|row| (row.get(0), i64::from(row.get::<_, i32>(1)))).collect();
    let held = scene.stage.standin.index(&scene.name);
    let held: BTreeMap<String, i64> =
        held.into_iter().map(|(id, record)| (id, record["v"].as_i64().unwrap())).collect();
    assert_eq!(held, rows);
}

#[test]
fn a_change_that_was_left_out_is_made_good() {
    let mut scene = shared("made_good");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t select n, n from generate_series(1, 10) as n");
    scene.stage.wait_for_records("made_good", 10);
    // While changes cannot be captured, the index holds the old rows.
    scene.run("update t set v = 0 where id in (2, 3, 4, 5)");
    assert_eq!(scene.warned().len(), 1);
    scene.wait_for_attempts();
    assert_eq!(scene.stage.standin.index("made_good")["2"]["v"], 2);
    scene.run("update t set v = 20 where id = 2");
    scene.run("delete from t where id = 3");
    scene.run("update t set v = 40, id = 41 where id = 4");
    scene.run("begin; delete from t where id = 5; insert into t values (5, 50); commit");
    scene.wait_for_repairs();
    assert_holds(&mut scene);
}

#[test]
fn deletions_moves_and_truncation_are_made_good() {
    let mut scene = shared("moves");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t select n, n from generate_series(1, 8) as n");
    scene.stage.wait_for_records("moves", 8);
    // The filter fails for the old version too, so the deletion itself is missing.
    scene.run("update t set v = 0 where id < 5; delete from t where id = 1; update t set id = 22, v = 22 where id = 2");
    scene.run("update t set id = 33 where id = 3");
    scene.run("update t set v = 33 where id = 33; update t set v = 4 where id = 4");
    scene.wait_for_repairs();
    assert_holds(&mut scene);
    scene.run("update t set v = 0 where id in (4, 5); truncate t");
    scene.wait_for_repairs();
    assert_holds(&mut scene);
    // Other rows get the same keys.
    scene.run("insert into t values (1, 0), (2, 2); update t set v = 5 where id = 1");
    scene.wait_for_repairs();
    assert_holds(&mut scene);
}

#[test]
fn a_row_that_leaves_the_filter_when_it_is_repaired_leaves_the_index() {
    let mut scene = shared("leaves");
    scene.run(TABLE);
    scene.watch("t", "columns => '{v}', mode => 'mirror', filter => '100 / v > 1'");
    scene.run("insert into t values (1, 1), (2, 2), (3, 3)");
    scene.stage.wait_for_records("leaves", 3);
    scene.run("update t set v = 0 where id = 1");
    scene.wait_for_attempts();
    // From 0 to 100. In the trigger, the filter fails for the old version again.
    scene.run("update t set v = 100 where id = 1");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["2", "3"]);
}

#[test]
fn keys_that_are_equal_and_not_the_same_text_are_two_objects() {
    let mut scene = shared("equal_keys");
    scene.run("create table t (id numeric primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t values (1.0, 1), (2, 2), (3.0, 3)");
    scene.stage.wait_for_records("equal_keys", 3);
    scene.run("update t set id = 1.00, v = 0 where id = 1");
    scene.run("begin; update t set v = 0 where id = 3; delete from t where id = 3; insert into t values (3.00, 33); commit");
    scene.run("update t set v = 11 where id = 1");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["1.00", "2", "3.00"]);
    assert_holds(&mut scene);
}

#[test]
fn a_key_that_its_domain_would_not_take_any_more_leads_to_its_row() {
    let mut scene = shared("domain_key");
    scene.run("create domain key as bigint");
    scene.run("create table t (id key primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t values (1, 1), (2, 2)");
    scene.stage.wait_for_records("domain_key", 2);
    scene.run("update t set v = 0 where id = 2");
    scene.run("alter domain key add constraint later check (value <> 2) not valid");
    scene.run("update t set v = 20 where id = 2");
    scene.wait_for_repairs();
    assert_holds(&mut scene);
}

#[test]
fn a_repair_waits_for_whoever_is_changing_the_row() {
    let mut scene = shared("waits");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t values (1, 1), (2, 0)");
    scene.stage.wait_for_records("waits", 1);
    let mut other = scene.stage.admin();
    other
        .batch_execute("set search_path = waits; begin; update t set v = 2 where id = 2; savepoint s")
        .unwrap();
    stays_true("waits", MOMENT, || scene.counts().0 > 0);
    other.batch_execute("commit").unwrap();
    scene.wait_for_repairs();
    assert_holds(&mut scene);
}

/// A held object delays newer versions, and is released with the step, even if the process is ended during it.
#[test]
fn a_row_that_comes_back_while_its_absence_is_being_queued_stays() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "comes_back");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t values (1, 1)");
    stage.wait_for_records("comes_back", 1);
    let order = stage.cluster.data_dir().join("audit_algolia.failpoint");
    let held = |v: i64| stage.standin.index("comes_back").get("1").is_some_and(|record| record["v"] == v);
    for (signals, v) in [(&[Signal::SIGCONT][..], 2), (&[Signal::SIGTERM, Signal::SIGCONT], 3)] {
        std::fs::write(&order, "in repair stop").unwrap();
        // The repair finds no row, and stops before it queues the deletion.
        scene.run("begin; update t set v = 0; delete from t; commit");
        wait_until("the stop", SOON, || !order.exists());
        let pid: i32 = one(
            &mut scene.db,
            "select pid from pg_stat_activity where backend_type = 'audit_algolia backfill'",
        );
        scene.run(&format!("insert into t values (1, {v})"));
        stays_true("the row waits", MOMENT, || held(v - 1));
        for signal in signals {
            stage.cluster.kill_backend(pid, *signal).unwrap();
        }
        wait_until("the row", SOON, || held(v));
        scene.wait_for_repairs();
        assert_holds(&mut scene);
    }
}

#[test]
fn whatever_is_changed_at_the_same_time_the_index_equals_the_table_in_the_end() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "same_time");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t select n, n from generate_series(1, 20) as n");
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let stage = &stage;
            scope.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed);
                let mut db = stage.admin();
                db.batch_execute("set search_path = same_time; set client_min_messages = error").unwrap();
                for _ in 0..400 {
                    let (id, v) = (dice.i64(1..=20), dice.i32(0..4));
                    let statement = match dice.u8(0..5) {
                        0 => format!("delete from t where id = {id}"),
                        1 => format!("update t set v = {v} where id between {id} and {id} + 2"),
                        2 => format!("update t set id = id + 20 where id = {id}; update t set id = id - 20 where id = {id} + 20"),
                        3 => format!("begin; update t set v = {v} where id = {id}; update t set v = {v} + 1 where id = {id}; commit"),
                        _ => format!("insert into t values ({id}, {v}) on conflict (id) do update set v = excluded.v"),
                    };
                    // Some conflict with each other's locks or keys.
                    if db.batch_execute(&statement).is_err() {
                        db.batch_execute("rollback").unwrap();
                    }
                }
            });
        }
    });
    assert!(scene.counts().1 > 50, "{:?}", scene.counts());
    scene.run("update t set v = v + 1");
    scene.wait_for_repairs();
    assert_holds(&mut scene);
}
