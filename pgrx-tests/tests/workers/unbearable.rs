//! A record that a proxy on the way to Algolia blocks: the proxy resets the connection because of its text, or answers
//! with a page of its own. The record waits separately and delays nothing else. An outage that looks the same makes no
//! dead letters.

use std::time::{Duration, Instant};

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;

use crate::support::*;

/// The text that the proxy blocks.
const TEXT: &str = "<script>";
/// The row that contains it.
const AT: i64 = 17;
/// For a search that begins with the default pauses, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ways in which a proxy blocks a request, and what is reported.
fn ways() -> [(&'static str, Fault, &'static str); 5] {
    let gateway = "see why the gateway";
    [
        ("reset", Fault::Reset, "closed by the host"),
        ("p403", Fault::page(403), gateway),
        ("p406", Fault::page(406), gateway),
        ("p400", Fault::page(400), gateway),
        ("p503", Fault::page(503), "503 Service Unavailable with"),
    ]
}

fn eats(stage: &Stage, index: &str, fault: Fault) {
    stage.standin.inject(FaultRule::new(fault, Times::Always).index(index).containing(TEXT));
}

fn insert_poison(db: &mut Client, table: &str, ids: std::ops::RangeInclusive<i64>) {
    db.execute(
        &format!(
            "insert into {table} select n, case n when {AT} then '{TEXT}' else 'note' end
             from generate_series($1::bigint, $2) as n"
        ),
        &[ids.start(), ids.end()],
    )
    .unwrap();
}

fn wait_for(stage: &Stage, index: &str, records: usize) {
    wait_until(&format!("{records} records in {index}"), PATIENCE, || {
        stage.standin.index(index).len() == records
    });
}

/// Asserts that only the record at fault waits, with the reason.
#[track_caller]
fn assert_alone(db: &mut Client, index: &str, told: &str) {
    wait_until("the others are settled", PATIENCE, || {
        let seen = queue(db, index);
        assert_ne!(seen.state, "blocked", "{seen:?}");
        (seen.queued, seen.retrying, seen.dead) == (1, 1, 0) && seen.last_error.contains("alone")
    });
    let error = queue(db, index).last_error;
    assert!(error.contains(told) && !error.contains("api_key"), "{index}: {error}");
    let row: i64 = one(db, &format!("select id from audit_algolia.queue where record like '%{TEXT}%'"));
    assert!(error.contains(&format!("row {row} of audit_algolia.queue")), "{error}");
}

fn others_pass(workers: u32, retry_max: &str) {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", workers)
        .setting("audit_algolia.retry_max", retry_max)
        .start()
        .unwrap();
    let mut db = stage.admin();
    for (index, fault, told) in ways() {
        watch(&mut db, index);
        eats(&stage, index, fault);
        insert_poison(&mut db, index, 1..=40);
        for id in 41..=99 {
            insert(&mut db, index, id..=id);
        }
        wait_for(&stage, index, 98);
        assert_alone(&mut db, index, told);
        // From now on it delays nothing.
        let before = Instant::now();
        insert(&mut db, index, 100..=120);
        wait_for(&stage, index, 119);
        assert!(before.elapsed() < SOON);
        stage.standin.clear_faults();
        db.execute("select audit_algolia.resume($1)", &[&index]).unwrap();
        wait_for(&stage, index, 120);
        wait_until("a settlement", SOON, || queue(&mut db, index).retrying == 0);
        assert_each_once(&stage.standin, index, 1..=120);
    }
    wait_for_empty_queue(&mut db);
}

#[test]
fn all_others_pass_with_one_worker_and_the_default_pauses() {
    others_pass(1, "5min");
}

#[test]
fn all_others_pass_with_two_workers_and_short_pauses() {
    others_pass(2, "300ms");
}

#[test]
fn neighbours_pass_where_nothing_else_is_queued() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    for (index, fault, _) in ways() {
        watch(&mut db, index);
        eats(&stage, index, fault);
        insert_poison(&mut db, index, 1..=40);
    }
    for (index, _, told) in ways() {
        wait_for(&stage, index, 39);
        wait_until("the others are settled", PATIENCE, || queue(&mut db, index).queued == 1);
        let seen = queue(&mut db, index);
        assert!((seen.retrying, seen.dead) == (1, 0) && seen.last_error.contains(told), "{seen:?}");
    }
}

#[test]
fn versions_of_other_objects_pass_and_a_newer_one_makes_up_for_it() {
    let stage = Stage::builder()
        .setting("audit_algolia.request_timeout", "300ms")
        .setting("audit_algolia.retry_min", "20ms")
        .start()
        .unwrap();
    let mut db = stage.admin();
    for (index, fault, told) in ways() {
        db.batch_execute(&format!(
            "create table {index} (id bigint primary key, note text);
             select audit_algolia.watch('{index}', columns => '{{note}}', mode => 'mirror')"
        ))
        .unwrap();
        eats(&stage, index, fault);
        insert_poison(&mut db, index, 1..=40);
        wait_for(&stage, index, 39);
        db.batch_execute(&format!("update {index} set note = 'second' where id <> {AT}")).unwrap();
        wait_until("the newer versions", PATIENCE, || {
            let notes = stage.standin.index(index);
            notes.len() == 39 && notes.values().all(|record| record["note"] == "second")
        });
        assert_alone(&mut db, index, told);
        db.batch_execute(&format!("update {index} set note = 'harmless' where id = {AT}")).unwrap();
        wait_for(&stage, index, 40);
        assert_eq!(stage.standin.index(index)[&AT.to_string()]["note"], "harmless");
        wait_until("nothing waits", SOON, || {
            let seen = queue(&mut db, index);
            (seen.queued, seen.retrying) == (0, 0)
        });
    }
}

