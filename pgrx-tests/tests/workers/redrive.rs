//! Dead letters are counted exactly, put back and discarded, and delay nothing.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::dead_letters::{dead, insert_with_poison, strict};
use crate::support::*;

/// The dead letters 1 to 6 of the index `log`.
fn with_letters(stage: &Stage) -> Client {
    let mut db = staged(stage, "log");
    insert_with_poison(&mut db, "log", 1..=6, &[1, 2, 3, 4, 5, 6]);
    wait_until("the letters", SOON, || queue(&mut db, "log").dead == 6);
    db
}

fn call(db: &mut Client, call: &str) -> i64 {
    one(db, &format!("select audit_algolia.{call}"))
}

#[test]
fn what_is_put_back_is_delivered_newest_first_once_it_is_taken() {
    let stage = strict()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 1)
        .setting("audit_algolia.batch_rows", 1)
        .start()
        .unwrap();
    let mut db = with_letters(&stage);
    // The cause is not fixed yet, so they become dead letters again.
    assert_eq!(call(&mut db, "redrive('log')"), 6);
    wait_until("the letters", SOON, || queue(&mut db, "log").dead_total == 12);
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").dead, 6);
    stage.standin.set_max_record_bytes(10_000);
    assert_eq!(call(&mut db, "redrive()"), 6);
    stage.wait_for_records("log", 6);
    wait_for_empty_queue(&mut db);
    assert_eq!(sent(&stage.standin, "log"), [6, 5, 4, 3, 2, 1]);
    let seen = queue(&mut db, "log");
    assert_eq!((seen.dead, seen.enqueued_total, seen.delivered_total), (0, 6 + 12, 6));
    assert_eq!(call(&mut db, "redrive()"), 0);
}

#[test]
fn more_letters_than_fit_in_one_go_are_put_back_in_order() {
    let stage = Stage::builder().setting("audit_algolia.max_record_bytes", 100).start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("insert into log select n, repeat('x', 200) from generate_series(1, 1000) n").unwrap();
    wait_until("the letters", SOON, || queue(&mut db, "log").dead == 1000);
    db.batch_execute("select audit_algolia.pause()").unwrap();
    stage.cluster.set(&[("audit_algolia.max_record_bytes", "1000")]).unwrap();
    wait_until("the limit", SOON, || {
        one::<String>(&mut db, "show audit_algolia.max_record_bytes") == "1000B"
    });
    assert_eq!(call(&mut db, "redrive('log')"), 1000);
    let ordered = "select bool_and(place = object_id) from (
        select row_number() over (order by id), (record::json ->> 'objectID')::bigint from audit_algolia.queue
    ) as q (place, object_id)";
    assert!(one::<bool>(&mut db, ordered));
    db.batch_execute("select audit_algolia.resume()").unwrap();
    stage.wait_for_records("log", 1000);
    assert_each_once(&stage.standin, "log", 1..=1000);
}

#[test]
fn letters_are_chosen_by_index_and_id() {
    let stage = strict().start().unwrap();
    let mut db = with_letters(&stage);
    watch(&mut db, "other");
    insert_with_poison(&mut db, "other", 1..=2, &[1, 2]);
    wait_until("the letters", SOON, || queue(&mut db, "other").dead == 2);
    let ids: Vec<i64> = db
        .query("select id from audit_algolia.dead_letters order by index_name, object_id", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(call(&mut db, "discard(ids => '{}')"), 0);
    // Ids that are unknown or belong to another index do not count.
    let chosen = format!("discard('log', array[{}, {}, 987654321, null])", ids[0], ids[7]);
    assert_eq!(call(&mut db, &chosen), 1);
    assert_eq!(dead(&mut db, "log"), [2, 3, 4, 5, 6]);
    assert_eq!(call(&mut db, &format!("discard(ids => array[{}, {}])", ids[1], ids[6])), 2);
    assert_eq!((dead(&mut db, "log"), dead(&mut db, "other")), (vec![3, 4, 5, 6], vec![2]));
    stage.standin.set_max_record_bytes(10_000);
    assert_eq!(call(&mut db, &format!("redrive('log', array[{}, {}, 987654321, null])", ids[2], ids[7])), 1);
    assert_eq!(call(&mut db, &format!("redrive(ids => array[{}]::bigint[])", ids[7])), 1);
    assert_eq!(call(&mut db, "redrive('log', '{}')"), 0);
    stage.wait_for_records("log", 1);
    stage.wait_for_records("other", 1);
    assert_eq!(
        (dead(&mut db, "log"), queue(&mut db, "log").dead, queue(&mut db, "other").dead),
        (vec![4, 5, 6], 3, 0)
    );
    for function in ["redrive", "discard"] {
        let error = db.query_one(&format!("select audit_algolia.{function}('nowhere')"), &[]).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.message()), ("42704", "index \"nowhere\" does not exist"));
        assert!(error.hint().unwrap().contains("queue_stats"));
    }
}

