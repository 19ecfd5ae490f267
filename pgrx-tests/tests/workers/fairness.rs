//! Trouble with one index does not affect the others.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

fn one_request_at_a_time() -> StageBuilder {
    Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 1)
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.request_timeout", "300ms")
}

/// Queues a backlog for the index `bad`, then measures how long rows of `good` take.
#[track_caller]
fn assert_good_gets_through(stage: &Stage) {
    let mut db = stage.admin();
    watch(&mut db, "good");
    insert(&mut db, "bad", 1..=2000);
    let time = took(|| {
        for id in 1..=5 {
            insert(&mut db, "good", id..=id);
        }
        stage.wait_for_records("good", 5);
    });
    assert!(time < Duration::from_secs(3), "{time:?}");
    assert_eq!(queue(&mut db, "bad").queued, 2000);
}

#[test]
fn a_paused_index_does_not_hold_back_another() {
    let stage = one_request_at_a_time().start().unwrap();
    let mut db = staged(&stage, "bad");
    db.batch_execute("select audit_algolia.pause('bad')").unwrap();
    wait_for_state(&mut db, "bad", "paused");
    assert_good_gets_through(&stage);
    assert!(sent(&stage.standin, "bad").is_empty());
}

#[test]
fn a_failing_index_does_not_hold_back_another() {
    let stage = one_request_at_a_time().start().unwrap();
    staged(&stage, "bad");
    stage.standin.inject(FaultRule::new(Fault::error(503, "no"), Times::Always).index("bad"));
    assert_good_gets_through(&stage);
}

#[test]
fn an_index_that_hangs_does_not_hold_back_another() {
    // The rows of `bad` take all slots, and hang for longer than the test may take.
    for in_flight in [1, 4] {
        let stage = Stage::builder()
            .setting("audit_algolia.workers", 1)
            .setting("audit_algolia.in_flight", in_flight)
            .setting("audit_algolia.batch_rows", 10)
            .setting("audit_algolia.request_timeout", "5min")
            .start()
            .unwrap();
        let mut db = staged(&stage, "bad");
        watch(&mut db, "good");
        watch(&mut db, "better");
        stage.standin.inject(FaultRule::new(Fault::Hang, Times::Always).index("bad"));
        for id in 1..=40 {
            insert(&mut db, "bad", id..=id);
        }
        wait_until("all slots to hang", SOON, || stage.standin.in_hang() == in_flight);
        let time = took(|| {
            for id in 1..=20 {
                insert(&mut db, "good", id..=id);
            }
            stage.wait_for_records("good", 20);
            insert(&mut db, "better", 1..=200);
            stage.wait_for_records("better", 200);
        });
        assert!(time < Duration::from_secs(3), "{time:?}");
        assert_eq!(stage.standin.in_hang(), in_flight, "one index has no more requests than slots");
        assert_eq!(queue(&mut db, "bad").queued, 40);
    }
}

#[test]
fn indices_that_hang_again_and_again_do_not_hold_back_another() {
    let stage = one_request_at_a_time().setting("audit_algolia.retry_max", "300ms").start().unwrap();
    let mut db = staged(&stage, "good");
    for bad in ["bad", "worse", "worst"] {
        watch(&mut db, bad);
        stage.standin.inject(FaultRule::new(Fault::Hang, Times::Always).index(bad));
        insert(&mut db, bad, 1..=100);
    }
    for bad in ["bad", "worse", "worst"] {
        wait_until("a failure of each", SOON, || queue(&mut db, bad).failed_total > 0);
    }
    let time = took(|| {
        for id in 1..=20 {
            insert(&mut db, "good", id..=id);
            stage.wait_for_records("good", id as usize);
        }
    });
    assert!(time < Duration::from_secs(3), "{time:?}");
}
