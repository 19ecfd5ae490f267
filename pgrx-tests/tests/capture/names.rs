//! Misleading names and search paths: tables, columns and indices keep their identity, and planted functions do not
//! run.

use serde_json::json;

use crate::play::{failure, one, settle, watch, Play};

const ODD_NAMES: [&str; 12] = [
    "with space",
    "quo\"te",
    "apo'strophe",
    "back\\slash",
    "a as b",
    "100%/done?x=1&y#z",
    "ünïcødé 😀",
    "select",
    "a$$b$body$c",
    "new\nline",
    "$1; drop table x --",
    "sixty_three_bytes_long_name_which_is_the_most_postgres_takes_in",
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn tables_columns_and_indices_may_have_any_name() {
    let mut play = Play::new("odd_names", "");
    for (place, name) in ODD_NAMES.iter().enumerate() {
        let schema = format!("odd {place} {}", &name.chars().take(20).collect::<String>());
        let (schema, table) = (quoted(&schema), quoted(name));
        play.admin
            .batch_execute(&format!(
                "create schema {schema} authorization owner; grant usage on schema {schema} to app;
                 create table {schema}.{table} ({table} int primary key, secret text);
                 alter table {schema}.{table} owner to owner;
                 grant insert on {schema}.{table} to app"
            ))
            .unwrap();
        let relation = format!("{schema}.{table}");
        let attribute = name.replace('=', "_");
        // Control characters are refused in the name of an index.
        let index = format!("odd_{}", name.replace('\n', " "));
        play.admin
            .execute(
                "select audit_algolia.watch($1::text::regclass, $2, columns => array[$3], object_prefix => $4)",
                &[&relation, &index, &format!("{table} AS {}", quoted(&attribute)), name],
            )
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        play.run(&format!("insert into {schema}.{table} values (7, 'raw'); insert into {schema}.{table} select generate_series(8, 20)"));
        settle(&mut play.admin, &index.replace('\'', "''"));
        let records = play.stage.standin.index(&index);
        assert_eq!(records.len(), 14, "{name}");
        let id = format!("{name}7");
        assert_eq!(records[&id], json!({"objectID": id, attribute: 7}), "{name}");
        let shown =
            play.admin.query("select audit_algolia.preview($1::text::regclass)", &[&relation]).unwrap();
        assert_eq!(shown.len(), 10);
        play.admin
            .execute("select audit_algolia.unwatch($1::text::regclass, $2)", &[&relation, &index])
            .unwrap();
    }
}

#[test]
fn an_attribute_that_algolia_would_misread_is_refused_with_its_column() {
    let mut play =
        Play::new("misread_names", "create table t (id int primary key, \"a.b\" text, \"f(x)\" text)");
    for (columns, attribute) in [(r#"{id,a.b}"#, "a.b"), (r#"{f(x)}"#, "f(x)"), (r#"{id AS -id}"#, "-id")] {
        let watch = "select audit_algolia.watch('t', 'misread_names', columns => $1::text::text[])";
        let error = play.admin.execute(watch, &[&columns]).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "42602", "{}", error.message());
        assert!(
            error.message().starts_with(&format!("attribute name \"{attribute}\"")),
            "{}",
            error.message()
        );
        assert!(error.hint().unwrap().contains("AS attribute"));
    }
    play.watch("t", r#"columns => '{id, "\"a.b\" AS b", f(x) AS f}'"#);
    play.run("insert into t values (1, 'x', 'y')");
    assert_eq!(play.records()["1"], json!({"objectID": "1", "id": 1, "b": "x", "f": "y"}));
}

#[test]
fn a_table_gives_its_index_its_own_name() {
    let mut play = Play::new("own_name", "create table \"My Täble/1\" (id int primary key)");
    play.admin.batch_execute("select audit_algolia.watch('\"My Täble/1\"', columns => '{id}')").unwrap();
    play.run("insert into \"My Täble/1\" values (1)");
    settle(&mut play.admin, "My Täble/1");
    assert_eq!(play.stage.standin.index("My Täble/1").len(), 1);
}

/// Objects that shadow PostgreSQL's own and the extension's. If one of them is used, the test fails.
const TRAPS: &str = "
    create schema traps;
    create function traps.trap() returns int language plpgsql as $$ begin
        raise exception 'trapped as %', current_user; end $$;
    create function traps.eq(int, int) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create function traps.eq(oid, oid) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create function traps.eq(regclass, oid) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create function traps.eq(regclass, regclass) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create function traps.eq(bigint, bigint) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create function traps.eq(text, text) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create function traps.eq(name, name) returns bool language plpgsql as $$ begin perform traps.trap(); return true; end $$;
    create operator traps.= (leftarg = int, rightarg = int, function = traps.eq);
    create operator traps.= (leftarg = oid, rightarg = oid, function = traps.eq);
    create operator traps.= (leftarg = regclass, rightarg = oid, function = traps.eq);
    create operator traps.= (leftarg = regclass, rightarg = regclass, function = traps.eq);
    create operator traps.= (leftarg = bigint, rightarg = bigint, function = traps.eq);
    create operator traps.= (leftarg = text, rightarg = text, function = traps.eq);
    create operator traps.= (leftarg = name, rightarg = name, function = traps.eq);
    create operator traps.<> (leftarg = regclass, rightarg = oid, function = traps.eq);
    create operator traps.>= (leftarg = bigint, rightarg = bigint, function = traps.eq);
    create operator traps.<= (leftarg = bigint, rightarg = bigint, function = traps.eq);
    create function traps.now() returns timestamptz language sql as 'select traps.trap()::text::timestamptz';
    create function traps.count(anyelement) returns bigint language sql as 'select traps.trap()::bigint';
    create function traps.max(bigint) returns bigint language sql as 'select traps.trap()::bigint';
    create function traps.unnest(anyarray) returns setof bigint language sql as 'select traps.trap()::bigint';
    create function traps.format(text, int) returns text language sql as 'select traps.trap()::text';
    create function traps.pg_has_role(oid, oid, text) returns bool language sql as 'select true';
    create function traps.nextval(regclass) returns bigint language sql as 'select traps.trap()::bigint';
    create function traps.capture() returns trigger language plpgsql as $$ begin perform traps.trap(); return null; end $$;
    create table traps.queue (like audit_algolia.queue); create table traps.source (like audit_algolia.source);
    create table traps.index (like audit_algolia.index); create table traps.pg_class (oid oid, relowner oid);
    create table traps.pg_trigger (tgname text); create domain traps.text as int; create domain traps.int4 as pg_catalog.text;
    create table traps.t (id int);
    create table t (id int primary key, u uuid default gen_random_uuid(), v text, c regclass default 'pg_catalog.pg_class');
    grant usage on schema traps to public; grant execute on all functions in schema traps to public";

#[test]
fn a_hostile_search_path_changes_nothing() {
    let mut play = Play::new("hostile_path", "");
    play.admin.batch_execute(TRAPS).unwrap();
    play.admin
        .batch_execute("alter table t owner to owner; grant all on t to app; grant usage on schema audit_algolia to owner;
                        grant execute on function audit_algolia.watch, audit_algolia.unwatch, audit_algolia.preview, audit_algolia.queue_stats, audit_algolia.flush to owner")
        .unwrap();
    let path = "set search_path = traps, pg_temp, pg_catalog";
    for client in [&mut play.owner, &mut play.app] {
        client.batch_execute(path).unwrap();
    }
    assert!(failure(&mut play.app, "select 1 = 1").message().starts_with("trapped"));
    let id: i32 = play
        .owner
        .query_one(
            "select audit_algolia.watch('hostile_path.t', 'hostile_path', columns => '{u,v,c}', pseudonymize => '{v}')",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(id > 0);
    play.run("insert into hostile_path.t values (1, default, 'a'); insert into hostile_path.t select pg_catalog.generate_series(2, 10)");
    play.run("begin; insert into hostile_path.t values (11); prepare transaction 'hostile'");
    play.run("commit prepared 'hostile'");
    assert_eq!(play.owner.query("select audit_algolia.preview('hostile_path.t')", &[]).unwrap().len(), 10);
    play.owner
        .batch_execute("select * from audit_algolia.queue_stats(); select audit_algolia.flush('20 s')")
        .unwrap();
    let records = play.records();
    assert_eq!(records.len(), 11);
    assert_eq!(records["2"]["c"], "pg_class");
    play.owner.batch_execute("select audit_algolia.unwatch('hostile_path.t')").unwrap();
    play.run("insert into hostile_path.t values (20)");
    assert_eq!(play.ids().len(), 11);
}

#[test]
fn the_executors_way_into_the_queue_is_not_misled_either() {
    let stage = audit_algolia_tests::stage::Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute(crate::play::ROLES).unwrap();
    admin.batch_execute(TRAPS).unwrap();
    admin
        .batch_execute("alter table audit_algolia.queue add constraint small check (length(record) < 90000)")
        .unwrap();
    admin
        .batch_execute(
            "grant insert on t to app; alter database postgres set search_path = traps, pg_temp, pg_catalog",
        )
        .unwrap();
    watch(&mut admin, "public.t", "t", "columns => '{u, v, c}'");
    stage.cluster.restart(audit_algolia_tests::server::StopMode::Fast).unwrap();
    let mut app = stage.cluster.client("postgres", "app");
    app.batch_execute("insert into public.t values (1, default, 'a'); insert into public.t select pg_catalog.generate_series(2, 300)")
        .unwrap();
    stage.wait_for_records("t", 300);
    let mut admin = stage.admin();
    admin.batch_execute("set search_path = pg_catalog").unwrap();
    let state: String = one(&mut admin, "select state from audit_algolia.queue_stats()");
    assert!(["idle", "delivering"].contains(&state.as_str()), "{state}");
}
