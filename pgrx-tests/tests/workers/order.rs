//! Newest first, with a share for the oldest.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use std::time::Duration;

use crate::support::*;

#[test]
fn a_row_committed_during_a_drain_overtakes_the_backlog() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 2)
        .setting("audit_algolia.batch_rows", 10)
        .standin(|standin| standin.latency = Duration::from_millis(20))
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=1000);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the drain", SOON, || sent(&stage.standin, "log").len() >= 100);
    let before = sent(&stage.standin, "log").len();
    insert(&mut db, "log", 5000..=5000);
    wait_until("the new row", SOON, || sent(&stage.standin, "log").contains(&5000));
    let overtaken = sent(&stage.standin, "log").iter().position(|id| *id == 5000).unwrap();
    // Two batches may be in flight and one just claimed.
    assert!(overtaken <= before + 40, "{before} before, {overtaken} at arrival");
    stage.wait_for_records("log", 1001);
    assert_each_once(&stage.standin, "log", (1..=1000).chain([5000]));
}

#[test]
fn the_newest_of_the_backlog_fill_the_batches_of_fresh_rows() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 4)
        .setting("audit_algolia.batch_rows", 100)
        .standin(|standin| standin.latency = Duration::from_millis(100))
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    wait_for_state(&mut db, "log", "paused");
    insert(&mut db, "log", 1..=20_000);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the drain", SOON, || sent(&stage.standin, "log").len() >= 1000);
    let is_filled =
        |ids: &&Vec<i64>| ids.iter().any(|id| *id >= 50_000) && ids.iter().any(|id| *id <= 20_000);
    let mut next = 50_000;
    wait_until("a batch with both", SOON, || {
        insert(&mut db, "log", next..=next);
        next += 1;
        stage.standin.batches("log").iter().any(|ids| is_filled(&ids))
    });
    stage.wait_for_records("log", 20_000 + (next - 50_000) as usize);
    assert_each_once(&stage.standin, "log", (1..=20_000).chain(50_000..next));
    let batches = stage.standin.batches("log");
    let filled: Vec<_> = batches.iter().filter(is_filled).collect();
    assert!(filled.iter().any(|ids| ids.len() == 100), "{filled:?}");
}

#[test]
fn the_tail_gets_its_share_of_the_batches() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 1)
        .setting("audit_algolia.batch_rows", 10)
        .start()
        .unwrap();
    let mut db = stage.admin();
    for (share, from_the_tail) in [(0, 0..=0), (10, 3..=4), (100, 38..=39)] {
        let index = format!("log_{share}");
        stage.cluster.set(&[("audit_algolia.tail_share", &share.to_string())]).unwrap();
        watch(&mut db, &index);
        // A new index is scanned once. If the tail is first, any arrival shows that this is done.
        insert(&mut db, &index, 0..=0);
        stage.wait_for_records(&index, 1);
        wait_for_empty_queue(&mut db);
        db.execute("select audit_algolia.pause($1)", &[&index]).unwrap();
        wait_for_state(&mut db, &index, "paused");
        insert(&mut db, &index, 1..=400);
        db.execute("select audit_algolia.resume($1)", &[&index]).unwrap();
        stage.wait_for_records(&index, 401);
        let batches = stage.standin.batches(&index).split_off(1);
        assert_eq!(batches.len(), 40);
        assert_eq!(batches[0], (391..=400).collect::<Vec<_>>(), "newest first");
        let mut lowest = 401;
        let mut tail = 0;
        for batch in &batches {
            if batch[0] == tail * 10 + 1 && batch[9] + 1 < lowest {
                tail += 1;
            } else {
                assert_eq!(batch[9] + 1, lowest, "the next lower ones, or the lowest");
                lowest = batch[0];
            }
        }
        assert!(from_the_tail.contains(&tail), "share {share}: {tail} batches");
        assert_each_once(&stage.standin, &index, 0..=400);
    }
}

#[test]
fn a_request_is_for_one_index() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    let names = ["first", "second", "third"];
    for name in names {
        watch(&mut db, name);
    }
    let mut transaction = db.transaction().unwrap();
    for id in 1..=30 {
        for name in names {
            transaction.execute(&format!("insert into {name} values ($1)"), &[&i64::from(id)]).unwrap();
        }
    }
    transaction.commit().unwrap();
    for name in names {
        stage.wait_for_records(name, 30);
        assert_each_once(&stage.standin, name, 1..=30);
    }
    for request in stage.standin.requests() {
        assert!(names.iter().any(|name| request.path == format!("/1/indexes/{name}/batch")));
    }
    // One transaction, one request each: nothing was waiting for anything else.
    assert_eq!(stage.standin.request_count(), 3);
}
