//! However a dump is restored, the copy has lost nothing and continues where the original was.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::{stays_true, wait_until};
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
fn silently(cluster: &Cluster, program: &str, arguments: &[&str]) {
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

/// Several jobs alter partitions concurrently. Our event triggers must not make one wait for another.
#[test]
fn partitions_of_a_mirrored_table_are_restored_by_several_jobs_without_a_deadlock() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create table m (id int, part int, v text, primary key (id, part)) partition by list (part);
             do $$ begin
                 for part in 1..60 loop
                     execute format('create table m%s partition of m (check (v <> ''x'')) for values in (%1$s)', part);
                     execute format('create index on m%s (v)', part);
                 end loop;
             end $$",
        )
        .unwrap();
    watch(&mut admin, "m", "m", "columns => '{v}', mode => 'mirror'");
    admin
        .batch_execute("insert into m select i, 1 + i % 60, 'v' from generate_series(1, 6000) as i")
        .unwrap();
    let dump = stage.cluster.socket_dir().join("parts");
    let dump = dump.to_str().unwrap();
    silently(&stage.cluster, "pg_dump", &["-Fd", "-j", "2", "-f", dump, "postgres"]);
    for run in 1..=6 {
        let database = format!("restored_{run}");
        admin.batch_execute(&format!("create database {database} template template0")).unwrap();
        silently(&stage.cluster, "pg_restore", &["-e", "-j", "4", "-d", &database, dump]);
        let mut restored = stage.cluster.client(&database, "postgres");
        for rows in ["m", "audit_algolia.queue"] {
            assert_eq!(one::<i64>(&mut restored, &format!("select count(*) from {rows}")), 6000, "{run}");
        }
        let state = "select state from audit_algolia.sources";
        assert_eq!(one::<String>(&mut restored, state), "watching", "{run}");
        drop(restored);
        admin.batch_execute(&format!("drop database {database}")).unwrap();
    }
}

/// Several jobs fill the extension's tables in any order.
#[test]
fn a_change_that_cannot_be_captured_is_noted_before_its_index_is_there() {
    let stage = Stage::builder()
        .setting("audit_algolia.on_capture_error", "warn")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .start()
        .unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create table t (id int primary key, v int);
             begin;
             select audit_algolia.watch('t', 't', columns => '{v}', filter => '100 / v <> 1000');
             create table kept as select id, name, paused from audit_algolia.index;
             delete from audit_algolia.index;
             commit;
             insert into t values (1, 0);
             insert into audit_algolia.index (id, name, paused) select id, name, paused from kept;
             update t set v = 1",
        )
        .unwrap();
    stage.wait_for_records("t", 1);
}

/// The same for rows and settings.
#[test]
fn rows_and_settings_that_are_restored_before_their_index_wait_no_longer_than_for_it() {
    let stage = Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create table t (id int primary key, v text)").unwrap();
    admin
        .batch_execute(
            "begin;
             select audit_algolia.watch('t', 't', columns => '{v}', facets => '{v}'), audit_algolia.configure_index('t');
             create table kept as select id, name, paused from audit_algolia.index;
             delete from audit_algolia.index;
             commit;
             insert into t values (1, 'a')",
        )
        .unwrap();
    stays_true("nothing is sent of an index without a name", Duration::from_secs(2), || {
        stage.standin.index("t").is_empty()
    });
    let dump = stage.cluster.socket_dir().join("index.copy");
    let dump = dump.to_str().unwrap();
    admin
        .batch_execute(&format!(
            "copy kept to '{dump}'; copy audit_algolia.index (id, name, paused) from '{dump}'"
        ))
        .unwrap();
    stage.wait_for_records("t", 1);
    wait_until("the settings", SOON, || {
        stage.standin.settings("t").is_some_and(|settings| settings.contains_key("attributesForFaceting"))
    });
}

/// The end of a restore sets the sequence of ids back, although rows were captured meanwhile.
#[test]
fn no_id_is_handed_out_twice_when_the_sequence_is_set_back() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create table t (id int primary key, v text)").unwrap();
    watch(&mut admin, "t", "t", "columns => '{v}', mode => 'mirror'");
    // Each statement takes a block of ids, so they run ahead of the clock.
    let insert = |from: i32| {
        format!(
            "do $$ begin for i in {from}..{from} + 999 loop insert into t values (i, 'v'); end loop; end $$"
        )
    };
    for from in [1, 1001, 2001] {
        admin.batch_execute(&insert(from)).unwrap();
        // A COPY into one of the extension's tables counts as a restore.
        admin
            .batch_execute(
                "select setval('audit_algolia.queue_block', 1); copy audit_algolia.queue from program 'true'",
            )
            .unwrap();
    }
    assert_eq!(one::<i64>(&mut admin, "select count(distinct id) from audit_algolia.queue"), 3000);
}

/// The same during a backfill, and between two. A step of several rows would be retried with fewer of them, and so with
/// other ids; a step of a single row is not.
#[test]
fn no_id_of_history_is_handed_out_twice_when_its_sequence_is_set_back() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create table t (id int primary key, v text);
             insert into t select i, 'v' from generate_series(1, 5) as i",
        )
        .unwrap();
    watch(&mut admin, "t", "t", "columns => '{v}'");
    let set_back = "select setval('audit_algolia.backfill_block', 1, false)";
    let one_by_one = "select audit_algolia.backfill('t', rows_per_second => 1)";
    let queued = "select count(*) from audit_algolia.queue";
    let wait_for = |admin: &mut Client, rows: i64| {
        let mut failed = String::new();
        wait_until(&format!("{rows} rows"), SOON, || {
            failed = one(admin, "select coalesce(max(last_error), '') from audit_algolia.backfill_progress");
            !failed.is_empty() || one::<i64>(admin, queued) >= rows
        });
        assert_eq!(failed, "");
    };
    admin.batch_execute(one_by_one).unwrap();
    wait_for(&mut admin, 2);
    admin.batch_execute(set_back).unwrap();
    wait_for(&mut admin, 5);
    // Another process makes the next step.
    let processes = "select count(*) from pg_stat_activity where backend_type = 'audit_algolia backfill'";
    wait_until("its end", SOON, || one::<i64>(&mut admin, processes) == 0);
    admin.batch_execute(set_back).unwrap();
    admin.batch_execute(one_by_one).unwrap();
    wait_for(&mut admin, 10);
}
