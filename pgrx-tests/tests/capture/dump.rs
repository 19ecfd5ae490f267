//! A dump contains table, rules and undelivered rows, which are delivered from the restored cluster.

use std::sync::{Arc, Mutex};

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::error::DbError;

use crate::play::{one, watch, Play};

#[test]
fn a_dump_carries_undelivered_rows_along() {
    let old = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut admin = old.admin();
    admin
        .batch_execute(
            "create schema s;
             create table s.\"T t\" (gone int, id int primary key, v text); alter table s.\"T t\" drop column gone;
             create table zz (id int primary key) partition by list (id); create table leaf partition of zz default;
             create table c (id int primary key, v text);
             create function s.fine(text) returns boolean language sql stable as $$ select $1 <> 'hidden' $$",
        )
        .unwrap();
    watch(&mut admin, "s.\"T t\"", "t", "columns => '{v}'");
    watch(&mut admin, "zz", "zz", "columns => '{id}', alert => 'id > 1'");
    watch(
        &mut admin,
        "c",
        "c",
        "columns => '{v}', operations => '{insert, update, delete}', filter => 's.fine(v)'",
    );
    admin
        .batch_execute("insert into s.\"T t\" select i, 'v' from generate_series(1, 2000) as i; insert into zz values (1); insert into c values (1, 'a'), (2, 'hidden'); update c set v = 'b' where id = 1; select audit_algolia.configure_index('t')")
        .unwrap();
    let new = Stage::builder().start().unwrap();
    new.admin().batch_execute("create database restored template template0").unwrap();
    let file = old.cluster.socket_dir().join("dump.sql");
    let path = file.to_str().unwrap();
    old.cluster.run("pg_dump", &["-f", path, "postgres"]).unwrap();
    new.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, "restored"]).unwrap();
    new.wait_for_records("t", 2000);
    new.wait_for_records("zz", 1);
    wait_until("the settings", SOON, || new.standin.settings("t").is_some());
    new.wait_for_records("c", 2);
    let mut restored = new.cluster.client("restored", "postgres");
    restored
        .batch_execute("insert into s.\"T t\" values (5000, 'new'), (5001, 'new'); insert into zz values (2)")
        .unwrap();
    new.wait_for_records("t", 2002);
    new.wait_for_records("zz", 2);
    let alerting = new.standin.index("zz").into_values().filter(|record| record.get("alert").is_some());
    assert_eq!(alerting.map(|record| record["objectID"].to_string()).collect::<Vec<_>>(), ["\"2\""]);
    assert_eq!(new.standin.index("t")["5001"]["v"], "new");
    restored
        .batch_execute("update c set v = 'hidden' where id = 1; insert into c values (3, 'c'), (4, 'hidden'); delete from c")
        .unwrap();
    new.wait_for_records("c", 4);
    let mut told: Vec<String> = new.standin.index("c").values().map(crate::changes::brief).collect();
    told.sort();
    assert_eq!(told, ["1 insert a", "1 update b a", "3 delete c", "3 insert c"]);
    let states: Vec<String> = restored
        .query("select state from audit_algolia.sources", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(states, ["watching", "watching", "watching"]);
    restored.batch_execute("create table later (id int primary key)").unwrap();
    let id: i32 = one(&mut restored, "select audit_algolia.watch('later', columns => '{id}')");
    assert_eq!(id, 4);
}

