//! If there is no memory for a record, its statement fails, or its change is stored for a repair. The server goes on.

use std::time::Duration;

use audit_algolia_tests::server::LogMark;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::error::{DbError, SqlState};
use postgres::Client;

use crate::play::one;

const ADDRESS_SPACE: u64 = 480 << 20;
/// Reading a large row many times takes time.
const LONG: Duration = Duration::from_secs(120);

fn narrow() -> Stage {
    Stage::builder()
        .setting("audit_algolia.workers", 0)
        .setting("shared_buffers", "16MB")
        .address_space(ADDRESS_SPACE)
        .start()
        .unwrap()
}

/// Asserts that no process of the server has crashed since.
fn is_whole(stage: &Stage, mark: LogMark) {
    let log = stage.cluster.log_since(mark);
    assert!(!log.contains("terminated by signal"), "{log}");
}

fn failure_of(db: &mut Client, sql: &str) -> Option<DbError> {
    db.batch_execute(sql)
        .err()
        .map(|error| error.as_db_error().cloned().unwrap_or_else(|| panic!("{sql}: {error}")))
}

/// Values that fit into memory, but whose records may not. Each is first inserted into a table that is not watched.
const VALUES: [(&str, &str); 5] = [
    ("text", "repeat('x', 48000000)"),
    // Each byte is escaped with six characters.
    ("text", "repeat(chr(1), 9000000)"),
    ("bytea", "decode(repeat('00', 40000000), 'hex')"),
    ("jsonb", "to_jsonb(repeat('x', 20000000))"),
    ("int[]", "array_fill(7, array[1000000])"),
];

#[test]
fn a_value_that_there_is_no_memory_for_fails_its_statement_alone() {
    let stage = narrow();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    for (nth, (kind, value)) in VALUES.into_iter().enumerate() {
        db.batch_execute(&format!(
            "create table t{nth} (id int primary key, v {kind}); insert into t{nth} select 1, {value};
             create table m{nth} (like t{nth} including all); truncate t{nth};
             select audit_algolia.watch('t{nth}', columns => '{{v}}', operations => '{{insert,update}}');
             select audit_algolia.watch('m{nth}', columns => '{{v}}', mode => 'mirror')"
        ))
        .unwrap();
        for table in ["t", "m"] {
            let insert = format!("insert into {table}{nth} select 1, {value}");
            let failure = failure_of(&mut db, &insert);
            if let Some(error) = failure {
                let clean = [SqlState::OUT_OF_MEMORY, SqlState::PROGRAM_LIMIT_EXCEEDED];
                assert!(clean.contains(error.code()), "{kind}: {error:?}");
                let told = format!("{} {}", error.message(), error.where_().unwrap_or_default());
                assert!(told.contains(&format!("\"{table}{nth}\"")), "{kind}: {error:?}");
            }
            db.batch_execute(&format!("insert into {table}{nth} values (2, null)")).unwrap();
            fails_cleanly(&mut db, &format!("update {table}{nth} set v = {value} where id = 2"));
            fails_cleanly(&mut db, &format!("update {table}{nth} set v = null where id = 2"));
        }
    }
    is_whole(&stage, mark);
}

#[test]
fn a_record_that_no_text_can_hold_fails_its_statement_alone() {
    let stage = Stage::builder().setting("audit_algolia.workers", 0).start().unwrap();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    db.batch_execute(
        "create table t (id int primary key, v bytea); select audit_algolia.watch('t', columns => '{v}')",
    )
    .unwrap();
    // In base64 it is longer than any text in PostgreSQL can be.
    let insert = "insert into t select 1, b || b || b || b from (select decode(repeat('00', 203000000), 'hex') as b) as q";
    let error = failure_of(&mut db, insert).unwrap();
    assert_eq!(error.code(), &SqlState::PROGRAM_LIMIT_EXCEEDED, "{error:?}");
    assert!(error.message().contains("\"t\""), "{error:?}");
    stage.cluster.set(&[("audit_algolia.on_capture_error", "warn")]).unwrap();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == "warn"
    });
    db.batch_execute(insert).unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.repair"), 1);
    is_whole(&stage, mark);
}

#[test]
fn want_of_memory_is_as_any_error_of_a_row_to_a_writer_that_is_warned() {
    let stage = narrow();
    stage.cluster.set(&[("audit_algolia.on_capture_error", "warn")]).unwrap();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == "warn"
    });
    db.batch_execute(
        "create table t (id int primary key, v text);
         select audit_algolia.watch('t', columns => '{v}')",
    )
    .unwrap();
    db.batch_execute(
        "insert into t select i, case i when 2 then repeat(chr(1), 20000000) else 'x' end
                      from generate_series(1, 5) as i",
    )
    .unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from t"), 5);
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), 4);
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.repair"), 1);
    is_whole(&stage, mark);
}

/// Whether a statement fails with out of memory, and not otherwise; the server goes on.
#[track_caller]
fn fails_cleanly(db: &mut Client, sql: &str) -> bool {
    let Some(error) = failure_of(db, sql) else { return false };
    let clean = [SqlState::OUT_OF_MEMORY, SqlState::PROGRAM_LIMIT_EXCEEDED];
    assert!(clean.contains(error.code()), "{sql}: {error:?}");
    true
}

