//! However a dump is restored, the copy has lost nothing and continues where the original was.

use std::collections::BTreeMap;
use std::path::Path;

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::Value;

use crate::play::watch;

/// One table for each way of watching. All rows wait, one record is a dead letter, and one change could not be
/// captured.
const TABLES: &str = "
    create table appended (id int primary key, v text);
    create table changed (id int primary key, v text);
    create table mirrored (id int primary key, v text);
    create table parts (id int primary key, v text) partition by range (id);
    create table parts_low partition of parts for values from (0) to (100);
    create table parts_high (v text, id int not null primary key);
    alter table parts attach partition parts_high for values from (100) to (200);
    create table mirror_parts (id int primary key, v text) partition by range (id);
    create table mirror_low partition of mirror_parts for values from (0) to (100);
    create table mirror_rest partition of mirror_parts for values from (100) to (1000) partition by range (id);
    create table mirror_deep partition of mirror_rest for values from (100) to (500);
    create table failing (id int primary key, v int);
    create table doomed (id int primary key, v text);
    create table historic (id int primary key, v text); insert into historic select i, 'h' from generate_series(1, 50) as i";

const ROWS: &str = "
    insert into appended select i, 'a' from generate_series(1, 500) as i;
    insert into changed values (1, 'a'), (2, 'b'); update changed set v = 'c' where id = 1; delete from changed where id = 2;
    insert into mirrored select i, 'm' from generate_series(1, 50) as i; update mirrored set v = 'n' where id <= 10;
    delete from mirrored where id = 50;
    insert into parts values (1, 'low'), (101, 'high');
    insert into mirror_parts values (1, 'low'), (101, 'deep'), (102, 'deep'); delete from mirror_parts where id = 102;
    insert into failing values (1, 1);
    insert into failing values (2, 0);
    insert into doomed values (1, 'd');
    with dead as (delete from audit_algolia.queue where source = (
        select id from audit_algolia.sources where index_name = 'doomed') returning *)
    insert into audit_algolia.dead_letter (index_id, source, id, enqueued_at, action, record, object_id, attempts, error)
    select index_id, source, id, enqueued_at, action, record, '1', 1, 'refused' from dead";

const INDICES: [&str; 7] = ["appended", "changed", "mirrored", "parts", "mirror_parts", "failing", "doomed"];

fn original() -> Stage {
    let stage = Stage::builder()
        .setting("audit_algolia.enabled", "off")
        .setting("audit_algolia.on_capture_error", "warn")
        .start()
        .unwrap();
    let mut admin = stage.admin();
    admin.batch_execute(TABLES).unwrap();
    watch(&mut admin, "appended", "appended", "columns => '{v}'");
    watch(&mut admin, "changed", "changed", "columns => '{v}', operations => '{insert, update, delete}'");
    watch(&mut admin, "mirrored", "mirrored", "columns => '{v}', mode => 'mirror'");
    watch(&mut admin, "parts", "parts", "columns => '{v}'");
    watch(&mut admin, "mirror_parts", "mirror_parts", "columns => '{v}', mode => 'mirror'");
    watch(&mut admin, "failing", "failing", "columns => '{v}', filter => '100 / v <> 1000'");
    watch(&mut admin, "doomed", "doomed", "columns => '{v}'");
    watch(&mut admin, "historic", "historic", "columns => '{v}'");
    admin.batch_execute(ROWS).unwrap();
    // It was requested by hand, so it must not begin here.
    admin
        .batch_execute(
            "insert into audit_algolia.backfill (source, relation, state, rows_done, rows_queued, requested_at, rate)
             select id, source, 'waiting', 0, 0, now(), 0 from audit_algolia.sources where index_name = 'historic'",
        )
        .unwrap();
    stage
}

/// A step of a restore: the program, its arguments, and the dump.
type Step = (&'static str, &'static [&'static str], &'static str);

/// The name of each way, its steps, and whether the rows that it loads are captured again.
const WAYS: [(&str, &[Step], bool); 9] = [
    ("plain", &[("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"], "plain")], false),
    ("plain_1", &[("psql", &["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f"], "plain")], false),
    ("custom", &[("pg_restore", &["-e"], "custom")], false),
    ("custom_1", &[("pg_restore", &["-1"], "custom")], false),
    ("directory_j", &[("pg_restore", &["-e", "-j", "4"], "directory")], false),
    (
        "sections",
        &[
            ("pg_restore", &["-e", "--section=pre-data"], "custom"),
            ("pg_restore", &["-e", "--section=data"], "custom"),
            ("pg_restore", &["-e", "--section=post-data"], "custom"),
        ],
        false,
    ),
    (
        "schema_data",
        &[("pg_restore", &["-e", "-s"], "custom"), ("pg_restore", &["-e", "-a"], "custom")],
        true,
    ),
    (
        "schema_data_j",
        &[("pg_restore", &["-e", "-s"], "directory"), ("pg_restore", &["-e", "-a", "-j", "4"], "directory")],
        true,
    ),
    (
        "untriggered",
        &[
            ("pg_restore", &["-e", "-s"], "custom"),
            ("pg_restore", &["-e", "-a", "--disable-triggers"], "custom"),
        ],
        false,
    ),
];

