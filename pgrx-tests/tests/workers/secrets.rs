//! Keys are used, and never shown.

use audit_algolia_tests::stage::{Stage, PSEUDONYM_KEY, SOON};
use audit_algolia_tests::standin::{Fault, Times, ADMIN_KEY};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

/// Secrets that the tests below use besides the stage's own.
const OTHERS: [&str; 3] = ["changed-api-key-1", "changed-pseudonym-key-2", "altered-key-3"];

#[track_caller]
fn assert_no_secret(text: &str) {
    for secret in OTHERS.into_iter().chain([ADMIN_KEY, PSEUDONYM_KEY]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn the_log_never_holds_a_key() {
    let stage = Stage::builder().setting("log_min_messages", "debug1").start().unwrap();
    let mut db = staged(&stage, "log");
    let echo = |key: &str| format!("Invalid key {key}, really {key}");
    stage.standin.fault(None, Fault::error(503, &echo(ADMIN_KEY)), Times::Count(2));
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    assert_no_secret(&queue(&mut db, "log").last_error);
    stage
        .cluster
        .set(&[("audit_algolia.api_key", OTHERS[0]), ("audit_algolia.pseudonym_key", OTHERS[1])])
        .unwrap();
    let mut next = 11;
    wait_until("a refusal", SOON, || {
        insert(&mut db, "log", next..=next);
        next += 1;
        queue(&mut db, "log").state == "blocked"
    });
    // The key is in use by now, so an answer could contain it.
    stage.standin.fault(None, Fault::error(403, &echo(OTHERS[0])), Times::Always);
    wait_until("the echo", SOON, || {
        db.batch_execute("select audit_algolia.resume()").unwrap();
        queue(&mut db, "log").last_error.contains("really")
    });
    stage.standin.clear_faults();
    assert_no_secret(&queue(&mut db, "log").last_error);
    db.batch_execute(&format!("alter system set audit_algolia.api_key = '{}'", OTHERS[2])).unwrap();
    stage.cluster.reload().unwrap();
    db.batch_execute("alter system reset audit_algolia.api_key").unwrap();
    stage.cluster.set(&[("audit_algolia.api_key", ADMIN_KEY)]).unwrap();
    stage.wait_for_records("log", next as usize - 1);
    assert_no_secret(&stage.cluster.log());
}

#[test]
fn no_session_is_shown_a_key() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("create role reader login; grant pg_read_all_settings, pg_monitor to reader").unwrap();
    db.batch_execute("create role nobody login").unwrap();
    for user in ["postgres", "reader", "nobody"] {
        let mut session = stage.cluster.client("postgres", user);
        let all: String = session
            .query_one(
                "select coalesce(string_agg(s::text, ' '), '') from pg_settings as s where name like 'audit_algolia.%'",
                &[],
            )
            .unwrap()
            .get(0);
        assert_no_secret(&all);
        for name in ["audit_algolia.api_key", "audit_algolia.pseudonym_key"] {
            match session.query_one(&format!("show {name}"), &[]) {
                Ok(row) => assert_eq!(row.get::<_, String>(0), "********"),
                Err(error) => assert!(user == "nobody", "{user}: {error}"),
            }
        }
        assert!(session.batch_execute(&format!("set audit_algolia.api_key = '{}'", OTHERS[2])).is_err());
    }
}
