//! What a request contains: how many rows, how many bytes, which headers.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

#[test]
fn small_commits_wait_for_each_other_when_they_may_linger() {
    let stage = Stage::builder()
        .setting("audit_algolia.linger", "3s")
        .setting("audit_algolia.batch_rows", 20)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    // A new index is first scanned completely, and that does not linger.
    insert(&mut db, "log", 1..=1);
    stage.wait_for_records("log", 1);
    for id in 2..=9 {
        insert(&mut db, "log", id..=id);
    }
    stage.wait_for_records("log", 9);
    assert_eq!(stage.standin.batches("log").len(), 2);
    // A full batch does not linger.
    let time = took(|| {
        insert(&mut db, "log", 101..=120);
        stage.wait_for_records("log", 29);
    });
    assert!(time < Duration::from_millis(2500), "{time:?}");
}

#[test]
fn a_request_holds_no_more_bytes_than_allowed_and_a_larger_record_travels_alone() {
    let stage = Stage::builder()
        .setting("audit_algolia.batch_bytes", "64kB")
        .setting("audit_algolia.workers", 1)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute(
        "insert into log select n, repeat('x', case when n % 10 = 0 then 80000 else 9000 end)
         from generate_series(1, 60) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 60);
    assert_each_once(&stage.standin, "log", 1..=60);
    for request in stage.standin.requests() {
        let rows = request.body_text().matches("\"action\"").count();
        assert!(
            request.decoded_bytes <= 64 << 10 || rows == 1,
            "{} bytes, {rows} rows",
            request.decoded_bytes
        );
    }
    let batches = stage.standin.batches("log");
    assert!(batches.iter().any(|batch| batch.len() >= 5), "{batches:?}");
}

#[test]
fn compression_follows_its_setting() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=1);
    stage.wait_for_records("log", 1);
    insert(&mut db, "log", 101..=200);
    stage.wait_for_records("log", 101);
    stage.cluster.set(&[("audit_algolia.compression", "off")]).unwrap();
    let mut next = 1000;
    wait_until("plain requests", SOON, || {
        insert(&mut db, "log", next..=next + 99);
        next += 100;
        assert!(one::<bool>(&mut db, "select audit_algolia.flush()"));
        stage.standin.requests().last().unwrap().header("content-encoding").is_none()
    });
    let requests = stage.standin.requests();
    assert_eq!(requests[0].header("content-encoding"), None, "too small");
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    assert!(requests[1].body_bytes * 3 < requests[1].decoded_bytes);
    let plain = requests.last().unwrap();
    assert_eq!(plain.body_bytes, plain.decoded_bytes);
}

#[test]
fn requests_say_who_sends_them() {
    let stage =
        Stage::builder().setting("audit_algolia.user_agent_suffix", "my gateway (2)").start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=1);
    stage.wait_for_records("log", 1);
    let request = &stage.standin.requests()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("x-algolia-application-id"), Some(APP_ID));
    assert_eq!(request.header("x-algolia-api-key"), Some(ADMIN_KEY));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let agent = request.header("user-agent").unwrap();
    assert!(
        agent.starts_with("Algolia for audit_algolia (") && agent.ends_with("; my gateway (2)"),
        "{agent}"
    );
    let server: String = one(&mut db, "show server_version");
    assert!(agent.contains(&format!("PostgreSQL ({})", server.split(' ').next().unwrap())));
}
