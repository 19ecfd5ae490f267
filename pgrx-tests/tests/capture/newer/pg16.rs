//! PostgreSQL 16: standbys decode, and `pg_stat_io`.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use super::has;
use crate::changes::brief;
use crate::play::one;
use crate::replicas::always;

const TABLE: &str = "create table t (id int primary key, v text)";
const WATCH: &str =
    "select audit_algolia.watch('t', columns => '{v}', operations => '{insert, update, delete, truncate}')";

fn told(stage: &Stage) -> Vec<String> {
    let mut told: Vec<String> = stage.standin.index("t").values().map(brief).collect();
    told.sort();
    told
}

#[test]
fn what_a_standby_decodes_is_captured_by_its_subscriber_also_after_promotion() {
    if !has(16, "logical decoding on a standby") {
        return;
    }
    let primary = Stage::builder()
        .setting("wal_level", "logical")
        .setting("hot_standby_feedback", "on")
        .start()
        .unwrap();
    let mut db = primary.admin();
    db.batch_execute(&format!(
        "{TABLE}; insert into t values (1, 'a'); create publication p for table t; {WATCH}"
    ))
    .unwrap();
    let standby = Cluster::standby_of(&primary.cluster).unwrap();
    let subscriber = Stage::builder().start().unwrap();
    let mut admin = subscriber.admin();
    admin.batch_execute(&format!("{TABLE}; {WATCH}")).unwrap();
    always(&mut admin, "t");

    let connection = standby.connection_string("postgres", "postgres");
    let subscribing = std::thread::spawn(move || {
        let subscribe = format!("create subscription s connection '{connection}' publication p");
        admin.batch_execute(&subscribe).map(|()| admin)
    });
    // A slot of a standby begins at a snapshot that the primary has to log.
    wait_until("the first copy", SOON, || {
        db.batch_execute("select pg_log_standby_snapshot()").unwrap();
        subscribing.is_finished() && told(&subscriber).len() == 1
    });
    let mut admin = subscribing.join().unwrap().unwrap();
    db.batch_execute("insert into t values (2, 'b'); update t set v = v || '2'; delete from t where id = 1")
        .unwrap();
    subscriber.wait_for_records("t", 5);
    primary.wait_for_records("t", 4);
    let decoded = ["1 delete a2", "1 insert a", "1 update a2 a", "2 insert b", "2 update b2 b"];
    assert_eq!(told(&subscriber), decoded);
    assert_eq!(told(&primary), ["1 delete a2", "1 update a2 a", "2 insert b", "2 update b2 b"]);

    wait_until("the standby", SOON, || {
        let held = "select count(*) from t where v = 'b2'";
        one::<i64>(&mut standby.client("postgres", "postgres"), held) == 1
    });
    primary.cluster.stop(StopMode::Immediate).unwrap();
    standby.promote().unwrap();
    standby.client("postgres", "postgres").batch_execute("insert into t values (3, 'c')").unwrap();
    subscriber.wait_for_records("t", 6);
    primary.wait_for_records("t", 5);
    assert_eq!(told(&subscriber).last().unwrap(), "3 insert c");
    assert_eq!(told(&primary).last().unwrap(), "3 insert c");
    admin.batch_execute("drop subscription s").unwrap();
}

#[test]
fn what_workers_read_is_counted() {
    if !has(16, "pg_stat_io") {
        return;
    }
    // Without other background workers than ours.
    let stage = Stage::builder().setting("max_logical_replication_workers", 0).start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(&format!("{TABLE}; {WATCH}; select pg_stat_reset_shared('io')")).unwrap();
    db.batch_execute("insert into t select n, 'a' from generate_series(1, 1000) as n").unwrap();
    stage.wait_for_records("t", 1000);
    let hits =
        "select coalesce(sum(hits), 0)::bigint from pg_stat_io where backend_type = 'background worker'";
    wait_until("what the workers have read", SOON, || one::<i64>(&mut db, hits) > 1000);
}
