//! `preview` shows what would be delivered, to users who may read the rows.

use serde_json::Value;

use crate::play::{failure, settle, Play};

const TABLE: &str = "
    create table t (id bigint primary key, who text, at timestamptz, doc jsonb, secret text)";
const RULES: &str = "columns => '{who, at, doc}', pseudonymize => '{who}', time_column => 'at'";

fn shown(client: &mut postgres::Client, query: &str) -> Vec<Value> {
    client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn preview_shows_what_is_delivered_newest_first() {
    let mut play = Play::new("preview", TABLE);
    play.watch("t", RULES);
    play.run(
        r#"insert into t select i, 'user ' || i, '2026-01-01'::timestamptz + i * interval '1 hour 1.234 s',
               '{"a": [1.0, {"b": null}], "n": 0.30000000000000004}' from generate_series(1, 30) as i"#,
    );
    let records = play.records();
    let previewed = shown(&mut play.admin, "select audit_algolia.preview('t', 100)");
    assert_eq!(previewed.len(), 30);
    for record in &previewed {
        assert_eq!(&records[record["objectID"].as_str().unwrap()], record);
    }
    assert_eq!(previewed[0]["objectID"], "30");
    assert_eq!(shown(&mut play.admin, "select audit_algolia.preview('t')"), previewed[..10]);
    assert_eq!(shown(&mut play.admin, "select audit_algolia.preview('t', 0)").len(), 0);
    let limited = shown(&mut play.admin, "select audit_algolia.preview('t') limit 3");
    assert_eq!(limited, previewed[..3]);
}

#[test]
fn preview_keeps_the_digits_of_numbers() {
    let mut play = Play::new("preview_digits", "create table t (id int primary key, doc jsonb)");
    play.watch("t", "columns => '{doc}'");
    play.run("insert into t values (1, '[123456789012345678901234567890, 1e400]')");
    let text: String =
        crate::play::one(&mut play.admin, "select (audit_algolia.preview('t') -> 'doc' -> 0)::text");
    assert_eq!(text, "123456789012345678901234567890");
}

#[test]
fn preview_needs_ownership_and_respects_what_the_owner_may_read() {
    let mut play = Play::new("preview_rights", TABLE);
    play.watch("t", RULES);
    play.run("insert into t values (1, 'a', now(), '{}'), (2, 'b', now(), '{}')");
    play.admin
        .batch_execute(
            "grant usage on schema audit_algolia to owner, app;
             grant execute on function audit_algolia.preview(regclass, integer) to owner, app",
        )
        .unwrap();
    let refused = failure(&mut play.app, "select audit_algolia.preview('t')");
    assert_eq!(refused.code().code(), "42501");
    assert!(refused.hint().is_some());
    assert_eq!(shown(&mut play.owner, "select audit_algolia.preview('t')").len(), 2);
    play.owner
        .batch_execute(
            "alter table t enable row level security, force row level security;
             create policy one on t using (id = 1)",
        )
        .unwrap();
    let seen = shown(&mut play.owner, "select audit_algolia.preview('t')");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["objectID"], "1");
    play.owner.batch_execute("revoke select on t from owner").unwrap();
    let refused = failure(&mut play.owner, "select audit_algolia.preview('t')");
    assert_eq!(refused.code().code(), "42501");
    play.owner.batch_execute("grant select (id, who, at) on t to owner").unwrap();
    let refused = failure(&mut play.owner, "select audit_algolia.preview('t')");
    assert_eq!(refused.code().code(), "42501");
    play.owner.batch_execute("grant select (doc) on t to owner").unwrap();
    assert_eq!(shown(&mut play.owner, "select audit_algolia.preview('t')").len(), 1);
}

/// When a superuser runs maintenance, index expressions are evaluated with the rights of the table's owner.
#[test]
fn code_run_on_behalf_of_an_owner_has_the_owners_rights_only() {
    let mut play = Play::new("on_behalf", "create table t (id int primary key); insert into t values (1)");
    play.admin
        .batch_execute(
            "create table vault (id int primary key, secret text);
             grant usage on schema audit_algolia to owner;
             grant execute on all functions in schema audit_algolia to owner",
        )
        .unwrap();
    play.watch("vault", "columns => '{id}'");
    for call in [
        "audit_algolia.watch('on_behalf.vault', index_name => 'stolen', columns => '{secret}')",
        "audit_algolia.unwatch('on_behalf.vault')",
        "audit_algolia.preview('on_behalf.vault')",
    ] {
        let body = call.replace('\'', "''");
        play.owner
            .batch_execute(&format!(
                "create or replace function leak(n int) returns int language plpgsql security definer as
                     'begin perform {body}; return n; end'"
            ))
            .unwrap();
        let refused = failure(&mut play.admin, "select on_behalf.leak(1)");
        assert_eq!(refused.code().code(), "42501", "{call}");
        play.owner
            .batch_execute(
                "create or replace function quiet(n int) returns int language sql immutable as 'select n';
                            create index leaking on t (quiet(id))",
            )
            .unwrap();
        play.owner
            .batch_execute(&format!(
                "create or replace function quiet(n int) returns int language plpgsql immutable as
                     'begin perform {body}; return n; end'"
            ))
            .unwrap();
        let refused = failure(&mut play.admin, "reindex index on_behalf.leaking");
        assert_eq!(refused.code().code(), "42501", "{call}: {}", refused.message());
        play.owner.batch_execute("drop index leaking").unwrap();
    }
}

