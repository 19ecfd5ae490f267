//! Settings of a database or a role that must not affect the background processes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::Value;

use crate::support::*;

/// It is in each row, so it must not be in the log.
const MARKER: &str = "marker-4c1d";

/// One value of each kind whose text depends on a setting.
const COLUMNS: &str =
    "id bigint primary key, v int, note text, at timestamptz, day date, span interval, bytes bytea, \
    number double precision, amount numeric, kind regclass, document jsonb, list text[]";

const ROWS: &str = "select n, case when n % 2 = 0 then 0 else n end, 'marker-4c1d ' || n, \
    timestamptz '2026-05-04 03:02:01+02' + n * interval '1 day', date '2026-05-04', interval '1 day 2:03' * n, \
    '\\xdeadbeef'::bytea, 1.0::float8 / (3 * n), n / 7.0, 'pg_catalog.pg_class'::regclass, \
    jsonb_build_object('n', n), array['a b', null] from generate_series(1, 20) as n";

/// What does not follow from the list of settings: values for settings that take a text, and settings that are not in
/// the list.
const TEXTS: &[(&str, &str)] = &[
    ("role", "app"),
    ("session_authorization", "app"),
    ("search_path", "evil, pg_catalog"),
    ("datestyle", "'SQL, DMY'"),
    ("timezone", "'Asia/Kolkata'"),
    ("lc_messages", "'C.UTF-8'"),
    ("lc_numeric", "'C.UTF-8'"),
    ("lc_time", "'C.UTF-8'"),
    ("lc_monetary", "'C.UTF-8'"),
    ("client_encoding", "latin1"),
    ("timezone_abbreviations", "'Australia'"),
    ("default_text_search_config", "'pg_catalog.simple'"),
    ("default_table_access_method", "heap"),
    ("wal_consistency_checking", "'all'"),
    ("default_tablespace", "pg_global"),
    ("temp_tablespaces", "pg_global"),
    ("backtrace_functions", "'ExecInsert,ExecDelete,SPI_execute_plan'"),
    ("dynamic_library_path", "'/nowhere'"),
    ("session_preload_libraries", "nowhere"),
    ("local_preload_libraries", "nowhere"),
    ("application_name", "'somebody'"),
    ("audit_algolia.actor", "'somebody'"),
    // A setting of Debian's.
    ("extension_destdir", "'/nowhere'"),
    ("restrict_nonsystem_relation_kind", "'view, foreign-table'"),
];

/// Settings that PostgreSQL refuses to combine with others.
const NOT_TOGETHER: &[&str] = &["log_statement_stats"];

/// Everything that can be set for a database, with values that it does not have; `round` chooses them.
fn hostile(db: &mut Client, round: usize) -> Vec<(String, String)> {
    let query = "select name, vartype, setting, min_val, max_val, enumvals from pg_settings
        where context in ('user', 'superuser') and name <> all ($1)";
    let mut all: Vec<(String, String)> = Vec::new();
    for row in db.query(query, &[&NOT_TOGETHER]).unwrap() {
        let (name, kind, now): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let value = match kind.as_str() {
            "bool" => Some(if now == "on" { "off" } else { "on" }.to_owned()),
            "enum" => {
                let others: Vec<String> = row.get(5);
                let others: Vec<String> = others.into_iter().filter(|other| *other != now).collect();
                others.get(round % others.len().max(1)).map(|other| format!("'{other}'"))
            }
            "integer" | "real" => {
                Some(format!("'{}'", row.get::<_, String>(if round % 2 == 0 { 3 } else { 4 })))
            }
            _ => None,
        };
        all.extend(value.map(|value| (name, value)));
    }
    all.extend(TEXTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

/// Settings of later versions of PostgreSQL must be listed above too.
#[test]
fn every_setting_that_takes_a_text_is_among_those_that_are_tried() {
    let stage = Stage::builder().start().unwrap();
    let tried: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
    let left_out = "select coalesce(string_agg(name, ', '), '') from pg_settings
        where context in ('user', 'superuser') and vartype = 'string' and lower(name) <> all ($1)";
    let left_out: String = stage.admin().query_one(left_out, &[&tried]).unwrap().get(0);
    assert_eq!(left_out, "");
}

/// A database with the extension, a watched table, one that will be watched, and one whose rows cannot be captured yet.
/// Its session began before anything was set.
fn prepared(stage: &Stage, database: &str) -> Client {
    stage.admin().batch_execute(&format!("create database {database}")).unwrap();
    let mut db = stage.cluster.client(database, "postgres");
    db.batch_execute(&format!(
        "create extension audit_algolia;
         create schema evil;
         create table evil.queue (like audit_algolia.queue);
         create function evil.int8eq(bigint, bigint) returns boolean language sql as 'select false';
         create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.int8eq);
         create table live ({COLUMNS}); create table old ({COLUMNS}); create table flawed ({COLUMNS});
         insert into old {ROWS}"
    ))
    .unwrap();
    watch_as(&mut db, database, "live", "");
    watch_as(&mut db, database, "flawed", ", filter => '100 / v is not null'");
    db
}

fn watch_as(db: &mut Client, database: &str, table: &str, rules: &str) {
    db.batch_execute(&format!(
        "select audit_algolia.watch('{table}', '{database}_{table}',
             columns => '{{note, at, day, span, bytes, number, amount, kind, document, list}}',
             pseudonymize => '{{span, number, at}}', object_prefix => '' {rules})"
    ))
    .unwrap();
}

