//! Tables of which only inserts are watched.

use audit_algolia_tests::stage::{one, Stage};
use audit_algolia_tests::standin::{Fault, FaultRule, Times};
use postgres::Client;
use serde_json::json;

use crate::support::{lose, reconcile, wait_for_empty_queue, well, write, Found};

/// A stage with a watched log.
fn stage() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id bigint primary key, at timestamptz not null default now(), who text, note text);
         select audit_algolia.watch('log', columns => '{at, who, note}', time_column => 'at')",
    )
    .unwrap();
    (stage, db)
}

fn insert(db: &mut Client, from: i64, to: i64) {
    let query = "insert into log select n, '2026-01-01'::timestamptz + n * interval '1 minute', 'u' || n % 7, 'note ' || n
                 from generate_series($1::bigint, $2) as n";
    db.execute(query, &[&from, &to]).unwrap();
}

#[test]
fn one_percent_of_the_records_lost_is_found_and_repaired() {
    let (stage, mut db) = stage();
    let is_lost = |id: &str| id.parse::<i64>().is_ok_and(|id| id % 100 == 7);
    stage.standin.inject(FaultRule::new(Fault::lose(is_lost), Times::Always).writes());
    insert(&mut db, 1, 20_000);
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("log").len(), 19_800);

    let found = Found { checked: 20_000, missing: 200, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'log'"), found);
    assert_eq!(reconcile(&mut db, "'log'"), found, "a look changes nothing");
    stage.standin.clear_faults();
    assert_eq!(reconcile(&mut db, "'log', repair => true"), Found { repaired: 200, ..found });
    stage.wait_for_records("log", 20_000);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'log', repair => true"), well(20_000));
    assert_eq!(stage.standin.index("log")["107"]["note"], json!("note 107"));
}

#[test]
fn other_content_is_found_and_repaired() {
    let (stage, mut db) = stage();
    insert(&mut db, 1, 50);
    wait_for_empty_queue(&mut db);
    let before = stage.standin.index("log");
    let mut longer = before["3"].clone();
    longer["more"] = json!(1);
    write(&stage, "log", "addObject", &[json!({"objectID": "2", "note": "note 2"}), longer]);
    write(&stage, "log", "partialUpdateObject", &[json!({"objectID": "4", "who": "u0"})]);
    let found = Found { checked: 50, different: 3, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'log'"), found);
    assert_eq!(reconcile(&mut db, "'log', repair => true"), Found { repaired: 3, ..found });
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("log"), before);
    assert_eq!(reconcile(&mut db, "'log'"), well(50));
}

#[test]
fn records_are_compared_by_what_they_mean() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        r#"create table odd (id text, n numeric, f float8, r float4, j json, b jsonb, l int[], y bytea, t timestamptz,
                             big bigint, e text, primary key (id));
           select audit_algolia.watch('odd', columns => '{n, f, r, j, b, l, y, t, big, e}');
           insert into odd values
             ('plain', 1.10, 0.1, 0.1, '{"b": 1.0, "a": [1, {"z": null}]}', '{"x": 1.50, "w": 0.30000000000000004}',
              '{1, null, 3}', '\x0001', '2026-01-02 03:04:05.678901', 9007199254740993, E'line\nü\u2028😀'),
             ('far', 1e300, 1e-300, '-0', '1e2', '-0.0', '{}', '', 'infinity', -1, ''),
             ('none', null, 'NaN', 'Infinity', 'null', 'null', null, null, null, null, null),
             (E'a"b\\c:d/é', 12345678901234567890.123456789, 5e-324, 3.4e38, '[[[]]]', '{"": ""}', '{{1},{2}}', null, null, 0, '0')"#,
    )
    .unwrap();
    stage.wait_for_records("odd", 4);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'odd'"), well(4));
    lose(&stage, "odd", &["a\"b\\\\c\\:d/é"]);
    let found = Found { checked: 4, missing: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'odd', repair => true"), found);
    stage.wait_for_records("odd", 4);
}

#[test]
fn a_window_of_time_is_compared_by_itself() {
    let (stage, mut db) = stage();
    insert(&mut db, 0, 59);
    wait_for_empty_queue(&mut db);
    lose(&stage, "log", &["9", "10", "29", "30", "59"]);
    let found = |checked, missing| Found { checked, missing, ..Found::default() };
    let mut window = |arguments: &str| reconcile(&mut db, &format!("'log', {arguments}"));
    assert_eq!(window("since => '2026-01-01 00:10'"), found(50, 4));
    assert_eq!(window("until => '2026-01-01 00:10'"), found(10, 1));
    assert_eq!(window("since => '2026-01-01 00:10', until => '2026-01-01 00:30'"), found(20, 2));
    assert_eq!(window("since => '2026-01-01 00:10', until => '2026-01-01 00:10'"), found(0, 0));
    assert_eq!(window("since => '-infinity', until => 'infinity'"), found(60, 5));
    assert_eq!(window("since => null, until => null, repair => null"), found(60, 5));
}

