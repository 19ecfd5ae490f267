//! What keeps `configure_index` from sending settings: refusals, missing rights, pauses, locks. It never delays records.

use std::time::Duration;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::standin::{ApiKey, Fault, Times, ADMIN_KEY};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;
use serde_json::Value;

use crate::configure::*;
use crate::support::*;

#[test]
fn refused_settings_are_dead_letters_until_somebody_acts() {
    let stage = builder().start().unwrap();
    let mut db = staged(&stage, "log");
    let refusal = || Fault::error(400, "Invalid object attributes: nonsense near line:1 column:5");
    fail_settings(&stage, refusal(), Times::Once);
    configure(&mut db);
    wait_until("a dead letter", SOON, || queue(&mut db, "log").dead == 1);
    let letter = db
        .query_one(
            "select index_name, object_id, action, record, attempts, http_status, error, id
             from audit_algolia.dead_letters",
            &[],
        )
        .unwrap();
    let text = |column| letter.get::<_, Option<String>>(column);
    assert_eq!((text(0).as_deref(), text(1), text(2).as_deref()), (Some("log"), None, Some("settings")));
    assert_eq!(letter.get::<_, Value>(3), Value::Object(wanted(&mut db)));
    assert_eq!((letter.get::<_, i32>(4), letter.get::<_, i32>(5)), (1, 400));
    assert!(text(6).unwrap().contains("nonsense"));
    let seen = queue(&mut db, "log");
    assert!(seen.last_error.contains("nonsense"), "{}", seen.last_error);
    assert_eq!((seen.dead_total, seen.queued, seen.state.as_str()), (1, 0, "idle"));
    assert!(stage.cluster.log().contains("has given up the settings of index \"log\""));
    assert!(one::<bool>(&mut db, "select audit_algolia.flush()"), "nothing waits");
    insert(&mut db, "log", 1..=1);
    stage.wait_for_records("log", 1);
    assert_eq!(puts(&stage.standin, "log").len(), 1, "not tried again");

    // Refused again and put back again.
    fail_settings(&stage, refusal(), Times::Once);
    assert_eq!(one::<i64>(&mut db, "select audit_algolia.redrive()"), 1);
    wait_until("another dead letter", SOON, || queue(&mut db, "log").dead_total == 2);
    let id: i64 = one(&mut db, "select id from audit_algolia.dead_letters");
    assert_eq!(one::<i64>(&mut db, &format!("select audit_algolia.redrive('log', '{{{id}}}')")), 1);
    wait_for_settings(&stage, &mut db);
    assert_eq!(queue(&mut db, "log").dead, 0);

    // New ones replace refused ones.
    fail_settings(&stage, refusal(), Times::Once);
    configure(&mut db);
    wait_until("a third dead letter", SOON, || queue(&mut db, "log").dead == 1);
    stage.standin.reset();
    configure(&mut db);
    wait_for_settings(&stage, &mut db);
    assert_eq!(queue(&mut db, "log").dead, 0);
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.dead_letters"), 0);
}

#[test]
fn a_key_that_may_only_write_records_goes_on_writing_them() {
    let stage = builder()
        .standin(|standin| standin.keys.push(ApiKey::new("writer", &["addObject"])))
        .start()
        .unwrap();
    drop(staged(&stage, "log"));
    // After a reload, the worker may read the settings to send before it reads the key.
    let begin_with = |key: &str| {
        stage.cluster.set(&[("audit_algolia.api_key", key)]).unwrap();
        stage.cluster.restart(StopMode::Fast).unwrap();
        stage.admin()
    };
    let mut db = begin_with("writer");
    configure(&mut db);
    wait_until("a dead letter", SOON, || queue(&mut db, "log").dead == 1);
    assert!(queue(&mut db, "log").last_error.contains("editSettings"));
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    assert_ne!(queue(&mut db, "log").state, "blocked");
    db = begin_with(ADMIN_KEY);
    db.batch_execute("select audit_algolia.redrive('log')").unwrap();
    wait_for_settings(&stage, &mut db);
}

#[test]
fn what_only_a_person_can_fix_is_tried_at_once_when_it_is_fixed() {
    let stage = builder().setting("audit_algolia.retry_max", "1h").start().unwrap();
    let mut db = staged(&stage, "log");
    fail_settings(&stage, Fault::blocked(), Times::Once);
    configure(&mut db);
    wait_until("the reason", SOON, || queue(&mut db, "log").last_error.contains("Contact Algolia"));
    stays_true("it waits", Duration::from_millis(300), || puts(&stage.standin, "log").len() == 1);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_for_settings(&stage, &mut db);
}