/// Row security decides what is shown, also to owners to whom it applies. It does not affect capture, because an owner
/// could turn it off at any time.
#[test]
fn whoever_acts_for_the_owner_sees_what_they_could_select_and_no_more() {
    let mut play = Play::new("acting", "create table t (id int primary key, who text)");
    play.admin
        .batch_execute(
            "create role heir login inherit; create role delegate login noinherit; grant owner to heir, delegate;
             grant usage on schema audit_algolia, acting to heir, delegate, owner;
             grant execute on function audit_algolia.watch, audit_algolia.preview to heir, delegate, owner",
        )
        .unwrap();
    play.owner
        .batch_execute(
            "insert into t values (0, 'before');
             alter table t enable row level security;
             alter table t force row level security;
             create policy writing on t for insert with check (true);
             create policy own on t for select using (who = current_user)",
        )
        .unwrap();
    let mut heir = play.stage.cluster.client("postgres", "heir");
    heir.batch_execute("select audit_algolia.watch('acting.t', 'acting', columns => '{who}')").unwrap();
    play.run("insert into t values (1, 'heir'), (2, 'owner'), (3, 'app'), (4, 'delegate')");
    assert_eq!(play.ids(), ["1", "2", "3", "4"]);

    let mut delegate = play.stage.cluster.client("postgres", "delegate");
    for call in ["preview('acting.t')", "watch('acting.t', 'other', columns => '{who}')"] {
        let refused = failure(&mut delegate, &format!("select audit_algolia.{call}"));
        assert_eq!(refused.code().code(), "42501", "{call}");
    }
    delegate.batch_execute("set role owner").unwrap();
    for (client, id) in [(&mut heir, "1"), (&mut delegate, "2"), (&mut play.owner, "2")] {
        let seen = shown(client, "select audit_algolia.preview('acting.t')");
        let ids: Vec<&Value> = seen.iter().map(|record| &record["objectID"]).collect();
        assert_eq!(ids, [id]);
        client.batch_execute("set row_security = off").unwrap();
        assert_eq!(failure(client, "select audit_algolia.preview('acting.t')").code().code(), "42501");
    }
}

/// What `json` accepts but `jsonb` does not is sent, so it is shown, as a text.
#[test]
fn preview_shows_what_jsonb_cannot_hold_as_the_text_that_is_sent() {
    let mut play = Play::new("preview_texts", "create table t (id int primary key, doc json)");
    play.watch("t", "columns => '{doc}'");
    let docs =
        [r#""\u0000""#, r#"{"a": "\ud800", "b": 1}"#, r#"["\udc00\ud800"]"#, r#""\ud83d\ude00 plain""#];
    for (id, doc) in docs.iter().enumerate() {
        play.app.execute("insert into t values ($1, $2::text::json)", &[&(id as i32), doc]).unwrap();
    }
    settle(&mut play.admin, "preview_texts");
    let sent: String = play
        .stage
        .standin
        .requests()
        .iter()
        .filter(|request| request.path.contains("preview_texts"))
        .map(|request| request.body_text())
        .collect();
    let shown = shown(&mut play.admin, "select audit_algolia.preview('t')");
    assert_eq!(shown.len(), docs.len());
    for (shown, (id, doc)) in shown.iter().rev().zip(docs.iter().enumerate()) {
        let record = format!(r#"{{"objectID":"{id}","doc":{}}}"#, doc.replace(": ", ":").replace(", ", ","));
        assert!(sent.contains(&record), "{record}");
        match shown {
            Value::String(text) => assert_eq!(*text, record),
            held => assert_eq!(*held, serde_json::from_str::<Value>(&record).unwrap()),
        }
        assert_eq!(shown.is_string(), id < 3, "{shown}");
    }
}
