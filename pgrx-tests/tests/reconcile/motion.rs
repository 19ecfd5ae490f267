//! Records that are still being delivered do not count as missing, and rows that change meanwhile are judged correctly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::{lose, reconcile, wait_for_empty_queue, well, Found};

const LOG: &str = "create table log (id bigint primary key, note text);
                   select audit_algolia.watch('log', columns => '{note}')";
const MIRROR: &str = "create table t (id int primary key, v text);
                      select audit_algolia.watch('t', columns => '{v}', mode => 'mirror')";

fn stage(setup: &str) -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(setup).unwrap();
    (stage, db)
}

#[test]
fn what_waits_in_the_queue_is_not_missing() {
    for (setup, table) in [(LOG, "log"), (MIRROR, "t")] {
        let (stage, mut db) = stage(setup);
        db.batch_execute(&format!("insert into {table} select n, 'x' from generate_series(1, 30) as n"))
            .unwrap();
        stage.wait_for_records(table, 30);
        wait_for_empty_queue(&mut db);
        lose(&stage, table, &["1"]);
        db.batch_execute(&format!(
            "select audit_algolia.pause(); insert into {table} select n, 'x' from generate_series(31, 3000) as n"
        ))
        .unwrap();
        let found = Found { checked: 3000, missing: 1, ..Found::default() };
        assert_eq!(reconcile(&mut db, &format!("'{table}'")), found);
        assert_eq!(reconcile(&mut db, &format!("'{table}', repair => true")), Found { repaired: 1, ..found });
        assert_eq!(reconcile(&mut db, &format!("'{table}', repair => true")), well(3000), "it waits by now");
    }
}

#[test]
fn changes_of_a_mirror_that_wait_are_not_differences() {
    let (stage, mut db) = stage(MIRROR);
    db.batch_execute("insert into t select n, 'x' from generate_series(1, 30) as n").unwrap();
    stage.wait_for_records("t", 30);
    wait_for_empty_queue(&mut db);
    db.batch_execute(
        "select audit_algolia.pause(); update t set v = 'y' where id < 10; delete from t where id > 20",
    )
    .unwrap();
    assert_eq!(reconcile(&mut db, "'t', repair => true"), well(20));
    assert_eq!(stage.standin.index("t").len(), 30);
}

#[test]
fn dead_letters_are_not_missing_until_they_are_discarded() {
    let (_stage, mut db) = stage(LOG);
    db.batch_execute("insert into log values (1, repeat('x', 200000)), (2, 'x')").unwrap();
    wait_until("a dead letter", SOON, || {
        let dead = db.query_one("select count(*) from audit_algolia.dead_letters", &[]).unwrap();
        dead.get::<_, i64>(0) == 1
    });
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'log'"), well(2));
    db.batch_execute("select audit_algolia.discard()").unwrap();
    assert_eq!(reconcile(&mut db, "'log'").missing, 1);
}

#[test]
fn what_is_delivered_and_not_yet_indexed_is_waited_for() {
    for (setup, table) in [(LOG, "log"), (MIRROR, "t")] {
        let (stage, mut db) = stage(setup);
        stage.standin.set_indexing_delay(Duration::from_millis(1500));
        db.batch_execute(&format!("insert into {table} select n, 'x' from generate_series(1, 100) as n"))
            .unwrap();
        wait_for_empty_queue(&mut db);
        assert_eq!(reconcile(&mut db, &format!("'{table}'")), well(100));
        assert_eq!(stage.standin.index(table).len(), 100);
    }
}

/// Repeats `work` in so many sessions while `look` runs.
fn meanwhile(stage: &Stage, sessions: i32, work: impl Fn(&mut Client, i32, i32) + Sync, look: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for session in 0..sessions {
            let (work, is_over) = (&work, &is_over);
            let mut db = stage.admin();
            scope.spawn(move || {
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    work(&mut db, session, round);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn rows_written_meanwhile_are_neither_missed_nor_repaired() {
    let (stage, mut db) = stage(LOG);
    db.batch_execute("insert into log select -n, 'x' from generate_series(1, 5000) as n").unwrap();
    stage.wait_for_records("log", 5000);
    wait_for_empty_queue(&mut db);
    lose(&stage, "log", &["-7", "-4000"]);
    stage.standin.set_indexing_delay(Duration::from_millis(20));
    let write = |db: &mut Client, session: i32, round: i32| {
        let id = i64::from(session) * 1_000_000 + i64::from(round) + 1;
        db.execute("insert into log values ($1, 'x')", &[&id]).unwrap();
    };
    meanwhile(&stage, 2, write, || {
        for _ in 0..5 {
            let Found { checked, missing, different, .. } = reconcile(&mut db, "'log'");
            assert!(checked >= 5000);
            assert_eq!((missing, different), (2, 0));
        }
        assert_eq!(reconcile(&mut db, "'log', repair => true").repaired, 2);
    });
    wait_for_empty_queue(&mut db);
    let Found { missing, different, .. } = reconcile(&mut db, "'log'");
    assert_eq!((missing, different), (0, 0));
}

#[test]
fn a_mirror_in_motion_is_neither_misjudged_nor_spoilt() {
    let (stage, mut db) = stage(MIRROR);
    db.batch_execute("insert into t select n, 'x' from generate_series(1, 60) as n").unwrap();
    // Each session inserts, updates and deletes rows of its own.
    let write = |db: &mut Client, session: i32, round: i32| {
        let id = session + 3 * (round % 20) + 1;
        let statement = match round % 3 {
            0 => format!(
                "insert into t values ({id}, 'i{round}') on conflict (id) do update set v = 'c{round}'"
            ),
            1 => format!("update t set v = 'u{round}' where id = {id}"),
            _ => format!("delete from t where id = {id}"),
        };
        db.batch_execute(&statement).unwrap();
    };
    meanwhile(&stage, 3, write, || {
        for round in 0..40 {
            let repair = round % 2 == 0;
            let found = reconcile(&mut db, &format!("'t', repair => {repair}"));
            assert_eq!(Found { checked: 0, ..found }, Found::default(), "round {round}");
        }
    });
    wait_for_empty_queue(&mut db);
    assert_same(&stage, &mut db);

    // Now with something to repair, again and again.
    let lost: Vec<String> = (1..=60).map(|id| id.to_string()).collect();
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    meanwhile(&stage, 3, write, || {
        for _ in 0..20 {
            lose(&stage, "t", &lost);
            reconcile(&mut db, "'t', repair => true");
        }
    });
    wait_for_empty_queue(&mut db);
    reconcile(&mut db, "'t', repair => true");
    wait_for_empty_queue(&mut db);
    assert_same(&stage, &mut db);
}

/// Asserts that the index holds the rows of the table.
#[track_caller]
fn assert_same(stage: &Stage, db: &mut Client) {
    let rows = db.query("select id, v from t order by id::text collate \"C\"", &[]).unwrap();
    let rows: Vec<(String, String)> =
        rows.iter().map(|row| (row.get::<_, i32>(0).to_string(), row.get(1))).collect();
    let held = stage.standin.index("t").into_iter();
    let held: Vec<(String, String)> =
        held.map(|(id, record)| (id, record["v"].as_str().unwrap().to_owned())).collect();
    assert_eq!(held, rows);
}
