//! Processes that wait for a lock hold no snapshot meanwhile, so that vacuum can go on everywhere.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::{eventually, wait_until};
use nix::sys::signal::Signal;
use postgres::Client;

use crate::support::*;

/// Waits until a process of this kind waits for a lock, without a snapshot or a transaction id.
#[track_caller]
fn wait_for_waiting(db: &mut Client, kind: &str) {
    let query = "select backend_xmin is null and backend_xid is null from pg_stat_activity
        where backend_type = $1 and wait_event_type = 'Lock'";
    let is_free = eventually(&format!("{kind} to wait for a lock"), SOON, || {
        db.query_opt(query, &[&kind]).unwrap().map(|row| row.get::<_, bool>(0))
    });
    assert!(is_free, "{kind} holds a snapshot or a transaction id while it waits");
}

fn stage() -> Stage {
    Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap()
}

#[test]
fn a_worker_that_waits_to_claim_has_no_snapshot() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::error(503, "down"), Times::Always);
    insert(&mut db, "log", 1..=10);
    wait_until("failures", SOON, || queue(&mut db, "log").failed_total > 0);
    let mut holder = stage.admin();
    holder.batch_execute("begin; lock table audit_algolia.queue").unwrap();
    wait_for_waiting(&mut db, "audit_algolia worker");
    stage.standin.clear_faults();
    holder.batch_execute("commit").unwrap();
    stage.wait_for_records("log", 10);
}

#[test]
fn a_worker_that_waits_to_settle_has_no_snapshot() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::HangFor(SOON), Times::Always);
    insert(&mut db, "log", 1..=10);
    wait_until("a batch", SOON, || queue(&mut db, "log").in_flight == 10);
    let mut holder = stage.admin();
    holder.batch_execute("begin; lock table audit_algolia.queue").unwrap();
    stage.standin.clear_faults();
    wait_for_waiting(&mut db, "audit_algolia worker");
    assert_eq!(stage.standin.index("log").len(), 10);
    holder.batch_execute("commit").unwrap();
    wait_for_empty_queue(&mut db);
}

#[test]
fn a_worker_that_waits_to_read_the_indices_has_no_snapshot() {
    let stage = stage();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 1);
    for table in ["index", "queue", "backfill", "repair"] {
        let mut holder = stage.admin();
        holder.batch_execute(&format!("begin; lock table audit_algolia.{table}")).unwrap();
        let before = a_worker(&mut db, "postgres");
        db.execute("select pg_terminate_backend($1)", &[&before]).unwrap();
        wait_for_waiting(&mut db, "audit_algolia worker");
        holder.batch_execute("commit").unwrap();
        replace_workers(&mut db, "postgres");
    }
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
}

#[test]
fn a_counter_that_waits_has_no_snapshot() {
    const COUNTER: &str = "select pid from pg_stat_activity where backend_type = 'audit_algolia counter'";
    let stage = stage();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    std::fs::write(stage.cluster.data_dir().join("audit_algolia.failpoint"), "in count stop").unwrap();
    watch(&mut db, "more");
    let counter = eventually("a counter that stands still", SOON, || {
        let pid = db.query_opt(COUNTER, &[]).unwrap().map(|row| row.get::<_, i32>(0))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        status.contains(") T ").then_some(pid)
    });
    let mut holder = stage.admin();
    holder.batch_execute("begin; lock table audit_algolia.queue").unwrap();
    stage.cluster.kill_backend(counter, Signal::SIGCONT).unwrap();
    wait_for_waiting(&mut db, "audit_algolia counter");
    holder.batch_execute("commit").unwrap();
    wait_until("its end", SOON, || db.query_opt(COUNTER, &[]).unwrap().is_none());
    insert(&mut db, "more", 1..=10);
    stage.wait_for_records("more", 10);
}

#[test]
fn a_process_that_sends_history_waits_for_no_locked_queue() {
    const PROCESS: &str = "select pid from pg_stat_activity where backend_type = 'audit_algolia backfill'";
    let stage = stage();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note text);
         insert into log select n, 'note ' || n from generate_series(1, 30) as n;
         select audit_algolia.watch('log', columns => '{note}');
         select audit_algolia.backfill('log', rows_per_second => 5)",
    )
    .unwrap();
    let first = eventually("the process", SOON, || {
        db.query_opt(PROCESS, &[]).unwrap().map(|row| row.get::<_, i32>(0))
    });
    wait_until("some history", SOON, || !stage.standin.index("log").is_empty());
    let mut holder = stage.admin();
    holder.batch_execute("begin; lock table audit_algolia.queue").unwrap();
    db.execute("select pg_terminate_backend($1)", &[&first]).unwrap();
    // It has checked what there is to do, and found nothing that it can do now.
    let at_rest =
        "select backend_xmin is null and wait_event_type is distinct from 'Lock' and query like 'waiting%'
        from pg_stat_activity where backend_type = 'audit_algolia backfill' and pid <> $1";
    wait_until("another one at rest", SOON, || {
        db.query_opt(at_rest, &[&first]).unwrap().is_some_and(|row| row.get(0))
    });
    holder.batch_execute("commit").unwrap();
    stage.wait_for_records("log", 30);
}
