//! A user who may create objects tries to access what is not theirs: before the extension is created, and through
//! watched tables.

use audit_algolia_tests::stage::Stage;
use serde_json::json;

use crate::play::{failure, one, settle, Play};

/// Creates a database that belongs to a user who is not a superuser.
fn foreign_database(stage: &Stage, owner: &str) {
    for statement in [
        format!("create role {owner} login"),
        format!("create database planted owner {owner} template template0"),
    ] {
        stage.admin().batch_execute(&statement).unwrap();
    }
}

#[test]
fn a_schema_that_was_there_before_must_be_a_superusers_and_empty() {
    let stage = Stage::builder().start().unwrap();
    foreign_database(&stage, "squatter");
    let mut squatter = stage.cluster.client("planted", "squatter");
    let mut admin = stage.cluster.client("planted", "postgres");
    squatter.batch_execute("create schema audit_algolia").unwrap();
    let refused = failure(&mut admin, "create extension audit_algolia");
    assert_eq!(refused.code().code(), "42501", "{}", refused.message());
    assert!(refused.message().contains("\"squatter\"") && refused.hint().is_some());
    for planted in [
        "create table audit_algolia.queue (id int)",
        "create function audit_algolia.capture() returns trigger language plpgsql as 'begin return null; end'",
        "create function audit_algolia.watch(regclass) returns int language sql as 'select 1'",
        "create type audit_algolia.index as enum ('a')",
        "create operator audit_algolia.= (leftarg = name, rightarg = name, function = nameeq)",
    ] {
        squatter.batch_execute(planted).unwrap();
        admin.batch_execute("alter schema audit_algolia owner to postgres").unwrap();
        let refused = failure(&mut admin, "create extension audit_algolia");
        assert_eq!(refused.code().code(), "55000", "{planted}: {}", refused.message());
        assert!(refused.message().contains("is not empty") && refused.hint().is_some());
        admin
            .batch_execute("drop schema audit_algolia cascade; create schema audit_algolia authorization squatter")
            .unwrap();
    }
    admin
        .batch_execute("alter schema audit_algolia owner to postgres; create extension audit_algolia; drop extension audit_algolia; create extension audit_algolia")
        .unwrap();
}

