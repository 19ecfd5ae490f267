//! Event triggers of others are not affected by what ours do.

use audit_algolia_tests::stage::Stage;
use postgres::Client;

use crate::play::{failure, one, texts};

/// A log of all DDL that names its table without a schema.
const LOG: &str = "
    create table ddl_log (tag text, object text, who text default current_user);
    grant insert, select on ddl_log to public;
    create function log_ddl() returns event_trigger language plpgsql as $$ begin
        insert into ddl_log select command_tag, object_identity from pg_event_trigger_ddl_commands();
    end $$;
    create function log_drops() returns event_trigger language plpgsql as $$ begin
        insert into ddl_log select 'dropped', object_identity from pg_event_trigger_dropped_objects();
    end $$;
    create event trigger log_ddl on ddl_command_end execute function log_ddl();
    create event trigger log_drops on sql_drop execute function log_drops()";

/// One that stores its notes in a temporary table.
const NOTES: &str = "
    create function note_ddl() returns event_trigger language plpgsql as $$ begin
        create temp table if not exists ddl_notes (tag text);
        insert into ddl_notes values (tg_tag);
    end $$;
    create event trigger note_ddl on ddl_command_end
        when tag in ('CREATE TRIGGER', 'DROP TRIGGER', 'ALTER TABLE', 'GRANT') execute function note_ddl()";

/// A session of a user who may watch their own tables and do nothing else.
fn owner(stage: &Stage, db: &mut Client) -> Client {
    db.batch_execute(
        "create role owner login; grant create on schema public to owner;
         grant usage on schema audit_algolia to owner;
         grant execute on function audit_algolia.watch, audit_algolia.unwatch to owner",
    )
    .unwrap();
    stage.cluster.client("postgres", "owner")
}

/// Reads our triggers from the log, and empties it.
fn logged(db: &mut Client) -> Vec<String> {
    let query =
        "delete from ddl_log where object ~ 'audit_algolia' returning who || ': ' || tag || ' ' || object";
    texts(db.query(query, &[]).unwrap().iter().map(|row| row.get::<_, String>(0)))
}

#[test]
fn a_log_of_ddl_finds_its_table_while_tables_are_watched_attached_and_unwatched() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    let mut owner = owner(&stage, &mut db);
    db.batch_execute(LOG).unwrap();
    db.batch_execute(NOTES).unwrap();
    for (client, who, name) in [(&mut owner, "owner", "mine"), (&mut db, "postgres", "ours")] {
        client
            .batch_execute(&format!(
                "create table {name} (id int primary key, v text) partition by range (id);
                 create table {name}_1 partition of {name} for values from (0) to (100);
                 create table {name}_single (id int primary key, v text)"
            ))
            .unwrap();
        client
            .batch_execute(&format!(
                "select audit_algolia.watch('{name}', columns => '{{v}}', mode => 'mirror');
                 select audit_algolia.watch('{name}_single', columns => '{{v}}', operations => '{{insert, delete}}')"
            ))
            .unwrap();
        let (first, second): (i32, i32) = {
            let query = "select min(id), max(id) from audit_algolia.sources";
            let row = stage.admin().query_one(query, &[]).unwrap();
            (row.get(0), row.get(1))
        };
        let trigger = |id: i32, operation: &str, table: &str| {
            format!("{who}: CREATE TRIGGER audit_algolia_{id}_{operation} on public.{table}")
        };
        let mut expected = vec![
            trigger(second, "insert", &format!("{name}_single")),
            trigger(second, "delete", &format!("{name}_single")),
        ];
        expected.extend(
            ["insert", "update", "delete", "truncate"].map(|operation| trigger(first, operation, name)),
        );
        expected.sort();
        let told: Vec<String> =
            logged(&mut stage.admin()).into_iter().filter(|line| line.contains("CREATE TRIGGER")).collect();
        assert_eq!(told, expected);
        // Children of a watched table are handled.
        client
            .batch_execute(&format!(
                "create table {name}_2 partition of {name} for values from (100) to (200);
                 create table {name}_root (id int, v text) partition by range (id);
                 alter table {name}_root attach partition {name}_single for values from (0) to (100);
                 insert into {name} values (1, 'a'), (150, 'b'); insert into {name}_root values (2, 'c');
                 truncate {name}_2"
            ))
            .unwrap();
        client
            .batch_execute(&format!(
                "select audit_algolia.unwatch('{name}'), audit_algolia.unwatch('{name}_single')"
            ))
            .unwrap();
        let triggers = format!("select count(*) from pg_trigger where tgname like 'audit_algolia%' and tgrelid::regclass::text like '{name}%'");
        assert_eq!(one::<i64>(client, &triggers), 0);
        let told = logged(&mut stage.admin());
        let dropped = format!("{who}: dropped audit_algolia_{first}_insert on public.{name}");
        assert!(told.contains(&dropped), "{told:?}");
        assert!(told.iter().all(|line| line.starts_with(who)), "{told:?}");
    }
}