#[test]
fn rows_that_the_filter_keeps_out_are_not_missed() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id int primary key, level int, note text);
         select audit_algolia.watch('log', columns => '{note}', filter => 'level > 1');
         insert into log select n, n % 4, 'x' from generate_series(1, 40) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 20);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'log'"), well(20));
    lose(&stage, "log", &["2", "3"]);
    assert_eq!(reconcile(&mut db, "'log'").missing, 2);
}

#[test]
fn pseudonyms_are_compared_as_such() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (who text, nth int, note text, primary key (who, nth));
         select audit_algolia.watch('log', columns => '{who, note}', pseudonymize => '{who, note}');
         insert into log select 'user:' || n, n, 'secret' from generate_series(1, 20) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 20);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'log'"), well(20));
    let id = stage.standin.index("log").into_keys().next().unwrap();
    lose(&stage, "log", &[&id]);
    let found = Found { checked: 20, missing: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'log', repair => true"), found);
    stage.wait_for_records("log", 20);
}

#[test]
fn a_record_outlives_its_row() {
    let (stage, mut db) = stage();
    insert(&mut db, 1, 10);
    wait_for_empty_queue(&mut db);
    db.batch_execute("delete from log where id <= 5").unwrap();
    assert_eq!(reconcile(&mut db, "'log', repair => true"), well(5));
    assert_eq!(stage.standin.index("log").len(), 10);
    assert!(!stage.standin.requests().iter().any(|request| request.path.ends_with("/browse")));
}

#[test]
fn partitions_and_all_indices_of_a_table_are_compared() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id int primary key, note text) partition by range (id);
         create table log_1 partition of log for values from (0) to (10);
         create table log_2 partition of log for values from (10) to (20);
         select audit_algolia.watch('log', 'one', columns => '{note}');
         select audit_algolia.watch('log', 'two', columns => '{note}');
         insert into log select n, 'x' from generate_series(0, 19) as n",
    )
    .unwrap();
    stage.wait_for_records("one", 20);
    stage.wait_for_records("two", 20);
    wait_for_empty_queue(&mut db);
    lose(&stage, "one", &["3", "13"]);
    lose(&stage, "two", &["13"]);
    let found = Found { checked: 40, missing: 3, repaired: 3, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'log', repair => true"), found);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'log'"), well(40));
}

#[test]
fn large_records_are_compared_in_bounded_requests() {
    let stage = Stage::builder().setting("audit_algolia.batch_bytes", "2MB").start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id int primary key, note text);
         select audit_algolia.watch('log', columns => '{note}');
         insert into log select n, repeat(md5(n::text), 2800) from generate_series(1, 200) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 200);
    wait_for_empty_queue(&mut db);
    lose(&stage, "log", &["17"]);
    // The rows are small, but their records in the index are large: more than one answer can hold.
    write(&stage, "log", "addObject", &[json!({"objectID": "18", "note": "small"})]);
    db.batch_execute("alter table log disable trigger all; update log set note = 'small' where id > 20")
        .unwrap();
    let found = Found { checked: 200, missing: 1, different: 181, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'log'"), found);
}

#[test]
fn ids_longer_than_a_question_may_be_are_asked_for_in_parts() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id text, note text);
         select audit_algolia.watch('log', columns => '{note}', object_id => '{id}');
         insert into log select n || repeat('é', 20000), 'x' from generate_series(1, 12) as n",
    )
    .unwrap();
    stage.wait_for_records("log", 12);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'log'"), well(12));
}

#[test]
fn a_backlog_is_read_once_however_many_of_its_rows_are_in_doubt() {
    let (stage, mut db) = stage();
    insert(&mut db, 1, 10);
    wait_for_empty_queue(&mut db);
    lose(&stage, "log", &["5"]);
    db.batch_execute("select audit_algolia.pause()").unwrap();
    insert(&mut db, 11, 12_000);
    // A session that has not read the queue yet.
    let mut db = stage.admin();
    db.batch_execute("begin").unwrap();
    assert_eq!(reconcile(&mut db, "'log'"), Found { checked: 12_000, missing: 1, ..Found::default() });
    let scans: i64 = one(
        &mut db,
        "select coalesce(seq_scan, 0) + coalesce(idx_scan, 0) from pg_stat_xact_all_tables
         where relid = 'audit_algolia.queue'::regclass",
    );
    assert_eq!(scans, 1);
    db.batch_execute("commit").unwrap();
}
