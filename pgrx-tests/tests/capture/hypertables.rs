//! TimescaleDB's hypertables, if the PostgreSQL under test has it.

use std::io::Write as _;

use audit_algolia_tests::server::Installation;
use audit_algolia_tests::stage::{leave_out, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::changes::brief;
use crate::play::{failure, one, settle, watch, ROLES};

/// A stage with TimescaleDB, if it is installed. Otherwise the output says so, even if the run passes.
fn stage() -> Option<Stage> {
    if !Installation::current().unwrap().has_extension("timescaledb") {
        leave_out("this PostgreSQL has no TimescaleDB to test hypertables with");
        return None;
    }
    let stage = Stage::builder()
        .setting("shared_preload_libraries", "timescaledb,audit_algolia")
        .setting("timescaledb.telemetry_level", "off")
        .setting("max_worker_processes", 30)
        .start()
        .unwrap();
    stage.admin().batch_execute(ROLES).unwrap();
    stage.admin().batch_execute("create extension timescaledb").unwrap();
    Some(stage)
}

/// An ordinary table that can become a hypertable. Its chunks have another layout, because they never had the dropped
/// column.
const TABLE: &str = "(id bigint not null, gone int, at timestamptz not null, v text, primary key (id, at))";

/// Turns a table into a hypertable, with a chunk for each day.
fn convert(owner: &mut Client, table: &str) {
    let convert = format!(
        "select create_hypertable('{table}', 'at', chunk_time_interval => interval '1 day', migrate_data => true)"
    );
    owner.batch_execute(&convert).unwrap();
}

/// The statement that inserts rows, one for each day.
fn insert(table: &str, from: i64, to: i64) -> String {
    format!(
        "insert into {table} (id, at, v) select n, timestamptz '2026-01-01 12:00+00' + n * interval '1 day', 'a'
         from generate_series({from}, {to}) as n"
    )
}

/// Changes rows in all chunks in all ways, as a user who may only write. Returns the expected changes.
fn work(app: &mut Client, table: &str) -> Vec<&'static str> {
    app.batch_execute(&insert(table, 1, 3)).unwrap();
    app.batch_execute(&insert(table, 2001, 2004).replace("2026-01-01", "2020-01-01")).unwrap();
    let mut copy = app.copy_in(&format!("copy {table} (id, at, v) from stdin")).unwrap();
    copy.write_all(b"21\t2026-02-01 12:00+00\tc\n22\t2026-02-02 12:00+00\tc\n").unwrap();
    copy.finish().unwrap();
    for statement in [
        "update {} set v = 'b' where id in (1, 2001)",
        "delete from {} where id in (2, 22)",
        "begin; delete from {}; rollback",
        "insert into {} (id, at, v) values (3, '2026-01-04 12:00+00', 'd'), (4, '2026-05-04 12:00+00', 'e')
             on conflict (id, at) do update set v = excluded.v",
        "truncate {}",
    ] {
        app.batch_execute(&statement.replace("{}", table)).unwrap();
    }
    vec![
        "1 insert a",
        "2 insert a",
        "3 insert a",
        "2001 insert a",
        "2002 insert a",
        "2003 insert a",
        "2004 insert a",
        "21 insert c",
        "22 insert c",
        "1 update b a",
        "2001 update b a",
        "2 delete a",
        "22 delete c",
        "3 update d a",
        "4 insert e",
        " truncate",
    ]
}

fn told(stage: &Stage, db: &mut Client, index: &str) -> Vec<String> {
    settle(db, index);
    let mut told: Vec<String> = stage.standin.index(index).values().map(brief).collect();
    told.sort();
    told
}

const RULES: &str =
    "columns => '{v}', object_id => '{id}', operations => '{insert, update, delete, truncate}'";

/// Creates an ordinary table with rows, to which another user may write.
fn table(db: &mut Client, table: &str) {
    db.batch_execute(&format!(
        "create table {table} {TABLE}; alter table {table} drop column gone;
         alter table {table} owner to owner; grant all on {table} to app"
    ))
    .unwrap();
}

