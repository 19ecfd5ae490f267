//! Where there is no memory for a record, its statement fails, or its change is noted to be repaired; the server goes on.

use audit_algolia_tests::server::LogMark;
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::error::{DbError, SqlState};
use postgres::Client;

use crate::play::one;

const ADDRESS_SPACE: u64 = 480 << 20;

fn narrow() -> Stage {
    Stage::builder()
        .setting("audit_algolia.workers", 0)
        .setting("shared_buffers", "16MB")
        .address_space(ADDRESS_SPACE)
        .start()
        .unwrap()
}

/// When the server was started last, by itself or after a process has died.
fn is_whole(stage: &Stage, mark: LogMark) {
    let log = stage.cluster.log_since(mark);
    assert!(!log.contains("terminated by signal"), "{log}");
}

fn failure_of(db: &mut Client, sql: &str) -> Option<DbError> {
    db.batch_execute(sql)
        .err()
        .map(|error| error.as_db_error().cloned().unwrap_or_else(|| panic!("{sql}: {error}")))
}

/// Values that there is memory for, but hardly for their records, too: each is inserted unwatched first.
const VALUES: [(&str, &str); 5] = [
    ("text", "repeat('x', 48000000)"),
    // Each byte of it is escaped by six.
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
    // In base64 it is longer than any text of PostgreSQL's.
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
