//! The records of a backfill, and rows for which there can be none.

use audit_algolia_tests::stage::{Stage, PSEUDONYM_KEY};
use audit_algolia_tests::standin::Standin;
use serde_json::{json, Value};

use crate::support::*;

fn object(standin: &Standin, index: &str, id: &str) -> Value {
    standin.index(index).get(id).cloned().unwrap_or(Value::Null)
}

#[test]
fn history_is_filtered_and_pseudonymized_as_live_rows_are() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, who text, level int, secret text, at timestamptz);
         insert into log select n, 'user-' || n % 7, n % 3, 'geheim', timestamptz '2026-11-20 13:05:00.25+00'
             from generate_series(1, 300) as n;
         select audit_algolia.watch('log', columns => '{who,level,at}', pseudonymize => '{who}', filter => 'level > 0',
             time_column => 'at', object_prefix => 'log:', backfill => true);
         insert into log values (301, 'user-1', 1, 'geheim', timestamptz '2026-11-20 13:05:00.25+00')",
    )
    .unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 201);
    let mut old = object(&stage.standin, "log", "log:1");
    let live = object(&stage.standin, "log", "log:301");
    old["objectID"] = json!("log:301");
    assert_eq!(old, live, "history and live rows make the same record");
    assert_eq!(object(&stage.standin, "log", "log:3"), Value::Null, "the filter is against it");
    let (done, queued): (i64, i64) = {
        let row =
            db.query_one("select rows_done, rows_queued from audit_algolia.backfill_progress", &[]).unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((done, queued), (300, 200));
    let texts = format!("{:?}{}", stage.standin.index("log"), stage.cluster.log());
    for secret in ["geheim", "user-", PSEUDONYM_KEY] {
        assert!(!texts.contains(secret), "{secret}");
    }
}

#[test]
fn a_key_that_has_a_pseudonym_is_not_written_down_in_the_clear() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (who text primary key, n int);
         insert into log select 'user-' || n, n from generate_series(1, 5000) as n;
         select audit_algolia.watch('log', columns => '{n}', pseudonymize => '{who}');
         select audit_algolia.backfill('log', rows_per_second => 2000)",
    )
    .unwrap();
    audit_algolia_tests::wait::wait_until("some steps", LATER, || {
        let cursor: String = one(&mut db, "select coalesce(cursor::text, '') from audit_algolia.backfill");
        assert!(!cursor.contains("user-"), "{cursor}");
        done(&mut db) >= 1000
    });
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for(&mut db, "finished");
    assert_eq!(done(&mut db), 5000);
    stage.cluster.set(&[("audit_algolia.enabled", "on")]).unwrap();
    stage.wait_for_records("log", 5000);
    assert_eq!(sent(&stage.standin, "log").len(), 5000, "each once");
}

#[test]
fn in_a_history_of_changes_an_old_row_has_one_first_record_that_claims_nothing_unknown() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    fill(&mut db, 50);
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}', operations => '{insert,update,delete}', backfill => true);
         insert into log values (51, 'live')",
    )
    .unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 51);
    let expected = json!({"objectID": "7@0", "note": "note 7", "op": "insert"});
    assert_eq!(object(&stage.standin, "log", "7@0"), expected);
    let live = stage.standin.index("log");
    let live: Vec<&Value> =
        live.iter().filter(|(id, _)| id.starts_with("51@")).map(|(_, record)| record).collect();
    assert!(live[0]["changed_by"] == "postgres" && live.len() == 1);
    // However often a backfill is requested, there is one such record.
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_eq!(stage.standin.index("log").len(), 51);
}

#[test]
fn a_row_that_makes_no_record_stops_the_backfill_right_there_and_is_named_without_its_values() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note text);
         insert into log select n, case n when 700 then 'geheim' else n::text end from generate_series(1, 2000) as n;
         select audit_algolia.watch('log', columns => '{id}', filter => 'note::int > 0', backfill => true)",
    )
    .unwrap();
    wait_for(&mut db, "failed");
    let told = trouble(&mut db);
    let place: String = one(&mut db, "select ctid::text from log where id = 700");
    assert!(
        told.contains(&format!("the row at {place} of public.log cannot be queued: error 22P02")),
        "{told}"
    );
    assert!(told.contains(&format!("SELECT * FROM public.log WHERE ctid = '{place}'")), "{told}");
    assert!(!told.contains("geheim") && !stage.cluster.log().contains("geheim"));
    stage.wait_for_records("log", 1300);
    // The rows after it wait. After the repair, all go on.
    db.batch_execute("update log set note = '7' where id = 700").unwrap();
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", 1..=2000);
}

#[test]
fn a_row_without_a_key_is_told_of_at_the_end_unless_the_filter_is_against_it() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (a int unique, note text);
         insert into log select n, 'note' from generate_series(1, 1500) as n;
         insert into log values (null, 'without')",
    )
    .unwrap();
    db.batch_execute(
        "select audit_algolia.watch('log', columns => '{note}', object_id => '{a}', backfill => true)",
    )
    .unwrap();
    wait_for(&mut db, "failed");
    let told = trouble(&mut db);
    assert!(
        told.contains("null value in column \"a\" of table \"log\" cannot be part of an objectID"),
        "{told}"
    );
    stage.wait_for_records("log", 1500);
    db.batch_execute(
        "select audit_algolia.unwatch('log');
         select audit_algolia.watch('log', 'second', columns => '{note}', object_id => '{a}', filter => 'a is not null', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "second", 1..=1500);
}

#[test]
fn what_an_owner_has_run_on_the_way_has_the_owners_rights_and_cannot_take_others() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role keeper; create schema keeper authorization keeper;
         create table keeper.log (id bigint primary key, note text);
         insert into keeper.log select n, 'old' from generate_series(1, 100) as n;
         alter table keeper.log owner to keeper;
         create function keeper.checks(bigint) returns boolean language plpgsql stable as $$
             begin
                 begin
                     perform pg_catalog.set_config('role', 'postgres', false);
                     return false;
                 exception when insufficient_privilege then null;
                 end;
                 begin
                     perform pg_catalog.set_config('session_authorization', 'postgres', false);
                     return false;
                 exception when insufficient_privilege then null;
                 end;
                 return current_user = 'keeper' and not pg_catalog.has_schema_privilege('audit_algolia', 'usage');
             end $$;
         alter function keeper.checks(bigint) owner to keeper;
         select audit_algolia.watch('keeper.log', columns => '{note}', filter => 'keeper.checks(id)', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    assert_eq!(trouble(&mut db), "");
    assert_each_once(&stage.standin, "log", 1..=100);
}