/// With chunks that exist when it is watched, and with those that writers create later.
#[test]
fn a_hypertable_is_captured_over_all_its_chunks() {
    let Some(stage) = stage() else { return };
    let (mut db, mut app) = (stage.admin(), stage.cluster.client("postgres", "app"));
    for name in ["empty", "filled"] {
        table(&mut db, name);
        convert(&mut db, name);
        if name == "filled" {
            db.batch_execute(&insert(name, 101, 102)).unwrap();
        }
        watch(&mut db, name, name, RULES);
        let mut expected = work(&mut app, name);
        expected.sort_unstable();
        assert_eq!(told(&stage, &mut db, name), expected, "{name}");
        // Chunks are created with the rights of the current owner.
        db.batch_execute(&format!("create role heir_{name}; alter table {name} owner to heir_{name}"))
            .unwrap();
        app.batch_execute(&insert(name, 900, 900)).unwrap();
        expected.push("900 insert a");
        expected.sort_unstable();
        assert_eq!(told(&stage, &mut db, name), expected, "{name} with another owner");
        db.batch_execute(&format!("select audit_algolia.unwatch('{name}')")).unwrap();
        work(&mut app, name);
        assert_eq!(told(&stage, &mut db, name), expected, "{name} is not watched any more");
    }
}

/// Queries by the table's name read its chunks.
#[test]
fn a_hypertable_is_backfilled_repaired_and_compared_over_all_its_chunks() {
    let Some(stage) = stage() else { return };
    let mut db = stage.admin();
    stage.cluster.set(&[("audit_algolia.on_capture_error", "warn")]).unwrap();
    for (name, rules) in [
        ("by_time", "time_column => 'at', object_id => '{id}', columns => '{v, at}'"),
        ("by_key", "columns => '{v}'"),
        ("by_place", "object_id => '{id}', columns => '{v}'"),
    ] {
        table(&mut db, name);
        convert(&mut db, name);
        if name == "by_place" {
            // Without an index to read it by.
            db.batch_execute(&format!(
                "alter table {name} drop constraint {name}_pkey cascade; drop index if exists {name}_at_idx"
            ))
            .unwrap();
        }
        db.batch_execute(&insert(name, 1, 5)).unwrap();
        watch(
            &mut db,
            name,
            name,
            &format!("{rules}, backfill => true, filter => '100 / length(v) <> 1000'"),
        );
        stage.wait_for_records(name, 5);
        db.batch_execute(&insert(name, 11, 13).replace("'a'", "''")).unwrap();
        let repairs = format!("select repairs from audit_algolia.queue_stats() where index_name = '{name}'");
        assert_eq!(one::<i64>(&mut db, &repairs), 3, "{name}");
        db.batch_execute(&format!("update {name} set v = 'b' where v = ''")).unwrap();
        wait_until("repairs", SOON, || one::<i64>(&mut db, &repairs) == 0);
        stage.wait_for_records(name, 8);
        let compared = db
            .query_one(
                &format!("select checked, missing, different from audit_algolia.reconcile('{name}')"),
                &[],
            )
            .unwrap();
        assert_eq!((compared.get(0), compared.get(1), compared.get(2)), (8_i64, 0_i64, 0_i64), "{name}");
    }
}

/// Its triggers would miss changes, or read the wrong columns.
#[test]
fn a_table_that_becomes_a_hypertable_has_to_be_watched_again() {
    let Some(stage) = stage() else { return };
    let (mut db, mut app) = (stage.admin(), stage.cluster.client("postgres", "app"));
    table(&mut db, "moved");
    watch(&mut db, "moved", "moved", RULES);
    app.batch_execute(&insert("moved", 101, 102)).unwrap();
    convert(&mut db, "moved");
    for statement in [&insert("moved", 103, 103), "update moved set v = 'b'", "delete from moved"] {
        let error = failure(&mut app, statement);
        assert_eq!(error.code().code(), "55000");
        assert_eq!(error.message(), "table \"moved\" has become a hypertable since it was watched");
    }
    db.batch_execute("select audit_algolia.unwatch('moved')").unwrap();
    watch(&mut db, "moved", "moved", RULES);
    let mut expected = work(&mut app, "moved");
    // To move rows into chunks, TimescaleDB truncates the original table.
    expected.extend(["101 insert a", "102 insert a", " truncate"]);
    expected.sort_unstable();
    assert_eq!(told(&stage, &mut db, "moved"), expected);
}
