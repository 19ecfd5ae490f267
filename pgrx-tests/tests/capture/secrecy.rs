//! Values of columns that are not allowed, and originals of pseudonyms, never leave their table.

use std::fs;

use audit_algolia_tests::stage::PSEUDONYM_KEY;
use audit_algolia_tests::standin::ADMIN_KEY;

use crate::play::{failure, one, settle, watch};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

/// Occurs nowhere else.
const RAW: &str = "raw-value-7c1e9";

fn is_written_ahead(stage: &Stage, text: &str) -> bool {
    let segments = fs::read_dir(stage.cluster.data_dir().join("pg_wal")).unwrap().flatten();
    let mut contents = segments.filter_map(|segment| fs::read(segment.path()).ok());
    contents.any(|content| content.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[test]
fn raw_values_reach_neither_queue_nor_wire_nor_log_nor_the_write_ahead_log_of_the_queue() {
    let stage = Stage::builder()
        .setting("audit_algolia.enabled", "off")
        .setting("log_min_messages", "debug2")
        .setting("audit_algolia.compression", "off")
        .start()
        .unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create unlogged table t (id text primary key, who text, secret text, v text, words text[]);
             create unlogged table parted (id text primary key, who text, secret text) partition by list (id);
             create unlogged table one partition of parted default;
             create unlogged table origin (id text, who text, secret text, v text)",
        )
        .unwrap();
    watch(&mut admin, "t", "t", "columns => '{who, v, words}', pseudonymize => '{id, who, words}'");
    watch(&mut admin, "parted", "t", "columns => '{who}', pseudonymize => '{id, who}', object_prefix => 'p'");
    // Composed inside the server, so that statements in the log do not show it.
    let raw = format!("'{}' || '{}'", &RAW[..6], &RAW[6..]);
    admin
        .batch_execute(&format!(
            "insert into t values ({raw} || 1, {raw}, {raw}, 'shown', array[{raw}]);
             insert into t select {raw} || i, {raw} || i, {raw}, 'shown', array[{raw}] from generate_series(2, 500) as i;
             insert into parted values ({raw}, {raw}, {raw})"
        ))
        .unwrap();
    let queue: Vec<String> = admin
        .query("select record from audit_algolia.queue", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(queue.len(), 501);
    assert!(queue.iter().all(|record| !record.contains(RAW)));
    // The table is unlogged, so only the queue's changes are in the WAL.
    admin.batch_execute("checkpoint; select pg_switch_wal()").unwrap();
    assert!(is_written_ahead(&stage, "shown"));
    assert!(!is_written_ahead(&stage, RAW));
    // Errors of capture name columns, not values.
    admin.batch_execute("alter table t rename column v to w").unwrap();
    let error = failure(&mut admin, &format!("insert into t (id, who) values ({raw}, {raw})"));
    assert!(!format!("{error:?}").contains(RAW));
    stage.cluster.set(&[("audit_algolia.enabled", "on")]).unwrap();
    settle(&mut admin, "t");
    assert_eq!(stage.standin.index("t").len(), 501);
    for request in stage.standin.requests() {
        assert!(!request.body_text().contains(RAW));
        assert!(!request.path.contains(RAW));
    }
    let log = stage.cluster.log();
    for secret in [RAW, PSEUDONYM_KEY, ADMIN_KEY] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// PostgreSQL quotes a value that it cannot parse in the message, the detail, the hint or the context, and so may a
/// user's function.
#[test]
fn an_error_while_a_row_is_looked_at_is_told_without_its_values() {
    let stage = Stage::builder()
        .setting("log_error_verbosity", "verbose")
        .setting("log_min_messages", "debug1")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap();
    let mut db = stage.admin();
    let raw = format!("('{}' || '{}')", &RAW[..6], &RAW[6..]);
    db.batch_execute(
        "create function fits(text) returns boolean language plpgsql stable as $$ begin
             if $1 = 'well' then return true; end if;
             raise exception 'no %', $1 using detail = $1, hint = $1, errcode = 'invalid_text_representation';
         end $$;
         create domain short as text check (length(value) < 9 or fits(value))",
    )
    .unwrap();
    let filters = [
        ("casts", "secret::int > 0", "22P02"),
        ("texts", "secret::json ->> 0 is null", "22P02"),
        ("called", "fits(secret)", "22P02"),
        ("domains", "secret::short is not null", "22P02"),
        ("numbers", "(secret || '')::numeric(2, 1) > 0", "22P02"),
    ];
    let mut told = Vec::new();
    for (table, filter, code) in filters {
        db.batch_execute(&format!("create table {table} (id int primary key, v text, secret text)")).unwrap();
        let rules =
            format!("columns => '{{v}}', mode => 'mirror', filter => '{}'", filter.replace('\'', "''"));
        watch(&mut db, table, table, &rules);
        let error = failure(&mut db, &format!("insert into {table} values (1, 'a', {raw})"));
        let message =
            format!("the filter of watched table \"{table}\" failed: invalid text representation ({code})");
        assert_eq!((error.code().code(), error.message()), (code, message.as_str()));
        assert!(
            error.hint().is_some()
                && error.where_().is_some_and(|place| place.contains("audit_algolia filter"))
        );
        told.push(format!("{error:?}"));
        db.batch_execute(&format!(
            "alter table {table} disable trigger user; insert into {table} values (1, 'a', {raw}); alter table {table} enable trigger user"
        ))
        .unwrap();
        for call in ["preview", "reconcile"] {
            let error = failure(&mut db, &format!("select audit_algolia.{call}('{table}')"));
            assert_eq!((error.code().code(), error.message()), (code, message.as_str()), "{call}");
            told.push(format!("{error:?}"));
        }
        db.batch_execute(&format!("select audit_algolia.backfill('{table}')")).unwrap();
    }
    let failed = "select count(*) from audit_algolia.backfill_progress where state = 'failed'";
    wait_until("the end of all backfills", SOON, || one::<i64>(&mut db, failed) == filters.len() as i64);
    // A writer who should continue gets a warning. Otherwise the row could not be found again, and the statement fails
    // after all.
    stage.cluster.set(&[("audit_algolia.on_capture_error", "warn")]).unwrap();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == "warn"
    });
    db.batch_execute(&format!("update called set v = 'b'; insert into casts values (2, 'b', {raw})"))
        .unwrap();
    db.batch_execute("create table hidden (id text primary key, secret text)").unwrap();
    watch(&mut db, "hidden", "hidden", "columns => '{id}', pseudonymize => '{id}', filter => 'fits(id)'");
    let error = failure(&mut db, &format!("insert into hidden values ({raw}, 'a')"));
    assert_eq!(error.code().code(), "22P02", "{error:?}");
    told.push(format!("{error:?}"));
    let attempted = "select count(*) from audit_algolia.repair where attempts > 1";
    wait_until("attempts of repairs", SOON, || one::<i64>(&mut db, attempted) == 2);
    for kept in [
        "select string_agg(r::text, ' ') from audit_algolia.repair as r",
        "select string_agg(b::text, ' ') from audit_algolia.backfill_progress as b",
    ] {
        told.push(one(&mut db, kept));
    }
    told.push(stage.cluster.log());
    for text in told {
        assert!(!text.contains(RAW), "{}", text.lines().find(|line| line.contains(RAW)).unwrap_or_default());
    }
}

/// An output function may quote the value that it cannot show, as this one of PostgreSQL's does.
#[test]
fn an_error_of_an_output_function_is_told_without_the_value() {
    const VALUE: &str = "715517";
    let stage = Stage::builder()
        .setting("log_error_verbosity", "verbose")
        .setting("log_min_error_statement", "panic")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create type odd;
         create function odd_in(cstring) returns odd language internal strict immutable as 'int4in';
         create function odd_out(odd) returns cstring language internal strict immutable as 'enum_out';
         create type odd (input = odd_in, output = odd_out, internallength = 4, passedbyvalue, alignment = int4);
         create type pair as (a int, b odd)",
    )
    .unwrap();
    let quoted = failure(&mut db, &format!("select '{VALUE}'::odd"));
    assert!(quoted.message().contains(VALUE), "{quoted:?}");
    let mark = stage.cluster.log_mark();
    let mut told = Vec::new();
    let tables = [
        ("plain", "odd", format!("'{VALUE}'"), ""),
        ("listed", "odd[]", format!("array['{VALUE}'::odd]"), ""),
        ("composed", "pair", format!("row(1, '{VALUE}'::odd)"), ""),
        ("hidden", "odd", format!("'{VALUE}'"), "pseudonymize => '{v}', "),
    ];
    for (table, kind, value, rules) in &tables {
        db.batch_execute(&format!("create table {table} (id int primary key, v {kind})")).unwrap();
        watch(&mut db, table, table, &format!("columns => '{{v}}', {rules} mode => 'mirror'"));
        let error = failure(&mut db, &format!("insert into {table} values (1, {value})"));
        assert!(error.message().contains(&format!("\"{table}\"")), "{error:?}");
        told.push(format!("{error:?}"));
        db.batch_execute(&format!(
            "alter table {table} disable trigger user; insert into {table} values (1, {value}); alter table {table} enable trigger user"
        ))
        .unwrap();
        for call in ["preview", "reconcile"] {
            told.push(format!("{:?}", failure(&mut db, &format!("select audit_algolia.{call}('{table}')"))));
        }
        db.batch_execute(&format!("select audit_algolia.backfill('{table}')")).unwrap();
    }
    let failed = "select count(*) from audit_algolia.backfill_progress where state = 'failed'";
    wait_until("the end of all backfills", SOON, || one::<i64>(&mut db, failed) == tables.len() as i64);
    stage.cluster.set(&[("audit_algolia.on_capture_error", "warn")]).unwrap();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == "warn"
    });
    db.batch_execute("insert into plain values (2, '715517'), (3, '715517')").unwrap();
    let attempted = "select count(*) from audit_algolia.repair where attempts > 1";
    wait_until("attempts of repairs", SOON, || one::<i64>(&mut db, attempted) == 2);
    told.push(one(&mut db, "select string_agg(r::text, ' ') from audit_algolia.repair as r"));
    told.push(one(&mut db, "select string_agg(b::text, ' ') from audit_algolia.backfill_progress as b"));
    told.push(stage.cluster.log_since(mark));
    for text in told {
        assert!(!text.contains(VALUE), "{text}");
    }
}