#[test]
fn what_was_planted_in_public_has_no_say_in_the_extension() {
    let stage = Stage::builder().start().unwrap();
    foreign_database(&stage, "planter");
    stage.admin().batch_execute("alter database planted set search_path = public, pg_catalog").unwrap();
    let mut planter = stage.cluster.client("planted", "planter");
    planter
        .batch_execute(
            "create function trap() returns text language plpgsql as $$ begin raise exception 'trapped as %', current_user; end $$;
             create function now() returns timestamptz language sql as 'select trap()::timestamptz';
             create function format(text, int) returns text language sql as 'select trap()';
             create function pg_extension_config_dump(regclass, text) returns void language sql as 'select trap()';
             create function pg_get_userbyid(oid) returns name language sql as 'select trap()::name';
             create function same(oid, oid) returns bool language sql as 'select trap()::bool';
             create function same(name, name) returns bool language sql as 'select trap()::bool';
             create function same(text, text) returns bool language sql as 'select trap()::bool';
             create function same(int, int) returns bool language sql as 'select trap()::bool';
             create operator = (leftarg = oid, rightarg = oid, function = same);
             create operator = (leftarg = name, rightarg = name, function = same);
             create operator = (leftarg = text, rightarg = text, function = same);
             create operator = (leftarg = int, rightarg = int, function = same);
             create domain \"char\" as text check (trap() is null);
             create domain regclass as text check (trap() is null);
             create domain bigint as text check (trap() is null);
             create table queue (id int); create table source (id int); create table index (id int)",
        )
        .unwrap();
    let mut admin = stage.cluster.client("planted", "postgres");
    assert!(failure(&mut admin, "select 1 = 1").message().starts_with("trapped"));
    admin.batch_execute("create extension audit_algolia").unwrap();
    let strangers: i64 = one(
        &mut stage.cluster.client("planted", "postgres"),
        "select count(*) from pg_catalog.pg_depend as d
         join pg_catalog.pg_depend as m on m.classid operator(pg_catalog.=) d.classid and m.objid operator(pg_catalog.=) d.objid
         where m.deptype operator(pg_catalog.=) 'e' and m.refclassid operator(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
             and m.refobjid operator(pg_catalog.=) (select e.oid from pg_catalog.pg_extension as e where e.extname operator(pg_catalog.=) 'audit_algolia'::pg_catalog.name)
             and d.refobjid operator(pg_catalog.=) any (select p.oid from pg_catalog.pg_proc as p where p.pronamespace operator(pg_catalog.=) 'public'::pg_catalog.regnamespace::pg_catalog.oid
                 union all select t.oid from pg_catalog.pg_type as t where t.typnamespace operator(pg_catalog.=) 'public'::pg_catalog.regnamespace::pg_catalog.oid)",
    );
    assert_eq!(strangers, 0);
    planter.batch_execute("create table t (id integer primary key, v pg_catalog.text)").unwrap();
    admin
        .batch_execute("select audit_algolia.watch('public.t'::pg_catalog.regclass, columns => array['v'])")
        .unwrap();
    planter.batch_execute("insert into t values (1, 'a')").unwrap();
    stage.wait_for_records("t", 1);
    admin.batch_execute("select audit_algolia.pause(); select audit_algolia.resume(); select audit_algolia.unwatch('public.t'::pg_catalog.regclass); drop extension audit_algolia")
        .unwrap();
}

/// Code of a table's owner runs with the rights of the user who writes, never with those of the extension's owner or of
/// a worker.
#[test]
fn code_that_hangs_on_a_watched_table_never_runs_as_the_extensions_owner() {
    let mut play = Play::new("hangers_on", "");
    play.admin
        .batch_execute(
            "create role schemer login; create schema schemes authorization schemer;
             grant usage on schema audit_algolia to schemer; grant usage on schema hangers_on to schemer;
             grant execute on function audit_algolia.watch, audit_algolia.unwatch, audit_algolia.preview to schemer;
             create table hangers_on.vault (id int); grant insert on hangers_on.vault to schemer",
        )
        .unwrap();
    let mut schemer = play.stage.cluster.client("postgres", "schemer");
    schemer
        .batch_execute(
            "set search_path = schemes;
             create function spy(anyelement) returns bool language plpgsql as $$ begin
                 if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
                     raise exception 'escalated to %', current_user;
                 end if;
                 return true;
             end $$;
             create function still(v text) returns text language plpgsql immutable as $$ begin perform schemes.spy(v); return v; end $$;
             create function bystander() returns trigger language plpgsql as $$ begin perform schemes.spy(1); return new; end $$;
             create domain checked as text check (schemes.spy(value));
             create type pair as (a checked, b int);
             create table t (
                 id int primary key default case when schemes.spy(1) then 1 end,
                 v checked, p pair, words checked[],
                 g text generated always as (schemes.still('x')) stored,
                 check (schemes.spy(id)));
             create index on t (still(v)) where still(v) is not null;
             create table elsewhere (id int);
             create trigger a_first before insert on t for each row execute function bystander();
             create trigger z_last after insert on t for each row execute function bystander();
             create trigger z_once after insert on t for each statement execute function bystander();
             create rule also as on insert to t do also insert into schemes.elsewhere select 1 where schemes.spy(2);
             alter table t enable row level security;
             create policy all_rows on t using (schemes.spy(id));
             create view v as select * from t;
             select audit_algolia.watch('schemes.t', index_name => 'hangers_on', columns => '{v,p,words,g}', pseudonymize => '{v}');
             insert into t (id, v, p, words) values (1, 'a', '(b,1)', '{c}');
             insert into v (id, v, p, words) select i, 'a', ('(b,' || i || ')')::pair, '{c}' from generate_series(2, 300) as i;
             alter table t force row level security;
             analyze t;
             select audit_algolia.preview('schemes.t')",
        )
        .unwrap();
    let records = play.records();
    assert_eq!(records.len(), 300);
    assert_eq!(records["1"]["p"], json!({"a": "b", "b": 1}));
    // A superuser who only reads runs none of it either, because row security does not apply to them.
    play.admin
        .batch_execute("select audit_algolia.preview('schemes.t'); select * from audit_algolia.sources")
        .unwrap();
    // Neither does unwatch(), nor a watch by the superuser.
    play.admin
        .batch_execute(
            "select audit_algolia.unwatch('schemes.t');
             select audit_algolia.watch('schemes.t', index_name => 'hangers_on', columns => '{v,p,words,g}')",
        )
        .unwrap();
    schemer.batch_execute("select audit_algolia.unwatch('schemes.t')").unwrap();
}

#[test]
fn roles_and_types_may_have_any_name() {
    let mut play = Play::new("odd_roles", "");
    for (place, name) in [
        "quo\"te; drop table x --",
        "a$$b$x$",
        "new\nline",
        "sel'ect",
        "user",
        "ünïcødé 😀",
        "sixty_three_bytes_long_name_which_is_the_most_postgres_takes_in",
    ]
    .into_iter()
    .enumerate()
    {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let table = format!(
            "odd_roles.\"{} {place}\"",
            name.replace('"', "\"\"").chars().take(20).collect::<String>()
        );
        play.admin
            .batch_execute(&format!(
                "create role {quoted} login; grant usage, create on schema odd_roles to {quoted};
                 create type odd_roles.{quoted} as enum ('x', 'y');
                 create table {table} (id int primary key, {quoted} odd_roles.{quoted}) partition by list (id);
                 alter table {table} owner to {quoted};
                 grant insert on {table} to app"
            ))
            .unwrap();
        let id: i32 = play
            .admin
            .query_one(
                "select audit_algolia.watch($1::text::regclass, 'odd_roles', columns => array[$2], object_prefix => $2)",
                &[&table, &format!("{quoted} AS kind")],
            )
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
            .get(0);
        assert!(id > 0);
        // The table's owner can still create partitions.
        play.admin
            .batch_execute(&format!(
                "set role {quoted}; create table odd_roles.part_{place} partition of {table} default; reset role"
            ))
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        play.run(&format!("insert into {table} values (1, 'y')"));
    }
    settle(&mut play.admin, "odd_roles");
    let records = play.stage.standin.index("odd_roles");
    assert_eq!(records.len(), 7);
    assert!(records.values().all(|record| record["kind"] == "y"));
}
