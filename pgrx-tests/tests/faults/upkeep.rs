//! An administrator who vacuums, rewrites or locks the queue, while writers write and workers deliver.

use audit_algolia_tests::stage::Stage;

use crate::support::*;
use crate::traffic::{assert_delivered, prepare, under_traffic};

#[test]
fn the_queue_may_be_rebuilt_and_locked_while_it_is_in_use() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    prepare(&mut stage.admin());
    under_traffic(&stage.cluster, 0, |traffic| {
        let mut db = stage.admin();
        for statement in [
            "vacuum full audit_algolia.queue",
            "reindex table audit_algolia.queue",
            "reindex table concurrently audit_algolia.queue",
            "cluster audit_algolia.queue using queue_pkey",
            "begin; lock table audit_algolia.queue; select pg_sleep(0.3); commit",
            "begin; lock table audit_algolia.queue in share mode; select pg_sleep(0.3); commit",
            "begin; lock table audit_algolia.index, audit_algolia.source; select pg_sleep(0.3); commit",
            "vacuum (freeze, truncate) audit_algolia.queue",
            "alter table audit_algolia.queue set logged",
            "analyze audit_algolia.queue",
        ] {
            db.batch_execute(statement).unwrap();
            traffic.wait_for_commits(10);
        }
    });
    assert_delivered(&stage.cluster, &stage.standin);
    assert_no_faults(&stage.cluster);
}

#[test]
fn rows_of_a_table_that_is_emptied_arrive_all_the_same() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    insert(&mut db, "log", 1..=500);
    db.batch_execute("truncate log; begin").unwrap();
    insert(&mut db, "log", 501..=600);
    db.batch_execute("truncate log; rollback").unwrap();
    insert(&mut db, "log", 601..=610);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    stage.wait_for_records("log", 510);
    wait_for_empty_queue(&mut db);
    assert_holds(&stage.standin, "log", (1..=500).chain(601..=610));
}
