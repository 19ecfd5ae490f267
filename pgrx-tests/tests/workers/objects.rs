//! Watched tables, their owners and the extension itself are changed while everything runs.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

fn sources(db: &mut Client) -> Vec<String> {
    let rows = db.query("select source::text || ' ' || state from audit_algolia.sources order by id", &[]);
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_dropped_table_is_forgotten_and_its_queued_rows_arrive() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    for table in ["other", "third", "fourth"] {
        watch(&mut db, table);
    }
    db.batch_execute(
        "create schema s; create table s.fifth (id bigint primary key, note text);
         select audit_algolia.watch('s.fifth', columns => '{note}'); select audit_algolia.pause()",
    )
    .unwrap();
    for table in ["log", "other", "third", "fourth", "s.fifth"] {
        insert(&mut db, table, 1..=10);
    }
    db.batch_execute("drop table log; drop schema s cascade").unwrap();
    db.batch_execute("begin; drop table third; rollback").unwrap();
    db.batch_execute("create role leaving; alter table fourth owner to leaving; drop owned by leaving")
        .unwrap();
    assert_eq!(sources(&mut db), ["other watching", "third watching"]);
    db.batch_execute("select audit_algolia.resume()").unwrap();
    for index in ["log", "other", "third", "fourth", "fifth"] {
        stage.wait_for_records(index, 10);
        wait_until("an empty queue", SOON, || queue(&mut db, index).queued == 0);
    }
    // The name is free for another table, which can use the same index.
    watch(&mut db, "log");
    insert(&mut db, "log", 11..=20);
    stage.wait_for_records("log", 20);
    // Dropping other things is not affected.
    db.batch_execute("create temp table t (); drop table t; create view v as select 1; drop view v").unwrap();
    db.batch_execute("drop extension audit_algolia cascade; drop table log").unwrap();
}

#[test]
fn renamed_tables_schemas_and_types_stay_watched() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create schema s; create type s.kind as enum ('a', 'b');
         create table s.log (id bigint primary key, kind s.kind);
         select audit_algolia.watch('s.log', columns => '{kind}');
         insert into s.log values (1, 'a')",
    )
    .unwrap();
    db.batch_execute("alter table s.log rename to book; insert into s.book values (2, 'a')").unwrap();
    db.batch_execute("alter schema s rename to t; insert into t.book values (3, 'a')").unwrap();
    db.batch_execute("alter type t.kind rename to sort; alter type t.sort rename value 'a' to 'c'").unwrap();
    db.batch_execute("insert into t.book values (4, 'c'); alter table t.book set schema public").unwrap();
    db.batch_execute("insert into book values (5, 'b')").unwrap();
    stage.wait_for_records("log", 5);
    let kinds: Vec<String> = stage
        .standin
        .index("log")
        .values()
        .map(|record| record["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["a", "a", "a", "c", "b"]);
    assert_eq!(sources(&mut db), ["book watching"]);
}

#[test]
fn whoever_watched_or_owns_may_lose_rights_and_be_dropped() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role keeper superuser login; create role writer login;
         drop extension audit_algolia; set role keeper; create extension audit_algolia; reset role;
         create table log (id bigint primary key, note text); alter table log owner to writer;
         grant usage on schema audit_algolia to writer; grant execute on all functions in schema audit_algolia to writer;
         set role writer; select audit_algolia.watch('log', columns => '{note}'); insert into log values (1, 'a');
         reset role; alter role keeper nosuperuser",
    )
    .unwrap();
    stage.wait_for_records("log", 1);
    db.batch_execute("set role writer; insert into log values (2, 'b'); reset role").unwrap();
    stage.wait_for_records("log", 2);
    // Triggers are created with the rights of the user who calls watch(). Partitions of other owners get theirs from
    // the extension's owner.
    db.batch_execute(
        "set role writer; select audit_algolia.unwatch('log'); select audit_algolia.watch('log', columns => '{note}');
         reset role; create table parts (id int primary key) partition by list (id);
         create table part partition of parts default; alter table parts owner to writer",
    )
    .unwrap();
    let mirror = "set role writer; select audit_algolia.watch('parts', columns => '{id}', mode => 'mirror')";
    let error = db.batch_execute(mirror).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42501");
    assert!(error.message().starts_with("role keeper, which owns extension audit_algolia but is no longer a superuser, cannot change the triggers of table public.parts"), "{error}");
    assert!(
        error.hint().is_some_and(
            |hint| hint.contains("GRANT TRIGGER ON public.parts and on its partitions TO keeper")
        ),
        "{error:?}"
    );
    db.batch_execute("reset role; grant trigger on parts, part to keeper").unwrap();
    db.batch_execute(&format!("{mirror}; insert into parts values (1); reset role")).unwrap();
    stage.wait_for_records("parts", 1);
    db.batch_execute("select audit_algolia.unwatch('parts')").unwrap_err();
    db.batch_execute("alter role keeper superuser; select audit_algolia.unwatch('parts'); alter role keeper nosuperuser; drop table parts")
        .unwrap();
    db.batch_execute(
        "alter table log owner to postgres; drop owned by writer; drop role writer; insert into log values (3, 'c')",
    )
    .unwrap();
    stage.wait_for_records("log", 3);
    wait_for_empty_queue(&mut db);
}

