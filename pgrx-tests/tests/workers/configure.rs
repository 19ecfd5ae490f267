//! `configure_index`: settings are delivered once and in order, whatever happens, and never delay records.

use std::time::Duration;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::standin::{ApiKey, Fault, FaultRule, Standin, Times, ADMIN_KEY};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;
use serde_json::{Map, Value};

use crate::support::*;

/// A stage that retries after short pauses.
fn builder() -> StageBuilder {
    Stage::builder().setting("audit_algolia.retry_min", "10ms").setting("audit_algolia.retry_max", "100ms")
}

/// The settings that were sent to the stand-in for an index, in order of arrival.
fn puts(standin: &Standin, index: &str) -> Vec<Value> {
    let path = format!("/1/indexes/{index}/settings?forwardToReplicas=false");
    let requests = standin.requests();
    let sent = requests.iter().filter(|request| request.method == "PUT" && request.path == path);
    sent.map(|request| serde_json::from_str(&request.body_text()).unwrap()).collect()
}

fn wanted(db: &mut Client) -> Map<String, Value> {
    one::<Value>(db, "select audit_algolia.index_settings('log')").as_object().unwrap().clone()
}

fn configure(db: &mut Client) {
    db.batch_execute("select audit_algolia.configure_index('log')").unwrap();
}

fn is_settled(db: &mut Client) -> bool {
    one(db, "select not exists (select from audit_algolia.configuration)")
}

#[track_caller]
fn wait_for_settings(stage: &Stage, db: &mut Client) {
    let wanted = wanted(db);
    wait_until("the settings", SOON, || stage.standin.settings("log").as_ref() == Some(&wanted));
    wait_until("their settlement", SOON, || is_settled(db));
}

fn fail_settings(stage: &Stage, fault: Fault, times: Times) {
    stage.standin.inject(FaultRule::new(fault, times).settings());
}

#[test]
fn an_index_gets_the_settings_that_were_shown() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    let mut other = stage.admin();
    other.batch_execute("begin; select audit_algolia.configure_index('log'); rollback").unwrap();
    // Before the first row, and in the same transaction as the watch.
    db.batch_execute(
        "begin;
         select audit_algolia.unwatch('log');
         select audit_algolia.watch('log', columns => '{note}', facets => '{note}');
         select audit_algolia.configure_index('log');
         commit",
    )
    .unwrap();
    assert!(one::<bool>(&mut db, "select audit_algolia.flush()"));
    let shown = wanted(&mut db);
    assert_eq!(stage.standin.settings("log"), Some(shown.clone()));
    assert_eq!(puts(&stage.standin, "log"), [Value::Object(shown)]);
    assert!(is_settled(&mut db));
    let seen = queue(&mut db, "log");
    assert_eq!((seen.queued, seen.delivered_total, seen.last_error.as_str()), (0, 0, ""));
    let refused = other
        .batch_execute("begin; select audit_algolia.configure_index('log'); select audit_algolia.flush()");
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "25001");
}

#[test]
fn settings_that_fail_are_tried_again_and_keep_no_records_waiting() {
    let stage = builder().setting("audit_algolia.workers", 1).start().unwrap();
    let mut db = staged(&stage, "log");
    watch(&mut db, "other");
    fail_settings(&stage, Fault::error(503, "out of order"), Times::Always);
    configure(&mut db);
    wait_until("three attempts", SOON, || puts(&stage.standin, "log").len() >= 3);
    for round in 1..=5 {
        insert(&mut db, "log", round..=round);
        insert(&mut db, "other", round..=round);
        stage.wait_for_records("log", round as usize);
        stage.wait_for_records("other", round as usize);
    }
    // The settlement follows the arrival.
    wait_for_state(&mut db, "log", "idle");
    let seen = queue(&mut db, "log");
    assert!(seen.last_error.contains("503"), "{}", seen.last_error);
    assert_eq!((seen.failed_total, seen.retrying), (0, 0));
    assert_eq!(queue(&mut db, "other").last_error, "");
    assert!(!one::<bool>(&mut db, "select audit_algolia.flush('0')"));
    let log = stage.cluster.log();
    let told = log.matches("cannot send the settings of index \"log\" and tries again").count();
    assert_eq!(told, 1, "once a minute");
    stage.standin.clear_faults();
    wait_for_settings(&stage, &mut db);
}

#[test]
fn settings_go_on_to_the_next_host() {
    let stage = builder().standin(|standin| standin.hosts = 3).start().unwrap();
    let mut db = staged(&stage, "log");
    let down = FaultRule::new(Fault::Reset, Times::Always).settings();
    stage.standin.inject(down.clone().host(0));
    stage.standin.inject(down.host(1));
    configure(&mut db);
    wait_for_settings(&stage, &mut db);
    let hosts: Vec<usize> = stage.standin.requests().iter().map(|request| request.host).collect();
    assert_eq!(hosts.last(), Some(&2));
    assert_eq!(queue(&mut db, "log").last_error, "");
}

#[test]
fn settings_under_way_survive_whatever_ends_the_server_or_a_worker() {
    let stage = builder().start().unwrap();
    let mut db = staged(&stage, "log");
    for mode in [StopMode::Immediate, StopMode::Fast] {
        fail_settings(&stage, Fault::Hang, Times::Once);
        configure(&mut db);
        wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
        stage.cluster.restart(mode).unwrap();
        db = stage.session();
        wait_for_settings(&stage, &mut db);
        stage.standin.clear_faults();
        stage.standin.reset();
    }
    // The settings have arrived, but the worker ends before it can store that.
    for point in ["after sending settings", "before settlement"] {
        for action in ["error", "kill"] {
            let file = stage.cluster.data_dir().join("audit_algolia.failpoint");
            let mut witness = stage.session();
            std::fs::write(&file, format!("{point} {action}")).unwrap();
            wait_until("the call", SOON, || {
                stage.session().batch_execute("select audit_algolia.configure_index('log')").is_ok()
            });
            wait_until(point, SOON, || !file.exists());
            if action == "kill" {
                // The server ends all sessions when it notices. A session that began before would break.
                wait_until("the restart", SOON, || witness.batch_execute("select 1").is_err());
            }
            let mut db = stage.session();
            wait_for_settings(&stage, &mut db);
            stage.standin.reset();
        }
    }
}

#[test]
fn newer_settings_wait_for_older_ones_under_way_and_win() {
    let stage = builder().setting("audit_algolia.request_timeout", "120s").start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 2);
    fail_settings(&stage, Fault::HangFor(Duration::from_secs(60)), Times::Once);
    configure(&mut db);
    let old = Value::Object(wanted(&mut db));
    wait_until("a hanging request", SOON, || stage.standin.in_hang() == 1);
    let mut newest = Vec::new();
    for facets in ["{note}", "{}", "{note}"] {
        db.batch_execute(&format!(
            "select audit_algolia.unwatch('log');
             select audit_algolia.watch('log', columns => '{{note AS n{}}}', facets => '{}');
             select audit_algolia.configure_index('log')",
            newest.len(),
            facets.replace("note", &format!("n{}", newest.len())),
        ))
        .unwrap();
        newest.push(Value::Object(wanted(&mut db)));
    }
    stays_true("nobody overtakes", Duration::from_millis(300), || {
        puts(&stage.standin, "log") == [old.clone()]
    });
    assert_eq!(stage.standin.in_hang(), 1, "the older request is still under way");
    stage.standin.clear_faults();
    wait_for_settings(&stage, &mut db);
    // Of those that were not being sent yet, only the last one is.
    assert_eq!(puts(&stage.standin, "log"), [old, newest.pop().unwrap()]);
}

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
