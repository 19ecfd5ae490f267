//! The worker's statements find each row by its key, whatever the planner knows of the queue.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

const ROWS: i64 = 3000;

/// How many entries of the queue's indexes have been read.
fn read(db: &mut Client) -> i64 {
    one(
        db,
        "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relid = 'audit_algolia.queue'::regclass",
    )
}

/// Delivers a row per transaction in many small batches, after the queue was nearly empty when last analyzed.
fn delivered_after_a_look_at_a_small_queue(watch: &str) {
    let stage = Stage::builder()
        .setting("audit_algolia.batch_rows", 30)
        .setting("autovacuum", "off")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute(&format!(
        "create table log (id bigint primary key, note text); {watch};
         select audit_algolia.pause('log'); insert into log values (0, 'the first')"
    ))
    .unwrap();
    // Afterwards, plans are made again.
    db.batch_execute("vacuum analyze audit_algolia.queue").unwrap();
    db.batch_execute(&format!(
        "do $$ begin for i in 1..{ROWS} loop insert into log values (i, 'more'); commit; end loop; end $$"
    ))
    .unwrap();
    let before = read(&mut db);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    stage.wait_for_records("log", ROWS as usize + 1);
    wait_for_empty_queue(&mut db);
    let deleted = "select n_tup_del from pg_stat_user_tables where relid = 'audit_algolia.queue'::regclass";
    wait_until("the statistics", SOON, || one::<i64>(&mut db, deleted) > ROWS);
    let entries = read(&mut db) - before;
    assert!(entries <= 20 * ROWS, "{entries} entries were read to deliver {ROWS} rows");
}

#[test]
fn rows_are_settled_by_their_keys_after_the_queue_was_analyzed_when_small() {
    delivered_after_a_look_at_a_small_queue(
        "select audit_algolia.watch('log', 'log', columns => '{note}', operations => '{insert}')",
    );
}

#[test]
fn versions_are_settled_by_their_keys_after_the_queue_was_analyzed_when_small() {
    delivered_after_a_look_at_a_small_queue(
        "select audit_algolia.watch('log', 'log', columns => '{note}', mode => 'mirror')",
    );
}