#[test]
fn many_of_them_stop_nobody() {
    let stage = Stage::builder()
        .setting("audit_algolia.retry_min", "5ms")
        .setting("audit_algolia.retry_max", "100ms")
        .setting("audit_algolia.batch_rows", 100)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    eats(&stage, "log", Fault::page(403));
    db.batch_execute(&format!(
        "insert into log select n, case when n % 10 in (0, 1) then '{TEXT}' end from generate_series(1, 500) as n"
    ))
    .unwrap();
    wait_for(&stage, "log", 400);
    wait_until("the others are settled", PATIENCE, || queue(&mut db, "log").queued == 100);
    assert_eq!(queue(&mut db, "log").dead, 0);
    stage.standin.clear_faults();
    wait_for(&stage, "log", 500);
    wait_for_empty_queue(&mut db);
}

#[test]
fn it_dies_of_refusals_if_attempts_are_bounded_and_of_nothing_else() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.max_attempts", 3)
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "50ms")
        .start()
        .unwrap();
    let mut db = stage.admin();
    for index in ["refused", "broken"] {
        watch(&mut db, index);
    }
    eats(&stage, "refused", Fault::page(403));
    eats(&stage, "broken", Fault::Reset);
    let mut next = 41;
    for index in ["refused", "broken"] {
        insert_poison(&mut db, index, 1..=40);
        wait_for(&stage, index, 39);
    }
    wait_until("its death", PATIENCE, || {
        // It is known to be at fault because others arrive.
        for index in ["refused", "broken"] {
            insert(&mut db, index, next..=next);
        }
        next += 1;
        queue(&mut db, "refused").dead == 1
    });
    let row = db
        .query_one(
            "select record::text, attempts, http_status, error from audit_algolia.dead_letters where index_name = 'refused'",
            &[],
        )
        .unwrap();
    assert!(row.get::<_, String>(0).contains(TEXT));
    assert_eq!((row.get::<_, i32>(1), row.get::<_, i32>(2)), (3, 403));
    assert!(row.get::<_, String>(3).contains("see why the gateway"), "{}", row.get::<_, String>(3));
    let eaten = |stage: &Stage| {
        let entries = stage.standin.requests();
        let eaten = |body: &[u8]| std::str::from_utf8(body).unwrap().contains(TEXT);
        entries.iter().filter(|one| one.path.contains("/broken/") && eaten(&one.body)).count()
    };
    let before = eaten(&stage);
    wait_until("many more attempts", PATIENCE, || {
        insert(&mut db, "broken", next..=next);
        next += 1;
        eaten(&stage) > before + 20
    });
    let seen = queue(&mut db, "broken");
    assert_eq!((seen.dead, seen.retrying), (0, 1), "{seen:?}");
}

#[test]
fn a_gateway_that_lets_nothing_pass_buries_nobody_and_is_not_asked_more_often() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 2)
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.max_attempts", 2)
        .setting("audit_algolia.retry_min", "100ms")
        .setting("audit_algolia.retry_max", "400ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::page(403), Times::Always);
    insert(&mut db, "log", 1..=300);
    // Everything in flight at the beginning fails at once. Then one batch is sent at a time.
    wait_for_state(&mut db, "log", "backing off");
    let (mark, started) = (stage.standin.request_count(), Instant::now());
    stays_true("nothing dies", Duration::from_secs(6), || {
        let seen = queue(&mut db, "log");
        (seen.queued, seen.dead, seen.state.as_str()) == (300, 0, "backing off")
            && seen.last_error.contains("see why the gateway")
    });
    let asked = stage.standin.request_count() - mark;
    // The rows that have failed and the others are tried separately, each with pauses of at least 100 ms.
    let most = 2 * started.elapsed().as_millis() as usize / 100 + 20;
    assert!(asked <= most, "{asked} requests, more than {most}");
    let before = stage.standin.request_count();
    stage.standin.clear_faults();
    stage.wait_for_records("log", 300);
    wait_for_empty_queue(&mut db);
    assert_each_once(&stage.standin, "log", 1..=300);
    let after = stage.standin.request_count() - before;
    assert!(after <= 60, "{after} requests for what fits into 30");
}

#[test]
fn while_nobody_is_there_no_batch_is_cut() {
    let Stage { cluster, standin } = Stage::builder()
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "40ms")
        .start()
        .unwrap();
    let mut db = cluster.client("postgres", "postgres");
    watch(&mut db, "log");
    let port = standin.base_urls()[0].rsplit(':').next().unwrap().parse().unwrap();
    drop(standin);
    insert(&mut db, "log", 1..=40);
    wait_until("many failures", SOON, || queue(&mut db, "log").failed_total >= 40 * 20);
    let config = audit_algolia_tests::standin::StandinConfig { ports: vec![port], ..Default::default() };
    let standin = audit_algolia_tests::standin::Standin::start(config).unwrap();
    let stage = Stage { cluster, standin };
    stage.wait_for_records("log", 40);
    assert_eq!(stage.standin.batches("log").len(), 1, "no record was on its way, so none was suspected");
}