/// Tables without their rules: their changes are not captured, a warning says so, and no statement fails for it.
#[test]
fn a_copy_of_the_schema_alone_can_be_written_to_and_watched_anew() {
    let stage = Stage::builder().setting("audit_algolia.on_capture_error", "warn").start().unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create table t (id int primary key, v text);
             create table m (id int primary key, v text) partition by range (id);
             create table low partition of m for values from (0) to (100);
             create table high partition of m for values from (100) to (200);
             create table u (id int primary key, v text)",
        )
        .unwrap();
    admin.batch_execute("create database bare template template0").unwrap();
    watch(&mut admin, "t", "t", "columns => '{v}', operations => '{insert, update, delete}'");
    watch(&mut admin, "m", "m", "columns => '{v}', mode => 'mirror'");
    watch(&mut admin, "u", "u", "columns => '{v}', operations => '{insert, truncate}'");
    let file = stage.cluster.socket_dir().join("schema.sql");
    let path = file.to_str().unwrap();
    let said = stage.cluster.run("pg_dump", &["-s", "-f", path, "postgres"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    stage.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, "bare"]).unwrap();

    let warnings: Arc<Mutex<Vec<DbError>>> = Arc::default();
    let heard = warnings.clone();
    let mut config: postgres::Config = stage.cluster.connection_string("bare", "postgres").parse().unwrap();
    config.notice_callback(move |notice| heard.lock().unwrap().push(notice));
    let mut bare = config.connect(postgres::NoTls).unwrap();
    for setting in ["warn", "error"] {
        stage.cluster.set(&[("audit_algolia.on_capture_error", setting)]).unwrap();
        wait_until("the setting", SOON, || {
            one::<String>(&mut bare, "select current_setting('audit_algolia.on_capture_error')") == setting
        });
        bare.batch_execute(
            "insert into t values (1, 'a'), (2, 'b'); update t set v = 'c'; delete from t;
             insert into m select i, 'm' from generate_series(1, 150) as i; update m set v = 'n'; truncate m;
             insert into u values (1, 'u'); truncate u",
        )
        .unwrap();
    }
    let said: Vec<String> = warnings.lock().unwrap().iter().map(|said| said.message().to_owned()).collect();
    assert_eq!(said.iter().filter(|said| said.contains("\"t\" are not captured")).count(), 1, "{said:?}");
    assert_eq!(said.len(), 5, "for each table and partition once: {said:?}");
    let hints = warnings.lock().unwrap();
    let helps =
        |hint: &str| hint.contains("audit_algolia.watch()") && hint.contains("audit_algolia.unwatch()");
    assert!(hints.iter().all(|said| said.hint().is_some_and(helps)), "{hints:?}");
    drop(hints);
    let states =
        "select string_agg(source || ' ' || state || ' ' || operations::text, ', ' order by source::text)
                  from audit_algolia.sources";
    assert_eq!(
        one::<String>(&mut bare, states),
        "m source missing {delete,insert,truncate,update}, t source missing {delete,insert,update}, u source missing {insert,truncate}"
    );

    // Other tables get the ids that the triggers name.
    watch(&mut bare, "m", "m_anew", "columns => '{v}', mode => 'mirror'");
    watch(&mut bare, "u", "u_anew", "columns => '{v}'");
    watch(&mut bare, "t", "t_anew", "columns => '{v}'");
    assert_eq!(
        one::<String>(&mut bare, states),
        "m watching {insert,update,delete,truncate}, t watching {insert}, u watching {insert}"
    );
    bare.batch_execute(
        "insert into t values (1, 'a'); update t set v = 'b'; delete from t;
         insert into m values (1, 'm'), (101, 'n'), (102, 'o'); truncate high;
         insert into u values (1, 'u'); truncate u",
    )
    .unwrap();
    stage.wait_for_records("t_anew", 1);
    stage.wait_for_records("u_anew", 1);
    wait_until("the mirror", SOON, || {
        one(&mut bare, "select audit_algolia.flush()") && stage.standin.index("m_anew").len() == 1
    });
}

#[test]
fn unwatch_takes_triggers_off_that_have_come_without_their_rules() {
    let mut play = Play::new("leftover", "create table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}', operations => '{insert, truncate}'");
    // This is the state that a dump of the schema alone leaves.
    play.admin.batch_execute("delete from audit_algolia.source where relation = 't'::regclass").unwrap();
    play.run("insert into t values (1, 'a')");
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    let triggers: i64 = one(&mut play.admin, "select count(*) from pg_trigger where tgrelid = 't'::regclass");
    assert_eq!(triggers, 0);
    assert_eq!(play.arrivals(), 0);
    let error = crate::play::failure(&mut play.admin, "select audit_algolia.unwatch('t')");
    assert_eq!(error.code().code(), "42704");
}