#[test]
fn letters_follow_transactions_savepoints_and_two_phase_commits() {
    let stage = strict().start().unwrap();
    let mut db = with_letters(&stage);
    stage.standin.set_max_record_bytes(10_000);
    let three = "array(select id from audit_algolia.dead_letters order by id limit 3)";
    db.batch_execute(&format!(
        "begin;
         select audit_algolia.redrive(ids => {three});
         rollback;
         begin;
         savepoint s;
         select audit_algolia.redrive();
         rollback to s;
         select audit_algolia.discard(ids => {three});
         rollback to s;
         commit",
    ))
    .unwrap();
    let seen = queue(&mut db, "log");
    assert_eq!((seen.dead, seen.queued, seen.enqueued_total), (6, 0, 6));
    assert_eq!(dead(&mut db, "log"), [1, 2, 3, 4, 5, 6]);
    db.batch_execute(
        "begin;
         select audit_algolia.discard(ids => array(select id from audit_algolia.dead_letters where object_id = '1'));
         savepoint s;
         select audit_algolia.redrive(ids => array(select id from audit_algolia.dead_letters where object_id = '2'));
         release s;
         prepare transaction 'letters'",
    )
    .unwrap();
    assert_eq!(queue(&mut db, "log").dead, 6);
    db.batch_execute("commit prepared 'letters'").unwrap();
    stage.wait_for_records("log", 1);
    wait_for_empty_queue(&mut db);
    let seen = queue(&mut db, "log");
    assert_eq!((seen.dead, seen.enqueued_total), (4, 7));
    assert_eq!(dead(&mut db, "log"), [3, 4, 5, 6]);
}

#[test]
fn dead_letters_are_counted_again_after_each_kind_of_restart() {
    let stage = strict().start().unwrap();
    drop(with_letters(&stage));
    for (mode, left) in [(StopMode::Fast, 5), (StopMode::Immediate, 4)] {
        stage.cluster.restart(mode).unwrap();
        let mut db = stage.admin();
        // Exact from the first moment on, and when the counters are used again.
        assert_eq!(queue(&mut db, "log").dead, left + 1);
        let oldest = "discard(ids => array(select min(id) from audit_algolia.dead_letters))";
        assert_eq!(call(&mut db, oldest), 1);
        wait_until("an end of the count", SOON, || {
            let counters =
                "select count(*) from pg_stat_activity where backend_type = 'audit_algolia counter'";
            one::<i64>(&mut db, counters) == 0 && queue(&mut db, "log").state == "idle"
        });
        assert_eq!(queue(&mut db, "log").dead, left);
    }
}

#[test]
fn dead_letters_outlive_the_watch_and_keep_their_index() {
    let stage = strict().start().unwrap();
    let mut db = with_letters(&stage);
    db.batch_execute("select audit_algolia.unwatch('log'); drop table log").unwrap();
    assert_eq!(dead(&mut db, "log"), [1, 2, 3, 4, 5, 6]);
    stage.standin.set_max_record_bytes(10_000);
    assert_eq!(call(&mut db, "redrive('log')"), 6);
    stage.wait_for_records("log", 6);
    db.batch_execute("drop extension audit_algolia; create extension audit_algolia").unwrap();
    watch(&mut db, "log");
    insert_with_poison(&mut db, "log", 11..=13, &[12]);
    stage.standin.set_max_record_bytes(1000);
    insert_with_poison(&mut db, "log", 21..=23, &[22]);
    wait_for_empty_queue(&mut db);
    assert!(dead(&mut db, "log").contains(&22));
}

#[test]
fn whoever_locks_the_dead_letters_holds_up_only_burials() {
    let stage = strict().setting("audit_algolia.workers", 1).start().unwrap();
    let mut db = staged(&stage, "log");
    let mut locker = stage.admin();
    locker.batch_execute("begin; lock audit_algolia.dead_letter").unwrap();
    insert_with_poison(&mut db, "log", 1..=10, &[5]);
    stage.wait_for_records("log", 9);
    insert(&mut db, "log", 11..=20);
    stage.wait_for_records("log", 19);
    wait_until("a settlement", SOON, || one::<i64>(&mut db, "select count(*) from audit_algolia.queue") == 1);
    locker.batch_execute("commit").unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(dead(&mut db, "log"), [5]);
    assert_each_once(&stage.standin, "log", (1..=20).filter(|id| *id != 5));
}

#[test]
fn ids_and_complaints_in_other_encodings_can_be_stored() {
    let stage = strict().start().unwrap();
    stage
        .admin()
        .batch_execute("create database latin template template0 encoding 'LATIN1' locale 'C'")
        .unwrap();
    let mut db = stage.cluster.client("latin", "postgres");
    db.batch_execute(
        "create extension audit_algolia;
         create table t (id text primary key, v text);
         select audit_algolia.watch('t', columns => '{v}');
         insert into t values ('gut', 'ä'), ('böse', repeat('ä', 2000))",
    )
    .unwrap();
    stage.wait_for_records("t", 1);
    wait_until("the letter", SOON, || queue(&mut db, "t").dead == 1);
    assert_eq!(one::<String>(&mut db, "select object_id from audit_algolia.dead_letters"), "b\\u00f6se");
    stage.standin.set_max_record_bytes(10_000);
    assert_eq!(call(&mut db, "redrive('t')"), 1);
    stage.wait_for_records("t", 2);
    assert_eq!(stage.standin.index("t")["böse"]["v"].as_str().unwrap().chars().count(), 2000);
}
