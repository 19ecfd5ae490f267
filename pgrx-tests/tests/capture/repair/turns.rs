//! Repairs take turns: an obstacle to one does not block the others.

use audit_algolia_tests::wait::stays_true;

use super::*;

#[test]
fn a_table_that_is_locked_holds_up_no_other() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "locked");
    scene.run("create table a (id bigint primary key, v int); create table b (id bigint primary key, v int)");
    for table in ["a", "b"] {
        crate::play::watch(&mut scene.db, table, table, &format!("columns => '{{v}}', {FILTER}"));
        scene.run(&format!("insert into {table} values (1, 0)"));
    }
    let mut other = stage.admin();
    other.batch_execute("begin; lock table locked.a in access exclusive mode").unwrap();
    stays_true("locked", MOMENT, || counts(&mut scene.db, "a").0 == 1);
    scene.run("update b set v = 1");
    stage.wait_for_records("b", 1);
    other.batch_execute("rollback").unwrap();
    scene.run("update a set v = 1");
    stage.wait_for_records("a", 1);
}

/// A filter that fails for 0, and for -1 with an error that is the server's fault.
const FAILS: &str = "create or replace function fails(int) returns boolean language plpgsql stable as $$
    begin
        if $1 < 0 then raise serialization_failure; end if;
        return 100 / $1 <> 1000;
    end $$";

#[test]
fn an_error_that_is_about_the_server_postpones_one_repair_and_no_other() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "server_errs");
    scene.run(&format!("create table t (id bigint primary key, v int); {FAILS}"));
    scene.watch("t", "columns => '{v}', filter => 'server_errs.fails(v)'");
    scene.run("insert into t values (1, 0), (2, 0), (3, 0)");
    assert_eq!(scene.counts().0, 3);
    scene.run("update t set v = case id when 2 then -1 else 1 end");
    stage.wait_for_records("server_errs", 2);
    let noted = "select attempts, error from audit_algolia.repair";
    wait_until("the cause", SOON, || {
        let row = scene.db.query_one(noted, &[]).unwrap();
        row.get::<_, i32>(0) >= 2 && row.get::<_, String>(1).contains("(40001)")
    });
    scene.run("update t set v = 2 where id = 2");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["1", "2", "3"]);
}

#[test]
fn what_a_slow_step_has_made_is_settled_before_the_rest() {
    const ROWS: i64 = 40;
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "slow");
    scene.run(
        "create table t (id bigint primary key, v int);
         create function slow(int) returns boolean language plpgsql stable as $$
             begin if 1 / $1 > 0 then perform pg_sleep(0.1); end if; return true; end $$",
    );
    scene.watch("t", "columns => '{v}', filter => 'slow.slow(v)'");
    scene.run(&format!("insert into t select n, 0 from generate_series(1, {ROWS}) as n"));
    // All of them are due at once.
    let mut other = stage.admin();
    other.batch_execute("begin; lock table audit_algolia.repair in share mode").unwrap();
    scene.run("update t set v = 1");
    stays_true("kept", MOMENT, || scene.counts().0 == ROWS);
    other.batch_execute("rollback").unwrap();
    wait_until("some of them", SOON, || (1..ROWS).contains(&scene.counts().0));
    scene.wait_for_repairs();
    assert_eq!(scene.ids().len() as i64, ROWS);
}

#[test]
fn repairs_that_somebody_has_locked_hold_up_no_others() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "rows_locked");
    scene.run("create table t (id bigint primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0), (2, 0)");
    let mut other = stage.admin();
    other.batch_execute("begin; select from audit_algolia.repair where key = '{1}' for update").unwrap();
    scene.run("update t set v = 1");
    stage.wait_for_records("rows_locked", 1);
    assert_eq!(scene.ids(), ["2"]);
    other.batch_execute("rollback").unwrap();
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["1", "2"]);
}

#[test]
fn a_record_that_the_queue_refuses_postpones_one_repair_and_no_other() {
    let stage = warning().start().unwrap();
    let mut scene = Scene::new(&stage, "refused");
    scene.run("create table t (id bigint primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values (1, 0), (2, 0), (3, 0)");
    scene.run(
        "begin;
         create function refuse() returns trigger language plpgsql as $$
             begin if new.record like '%77%' then raise 'not this one'; end if; return new; end $$;
         create trigger refuse before insert on audit_algolia.queue for each row execute function refuse();
         update t set v = case id when 2 then 77 else 1 end;
         commit",
    );
    stage.wait_for_records("refused", 2);
    let noted = "select attempts, error from audit_algolia.repair";
    wait_until("the cause", SOON, || {
        let row = scene.db.query_one(noted, &[]).unwrap();
        row.get::<_, i32>(0) >= 2 && row.get::<_, String>(1).contains("(P0001)")
    });
    scene.run("drop trigger refuse on audit_algolia.queue");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["1", "2", "3"]);
}
