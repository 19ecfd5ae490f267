//! Indices that are no longer used make room for others.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// The maximum number of indices that can be delivered; see `LANES` in `src/shared_state/mod.rs`.
const LANES: i64 = 512;

/// Creates indices as they are left behind by tables that are no longer watched.
fn leave_behind(db: &mut Client, indices: i64) {
    db.execute(
        "insert into audit_algolia.index (name) select 'old' || n from generate_series(1::bigint, $1) as n",
        &[&indices],
    )
    .unwrap();
}

#[test]
fn indices_that_nobody_uses_make_room_for_a_new_one() {
    let stage = Stage::builder()
        .setting("audit_algolia.max_record_bytes", 200)
        .setting("audit_algolia.retry_max", "200ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "kept");
    stage.standin.inject(FaultRule::new(Fault::error(503, "down"), Times::Always).index("kept"));
    insert(&mut db, "kept", 1..=10);
    watch(&mut db, "mourned");
    db.batch_execute("insert into mourned values (1, repeat('x', 1000))").unwrap();
    wait_until("a dead letter", SOON, || queue(&mut db, "mourned").dead == 1);
    db.batch_execute("select audit_algolia.unwatch(t) from unnest('{kept,mourned}'::regclass[]) as t")
        .unwrap();
    // Workers find more indices than there are lanes.
    leave_behind(&mut db, LANES);
    watch(&mut db, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    // So does watch() for one more table when there is no free lane.
    watch(&mut db, "latest");
    insert(&mut db, "latest", 1..=10);
    stage.wait_for_records("latest", 10);
    // An index with waiting rows or dead letters keeps its lane; the others can be reused.
    assert_eq!((queue(&mut db, "kept").queued, queue(&mut db, "mourned").dead), (10, 1));
    assert_eq!(queue(&mut db, "old7").state, "idle");
    watch(&mut db, "old7");
    insert(&mut db, "old7", 1..=10);
    stage.wait_for_records("old7", 10);
    stage.standin.clear_faults();
    stage.wait_for_records("kept", 10);
    assert!(!stage.cluster.log().contains("one too many"));
}
