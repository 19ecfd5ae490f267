//! A server at work is upgraded from each released version and put back again.

use std::collections::{BTreeMap, BTreeSet};

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{one, Stage, PSEUDONYM_KEY, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::Value;

use crate::objects::{assert_same_definition, definition};
use crate::support::*;
use crate::writers::Writer;

/// Sources of every mode: records of inserts under a filter and with a pseudonym, change records, mirrored tables, one of
/// them partitioned, and a table with history.
const SOURCES: &str = "
    create table events (id bigint primary key, who text, counts boolean, note text default '');
    create table documents (id bigint primary key, note text);
    create table articles (id bigint primary key, note text);
    create table parts (id bigint primary key, note text) partition by range (id);
    create table parts_low partition of parts for values from (0) to (20);
    create table parts_high partition of parts for values from (20) to (40);
    create table parts_gone partition of parts for values from (100) to (200);
    create table former (id bigint primary key, note text);
    insert into parts select n, 'to go' from generate_series(100, 109) as n;
    insert into former select n, 'note ' || n from generate_series(1, 1200) as n;
    select audit_algolia.watch('events', columns => '{id, who, note}', pseudonymize => '{who}', filter => 'counts');
    select audit_algolia.watch('documents', columns => '{id, note}', operations => '{insert, update, delete, truncate}');
    select audit_algolia.watch('articles', columns => '{id, note}', operations => '{insert, update, delete, truncate}', mode => 'mirror');
    select audit_algolia.watch('parts', columns => '{id, note}', operations => '{insert, update, delete, truncate}', mode => 'mirror', backfill => true);
    select audit_algolia.watch('former', columns => '{id, note}');
    create table documents_changes (operation text, id bigint);
    create function note_change() returns trigger language plpgsql security definer as $$
    begin
        insert into public.documents_changes values (lower(tg_op), coalesce(new.id, old.id));
        return null;
    end $$;
    create trigger note_change after insert or update or delete on documents for each row execute function note_change();
    grant select, insert, update, delete on all tables in schema public to writer;";

/// What is done to partitions of a mirrored table while library and objects are of different versions.
const PARTITIONS: &str = "
    drop table parts_gone;
    create table parts_new (id bigint primary key, note text);
    insert into parts_new select n, 'has come' from generate_series(200, 209) as n;
    alter table parts attach partition parts_new for values from (200) to (300);";

#[test]
fn an_upgrade_and_the_way_back_lose_nothing() {
    for version in versions() {
        let builder = Stage::builder().setting("audit_algolia.workers", 2);
        if let Some(upgrade) = Upgrade::from(&version, builder) {
            walk(&upgrade, &version);
        }
    }
}

fn walk(upgrade: &Upgrade, version: &str) {
    let stage = &upgrade.stage;
    let mut db = stage.admin();
    db.batch_execute("create role writer login").unwrap();
    db.batch_execute(SOURCES).unwrap();
    db.batch_execute("insert into events values (0, 'x', true, repeat('x', 200000))").unwrap();
    wait_until("a dead letter", SOON, || dead_letters(&mut db) == 1);
    let writer = Writer::start(&stage.cluster);
    writer.wait_for(50);
    db.batch_execute("select audit_algolia.backfill('former', rows_per_second => 120)").unwrap();
    wait_until("a part of the history", SOON, || history(&mut db).1 > 0);

    // There: the library first, then the objects.
    let mut db = restart_with(upgrade, PRESENT);
    assert_waits(stage, &mut db, &writer, PRESENT, version);
    let (state, done, queued) = history(&mut db);
    assert!(done < 1200 && done == queued, "{state}: {done} rows read, {queued} queued");
    db.batch_execute(PARTITIONS).unwrap();
    update(&mut db, PRESENT);
    assert_delivers(stage, &writer);
    wait_until("the end of the history", SOON, || history(&mut db).0 == "finished");
    assert_eq!(history(&mut db), ("finished".to_owned(), 1200, 1200), "no row is queued twice");
    assert_equals_fresh_install(stage, version);

    // Astray: the old library with the new objects, and the new one again.
    let mut db = restart_with(upgrade, version);
    assert_waits(stage, &mut db, &writer, version, PRESENT);
    let mut db = restart_with(upgrade, PRESENT);
    assert_delivers(stage, &writer);

    // And back: the objects first, then the library.
    update(&mut db, version);
    assert_waits(stage, &mut db, &writer, PRESENT, version);
    let mut db = restart_with(upgrade, version);
    assert_delivers(stage, &writer);
    writer.stop();
    assert_everything_is_delivered(stage, &mut db);

    assert_eq!(dead_letters(&mut db), 1);
    stage.standin.set_max_record_bytes(1_000_000);
    stage.cluster.set(&[("audit_algolia.max_record_bytes", "1MB")]).unwrap();
    db.batch_execute("select audit_algolia.redrive()").unwrap();
    wait_until("the dead letter", SOON, || stage.standin.index("events").contains_key("0"));
}

/// Replaces the library, and only then restarts the server.
fn restart_with(upgrade: &Upgrade, version: &str) -> Client {
    upgrade.replace_library(version);
    upgrade.stage.cluster.restart(StopMode::Fast).unwrap();
    upgrade.stage.session()
}

/// What is written arrives again.
#[track_caller]
fn assert_delivers(stage: &Stage, writer: &Writer) {
    let sent = stage.standin.arrivals().len();
    writer.wait_for(50);
    wait_until("new records", SOON, || stage.standin.arrivals().len() > sent);
}

/// While library and objects are of different versions, log, statistics and functions say so; what is written is queued,
/// and nothing is sent.
#[track_caller]
fn assert_waits(stage: &Stage, db: &mut Client, writer: &Writer, library: &str, extension: &str) {
    let what = format!("the library is version {library}, the extension {extension}");
    let stats =
        "select coalesce(bool_and(last_error like '%' || $1 || '%'), false) from audit_algolia.queue_stats()";
    wait_until("a word in the statistics", SOON, || db.query_one(stats, &[&what]).unwrap().get(0));
    assert!(stage.cluster.log().contains(&format!("audit_algolia delivers nothing: {what}")));
    assert_refused(db, library, extension);
    db.batch_execute("select from audit_algolia.worker_stats(), audit_algolia.metrics()").unwrap();
    let sent = || stage.standin.arrivals().len();
    wait_until("the end of what is in flight", SOON, || {
        let before = sent();
        writer.wait_for(20);
        sent() == before
    });
    let (before, queued) = (sent(), queued(db));
    writer.wait_for(50);
    assert_eq!(sent(), before);
    assert!(self::queued(db) >= queued + 50);
}

/// Tables, triggers and rights are those of a database in which everything was made by the present version.
#[track_caller]
fn assert_equals_fresh_install(stage: &Stage, version: &str) {
    let fresh = Cluster::builder().setting("audit_algolia.pseudonym_key", PSEUDONYM_KEY).start().unwrap();
    let mut db = fresh.client("postgres", "postgres");
    db.batch_execute("create extension audit_algolia; create role writer login").unwrap();
    db.batch_execute(SOURCES).unwrap();
    db.batch_execute(PARTITIONS).unwrap();
    let found = definition(&stage.cluster, "postgres");
    assert_same_definition(&found, &definition(&fresh, "postgres"), version, PRESENT);
}

/// The indices hold what the tables say: each record once, and no other.
#[track_caller]
fn assert_everything_is_delivered(stage: &Stage, db: &mut Client) {
    wait_until("an empty queue", SOON * 3, || queued(db) == 0);
    let ids = |db: &mut Client, query: &str| -> BTreeSet<String> {
        db.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let held = |index: &str| -> BTreeSet<String> { stage.standin.index(index).into_keys().collect() };
    assert_eq!(held("events"), ids(db, "select id::text from events where counts and id > 0"));
    assert_eq!(held("former"), ids(db, "select id::text from former"));
    for table in ["articles", "parts"] {
        let rows = db.query(&format!("select id::text, note from {table}"), &[]).unwrap();
        let rows: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let text = |record: &Value| record["note"].as_str().unwrap_or_default().to_owned();
        let held = stage.standin.index(table).into_iter().map(|(id, record)| (id, text(&record))).collect();
        assert_eq!(rows, held, "{table}");
    }
    // Each change has an objectID of its own, so one that were captured twice would be there twice.
    let mut changes: Vec<(String, String)> = Vec::new();
    for (id, record) in stage.standin.index("documents") {
        let key = id.split('@').next().unwrap_or_default().to_owned();
        changes.push((record["op"].as_str().unwrap_or_default().to_owned(), key));
    }
    changes.sort();
    let rows = db.query("select operation, id::text from documents_changes", &[]).unwrap();
    let mut noted: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    noted.sort();
    assert_eq!(changes, noted);
}

fn queued(db: &mut Client) -> i64 {
    one(db, "select count(*) from audit_algolia.queue")
}

fn dead_letters(db: &mut Client) -> i64 {
    one(db, "select count(*) from audit_algolia.dead_letters")
}

/// State, rows read and rows queued of the backfill of `former`.
fn history(db: &mut Client) -> (String, i64, i64) {
    let query = "select state, rows_done, rows_queued from audit_algolia.backfill_progress where source = 'former'::regclass";
    let row = db.query_one(query, &[]).unwrap();
    (row.get(0), row.get(1), row.get(2))
}
