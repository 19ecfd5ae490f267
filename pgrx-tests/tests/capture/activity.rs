//! `activity` counts events and actors in a time window, in the watched table itself.

use postgres::Client;

use crate::play::{failure, Play};

const TABLE: &str = "create table t (id bigint primary key, user_id text, event text, at timestamptz)";
const RULES: &str = "columns => '{user_id, event, at}', time_column => 'at'";

type Line = (Option<String>, i64, i64);

fn ask(client: &mut Client, arguments: &str) -> Vec<Line> {
    let rows = client.query(&format!("select * from audit_algolia.activity({arguments})"), &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

fn line(action: &str, events: i64, actors: i64) -> Line {
    (Some(action.to_owned()), events, actors)
}

fn total(events: i64, actors: i64) -> Line {
    (None, events, actors)
}

#[test]
fn an_hour_with_a_click_and_an_impression_has_two_events_of_two_users() {
    let mut play = Play::new("activity", TABLE);
    play.watch("t", RULES);
    play.run(
        "insert into t values
             (1, 'anna', 'click', '2026-11-20 12:30+00'),
             (2, 'ben', 'impression', '2026-11-20 13:00+00'),
             (3, 'anna', 'click', '2026-11-20 12:00+00'),
             (4, 'cleo', 'click', '2026-11-20 13:00:00.000001+00')",
    );
    let expected = [line("click", 1, 1), line("impression", 1, 1), total(2, 2)];
    assert_eq!(ask(&mut play.admin, "'t', '2026-11-20 13:00+00'"), expected);
    // The end belongs to the window, the beginning does not.
    let more = [line("click", 3, 2), line("impression", 1, 1), total(4, 3)];
    assert_eq!(ask(&mut play.admin, "'t', '2026-11-20 13:00:01+00', '2 hours'"), more);
    assert_eq!(ask(&mut play.admin, "'t', '2026-11-20 13:00+00', '0'"), [total(0, 0)]);
    assert_eq!(ask(&mut play.admin, "'t', '1999-01-01'"), [total(0, 0)]);
}

#[test]
fn rows_without_an_action_or_an_actor_count_in_the_total_alone() {
    let mut play = Play::new("activity_nulls", TABLE);
    play.watch("t", RULES);
    play.run(
        "insert into t values (1, 'anna', null, now()), (2, null, 'view', now()), (3, null, null, null),
             (4, 'anna', '', now())",
    );
    let expected = [line("", 1, 1), line("view", 1, 0), total(3, 1)];
    assert_eq!(ask(&mut play.admin, "'t', now() + interval '1 s'"), expected);
}

#[test]
fn columns_of_any_name_and_type_serve() {
    let mut play = Play::new(
        "activity_names",
        r#"create type kind as enum ('b', 'a');
           create domain moment as timestamptz;
           create table "T; drop table t--" (
               id int primary key, "who's ""it""" json, "Kind" kind, "when" moment)"#,
    );
    let table = r#""T; drop table t--""#;
    play.watch(table, r#"columns => '{id, when}', time_column => 'when'"#);
    play.run(&format!(
        r#"insert into {table} values (1, '{{"a": 1}}', 'a', now()), (2, '{{"a": 1}}', 'b', now()),
               (3, '[]', 'b', now())"#
    ));
    let counted = ask(
        &mut play.admin,
        &format!(
            r#"'{table}', now() + interval '1 s', actor_column => 'who''s "it"', action_column => 'Kind'"#
        ),
    );
    assert_eq!(counted, [line("b", 2, 2), line("a", 1, 1), total(3, 2)]);
}

/// Times without a zone are taken as UTC, and dates as midnight in UTC, whatever the session's time zone.
#[test]
fn the_window_is_the_same_for_each_type_of_time() {
    let mut play = Play::new(
        "activity_types",
        "create table z (id int primary key, user_id int, event text, at timestamptz);
         create table p (id int primary key, user_id int, event text, at timestamp);
         create table d (id int primary key, user_id int, event text, at date)",
    );
    for table in ["z", "p", "d"] {
        play.watch(table, &format!("{RULES}, object_prefix => '{table}'"));
        play.run(&format!(
            "set timezone = 'UTC';
             insert into {table} select n, n, 'e', '2026-03-01'::date + n from generate_series(0, 9) as n"
        ));
        for zone in ["UTC", "Pacific/Auckland", "America/New_York"] {
            play.admin.batch_execute(&format!("set timezone = '{zone}'")).unwrap();
            for (to, hours, days) in [
                ("03-05 00:00", 48, 2),
                ("03-04 23:59", 48, 2),
                ("03-05 00:01", 24, 1),
                ("03-05 00:00", 23, 1),
                ("03-04 23:00", 22, 0),
            ] {
                let counted = ask(&mut play.admin, &format!("'{table}', '2026-{to}+00', '{hours} h'"));
                assert_eq!(counted.last(), Some(&total(days, days)), "{table} {zone} {to} {hours}");
            }
        }
    }
}

#[test]
fn the_callers_rights_and_policies_decide() {
    let mut play = Play::new("activity_rights", TABLE);
    play.watch("t", RULES);
    play.run("insert into t values (1, 'analyst', 'view', now()), (2, 'owner', 'view', now())");
    play.admin
        .batch_execute(
            "create role analyst login; create role stranger login; create role clerk login;
             grant usage on schema activity_rights to analyst, clerk;
             grant select on activity_rights.t to analyst;
             grant usage on schema audit_algolia to analyst, clerk, stranger, owner",
        )
        .unwrap();
    let session = |user| play.stage.cluster.client("postgres", user);
    let (mut analyst, mut clerk, mut stranger) = (session("analyst"), session("clerk"), session("stranger"));
    let call = "select audit_algolia.activity('activity_rights.t', now() + interval '1 s')";
    let refused = failure(&mut analyst, call);
    assert_eq!(
        (refused.code().code(), refused.message()),
        ("42501", "permission denied for function activity")
    );
    play.admin
        .batch_execute("grant execute on function audit_algolia.activity to analyst, clerk, stranger, owner")
        .unwrap();
    let counted = |client: &mut Client| ask(client, "'activity_rights.t', now() + interval '1 s'");
    assert_eq!(counted(&mut analyst), [line("view", 2, 2), total(2, 2)]);
    let hidden = "select audit_algolia.activity((select c.oid from pg_class as c
        join pg_namespace as n on n.oid = relnamespace where relname = 't' and nspname = 'activity_rights'), now())";
    let refused = failure(&mut stranger, hidden);
    assert_eq!(refused.code().code(), "42501");
    assert!(refused.hint().is_some());
    // One column is not enough. The error is PostgreSQL's own.
    play.owner.batch_execute("grant select (event, at) on t to clerk").unwrap();
    assert_eq!(failure(&mut clerk, call).code().code(), "42501");
    assert_eq!(
        ask(&mut clerk, "'activity_rights.t', now() + interval '1 s', actor_column => 'event'"),
        [line("view", 2, 1), total(2, 1)]
    );
    play.owner
        .batch_execute(
            "alter table t enable row level security;
             create policy own on t using (user_id = current_user)",
        )
        .unwrap();
    assert_eq!(counted(&mut analyst), [line("view", 1, 1), total(1, 1)]);
    assert_eq!(counted(&mut play.owner), [line("view", 2, 2), total(2, 2)]);
}

#[test]
fn what_cannot_be_counted_is_explained() {
    let mut play = Play::new(
        "activity_errors",
        "create table bare (id int primary key, user_id int, event text);
         create table t (id int primary key, user_id int, event text, at timestamptz);
         create table odd (id int primary key, user_id int, event text, at int);
         create table loose (id int primary key)",
    );
    play.watch("bare", "columns => '{event}', object_prefix => 'bare'");
    play.watch("t", RULES);
    play.watch("odd", &format!("{RULES}, object_prefix => 'odd'"));
    for (arguments, code, message) in [
        ("null, now()", "22004", "the table must not be null"),
        ("1, now()", "42P01", "table with oid 1 does not exist"),
        ("'loose', now()", "42704", "table activity_errors.loose is not watched"),
        ("'bare', now()", "55000", "table activity_errors.bare is watched without a time column"),
        (
            "'odd', now()",
            "42804",
            "time column \"at\" of table activity_errors.odd is neither a timestamp nor a date",
        ),
        ("'t', null", "22004", "at and span must not be null"),
        ("'t', now(), null", "22004", "at and span must not be null"),
        ("'t', now(), '-1 s'", "22023", "span must be an interval of zero or more"),
        ("'t', 'infinity'", "22023", "at must be finite"),
        ("'t', now(), actor_column => null", "22004", "actor_column must not be null"),
        ("'t', now(), '1 h', 'User_id'", "42703", "column \"User_id\" does not exist"),
        ("'t', now(), '1 h', 'ctid'", "42703", "column \"ctid\" does not exist"),
        ("'t', now(), '1 h', 'id', 'id, at'", "42703", "column \"id, at\" does not exist"),
    ] {
        let error = failure(&mut play.admin, &format!("select audit_algolia.activity({arguments})"));
        assert_eq!((error.code().code(), error.message()), (code, message), "{arguments}");
        assert!(error.hint().is_some(), "{arguments}");
    }
    let error = failure(&mut play.admin, "select audit_algolia.activity('t', now(), action_column => 'x')");
    assert!(error.detail().unwrap().contains("action_column"));
    // A window longer than all time.
    let error = failure(&mut play.admin, "select audit_algolia.activity('t', now(), '300000 years')");
    assert_eq!(error.code().code(), "22008");
    play.owner.batch_execute("alter table t rename at to since").unwrap();
    let error = failure(&mut play.admin, "select audit_algolia.activity('t', now())");
    assert_eq!(
        (error.code().code(), error.message()),
        ("42703", "column \"at\" of watched table \"t\" no longer exists")
    );
}

/// Partitions outside the window are not even opened, and within one the index on the time is used.
#[test]
fn partitions_beyond_the_window_are_left_alone_and_indexes_serve() {
    for (name, kind) in [("activity_z", "timestamptz"), ("activity_p", "timestamp"), ("activity_d", "date")] {
        let mut play = Play::new(
            name,
            &format!(
                "create table t (user_id int, event text, at {kind}, id int, primary key (id, at))
                     partition by range (at);
                 create table jan partition of t for values from ('2026-01-02') to ('2026-02-02');
                 create table feb partition of t for values from ('2026-02-02') to ('2026-03-02');
                 create table mar partition of t for values from ('2026-03-02') to ('2026-04-02');
                 create index on t (at)"
            ),
        );
        play.watch("t", RULES);
        play.run("insert into t select n, 'e', '2026-01-02'::date + n, n from generate_series(0, 80) as n");
        play.admin.batch_execute("begin; set local enable_seqscan = off").unwrap();
        let counted = ask(&mut play.admin, "'t', '2026-02-20 00:00+00', '5 days'");
        assert_eq!(counted, [line("e", 5, 5), total(5, 5)]);
        let opened = play
            .admin
            .query(
                "select c.relname::text from pg_locks as l join pg_class as c on c.oid = l.relation
                 where l.pid = pg_backend_pid() and c.relname in ('jan', 'feb', 'mar')",
                &[],
            )
            .unwrap();
        let opened: Vec<String> = opened.iter().map(|row| row.get(0)).collect();
        assert_eq!(opened, ["feb"], "{kind}");
        let scans: (i64, i64) = play
            .admin
            .query_one(
                "select seq_scan, idx_scan from pg_stat_xact_user_tables where relid = 'feb'::regclass",
                &[],
            )
            .map(|row| (row.get(0), row.get(1)))
            .unwrap();
        assert_eq!(scans, (0, 1), "{kind}");
        play.admin.batch_execute("rollback").unwrap();
    }
}
