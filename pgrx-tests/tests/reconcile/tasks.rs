//! What was delivered counts once Algolia has indexed it. The comparison waits for that, for a limited time.

use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{ApiKey, Fault, FaultRule, Standin, StandinConfig, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::json;

use crate::support::{error, lose, reconcile, try_reconcile, wait_for_empty_queue, write, Found};

/// A stage with ten delivered rows, of which the index has lost one. So the comparison checks whether everything was
/// indexed.
fn stage() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note text);
         select audit_algolia.watch('log', columns => '{note}');
         insert into log select n, 'x' from generate_series(1, 10) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    lose(&stage, "log", &["1"]);
    // So that the test fails if it would wait for ever.
    db.batch_execute("set statement_timeout = '60s'").unwrap();
    (stage, db)
}

const LOST: Found = Found { checked: 10, missing: 1, different: 0, orphaned: 0, repaired: 0 };

/// Makes requests about tasks fail. In append mode, only they name the index.
fn fail_tasks(stage: &Stage, fault: Fault) {
    stage.standin.inject(FaultRule::new(fault, Times::Always).reads().index("log"));
}

#[test]
fn trouble_with_the_task_alone_is_trouble() {
    let (stage, mut db) = stage();
    for (fault, expected, says) in [
        (Fault::error(503, "unavailable"), "08006", "503"),
        (Fault::error(403, "Method not allowed with this API key"), "42501", "right"),
        (Fault::error(405, "Method Not Allowed"), "58000", "405"),
    ] {
        fail_tasks(&stage, fault.clone());
        let (code, message, hint) = error(try_reconcile(&mut db, "'log', repair => true"));
        assert_eq!(code, expected, "{fault:?}: {message}");
        assert!(format!("{message} {hint}").contains(says), "{fault:?}: {message} {hint}");
        stage.standin.clear_faults();
    }
    assert_eq!(reconcile(&mut db, "'log'"), LOST);
}

#[test]
fn a_task_that_algolia_does_not_know_is_not_waited_for() {
    let (stage, mut db) = stage();
    fail_tasks(&stage, Fault::error(404, "Task 1 does not exist"));
    assert_eq!(reconcile(&mut db, "'log'"), LOST);
}

#[test]
fn a_task_that_is_never_carried_out_is_given_up_with_an_error() {
    let (stage, mut db) = stage();
    stage.standin.set_indexing_delay(Duration::from_secs(3600));
    db.batch_execute("insert into log values (11, 'x')").unwrap();
    wait_for_empty_queue(&mut db);
    let order = stage.cluster.data_dir().join("audit_algolia.failpoint");
    std::fs::write(&order, "waiting for a task in vain").unwrap();
    let (code, message, hint) = error(try_reconcile(&mut db, "'log', repair => true"));
    assert_eq!(code, "08006", "{message}");
    assert!(message.contains("index \"log\"") && message.contains("was not indexed"), "{message}");
    assert!(hint.contains("Call the function again"), "{hint}");
    assert!(!order.exists());
}

#[test]
fn tasks_of_another_application_are_not_waited_for() {
    let (stage, mut db) = stage();
    for _ in 0..20 {
        write(&stage, "elsewhere", "addObject", &[json!({"objectID": "1"})]);
    }
    db.batch_execute("insert into log values (11, 'x')").unwrap();
    wait_for_empty_queue(&mut db);
    let keys = vec![ApiKey::new("other-key", &["addObject", "search"])];
    let config = StandinConfig { app_id: "OTHER".to_owned(), keys, ..StandinConfig::default() };
    let other = Standin::start(config).unwrap();
    stage
        .cluster
        .set(&[
            ("audit_algolia.application_id", "OTHER"),
            ("audit_algolia.api_key", "other-key"),
            ("audit_algolia.hosts", &other.base_urls().join(",")),
        ])
        .unwrap();
    let mut id = 11;
    wait_until("delivery to the other application", SOON, || {
        id += 1;
        db.execute("insert into log values ($1, 'x')", &[&id]).unwrap();
        wait_for_empty_queue(&mut db);
        !other.index("log").is_empty()
    });
    other.set_indexing_delay(Duration::from_millis(1500));
    id += 1;
    db.execute("insert into log values ($1, 'x')", &[&id]).unwrap();
    wait_for_empty_queue(&mut db);
    let found = reconcile(&mut db, "'log'");
    assert_eq!(other.index("log").len(), 2, "all that was delivered has been waited for");
    assert_eq!(found, Found { checked: id, missing: id - 2, ..Found::default() });
}
