//! Background processes that wait for a lock: the server can still stop at once, and they continue when the lock is
//! released.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// Makes one of our processes wait for the lock on the queue that `holder` takes.
type Bring = fn(&Stage, &mut Client, &mut Client);

const LOCK: &str = "begin; lock table audit_algolia.queue";

const STATES: [(&str, &str, Bring); 3] = [
    ("claiming", "audit_algolia worker", |_, db, holder| {
        db.batch_execute("select audit_algolia.pause('log')").unwrap();
        wait_for_state(db, "log", "paused");
        insert(db, "log", 1..=100);
        holder.batch_execute(LOCK).unwrap();
        db.batch_execute("select audit_algolia.resume('log')").unwrap();
    }),
    ("settling", "audit_algolia worker", |stage, db, holder| {
        stage.standin.fault(None, Fault::Hang, Times::Always);
        insert(db, "log", 101..=110);
        wait_until("a hanging request", SOON, || stage.standin.in_hang() >= 1);
        holder.batch_execute(LOCK).unwrap();
        // The request is answered when the lock is available: the hanging one is dropped, and the next attempt
        // succeeds.
        stage.standin.clear_faults();
    }),
    ("counting", "audit_algolia counter", |_, db, holder| {
        holder.batch_execute(LOCK).unwrap();
        db.batch_execute("copy audit_algolia.dead_letter from program 'true'").unwrap();
    }),
];

fn wait_until_waiting(db: &mut Client, process: &str) {
    let waiting = "select count(*) from pg_stat_activity
         where backend_type = $1 and wait_event_type = 'Lock' and wait_event = 'relation'";
    wait_until(&format!("a waiting {process}"), SOON, || {
        db.query_one(waiting, &[&process]).unwrap().get::<_, i64>(0) > 0
    });
}

#[test]
fn who_waits_for_a_lock_does_not_keep_the_server_from_stopping() {
    let stage = Stage::builder()
        .setting("audit_algolia.request_timeout", "1s")
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "50ms")
        .start()
        .unwrap();
    drop(staged(&stage, "log"));
    for (state, process, bring) in STATES {
        let mut db = stage.session();
        wait_for_state(&mut db, "log", "idle");
        let mut holder = stage.session();
        bring(&stage, &mut db, &mut holder);
        wait_until_waiting(&mut db, process);
        let time = stage.cluster.stop(StopMode::Fast).unwrap();
        assert!(time < AT_ONCE, "{state}: {time:?}");
        stage.cluster.start().unwrap();
        let mut db = stage.session();
        wait_for_empty_queue(&mut db);
    }
    let mut db = stage.session();
    let rows: i64 = one(&mut db, "select count(*) from log");
    assert_eq!(stage.standin.index("log").len() as i64, rows);
}
