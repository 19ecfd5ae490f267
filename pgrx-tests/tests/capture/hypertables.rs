//! Hypertables of TimescaleDB, where the PostgreSQL under test has it.

use std::io::Write as _;

use audit_algolia_tests::stage::Stage;
use postgres::Client;

use crate::changes::brief;
use crate::play::{settle, watch};

/// A stage with TimescaleDB in it, if there is one to be had. If not, the output says so, also that of a run that passes.
fn stage() -> Option<Stage> {
    let stage = Stage::builder()
        .setting("shared_preload_libraries", "timescaledb,audit_algolia")
        .setting("timescaledb.telemetry_level", "off")
        .setting("max_worker_processes", 30);
    let there = audit_algolia_tests::server::Installation::current().unwrap().has_extension("timescaledb");
    if !there {
        let _ = writeln!(
            std::io::stderr(),
            "left out: this PostgreSQL has no TimescaleDB to test hypertables with"
        );
        return None;
    }
    let stage = stage.start().unwrap();
    stage.admin().batch_execute("create extension timescaledb").unwrap();
    Some(stage)
}

/// A hypertable with a chunk for each day.
fn hypertable(db: &mut Client, name: &str) {
    db.batch_execute(&format!(
        "create table {name} (id bigint not null, at timestamptz not null, v text, primary key (id, at));
         select create_hypertable('{name}', 'at', chunk_time_interval => interval '1 day')"
    ))
    .unwrap();
}

/// The statement that inserts rows, one for each day.
fn insert(table: &str, from: i64, to: i64) -> String {
    format!(
        "insert into {table} select n, timestamptz '2026-01-01 12:00+00' + n * interval '1 day', 'a'
         from generate_series({from}, {to}) as n"
    )
}

fn told(stage: &Stage, db: &mut Client, index: &str) -> Vec<String> {
    settle(db, index);
    let mut told: Vec<String> = stage.standin.index(index).values().map(brief).collect();
    told.sort();
    told
}

#[test]
fn a_hypertable_is_captured_over_all_its_chunks() {
    let Some(stage) = stage() else { return };
    let mut db = stage.admin();
    for (table, before) in [("early", true), ("late", false)] {
        hypertable(&mut db, table);
        // Watched before it has a chunk, and when it has some.
        if !before {
            db.batch_execute(&insert(table, 1, 3)).unwrap();
        }
        watch(
            &mut db,
            table,
            table,
            "columns => '{v}', object_id => '{id}', operations => '{insert, update, delete}'",
        );
        if before {
            db.batch_execute(&insert(table, 1, 3)).unwrap();
        }
        db.batch_execute(&insert(table, 11, 14)).unwrap();
        let mut copy = db.copy_in(&format!("copy {table} from stdin")).unwrap();
        copy.write_all(b"21\t2026-02-01 12:00+00\tc\n22\t2026-02-02 12:00+00\tc\n").unwrap();
        copy.finish().unwrap();
        db.batch_execute(&format!(
            "update {table} set v = 'b' where id in (1, 11);
             delete from {table} where id in (2, 12);
             begin; delete from {table}; rollback;
             insert into {table} values (13, '2026-01-14 12:00+00', 'd') on conflict (id, at) do update set v = 'd'"
        ))
        .unwrap();
        let mut expected: Vec<String> = (11..=14).map(|id| format!("{id} insert a")).collect();
        if before {
            expected.extend((1..=3).map(|id| format!("{id} insert a")));
        }
        for line in [
            "21 insert c",
            "22 insert c",
            "1 update b a",
            "11 update b a",
            "2 delete a",
            "12 delete a",
            "13 update d a",
        ] {
            expected.push(line.to_owned());
        }
        expected.sort();
        assert_eq!(told(&stage, &mut db, table), expected, "{table}");
    }
}