#[test]
fn functions_that_read_rows_fail_alone_where_there_is_no_memory_for_a_record() {
    let stage = narrow();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    for mode in ["append", "mirror"] {
        db.batch_execute(&format!(
            "create table {mode} (id int primary key, v text);
             select audit_algolia.watch('{mode}', columns => '{{v}}', mode => '{mode}');
             alter table {mode} disable trigger user;
             insert into {mode} select i, case i when 2 then repeat(chr(1), 30000000) end from generate_series(1, 3) as i"
        ))
        .unwrap();
        for call in ["preview('TABLE')", "reconcile('TABLE')", "reconcile('TABLE', repair => true)"] {
            let call = format!("select audit_algolia.{}", call.replace("TABLE", mode));
            assert!(fails_cleanly(&mut db, &call), "{call}");
        }
        db.batch_execute(&format!("update {mode} set v = null; select audit_algolia.preview('{mode}')"))
            .unwrap();
    }
    is_whole(&stage, mark);
}

/// The array alone takes half of the memory there is.
#[test]
fn many_ids_of_dead_letters_are_passed_on_without_a_copy() {
    let stage = narrow();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    for function in ["redrive", "discard"] {
        let call = format!("select audit_algolia.{function}(ids => array_fill(7::bigint, array[30000000]))");
        if !fails_cleanly(&mut db, &call) {
            assert_eq!(one::<i64>(&mut db, &call), 0);
        }
    }
    is_whole(&stage, mark);
}

/// Nobody needs an argument this long, and a copy of it could end the server.
#[test]
fn arguments_of_many_megabytes_are_refused() {
    let stage = narrow();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    db.batch_execute(
        "create table t (id int primary key, v text, at timestamptz);
         select audit_algolia.watch('t', columns => '{v, at}', time_column => 'at')",
    )
    .unwrap();
    const TEXT: &str = "repeat('x', 60000000)";
    for call in [
        "secured_key('parent', repeat('&', 40000000))",
        "secured_key(TEXT, '')",
        "secured_key('parent', '', null, array[TEXT, TEXT])",
        "secured_key('parent', '', null, array_fill(null::text, array[10000000]))",
        "pause(TEXT)",
        "resume(TEXT)",
        "redrive(TEXT)",
        "discard(TEXT)",
        "index_settings(TEXT)",
        "configure_index(TEXT)",
        "page_config(array[TEXT])",
        "watch('t', TEXT, columns => '{v}')",
        "watch('t', 'u', columns => array['v', TEXT])",
        "watch('t', 'u', columns => '{v}', filter => TEXT)",
        "watch('t', 'u', columns => '{v}', object_prefix => TEXT)",
        "unwatch('t', TEXT)",
        "activity('t', now(), '1 h', TEXT)",
        "activity('t', now(), '1 h', 'v', TEXT)",
    ] {
        let error =
            failure_of(&mut db, &format!("select audit_algolia.{}", call.replace("TEXT", TEXT))).unwrap();
        assert_eq!(error.code(), &SqlState::PROGRAM_LIMIT_EXCEEDED, "{call}: {error:?}");
        assert!(error.message().len() < 200 && error.hint().is_some(), "{call}: {error:?}");
    }
    // Its input has a limited length.
    db.batch_execute(&format!("select audit_algolia.pseudonym({TEXT})")).unwrap();
    is_whole(&stage, mark);
}

/// PostgreSQL's own error quotes the whole value.
#[test]
fn an_error_that_quotes_a_large_value_fails_its_statement_alone() {
    let stage = narrow();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    db.batch_execute(
        "create table t (id int primary key, v text);
         select audit_algolia.watch('t', columns => '{id}', filter => 'v::int > 0')",
    )
    .unwrap();
    for megabytes in [10, 20, 30, 40, 50, 60, 70, 80] {
        let error = failure_of(&mut db, &format!("insert into t values (1, repeat('x', {megabytes} << 20))"))
            .unwrap();
        let clean = [SqlState::OUT_OF_MEMORY, SqlState::INVALID_TEXT_REPRESENTATION];
        assert!(clean.contains(error.code()), "{megabytes}: {error:?}");
    }
    is_whole(&stage, mark);
}

#[test]
fn a_row_that_there_is_no_memory_for_ends_neither_its_repair_nor_the_server() {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.enabled", "off")
        .setting("audit_algolia.on_capture_error", "warn")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .setting("shared_buffers", "16MB")
        .address_space(ADDRESS_SPACE)
        .start()
        .unwrap();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    for mode in ["append", "mirror"] {
        db.batch_execute(&format!(
            "create table {mode} (id int primary key, v text);
             select audit_algolia.watch('{mode}', columns => '{{v}}', mode => '{mode}');
             insert into {mode} select i, case i when 2 then repeat(chr(1), 30000000) end from generate_series(1, 3) as i"
        ))
        .unwrap();
        let noted = "select coalesce(sum(attempts), 0) from audit_algolia.repair";
        wait_until("attempts", LONG, || one::<i64>(&mut db, noted) > 1);
        db.batch_execute(&format!("update {mode} set v = null where id = 2")).unwrap();
        let left = "select count(*) from audit_algolia.repair";
        wait_until("the repair", LONG, || one::<i64>(&mut db, left) == 0);
    }
    is_whole(&stage, mark);
}

#[test]
fn rows_that_leave_with_their_partition_take_no_memory_for_what_is_not_sent() {
    let stage = narrow();
    let mut db = stage.admin();
    let mark = stage.cluster.log_mark();
    db.batch_execute(
        "create table t (id int primary key, v text) partition by range (id);
         create table a partition of t for values from (0) to (10);
         create table b partition of t for values from (10) to (20);
         insert into t select i, repeat('x', 60000000) from generate_series(8, 11) as i;
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror')",
    )
    .unwrap();
    db.batch_execute("alter table t detach partition a; truncate b; drop table b").unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), 4);
    is_whole(&stage, mark);
}
