//! Dumps of each kind: the new cluster delivers what the old one has not, and continues to capture, with newer ids.

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::Stage;

use crate::support::*;

const RESTORED: &str = "restored";

/// A database with rows that are not delivered.
fn old() -> Stage {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    stage.admin().batch_execute("create role teller login").unwrap();
    stage.admin().batch_execute("create database restored").unwrap();
    let mut db = stage.cluster.client(RESTORED, "postgres");
    db.batch_execute("create extension audit_algolia").unwrap();
    watch(&mut db, "log");
    db.batch_execute("alter table log owner to teller; grant create on schema public to teller").unwrap();
    insert(&mut db, "log", 1..=1500);
    stage
}

/// The newest id that was assigned.
fn last_block(cluster: &Cluster) -> i64 {
    one(&mut cluster.client(RESTORED, "postgres"), "select last_value from audit_algolia.queue_block")
}

fn assert_goes_on(old: &Stage, new: &Stage) {
    new.wait_for_records("log", 1500);
    let before = last_block(&old.cluster);
    let mut teller = new.cluster.client(RESTORED, "teller");
    insert(&mut teller, "log", 1501..=1600);
    new.wait_for_records("log", 1600);
    assert!(last_block(&new.cluster) > before, "ids go on");
    let mut db = new.cluster.client(RESTORED, "postgres");
    wait_for_empty_queue(&mut db);
    assert_holds(&new.standin, "log", 1..=1600);
    assert_eq!(one::<String>(&mut db, "select state from audit_algolia.sources"), "watching");
    // The dump contains the event triggers too.
    db.batch_execute("drop table log").unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.sources"), 0);
}

#[test]
fn a_custom_dump_is_restored_and_delivered() {
    let (old, new) = (old(), Stage::builder().start().unwrap());
    let file = new.cluster.data_dir().join("custom.dump");
    let path = file.to_str().unwrap();
    old.cluster.run("pg_dump", &["-Fc", "-f", path, RESTORED]).unwrap();
    new.admin().batch_execute("create role teller login").unwrap();
    new.admin().batch_execute("create database restored template template0").unwrap();
    new.cluster.run("pg_restore", &["--exit-on-error", "-j", "2", "-d", RESTORED, path]).unwrap();
    assert_goes_on(&old, &new);
}

#[test]
fn a_dump_of_the_whole_cluster_is_restored_and_delivered() {
    let (old, new) = (old(), Stage::builder().start().unwrap());
    let file = new.cluster.data_dir().join("all.sql");
    let path = file.to_str().unwrap();
    // The dump also creates the extension in this database.
    new.admin().batch_execute("drop extension audit_algolia; drop schema if exists audit_algolia").unwrap();
    old.cluster.run("pg_dumpall", &["-f", path]).unwrap();
    let told = new.cluster.run("psql", &["-X", "-q", "-d", "template1", "-f", path]).unwrap();
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let complaints: Vec<&str> = told.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(
        complaints.iter().all(|line| line.contains("role \"postgres\" already exists")),
        "{}",
        complaints.join("\n")
    );
    assert_goes_on(&old, &new);
}

#[test]
fn ids_go_on_above_those_of_rows_that_are_copied_into_the_queue() {
    let stage = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut db = staged(&stage, "log");
    insert(&mut db, "log", 1..=1);
    let (file, block) =
        (stage.cluster.data_dir().join("rows"), "select last_value from audit_algolia.queue_block");
    let file = file.to_str().unwrap();
    let block = one::<i64>(&mut db, block) + 5000;
    db.batch_execute(&format!(
        "copy (select index_id, source, {block} * 1024, enqueued_at, action, record, object from audit_algolia.queue) to '{file}';
         begin; copy audit_algolia.queue from '{file}'; select setval('audit_algolia.queue_block', {block}); commit"
    ))
    .unwrap();
    insert(&mut db, "log", 2..=2);
    assert_eq!(one::<i64>(&mut db, "select max(id) from audit_algolia.queue"), (block + 1) * 1024);
}
