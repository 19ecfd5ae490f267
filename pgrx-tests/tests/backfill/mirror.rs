//! Backfill of a mirrored table: the index holds the table's rows at the end, whatever happens to them meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;

use crate::support::*;

const ROWS: i64 = 6_000;

/// Creates a table with rows, whose index should hold `v`.
fn make(db: &mut Client) {
    db.batch_execute(&format!(
        "create table log (id bigint primary key, v int not null, at timestamptz not null, hidden int not null default 0);
         create index on log (at);
         insert into log select n, n, timestamptz '2026-01-01' + n * interval '1 s' from generate_series(1, {ROWS}) as n"
    ))
    .unwrap();
}

/// Asserts that the index holds the rows of the table. `id` makes their objectIDs.
#[track_caller]
fn assert_holds(stage: &Stage, db: &mut Client, id: &str) {
    let rows = db.query(&format!("select {id}, v from log"), &[]).unwrap();
    let rows: BTreeMap<String, i64> =
        rows.iter().map(|row| (row.get(0), i64::from(row.get::<_, i32>(1)))).collect();
    let held = stage.standin.index("log");
    let held: BTreeMap<String, i64> =
        held.into_iter().map(|(id, record)| (id, record["v"].as_i64().unwrap_or(i64::MIN))).collect();
    let differ: Vec<_> = rows.iter().filter(|(id, v)| held.get(*id) != Some(*v)).take(5).collect();
    let orphans: Vec<_> = held.keys().filter(|id| !rows.contains_key(*id)).take(5).collect();
    assert!(differ.is_empty() && orphans.is_empty(), "missing or stale: {differ:?}; orphaned: {orphans:?}");
}

/// Changes rows at random, some in ways that do not affect the index.
fn change(stage: &Stage, seed: u64, stop: &AtomicBool) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut db = stage.admin();
    while !stop.load(Ordering::Relaxed) {
        let (id, v) = (dice.i64(1..=ROWS), dice.i32(..));
        let statement = match dice.u8(0..6) {
            0 => format!("update log set v = {v} where id = {id}"),
            1 => format!("update log set hidden = hidden + 1 where id between {id} and {id} + 20"),
            2 => format!("delete from log where id = {id}"),
            3 => format!(
                "insert into log values ({id}, {v}, now()) on conflict (id) do update set v = excluded.v"
            ),
            4 => format!("update log set at = at + interval '1 h' where id = {id}"),
            _ => format!("begin; update log set v = {v} where id between {id} and {id} + 3; rollback"),
        };
        // Two of these may deadlock.
        if db.batch_execute(&statement).is_err() {
            db.batch_execute("rollback").unwrap();
        }
    }
}

#[test]
fn the_index_equals_the_table_however_it_is_walked_and_changed() {
    for (rules, id) in [
        ("columns => '{v}'", "id::text"),
        ("columns => '{v, at}', time_column => 'at'", "id::text"),
        ("columns => '{v}', pseudonymize => '{id}'", "audit_algolia.pseudonym(id::text)"),
    ] {
        let stage = Stage::builder().setting("audit_algolia.batch_rows", 200).start().unwrap();
        let mut db = stage.admin();
        make(&mut db);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for seed in 0..2 {
                let (stage, stop) = (&stage, &stop);
                scope.spawn(move || change(stage, seed, stop));
            }
            let watch =
                format!("select audit_algolia.watch('log', {rules}, mode => 'mirror', backfill => true)");
            let ended = db.batch_execute(&watch).map(|()| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(&mut db, "finished")))
            });
            // The threads that change rows must end, whatever the result is.
            stop.store(true, Ordering::Relaxed);
            assert!(matches!(ended, Ok(Ok(()))), "{rules}: {ended:?}");
        });
        wait_for_end(&mut db);
        assert_holds(&stage, &mut db, id);
    }
}

#[test]
fn a_row_that_somebody_is_changing_is_waited_for() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    make(&mut db);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{v}', mode => 'mirror');
         select audit_algolia.backfill('log', rows_per_second => 3000)",
    )
    .unwrap();
    let mut other = stage.admin();
    other.batch_execute("begin; update log set v = -1 where id = 7").unwrap();
    wait_until("all newer rows", LATER, || done(&mut db) == ROWS - 7);
    stays_true("waits", std::time::Duration::from_millis(300), || done(&mut db) == ROWS - 7);
    other.batch_execute("rollback").unwrap();
    wait_for_end(&mut db);
    assert_holds(&stage, &mut db, "id::text");
}

#[test]
fn a_backfill_that_was_cancelled_begins_anew() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    make(&mut db);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{v}', pseudonymize => '{id}', mode => 'mirror');
         select audit_algolia.backfill('log', rows_per_second => 1000)",
    )
    .unwrap();
    wait_until("a beginning", SOON, || done(&mut db) > 0);
    db.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap();
    wait_for(&mut db, "cancelled");
    // No trigger sees this, and the backfill has already read these rows.
    db.batch_execute("update log set hidden = 1 where id < 100").unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_holds(&stage, &mut db, "audit_algolia.pseudonym(id::text)");
}
