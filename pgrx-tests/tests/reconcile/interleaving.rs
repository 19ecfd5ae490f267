//! What others do between two steps of a comparison: no object of a row that is there is deleted, and none waits for long.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::json;

use crate::support::{lose, reconcile, reconcile_stopping, wait_for_empty_queue, well, write, Found};

/// A partitioned table with ten rows, mirrored, and a place for another partition.
fn partitioned() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text) partition by range (id);
         create table t_0 partition of t for values from (0) to (10);
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t select n, 'x' from generate_series(0, 9) as n;
         create table t_1 (like t including all)",
    )
    .unwrap();
    stage.wait_for_records("t", 10);
    wait_for_empty_queue(&mut db);
    (stage, db)
}

/// Attaches the partition, and fills it.
const ATTACH: &str = "alter table t attach partition t_1 for values from (10) to (20);
                      insert into t values (11, 'theirs')";

#[test]
fn rows_of_a_partition_attached_meanwhile_are_no_orphans() {
    let (stage, mut db) = partitioned();
    let found = reconcile_stopping(&stage, "before orphans", "'t', repair => true", || {
        db.batch_execute(ATTACH).unwrap();
        stage.wait_for_records("t", 11);
        wait_for_empty_queue(&mut db);
        false
    });
    assert_eq!(found, well(10));
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["11"]["v"], json!("theirs"));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
}

#[test]
fn an_orphan_whose_row_comes_with_a_partition_before_it_is_mended_stays() {
    let (stage, mut db) = partitioned();
    write(&stage, "t", "addObject", &[json!({"objectID": "11", "v": "?"})]);
    let found = reconcile_stopping(&stage, "before mend", "'t', repair => true", || {
        db.batch_execute(ATTACH).unwrap();
        wait_until("their row", SOON, || stage.standin.index("t")["11"]["v"] == json!("theirs"));
        wait_for_empty_queue(&mut db);
        false
    });
    assert_eq!(Found { repaired: 0, ..found }, Found { checked: 10, orphaned: 1, ..Found::default() });
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["11"]["v"], json!("theirs"));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
}

#[test]
fn while_somebody_is_attaching_a_partition_nothing_is_deleted() {
    let (stage, mut db) = partitioned();
    write(&stage, "t", "addObject", &[json!({"objectID": "11", "v": "?"})]);
    lose(&stage, "t", &["3"]);
    db.batch_execute("begin").unwrap();
    let found = reconcile_stopping(&stage, "before mend", "'t', repair => true", || {
        db.batch_execute(ATTACH).unwrap();
        false
    });
    assert_eq!(found, Found { checked: 10, missing: 1, orphaned: 1, repaired: 1, different: 0 });
    db.batch_execute("commit").unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["11"]["v"], json!("theirs"));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
    // Once they are done, all is mended.
    write(&stage, "t", "addObject", &[json!({"objectID": "12", "v": "?"})]);
    let found = Found { checked: 11, orphaned: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
}