/// Whatever is set, rows are delivered, backfills are sent, repairs are made, all records are alike, and the log
/// contains no row and no trouble.
fn works_under(stage: &Stage, db: &mut Client, database: &str, settings: &[(String, String)]) -> Vec<String> {
    let mut refused = Vec::new();
    wait_for_workers(db, database, 1);
    for (name, value) in settings {
        for whom in [format!("database {database}"), format!("role postgres in database {database}")] {
            if db.batch_execute(&format!("alter {whom} set {name} = {value}")).is_err() {
                refused.push(name.clone());
            }
        }
    }
    let mark = stage.cluster.log_mark();
    replace_workers(db, database);
    db.batch_execute(&format!("insert into live {ROWS}; insert into flawed {ROWS}")).unwrap();
    watch_as(db, database, "old", ", backfill => true");
    let records = |table: &str| -> BTreeMap<String, Value> {
        stage.standin.index(&format!("{database}_{table}")).into_iter().collect()
    };
    wait_until("rows", SOON, || records("live").len() == 20);
    wait_until("history", SOON, || records("old").len() == 20);
    wait_until("those that can be captured", SOON, || records("flawed").len() == 10);
    db.batch_execute("update flawed set v = 1").unwrap();
    wait_until("repairs", SOON, || records("flawed").len() == 20);
    assert_eq!(records("old"), records("live"));
    assert_eq!(records("flawed"), records("live"));
    wait_for_empty_queue(db);
    counts_under(db, database);
    let log = stage.cluster.log_since(mark);
    assert!(!log.contains(MARKER), "the log tells of a row: {}", line_with(&log, MARKER));
    let troubles: Vec<&str> = log
        .lines()
        .filter(|line| ["ERROR:", "FATAL:", "PANIC:"].iter().any(|trouble| line.contains(trouble)))
        .filter(|line| !line.contains("due to administrator command"))
        .collect();
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
    refused
}

/// The counter notices that the queue is emptied by hand. A COPY, which may be a restore, causes the count.
fn counts_under(db: &mut Client, database: &str) {
    let index = format!("{database}_live");
    db.batch_execute(&format!(
        "select audit_algolia.pause('{index}'); delete from live; insert into live {ROWS}"
    ))
    .unwrap();
    wait_until("queued rows", SOON, || queue(db, &index).queued == 20);
    db.batch_execute("truncate audit_algolia.queue; copy audit_algolia.queue from program 'true'").unwrap();
    wait_until("a count", SOON, || queue(db, &index).queued == 0);
    db.batch_execute(&format!("select audit_algolia.resume('{index}')")).unwrap();
}

fn line_with<'a>(log: &'a str, what: &str) -> &'a str {
    log.lines().find(|line| line.contains(what)).unwrap_or_default()
}

fn stage() -> Stage {
    let stage = Stage::builder()
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.on_capture_error", "warn")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
        .setting("max_worker_processes", 20)
        .start()
        .unwrap();
    stage.admin().batch_execute("create role app").unwrap();
    stage
}

#[test]
fn no_role_that_sessions_take_on_is_taken_on_by_the_processes() {
    let stage = stage();
    for name in ["role", "session_authorization"] {
        let mut db = prepared(&stage, name);
        works_under(&stage, &mut db, name, &[(name.to_owned(), "app".to_owned())]);
    }
}

