//! Records that Algolia refuses delay nothing else, and can be put back.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::standin::{ErrorShape, Fault, Times};
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::Signal;
use postgres::Client;

use crate::support::*;

/// The maximum record size of the stand-in.
const LIMIT: usize = 1000;

/// A stage whose Algolia has a maximum record size, while the extension sends larger records.
pub(crate) fn strict() -> StageBuilder {
    Stage::builder().standin(|standin| standin.max_record_bytes = LIMIT)
}

fn stage(shape: ErrorShape) -> Stage {
    strict()
        .standin(|standin| standin.error_shape = shape)
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "50ms")
        .start()
        .unwrap()
}

/// Inserts the rows `ids` in one statement; those in `poison` are too large for the stand-in.
pub(crate) fn insert_with_poison(
    db: &mut Client,
    table: &str,
    ids: std::ops::RangeInclusive<i64>,
    poison: &[i64],
) {
    db.execute(
        &format!(
            "insert into {table}
             select n, case when n = any($3) then repeat('x', 2000) else 'note ' || n end
             from generate_series($1::bigint, $2) as n"
        ),
        &[ids.start(), ids.end(), &poison],
    )
    .unwrap();
}

/// The ids of the dead letters of an index.
pub(crate) fn dead(db: &mut Client, index: &str) -> Vec<i64> {
    let rows = db
        .query(
            "select object_id::bigint from audit_algolia.dead_letters where index_name = $1 order by 1",
            &[&index],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until the queue of an index is empty, and asserts that its rows have been delivered or are dead letters as
/// they should be.
#[track_caller]
fn assert_only_these_die(stage: &Stage, db: &mut Client, index: &str, rows: i64, poison: &[i64]) {
    wait_until("an empty queue", SOON, || queue(db, index).queued == 0);
    assert_eq!(dead(db, index), poison);
    assert_each_once(&stage.standin, index, (1..=rows).filter(|id| !poison.contains(id)));
    let seen = queue(db, index);
    let died = poison.len() as i64;
    assert_eq!((seen.queued, seen.in_flight, seen.retrying, seen.dead), (0, 0, 0, died));
    assert_eq!((seen.enqueued_total, seen.delivered_total, seen.dead_total), (rows, rows - died, died));
    assert_eq!(seen.state, "idle");
}

#[test]
fn a_poison_record_dies_alone_however_algolia_speaks_of_it() {
    for shape in [ErrorShape::Classic, ErrorShape::New, ErrorShape::Column, ErrorShape::Vague] {
        let stage = stage(shape);
        let mut db = staged(&stage, "log");
        insert_with_poison(&mut db, "log", 1..=1000, &[1, 500, 1000]);
        assert_only_these_die(&stage, &mut db, "log", 1000, &[1, 500, 1000]);
        let letter = db
            .query_one(
                "select action, record ->> 'objectID', attempts, http_status, error, died_at >= enqueued_at
                 from audit_algolia.dead_letters where object_id = '500'",
                &[],
            )
            .unwrap();
        assert_eq!(letter.get::<_, String>(0), "addObject");
        assert_eq!(letter.get::<_, String>(1), "500");
        assert_eq!((letter.get::<_, i32>(2), letter.get::<_, Option<i32>>(3)), (1, Some(400)));
        let error: String = letter.get(4);
        assert!(error.contains("400 Bad Request"), "{error}");
        assert!(letter.get::<_, bool>(5));
        assert!(queue(&mut db, "log").last_error.contains("400 Bad Request"));
    }
}

#[test]
fn a_batch_of_nothing_but_poison_dies_as_soon_as_the_next_row_arrives() {
    let stage = stage(ErrorShape::Vague);
    let mut db = staged(&stage, "log");
    let poison: Vec<i64> = (1..=120).collect();
    insert_with_poison(&mut db, "log", 1..=120, &poison);
    // No record is named and none is accepted, so the fault could be the index's.
    wait_until("doubts", SOON, || queue(&mut db, "log").last_error.contains("names no record"));
    assert_eq!(queue(&mut db, "log").queued, 120);
    insert(&mut db, "log", 121..=121);
    assert_only_these_die(&stage, &mut db, "log", 121, &poison);
    assert_eq!(stage.cluster.log().matches("see audit_algolia.dead_letters").count(), 1);
}

#[test]
fn a_poison_record_that_is_alone_dies_even_if_nobody_names_it() {
    let stage = stage(ErrorShape::Vague);
    let mut db = staged(&stage, "log");
    insert_with_poison(&mut db, "log", 1..=1, &[1]);
    assert_only_these_die(&stage, &mut db, "log", 1, &[1]);
}

#[test]
fn a_gateway_that_refuses_everything_buries_next_to_nothing() {
    let stage = stage(ErrorShape::Classic);
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::error(400, "Bad Request"), Times::Always);
    insert(&mut db, "log", 1..=1000);
    wait_for_state(&mut db, "log", "backing off");
    for row in 1001..=1030 {
        insert(&mut db, "log", row..=row);
    }
    let requests = stage.standin.request_count();
    wait_until("more attempts", SOON, || stage.standin.request_count() > requests + 100);
    stage.standin.clear_faults();
    wait_for_empty_queue(&mut db);
    let dead = dead(&mut db, "log");
    assert!(dead.len() <= 10, "{dead:?}");
    let back: i64 = one(&mut db, "select audit_algolia.redrive('log')");
    assert_eq!(back, dead.len() as i64);
    stage.wait_for_records("log", 1030);
    wait_for_empty_queue(&mut db);
}

#[test]
fn poison_in_every_batch_holds_up_neither_fresh_rows_nor_other_indices() {
    let stage = stage(ErrorShape::Column);
    let mut db = staged(&stage, "log");
    watch(&mut db, "other");
    let poison: Vec<i64> = (1..=20_000).filter(|id| id % 500 == 7).collect();
    insert_with_poison(&mut db, "log", 1..=20_000, &poison);
    insert(&mut db, "other", 1..=100);
    insert(&mut db, "log", 20_001..=20_001);
    assert_only_these_die(&stage, &mut db, "other", 100, &[]);
    assert_only_these_die(&stage, &mut db, "log", 20_001, &poison);
    let order = sent(&stage.standin, "log");
    let place = order.iter().position(|id| *id == 20_001).unwrap();
    assert!(place < 15_000, "the fresh row was sent as number {place}");
}

#[test]
fn a_record_too_large_by_our_own_measure_is_not_sent() {
    let stage = Stage::builder().setting("audit_algolia.max_record_bytes", 200).start().unwrap();
    let mut db = staged(&stage, "log");
    // {"objectID":"1","note":"…"} has 26 bytes around the note. An accented letter has two in UTF-8, and a quote is
    // escaped.
    db.batch_execute(
        "insert into log values
             (1, repeat('x', 174)), (2, repeat('x', 175)), (3, repeat('é', 87)), (4, repeat('é', 88)),
             (5, repeat('\"', 87)), (6, repeat('\"', 88))",
    )
    .unwrap();
    assert_only_these_die(&stage, &mut db, "log", 6, &[2, 4, 6]);
    let letter = db
        .query_one(
            "select attempts, http_status, error from audit_algolia.dead_letters where object_id = '2'",
            &[],
        )
        .unwrap();
    assert_eq!((letter.get::<_, i32>(0), letter.get::<_, Option<i32>>(1)), (0, None));
    let error: String = letter.get(2);
    assert_eq!(error, "record has 201 bytes, more than audit_algolia.max_record_bytes = 200 allows");
    assert_eq!(stage.standin.request_count(), 1, "nothing that is too large was sent");
    // The limit follows a reload, and dead letters can be delivered after all.
    stage.cluster.set(&[("audit_algolia.max_record_bytes", "300")]).unwrap();
    wait_until("the new limit", SOON, || {
        one::<i64>(&mut db, "select audit_algolia.redrive('log')");
        wait_until("a verdict", SOON, || queue(&mut db, "log").queued == 0);
        dead(&mut db, "log").is_empty()
    });
    assert_holds(&stage.standin, "log", 1..=6);
}

#[test]
fn a_refused_record_has_as_many_attempts_as_it_is_given() {
    let stage = Stage::builder()
        .standin(|standin| standin.max_record_bytes = LIMIT)
        .setting("audit_algolia.max_attempts", 3)
        .setting("audit_algolia.retry_min", "50ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    insert_with_poison(&mut db, "log", 1..=100, &[50]);
    stage.wait_for_records("log", 99);
    wait_until("the end of it", SOON, || queue(&mut db, "log").dead == 1);
    assert_eq!(one::<i32>(&mut db, "select attempts from audit_algolia.dead_letters"), 3);
    assert_only_these_die(&stage, &mut db, "log", 100, &[50]);
    // Outages do not count, and a record that is accepted in the end does not become a dead letter.
    stage.standin.fault(None, Fault::error(503, "down"), Times::Count(20));
    insert(&mut db, "log", 101..=101);
    stage.wait_for_records("log", 100);
    assert_eq!(dead(&mut db, "log"), [50]);
}

#[test]
fn what_waits_for_another_attempt_is_shown_and_survives_its_worker() {
    let stage = Stage::builder()
        .standin(|standin| standin.max_record_bytes = LIMIT)
        .setting("audit_algolia.max_attempts", 2)
        .setting("audit_algolia.retry_min", "10min")
        .setting("audit_algolia.retry_max", "10min")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    insert_with_poison(&mut db, "log", 1..=100, &[50]);
    stage.wait_for_records("log", 99);
    wait_until("one left", SOON, || {
        let seen = queue(&mut db, "log");
        (seen.queued, seen.retrying, seen.in_flight) == (1, 1, 0)
    });
    stage.standin.set_max_record_bytes(100_000);
    drop(db);
    stage.cluster.restart(StopMode::Fast).unwrap();
    let mut db = stage.admin();
    stage.wait_for_records("log", 100);
    wait_for_empty_queue(&mut db);
}

#[test]
fn the_dead_are_counted_again_after_a_crash() {
    let stage = stage(ErrorShape::New);
    let mut db = staged(&stage, "log");
    insert_with_poison(&mut db, "log", 1..=30, &[3, 4]);
    wait_until("deaths", SOON, || queue(&mut db, "log").dead == 2);
    let worker = a_worker(&mut db, "postgres");
    stage.cluster.kill_backend(worker, Signal::SIGKILL).unwrap();
    wait_until("the crash", SOON, || db.batch_execute("select 1").is_err());
    let mut db = stage.session();
    // The crash undid the move to the dead letters, so it is repeated.
    wait_until("the dead", SOON, || queue(&mut db, "log").dead == 2 && dead(&mut db, "log") == [3, 4]);
    insert(&mut db, "log", 31..=31);
    stage.wait_for_records("log", 29);
    assert_eq!(queue(&mut db, "log").dead, 2);
}
