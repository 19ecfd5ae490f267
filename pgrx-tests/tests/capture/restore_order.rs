//! A restore fills the extension's tables in any order, with several jobs, and sets sequences at the end.

use std::time::Duration;

use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;

use crate::play::watch;
use crate::restored::silently;

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
