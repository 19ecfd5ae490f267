//! An outage costs only time: no row is written again, the log stays readable, and its end is noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, FaultBody, FaultRule, Times};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

/// The lines of the log without their prefixes, and how often each occurs.
fn told(stage: &Stage) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for line in stage.cluster.log().lines() {
        if let Some((_, text)) = line.split_once("LOG:  audit_algolia ") {
            // Parts of the answer differ between attempts: the port, the id of the request.
            let text = text.split(" and tries again").next().unwrap();
            *told.entry(text.to_owned()).or_default() += 1;
        }
    }
    told
}

#[test]
fn during_an_outage_no_row_is_written_anew_and_nothing_is_told_twice_a_minute() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 2)
        .setting("audit_algolia.batch_rows", 10)
        .setting("audit_algolia.retry_min", "5ms")
        .setting("audit_algolia.retry_max", "20ms")
        .setting("autovacuum", "off")
        .start()
        .unwrap();
    let mut db = staged(&stage, "one");
    watch(&mut db, "two");
    watch(&mut db, "three");
    db.batch_execute("create extension pg_walinspect").unwrap();
    stage.standin.fault(None, Fault::error(503, "no"), Times::Always);
    for table in ["one", "two", "three"] {
        insert(&mut db, table, 1..=100);
    }
    let from: String = one(&mut db, "select pg_current_wal_insert_lsn()::text");
    let before = stage.standin.request_count();
    wait_until("a hundred failures", SOON, || stage.standin.request_count() >= before + 100);
    db.batch_execute("checkpoint").unwrap();
    let until: String = one(&mut db, "select pg_current_wal_flush_lsn()::text");
    let records = db
        .query(
            &format!(
                "select record_type, count(*), sum(record_length)::bigint
                 from pg_get_wal_records_info('{from}', '{until}')
                 where resource_manager in ('Heap', 'Heap2', 'Btree')
                     and block_ref like '%/' || (select relfilenode from pg_class where oid = 'audit_algolia.queue'::regclass) || ' %'
                 group by 1",
            ),
            &[],
        )
        .unwrap();
    for record in &records {
        let (kind, rows, bytes): (String, i64, i64) = (record.get(0), record.get(1), record.get(2));
        // A claim locks its rows for a moment, which is all that is written.
        assert!(["LOCK", "PRUNE"].contains(&kind.as_str()), "{kind}");
        assert!(bytes <= rows * 80, "{rows} records of kind {kind} with {bytes} bytes");
    }
    assert!(!records.is_empty(), "the claims are seen");
    let written = "select pg_stat_force_next_flush(), n_tup_upd, n_tup_del, n_tup_ins from pg_stat_user_tables where relid = 'audit_algolia.queue'::regclass";
    wait_until("statistics", SOON, || db.query_one(written, &[]).unwrap().get::<_, i64>(3) == 300);
    let row = db.query_one(written, &[]).unwrap();
    assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2)), (0, 0));
    // Now the outage comes and goes.
    stage.standin.clear_faults();
    stage.standin.inject(FaultRule::new(Fault::error(503, "no"), Times::Always).percent(60, 1));
    let mut next = 101;
    wait_until("many ups and downs", SOON, || {
        for table in ["one", "two", "three"] {
            insert(&mut db, table, next..=next + 9);
        }
        next += 10;
        next > 500
    });
    let time = took(|| {
        stage.standin.clear_faults();
        for table in ["one", "two", "three"] {
            stage.wait_for_records(table, next as usize - 1);
        }
    });
    assert!(time < AT_ONCE, "recovery begins within retry_max: {time:?}");
    let told = told(&stage);
    for index in ["one", "two", "three"] {
        assert_eq!(told[&format!("cannot deliver to index \"{index}\"")], 1, "{told:#?}");
        assert!(told.get(&format!("delivers to index \"{index}\" again")).is_none_or(|times| *times == 1));
    }
}

#[test]
fn a_throttled_index_waits_as_asked_and_the_others_go_on() {
    let stage = Stage::builder().setting("audit_algolia.retry_min", "10ms").start().unwrap();
    let mut db = staged(&stage, "log");
    watch(&mut db, "other");
    let date: String = one(
        &mut db,
        "select to_char(clock_timestamp() at time zone 'utc' + '8 s', 'Dy, DD Mon YYYY HH24:MI:SS \"GMT\"')",
    );
    let fault = Fault::Status {
        code: 429,
        body: FaultBody::Html("<html>slow down</html>".to_owned()),
        headers: vec![("Retry-After".to_owned(), date)],
    };
    stage.standin.inject(FaultRule::new(fault, Times::Once).index("log"));
    insert(&mut db, "log", 1..=10);
    wait_for_state(&mut db, "log", "backing off");
    assert!(queue(&mut db, "log").last_error.contains("429 Too Many Requests with 22 bytes of text/html"));
    let time = took(|| {
        insert(&mut db, "other", 1..=10);
        stage.wait_for_records("other", 10);
    });
    assert!(time < Duration::from_secs(5), "{time:?}");
    assert!(sent(&stage.standin, "log").is_empty());
    stage.wait_for_records("log", 10);
    let times: Vec<_> =
        stage.standin.requests().iter().filter(|r| r.path.contains("/log/")).map(|r| r.at).collect();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_secs(1), "{:?}", times[1] - times[0]);
}

#[test]
fn when_every_host_is_down_all_are_tried_again_and_again() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "10ms")
        .setting("audit_algolia.retry_max", "50ms")
        .standin(|standin| standin.hosts = 3)
        .start()
        .unwrap();
    let mut db = staged(&stage, "log");
    stage.standin.fault(None, Fault::error(500, "no"), Times::Count(30));
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    let hosts: Vec<usize> = stage.standin.requests().iter().map(|request| request.host).collect();
    let in_order: Vec<usize> = (0..10).flat_map(|_| [0, 1, 2]).chain([0]).collect();
    assert_eq!(hosts[..31], in_order, "each once in every round, in their order");
}
