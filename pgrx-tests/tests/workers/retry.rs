//! What fails on the way is retried, and nothing is lost.

use std::time::{Duration, Instant};

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, FaultBody, Standin, StandinConfig, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

fn answered(code: u16, body: FaultBody) -> Fault {
    Fault::Status { code, body, headers: Vec::new() }
}

fn html(code: u16) -> Fault {
    answered(code, FaultBody::Html("<html><h1>Service unavailable</h1></html>".to_owned()))
}

#[test]
fn whatever_goes_wrong_is_told_and_tried_again() {
    let stage = Stage::builder()
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .setting("audit_algolia.request_timeout", "300ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let faults = [
        ("500", Fault::error(500, "Internal error")),
        ("503", html(503)),
        ("429", Fault::too_many_requests(Some(0))),
        ("closed by the host", Fault::Reset),
        ("", Fault::Truncate),
        ("closed by the host", Fault::AcceptThenDrop),
        ("no answer within", Fault::Hang),
        ("no answer within", Fault::AcceptThenHang),
        // Too long or too late, whichever comes first.
        ("answer", Fault::EndlessBody),
        ("but the answer is empty", answered(200, FaultBody::Text(String::new()))),
        (
            "200 OK with 19 bytes of text/html",
            answered(200, FaultBody::Html("<html>hello</html>\n".to_owned())),
        ),
        ("no answer within", Fault::SlowBody(Duration::from_secs(30))),
        ("307", Fault::Redirect("http://127.0.0.1:1/".to_owned())),
    ];
    let mut next = 1;
    for (reason, fault) in faults {
        db.batch_execute("select audit_algolia.reset_stats()").unwrap();
        let name = format!("{fault:?}");
        // A broken connection is taken for a stale one and retried at once, so there are two.
        stage.standin.fault(None, fault, Times::Count(2));
        insert(&mut db, "log", next..=next + 9);
        next += 10;
        stage.wait_for_records("log", next as usize - 1);
        wait_for_empty_queue(&mut db);
        let seen = queue(&mut db, "log");
        assert!(seen.last_error.contains(reason), "{name}: {}", seen.last_error);
        assert!(seen.failed_total > 0, "{name}");
        assert_eq!(seen.retrying, 0, "{name}");
        let told: i64 = one(
            &mut db,
            "select count(*) from audit_algolia.worker_stats() where errors_total > 0 and last_error is not null",
        );
        assert!(told > 0, "{name}");
        stage.standin.clear_faults();
    }
    assert_holds(&stage.standin, "log", 1..next);
}

#[test]
fn an_answer_that_names_too_few_records_does_not_count() {
    let stage = Stage::builder().setting("audit_algolia.retry_min", "20ms").start().unwrap();
    let mut db = staged(&stage, "log");
    let answer = FaultBody::Json(serde_json::json!({"taskID": 1, "objectIDs": ["1"]}));
    stage.standin.fault(None, Fault::Status { code: 200, body: answer, headers: Vec::new() }, Times::Once);
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    let error = queue(&mut db, "log").last_error;
    assert!(error.contains("but the answer lists 1 objectI"), "{error}");
}

#[test]
fn the_pause_between_attempts_lies_between_its_bounds() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "100ms")
        .setting("audit_algolia.retry_max", "400ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::error(503, "no"), Times::Count(8));
    insert(&mut db, "log", 1..=10);
    wait_until("the backoff", SOON, || queue(&mut db, "log").state == "backing off");
    stage.wait_for_records("log", 10);
    let times: Vec<Instant> = stage.standin.requests().iter().map(|r| r.at).collect();
    // What has failed this often is tried in parts, so the rest follows the success.
    assert!((9..=10).contains(&times.len()), "{times:?}");
    for pair in times[..9].windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_millis(99), "{pause:?}");
        assert!(pause <= Duration::from_millis(1400), "{pause:?}");
    }
}

