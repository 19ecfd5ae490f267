//! Failures that only a person can fix: they are reported with a remedy, retried at intervals, and over when they are
//! fixed.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Gzip, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

#[test]
fn a_refusal_is_told_with_its_remedy_and_ends_by_itself() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "1ms")
        .setting("audit_algolia.retry_max", "150ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let cases = [
        (401, "Invalid credentials", "audit_algolia.api_key"),
        (402, "Feature not enabled", "billing"),
        (403, "Invalid Application-ID or API key", "audit_algolia.api_key"),
        (403, "Method not allowed with this API key", "addObject"),
        (403, "Not enough rights to add an object near line:1 column:332", "addObject"),
        (403, "Index not allowed with this API key", "this index"),
        (403, "Method not allowed with this referer", "referers"),
        (403, "Operations quota exceeded, change plan to get more Operations.", "quota"),
        (404, "Index does not exist", "audit_algolia.hosts"),
    ];
    let mut faults: Vec<_> =
        cases.iter().map(|(status, text, hint)| (Fault::error(*status, text), *text, *hint)).collect();
    faults.push((Fault::record_quota(), "exceeded your Record quota", "Raise the quota"));
    faults.push((Fault::blocked(), "application is blocked", "Contact Algolia"));
    for (number, (fault, text, hint)) in faults.into_iter().enumerate() {
        let before = stage.standin.request_count();
        stage.standin.fault(None, fault, Times::Always);
        let id = number as i64 + 1;
        insert(&mut db, "log", id..=id);
        wait_for_state(&mut db, "log", "blocked");
        let told = queue(&mut db, "log").last_error;
        assert!(told.contains(text) && told.contains(hint), "{told}");
        wait_until("another attempt", SOON, || stage.standin.request_count() >= before + 2);
        stage.standin.clear_faults();
        stage.wait_for_records("log", number + 1);
        let times: Vec<_> = stage.standin.requests()[before..].iter().map(|request| request.at).collect();
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_millis(149), "{text}: {:?}", pair[1] - pair[0]);
        }
        wait_for_state(&mut db, "log", "idle");
    }
    let log = stage.cluster.log();
    assert!(
        log.contains("Invalid credentials") && log.contains("audit_algolia.api_key"),
        "the remedy is logged"
    );
}

#[test]
fn a_host_that_cannot_unzip_gets_plain_bodies_from_then_on() {
    for (gzip, refusal) in [(Gzip::Refused, 415), (Gzip::Ignored, 400)] {
        let stage = Stage::builder()
            .setting("audit_algolia.workers", 1)
            .standin(move |standin| standin.gzip = gzip)
            .start()
            .unwrap();
        let mut db = staged(&stage, "log");
        for start in [1, 101, 201] {
            insert(&mut db, "log", start..=start + 99);
            stage.wait_for_records("log", start as usize + 99);
        }
        wait_for_empty_queue(&mut db);
        let seen: Vec<_> = stage
            .standin
            .requests()
            .iter()
            .map(|request| (request.status, request.header("content-encoding").map(str::to_owned)))
            .collect();
        assert_eq!(seen[0], (Some(refusal), Some("gzip".to_owned())));
        assert!(seen.len() >= 4 && seen[1..].iter().all(|seen| *seen == (Some(200), None)), "{seen:?}");
        assert_eq!(queue(&mut db, "log").failed_total, 0);
    }
}
