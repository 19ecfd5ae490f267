//! The memory of a writer is bounded by bytes, even if rows are large and many.

use std::sync::{Mutex, OnceLock};

use audit_algolia_tests::memory::{peak_meanwhile, peak_of_session};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::play::one;

const ROW: u64 = 8 << 20;
const ROWS: u64 = 16;
/// Four times `batch_bytes`, and two rows.
const MOST: u64 = 4 * (8 << 20) + 2 * ROW;
/// An expression for a text as long as a row, which differs with `i`.
const TEXT: &str = "repeat(md5(i::text), 262144)";

/// One server for all of these tests, one test at a time. Nothing is delivered, and shared memory is too small to
/// matter.
fn stage() -> (&'static Stage, std::sync::MutexGuard<'static, ()>) {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let stage = STAGE.get_or_init(|| {
        Stage::builder()
            .setting("audit_algolia.enabled", "off")
            .setting("audit_algolia.on_capture_error", "warn")
            .setting("audit_algolia.retry_min", "20ms")
            .setting("audit_algolia.retry_max", "100ms")
            .setting("shared_buffers", "4MB")
            .start()
            .unwrap()
    });
    (stage, turn)
}

/// Two tables of the same shape, one of which is watched by these rules.
fn tables(db: &mut Client, name: &str, rules: &str) {
    db.batch_execute(&format!(
        "create table {name} (id bigint primary key, n int, v text); create table {name}_plain (like {name} including all);
         select audit_algolia.watch('{name}', columns => '{{n,v}}', {rules})"
    ))
    .unwrap();
}

/// The memory that a new session needs to do something to a watched table, in excess of the same on one that is not
/// watched.
fn beyond(stage: &Stage, name: &str, statement: &str) -> u64 {
    let peak = |table: &str| {
        let mut db = stage.admin();
        db.batch_execute(&statement.replace("TABLE", table)).unwrap();
        peak_of_session(&mut db).unwrap()
    };
    let plain = peak(&format!("{name}_plain"));
    peak(name).saturating_sub(plain)
}

#[track_caller]
fn check(what: &str, taken: u64) {
    check_up_to(MOST, what, taken);
}

#[track_caller]
fn check_up_to(most: u64, what: &str, taken: u64) {
    assert!(taken <= most, "{what}: {} MB, which is more than {} MB", taken >> 20, most >> 20);
}

/// With on_capture_error = warn, records are made in another way.
fn set_on_capture_error(stage: &Stage, setting: &str) {
    stage.cluster.set(&[("audit_algolia.on_capture_error", setting)]).unwrap();
    let mut db = stage.admin();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == setting
    });
}

fn discard_queue(db: &mut Client) {
    db.batch_execute("truncate audit_algolia.queue").unwrap();
}

#[test]
fn a_writer_of_many_large_rows_takes_no_more_than_a_few() {
    let (stage, _turn) = stage();
    let mut db = stage.admin();
    let insert = format!("insert into TABLE select i, 1, {TEXT} from generate_series(1, {ROWS}) as i");
    let few = format!("insert into TABLE select i, 1, {TEXT} from generate_series(101, 103) as i");
    let changes = "operations => '{insert,update,delete}'";
    let cases = [
        ("error", "appended", "operations => '{insert}'"),
        ("error", "changed", changes),
        ("error", "mirrored", "mode => 'mirror'"),
        ("warn", "appended", "operations => '{insert}'"),
        ("warn", "changed", changes),
        ("warn", "mirrored", "mode => 'mirror'"),
    ];
    for (setting, name, rules) in cases {
        set_on_capture_error(stage, setting);
        tables(&mut db, name, rules);
        let check = |what: &str, most: u64, statement: &str| {
            check_up_to(most, &format!("{setting}, {name}, {what}"), beyond(stage, name, statement));
        };
        check("inserts", MOST, &insert);
        check("three inserts", MOST, &few);
        // Such a change record holds both the new and the old row.
        let both = if name == "changed" { MOST + 2 * ROW } else { MOST };
        check("updates of the text", both, "update TABLE set v = v || 'x'");
        check("updates of something else", MOST, "update TABLE set n = n + 1");
        check("deletions", MOST, "delete from TABLE where id > 10");
        check("truncation", MOST, "truncate TABLE");
        db.batch_execute(&format!("drop table {name}, {name}_plain")).unwrap();
        discard_queue(&mut db);
    }
}

#[test]
fn large_rows_that_leave_with_their_partition_are_not_kept() {
    let (stage, _turn) = stage();
    let mut db = stage.admin();
    for name in ["leaving", "leaving_plain"] {
        db.batch_execute(&format!(
            "create table {name} (id bigint primary key, v text) partition by range (id);
             create table {name}_a partition of {name} for values from (0) to (100);
             create table {name}_b partition of {name} for values from (100) to (200);
             insert into {name} select i + o, {TEXT} from generate_series(1, {ROWS}) as i, unnest('{{0, 100}}'::int[]) as o"
        ))
        .unwrap();
    }
    db.batch_execute(
        "select audit_algolia.watch('leaving', columns => '{v}', mode => 'mirror', filter => 'length(v) > 10')",
    )
    .unwrap();
    check("a detached partition", beyond(stage, "leaving", "alter table TABLE detach partition TABLE_a"));
    check("a dropped partition", beyond(stage, "leaving", "drop table TABLE_b"));
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), 2 * ROWS as i64);
    db.batch_execute("drop table leaving, leaving_plain").unwrap();
    discard_queue(&mut db);
}