#[test]
fn settings_wanted_by_a_prepared_transaction_are_sent_when_it_commits() {
    let stage = builder().setting("max_prepared_transactions", 5).start().unwrap();
    let mut db = staged(&stage, "log");
    for restart in [false, true] {
        db.batch_execute("begin; select audit_algolia.configure_index('log'); prepare transaction 'later'")
            .unwrap();
        if restart {
            stage.cluster.restart(StopMode::Immediate).unwrap();
            db = stage.session();
        }
        stays_true("nothing is sent", Duration::from_millis(300), || stage.standin.request_count() == 0);
        db.batch_execute("commit prepared 'later'").unwrap();
        wait_for_settings(&stage, &mut db);
        stage.standin.reset();
    }
}

#[test]
fn settings_of_a_paused_index_wait_for_its_resumption() {
    let stage = builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute("select audit_algolia.pause('log'); select audit_algolia.configure_index('log')")
        .unwrap();
    stays_true("nothing is sent", Duration::from_millis(300), || stage.standin.request_count() == 0);
    db.batch_execute("select audit_algolia.resume()").unwrap();
    wait_for_settings(&stage, &mut db);
}

#[test]
fn configuring_takes_the_ownership_of_all_tables_of_the_index() {
    let stage = builder().start().unwrap();
    let mut db = staged(&stage, "log");
    db.batch_execute(
        "create role owner login; create role other login; alter table log owner to owner;
         grant usage on schema audit_algolia to owner, other",
    )
    .unwrap();
    let call = "select audit_algolia.configure_index('log')";
    let code = |client: &mut Client, call: &str| match client.batch_execute(call) {
        Ok(()) => String::new(),
        Err(error) => error.code().unwrap().code().to_owned(),
    };
    let (mut owner, mut other) =
        (stage.cluster.client("postgres", "owner"), stage.cluster.client("postgres", "other"));
    assert_eq!(code(&mut owner, call), "42501", "nobody is granted it by us");
    db.batch_execute("grant execute on function audit_algolia.configure_index to owner, other").unwrap();
    assert_eq!(code(&mut other, call), "42501");
    assert_eq!(code(&mut owner, "select audit_algolia.configure_index('nowhere')"), "42704");
    assert_eq!(code(&mut owner, "select audit_algolia.configure_index(null)"), "22004");
    assert_eq!(code(&mut owner, "begin read only; select audit_algolia.configure_index('log')"), "25006");
    owner.batch_execute("rollback").unwrap();
    assert!(stage.standin.requests().is_empty());
    assert_eq!(code(&mut owner, call), "");
    wait_for_settings(&stage, &mut db);
}

/// Sessions that lock what the worker reads or deletes, and take their time.
#[test]
fn whoever_holds_the_settings_locked_holds_up_no_records() {
    let stage = builder().setting("audit_algolia.workers", 1).start().unwrap();
    let mut db = staged(&stage, "log");
    let mut slow = stage.admin();
    // Settings are in flight while another session is about to request others, and rolls back.
    fail_settings(&stage, Fault::HangFor(Duration::from_secs(60)), Times::Once);
    configure(&mut db);
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    slow.batch_execute("begin; select audit_algolia.configure_index('log')").unwrap();
    stage.standin.clear_faults();
    wait_until("settings", SOON, || stage.standin.settings("log").is_some());
    insert(&mut db, "log", 1..=1);
    stage.wait_for_records("log", 1);
    assert!(!is_settled(&mut db));
    slow.batch_execute("rollback").unwrap();
    wait_for_settings(&stage, &mut db);
    // A refusal meanwhile does not matter either.
    fail_settings(&stage, Fault::error(400, "no"), Times::Always);
    db.batch_execute("select audit_algolia.pause('log'), audit_algolia.configure_index('log')").unwrap();
    slow.batch_execute("begin; lock table audit_algolia.dead_letter").unwrap();
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("a refusal", SOON, || queue(&mut db, "log").last_error.contains("400"));
    insert(&mut db, "log", 2..=2);
    stage.wait_for_records("log", 2);
    slow.batch_execute("commit; begin; lock table audit_algolia.configuration").unwrap();
    // The workers look for new indices, and would look for settings.
    watch(&mut db, "other");
    insert(&mut db, "other", 1..=1);
    insert(&mut db, "log", 3..=3);
    stage.wait_for_records("other", 1);
    stage.wait_for_records("log", 3);
    stage.standin.clear_faults();
    slow.batch_execute("delete from audit_algolia.configuration; commit").unwrap();
    configure(&mut db);
    wait_for_settings(&stage, &mut db);
}
