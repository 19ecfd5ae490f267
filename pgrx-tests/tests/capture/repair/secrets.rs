//! What is stored of changes that could not be captured, and who may read it.

use audit_algolia_tests::wait::stays_true;

use super::*;
use crate::play::failure;

/// Occurs nowhere else.
const RAW: &str = "raw-value-3b7d1";

#[test]
fn neither_table_nor_log_nor_warning_holds_values() {
    let stage = warning().setting("log_min_messages", "debug1").start().unwrap();
    let mut scene = Scene::new(&stage, "no_values");
    scene.run("create table t (id bigint primary key, who text, v text)");
    scene.watch("t", "columns => '{who, v}', pseudonymize => '{who, v}', operations => '{insert, update, delete}', filter => 'v::int > 0'");
    // Composed inside the server, so that statements in the log do not show it. PostgreSQL's own error quotes it.
    let raw = format!("'{}' || '{}'", &RAW[..6], &RAW[6..]);
    scene.run(&format!(
        "select set_config('audit_algolia.actor', {raw}, false); insert into t values (1, {raw}, {raw}), (2, {raw}, '1')"
    ));
    let warned = scene.warned();
    assert!(warned.iter().any(|one| one.message().contains("(22P02)")), "{warned:?}");
    assert!(!format!("{warned:?}").contains(RAW));
    scene.wait_for_attempts();
    let kept: String = one(&mut scene.db, "select r::text from audit_algolia.repair as r");
    assert!(!kept.contains(RAW), "{kept}");
    let pseudonym: String = one(&mut scene.db, &format!("select audit_algolia.pseudonym({raw})"));
    assert!(kept.contains(&pseudonym), "{kept}");
    scene.run("update t set v = '5' where id = 1");
    scene.wait_for_repairs();
    let records = stage.standin.index("no_values");
    assert_eq!(records.len(), 3, "the update is told of, too");
    assert!(records.values().all(|record| record["changed_by"] == *pseudonym && record["who"] == *pseudonym));
    assert!(!stage.cluster.log().contains(RAW));
    for request in stage.standin.requests() {
        assert!(!request.body_text().contains(RAW));
    }
}

#[test]
fn without_a_key_for_pseudonyms_nothing_leaves_and_nobody_is_named() {
    let stage = warning().setting("audit_algolia.pseudonym_key", "for-a-while").start().unwrap();
    let mut scene = Scene::new(&stage, "no_key");
    scene.run("create table t (id bigint primary key, who text)");
    scene.watch("t", "columns => '{who}', pseudonymize => '{who}', operations => '{insert, update}'");
    stage.cluster.set(&[("audit_algolia.pseudonym_key", "")]).unwrap();
    wait_until("no key", SOON, || scene.db.query_one("select audit_algolia.pseudonym('x')", &[]).is_err());
    scene.run("set audit_algolia.actor = 'alice'; insert into t values (1, 'bob')");
    assert_eq!(scene.warned().len(), 1);
    let kept: String = one(&mut scene.db, "select r::text from audit_algolia.repair as r");
    assert!(!kept.contains("alice") && !kept.contains("bob"), "{kept}");
    stays_true("nothing sent", MOMENT, || stage.standin.index("no_key").is_empty());
    stage.cluster.set(&[("audit_algolia.pseudonym_key", "another")]).unwrap();
    scene.wait_for_repairs();
    let records = stage.standin.index("no_key");
    let record = records.values().next().unwrap();
    assert!(record["who"].as_str().unwrap().starts_with("p_"));
    assert_eq!(record.get("changed_by"), None);
}

#[test]
fn a_key_that_becomes_a_secret_is_not_kept_any_longer() {
    let mut scene = shared("becomes_secret");
    scene.run("create table t (id text primary key, v int)");
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    scene.run(&format!("insert into t values ('{RAW}', 0)"));
    scene.run("select audit_algolia.unwatch('t')");
    scene.warned();
    scene.watch("t", &format!("columns => '{{v}}', pseudonymize => '{{id}}', {FILTER}"));
    let warned = scene.warned();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(
        warned[0].message(),
        "repairs of table becomes_secret.t were dropped, because their keys are now to be pseudonymized: 1"
    );
    assert!(!format!("{warned:?}").contains(RAW));
    assert_eq!(one::<i64>(&mut scene.db, &noted("becomes_secret")), 0);
    assert_eq!(scene.counts(), (0, 1, 0));
}

#[test]
fn repairs_are_seen_and_changed_by_the_owner_alone() {
    let mut scene = shared("rights_of_repairs");
    scene.run(
        "create table t (id bigint primary key, v int); grant usage on schema rights_of_repairs to app; grant insert on t to app;
         create role repair_monitor login; grant pg_monitor to repair_monitor",
    );
    scene.watch("t", &format!("columns => '{{v}}', {FILTER}"));
    let mut app = scene.stage.cluster.client("postgres", "app");
    // The writer needs no rights for a repair to be stored.
    app.batch_execute("insert into rights_of_repairs.t values (1, 0)").unwrap();
    assert_eq!(scene.counts(), (1, 1, 0));
    for statement in ["table audit_algolia.repair", "delete from audit_algolia.repair"] {
        assert_eq!(failure(&mut app, statement).code().code(), "42501");
    }
    let mut monitor = scene.stage.cluster.client("postgres", "repair_monitor");
    assert_eq!(failure(&mut monitor, "table audit_algolia.repair").code().code(), "42501");
    assert_eq!(counts(&mut monitor, "rights_of_repairs"), (1, 1, 0));
    let metrics: String = one(&mut monitor, "select audit_algolia.metrics()");
    let told = metrics
        .lines()
        .find(|line| line.starts_with("audit_algolia_repair_rows{") && line.contains("rights_of_repairs"));
    assert!(told.is_some_and(|line| line.ends_with(" 1")), "{told:?}");
    scene.run("update t set v = 1");
    scene.wait_for_repairs();
}
