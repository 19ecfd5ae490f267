//! A fast shutdown takes less than two seconds, whatever the workers are doing.

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// Brings the server into a state. Returns a session that must stay open.
type Bring = fn(&Stage, &mut Client) -> Option<Client>;

const STATES: [(&str, Bring); 9] = [
    ("idle", |_, _| None),
    ("hanging requests", |stage, db| {
        stage.standin.fault(None, Fault::Hang, Times::Always);
        insert(db, "log", 1..=5000);
        wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 3);
        None
    }),
    ("a connection that is not accepted", |stage, db| {
        // An address of a network reserved for documentation: nobody answers, and hardly any network refuses the
        // connection.
        stage.cluster.set(&[("audit_algolia.hosts", "http://192.0.2.1:81")]).unwrap();
        insert(db, "log", 5001..=5010);
        wait_until("an attempt", SOON, || {
            let seen = queue(db, "log");
            seen.in_flight > 0 || seen.state == "backing off"
        });
        None
    }),
    ("backing off", |stage, db| {
        stage.standin.clear_faults();
        stage.standin.fault(None, Fault::error(503, "down"), Times::Always);
        wait_for_state(db, "log", "backing off");
        None
    }),
    ("blocked", |stage, db| {
        stage.standin.clear_faults();
        stage.standin.fault(None, Fault::blocked(), Times::Always);
        wait_for_state(db, "log", "blocked");
        None
    }),
    ("a trickling answer", |stage, db| {
        stage.standin.clear_faults();
        stage.standin.fault(None, Fault::EndlessBody, Times::Always);
        insert(db, "log", 6001..=6010);
        wait_until("an attempt", SOON, || queue(db, "log").in_flight > 0);
        None
    }),
    ("a locked queue", |stage, db| {
        stage.standin.clear_faults();
        let mut holder = stage.admin();
        insert(db, "log", 7001..=7010);
        holder.batch_execute("begin; lock table audit_algolia.queue").unwrap();
        Some(holder)
    }),
    ("a search for poison", |stage, db| {
        stage.standin.set_max_record_bytes(10);
        stage.standin.set_latency(std::time::Duration::from_millis(50));
        insert(db, "log", 8001..=9000);
        wait_until("an attempt", SOON, || queue(db, "log").in_flight > 0);
        None
    }),
    ("starting", |stage, _| {
        stage.standin.set_max_record_bytes(100_000);
        stage.standin.set_latency(std::time::Duration::ZERO);
        None
    }),
];

#[test]
fn a_fast_stop_is_fast_in_every_state() {
    let stage = Stage::builder().setting("audit_algolia.request_timeout", "10min").start().unwrap();
    drop(staged(&stage, "log"));
    let hosts = stage.standin.base_urls().join(",");
    for (state, bring) in STATES {
        let mut db = stage.session();
        let holder = bring(&stage, &mut db);
        let time = stage.cluster.stop(StopMode::Fast).unwrap();
        assert!(time < AT_ONCE, "{state}: {time:?}");
        drop(holder);
        stage.cluster.start().unwrap();
        stage.cluster.set(&[("audit_algolia.hosts", &hosts)]).unwrap();
    }
    stage.standin.clear_faults();
    let mut db = stage.session();
    wait_until("an empty queue", SOON, || queue(&mut db, "log").queued == 0);
    let lost: i64 = one(&mut db, "select count(*) from log");
    assert_eq!(stage.standin.index("log").len() as i64 + queue(&mut db, "log").dead, lost);
}