/// PostgreSQL sets search_path to the schema of an extension while it is created, as install.md says.
#[test]
fn event_triggers_that_find_their_way_by_themselves_see_the_extension_come_and_go() {
    let stage = Stage::builder().start().unwrap();
    stage.admin().batch_execute("create database other").unwrap();
    let mut db = stage.cluster.client("other", "postgres");
    db.batch_execute(LOG).unwrap();
    let error = failure(&mut db, "create extension audit_algolia");
    assert_eq!((error.code().code(), error.message()), ("42P01", "relation \"ddl_log\" does not exist"));
    let context = error.where_().unwrap_or_default();
    assert!(context.contains("log_ddl() line 2 at SQL statement"), "{context}");
    db.batch_execute(
        "alter function log_ddl() set search_path = public; alter function log_drops() set search_path = public",
    )
    .unwrap();
    let tags = "'CREATE FUNCTION', 'CREATE VIEW', 'COMMENT', 'GRANT', 'REVOKE', 'CREATE EXTENSION'";
    db.batch_execute(&NOTES.replace("'CREATE TRIGGER', 'DROP TRIGGER', 'ALTER TABLE', 'GRANT'", tags))
        .unwrap();
    db.batch_execute("create extension audit_algolia").unwrap();
    let told = logged(&mut db);
    for made in ["CREATE TABLE audit_algolia.queue", "CREATE EXTENSION audit_algolia"] {
        assert!(told.contains(&format!("postgres: {made}")), "{told:?}");
    }
    db.batch_execute(
        "create table t (id int primary key); select audit_algolia.watch('t', 'other', columns => '{id}');
         insert into t values (1)",
    )
    .unwrap();
    stage.wait_for_records("other", 1);
    // PostgreSQL counts the temporary table as part of the extension and drops it too.
    assert!(one::<i64>(&mut db, "select count(*) from ddl_notes") > 20);
    db.batch_execute("drop extension audit_algolia cascade").unwrap();
    assert!(logged(&mut db).contains(&"postgres: dropped audit_algolia.queue".to_owned()));
}

#[test]
fn an_error_of_an_event_trigger_tells_where_it_was_raised() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute("create schema logs; set search_path = logs, public").unwrap();
    db.batch_execute(LOG).unwrap();
    db.batch_execute("create table public.t (id int primary key, v text)").unwrap();
    // With this search_path, no statement of the session can find the log itself.
    db.batch_execute("set search_path = public").unwrap();
    for statement in [
        "select audit_algolia.watch('t', columns => '{v}')",
        "do $$ begin perform audit_algolia.watch('t', columns => '{v}'); end $$",
    ] {
        let error = failure(&mut db, statement);
        assert_eq!((error.code().code(), error.message()), ("42P01", "relation \"ddl_log\" does not exist"));
        let context = error.where_().unwrap_or_default();
        assert_eq!(
            context.matches("PL/pgSQL function log_ddl() line 2 at SQL statement").count(),
            1,
            "{context}"
        );
        assert_eq!(context.contains("inline_code_block"), statement.starts_with("do"), "{context}");
    }
    db.batch_execute("set search_path = logs, public; select audit_algolia.watch('t', columns => '{v}')")
        .unwrap();
}
