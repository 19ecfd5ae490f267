//! Old snapshots, many savepoints, re-created extensions: none of these in a session's past makes writers fail.

use postgres::error::SqlState;
use postgres::Client;

use crate::play::{one, watch, Play};

/// Another session of the superuser, with the test's tables.
fn session(play: &Play) -> Client {
    let mut client = play.stage.admin();
    client.batch_execute(&format!("set search_path = {}", play.name)).unwrap();
    client
}

#[test]
fn a_transaction_older_than_the_watch_is_captured() {
    let mut play = Play::new("old", "create table t (id int primary key)");
    let mut older = session(&play);
    older.batch_execute("begin isolation level repeatable read; select 1").unwrap();
    play.watch("t", "columns => '{id}'");
    older.batch_execute("insert into t values (1); commit").unwrap();
    play.stage.wait_for_records("old", 1);
}

#[test]
fn a_session_follows_an_extension_made_anew() {
    let mut play = Play::new("again", "");
    play.admin.batch_execute("create database again").unwrap();
    let mut db = play.stage.cluster.client("again", "postgres");
    db.batch_execute("create extension audit_algolia; create table t (id int primary key)").unwrap();
    watch(&mut db, "t", "again", "columns => '{id}'");
    db.batch_execute("drop extension audit_algolia cascade").unwrap();
    db.batch_execute("create extension audit_algolia").unwrap();
    watch(&mut db, "t", "again", "columns => '{id}'");
    db.batch_execute("insert into t values (1)").unwrap();
    play.stage.wait_for_records("again", 1);
    drop(db);
    play.admin.batch_execute("drop database again").unwrap();
}

#[test]
fn many_savepoints_cost_no_more_than_their_rows() {
    let mut play = Play::new("many_savepoints", "create table t (id int primary key)");
    play.watch("t", "columns => '{id}'");
    // Forty thousand subtransactions, a quarter of them rolled back.
    play.run(
        "do $$ begin for i in 1..40000 loop begin
             insert into t values (i);
             if i % 4 = 0 then raise exception 'no'; end if;
         exception when raise_exception then null; end; end loop; end $$",
    );
    assert_eq!(play.records().len(), 30_000);
}

#[test]
fn a_table_that_becomes_a_partition_while_it_is_put_under_watch_is_captured() {
    let mut play = Play::new(
        "attach",
        "create table root (id int primary key) partition by list (id); create table t (id int primary key)",
    );
    let mut other = session(&play);
    other.batch_execute("begin; alter table root attach partition t default").unwrap();
    let pid: i32 = one(&mut play.admin, "select pg_backend_pid()");
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| play.watch("t", "columns => '{id}'"));
        audit_algolia_tests::wait::wait_until("watch to wait", audit_algolia_tests::stage::SOON, || {
            other
                .query_one("select wait_event_type = 'Lock' from pg_stat_activity where pid = $1", &[&pid])
                .unwrap()
                .get::<_, Option<bool>>(0)
                == Some(true)
        });
        other.batch_execute("commit").unwrap();
        watching.join().unwrap();
    });
    other.batch_execute("insert into root values (1); insert into t values (2)").unwrap();
    play.stage.wait_for_records("attach", 2);
}

#[test]
fn errors_of_utility_statements_keep_what_the_server_says() {
    let mut play = Play::new("errors", "create table t (id int constraint positive check (id > 0))");
    let error = play.admin.batch_execute("create table x (a nonsense)").unwrap_err();
    assert!(error.as_db_error().unwrap().position().is_some());
    play.admin.batch_execute("insert into t values (1)").unwrap();
    let error = play.admin.batch_execute("do $$ begin insert into t values (0); end $$").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::CHECK_VIOLATION);
    assert_eq!((error.table(), error.constraint()), (Some("t"), Some("positive")));
    assert!(error.where_().unwrap().contains("inline_code_block"));
}
