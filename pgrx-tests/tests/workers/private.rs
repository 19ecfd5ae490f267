//! Gateways in internal networks: a private certificate authority is trusted only if `ca_file` names it.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

#[test]
fn a_private_authority_is_trusted_when_it_is_named_and_not_before() {
    let stage = Stage::builder()
        .standin(|standin| standin.https = true)
        .setting("audit_algolia.retry_min", "50ms")
        .setting("audit_algolia.retry_max", "200ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let (url, pem) = stage.standin.https().unwrap();
    stage.cluster.set(&[("audit_algolia.hosts", &url)]).unwrap();
    wait_until("the setting", SOON, || one::<String>(&mut db, "show audit_algolia.hosts") == url);
    insert(&mut db, "log", 1..=10);
    wait_until("a refusal", SOON, || queue(&mut db, "log").last_error.contains("unknown authority"));
    let told = queue(&mut db, "log").last_error;
    assert!(told.contains("audit_algolia.ca_file"), "{told}");
    assert_eq!(stage.standin.request_count(), 0, "nothing is said to a host that cannot prove who it is");
    let file = KeyFile::new(&stage, pem, 0o644);
    stage.cluster.set(&[("audit_algolia.ca_file", file.path())]).unwrap();
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    insert(&mut db, "log", 11..=20);
    stage.wait_for_records("log", 20);
}
