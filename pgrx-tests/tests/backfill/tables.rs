//! Backfills of all kinds of tables: with partitions, with inheritance, with keys of several columns and of any type,
//! without an index.

use audit_algolia_tests::stage::{leave_out, Stage};

use crate::support::*;

#[test]
fn partitions_of_different_shapes_are_read_together_in_order() {
    let stage = in_order().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (gone int, id bigint, day date, note text, primary key (id, day)) partition by range (day);
         alter table log drop column gone;
         create table log_1 partition of log for values from ('2026-01-01') to ('2026-02-01');
         create table log_2 (note text, extra int, day date not null, id bigint not null);
         alter table log_2 drop column extra;
         alter table log attach partition log_2 for values from ('2026-02-01') to ('2026-03-01');
         insert into log select n, date '2026-01-01' + n % 59, 'note ' || n from generate_series(1, 3000) as n;
         select audit_algolia.watch('log', columns => '{note}', object_id => '{id}', backfill => true)",
    )
    .unwrap();
    // A partition that is created meanwhile has only live rows.
    db.batch_execute(
        "create table log_3 partition of log for values from ('2026-03-01') to ('2026-04-01');
         insert into log select n, '2026-03-05', 'live' from generate_series(3001, 3100) as n",
    )
    .unwrap();
    wait_for_end(&mut db);
    stage.wait_for_records("log", 3100);
    assert_each_once(&stage.standin, "log", 1..=3100);
    assert_eq!(stage.standin.index("log")["59"]["note"], "note 59");
    // With the whole key there is an index that can be used.
    db.batch_execute(
        "select audit_algolia.unwatch('log');
         select audit_algolia.watch('log', 'second', columns => '{id}', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    let order: Vec<i64> = stage
        .standin
        .arrivals()
        .iter()
        .filter(|arrival| arrival.index == "second")
        .map(|arrival| arrival.object_id.split(':').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(order.len(), 3100);
    assert_eq!(order.iter().max(), order[..1000].iter().max(), "newest first");
    assert_eq!(order.iter().min(), order[2000..].iter().min(), "oldest last");
}

#[test]
fn only_a_tables_own_rows_are_read_and_not_those_of_its_children() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, note text);
         create table child (primary key (id)) inherits (log);
         insert into log select n, 'own' from generate_series(1, 100) as n;
         insert into child select n, 'child''s' from generate_series(101, 200) as n;
         select audit_algolia.watch('log', columns => '{note}', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", 1..=100);
}

#[test]
fn keys_of_any_type_and_of_several_columns_are_walked_without_a_gap() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute("create extension citext; create type mood as enum ('sad', 'ok', 'happy')").unwrap();
    let tables = [
        (
            "texts",
            "k text collate \"C\" primary key",
            "repeat(chr(97 + n % 26), 3) || n || ' \\ '' \" , { é'",
        ),
        ("plain", "k text primary key", "chr(97 + n % 26) || chr(65 + n % 25) || n"),
        ("citexts", "k citext primary key", "chr(case when n % 2 = 0 then 65 else 97 end + n % 26) || n"),
        ("padded", "k char(12) primary key", "n::text"),
        ("names", "k name primary key", "'name ' || n"),
        ("numbers", "k numeric primary key", "n / 7.0"),
        ("floats", "k double precision primary key", "n / 7.0"),
        ("moments", "k timestamptz primary key", "timestamptz '2026-01-01' + n * interval '1.000001 s'"),
        ("ids", "k uuid primary key", "md5(n::text)::uuid"),
        ("bytes", "k bytea primary key", "decode(md5(n::text), 'hex')"),
        ("bits", "k bit varying primary key", "n::bit(13)::bit varying"),
        ("arrays", "k int[] primary key", "array[n % 7, n]"),
        ("addresses", "k inet primary key", "'10.0.0.0'::inet + n"),
        ("pairs", "j int, k text, primary key (j, k)", "n % 3, 'k' || n"),
        (
            "mixed",
            "j mood, k citext, l int, primary key (j, k, l)",
            "('{sad,ok,happy}'::mood[])[1 + n % 3], 'K' || n % 5, n",
        ),
        ("swapped", "j int, k int, primary key (k, j)", "n, n % 4"),
    ];
    for (table, columns, values) in tables {
        db.batch_execute(&format!(
            "create table {table} ({columns}, note int);
             insert into {table} select {values}, n from generate_series(1, 2500) as n;
             select audit_algolia.watch('{table}', columns => '{{note}}', backfill => true)"
        ))
        .unwrap();
    }
    let unfinished =
        "select coalesce(string_agg(source || ': ' || state || coalesce(' ' || last_error, ''), '; '), '')
        from audit_algolia.backfill_progress where state <> 'finished'";
    audit_algolia_tests::wait::wait_until("all to end or fail", LATER, || {
        let count =
            "select count(*) from audit_algolia.backfill_progress where state not in ('finished', 'failed')";
        one::<i64>(&mut db, count) == 0
    });
    assert_eq!(one::<String>(&mut db, unfinished), "");
    assert!(one::<bool>(&mut db, "select audit_algolia.flush('60 s')"));
    for (table, _, _) in tables {
        let sent = sent(&stage.standin, table);
        let index = stage.standin.index(table);
        assert_eq!((index.len(), sent.len()), (2500, 2500), "{table}");
        let notes: std::collections::BTreeSet<i64> =
            index.values().map(|record| record["note"].as_i64().unwrap()).collect();
        assert_eq!(notes.len(), 2500, "{table}");
    }
}

