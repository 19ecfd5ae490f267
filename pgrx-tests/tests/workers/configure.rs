//! `configure_index`: settings are delivered once and in order, whatever happens, and never delay records.

use std::time::Duration;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Standin, Times};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;
use serde_json::{Map, Value};

use crate::support::*;

/// A stage that retries after short pauses.
pub(crate) fn builder() -> StageBuilder {
    Stage::builder().setting("audit_algolia.retry_min", "10ms").setting("audit_algolia.retry_max", "100ms")
}

/// The settings that were sent to the stand-in for an index, in order of arrival.
pub(crate) fn puts(standin: &Standin, index: &str) -> Vec<Value> {
    let path = format!("/1/indexes/{index}/settings?forwardToReplicas=false");
    let requests = standin.requests();
    let sent = requests.iter().filter(|request| request.method == "PUT" && request.path == path);
    sent.map(|request| serde_json::from_str(&request.body_text()).unwrap()).collect()
}

pub(crate) fn wanted(db: &mut Client) -> Map<String, Value> {
    one::<Value>(db, "select audit_algolia.index_settings('log')").as_object().unwrap().clone()
}

pub(crate) fn configure(db: &mut Client) {
    db.batch_execute("select audit_algolia.configure_index('log')").unwrap();
}

pub(crate) fn is_settled(db: &mut Client) -> bool {
    one(db, "select not exists (select from audit_algolia.configuration)")
}

#[track_caller]
pub(crate) fn wait_for_settings(stage: &Stage, db: &mut Client) {
    let wanted = wanted(db);
    wait_until("the settings", SOON, || stage.standin.settings("log").as_ref() == Some(&wanted));
    wait_until("their settlement", SOON, || is_settled(db));
}

pub(crate) fn fail_settings(stage: &Stage, fault: Fault, times: Times) {
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
