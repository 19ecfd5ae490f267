//! `metrics` shows the figures of `queue_stats` and `worker_stats` in a text that scrapers can parse.

use std::collections::BTreeMap;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::openmetrics::{read, Family};
use crate::support::*;

fn scrape(db: &mut Client) -> BTreeMap<String, Family> {
    read(&one::<String>(db, "select audit_algolia.metrics()"))
}

/// The value for an index.
#[track_caller]
fn of_index(families: &BTreeMap<String, Family>, name: &str, index: &str) -> Option<f64> {
    let samples = &families[name].samples;
    let mine = samples.iter().find(|(labels, _)| labels.get("index").is_some_and(|own| own == index));
    mine.map(|(_, value)| *value)
}

#[test]
fn a_scraper_reads_what_the_statistics_say() {
    let stage = Stage::builder().setting("audit_algolia.workers", 2).start().unwrap();
    let mut db = staged(&stage, "log");
    let hostile = "q\"} 1\n\\ # EOF";
    // `watch` refuses an index with such a name, but a restored dump might contain one.
    db.execute("insert into audit_algolia.index (name) values ($1)", &[&hostile]).unwrap();
    watch(&mut db, "held");
    db.batch_execute("select audit_algolia.pause('held')").unwrap();
    insert(&mut db, "log", 1..=30);
    insert(&mut db, "held", 1..=7);
    stage.wait_for_records("log", 30);
    wait_until("all settled", SOON, || queue(&mut db, "log").delivered_total == 30);

    let families = scrape(&mut db);
    for (name, log, held) in [
        ("audit_algolia_queued_rows", 0.0, 7.0),
        ("audit_algolia_in_flight_rows", 0.0, 0.0),
        ("audit_algolia_retrying_rows", 0.0, 0.0),
        ("audit_algolia_dead_rows", 0.0, 0.0),
        ("audit_algolia_enqueued_rows", 30.0, 7.0),
        ("audit_algolia_delivered_rows", 30.0, 0.0),
        ("audit_algolia_failed_rows", 0.0, 0.0),
        ("audit_algolia_given_up_rows", 0.0, 0.0),
    ] {
        assert_eq!(families[name].unit, "rows");
        assert_eq!(of_index(&families, name, "log"), Some(log), "{name}");
        assert_eq!(of_index(&families, name, "held"), Some(held), "{name}");
        assert_eq!(of_index(&families, name, hostile), Some(0.0), "{name}");
        assert!(families[name].samples.iter().all(|(labels, _)| labels["database"] == "postgres"));
    }
    for (index, state) in [("log", "idle"), ("held", "paused")] {
        let on: Vec<&str> = families["audit_algolia_state"]
            .samples
            .iter()
            .filter(|(labels, value)| labels["index"] == index && *value == 1.0)
            .map(|(labels, _)| labels["audit_algolia_state"].as_str())
            .collect();
        assert_eq!(on, [state]);
    }
    // Times that are null have no sample. The others are the same as in the statistics.
    let name = "audit_algolia_oldest_queued_timestamp_seconds";
    assert_eq!(of_index(&families, name, "log"), None);
    let since: f64 = one(
        &mut db,
        "select extract(epoch from date_trunc('milliseconds', oldest_queued_at))::float8
         from audit_algolia.queue_stats() where index_name = 'held'",
    );
    assert_eq!(of_index(&families, name, "held"), Some(since));
    let late = of_index(&families, "audit_algolia_last_delivered_timestamp_seconds", "log").unwrap();
    assert!(late > since - 60.0);

    wait_for_workers(&mut db, "postgres", 2);
    let families = scrape(&mut db);
    assert_eq!(families["audit_algolia_workers"].samples[0].1, 2.0);
    let pids = workers(&mut db, "postgres");
    for name in ["audit_algolia_worker_rows", "audit_algolia_worker_errors", "audit_algolia_worker_batches"] {
        let own: Vec<i32> =
            families[name].samples.iter().map(|(labels, _)| labels["pid"].parse().unwrap()).collect();
        assert_eq!(own.len(), 2);
        assert!(own.iter().all(|pid| pids.contains(pid)), "{own:?} {pids:?}");
    }
    let rows = &families["audit_algolia_worker_rows"].samples;
    assert_eq!(rows.iter().map(|(_, rows)| rows).sum::<f64>(), 30.0);
}

#[test]
fn monitors_may_scrape_and_nobody_else() {
    let stage = Stage::builder().preload(false).start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role monitor login; grant pg_monitor to monitor;
         create role passer_by login; grant usage on schema audit_algolia to passer_by",
    )
    .unwrap();
    let mut monitor = stage.cluster.client("postgres", "monitor");
    let families = scrape(&mut monitor);
    assert_eq!(families["audit_algolia_workers"].samples[0].1, 0.0);
    watch(&mut db, "log");
    insert(&mut db, "log", 1..=3);
    let families = scrape(&mut monitor);
    assert_eq!(of_index(&families, "audit_algolia_queued_rows", "log"), Some(3.0));
    let mut passer_by = stage.cluster.client("postgres", "passer_by");
    let refused = passer_by.query("select audit_algolia.metrics()", &[]).unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}
