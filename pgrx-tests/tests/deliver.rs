//! From INSERT to the index: commit delivers, rollback does not, newest first, once each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

const TABLE: &str = "
    create table access_log (
        id bigint generated always as identity primary key,
        user_id text not null,
        report_id integer,
        event text,
        at timestamptz not null default now(),
        secret text
    )";

const WATCH: &str = "
    select audit_algolia.watch('access_log',
        columns => '{user_id, report_id AS report, event, at}',
        pseudonymize => '{user_id}',
        time_column => 'at',
        facets => '{event, report, user_id}')";

/// An administrator's session, once `log` is watched.
fn watched(stage: &Stage) -> Client {
    let mut db = stage.admin();
    db.batch_execute(TABLE).unwrap();
    db.execute(WATCH, &[]).unwrap();
    db
}

#[test]
fn committed_rows_arrive_and_rolled_back_rows_do_not() {
    let stage = Stage::builder().start().unwrap();
    let mut db = watched(&stage);
    db.batch_execute(
        "insert into access_log (user_id, report_id, event, at, secret)
         values ('alice', 7, 'view', '2026-11-20 13:14:15.5+00', 'hush')",
    )
    .unwrap();
    db.batch_execute("begin; insert into access_log (user_id) values ('bob'); rollback").unwrap();
    stage.wait_for_records("access_log", 1);
    let records = stage.standin.index("access_log");
    let pseudonym: String = db.query_one("select audit_algolia.pseudonym('alice')", &[]).unwrap().get(0);
    assert_eq!(
        records["1"],
        serde_json::json!({
            "objectID": "1", "user_id": pseudonym, "report": 7, "event": "view", "at": 1_795_180_455.5,
            "at_day": "2026-11-20", "at_hour": "2026-11-20T13", "at_weekday": "Fri", "at_hour_of_day": "13",
        })
    );
    wait_until("an empty queue", SOON, || {
        db.query_one("select count(*) from audit_algolia.queue", &[]).unwrap().get::<_, i64>(0) == 0
    });
}

#[test]
fn a_terminated_worker_comes_back() {
    let stage = Stage::builder().setting("audit_algolia.workers", 1).start().unwrap();
    let mut db = watched(&stage);
    let mut workers = move || -> Vec<i32> {
        let rows =
            db.query("select pid from pg_stat_activity where backend_type = 'audit_algolia worker'", &[]);
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    };
    wait_until("a worker", SOON, || workers().len() == 1);
    let first = workers();
    stage.admin().execute("select pg_terminate_backend($1)", &[&first[0]]).unwrap();
    wait_until("another worker", SOON, || workers().len() == 1 && workers() != first);
}

const ROUND_TRIP: Duration = Duration::from_millis(100);
/// More rows than are written in a few round trips.
const MANY: u32 = 10_000;

#[test]
fn a_trickle_makes_one_request_per_round_trip_whoever_makes_it() {
    for workers in [1, 2] {
        let stage = Stage::builder()
            .setting("audit_algolia.workers", workers)
            // However fast rows come, they do not fill a batch.
            .setting("audit_algolia.batch_rows", MANY)
            .standin(|standin| standin.latency = ROUND_TRIP)
            .start()
            .unwrap();
        let mut db = watched(&stage);
        db.batch_execute("insert into access_log (user_id) values ('alice')").unwrap();
        stage.wait_for_records("access_log", 1);
        let before = stage.standin.request_count();
        let (started, mut rows) = (Instant::now(), 0);
        while started.elapsed() < 20 * ROUND_TRIP {
            db.batch_execute("insert into access_log (user_id) values ('bob')").unwrap();
            rows += 1;
        }
        let round_trips = started.elapsed().as_secs_f64() / ROUND_TRIP.as_secs_f64();
        stage.wait_for_records("access_log", rows + 1);
        let requests = stage.standin.request_count() - before;
        // The last rows need one more request.
        assert!(
            requests as f64 <= 1.2 * (round_trips + 1.0),
            "{workers} workers: {requests} requests for {rows} rows in {round_trips:.1} round trips"
        );
    }
}

#[test]
fn an_answer_that_takes_long_keeps_the_next_rows_waiting_only_for_a_moment() {
    for (workers, in_flight) in [(1, 4), (2, 1)] {
        let stage = Stage::builder()
            .setting("audit_algolia.workers", workers)
            .setting("audit_algolia.in_flight", in_flight)
            .standin(|standin| standin.latency = SOON)
            .start()
            .unwrap();
        let mut db = watched(&stage);
        db.batch_execute("insert into access_log (user_id) values ('alice')").unwrap();
        stage.wait_for_records("access_log", 1);
        db.batch_execute("insert into access_log (user_id) values ('bob')").unwrap();
        stage.wait_for_records("access_log", 2);
        let answered = stage.standin.requests().iter().filter(|request| request.status.is_some()).count();
        assert_eq!(answered, 0, "{workers} workers: the second row has not waited for the first answer");
        stage.standin.set_latency(Duration::ZERO);
    }
}
