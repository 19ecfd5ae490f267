//! While Algolia hangs, the server works as if nothing were being delivered.

use std::time::Duration;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{ApiKey, Fault, Times, ADMIN_KEY};
use audit_algolia_tests::wait::{stays_true, wait_until};

use crate::support::*;

/// A stage in which all requests that the workers may have in flight hang.
fn hanging() -> Stage {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 2)
        .setting("audit_algolia.in_flight", 2)
        .setting("audit_algolia.batch_rows", 10)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 2);
    stage.standin.fault(None, Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=500);
    wait_until("hanging requests", SOON, || stage.standin.in_hang() >= 2);
    insert(&mut db, "log", 501..=510);
    wait_until("the slot kept for fresh rows", SOON, || stage.standin.in_hang() >= 3);
    stage
}

#[test]
fn no_transaction_is_open_while_the_network_is_waited_for() {
    let stage = hanging();
    let mut db = stage.admin();
    let open = "
        select count(*) from pg_stat_activity
        where backend_type like 'audit_algolia%' and (backend_xid is not null or backend_xmin is not null
            or xact_start is not null)";
    wait_until("no transaction", SOON, || one::<i64>(&mut db, open) == 0);
    let locks = "
        select count(*) from pg_locks as l join pg_stat_activity as a using (pid)
        where a.backend_type like 'audit_algolia%' and l.locktype <> 'virtualxid'";
    assert_eq!(one::<i64>(&mut db, locks), 0);
    // Rows are not locked either: anybody can read them.
    let rows = "select count(*) from (select from audit_algolia.queue for update nowait) as q";
    assert_eq!(one::<i64>(&mut db, rows), 510);
}

#[test]
fn workers_sleep_while_the_network_is_waited_for() {
    let stage = hanging();
    let pids = workers(&mut stage.admin(), "postgres");
    let before: u64 = switches(&pids).iter().sum();
    stays_true("asleep", Duration::from_secs(2), || switches(&pids).iter().sum::<u64>() < before + 50);
}

#[test]
fn the_server_stops_and_starts_at_once_and_all_rows_arrive() {
    let stage = hanging();
    let time = stage.cluster.stop(StopMode::Fast).unwrap();
    assert!(time < AT_ONCE, "{time:?}");
    stage.standin.clear_faults();
    stage.cluster.start().unwrap();
    stage.wait_for_records("log", 510);
    assert_holds(&stage.standin, "log", 1..=510);
    assert!(!stage.cluster.log().contains("terminated by signal"));
    wait_for_empty_queue(&mut stage.admin());
}

#[test]
fn a_fresh_row_that_lingers_uses_its_slot_when_its_time_has_come() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 2)
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.linger", "300ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Once);
    insert(&mut db, "log", 1..=20);
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    let time = took(|| {
        insert(&mut db, "log", 21..=21);
        wait_until("the fresh row", SOON, || sent(&stage.standin, "log").contains(&21));
    });
    assert!(time < Duration::from_secs(3), "{time:?}");
}

#[test]
fn new_hosts_are_tried_at_once_when_the_old_ones_hang() {
    let stage = Stage::builder().standin(|standin| standin.hosts = 2).start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(Some(0), Fault::Hang, Times::Always);
    insert(&mut db, "log", 1..=10);
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    let fixed = &stage.standin.base_urls()[1];
    let time = took(|| {
        stage.cluster.set(&[("audit_algolia.hosts", fixed)]).unwrap();
        stage.wait_for_records("log", 10);
    });
    assert!(time < Duration::from_secs(5), "{time:?}");
    wait_for_empty_queue(&mut db);
}

#[test]
fn a_new_key_is_used_at_once_while_requests_with_the_old_one_hang() {
    let stage = Stage::builder()
        .standin(|standin| standin.keys.push(ApiKey::new("the-next-key", &["addObject"])))
        .setting("audit_algolia.batch_rows", 10)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Count(4));
    insert(&mut db, "log", 1..=40);
    wait_until("hanging requests", SOON, || stage.standin.in_hang() == 4);
    let time = took(|| {
        stage.cluster.set(&[("audit_algolia.api_key", "the-next-key")]).unwrap();
        stage.wait_for_records("log", 40);
    });
    assert!(time < Duration::from_secs(5), "{time:?}");
    for request in stage.standin.requests() {
        let expected = if request.status.is_some() { "the-next-key" } else { ADMIN_KEY };
        assert_eq!(request.header("x-algolia-api-key"), Some(expected));
    }
    wait_for_empty_queue(&mut db);
}

#[test]
fn delivery_that_is_switched_off_while_requests_hang_goes_on_when_it_is_switched_on() {
    let stage = Stage::builder()
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.request_timeout", "700ms")
        .setting("audit_algolia.retry_min", "10ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::Hang, Times::Count(2));
    insert(&mut db, "log", 1..=20);
    wait_until("hanging requests", SOON, || stage.standin.in_hang() == 2);
    stage.cluster.set(&[("audit_algolia.enabled", "off")]).unwrap();
    wait_for_state(&mut db, "log", "paused");
    wait_until("the end of the requests", SOON, || queue(&mut db, "log").in_flight == 0);
    let before = stage.standin.request_count();
    stays_true("nothing sent", Duration::from_millis(300), || stage.standin.request_count() == before);
    stage.cluster.set(&[("audit_algolia.enabled", "on")]).unwrap();
    stage.wait_for_records("log", 20);
    wait_for_empty_queue(&mut db);
}
