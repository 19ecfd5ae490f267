//! A row is delivered if and only if its transaction commits.

use crate::play::{failure, one, texts, Play};

const TABLE: &str = "create table t (id bigint primary key, v text)";
const RULES: &str = "columns => '{id, v}'";

fn play(name: &'static str) -> Play {
    let mut play = Play::new(name, TABLE);
    play.watch("t", RULES);
    play
}

#[test]
fn only_what_savepoints_kept_arrives() {
    let mut play = play("savepoints");
    play.run(
        "begin;
         insert into t values (1);
         savepoint a; insert into t values (2); rollback to a; insert into t values (3); release a;
         savepoint b; insert into t values (4);
             savepoint c; insert into t values (5);
                 savepoint d; insert into t select generate_series(6, 1500); rollback to d;
             release c;
             savepoint e; insert into t values (1501); release e;
         savepoint f; insert into t values (1502); savepoint g; insert into t values (1503); release g; rollback to f;
         insert into t values (1504);
         commit",
    );
    play.run(
        "do $$ begin
             for i in 2001 .. 2100 loop
                 begin
                     insert into t values (i);
                     if i % 2 = 0 then raise 'undone'; end if;
                 exception when raise_exception then null;
                 end;
             end loop;
         end $$",
    );
    let kept = [1, 3, 4, 5, 1501, 1504].into_iter().chain((2001..2100).step_by(2));
    assert_eq!(play.ids(), texts(kept));
}

#[test]
fn a_savepoint_that_is_rolled_back_takes_all_below_it_along() {
    let mut play = play("savepoint_tree");
    play.run(
        "begin; savepoint a; savepoint b; insert into t values (1); release b; savepoint c; insert into t values (2);
         release c; rollback to a; commit;
         insert into t values (3)",
    );
    assert_eq!(play.ids(), ["3"]);
}

#[test]
fn prepared_transactions_deliver_when_they_commit() {
    let mut play = play("prepared");
    play.run("begin; insert into t values (1), (2); prepare transaction 'own'");
    play.run("begin; insert into t select generate_series(100, 1200); prepare transaction 'other'");
    play.run("begin; insert into t values (3); prepare transaction 'undone'");
    play.run("insert into t values (4)");
    assert_eq!(play.ids(), ["4"]);
    play.run("commit prepared 'own'");
    assert_eq!(play.ids(), ["1", "2", "4"]);
    let mut stranger = play.stage.cluster.client("postgres", "app");
    stranger.batch_execute("commit prepared 'other'").unwrap();
    stranger.batch_execute("rollback prepared 'undone'").unwrap();
    assert_eq!(play.ids(), texts([1, 2, 4].into_iter().chain(100..1201)));
}

#[test]
fn a_serializable_transaction_that_fails_queues_nothing() {
    let mut play = play("serializable");
    play.run("insert into t values (1, 'a'), (2, 'b')");
    let mut other = play.stage.cluster.client("postgres", "app");
    let begin = "begin isolation level serializable; select count(*) from t";
    other.batch_execute("set search_path = serializable").unwrap();
    other.batch_execute(begin).unwrap();
    play.run(begin);
    play.run("savepoint a; insert into t values (3); release a; insert into t values (4); commit");
    let refused =
        other.batch_execute("insert into t values (5)").and_then(|()| other.batch_execute("commit"));
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "40001");
    other
        .batch_execute("rollback; begin isolation level serializable; insert into t values (6); commit")
        .unwrap();
    play.run("begin isolation level repeatable read; insert into t values (7); commit");
    assert_eq!(play.ids(), ["1", "2", "3", "4", "6", "7"]);
}

#[test]
fn deferred_constraints_decide_over_queued_rows() {
    let mut play = Play::new(
        "deferred",
        "create table t (id bigint primary key, v text, unique (v) deferrable initially deferred)",
    );
    play.watch("t", RULES);
    let error = failure(&mut play.app, "begin; insert into t values (1, 'x'), (2, 'x'); commit");
    assert_eq!(error.code().code(), "23505");
    play.run("rollback");
    play.run("begin; insert into t values (3, 'x'), (4, 'x'); update t set v = 'y' where id = 4; commit");
    let records = play.records();
    assert_eq!(records.keys().collect::<Vec<_>>(), ["3", "4"]);
    // The record shows the row as it was inserted.
    assert_eq!(records["4"]["v"], "x");
}

#[test]
fn two_tables_in_one_transaction_arrive_together() {
    let mut play =
        Play::new("pairs", "create table t (id bigint primary key); create table u (id bigint primary key)");
    play.watch("t", "columns => '{id}', object_prefix => 't:'");
    play.watch("u", "columns => '{id}', object_prefix => 'u:'");
    play.run("begin; insert into t values (1); insert into u values (1); commit");
    play.run("begin; insert into t values (2); insert into u values (2); rollback");
    assert_eq!(play.ids(), ["t:1", "u:1"]);
}

#[test]
fn a_writer_that_has_queued_rows_is_told_not_to_flush() {
    let mut play = play("flushing");
    play.admin.batch_execute("begin; insert into flushing.t values (1)").unwrap();
    let error = failure(&mut play.admin, "select audit_algolia.flush()");
    assert_eq!(error.code().code(), "25001");
    assert!(error.hint().is_some());
    play.admin.batch_execute("rollback").unwrap();
    let queued: i64 = one(
        &mut play.admin,
        "select count(*) from audit_algolia.queue as q
        join audit_algolia.sources as s on s.id = q.source where s.index_name = 'flushing'",
    );
    assert_eq!(queued, 0);
}
