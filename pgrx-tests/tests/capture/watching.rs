//! A watch from beginning to end, several times, and what `sources` shows.

use crate::play::{failure, one, Play};

fn state(play: &mut Play) -> Vec<(String, String)> {
    let query = format!(
        "select source::text, state from audit_algolia.sources where index_name = '{}' order by id",
        play.name
    );
    let rows = play.admin.query(&query, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn rows_queued_before_the_watch_ended_still_arrive() {
    let mut play = Play::new("ended", "create table t (id int primary key)");
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("select audit_algolia.pause('ended')").unwrap();
    play.run("insert into t select generate_series(1, 500)");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.run("insert into t values (501)");
    assert_eq!(state(&mut play), []);
    assert_eq!(play.stage.standin.index("ended").len(), 0);
    play.admin.batch_execute("select audit_algolia.resume('ended')").unwrap();
    assert_eq!(play.records().len(), 500);
    play.watch("t", "columns => '{id}', object_prefix => 'again:'");
    play.run("insert into t values (502)");
    let ids = play.ids();
    assert_eq!(ids.len(), 501);
    assert!(ids.contains(&"again:502".to_owned()));
}

#[test]
fn rows_of_a_dropped_table_still_arrive() {
    let mut play = Play::new("dropped", "create table t (id int primary key)");
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("select audit_algolia.pause('dropped')").unwrap();
    play.run("insert into t select generate_series(1, 500)");
    play.owner.batch_execute("drop table t").unwrap();
    assert_eq!(state(&mut play), []);
    play.admin.batch_execute("select audit_algolia.resume('dropped')").unwrap();
    assert_eq!(play.records().len(), 500);
    play.owner.batch_execute("create table t (id int primary key)").unwrap();
    play.watch("t", "columns => '{id}'");
    play.run("insert into t values (501)");
    assert_eq!(play.records().len(), 501);
}

#[test]
fn a_watch_that_is_rolled_back_leaves_nothing() {
    let mut play = Play::new("undone", "create table t (id int primary key)");
    play.admin.batch_execute("begin").unwrap();
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("insert into t values (1); rollback").unwrap();
    play.run("insert into t values (2)");
    let known: i64 = one(&mut play.admin, "select count(*) from audit_algolia.index where name = 'undone'");
    assert_eq!(known, 0);
    play.admin.batch_execute("begin").unwrap();
    play.watch("t", "columns => '{id}'");
    play.admin.batch_execute("insert into t values (3); commit").unwrap();
    play.admin
        .batch_execute("begin; select audit_algolia.unwatch('t'); insert into t values (4); rollback")
        .unwrap();
    play.run("insert into t values (5)");
    assert_eq!(play.ids(), ["3", "5"]);
}

#[test]
fn sources_tell_whether_the_trigger_is_in_place() {
    let mut play = Play::new("states", "create table t (id int primary key); create table p (id int primary key) partition by list (id); create table leaf partition of p default");
    play.watch("t", "columns => '{id}'");
    play.watch("p", "columns => '{id}', object_prefix => 'p'");
    assert_eq!(
        state(&mut play),
        [("t".to_owned(), "watching".to_owned()), ("p".to_owned(), "watching".to_owned())]
    );
    let id: i32 = one(&mut play.admin, "select id from audit_algolia.sources where source = 't'::regclass");
    play.owner.batch_execute(&format!("alter table t disable trigger audit_algolia_{id}_insert")).unwrap();
    assert_eq!(state(&mut play)[0].1, "trigger disabled");
    play.run("insert into t values (1)");
    play.owner.batch_execute(&format!("alter table t enable trigger audit_algolia_{id}_insert")).unwrap();
    assert_eq!(state(&mut play)[0].1, "watching");
    play.owner.batch_execute(&format!("drop trigger audit_algolia_{id}_insert on t")).unwrap();
    assert_eq!(state(&mut play)[0].1, "trigger missing");
    play.run("insert into t values (2)");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{id}'");
    play.run("insert into t values (3)");
    assert_eq!(play.ids(), ["3"]);
}

#[test]
fn a_table_may_be_watched_for_several_indices() {
    let mut play = Play::new("several", "create table t (id int primary key, v text, w text)");
    play.watch("t", "columns => '{v}'");
    crate::play::watch(&mut play.admin, "t", "several_more", "columns => '{w AS x}'");
    play.run("insert into t values (1, 'a', 'b')");
    play.admin.batch_execute("select audit_algolia.unwatch('t', 'several')").unwrap();
    play.run("insert into t values (2, 'c', 'd')");
    assert_eq!(play.ids(), ["1"]);
    crate::play::settle(&mut play.admin, "several_more");
    let more = play.stage.standin.index("several_more");
    assert_eq!(more.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(more["2"], serde_json::json!({"objectID": "2", "x": "d"}));
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    let error = failure(&mut play.admin, "select audit_algolia.unwatch('t')");
    assert_eq!(error.code().code(), "42704");
}

/// Sessions that have captured rows before must follow the new rules at once.
#[test]
fn other_sessions_follow_new_rules_at_once() {
    let mut play = Play::new("followed", "create table t (id int primary key, v text, w text)");
    play.watch("t", "columns => '{v}'");
    play.run("insert into t values (1, 'a', 'b')");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{w}'");
    play.run("insert into t values (2, 'c', 'd')");
    play.admin
        .batch_execute("begin; select audit_algolia.unwatch('t'); select audit_algolia.watch('t', 'followed', columns => '{v,w}'); commit")
        .unwrap();
    play.run("insert into t values (3, 'e', 'f')");
    let records = play.records();
    assert_eq!(records["2"], serde_json::json!({"objectID": "2", "w": "d"}));
    assert_eq!(records["3"], serde_json::json!({"objectID": "3", "v": "e", "w": "f"}));
}

#[test]
fn dropping_the_extension_lets_writers_go_on() {
    let stage = audit_algolia_tests::stage::Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create table t (id int primary key)").unwrap();
    crate::play::watch(&mut admin, "t", "t", "columns => '{id}'");
    let mut writer = stage.admin();
    writer.batch_execute("insert into t values (1)").unwrap();
    stage.wait_for_records("t", 1);
    let refused = failure(&mut admin, "drop extension audit_algolia");
    assert_eq!(refused.code().code(), "2BP01");
    admin.batch_execute("drop extension audit_algolia cascade").unwrap();
    writer.batch_execute("insert into t values (2)").unwrap();
    let mut watcher = stage.admin();
    audit_algolia_tests::wait::wait_until("no worker", audit_algolia_tests::stage::SOON, || {
        one::<i64>(
            &mut watcher,
            "select count(*) from pg_stat_activity where backend_type = 'audit_algolia worker'",
        ) == 0
    });
    admin.batch_execute("create extension audit_algolia").unwrap();
    crate::play::watch(&mut admin, "t", "t", "columns => '{id}'");
    writer.batch_execute("insert into t values (3); insert into t select generate_series(10, 500)").unwrap();
    stage.wait_for_records("t", 493);
}

/// Runs `call` in a session that has to wait while two tables swap names, and returns the result.
fn while_tables_change_names(play: &mut Play, call: &str) -> Result<(), postgres::Error> {
    play.owner
        .batch_execute("begin; lock t; alter table t rename to t_old; alter table t_new rename to t")
        .unwrap();
    let (stage, name) = (play.stage, play.name);
    let mut waiting = stage.admin();
    waiting.batch_execute(&format!("set search_path = {name}")).unwrap();
    let pid: i32 = one(&mut waiting, "select pg_backend_pid()");
    std::thread::scope(|scope| {
        let called = scope.spawn(move || waiting.batch_execute(call));
        audit_algolia_tests::wait::wait_until(
            "a session that waits",
            audit_algolia_tests::stage::SOON,
            || {
                let waits = format!("select exists (select from pg_locks where pid = {pid} and not granted)");
                called.is_finished() || one(&mut play.admin, &waits)
            },
        );
        play.owner.batch_execute("commit").unwrap();
        called.join().unwrap()
    })
}

#[test]
fn a_watch_that_waited_is_over_the_table_that_was_meant_whatever_its_name_is_now() {
    let mut play =
        Play::new("renamed", "create table t (id int primary key); create table t_new (id int primary key)");
    while_tables_change_names(&mut play, "select audit_algolia.watch('t', 'renamed', columns => '{id}')")
        .unwrap();
    assert_eq!(state(&mut play), [("t_old".to_owned(), "watching".to_owned())]);
    play.run("insert into t values (1); insert into t_old values (2)");
    assert_eq!(play.ids(), ["2"]);
}

#[test]
fn an_unwatch_that_waited_frees_the_table_that_was_meant() {
    let mut play = Play::new(
        "renamed_back",
        "create table t (id int primary key); create table t_new (id int primary key)",
    );
    play.watch("t", "columns => '{id}'");
    crate::play::watch(
        &mut play.admin,
        "t_new",
        "renamed_back",
        "columns => '{id}', object_prefix => 'new:'",
    );
    while_tables_change_names(&mut play, "select audit_algolia.unwatch('t')").unwrap();
    assert_eq!(state(&mut play), [("t".to_owned(), "watching".to_owned())]);
    play.run("insert into t values (1); insert into t_old values (2)");
    assert_eq!(play.ids(), ["new:1"]);
}

#[test]
fn a_history_that_was_asked_for_meanwhile_is_that_of_the_table_that_was_meant() {
    let mut play = Play::new(
        "renamed_history",
        "create table t (id int primary key); create table t_new (id int primary key)",
    );
    play.run("insert into t values (1); insert into t_new values (2)");
    crate::play::watch(&mut play.admin, "t", "renamed_history", "columns => '{id}', mode => 'mirror'");
    while_tables_change_names(&mut play, "select audit_algolia.backfill('t')").unwrap();
    audit_algolia_tests::wait::wait_until("the rows", audit_algolia_tests::stage::SOON, || {
        play.ids() == ["1"]
    });
}

#[test]
fn rows_that_were_asked_for_meanwhile_are_those_of_the_table_that_was_meant() {
    let mut play = Play::new(
        "renamed_rows",
        "create table t (id int primary key); create table t_new (id int primary key)",
    );
    play.watch("t", "columns => '{id}'");
    play.run("insert into t values (1); insert into t_new values (2)");
    while_tables_change_names(&mut play, "create table told as select audit_algolia.preview('t') as record")
        .unwrap();
    let told: Vec<String> =
        one(&mut play.admin, "select array_agg(record ->> 'objectID') from renamed_rows.told");
    assert_eq!(told, ["1"]);
}

#[test]
fn events_that_were_asked_for_meanwhile_are_those_of_the_table_that_was_meant() {
    let table = "(id int primary key, user_id int, event text, at timestamptz default '2026-01-01 12:00Z')";
    let mut play =
        Play::new("renamed_events", &format!("create table t {table}; create table t_new {table}"));
    play.watch("t", "columns => '{at}', time_column => 'at'");
    play.run("insert into t values (1, 1, 'a'); insert into t_new values (1, 1, 'b')");
    let call = "create table told as select action from audit_algolia.activity('t', '2026-01-01 12:30Z')";
    while_tables_change_names(&mut play, call).unwrap();
    let told: Vec<Option<String>> =
        one(&mut play.admin, "select array_agg(action order by action) from renamed_events.told");
    assert_eq!(told, [Some("a".to_owned()), None]);
}

/// The table's owner is checked once the lock is held.
#[test]
fn whoever_has_given_a_table_away_meanwhile_cannot_watch_it() {
    let mut play = Play::new("given", "create table t (id int primary key)");
    play.admin
        .batch_execute(
            "create role giver login; create role given_heir; grant usage, create on schema given to giver, given_heir;
             grant usage on schema audit_algolia to giver;
             grant execute on function audit_algolia.watch, audit_algolia.unwatch, audit_algolia.backfill to giver",
        )
        .unwrap();
    let mut look = play.stage.admin();
    for call in [
        "select audit_algolia.watch('t', 'given', columns => '{id}')",
        "select audit_algolia.unwatch('t')",
        "select audit_algolia.backfill('t')",
    ] {
        play.admin.batch_execute("alter table t owner to giver").unwrap();
        if !call.contains(".watch") && state(&mut play).is_empty() {
            play.watch("t", "columns => '{id}', mode => 'mirror'");
        }
        let mut giver = play.stage.cluster.client("postgres", "giver");
        giver.batch_execute("set search_path = given").unwrap();
        let pid: i32 = one(&mut giver, "select pg_backend_pid()");
        play.admin.batch_execute("begin; alter table t owner to given_heir").unwrap();
        let error = std::thread::scope(|scope| {
            let called = scope.spawn(move || failure(&mut giver, call));
            audit_algolia_tests::wait::wait_until(
                "a session that waits",
                audit_algolia_tests::stage::SOON,
                || {
                    let waits =
                        format!("select exists (select from pg_locks where pid = {pid} and not granted)");
                    called.is_finished() || one(&mut look, &waits)
                },
            );
            play.admin.batch_execute("commit").unwrap();
            called.join().unwrap()
        });
        assert_eq!(error.code().code(), "42501", "{call}: {}", error.message());
    }
}