#[test]
fn what_takes_more_as_a_record_than_as_a_value_is_bounded_too() {
    let (stage, _turn) = stage();
    let mut db = stage.admin();
    let values = [
        ("bytes", "bytea", "decode(repeat(md5(i::text), 524288), 'hex')"),
        ("document", "jsonb", "jsonb_build_object('a', repeat(md5(i::text), 262144))"),
        (
            "numbers",
            "int[]",
            "array_agg(n) from generate_series(1, 2000000) as n, generate_series(i, i) as i group by i",
        ),
        ("decimals", "numeric[]", "array_agg(n::numeric) from generate_series(1, 400000) as n"),
    ];
    for (name, kind, value) in values {
        db.batch_execute(&format!(
            "create table {name} (id bigint primary key, v {kind}); create table {name}_plain (like {name} including all);
             select audit_algolia.watch('{name}', columns => '{{v}}')"
        ))
        .unwrap();
        let insert = format!(
            "insert into TABLE select i, (select {value}) from generate_series(1, {}) as i",
            ROWS / 4
        );
        check(name, beyond(stage, name, &insert));
        db.batch_execute(&format!("drop table {name}, {name}_plain")).unwrap();
        discard_queue(&mut db);
    }
}

#[test]
fn large_values_that_leave_no_large_record_are_not_kept() {
    let (stage, _turn) = stage();
    let mut db = stage.admin();
    tables(&mut db, "hidden", "pseudonymize => '{v}'");
    let insert = format!("insert into TABLE select i, 1, {TEXT} from generate_series(1, {ROWS}) as i");
    check("pseudonyms", beyond(stage, "hidden", &insert));
    check(
        "pseudonyms of what is stored",
        beyond(stage, "hidden", "insert into TABLE select id + 1000, n, v from TABLE"),
    );
    db.batch_execute("drop table hidden, hidden_plain").unwrap();
    discard_queue(&mut db);
}

#[test]
fn repairs_of_many_large_rows_take_no_more_than_a_few() {
    let (stage, _turn) = stage();
    set_on_capture_error(stage, "warn");
    let mut db = stage.admin();
    for (name, mode) in [("repaired", "append"), ("repaired_mirror", "mirror")] {
        tables(&mut db, name, &format!("mode => '{mode}', filter => '100 / n <> 1000'"));
        db.batch_execute(&format!(
            "insert into {name} select i, 0, {TEXT} from generate_series(1, {ROWS}) as i"
        ))
        .unwrap();
        let noted = "select count(*) from audit_algolia.repair";
        assert_eq!(one::<i64>(&mut db, noted), ROWS as i64);
        let find = || process(stage);
        let (_, peak) = peak_meanwhile(find, || {
            db.batch_execute(&format!(
                "alter table {name} disable trigger all; update {name} set n = 1; alter table {name} enable trigger all"
            ))?;
            wait_until("repairs", 4 * SOON, || one::<i64>(&mut db, noted) == 0);
            Ok(())
        })
        .unwrap();
        let plain = peak_of_session(&mut stage.admin()).unwrap();
        check(&format!("repairs, {mode}"), peak.saturating_sub(plain));
        assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), ROWS as i64);
        db.batch_execute(&format!("drop table {name}, {name}_plain")).unwrap();
        discard_queue(&mut db);
    }
}

/// The process that makes repairs.
fn process(stage: &Stage) -> Option<u32> {
    let query = "select pid from pg_stat_activity where backend_type = 'audit_algolia backfill'";
    let row = stage.admin().query_opt(query, &[]).ok()??;
    u32::try_from(row.get::<_, i32>(0)).ok()
}

#[test]
fn a_preview_of_many_large_rows_takes_no_more_than_a_few() {
    let (stage, _turn) = stage();
    let mut db = stage.admin();
    tables(&mut db, "shown", "operations => '{insert}'");
    db.batch_execute(&format!(
        "alter table shown disable trigger all; insert into shown select i, 1, {TEXT} from generate_series(1, {ROWS}) as i"
    ))
    .unwrap();
    // Parsing a record as jsonb needs more memory.
    let mut session = stage.admin();
    session.batch_execute("select count(to_jsonb(s)::text::jsonb) from shown as s").unwrap();
    let plain = peak_of_session(&mut session).unwrap();
    for query in [
        "select count(*) from audit_algolia.preview('shown', 1000)",
        "select count(p) from (select audit_algolia.preview('shown', 1000) as p) as q",
    ] {
        let mut session = stage.admin();
        assert_eq!(one::<i64>(&mut session, query), ROWS as i64);
        check("preview", peak_of_session(&mut session).unwrap().saturating_sub(plain));
    }
    db.batch_execute("drop table shown, shown_plain").unwrap();
}

#[test]
fn large_dead_letters_are_put_back_without_being_held_together() {
    let (stage, _turn) = stage();
    let mut db = stage.admin();
    tables(&mut db, "put_back", "operations => '{insert}'");
    db.batch_execute(&format!(
        "insert into put_back select i, 1, {TEXT} from generate_series(1, {ROWS}) as i"
    ))
    .unwrap();
    // As a worker moves them to the dead letters.
    db.batch_execute(
        "insert into audit_algolia.dead_letter (index_id, source, id, enqueued_at, action, record, attempts, error)
         select index_id, source, id, enqueued_at, action, record, 1, 'too large' from audit_algolia.queue;
         truncate audit_algolia.queue",
    )
    .unwrap();
    let mut session = stage.admin();
    let count: i64 = one(&mut session, "select audit_algolia.redrive('put_back')");
    assert_eq!(count, ROWS as i64);
    let plain = peak_of_session(&mut stage.admin()).unwrap();
    check("redrive", peak_of_session(&mut session).unwrap().saturating_sub(plain));
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), ROWS as i64);
    db.batch_execute("drop table put_back, put_back_plain").unwrap();
    discard_queue(&mut db);
}
