//! Partitions are attached and removed in transactions whose snapshot is older than what is stored about them.

use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::partitions::{assert_holds, stage};

const OLDER: &str = "begin isolation level repeatable read; select from t";
const DETACH: &str = "alter table t detach partition d";
const ATTACH: &str = "alter table t attach partition d for values from (300) to (400)";

/// The table `t` without a process that sends its backfill, and a table `d` that may become a partition of it.
fn stage_without_workers() -> (Stage, Client) {
    let (stage, mut db) = stage();
    set_workers(&stage, "0");
    // When the last of them has ended, the launcher has made sure that no other starts.
    let mut admin = stage.admin();
    wait_until("all processes to leave", SOON, || {
        let query = "select count(*) = 0 from pg_stat_activity
            where backend_type in ('audit_algolia worker', 'audit_algolia backfill')";
        one(&mut admin, query)
    });
    db.batch_execute("create table d (like a including all); insert into d values (300, 'd')").unwrap();
    (stage, db)
}

fn set_workers(stage: &Stage, workers: &str) {
    stage.cluster.set(&[("audit_algolia.workers", workers)]).unwrap();
}

fn arrivals(stage: &Stage) -> Vec<String> {
    let query = "select format('%s %s', partition, state) from audit_algolia.backfill_progress where partition is not null";
    stage.admin().query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_partition_that_was_attached_since_the_snapshot_was_taken_can_be_taken_away() {
    for leave in [DETACH, "drop table d"] {
        let (stage, mut db) = stage_without_workers();
        let mut older = stage.cluster.client("postgres", "keeper");
        older.batch_execute(OLDER).unwrap();
        db.batch_execute(ATTACH).unwrap();
        assert_eq!(arrivals(&stage), ["d waiting"]);
        older.batch_execute(&format!("{leave}; commit")).unwrap();
        assert!(arrivals(&stage).is_empty(), "{leave}: {:?}", arrivals(&stage));
        set_workers(&stage, "1");
        assert_holds(&stage, &["1 a", "101 b", "201 c"]);
    }
}

#[test]
fn a_partition_of_which_something_was_noted_since_the_snapshot_was_taken_comes_and_goes() {
    let leave_and_come = format!("{DETACH}; {ATTACH}");
    for (statements, expected) in [
        (DETACH, &["1 a", "101 b", "201 c"][..]),
        ("drop table d", &["1 a", "101 b", "201 c"]),
        (&leave_and_come, &["1 a", "101 b", "201 c", "300 d"]),
    ] {
        let (stage, mut db) = stage_without_workers();
        db.batch_execute(ATTACH).unwrap();
        let mut older = stage.cluster.client("postgres", "keeper");
        older.batch_execute(OLDER).unwrap();
        stage.admin().batch_execute("select audit_algolia.cancel_backfill('t')").unwrap();
        older.batch_execute(&format!("{statements}; commit")).unwrap();
        set_workers(&stage, "1");
        assert_holds(&stage, expected);
        assert!(arrivals(&stage).is_empty(), "{statements}: {:?}", arrivals(&stage));
    }
}

/// A transaction that is storing something about a partition delays the statement, at any isolation level, but does not
/// make it fail.
#[test]
fn a_partition_of_which_something_is_being_noted_can_be_taken_away() {
    let (stage, mut db) = stage_without_workers();
    db.batch_execute(ATTACH).unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("begin; select audit_algolia.cancel_backfill('t')").unwrap();
    db.batch_execute(OLDER).unwrap();
    let pid: i32 = one(&mut db, "select pg_backend_pid()");
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| db.batch_execute(&format!("{DETACH}; commit")));
        let mut looking = stage.admin();
        wait_until("a session that waits", SOON, || {
            one(&mut looking, &format!("select cardinality(pg_blocking_pids({pid})) > 0"))
        });
        admin.batch_execute("commit").unwrap();
        leaving.join().unwrap().unwrap();
    });
    assert!(arrivals(&stage).is_empty());
    set_workers(&stage, "1");
    assert_holds(&stage, &["1 a", "101 b", "201 c"]);
}

/// No event trigger sees it. Rows of a table that is no longer a partition are not sent.
#[test]
fn a_partition_that_was_taken_away_behind_our_back_does_not_come() {
    for leave in [DETACH, "drop table d"] {
        let (stage, mut db) = stage_without_workers();
        db.batch_execute(ATTACH).unwrap();
        let mut admin = stage.admin();
        admin.batch_execute("set search_path = kept; set session_replication_role = replica").unwrap();
        admin.batch_execute(leave).unwrap();
        assert_eq!(arrivals(&stage).len(), 1);
        set_workers(&stage, "1");
        assert_holds(&stage, &["1 a", "101 b", "201 c"]);
        assert!(arrivals(&stage).is_empty(), "{leave}: {:?}", arrivals(&stage));
    }
}
