//! On a standby the workers sleep, and after promotion they continue by themselves.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

#[test]
fn a_standby_delivers_after_its_promotion() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=100);
    let standby = Cluster::standby_of(&stage.cluster).unwrap();
    let mut reader = standby.client("postgres", "postgres");
    assert_eq!(queue(&mut reader, "log").state, "standby");
    assert_eq!(queue(&mut reader, "log").queued, 100);
    let processes = "select count(*) from pg_stat_activity where backend_type like 'audit_algolia%'";
    assert_eq!(one::<i64>(&mut reader, processes), 0);
    stage.cluster.stop(StopMode::Immediate).unwrap();
    stage.standin.clear_faults();
    standby.promote().unwrap();
    stage.wait_for_records("log", 100);
    wait_until("an idle lane", audit_algolia_tests::stage::SOON, || {
        queue(&mut reader, "log").state == "idle"
    });
    insert(&mut reader, "log", 101..=110);
    stage.wait_for_records("log", 110);
    wait_for_empty_queue(&mut reader);
}
