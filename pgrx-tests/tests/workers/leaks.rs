//! After a run with every kind of failure, neither keys nor raw values can be found anywhere.

use audit_algolia_tests::stage::{Stage, PSEUDONYM_KEY, SOON};
use audit_algolia_tests::standin::{Fault, FaultBody, Times, ADMIN_KEY};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::*;

/// Values of columns that are pseudonymized or not allowed. They occur nowhere else.
const RAW: [&str; 3] = ["raw-person-41d0", "raw-secret-9f2c", "raw-serial-77aa"];
const WRONG_KEY: &str = "a-wrong-key-c0ffee";

#[track_caller]
fn assert_clean(place: &str, text: &str) {
    for secret in RAW.into_iter().chain([ADMIN_KEY, PSEUDONYM_KEY, WRONG_KEY]) {
        let before = text.split(secret).next().filter(|before| before.len() < text.len());
        let around = before.map(|before| before.chars().rev().take(300).collect::<Vec<_>>());
        let around = around.map(|reversed| reversed.into_iter().rev().collect::<String>());
        assert_eq!(around, None, "{secret} is in {place}");
    }
}

/// A raw value composed inside the server, so that statements do not show it.
fn raw(value: &str) -> String {
    format!("'{}' || '{}'", &value[..6], &value[6..])
}

/// Everything a query returns, as text.
fn all(client: &mut Client, query: &str) -> String {
    let rows =
        client.query(&format!("select coalesce(string_agg(q::text, E'\\n'), '') from ({query}) as q"), &[]);
    rows.unwrap()[0].get(0)
}

/// Rows with raw values in statements that fail and statements that do not, and all kinds of answers of Algolia.
fn a_bad_day(stage: &Stage, db: &mut Client) {
    let (person, secret, serial) = (raw(RAW[0]), raw(RAW[1]), raw(RAW[2]));
    db.batch_execute(
        "create unlogged table log (serial text primary key, person text, secret text, note text);
         select audit_algolia.watch('log', columns => '{person,note}', pseudonymize => '{serial,person}')",
    )
    .unwrap();
    let answer = |code, body| Fault::Status { code, body, headers: Vec::new() };
    let faults = [
        Fault::error(500, &format!("key {ADMIN_KEY}")),
        Fault::error(400, &format!("Invalid key {ADMIN_KEY} near line:1 column:20")),
        answer(503, FaultBody::Html(format!("<html>{ADMIN_KEY}</html>"))),
        answer(200, FaultBody::Text(format!("proxy page with {ADMIN_KEY}"))),
        Fault::error(403, &format!("Invalid Application-ID or API key {ADMIN_KEY}")),
        Fault::Reset,
        Fault::Hang,
        Fault::Truncate,
        Fault::Redirect(format!("http://127.0.0.1:1/?key={ADMIN_KEY}")),
        Fault::too_many_requests(None),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        stage.standin.fault(None, fault, Times::Count(2));
        db.batch_execute(&format!(
            "insert into log select {serial} || {number} || i, {person} || i, {secret}, 'shown' from generate_series(1, 20) as i"
        ))
        .unwrap();
        // A record that was refused is a dead letter now. That table is searched like the others.
        wait_until("a verdict on all rows", SOON, || {
            let arrived = stage.standin.index("log").len();
            arrived as i64 + queue(db, "log").dead == 20 * (number as i64 + 1)
        });
        stage.standin.clear_faults();
    }
    // A statement that fails in capture. Its values are unique, and no error repeats them.
    db.batch_execute("alter table log rename column note to remark").unwrap();
    let insert = format!("insert into log values ({serial} || 'x', {person}, {secret}, 'shown')");
    let error = db.batch_execute(&insert).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42703");
    assert_clean("an error", &format!("{error:?}"));
    db.batch_execute("alter table log rename column remark to note").unwrap();
    // A reload with a wrong key, and one with an invalid value.
    stage.cluster.set(&[("audit_algolia.api_key", WRONG_KEY), ("audit_algolia.hosts", "nonsense")]).unwrap();
    let mut next = 0;
    wait_until("a refusal", SOON, || {
        db.batch_execute(&format!(
            "insert into log values ({serial} || 'y' || {next}, {person}, {secret}, 'shown')"
        ))
        .unwrap();
        next += 1;
        queue(db, "log").state == "blocked"
    });
}