#[test]
fn nothing_that_is_set_for_sessions_reaches_the_processes() {
    let stage = stage();
    for round in 0..4 {
        let database = format!("round_{round}");
        let mut db = prepared(&stage, &database);
        let settings = hostile(&mut db, round);
        assert!(settings.len() > 150, "{}", settings.len());
        let refused = works_under(&stage, &mut db, &database, &settings);
        assert!(refused.len() < 20, "{refused:?}");
        println!("round {round}: {} settings, refused {refused:?}", settings.len());
    }
}

/// Settings that PostgreSQL refuses to combine with others.
#[test]
fn statistics_of_statements_are_no_hindrance() {
    let stage = stage();
    let mut db = prepared(&stage, "statistics");
    let settings: Vec<(String, String)> =
        NOT_TOGETHER.iter().map(|name| ((*name).to_owned(), "on".to_owned())).collect();
    assert_eq!(works_under(&stage, &mut db, "statistics", &settings), [""; 0]);
}

/// In the configuration file, which is the only one that the launcher reads.
#[test]
fn nothing_that_is_set_for_the_whole_server_reaches_the_processes() {
    // The configuration file may not contain the first two, and where libraries are is the administrator's decision.
    const LEFT_OUT: [&str; 3] = ["role", "session_authorization", "dynamic_library_path"];
    for round in 0..2 {
        let stage = stage();
        let mut db = prepared(&stage, "served");
        wait_for_workers(&mut db, "served", 1);
        let known: Vec<String> = one(&mut db, "select array_agg(lower(name)) from pg_settings");
        let settings: Vec<(String, String)> = hostile(&mut db, round)
            .into_iter()
            .filter(|(name, _)| known.contains(&name.to_lowercase()) && !LEFT_OUT.contains(&name.as_str()))
            .map(|(name, value)| (name, value.trim_matches('\'').to_owned()))
            .collect();
        // What a session sets itself takes precedence.
        db.batch_execute(
            "do $$ declare one text; begin
                 for one in select name from pg_settings where context in ('user', 'superuser') loop
                     begin
                         perform set_config(one, current_setting(one), false);
                     exception when others then null; end;
                 end loop;
             end $$",
        )
        .unwrap();
        let read_at: SystemTime = one(&mut db, "select pg_conf_load_time()");
        let pairs: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        stage.cluster.set(&pairs).unwrap();
        wait_until("the reload", SOON, || one::<SystemTime>(&mut db, "select pg_conf_load_time()") > read_at);
        let before = launcher(&mut db).unwrap();
        db.execute("select pg_terminate_backend($1)", &[&before]).unwrap();
        wait_until("another launcher", SOON, || launcher(&mut db).is_some_and(|pid| pid != before));
        works_under(&stage, &mut db, "served", &[]);
    }
}

fn launcher(db: &mut Client) -> Option<i32> {
    let query = "select pid from pg_stat_activity where backend_type = 'audit_algolia launcher'";
    db.query_opt(query, &[]).unwrap().map(|row| row.get(0))
}

#[test]
fn the_launcher_does_not_wait_for_a_moment_without_writers() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    wait_for_workers(&mut db, "postgres", 2);
    // What a session sets itself takes precedence.
    let own = "set default_transaction_read_only = off; set default_transaction_deferrable = off";
    db.batch_execute(own).unwrap();
    let mut writer = stage.admin();
    writer.batch_execute(own).unwrap();
    let everybody = [
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_read_only", "on"),
        ("default_transaction_deferrable", "on"),
    ];
    stage.cluster.set(&everybody).unwrap();
    wait_until("the reload", SOON, || {
        one::<String>(&mut writer, "show default_transaction_isolation") == "serializable"
    });
    writer.batch_execute("begin; insert into log values (1, 'open')").unwrap();
    let before = workers(&mut db, "postgres");
    db.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type like 'audit_algolia%'",
    )
    .unwrap();
    let waits = "select count(*) from pg_stat_activity
        where backend_type like 'audit_algolia%' and wait_event = 'SafeSnapshot'";
    wait_until("other workers", SOON, || {
        assert_eq!(one::<i64>(&mut db, waits), 0, "a process waits for the writer to end");
        let after = workers(&mut db, "postgres");
        after.len() == 2 && after.iter().all(|pid| !before.contains(pid))
    });
    writer.batch_execute("commit").unwrap();
    stage.wait_for_records("log", 1);
}
