//! The speed of a backfill: as fast as allowed, and no faster than delivery.

use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::{stays_true, wait_until};
use std::time::Duration;

use crate::support::*;

#[test]
fn no_more_rows_a_second_are_queued_than_allowed() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 5000);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}');
         select audit_algolia.backfill('log', rows_per_second => 400)",
    )
    .unwrap();
    // Measured by the server's clock and by the queue, not by the progress view.
    wait_until("three seconds' worth", LATER, || {
        one::<i64>(&mut db, "select count(*) from audit_algolia.queue") >= 1200
    });
    let (rows, seconds): (i64, f64) = {
        let row = db
            .query_one(
                "select count(*), extract(epoch from max(q.enqueued_at) - min(b.started_at))::double precision
                 from audit_algolia.queue as q, audit_algolia.backfill as b",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    // The rows that are allowed in a tenth of a second come at once.
    assert!(rows as f64 <= 400.0 * (seconds + 0.3) + 40.0, "{rows} rows in {seconds} s");
    assert!(rows as f64 >= 400.0 * seconds * 0.6, "{rows} rows in {seconds} s");
}

#[test]
fn history_is_read_only_as_far_as_it_is_delivered() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 1)
        .setting("audit_algolia.batch_rows", 100)
        .start()
        .unwrap();
    let mut db = stage.admin();
    fill(&mut db, 20_000);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}'); select audit_algolia.pause('log')",
    )
    .unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    // Ten times the rows that one worker has in flight, and the step that exceeds it.
    wait_for(&mut db, "throttled");
    let queued = "select queued from audit_algolia.queue_stats()";
    assert!((1000..=2000).contains(&one::<i64>(&mut db, queued)));
    stays_true("a short queue", Duration::from_millis(300), || {
        one::<i64>(&mut db, queued) <= 2000 && state(&mut db) == "throttled"
    });
    let live = "insert into log select n, 'live' from generate_series(100001, 100010) as n";
    db.batch_execute(live).unwrap();
    let mut most = 0;
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the end", LATER, || {
        most = most.max(one::<i64>(&mut db, queued));
        state(&mut db) == "finished"
    });
    assert!(most <= 2010, "{most} rows were queued");
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", (1..=20_000).chain(100_001..=100_010));
}

#[test]
fn several_tables_take_turns_and_one_that_cannot_go_on_holds_back_no_other() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    for name in ["first", "second", "third"] {
        db.batch_execute(&format!(
            "create table {name} (id bigint primary key, note text);
             insert into {name} select n, 'note' from generate_series(1, 3000) as n"
        ))
        .unwrap();
    }
    let mut keeper = stage.admin();
    keeper.batch_execute("begin; lock table second in share mode").unwrap();
    db.batch_execute("select audit_algolia.watch('first', columns => '{note}', backfill => true)").unwrap();
    db.batch_execute("select audit_algolia.watch('third', columns => '{note}', backfill => true)").unwrap();
    keeper.batch_execute("commit").unwrap();
    db.batch_execute("select audit_algolia.watch('second', columns => '{note}', backfill => true)").unwrap();
    stage.wait_for_records("second", 3000);
    let ended = "select count(*) from audit_algolia.backfill_progress where state = 'finished'";
    wait_until("all three", LATER, || one::<i64>(&mut db, ended) == 3);
    keeper.batch_execute("begin; lock table second in access exclusive mode").unwrap();
    db.batch_execute(
        "select audit_algolia.backfill(source) from unnest('{first,second,third}'::regclass[]) as source",
    )
    .unwrap();
    wait_until("the other two", LATER, || one::<i64>(&mut db, ended) == 2);
    let waiting = "select state from audit_algolia.backfill_progress where source = 'second'::regclass";
    assert_eq!(one::<String>(&mut db, waiting), "waiting");
    let blocked = "select count(*) from pg_locks where not granted";
    assert_eq!(one::<i64>(&mut db, blocked), 0, "it does not queue for the lock");
    keeper.batch_execute("commit").unwrap();
    wait_until("the last", LATER, || one::<i64>(&mut db, ended) == 3);
}