/// Runs one of PostgreSQL's programs, which must print no message.
#[track_caller]
pub(crate) fn silently(cluster: &Cluster, program: &str, arguments: &[&str]) {
    let output = cluster.run(program, arguments).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} {arguments:?}");
}

#[test]
fn whichever_way_a_dump_is_restored_nothing_is_lost_and_capture_goes_on() {
    let old = original();
    let dumps = old.cluster.socket_dir();
    for (format, arguments) in
        [("plain", &["-Fp"][..]), ("custom", &["-Fc"]), ("directory", &["-Fd", "-j", "2"])]
    {
        let target = dumps.join(format);
        let file = ["-f", target.to_str().unwrap(), "postgres"];
        silently(&old.cluster, "pg_dump", &[arguments, &file].concat());
    }
    // What the original would have delivered without a restore.
    old.cluster.set(&[("audit_algolia.enabled", "on")]).unwrap();
    let mut admin = old.admin();
    wait_until("the original's delivery", SOON, || one(&mut admin, "select audit_algolia.flush('5 s')"));
    let expected = held(&old);

    let new = Stage::builder()
        .setting("max_worker_processes", 16)
        // This is how long versions wait that were queued before the server started.
        .setting("audit_algolia.request_timeout", "1s")
        .setting("audit_algolia.on_capture_error", "warn")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap();
    for (way, steps, captures) in WAYS {
        new.standin.reset();
        new.admin().batch_execute(&format!("create database {way} template template0")).unwrap();
        for (program, arguments, dump) in steps {
            restore(&new, program, arguments, &dumps.join(dump), way, captures);
        }
        let mut restored = new.cluster.client(way, "postgres");
        check(&new, &mut restored, way, &expected, captures);
        drop(restored);
        new.admin().batch_execute(&format!("drop database {way}")).unwrap();
    }
}

fn restore(new: &Stage, program: &str, arguments: &[&str], dump: &Path, database: &str, captures: bool) {
    let dump = dump.to_str().unwrap();
    let tail = if program == "psql" { vec![dump, database] } else { vec!["-d", database, dump] };
    let arguments = [arguments, &tail].concat();
    if captures {
        // The change that could not be captured cannot be captured now either.
        new.cluster.run(program, &arguments).unwrap();
    } else {
        silently(&new.cluster, program, &arguments);
    }
}

/// All records of the original's indices.
fn held(stage: &Stage) -> BTreeMap<&'static str, BTreeMap<String, Value>> {
    INDICES.iter().map(|index| (*index, stage.standin.index(index))).collect()
}

fn check(
    new: &Stage,
    db: &mut Client,
    way: &str,
    expected: &BTreeMap<&str, BTreeMap<String, Value>>,
    captures: bool,
) {
    wait_until(&format!("{way}: delivery"), SOON, || one(db, "select audit_algolia.flush('5 s')"));
    for (index, expected) in expected {
        let mut held = new.standin.index(index);
        if captures {
            // Change records have numbers, and rows that were loaded are recorded again.
            held.retain(|id, _| *index != "changed" || expected.contains_key(id));
            held.retain(|_, _| *index != "doomed");
        }
        assert_eq!(&held, expected, "{way}: {index}");
    }
    let states = "select string_agg(distinct state, ', ') from audit_algolia.sources";
    assert_eq!(one::<String>(db, states), "watching", "{way}");
    assert_eq!(one::<i64>(db, "select count(*) from audit_algolia.dead_letters"), 1, "{way}");
    assert!(one::<i64>(db, "select count(*) from audit_algolia.repair") >= 1, "{way}");
    db.batch_execute(
        "insert into appended values (1000, 'new');
         update changed set v = 'd' where id = 1; delete from changed;
         update mirrored set v = 'o' where id = 1; delete from mirrored where id = 2;
         insert into parts values (2, 'new'); insert into parts_high (id, v) values (102, 'new');
         insert into mirror_parts values (2, 'new'), (103, 'new'); truncate mirror_deep;
         update failing set v = 5 where id = 2;
         insert into doomed values (2, 'e');
         select audit_algolia.redrive()",
    )
    .unwrap();
    let noted = "select count(*) from audit_algolia.repair";
    wait_until(&format!("{way}: repairs"), SOON, || one::<i64>(db, noted) == 0);
    wait_until(&format!("{way}: what is new"), SOON, || one(db, "select audit_algolia.flush('5 s')"));
    new.wait_for_records("historic", 50);
    let ids = |index: &str| -> Vec<String> { new.standin.index(index).into_keys().collect() };
    assert_eq!(new.standin.index("appended").len(), 501, "{way}");
    let told = new.standin.index("changed").len();
    let at_least = expected["changed"].len() + 2;
    // Jobs load rows before or after the rules.
    assert!(told == at_least || (captures && told == at_least + 1), "{way}: {told} changes");
    let mirrored = new.standin.index("mirrored");
    assert_eq!((mirrored.len(), &mirrored["1"]["v"]), (48, &"o".into()), "{way}");
    assert_eq!(ids("parts"), ["1", "101", "102", "2"], "{way}");
    assert_eq!(ids("mirror_parts"), ["1", "2"], "{way}");
    assert_eq!(ids("failing"), ["1", "2"], "{way}");
    assert_eq!(ids("doomed"), ["1", "2"], "{way}");
}