/// Changes the version of the extension. Any change of an extension makes the workers look.
fn set_version(db: &mut Client, version: &str) {
    let set = "update pg_extension set extversion = $1 where extname = 'audit_algolia'";
    db.execute(set, &[&version]).unwrap();
    db.batch_execute(
        "alter extension audit_algolia add table log; alter extension audit_algolia drop table log",
    )
    .unwrap();
}

/// How often workers have logged that they leave the objects alone.
fn left_alone(stage: &Stage) -> usize {
    stage.cluster.log().matches("audit_algolia delivers nothing").count()
}

#[test]
fn objects_of_another_version_are_left_alone_until_they_are_updated() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
    wait_for_empty_queue(&mut db);
    let change = |db: &mut Client, version: &str| {
        set_version(db, version);
        for pid in workers(db, "postgres") {
            db.execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
        }
    };
    change(&mut db, "0.0.1");
    wait_until("a word in the log", SOON, || left_alone(&stage) >= 2);
    insert(&mut db, "log", 11..=20);
    assert!(stage.cluster.log().contains("the extension 0.0.1"));
    assert_eq!(stage.standin.index("log").len(), 10);
    assert!(left_alone(&stage) <= 4, "each worker tells it once");
    change(&mut db, env!("CARGO_PKG_VERSION"));
    stage.wait_for_records("log", 20);
    wait_for_empty_queue(&mut db);
}

#[test]
fn functions_refuse_to_use_objects_of_another_version_and_say_what_to_do() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    set_version(&mut db, "0.0.1");
    for call in [
        "watch('log', 'other', columns => '{note}')",
        "unwatch('log')",
        "preview('log')",
        "backfill('log')",
        "cancel_backfill('log')",
        "reconcile('log')",
        "activity('log', now())",
        "pause()",
        "resume()",
        "flush()",
        "redrive()",
        "discard()",
        "index_settings('log')",
        "configure_index('log')",
        "page_config()",
    ] {
        let error = db.batch_execute(&format!("select * from audit_algolia.{call}")).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "55000", "{call}: {error}");
        assert!(error.message().ends_with("the extension 0.0.1"), "{call}: {error}");
        assert!(error.hint().unwrap().contains("ALTER EXTENSION audit_algolia UPDATE"), "{call}: {error}");
    }
    insert(&mut db, "log", 1..=3);
    let Queue { state, last_error, queued, .. } = queue(&mut db, "log");
    assert_eq!((&*state, queued), ("no worker", 3));
    assert!(last_error.contains("the extension 0.0.1"), "{last_error}");
    db.batch_execute(
        "select audit_algolia.worker_stats(), audit_algolia.metrics(), audit_algolia.pseudonym('x')",
    )
    .unwrap();
    set_version(&mut db, env!("CARGO_PKG_VERSION"));
    stage.wait_for_records("log", 3);
    wait_for_state(&mut db, "log", "idle");
    db.batch_execute("select audit_algolia.pause()").unwrap();
}

#[test]
fn rows_that_come_back_while_the_objects_are_of_another_version_stay_in_the_queue() {
    let stage = Stage::builder().setting("audit_algolia.max_record_bytes", "1000B").start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    stage.standin.inject(FaultRule::new(Fault::StallBody, Times::Once));
    // The last one is too large to be sent, and becomes a dead letter when the workers continue.
    db.batch_execute(
        "insert into log select n, repeat('x', case n when 11 then 2000 else 10 end) from generate_series(1, 11) as n",
    )
    .unwrap();
    wait_until("a request", SOON, || stage.standin.in_hang() == 1);
    set_version(&mut db, "0.0.1");
    wait_until("a word in the log", SOON, || left_alone(&stage) >= 2);
    stage.standin.clear_faults();
    wait_until("the answer", SOON, || queue(&mut db, "log").in_flight == 0);
    let Queue { queued, delivered_total, dead, .. } = queue(&mut db, "log");
    assert_eq!((queued, delivered_total, dead), (11, 0, 0));
    assert!(!stage.cluster.log().contains("has given up"));
    set_version(&mut db, env!("CARGO_PKG_VERSION"));
    wait_for_empty_queue(&mut db);
    let Queue { delivered_total, dead, .. } = queue(&mut db, "log");
    assert_eq!((delivered_total, dead), (10, 1));
}

#[test]
fn settings_that_come_back_while_the_objects_are_of_another_version_stay_wanted() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_state(&mut db, "log", "idle");
    stage.standin.inject(FaultRule::new(Fault::StallBody, Times::Once).settings());
    db.batch_execute("select audit_algolia.configure_index('log')").unwrap();
    wait_until("a request", SOON, || stage.standin.in_hang() == 1);
    set_version(&mut db, "0.0.1");
    wait_until("a word in the log", SOON, || left_alone(&stage) >= 2);
    stage.standin.clear_faults();
    let busy = "select count(*) from pg_stat_activity
                where backend_type = 'audit_algolia worker' and query = 'sending index settings'";
    wait_until("the answer", SOON, || one::<i64>(&mut db, busy) == 0);
    let wanted = "select count(*) from audit_algolia.configuration";
    assert_eq!(one::<i64>(&mut db, wanted), 1);
    set_version(&mut db, env!("CARGO_PKG_VERSION"));
    wait_until("their settlement", SOON, || one::<i64>(&mut db, wanted) == 0);
}
