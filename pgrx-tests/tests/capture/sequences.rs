//! A session's own sequence values are not affected: some drivers learn the id of a new row from `lastval()`.

use crate::play::{one, Play};

#[test]
fn lastval_is_that_of_the_writers_own_sequence() {
    let mut play = Play::new("lastval", "create table t (id serial primary key, v text)");
    play.watch("t", "columns => '{v}'");
    for id in 1..=3 {
        play.app.batch_execute("insert into t (v) values ('a')").unwrap();
        assert_eq!(one::<i64>(&mut play.app, "select lastval()"), id);
    }
    // More than one block of ids in a transaction.
    play.app.batch_execute("begin; insert into t (v) select 'b' from generate_series(1, 5000)").unwrap();
    assert_eq!(one::<i64>(&mut play.app, "select lastval()"), 5003);
    play.app.batch_execute("commit").unwrap();
    assert_eq!(play.ids().len(), 5003);
}

#[test]
fn who_has_used_no_sequence_has_no_lastval() {
    let mut play = Play::new("no_lastval", "create table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}'");
    play.app.batch_execute("insert into t values (1, 'a')").unwrap();
    let error = crate::play::failure(&mut play.app, "select lastval()");
    assert_eq!(error.code().code(), "55000", "{error}");
}

#[test]
fn many_sessions_take_ids_in_the_order_of_their_commits() {
    let mut play = Play::new("in_turn", "create table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}'");
    play.admin.batch_execute("select audit_algolia.pause('in_turn')").unwrap();
    let mut sessions: Vec<_> = (0..3).map(|_| play.stage.cluster.client("postgres", "postgres")).collect();
    for id in 0..300 {
        let insert = format!("insert into in_turn.t values ({id}, 'a')");
        sessions[id % 3].batch_execute(&insert).unwrap();
    }
    let in_order: bool = one(
        &mut play.admin,
        "select array_agg(q.object_id order by q.id) = array_agg(q.object_id order by q.object_id)
         from (select id, (record::json ->> 'objectID')::int as object_id from audit_algolia.queue
               where index_id = (select i.id from audit_algolia.index as i where i.name = 'in_turn')) as q",
    );
    assert!(in_order);
    play.admin.batch_execute("select audit_algolia.resume('in_turn')").unwrap();
}