#[test]
fn what_fails_together_counts_as_one_failure() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 16)
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.retry_min", "50ms")
        .setting("audit_algolia.retry_max", "1h")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    let fault = Fault::HangFor(Duration::from_millis(300));
    stage.standin.fault(None, fault, Times::Count(15));
    stage.cluster.set(&[("audit_algolia.request_timeout", "100ms")]).unwrap();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.request_timeout") == "100ms"
    });
    // Fifteen requests time out at once. If each counted as a failure of its own, the next attempt could be far off.
    insert(&mut db, "log", 1..=400);
    let time = took(|| {
        stage.wait_for_records("log", 400);
    });
    assert!(time < Duration::from_secs(5), "{time:?}");
    assert_holds(&stage.standin, "log", 1..=400);
}

#[test]
fn a_wish_of_algolia_to_wait_is_granted() {
    let stage = Stage::builder().setting("audit_algolia.retry_min", "10ms").start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::too_many_requests(Some(1)), Times::Once);
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    let times: Vec<Instant> = stage.standin.requests().iter().map(|r| r.at).collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
}

#[test]
fn the_second_host_takes_over_from_the_first() {
    let stage = Stage::builder().standin(|standin| standin.hosts = 2).start().unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(Some(0), Fault::error(503, "no"), Times::Always);
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").failed_total, 0);
    let host: String = one(&mut db, "select host from audit_algolia.worker_stats() where rows_total > 0");
    assert!(stage.standin.base_urls()[1].ends_with(&host), "{host}");
}

#[test]
fn resume_tries_again_at_once() {
    let stage = Stage::builder()
        .setting("audit_algolia.retry_min", "10min")
        .setting("audit_algolia.retry_max", "10min")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::error(503, "no"), Times::Once);
    insert(&mut db, "log", 1..=10);
    wait_for_state(&mut db, "log", "backing off");
    assert_eq!(queue(&mut db, "log").retrying, 10);
    let time = took(|| {
        db.batch_execute("select audit_algolia.resume('log')").unwrap();
        stage.wait_for_records("log", 10);
    });
    assert!(time < AT_ONCE, "{time:?}");
    wait_until("a settlement", SOON, || queue(&mut db, "log").retrying == 0);
}

#[test]
fn rows_wait_for_an_algolia_that_is_gone_and_comes_back() {
    let Stage { cluster, standin } = Stage::builder()
        .setting("audit_algolia.retry_min", "50ms")
        .setting("audit_algolia.retry_max", "200ms")
        .start()
        .unwrap();
    let mut db = cluster.client("postgres", "postgres");
    watch(&mut db, "log");
    let urls = standin.base_urls();
    let port = urls[0].rsplit(':').next().unwrap().parse().unwrap();
    drop(standin);
    insert(&mut db, "log", 1..=500);
    wait_for_state(&mut db, "log", "backing off");
    let seen = queue(&mut db, "log");
    assert_eq!(seen.queued, 500);
    assert!(seen.last_error.contains("connection refused"), "{}", seen.last_error);
    let standin = Standin::start(StandinConfig { ports: vec![port], ..StandinConfig::default() }).unwrap();
    let stage = Stage { cluster, standin };
    stage.wait_for_records("log", 500);
    assert_each_once(&stage.standin, "log", 1..=500);
}

#[test]
fn random_faults_lose_nothing() {
    let stage = Stage::builder()
        .setting("audit_algolia.retry_min", "1ms")
        .setting("audit_algolia.retry_max", "10ms")
        .setting("audit_algolia.batch_rows", 20)
        .setting("audit_algolia.request_timeout", "500ms")
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    for (seed, fault) in
        [(1, Fault::error(500, "no")), (2, Fault::Reset), (3, Fault::AcceptThenDrop), (4, Fault::Truncate)]
    {
        stage
            .standin
            .inject(audit_algolia_tests::standin::FaultRule::new(fault, Times::Always).percent(15, seed));
    }
    for start in (1..=4000).step_by(40) {
        insert(&mut db, "log", start..=start + 39);
    }
    stage.wait_for_records("log", 4000);
    stage.standin.clear_faults();
    assert_holds(&stage.standin, "log", 1..=4000);
    wait_for_empty_queue(&mut db);
    let seen = queue(&mut db, "log");
    assert_eq!((seen.enqueued_total, seen.delivered_total), (4000, 4000));
}
