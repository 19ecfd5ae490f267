//! Starting and cancelling a backfill, and the progress view: arguments, rights, mistakes.

use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// Asserts that a statement fails with this SQLSTATE, message and hint.
#[track_caller]
fn refused(db: &mut Client, statement: &str, code: &str, message: &str, hint: &str) {
    let error = db.batch_execute(statement).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), (code, message));
    assert_eq!(error.hint().unwrap_or_default(), hint);
}

#[test]
fn an_existing_source_can_be_backfilled_with_what_was_there_before_the_watch() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 1000);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}');
         insert into log select n, 'live' from generate_series(1001, 1100) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 100);
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.backfill_progress"), 0);
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", 1..=1100);
    // It was finished, so it starts again from the beginning.
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", (1..=1100).chain(1..=1000));
}

#[test]
fn since_and_until_bound_the_time_and_send_again_what_they_hold() {
    for of_type in ["timestamptz", "timestamp", "date"] {
        let stage = Stage::builder().setting("timezone", "Asia/Tokyo").start().unwrap();
        let mut db = stage.admin();
        db.batch_execute(&format!(
            "create table log (id bigint primary key, at {of_type});
             set timezone = 'UTC';
             insert into log select n, timestamp '2026-01-01' + make_interval(days => n::int) from generate_series(1, 100) as n;
             insert into log values (200, null), (201, '-infinity'), (202, 'infinity');
             select audit_algolia.watch('log', columns => '{{at}}', time_column => 'at');
             insert into log values (101, timestamp '2026-01-01 00:00:00' + interval '20 days')"
        ))
        .unwrap();
        stage.wait_for_records("log", 1);
        db.batch_execute(
            "select audit_algolia.backfill('log', '2026-01-11 00:00+00', '2026-01-31 00:00+00')",
        )
        .unwrap();
        wait_for_end(&mut db);
        // The rows from 10 on and before 30, and the live row once more, because its time is in the range.
        assert_each_once(&stage.standin, "log", (10..=29).chain([101, 101]));
        db.batch_execute("create index on log (at)").unwrap();
        db.batch_execute("select audit_algolia.backfill('log', since => '2026-04-01 00:00+00')").unwrap();
        wait_for_end(&mut db);
        assert_each_once(&stage.standin, "log", (10..=29).chain([101, 101]).chain(90..=100).chain([202]));
        db.batch_execute("select audit_algolia.backfill('log', until => '2026-01-04 00:00+00')").unwrap();
        wait_for_end(&mut db);
        let all = (10..=29).chain([101, 101]).chain(90..=100).chain([202, 201, 1, 2]);
        assert_each_once(&stage.standin, "log", all);
    }
}

#[test]
fn a_backfill_that_is_cancelled_stops_and_can_be_taken_up_again() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 3000);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}');
         select audit_algolia.backfill('log', rows_per_second => 100)",
    )
    .unwrap();
    wait_until("some rows", LATER, || done(&mut db) >= 100);
    // The next step follows at once, because this one did not use up the allowed rate.
    wait_for(&mut db, "throttled");
    db.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap();
    assert_eq!(state(&mut db), "cancelled");
    let stopped_at = done(&mut db);
    assert!(stopped_at < 3000);
    wait_until("the process to leave", LATER, || backfillers(&mut db).is_empty());
    assert_eq!(done(&mut db), stopped_at);
    stage.wait_for_records("log", stopped_at as usize);
    let view = "select rows_per_second = 0 and eta is null and ended_at is not null and percent < 100
        from audit_algolia.backfill_progress";
    assert!(one::<bool>(&mut db, view));
    // Cancelling twice, or when there is nothing to cancel, is no error.
    db.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_eq!(done(&mut db), 3000);
    assert_each_once(&stage.standin, "log", 1..=3000);
    db.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap();
    assert_eq!(state(&mut db), "finished");
}

#[test]
fn the_progress_view_tells_how_far_it_is_and_when_it_will_be_done() {
    let stage = Stage::builder().setting("audit_algolia.workers", 0).start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 1000);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}');
         select audit_algolia.backfill('log', rows_per_second => 100)",
    )
    .unwrap();
    let fresh =
        "select source = 'log'::regclass and state = 'waiting' and rows_total is null and rows_done = 0
            and percent is null and rows_per_second = 0 and eta is null and started_at is null
            and last_error is null and index_name = 'log' and rows_per_second_limit = 100
        from audit_algolia.backfill_progress";
    assert!(one::<bool>(&mut db, fresh));
    stage.cluster.set(&[("audit_algolia.workers", "2")]).unwrap();
    wait_until("a third", LATER, || done(&mut db) >= 300);
    let row = db
        .query_one(
            "select rows_total, rows_done, percent, rows_per_second,
                extract(epoch from eta - clock_timestamp())::double precision, started_at <= clock_timestamp()
             from audit_algolia.backfill_progress",
            &[],
        )
        .unwrap();
    let (total, done): (i64, i64) = (row.get(0), row.get(1));
    let (percent, speed, left): (f64, f64, f64) = (row.get(2), row.get(3), row.get(4));
    assert_eq!(total, 1000);
    assert!((percent - done as f64 / 10.0).abs() < 0.2, "{percent} of {done}");
    assert!((50.0..200.0).contains(&speed), "{speed}");
    assert!((left - (1000 - done) as f64 / speed).abs() < 3.0, "{left} s for {done} at {speed}");
    assert!(row.get::<_, bool>(5));
    // A second call changes the rate.
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    let end = "select percent = 100 and rows_total = 1000 and rows_done = 1000 and rows_queued = 1000
            and rows_per_second = 0 and eta is null and rows_per_second_limit is null
        from audit_algolia.backfill_progress";
    assert!(one::<bool>(&mut db, end));
    assert_each_once(&stage.standin, "log", 1..=1000);
}

