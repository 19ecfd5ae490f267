//! PostgreSQL 18: virtual generated columns, old and new rows in `RETURNING`, ids of `uuidv7()`, asynchronous reads.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use serde_json::json;

use super::has;
use crate::changes::{briefs, changes};
use crate::play::{failure, one, Play};

const ALL: &str = "operations => '{insert, update, delete, truncate}'";

#[test]
fn a_table_with_virtual_columns_is_captured_without_them() {
    if !has(18, "virtual generated columns") {
        return;
    }
    let table =
        "create table t (early text generated always as (upper(v)) virtual, id int primary key, v text,
        kept text generated always as (lower(v)) stored, late int generated always as (id * 2))";
    let mut play = Play::new("virtual", table);
    for rules in ["columns => '{v, early}'", "columns => '{v}', object_id => '{id, late}'"] {
        let watch = format!("select audit_algolia.watch('t', {rules})");
        let error = failure(&mut play.admin, &watch);
        assert_eq!(error.code().code(), "0A000", "{error}");
        assert!(error.message().contains("is a virtual generated column"), "{error}");
        assert!(error.hint().unwrap().contains("STORED"), "{error}");
    }
    let filter = "select audit_algolia.watch('t', columns => '{v}', filter => 'late > 1')";
    assert!(failure(&mut play.admin, filter).message().contains("virtual generated column"));
    play.watch("t", &format!("columns => '{{v, kept}}', {ALL}"));
    play.run("insert into t values (default, 1, 'Ann')");
    play.run("update t set v = 'Bob'");
    play.run("delete from t");
    let records = changes(&mut play);
    assert_eq!(records[1]["changed"], json!(["v", "kept"]));
    assert_eq!(records[1]["previous"], json!({"v": "Ann", "kept": "ann"}));
    assert_eq!(records[2]["kept"], "bob");
    assert!(records.iter().all(|record| record["early"].is_null() && record["late"].is_null()));
}

#[test]
fn history_and_mirror_of_a_table_with_virtual_columns_equal_its_rows() {
    if !has(18, "virtual generated columns") {
        return;
    }
    let mut play = Play::new(
        "virtual_mirror",
        "create table t (early text generated always as (v || '!'), id int primary key, v text);
         insert into t (id, v) select n, 'a' || n from generate_series(1, 50) as n",
    );
    play.watch("t", "columns => '{v}', mode => 'mirror', backfill => true");
    play.run("update t set v = 'b' where id = 1; delete from t where id = 2");
    wait_until("the history", SOON, || play.records().len() == 49);
    assert_eq!(play.records()["1"]["v"], "b");
    let query = "select checked, missing + different + orphaned from audit_algolia.reconcile('t')";
    let row = play.admin.query_one(query, &[]).unwrap();
    assert_eq!((row.get(0), row.get(1)), (49_i64, 0_i64));
    let shown: serde_json::Value = one(&mut play.admin, "select audit_algolia.preview('t', 1)");
    assert!(shown["v"].is_string() && shown["early"].is_null(), "{shown}");
}

#[test]
fn statements_that_return_old_and_new_rows_are_captured_once() {
    if !has(18, "OLD and NEW in RETURNING") {
        return;
    }
    let mut play = Play::new("returns_both", "create table t (id int primary key, v text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("insert into t values (1, 'a') returning old.v, new.v");
    play.run("update t set v = 'b' returning old.v, new.v, old.v is distinct from new.v");
    play.run(
        "insert into t values (1, 'c'), (2, 'd') on conflict (id) do update set v = excluded.v
         returning with (old as before, new as after) before.v, after.v",
    );
    play.run("with gone as (delete from t where id = 2 returning old.id, new.id as none) select * from gone");
    let mut told = briefs(&mut play);
    told.sort();
    let expected = ["1 insert a", "1 update b a", "1 update c b", "2 delete d", "2 insert d"];
    assert_eq!(told, expected);
}

#[test]
fn keys_of_uuidv7_are_objects_and_history_goes_newest_first() {
    if !has(18, "uuidv7()") {
        return;
    }
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.in_flight", 1)
        .setting("audit_algolia.batch_rows", 100)
        .setting("audit_algolia.tail_share", 0)
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id uuid primary key default uuidv7(), n int);
         do $$ begin for n in 1 .. 500 loop insert into t (n) values (n); end loop; end $$;
         select audit_algolia.watch('t', columns => '{n}', backfill => true)",
    )
    .unwrap();
    stage.wait_for_records("t", 500);
    let mut rows: Vec<String> = db
        .query("select id::text from t order by n desc", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut arrived: Vec<String> = stage.standin.arrivals().iter().map(|one| one.object_id.clone()).collect();
    for batches in [&mut rows, &mut arrived] {
        batches.chunks_mut(100).for_each(<[String]>::sort);
    }
    assert_eq!(arrived, rows, "the newest hundred first");
    db.batch_execute("insert into t (n) values (501)").unwrap();
    stage.wait_for_records("t", 501);
    let newest: String = one(&mut db, "select max(id::text) from t");
    assert_eq!(stage.standin.index("t")[&newest]["n"], 501);
}

#[test]
fn history_and_comparison_read_all_rows_however_the_server_reads() {
    if !has(18, "asynchronous reads") {
        return;
    }
    let methods = {
        let stage = Stage::builder().start().unwrap();
        let known = "select unnest(enumvals) from pg_settings where name = 'io_method'";
        let rows = stage.admin().query(known, &[]).unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    assert!(methods.contains(&"worker".to_owned()), "{methods:?}");
    for method in methods {
        // So little memory that the table is read from its files.
        let stage = Stage::builder()
            .setting("io_method", &method)
            .setting("shared_buffers", "1MB")
            .setting("autovacuum", "off")
            .start()
            .unwrap();
        let mut db = stage.admin();
        db.batch_execute(
            "create table t (id int primary key, v text);
             insert into t select n, repeat('a', 500) from generate_series(1, 5000) as n; checkpoint;
             select audit_algolia.watch('t', columns => '{v}', backfill => true)",
        )
        .unwrap();
        stage.wait_for_records("t", 5000);
        let query = "select checked, missing + different + orphaned from audit_algolia.reconcile('t')";
        let row = db.query_one(query, &[]).unwrap();
        assert_eq!((row.get(0), row.get(1)), (5000_i64, 0_i64), "{method}");
        let log = stage.cluster.log();
        assert!(!log.contains("WARNING:") && !log.contains("ERROR:"), "{method}: {log}");
    }
}
