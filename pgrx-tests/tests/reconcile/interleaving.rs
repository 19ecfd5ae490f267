//! What other sessions do between two steps of a comparison: no object whose row exists is deleted, and none is delayed
//! for long.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::json;

use crate::support::{
    lose, mirrored, reconcile, reconcile_stopping, wait_for_empty_queue, well, write, Found,
};

/// A mirrored partitioned table with ten rows, and tables that will become partitions of it and of one of its
/// partitions.
fn partitioned() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text) partition by range (id);
         create table t_0 partition of t for values from (0) to (10);
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t select n, 'x' from generate_series(0, 9) as n;
         create table t_2 partition of t for values from (20) to (40) partition by range (id);
         create table t_1 (like t including all); create table t_21 (like t including all)",
    )
    .unwrap();
    stage.wait_for_records("t", 10);
    wait_for_empty_queue(&mut db);
    (stage, db)
}

/// Attaches a partition and fills it.
const ATTACH: &str = "alter table t attach partition t_1 for values from (10) to (20);
                      insert into t values (11, 'theirs')";
const ATTACH_BELOW: &str = "alter table t_2 attach partition t_21 for values from (20) to (30);
                            insert into t values (21, 'theirs')";

#[test]
fn rows_of_a_partition_attached_meanwhile_are_no_orphans() {
    let (stage, mut db) = partitioned();
    let found = reconcile_stopping(&stage, "before orphans", "'t', repair => true", || {
        db.batch_execute(ATTACH).unwrap();
        stage.wait_for_records("t", 11);
        wait_for_empty_queue(&mut db);
        false
    });
    assert_eq!(found, well(10));
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["11"]["v"], json!("theirs"));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
}

#[test]
fn an_orphan_whose_row_comes_with_a_partition_before_it_is_repaired_stays() {
    let (stage, mut db) = partitioned();
    write(&stage, "t", "addObject", &[json!({"objectID": "11", "v": "?"})]);
    let found = reconcile_stopping(&stage, "before a correction", "'t', repair => true", || {
        db.batch_execute(ATTACH).unwrap();
        wait_until("their row", SOON, || stage.standin.index("t")["11"]["v"] == json!("theirs"));
        wait_for_empty_queue(&mut db);
        false
    });
    assert_eq!(Found { repaired: 0, ..found }, Found { checked: 10, orphaned: 1, ..Found::default() });
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["11"]["v"], json!("theirs"));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
}

#[test]
fn while_somebody_is_attaching_a_partition_nothing_is_deleted() {
    let (stage, mut db) = partitioned();
    for (attach, id, rows) in [(ATTACH, "11", 10), (ATTACH_BELOW, "21", 11)] {
        write(&stage, "t", "addObject", &[json!({"objectID": id, "v": "?"})]);
        lose(&stage, "t", &["3"]);
        db.batch_execute("begin").unwrap();
        let found = reconcile_stopping(&stage, "before a correction", "'t', repair => true", || {
            db.batch_execute(attach).unwrap();
            false
        });
        assert_eq!(found, Found { checked: rows, missing: 1, orphaned: 1, repaired: 1, different: 0 });
        db.batch_execute("commit").unwrap();
        wait_for_empty_queue(&mut db);
        assert_eq!(stage.standin.index("t")[id]["v"], json!("theirs"));
        assert_eq!(reconcile(&mut db, "'t'"), well(rows + 1));
    }
    // Once they have committed, everything is repaired.
    write(&stage, "t", "addObject", &[json!({"objectID": "12", "v": "?"})]);
    let found = Found { checked: 12, orphaned: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
}

#[test]
fn a_row_that_is_moved_whenever_all_rows_are_looked_at_is_no_orphan() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    // A row fills a page, so an update moves it behind all others, where a scan that has begun does not reach it. The
    // update does not affect the index.
    db.batch_execute(
        "create table t (who text primary key, v text, hits int not null default 0, pad text not null)
             with (autovacuum_enabled = off);
         alter table t alter column pad set storage plain;
         select audit_algolia.watch('t', columns => '{who, v}', pseudonymize => '{who}', mode => 'mirror');
         insert into t select 'user ' || n, 'x', 0, repeat('x', 5000) from generate_series(1, 5) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 5);
    wait_for_empty_queue(&mut db);
    let found = reconcile_stopping(&stage, "in look", "'t', repair => true", || {
        db.batch_execute("update t set hits = hits + 1 where who = 'user 5'").unwrap();
        true
    });
    assert_eq!(found, well(5));
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t").len(), 5);
}

