//! A backfill sends the newest rows first, and after all live rows.

use std::time::Duration;

use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

#[test]
fn history_goes_newest_first_by_its_key() {
    let stage = in_order().setting("audit_algolia.batch_rows", 100).start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 5000);
    watch(&mut db);
    wait_for_end(&mut db);
    let batches = stage.standin.batches("log");
    // Within a request the newest comes last, so it wins.
    let order: Vec<i64> = batches.iter().flat_map(|batch| batch.iter().rev().copied()).collect();
    assert_eq!(order, (1..=5000).rev().collect::<Vec<_>>());
}

#[test]
fn keys_that_their_domain_would_not_take_any_more_are_an_order_still() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create domain key as bigint;
         create table log (id key primary key, note text);
         insert into log select n, 'x' from generate_series(1, 5000) as n;
         alter domain key add constraint later check (value < 0) not valid",
    )
    .unwrap();
    watch(&mut db);
    wait_for_end(&mut db);
    assert_eq!(stage.standin.index("log").len(), 5000);
}

#[test]
fn with_an_index_over_the_time_column_history_goes_by_time() {
    let stage = in_order().start().unwrap();
    let mut db = stage.admin();
    // The higher the key, the older the row. Some rows have the same time, and some have none.
    db.batch_execute(
        "create table log (id uuid primary key default gen_random_uuid(), n int, at timestamptz);
         create index on log (at);
         insert into log (n, at)
             select n, case when n <= 4000 then timestamptz '2026-01-01' - make_interval(mins => n / 50) end
             from generate_series(1, 4500) as n;
         select audit_algolia.watch('log', columns => '{n,at}', time_column => 'at', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    let index = stage.standin.index("log");
    assert_eq!(index.len(), 4500);
    let sent = sent(&stage.standin, "log");
    assert_eq!(sent.len(), 4500);
    let batches = stage.standin.arrivals();
    let mut order: Vec<(usize, i64)> = batches
        .iter()
        .filter(|arrival| arrival.index == "log")
        .map(|arrival| (arrival.request, index[&arrival.object_id]["at"].as_i64().unwrap_or(0)))
        .collect();
    // Within a request they come in reverse order.
    order.reverse();
    order.sort_by_key(|(request, _)| *request);
    let times: Vec<i64> = order.into_iter().map(|(_, at)| at).collect();
    assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "older rows came before newer ones");
}

#[test]
fn live_rows_overtake_history() {
    let stage = in_order()
        .setting("audit_algolia.batch_rows", 10)
        .standin(|standin| standin.latency = Duration::from_millis(20))
        .start()
        .unwrap();
    let mut db = stage.admin();
    fill(&mut db, 2000);
    watch(&mut db);
    wait_until("some history", LATER, || sent(&stage.standin, "log").len() >= 50);
    let before = sent(&stage.standin, "log").len();
    db.batch_execute("insert into log select n, 'live' from generate_series(10001, 10030) as n").unwrap();
    wait_until("the live rows", LATER, || {
        sent(&stage.standin, "log").iter().filter(|id| id.len() == 5).count() == 30
    });
    let all = sent(&stage.standin, "log");
    let last = all.iter().rposition(|id| id.len() == 5).unwrap();
    // One batch may have been in flight and one claimed. None of the 30 live rows waits for more.
    assert!(last <= before + 70, "{before} rows had arrived before, the last live row was number {last}");
    assert!(all.len() < 1500, "history was not on its way any more");
    // A backlog of live rows is sent before the backfill too, including its tail.
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    db.batch_execute("insert into log select n, 'live' from generate_series(20001, 20200) as n").unwrap();
    let before = sent(&stage.standin, "log").len();
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("the backlog", LATER, || {
        sent(&stage.standin, "log").iter().filter(|id| id.starts_with("20")).count() >= 200
    });
    let all = sent(&stage.standin, "log");
    let history = all[before..].iter().take_while(|id| *id != "20001").filter(|id| id.len() < 5).count();
    assert!(history <= 20, "{history} rows of history went before live ones");
}

#[test]
fn the_statistics_know_the_ends_of_history_and_of_live_rows() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 100);
    watch(&mut db);
    wait_for(&mut db, "finished");
    let ends = "select oldest_queued_at = (select min(enqueued_at) from audit_algolia.queue)
            and newest_queued_at = (select max(enqueued_at) from audit_algolia.queue)
        from audit_algolia.queue_stats()";
    assert!(one::<bool>(&mut db, ends), "of history alone");
    db.batch_execute("insert into log values (101, 'live')").unwrap();
    assert!(one::<bool>(&mut db, ends), "with live rows");
    db.batch_execute("insert into log select n, 'old' from generate_series(200, 300) as n").unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_until("the second", LATER, || state(&mut db) == "finished");
    assert!(one::<bool>(&mut db, ends), "with younger history");
}

/// The latest date is far beyond the latest timestamp.
#[test]
fn dates_beyond_all_timestamps_are_history_like_others() {
    for of_type in ["date", "due"] {
        let stage = in_order().start().unwrap();
        let mut db = stage.admin();
        // There is no key to order by, so rows are ordered by time. There are more rows than a step reads, so that a
        // cursor holds such a date.
        db.batch_execute(&format!(
            "create domain due as date;
             create table log (id int not null, day {of_type});
             create index on log (day);
             insert into log select n, date '5874897-12-31' - n from generate_series(1, 1500) as n;
             insert into log
                 values (0, 'infinity'), (1501, '-infinity'), (1502, '4713-01-01 BC'), (1503, '2026-11-20');
             select audit_algolia.watch('log', columns => '{{id,day}}', object_id => '{{id}}', time_column => 'day',
                 backfill => true)"
        ))
        .unwrap();
        wait_for_end(&mut db);
        let index = stage.standin.index("log");
        assert_eq!(index.len(), 1504);
        assert_eq!(index["1"]["day"], 185_331_706_992_000_i64 - 86_400);
        assert_eq!(index["1503"]["day_day"], "2026-11-20");
        // A backfill of a time range handles them too.
        db.batch_execute("select audit_algolia.backfill('log', since => '2026-11-20', until => 'infinity')")
            .unwrap();
        wait_for_end(&mut db);
        assert_eq!(one::<i64>(&mut db, "select rows_done from audit_algolia.backfill_progress"), 1501);
    }
}
