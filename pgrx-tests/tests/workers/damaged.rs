//! Records that PostgreSQL can no longer read: each waits separately, delays nothing else, and is delivered when the
//! damage is repaired.

use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// The length of a note that is not stored within the row.
const LONG: usize = 20_000;

fn stage() -> StageBuilder {
    Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "500ms")
}

fn table(db: &mut Client, mode: &str) {
    db.batch_execute(&format!(
        "create table log (id bigint primary key, note text);
         select audit_algolia.watch('log', columns => '{{note}}', mode => '{mode}');
         alter table audit_algolia.queue alter record set storage external;
         create schema surgery;
         create extension pg_surgery schema surgery;
         select audit_algolia.pause('log')"
    ))
    .unwrap();
    wait_for_state(db, "log", "paused");
}

fn insert_long(db: &mut Client, ids: std::ops::RangeInclusive<i64>) {
    let insert =
        format!("insert into log select n, repeat('x', {LONG}) from generate_series($1::bigint, $2) as n");
    db.execute(&insert, &[ids.start(), ids.end()]).unwrap();
}

/// The TOAST table of the queue.
fn toast(db: &mut Client) -> String {
    one(db, "select reltoastrelid::regclass::text from pg_class where oid = 'audit_algolia.queue'::regclass")
}

/// Deletes a chunk of the record of the row with this id.
fn damage(db: &mut Client, id: i64, piece: i32) {
    let toast = toast(db);
    // Values get their chunk ids in the order of the rows.
    let place: String = one(
        db,
        &format!(
            "select t.ctid::text from {toast} as t
             where t.chunk_seq = {piece} and t.chunk_id = (
                 select distinct chunk_id from {toast} order by chunk_id offset {id} - 1 limit 1
             )"
        ),
    );
    db.batch_execute(&format!("select surgery.heap_force_kill('{toast}', array['{place}'::tid])")).unwrap();
}

/// Writes the record of the row with this id again. It is the only one that is left of the first rows.
fn fix(db: &mut Client, id: i64) {
    let fixed = db.execute(
        &format!(
            "update audit_algolia.queue set record =
                 json_build_object('objectID', '{id}', 'note', repeat('x', {LONG}))"
        ),
        &[],
    );
    assert_eq!(fixed.unwrap(), 1);
}

/// Asserts what is reported of the record, and how it is counted.
#[track_caller]
fn assert_alone(db: &mut Client) {
    wait_until("nothing but the damaged record waits", SOON, || {
        let seen = queue(db, "log");
        (seen.queued, seen.retrying, seen.dead) == (1, 1, 0) && seen.last_error.contains("XX001")
    });
    let error = queue(db, "log").last_error;
    let row: i64 = one(db, "select id from audit_algolia.queue");
    assert!(error.contains(&format!("row {row} of audit_algolia.queue alone")), "{error}");
    assert!(error.contains("for toast value"), "{error}");
}

fn others_pass(mode: &str) {
    let stage = stage().start().unwrap();
    let mut db = stage.admin();
    table(&mut db, mode);
    insert_long(&mut db, 1..=9);
    damage(&mut db, 5, 3);
    wait_until("a worker", SOON, || workers(&mut db, "postgres").len() == 1);
    let worker = workers(&mut db, "postgres");
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the others", SOON, || stage.standin.index("log").len() == 8);
    assert_alone(&mut db);
    insert_long(&mut db, 11..=20);
    wait_until("later rows", SOON, || stage.standin.index("log").len() == 18);
    assert_alone(&mut db);
    assert_eq!(workers(&mut db, "postgres"), worker, "{}", stage.cluster.log());
    fix(&mut db, 5);
    wait_until("the fixed record", SOON, || stage.standin.index("log").contains_key("5"));
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").dead, 0);
}

#[test]
fn a_damaged_record_waits_by_itself_until_it_is_fixed() {
    others_pass("append");
}

#[test]
fn a_damaged_version_waits_by_itself_until_it_is_fixed() {
    others_pass("mirror");
}

#[test]
fn a_newer_version_makes_up_for_a_damaged_one() {
    let stage = stage().start().unwrap();
    let mut db = stage.admin();
    table(&mut db, "mirror");
    insert_long(&mut db, 1..=9);
    damage(&mut db, 5, 3);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the others", SOON, || stage.standin.index("log").len() == 8);
    assert_alone(&mut db);
    db.batch_execute("update log set note = 'new' where id = 5").unwrap();
    wait_until("the newer version", SOON, || stage.standin.index("log").contains_key("5"));
    wait_for_empty_queue(&mut db);
}

#[test]
fn a_damaged_record_that_is_too_large_waits_by_itself_until_it_can_be_buried() {
    // The beginning can be read, the rest cannot.
    for piece in [0, 9] {
        let stage = stage().setting("audit_algolia.max_record_bytes", "10kB").start().unwrap();
        let mut db = stage.admin();
        table(&mut db, "append");
        insert_long(&mut db, 1..=9);
        damage(&mut db, 5, piece);
        wait_until("a worker", SOON, || workers(&mut db, "postgres").len() == 1);
        let worker = workers(&mut db, "postgres");
        db.batch_execute("select audit_algolia.resume('log')").unwrap();
        wait_until("the others", SOON, || queue(&mut db, "log").dead == 8);
        wait_until("it is told", SOON, || queue(&mut db, "log").last_error.contains("XX001"));
        insert(&mut db, "log", 11..=20);
        wait_until("later rows", SOON, || stage.standin.index("log").len() == 10);
        wait_until("nothing else waits", SOON, || queue(&mut db, "log").queued == 1);
        fix(&mut db, 5);
        wait_until("the dead letters", SOON, || queue(&mut db, "log").dead == 9);
        wait_for_empty_queue(&mut db);
        assert_eq!(workers(&mut db, "postgres"), worker, "{}", stage.cluster.log());
    }
}

#[test]
fn what_kept_a_damaged_record_from_being_sent_are_no_attempts() {
    let stage = stage().setting("audit_algolia.max_attempts", 3).start().unwrap();
    let mut db = stage.admin();
    table(&mut db, "append");
    insert_long(&mut db, 1..=9);
    damage(&mut db, 5, 3);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the others", SOON, || stage.standin.index("log").len() == 8);
    let failed = queue(&mut db, "log").failed_total;
    wait_until("more attempts", SOON, || queue(&mut db, "log").failed_total > failed + 4);
    stage.standin.set_max_record_bytes(LONG / 2);
    fix(&mut db, 5);
    wait_until("its death", SOON, || queue(&mut db, "log").dead == 1);
    assert_eq!(one::<i32>(&mut db, "select attempts from audit_algolia.dead_letters"), 3);
}
