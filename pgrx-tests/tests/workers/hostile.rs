//! Settings that an administrator has made for all sessions, and that must not affect the workers.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

/// What is set for the server, the database and the role at the same time.
const SETTINGS: [(&str, &str); 12] = [
    ("statement_timeout", "1ms"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("idle_session_timeout", "1ms"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("row_security", "off"),
    ("search_path", "evil, pg_catalog"),
    ("session_replication_role", "replica"),
    ("enable_indexscan", "off"),
    ("default_table_access_method", "heap"),
];

#[test]
fn settings_made_for_everybody_do_not_reach_the_workers() {
    let stage = Stage::builder().setting("audit_algolia.tail_share", 50).start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute(
        "create schema evil;
         create function evil.int8eq(bigint, bigint) returns boolean language sql as 'select false';
         create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.int8eq);
         create table evil.queue (like audit_algolia.queue)",
    )
    .unwrap();
    // What a session sets itself takes precedence.
    let sane = "set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0;
         set idle_session_timeout = 0; set session characteristics as transaction read write;
         set default_transaction_isolation = 'read committed'; set search_path = public;
         set session_replication_role = origin";
    db.batch_execute(sane).unwrap();
    let mut holder = stage.admin();
    holder.batch_execute(sane).unwrap();
    for (name, value) in SETTINGS {
        let quoted = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
        db.batch_execute(&format!("alter database postgres set {name} = {quoted}")).unwrap();
        db.batch_execute(&format!("alter role postgres set {name} = {quoted}")).unwrap();
        if name != "session_replication_role" {
            stage.cluster.set(&[(name, value)]).unwrap();
        }
    }
    // Workers that start with all that.
    replace_workers(&mut db, "postgres");
    stage.standin.fault(None, Fault::error(503, "down"), Times::Count(3));
    insert(&mut db, "log", 1..=5000);
    stage.wait_for_records("log", 5000);
    wait_for_empty_queue(&mut db);
    assert_holds(&stage.standin, "log", 1..=5000);
    // A lock that is held for long is waited for.
    holder.batch_execute("begin; lock table audit_algolia.queue in share mode").unwrap();
    let log = stage.cluster.log();
    for fault in ["canceling statement", "terminating connection due to idle", "read-only transaction"] {
        let ours = log.lines().filter(|line| line.contains(fault) && !line.contains("postgres@postgres"));
        assert_eq!(ours.count(), 0, "{fault}");
    }
    holder.batch_execute("commit").unwrap();
    insert(&mut db, "log", 5001..=5010);
    stage.wait_for_records("log", 5010);
}

#[test]
fn a_rebuilt_or_locked_queue_is_waited_for() {
    let stage = Stage::builder().setting("audit_algolia.batch_rows", 50).start().unwrap();
    let mut db = staged(&stage, "log");
    let mut next = 1;
    for statement in [
        "vacuum full audit_algolia.queue",
        "reindex table audit_algolia.queue",
        "reindex table concurrently audit_algolia.queue",
        "cluster audit_algolia.queue using queue_pkey",
        "alter table audit_algolia.queue set (fillfactor = 90)",
        "begin; lock table audit_algolia.queue; select pg_sleep(0.2); commit",
        "vacuum audit_algolia.queue",
        "truncate log",
    ] {
        insert(&mut db, "log", next..=next + 1999);
        next += 2000;
        db.batch_execute(statement).unwrap();
        insert(&mut db, "log", next..=next + 9);
        next += 10;
    }
    stage.wait_for_records("log", next as usize - 1);
    wait_for_empty_queue(&mut db);
    assert_holds(&stage.standin, "log", 1..next);
    assert_no_faults(&stage.cluster);
}

#[test]
fn a_queue_emptied_by_hand_is_counted_again_and_goes_on() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    insert(&mut db, "log", 1..=100);
    db.batch_execute("truncate audit_algolia.queue; select audit_algolia.resume('log')").unwrap();
    insert(&mut db, "log", 101..=110);
    stage.wait_for_records("log", 10);
    assert_holds(&stage.standin, "log", 101..=110);
    // A restore, or any COPY into the tables, causes a count. So does a restart.
    db.batch_execute("copy audit_algolia.queue from program 'true'").unwrap();
    wait_until("a count", SOON, || queue(&mut db, "log").queued == 0);
}