#[test]
fn a_row_that_only_the_second_look_shows_is_left_to_its_own_change() {
    let (stage, mut db) = mirrored(Stage::builder(), "int", 5);
    write(&stage, "t", "addObject", &[json!({"objectID": "11", "v": "?"})]);
    // It is looked up when it becomes a mismatch, when it is confirmed, and when it is repaired.
    let mut looks = 0;
    let found = reconcile_stopping(&stage, "between looks", "'t', repair => true", || {
        looks += 1;
        if looks == 3 {
            db.batch_execute("insert into t values (11, 'theirs')").unwrap();
        }
        looks < 3
    });
    assert_eq!((looks, found), (3, Found { checked: 5, orphaned: 1, ..Found::default() }));
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["11"]["v"], json!("theirs"));
}

#[test]
fn changes_of_what_will_be_repaired_are_delivered_while_the_rest_is_compared() {
    let (stage, mut db) = mirrored(Stage::builder(), "int", 5);
    lose(&stage, "t", &["1", "2"]);
    // The rows have been compared by now, and the index is next.
    let found = reconcile_stopping(&stage, "before orphans", "'t', repair => true", || {
        db.batch_execute("update t set v = 'new' where id = 1").unwrap();
        wait_until("the change", SOON, || stage.standin.index("t").contains_key("1"));
        // What is in flight is not repaired.
        let under_way = "select sum(in_flight)::bigint from audit_algolia.queue_stats()";
        wait_until("its settlement", SOON, || db.query_one(under_way, &[]).unwrap().get::<_, i64>(0) == 0);
        false
    });
    assert_eq!(found, Found { checked: 5, missing: 2, repaired: 2, ..Found::default() });
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["1"]["v"], json!("new"));
    assert_eq!(reconcile(&mut db, "'t'"), well(5));
}

#[test]
fn a_table_that_takes_anothers_name_meanwhile_is_not_taken_for_it() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id bigint primary key, v text); create table t_new (like t including all);
         select audit_algolia.watch('t', columns => '{v}');
         insert into t select n, 'x' from generate_series(1, 5) as n;
         insert into t_new select n, 'secret' from generate_series(11, 13) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 5);
    wait_for_empty_queue(&mut db);
    let mut caller = stage.admin();
    let pid: i32 = caller.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    db.batch_execute("begin; alter table t rename to t_old; alter table t_new rename to t").unwrap();
    let found = std::thread::scope(|scope| {
        let call = scope.spawn(move || reconcile(&mut caller, "'t', repair => true"));
        let mut witness = stage.admin();
        wait_until("a lock to be waited for", SOON, || {
            let query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1";
            witness.query_one(query, &[&pid]).unwrap().get::<_, Option<bool>>(0) == Some(true)
        });
        db.batch_execute("commit").unwrap();
        call.join().unwrap()
    });
    assert_eq!(found, well(5));
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t").len(), 5);
}

#[test]
fn a_partition_attached_while_rows_are_being_read_is_looked_into_until_the_end() {
    // Mismatches are confirmed ten thousand at a time, the first of them while the table is still being read.
    const ROWS: i64 = 21_000;
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(&format!(
        "create table t (id int primary key, v text) partition by range (id);
         create table t_0 partition of t for values from (1) to ({});
         create table t_1 (like t including all);
         insert into t select n, 'x' from generate_series(1, {ROWS}) as n;
         select audit_algolia.watch('t', columns => '{{v}}', mode => 'mirror')",
        ROWS + 1
    ))
    .unwrap();
    let (theirs, orphan) = (ROWS + 1, ROWS + 2);
    write(&stage, "t", "addObject", &[json!({"objectID": orphan.to_string(), "v": "?"})]);
    let found = reconcile_stopping(&stage, "between looks", "'t'", || {
        db.batch_execute(&format!(
            "alter table t attach partition t_1 for values from ({theirs}) to ({});
             insert into t values ({theirs}, 'theirs')",
            ROWS + 100
        ))
        .unwrap();
        stage.wait_for_records("t", 2);
        wait_for_empty_queue(&mut db);
        false
    });
    assert_eq!(found, Found { checked: ROWS, missing: ROWS, orphaned: 1, ..Found::default() });
}
