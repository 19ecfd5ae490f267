//! Repairs that wait survive crashes, dumps and databases of all encodings.

use audit_algolia_tests::server::StopMode;
use serde_json::json;

use super::*;
use crate::play::failure;

const TABLE: &str = "create table t (id text primary key, v int)";

#[test]
fn a_crash_loses_no_repair_and_no_count() {
    // What was queued but not delivered before the crash waits as long as it may still be in flight.
    let stage = warning().setting("audit_algolia.request_timeout", "1s").start().unwrap();
    let mut scene = Scene::new(&stage, "crash");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    scene.run("insert into t values ('a', 0), ('b', 2), ('c', 0)");
    scene.run("begin; insert into t values ('d', 0); prepare transaction 'later'");
    stage.cluster.restart(StopMode::Immediate).unwrap();
    let mut db = stage.admin();
    assert_eq!(counts(&mut db, "crash").0, 2);
    db.batch_execute("commit prepared 'later'").unwrap();
    db.batch_execute("set search_path = crash").unwrap();
    wait_until("the third", SOON, || counts(&mut db, "crash").0 == 3);
    db.batch_execute(
        "alter table t disable trigger all; update t set v = 1 where id = 'a'; delete from t where id = 'c'",
    )
    .unwrap();
    db.batch_execute("alter table t enable trigger all; update t set v = 4 where id = 'd'").unwrap();
    wait_until("repairs", SOON, || counts(&mut db, "crash").0 == 0);
    wait_until("their records", SOON, || stage.standin.index("crash").len() == 3);
    stage.cluster.restart(StopMode::Immediate).unwrap();
    let mut db = stage.admin();
    assert_eq!(counts(&mut db, "crash").0, 0);
}

#[test]
fn a_dump_carries_repairs_along() {
    let old = warning().setting("audit_algolia.workers", 0).start().unwrap();
    let mut scene = Scene::new(&old, "dumped");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run("insert into t values ('a', 0), ('b', 0), ('c', 3)");
    scene.run("alter table t disable trigger all; update t set v = 5 where id = 'a'; alter table t enable trigger all");
    let new = warning().start().unwrap();
    new.admin().batch_execute("create database restored template template0").unwrap();
    let file = old.cluster.socket_dir().join("dump.sql");
    let path = file.to_str().unwrap();
    old.cluster.run("pg_dump", &["-f", path, "postgres"]).unwrap();
    new.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, "restored"]).unwrap();
    let mut db = new.cluster.client("restored", "postgres");
    new.wait_for_records("dumped", 2);
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.repair"), 1);
    db.batch_execute("update dumped.t set v = 6 where id = 'b'").unwrap();
    new.wait_for_records("dumped", 3);
    db.batch_execute("insert into dumped.t values ('d', 0)").unwrap();
    let newest = "select key[1] from audit_algolia.repair order by number desc limit 1";
    assert_eq!(one::<String>(&mut db, newest), "d", "numbers go on");
}

#[test]
fn bytes_that_are_no_text_are_left_out_or_refused() {
    let stage = warning().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create database ascii template template0 encoding 'SQL_ASCII' locale 'C'").unwrap();
    let mut db = stage.cluster.client("ascii", "postgres");
    db.batch_execute(
        "create extension audit_algolia;
         create table t (id text primary key, v text);
         select audit_algolia.watch('t', 'ascii', columns => '{v}');
         insert into t values ('1', 'plain'), ('2', convert_from('\\xff', 'SQL_ASCII')), (convert_from('\\xc3a4', 'SQL_ASCII'), 'ok');
         insert into t values (convert_from('\\xe4', 'SQL_ASCII'), 'bad key')",
    )
    .unwrap();
    stage.wait_for_records("ascii", 2);
    assert_eq!(counts(&mut db, "ascii").0, 2);
    let why: String = one(&mut db, "select distinct error from audit_algolia.repair");
    assert_eq!(why, "character not in repertoire (22021)");
    db.batch_execute("update t set v = 'repaired' where id = '2'").unwrap();
    stage.wait_for_records("ascii", 3);
    assert_eq!(stage.standin.index("ascii")["2"]["v"], "repaired");
    assert_eq!(counts(&mut db, "ascii").0, 1);
    // The bytes of its key are in the database's encoding, so that it can be found, and its object has no name.
    assert!(one::<bool>(
        &mut db,
        "select key[1] = (select id from t where v = 'bad key') from audit_algolia.repair"
    ));
    stage.cluster.set(&[("audit_algolia.on_capture_error", "error")]).unwrap();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == "error"
    });
    let error = failure(&mut db, "insert into t values ('3', convert_from('\\xff', 'SQL_ASCII'))");
    assert_eq!(error.code().code(), "22021");
}

#[test]
fn a_key_that_is_no_ascii_is_found_again_in_a_database_in_latin1() {
    let stage = warning().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute("create database latin template template0 encoding 'LATIN1' locale 'C'").unwrap();
    let mut db = stage.cluster.client("latin", "postgres");
    db.batch_execute(&format!(
        "create extension audit_algolia; {TABLE};
         select audit_algolia.watch('t', 'latin', columns => '{{v}}', operations => '{{insert, delete}}', {FILTER});
         select audit_algolia.watch('t', 'latin_mirror', columns => '{{v}}', mode => 'mirror', {FILTER});
         set audit_algolia.actor = 'Jürgen';
         insert into t values ('é', 0), ('ü', 0), ('ÿ', 1); delete from t where id = 'ü'; update t set v = 7 where v = 0"
    ))
    .unwrap();
    wait_until("the mirror", SOON, || {
        stage.standin.index("latin_mirror").keys().cloned().collect::<Vec<_>>() == ["é", "ÿ"]
    });
    stage.wait_for_records("latin", 2);
    let records = stage.standin.index("latin");
    let told = records.values().find(|record| record["v"] == 7).unwrap();
    assert_eq!((&told["op"], &told["changed_by"]), (&json!("insert"), &json!("Jürgen")));
    // For deleted rows, only the key is recorded.
    wait_until("dead letters", SOON, || counts(&mut db, "latin") == (0, 3, 2));
    let record: String = one(&mut db, "select min(record::text) from audit_algolia.dead_letters");
    assert!(record.contains("\\u00fc@") || record.contains("ü@"), "{record}");
}

/// No later attempt could make an objectID from it.
#[test]
fn a_key_that_makes_no_object_id_fails_the_statement_and_leaves_no_repair() {
    let mut scene = shared("no_object_id");
    scene.run(TABLE);
    scene.watch("t", &format!("columns => '{{v}}', mode => 'mirror', {FILTER}"));
    let error = failure(&mut scene.db, "insert into t values ('a', 1), ('', 1)");
    assert_eq!(error.code().code(), "23502", "{error:?}");
    assert!(error
        .detail()
        .is_some_and(|detail| detail.contains("on_capture_error = warn does not apply here")));
    assert_eq!(scene.counts(), (0, 0, 0));
    // A repair for another reason ends when the row is deleted, because it never had an object.
    scene.run("insert into t values ('', 0), ('b', 2)");
    assert_eq!(scene.counts().0, 1);
    scene.run(
        "alter table t disable trigger user; delete from t where id = ''; alter table t enable trigger user",
    );
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["b"]);
    assert_eq!(scene.counts().2, 0);
}
