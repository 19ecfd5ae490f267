//! Sessions with the role of a replica, and subscriptions: their changes are captured if the triggers are enabled for
//! them.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::changes::{brief, briefs, ALL};
use crate::play::{one, Play};

/// Makes the triggers of a table fire in all sessions, whatever their role.
pub(crate) fn always(admin: &mut postgres::Client, table: &str) {
    let id: i32 =
        one(admin, &format!("select id from audit_algolia.sources where source = '{table}'::regclass"));
    for operation in ["insert", "update", "delete", "truncate"] {
        admin
            .batch_execute(&format!(
                "alter table {table} enable always trigger audit_algolia_{id}_{operation}"
            ))
            .unwrap();
    }
}

#[test]
fn a_session_in_a_replicas_role_is_captured_only_by_triggers_that_fire_always() {
    let mut play = Play::new("replica_role", "create table t (id int primary key, v text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    let work = "insert into t values (1, 'a'), (2, 'b'); update t set v = v || '2'; delete from t where id = 1; truncate t";
    let as_replica =
        format!("set session_replication_role = replica; {work}; set session_replication_role = origin");
    play.admin.batch_execute(&as_replica).unwrap();
    assert_eq!(briefs(&mut play), Vec::<String>::new());
    always(&mut play.admin, "t");
    let state: String =
        one(&mut play.admin, "select state from audit_algolia.sources where source = 't'::regclass");
    assert_eq!(state, "watching");
    let mut told =
        vec!["1 insert a", "2 insert b", "1 update a2 a", "2 update b2 b", "1 delete a2", " truncate"];
    play.admin.batch_execute(&as_replica).unwrap();
    assert_eq!(briefs(&mut play), told);
    play.admin.batch_execute(work).unwrap();
    told.extend(told.clone());
    assert_eq!(briefs(&mut play), told);
}

#[test]
fn what_a_subscription_applies_is_captured_when_told_so() {
    let stage = Stage::builder().setting("wal_level", "logical").start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create database origin").unwrap();
    let mut origin = stage.cluster.client("origin", "postgres");
    let table = "create table t (id int primary key, v text)";
    origin
        .batch_execute(&format!(
            "{table}; insert into t values (1, 'before');
             create publication p for table t"
        ))
        .unwrap();
    origin.batch_execute("select pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    admin
        .batch_execute(&format!(
            "{table}; select audit_algolia.watch('t', columns => '{{v}}', {ALL}, filter => 'v <> ''hidden''')"
        ))
        .unwrap();
    always(&mut admin, "t");
    let connection = stage.cluster.connection_string("origin", "postgres");
    admin
        .batch_execute(&format!(
            "create subscription s connection '{connection}' publication p with (create_slot = false, slot_name = 's')"
        ))
        .unwrap();
    wait_until("the first copy", SOON, || one::<i64>(&mut admin, "select count(*) from t") == 1);
    origin
        .batch_execute("insert into t values (2, 'a'), (3, 'hidden'); update t set v = v || '2' where id < 3")
        .unwrap();
    origin.batch_execute("delete from t where id = 2").unwrap();
    origin.batch_execute("truncate t").unwrap();
    stage.wait_for_records("t", 6);
    let mut told: Vec<String> = stage.standin.index("t").values().map(brief).collect();
    told.sort();
    assert_eq!(
        told,
        [
            " truncate",
            "1 insert before",
            "1 update before2 before",
            "2 delete a2",
            "2 insert a",
            "2 update a2 a"
        ]
    );
    admin.batch_execute("drop subscription s").unwrap();
}