#[test]
fn no_place_shows_a_key_or_a_raw_value() {
    let stage = Stage::builder()
        .setting("log_statement", "all")
        .setting("log_min_messages", "debug1")
        .setting("log_min_error_statement", "debug1")
        .setting("audit_algolia.request_timeout", "300ms")
        .setting("audit_algolia.retry_min", "5ms")
        .setting("audit_algolia.retry_max", "50ms")
        .setting("audit_algolia.compression", "off")
        .start()
        .unwrap();
    let mut db = stage.admin();
    db.batch_execute("create role nobody login; create role monitor login; grant pg_monitor, pg_read_all_settings to monitor")
        .unwrap();
    a_bad_day(&stage, &mut db);

    let relations = db
        .query(
            "select oid::regclass::text from pg_class
             where relnamespace = 'audit_algolia'::regnamespace and relkind in ('r', 'v', 'm', 'p', 'S')",
            &[],
        )
        .unwrap();
    assert!(relations.len() >= 4);
    for relation in relations {
        let name: String = relation.get(0);
        assert_clean(&name, &all(&mut db, &format!("select * from {name}")));
    }
    assert!(
        all(&mut db, "select * from audit_algolia.queue").contains("shown"),
        "there is something to find"
    );
    for user in ["postgres", "monitor", "nobody"] {
        let mut session = stage.cluster.client("postgres", user);
        for view in
            ["pg_settings", "pg_stat_activity", "pg_stat_database", "pg_cursors", "pg_prepared_statements"]
        {
            assert_clean(&format!("{view} of {user}"), &all(&mut session, &format!("select * from {view}")));
        }
        for setting in ["api_key", "api_key_file", "pseudonym_key", "pseudonym_key_file"] {
            if let Ok(row) = session.query_one(&format!("show audit_algolia.{setting}"), &[]) {
                assert_clean(setting, row.get(0));
            }
        }
        let shown = session.query("show all", &[]).unwrap();
        let shown: String = shown
            .iter()
            .map(|row| format!("{}={}\n", row.get::<_, &str>(0), row.get::<_, &str>(1)))
            .collect();
        assert_clean(&format!("SHOW ALL of {user}"), &shown);
        if user != "nobody" {
            assert_clean("queue_stats()", &all(&mut session, "select * from audit_algolia.queue_stats()"));
            assert_clean("worker_stats()", &all(&mut session, "select * from audit_algolia.worker_stats()"));
        }
    }
    assert_clean("preview()", &all(&mut db, "select audit_algolia.preview('log', 1000)"));

    // The rows of the source table are excluded; everything else in the database is in the dump.
    let dump = stage.cluster.run("pg_dump", &["--exclude-table-data=public.log", "postgres"]).unwrap();
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("audit_algolia.queue"), "{dump}");
    assert_clean("the dump", &dump);

    for request in stage.standin.requests() {
        assert_clean("a path", &request.path);
        assert_clean("a body", &request.body_text());
        for (name, value) in request.headers.iter().filter(|(name, _)| name != "x-algolia-api-key") {
            assert_clean(name, value);
        }
    }

    // The source is unlogged, so the WAL contains only the extension's changes.
    db.batch_execute("checkpoint; select pg_switch_wal()").unwrap();
    let segments = std::fs::read_dir(stage.cluster.data_dir().join("pg_wal")).unwrap().flatten();
    let written: Vec<u8> =
        segments.filter_map(|segment| std::fs::read(segment.path()).ok()).flatten().collect();
    let written = String::from_utf8_lossy(&written);
    assert!(written.contains("shown"));
    assert_clean("the write-ahead log", &written);

    // The end of the workers is logged too.
    stage.cluster.set(&[("audit_algolia.workers", "0")]).unwrap();
    wait_for_workers(&mut db, "postgres", 0);
    let log = stage.cluster.log();
    assert!(log.contains("cannot deliver to index") && log.contains("403") && log.len() > 10_000);
    assert_clean("the log", &log);
}
