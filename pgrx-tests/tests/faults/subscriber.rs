//! Logical replication between two servers: the subscriber records each change once, whatever happens to either of
//! them.

use audit_algolia_tests::server::{Cluster, StopMode};
use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::fallible_iterator::FallibleIterator;
use postgres::Client;

use crate::traffic::wait_for_empty_queues;

/// Watches a table, and does what the warning says.
fn watch_what_is_applied(cluster: &Cluster, table: &str) {
    let psql = |statement: &str| {
        let output =
            cluster.run("psql", &["-X", "-v", "ON_ERROR_STOP=1", "-c", statement, "postgres"]).unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = psql(&format!(
        "select audit_algolia.watch('{table}', columns => '{{v}}', filter => 'v <> ''hidden''',
            operations => '{{insert, update, delete}}', alert => 'id = 9999')"
    ));
    assert!(
        said.contains(&format!(
            "changes that a subscription applies to table public.{table} are not captured"
        )),
        "{said}"
    );
    let (_, statement) = said.split_once("To capture them: ").unwrap();
    psql(statement.trim().trim_end_matches('.'));
}

const TABLES: [&str; 2] = ["account", "parts"];

/// One round of changes on the publisher, of rows with ids from `base` on.
fn change(db: &mut Client, base: i64, table: &str) {
    let at = |from: i64, to: i64| format!("id between {} and {}", base + from, base + to);
    let insert =
        format!("insert into {table} select n, 'a' from generate_series({}, {}) as n", base + 1, base + 50);
    for work in [
        format!("begin; {insert}; rollback"),
        format!("{insert}; savepoint s; delete from {table}; rollback to s"),
        format!("update {table} set v = 'b' where {}", at(1, 30)),
        format!("update {table} set v = 'hidden' where {}", at(1, 5)),
        format!("delete from {table} where {}", at(31, 40)),
    ] {
        db.batch_execute(&format!("begin; {work}; commit")).unwrap();
    }
}

/// The changes that a round should record.
fn told_of(base: i64) -> impl Iterator<Item = String> {
    let of =
        |what: &'static str, from: i64, to: i64| (from..=to).map(move |id| format!("{} {what}", base + id));
    of("insert a", 1, 50).chain(of("update b a", 1, 30)).chain(of("delete a", 31, 40))
}

/// The changes that were recorded, in short.
fn told(stage: &Stage, table: &str) -> Vec<String> {
    let mut told: Vec<String> = stage
        .standin
        .index(table)
        .values()
        .map(|record| {
            assert_eq!(record["changed_by"], "postgres", "the subscription's owner");
            let (key, _) = record["objectID"].as_str().unwrap().rsplit_once('@').unwrap();
            let texts = [&record["op"], &record["v"], &record["previous"]["v"]];
            let texts = texts.iter().filter_map(|value| value.as_str());
            format!("{key} {}", texts.collect::<Vec<_>>().join(" "))
        })
        .collect();
    told.sort();
    told
}

#[test]
fn a_subscriber_tells_each_change_once_whatever_happens_to_it() {
    let publisher = Cluster::builder().preload(false).setting("wal_level", "logical").start().unwrap();
    let mut db = publisher.session(SOON).unwrap();
    for table in TABLES {
        db.batch_execute(&format!(
            "create table {table} (id bigint primary key, v text);
             insert into {table} select n, 'before' from generate_series(1, 300) as n"
        ))
        .unwrap();
    }
    db.batch_execute("create publication p for table account, parts").unwrap();

    // The apply worker does not wait for the disk, and repeats what a crash has undone.
    let stage = Stage::builder()
        .setting("wal_retrieve_retry_interval", "100ms")
        .setting("wal_writer_delay", "10s")
        .setting("max_worker_processes", 20)
        .start()
        .unwrap();
    stage
        .admin()
        .batch_execute(&format!(
            "create table account (id bigint primary key, v text);
             create table parts (v text, id bigint primary key) partition by range (id);
             create table parts_low partition of parts for values from (minvalue) to (2020);
             create table parts_high partition of parts for values from (2020) to (maxvalue);
             create subscription s connection '{}' publication p with (enabled = false, create_slot = false)",
            publisher.connection_string("postgres", "postgres")
        ))
        .unwrap();
    db.batch_execute("select pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    for table in TABLES {
        watch_what_is_applied(&stage.cluster, table);
    }
    stage.admin().batch_execute("alter subscription s enable").unwrap();
    for table in TABLES {
        // The initial copy is captured like any other insert.
        stage.wait_for_records(table, 300);
    }

    let mut expected: Vec<String> = (1..=300).map(|id| format!("{id} insert before")).collect();
    for round in 1..=5 {
        let base = round * 1000;
        for table in TABLES {
            change(&mut db, base, table);
        }
        expected.extend(told_of(base));
        let all = round % 2 == 0;
        // While it is being applied, or right after it has arrived.
        wait_until("the changes to arrive", SOON, || {
            stage.standin.index("account").len() > if all { expected.len() - 1 } else { 300 }
        });
        match round {
            1 | 2 => stage.cluster.restart(StopMode::Immediate).unwrap(),
            3 | 4 => {
                stage
                    .session()
                    .batch_execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity
                         where backend_type like 'logical replication%'",
                    )
                    .unwrap();
            }
            _ => {
                publisher.restart(StopMode::Immediate).unwrap();
                db = publisher.session(SOON).unwrap();
            }
        }
    }
    // The crash may undo only a single row.
    for id in 9001..=9003 {
        db.batch_execute(&format!(
            "insert into account values ({id}, 'a'); insert into parts values ({id}, 'a')"
        ))
        .unwrap();
        expected.push(format!("{id} insert a"));
        stage.wait_for_records("account", expected.len());
        stage.cluster.restart(StopMode::Immediate).unwrap();
    }
    expected.sort();
    for table in TABLES {
        stage.wait_for_records(table, expected.len());
        assert_eq!(told(&stage, table), expected);
    }
    let mut subscriber = stage.session();
    subscriber.batch_execute("listen audit_algolia_alert").unwrap();
    db.batch_execute("insert into account values (9999, 'a')").unwrap();
    wait_until("a notification of what the subscription applies", SOON, || {
        subscriber.batch_execute("select 1").unwrap();
        let heard = subscriber.notifications().iter().next().unwrap();
        heard.is_some_and(|heard| heard.payload().contains("9999@"))
    });
    wait_for_empty_queues(&mut subscriber);
    subscriber.batch_execute("drop subscription s").unwrap();
}
