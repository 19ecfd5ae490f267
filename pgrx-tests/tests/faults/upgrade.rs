//! `pg_upgrade` to the newer PostgreSQL that `PG_CONFIG_NEWER` names, or else to another cluster of the same version.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;
use crate::traffic::wait_for_empty_queues;

/// Tables watched in different ways: a plain one, one with change records and a filter whose triggers always fire, and
/// a partitioned one.
const TABLES: &str = "
    create table log (id bigint primary key, note text);
    select audit_algolia.watch('log', columns => '{note}', index_name => 'upgraded log');
    create schema s;
    create function s.told(text) returns boolean language sql stable as $$ select $1 <> 'hidden' $$;
    create table s.\"Grant\" (gone int, holder text, level text, at timestamptz, id bigint primary key);
    alter table s.\"Grant\" drop column gone;
    select audit_algolia.watch('s.\"Grant\"', columns => '{holder, level AS grade, at}', pseudonymize => '{holder}',
        operations => '{insert, update, delete}', filter => 's.told(level)', time_column => 'at',
        index_name => 'grants');
    alter table s.\"Grant\" enable always trigger audit_algolia_2_insert,
        enable always trigger audit_algolia_2_update, enable always trigger audit_algolia_2_delete;
    create table parts (id bigint primary key, note text) partition by range (id);
    create table parts_low partition of parts for values from (minvalue) to (100);
    create table parts_high partition of parts for values from (100) to (maxvalue);
    select audit_algolia.watch('parts', columns => '{note}')";

/// Seven changes, five of which the filter accepts.
const CHANGES: &str = "
    insert into s.\"Grant\" values ('ann', 'read', now(), 1), ('bob', 'hidden', now(), 2), ('eve', 'read', now(), 3);
    update s.\"Grant\" set level = 'write' where id = 1;
    update s.\"Grant\" set level = 'read' where id = 2;
    delete from s.\"Grant\" where id = 3;
    update s.\"Grant\" set level = 'hidden' where id = 1";

/// What was sent to the index of the changes, in short and ordered by number.
fn changes(stage: &Stage) -> Vec<String> {
    let index = stage.standin.index("grants");
    let arrived = stage.standin.arrivals().iter().filter(|one| one.index == "grants").count();
    assert_eq!(arrived, index.len(), "a change was sent twice");
    let mut told: Vec<(i64, String)> = index
        .values()
        .map(|record| {
            let (key, number) = record["objectID"].as_str().unwrap().rsplit_once('@').unwrap();
            assert!(record["holder"].as_str().unwrap().starts_with("p_"), "{record}");
            assert!(record["at_day"].is_string(), "{record}");
            let (op, grade) = (&record["op"], &record["grade"]);
            (number.parse().unwrap(), format!("{key} {} {}", op.as_str().unwrap(), grade.as_str().unwrap()))
        })
        .collect();
    told.sort();
    told.into_iter().map(|(_, line)| line).collect()
}

const TOLD: [&str; 5] =
    ["1 insert read", "3 insert read", "1 update write", "2 update read", "3 delete read"];

fn sources(db: &mut Client) -> Vec<String> {
    let rows = db.query("select source::text || ' ' || state from audit_algolia.sources order by id", &[]);
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn an_upgraded_server_delivers_what_was_queued_before() {
    let stage = Stage::builder()
        .setting("audit_algolia.max_record_bytes", 1000)
        .setting("audit_algolia.retry_max", "1s")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute(TABLES).unwrap();
    db.batch_execute("create database other").unwrap();
    let mut other = stage.cluster.client("other", "postgres");
    other.batch_execute("create extension audit_algolia").unwrap();
    watch(&mut other, "elsewhere");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("upgraded log", 10);
    db.batch_execute("insert into log values (5000, repeat('too large', 1000))").unwrap();
    wait_until("a dead letter", SOON, || queue(&mut db, "upgraded log").dead == 1);
    wait_for_empty_queue(&mut db);

    stage.standin.fault(None, Fault::error(503, "down"), Times::Always);
    insert(&mut db, "log", 11..=1500);
    insert(&mut db, "parts", 1..=200);
    insert(&mut other, "elsewhere", 1..=300);
    db.batch_execute(CHANGES).unwrap();
    db.batch_execute("select audit_algolia.pause('parts')").unwrap();
    wait_until("a failed attempt", SOON, || queue(&mut db, "upgraded log").failed_total > 0);
    let last = "select last_value from audit_algolia.queue_block";
    let block: i64 = one(&mut db, last);
    drop((db, other));
    stage.cluster.stop(StopMode::Fast).unwrap();
    stage.standin.clear_faults();
    let requests = stage.standin.request_count();
    let new = Cluster::upgrade_of(&stage.cluster).unwrap();
    println!("from {} to {}", stage.cluster.installation().version(), new.installation().version());
    assert_eq!(stage.standin.request_count(), requests, "nobody delivers during the upgrade");

    new.start().unwrap();
    stage.wait_for_records("upgraded log", 1500);
    stage.wait_for_records("elsewhere", 300);
    stage.wait_for_records("grants", TOLD.len());
    let mut db = new.client("postgres", "postgres");
    assert_eq!(queue(&mut db, "parts").state, "paused");
    assert!(stage.standin.index("parts").is_empty());
    db.batch_execute("select audit_algolia.resume()").unwrap();
    stage.wait_for_records("parts", 200);
    wait_for_empty_queues(&mut db);
    assert_each_once(&stage.standin, "upgraded log", 1..=1500);
    assert_each_once(&stage.standin, "parts", 1..=200);
    assert_each_once(&stage.standin, "elsewhere", 1..=300);
    assert_eq!(changes(&stage), TOLD);
    assert_eq!(queue(&mut db, "upgraded log").dead, 1);

    // It continues as before, with newer ids.
    assert_eq!(sources(&mut db), ["log watching", "s.\"Grant\" watching", "parts watching"]);
    new.set(&[("audit_algolia.max_record_bytes", "100000")]).unwrap();
    wait_until("the dead letter's delivery", SOON, || {
        one::<i64>(&mut db, "select audit_algolia.redrive()");
        wait_until("a verdict", SOON, || queue(&mut db, "upgraded log").queued == 0);
        queue(&mut db, "upgraded log").dead == 0
    });
    insert(&mut db, "log", 1501..=1600);
    insert(&mut db, "parts", 201..=300);
    db.batch_execute("set session_replication_role = replica; delete from s.\"Grant\" where id in (1, 2)")
        .unwrap();
    stage.wait_for_records("upgraded log", 1601);
    stage.wait_for_records("parts", 300);
    stage.wait_for_records("grants", TOLD.len() + 1);
    wait_for_empty_queues(&mut db);
    assert_each_once(&stage.standin, "upgraded log", (1..=1600).chain([5000]));
    assert_eq!(changes(&stage)[TOLD.len()..], ["2 delete read"]);
    assert!(one::<i64>(&mut db, last) > block, "ids go on");
    assert_eq!(queue(&mut db, "upgraded log").dead, 0);
    // The event triggers still exist.
    db.batch_execute("reset session_replication_role; drop table log").unwrap();
    assert_eq!(sources(&mut db), ["s.\"Grant\" watching", "parts watching"]);
    assert_no_faults(&new);
}
