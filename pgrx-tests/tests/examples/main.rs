//! The examples in `sql/examples`: psql runs each script as a reader would, and queries with a search key check what it
//! promises.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use audit_algolia_tests::cargo::workspace;
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::standin::ApiKey;
use postgres::Client;
use serde_json::Value;

mod page_config;
mod report_workspace;
mod scan_ingest;
mod scraped_content;
mod user_analytics;

#[path = "../support/mod.rs"]
mod support;

/// The key of the users, or the parent of their keys: it can search and do nothing else.
const SEARCH_KEY: &str = "search-key-of-a-reader";
/// The user that runs a script which needs no superuser.
const OWNER: &str = "app_owner";

fn stage() -> Stage {
    Stage::builder()
        .standin(|standin| standin.keys.push(ApiKey::new(SEARCH_KEY, &["search"])))
        .start()
        .unwrap()
}

/// Creates an owner of tables, with the rights that README.md says to grant.
fn owner(stage: &Stage, functions: &str) -> Client {
    stage
        .admin()
        .batch_execute(&format!(
            "create role {OWNER} login;
             grant create on database postgres to {OWNER};
             grant usage on schema audit_algolia to {OWNER};
             grant execute on function {functions} to {OWNER}"
        ))
        .unwrap();
    stage.cluster.client("postgres", OWNER)
}

/// Runs a script from beginning to end. Any unexpected output is an error. Returns the results of its queries, with
/// columns separated by `|`.
#[track_caller]
fn run(stage: &Stage, user: &str, script: &str) -> String {
    run_in(stage, "postgres", user, script)
}

#[track_caller]
fn run_in(stage: &Stage, database: &str, user: &str, script: &str) -> String {
    let key = format!("search_key={SEARCH_KEY}");
    let file = workspace().join("sql/examples").join(script);
    let file = file.to_str().unwrap();
    let arguments = ["-X", "-q", "-A", "-t", "-v", &key, "-f", file, database];
    let output = stage.cluster.run_as(user, "psql", &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "{script}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until everything that was queued has arrived, including settings, and nothing has become a dead letter.
#[track_caller]
fn settle(stage: &Stage) {
    let mut admin = stage.admin();
    let flushed: bool = admin.query_one("select audit_algolia.flush('2 min')", &[]).unwrap().get(0);
    assert!(flushed, "the queue is not empty");
    let dead = admin.query("select error from audit_algolia.dead_letters", &[]).unwrap();
    assert!(dead.is_empty(), "{dead:?}");
}

/// The key that a script prints for `holder`.
#[track_caller]
fn key_of(holder: &str, answers: &str) -> String {
    let line = answers.lines().find_map(|line| line.strip_prefix(holder)?.strip_prefix('|'));
    line.unwrap_or_else(|| panic!("no key for {holder}: {answers}")).to_owned()
}

/// Sends a query with a key.
#[track_caller]
fn query(stage: &Stage, key: &str, index: &str, query: &Value) -> Value {
    let client = support::Client::of(&stage.standin).with_key(key);
    let answer = client.post(&format!("/1/indexes/{index}/query"), query);
    assert_eq!(answer.status, 200, "{index} {query}: {}", answer.text);
    answer.json
}

fn hits(answer: &Value) -> &Vec<Value> {
    answer["hits"].as_array().unwrap()
}

/// The time of a change and its number, by which changes are ordered.
fn place(change: &Value) -> (f64, i64) {
    let id = change["objectID"].as_str().unwrap();
    (change["changed_at"].as_f64().unwrap(), id.rsplit_once('@').unwrap().1.parse().unwrap())
}

/// Sorts changes in the order in which they were made.
fn in_order(changes: &mut [Value]) {
    changes.sort_by(|a, b| place(a).partial_cmp(&place(b)).unwrap());
}

fn pseudonym(admin: &mut Client, value: &str) -> String {
    admin.query_one("select audit_algolia.pseudonym($1)", &[&value]).unwrap().get(0)
}

#[test]
fn every_script_runs_beside_the_others_and_again_in_another_database() {
    let stage = stage();
    stage.admin().batch_execute("create database other").unwrap();
    stage.cluster.client("other", "postgres").batch_execute("create extension audit_algolia").unwrap();
    let folder = std::fs::read_dir(workspace().join("sql/examples")).unwrap();
    let scripts: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(scripts.len(), 4, "each script has tests of its own: {scripts:?}");
    for script in &scripts {
        for database in ["postgres", "other"] {
            run_in(&stage, database, "postgres", script);
        }
    }
}
