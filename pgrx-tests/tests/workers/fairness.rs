//! An index in trouble is its own trouble.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, StageBuilder};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};

use crate::support::*;

fn one_request_at_a_time() -> StageBuilder {
    Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 1)
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.request_timeout", "300ms")
}

/// Queues a backlog for the index `bad`, then sees how long rows of `good` take.
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
fn an_index_that_hangs_does_not_hold_back_another_for_longer_than_a_request() {
    let stage = one_request_at_a_time().start().unwrap();
    staged(&stage, "bad");
    stage.standin.inject(FaultRule::new(Fault::Hang, Times::Always).index("bad"));
    assert_good_gets_through(&stage);
}
