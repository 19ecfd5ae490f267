//! Indices that nobody uses any more make room for others.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// As many indices as can be delivered; see `LANES` in `src/ledger/mod.rs`.
const LANES: i64 = 512;

/// Indices as they are left behind by tables that are no longer watched.
fn leave_behind(db: &mut Client, indices: i64) {
    db.execute(
        "insert into audit_algolia.index (name) select 'old' || n from generate_series(1::bigint, $1) as n",
        &[&indices],
    )
    .unwrap();
}

fn names(db: &mut Client) -> Vec<String> {
    let rows = db.query("select name from audit_algolia.index order by name", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn indices_that_nobody_uses_make_room_for_a_new_one() {
    let stage = Stage::builder().setting("audit_algolia.max_record_bytes", 200).start().unwrap();
    let mut db = staged(&stage, "kept");
    db.batch_execute("select audit_algolia.pause('kept')").unwrap();
    insert(&mut db, "kept", 1..=10);
    for table in ["halted", "mourned"] {
        watch(&mut db, table);
    }
    db.batch_execute("insert into mourned values (1, repeat('x', 1000))").unwrap();
    wait_until("a dead letter", SOON, || queue(&mut db, "mourned").dead == 1);
    db.batch_execute(
        "select audit_algolia.pause('halted');
         select audit_algolia.unwatch(t) from unnest('{kept,halted,mourned}'::regclass[]) as t",
    )
    .unwrap();
    // Workers come upon more indices than they have lanes for.
    leave_behind(&mut db, LANES);
    watch(&mut db, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    wait_until("the others to be forgotten", SOON, || names(&mut db).len() == 4);
    assert_eq!(
        names(&mut db),
        ["halted", "kept", "log", "mourned"],
        "paused, with rows, in use, with a dead letter"
    );
    // So does whoever puts one more table under watch when there is no lane left.
    leave_behind(&mut db, LANES - 4);
    let closed = "select count(*) from audit_algolia.queue_stats() where stats_reset is null";
    wait_until("a lane for each", SOON, || {
        db.batch_execute("select audit_algolia.pause('halted')").unwrap();
        one::<i64>(&mut db, closed) == 0
    });
    watch(&mut db, "old7");
    insert(&mut db, "old7", 1..=10);
    stage.wait_for_records("old7", 10);
    assert_eq!(names(&mut db), ["halted", "kept", "log", "mourned", "old7"]);
    db.batch_execute("select audit_algolia.resume('kept')").unwrap();
    stage.wait_for_records("kept", 10);
    assert!(!stage.cluster.log().contains("one too many"));
}