#[test]
fn mistakes_are_refused_with_a_hint() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 10);
    refused(
        &mut db,
        "select audit_algolia.watch('log', columns => '{note}', operations => '{update}', backfill => true)",
        "22023",
        "a table whose insertions are not watched cannot be backfilled",
        "Rows that are there already are sent as insertions: add insert to operations.",
    );
    refused(
        &mut db,
        "select audit_algolia.watch('log', columns => '{note}', backfill => null)",
        "22004",
        "backfill must not be null",
        "Leave the argument out to get its default.",
    );
    let not_watched = "SELECT source, index_name FROM audit_algolia.sources lists the watched tables.";
    for call in ["backfill('log')", "cancel_backfill('log')"] {
        let call = format!("select audit_algolia.{call}");
        refused(&mut db, &call, "42704", "table public.log is not watched", not_watched);
    }
    let unnamed = "Name the table, for instance 'public.access_log'.";
    for call in ["backfill(null)", "cancel_backfill(null)"] {
        refused(
            &mut db,
            &format!("select audit_algolia.{call}"),
            "22004",
            "the table must not be null",
            unnamed,
        );
    }
    db.batch_execute("select audit_algolia.watch('log', columns => '{note}')").unwrap();
    for pace in ["0", "-5"] {
        refused(
            &mut db,
            &format!("select audit_algolia.backfill('log', rows_per_second => {pace})"),
            "22023",
            "rows_per_second must be at least 1",
            "Leave it out for no limit.",
        );
    }
    refused(
        &mut db,
        "select audit_algolia.backfill('log', since => now())",
        "22023",
        "since and until need a time_column, but the table is watched without one",
        "Leave them out, or call audit_algolia.unwatch() and then audit_algolia.watch() with a time_column.",
    );
    refused(
        &mut db,
        "select audit_algolia.backfill('log', '2026-01-02', '2026-01-01')",
        "22023",
        "since must be before until",
        "A backfill sends the rows from since on and before until.",
    );
    db.batch_execute(
        "select audit_algolia.unwatch('log');
         select audit_algolia.watch('log', columns => '{note,id}', time_column => 'id')",
    )
    .unwrap();
    refused(
        &mut db,
        "select audit_algolia.backfill('log', until => now())",
        "42804",
        "since and until cannot be used, because time column id is neither a timestamp nor a date",
        "Leave them out.",
    );
    db.batch_execute("begin read only").unwrap();
    let error = db.batch_execute("select audit_algolia.backfill('log')").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    db.batch_execute("rollback").unwrap();
}

#[test]
fn another_range_is_refused_while_one_is_under_way() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, at timestamptz);
         insert into log select n, timestamptz '2026-01-01' + make_interval(secs => n) from generate_series(1, 1000) as n;
         select audit_algolia.watch('log', columns => '{at}', time_column => 'at');
         select audit_algolia.backfill('log', rows_per_second => 50)",
    )
    .unwrap();
    refused(
        &mut db,
        "select audit_algolia.backfill('log', since => '2026-01-01')",
        "55006",
        "a backfill of table public.log with another range is under way",
        "Wait until it has finished, or call audit_algolia.cancel_backfill() first.",
    );
    db.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap();
    db.batch_execute("select audit_algolia.backfill('log', since => timestamptz '2026-01-01 00:16:00')")
        .unwrap();
    wait_for_end(&mut db);
    assert_eq!(done(&mut db), 41);
}

#[test]
fn only_the_owner_may_ask_and_nobody_may_look_without_being_allowed_to() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role keeper login; create role stranger login;
         create schema keeper authorization keeper;
         grant usage on schema keeper to stranger;
         grant usage on schema audit_algolia to keeper, stranger;
         grant execute on all functions in schema audit_algolia to keeper, stranger",
    )
    .unwrap();
    let mut keeper = stage.cluster.client("postgres", "keeper");
    keeper
        .batch_execute(
            "create table keeper.log (id bigint primary key, note text);
             insert into keeper.log select n, 'old' from generate_series(1, 100) as n;
             select audit_algolia.watch('keeper.log', columns => '{note}', backfill => true)",
        )
        .unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", 1..=100);
    let mut stranger = stage.cluster.client("postgres", "stranger");
    for call in ["backfill('keeper.log')", "cancel_backfill('keeper.log')"] {
        refused(
            &mut stranger,
            &format!("select audit_algolia.{call}"),
            "42501",
            "must be owner of table keeper.log",
            "The function must be called by the table's owner or a superuser.",
        );
    }
    for table in ["backfill", "backfill_progress"] {
        let error = keeper.batch_execute(&format!("select from audit_algolia.{table}")).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501");
    }
    db.batch_execute("revoke execute on all functions in schema audit_algolia from keeper").unwrap();
    let error = keeper.batch_execute("select audit_algolia.backfill('keeper.log')").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501");
}
