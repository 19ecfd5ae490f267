//! A primary and its standby switch roles.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{Stage, PSEUDONYM_KEY, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;
use crate::traffic::{assert_delivered, prepare, under_traffic, TABLE};

const OURS: &str = "select count(*) from pg_stat_activity where backend_type like 'audit_algolia%'";

/// What a standby can be asked, and what it refuses.
fn ask(standby: &Cluster) {
    let mut db = standby.client("postgres", "postgres");
    assert_eq!(one::<i64>(&mut db, OURS), 0);
    assert_eq!(queue(&mut db, TABLE).state, "standby");
    assert_eq!(one::<String>(&mut db, "select state from audit_algolia.sources"), "watching");
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.worker_stats()"), 0);
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.dead_letters"), 0);
    assert!(one::<i64>(&mut db, "select count(*) from audit_algolia.preview('traffic')") > 0);
    let expected = one::<String>(&mut db, "select audit_algolia.pseudonym('somebody')");
    assert!(expected.starts_with("p_") && !expected.contains(PSEUDONYM_KEY));
    for change in ["pause()", "resume()", "redrive()", "discard()", "unwatch('traffic')"] {
        let error = db.batch_execute(&format!("select audit_algolia.{change}")).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "25006", "{change}: {error}");
    }
}

#[test]
fn a_standby_takes_over_and_the_old_primary_follows_it() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    prepare(&mut stage.admin());
    let mut first = None;
    under_traffic(&stage.cluster, 0, |traffic| {
        first = Some(Cluster::standby_of(&stage.cluster).unwrap());
        traffic.wait_for_commits(50);
    });
    let first = first.unwrap();
    wait_until("rows on the standby", SOON, || {
        let mut db = first.client("postgres", "postgres");
        one::<i64>(&mut db, &format!("select count(*) from {TABLE}")) > 0
    });
    ask(&first);
    // A fast shutdown waits until the standby has received everything.
    stage.cluster.stop(StopMode::Fast).unwrap();
    first.promote().unwrap();
    let mut second = None;
    under_traffic(&first, 1, |traffic| {
        // The old primary is fenced: it is replaced by a copy of the new one.
        second = Some(Cluster::standby_of(&first).unwrap());
        traffic.wait_for_commits(50);
    });
    let second = second.unwrap();
    ask(&second);
    assert_delivered(&first, &stage.standin);
    first.stop(StopMode::Fast).unwrap();
    second.promote().unwrap();
    under_traffic(&second, 2, |traffic| traffic.wait_for_commits(50));
    assert_delivered(&second, &stage.standin);
}