#[test]
fn without_a_fitting_index_a_table_is_read_from_its_end() {
    let stage = in_order().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint not null, note text);
         insert into log select n, repeat('x', 200) from generate_series(1, 10000) as n;
         select audit_algolia.watch('log', columns => '{note}', object_id => '{id}', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    let order: Vec<i64> =
        stage.standin.batches("log").into_iter().flat_map(|b| b.into_iter().rev()).collect();
    assert_eq!(order, (1..=10_000).rev().collect::<Vec<_>>());
}

#[test]
fn rows_that_an_update_moves_past_the_walk_are_found_at_last() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id uuid primary key default gen_random_uuid(), n int, at timestamptz);
         create index on log (at);
         insert into log (n, at) select n, timestamptz '2026-01-01' + make_interval(secs => n) from generate_series(1, 3000) as n;
         select audit_algolia.watch('log', columns => '{n,at}', time_column => 'at');
         select audit_algolia.backfill('log', rows_per_second => 1000)",
    )
    .unwrap();
    audit_algolia_tests::wait::wait_until("a part", LATER, || done(&mut db) >= 500);
    // The oldest rows become the newest, which the backfill has passed already.
    db.batch_execute("update log set at = at + interval '1 year' where n <= 200").unwrap();
    assert_ne!(state(&mut db), "finished");
    db.batch_execute("select audit_algolia.backfill('log')").unwrap();
    wait_for_end(&mut db);
    assert_eq!(stage.standin.index("log").len(), 3000);
    assert_eq!(sent(&stage.standin, "log").len(), 3000, "each once");
}

#[test]
fn rows_hidden_from_the_owner_fail_the_backfill_rather_than_be_left_out() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role keeper;
         create table log (id bigint primary key, note text);
         insert into log select n, 'note' from generate_series(1, 100) as n;
         alter table log owner to keeper;
         alter table log enable row level security;
         create policy half on log using (id <= 50);
         alter table log force row level security;
         select audit_algolia.watch('log', columns => '{note}', backfill => true)",
    )
    .unwrap();
    wait_for(&mut db, "failed");
    let told = trouble(&mut db);
    assert!(told.contains("row-level security policy"), "{told}");
    db.batch_execute("alter table log no force row level security; select audit_algolia.backfill('log')")
        .unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", 1..=100);
}

#[test]
fn an_index_that_tells_more_apart_than_the_key_is_not_walked_by() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    if !one::<bool>(&mut db, "select exists (select from pg_collation where collname = 'und-x-icu')") {
        leave_out(
            "this PostgreSQL is built without ICU, and has no collation in which different texts are equal",
        );
        return;
    }
    db.batch_execute(
        "create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table log (k text collate caseless not null, n int);
         create unique index on log (k collate \"C\");
         insert into log select case when n % 2 = 0 then 'key ' else 'KEY ' end || n / 2, n from generate_series(2, 4001) as n;
         select audit_algolia.watch('log', columns => '{n}', object_id => '{k}', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    assert_eq!(stage.standin.index("log").len(), 4000);
    assert_eq!(sent(&stage.standin, "log").len(), 4000, "each once");
}

#[test]
fn keys_in_another_encoding_are_no_hindrance() {
    let stage = Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create database latin encoding 'LATIN1' locale 'C' template template0").unwrap();
    let mut db = stage.cluster.client("latin", "postgres");
    db.batch_execute(
        "create extension audit_algolia;
         create table log (k text primary key, n int);
         insert into log select 'clé ' || n, n from generate_series(1, 2500) as n;
         select audit_algolia.watch('log', columns => '{n}', backfill => true)",
    )
    .unwrap();
    wait_for_end(&mut db);
    assert_each_once(&stage.standin, "log", (1..=2500).map(|n| format!("clé {n}")));
}
