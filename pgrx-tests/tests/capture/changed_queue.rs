//! If somebody has changed the table of the queue, capture goes through the executor with the owner's rights.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::play::{failure, one, settle, texts, watch, ROLES};

fn stage() -> (Stage, Client, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute(ROLES).unwrap();
    admin
        .batch_execute("create table t (id int primary key, v text); create table log (id bigint primary key); grant insert on t to app")
        .unwrap();
    watch(&mut admin, "t", "t", "columns => '{id, v}'");
    let app = stage.cluster.client("postgres", "app");
    (stage, admin, app)
}

const UNDO: &str = "
    drop trigger if exists seen on audit_algolia.queue; drop index if exists audit_algolia.more;
    alter table audit_algolia.queue drop constraint if exists small, disable row level security, no force row level security;
    drop rule if exists also on audit_algolia.queue; alter table audit_algolia.queue drop column if exists more";

#[test]
fn whatever_was_added_to_the_queue_takes_part() {
    let (stage, mut admin, mut app) = stage();
    admin
        .batch_execute(
            "create table seen (id bigint, who text);
             create function seen() returns trigger language plpgsql as
                 $$ begin insert into public.seen values (new.id, current_user); return new; end $$",
        )
        .unwrap();
    let mut next = 0..;
    let mut expected = Vec::new();
    for addition in [
        "select",
        "create trigger seen after insert on audit_algolia.queue for each row execute function seen()",
        "create index more on audit_algolia.queue (enqueued_at)",
        "alter table audit_algolia.queue add constraint small check (length(record) < 10000)",
        "alter table audit_algolia.queue enable row level security",
        "alter table audit_algolia.queue enable row level security, force row level security",
        "create rule also as on insert to audit_algolia.queue do also insert into public.seen values (new.id, 'rule')",
        "alter table audit_algolia.queue add column more text default 'more'",
        "select",
    ] {
        admin.batch_execute(UNDO).unwrap();
        admin.batch_execute("truncate seen").unwrap();
        admin.batch_execute(addition).unwrap();
        for rows in [1, 3, 300] {
            let ids: Vec<i32> = next.by_ref().take(rows).collect();
            app.execute("insert into t select i, 'v' from unnest($1::int[]) as i", &[&ids])
                .unwrap_or_else(|error| panic!("{addition}: {error:?}"));
            expected.extend(ids);
        }
        settle(&mut admin, "t");
        assert_eq!(stage.standin.index("t").into_keys().collect::<Vec<_>>(), texts(&expected), "{addition}");
        if addition.contains("trigger") {
            let seen: i64 = one(&mut admin, "select count(*) from seen where who = 'postgres'");
            assert_eq!(seen, 304);
        }
    }
    // DROP COLUMN leaves a dropped column behind. So the executor is used from now on, and still works.
    let queued: i64 = one(&mut admin, "select queued from audit_algolia.queue_stats()");
    assert_eq!(queued, 0);
}

#[test]
fn a_check_on_the_queue_has_its_say() {
    let (stage, mut admin, mut app) = stage();
    app.batch_execute("insert into t values (1, 'a')").unwrap();
    admin
        .batch_execute("alter table audit_algolia.queue add constraint small check (length(record) < 100)")
        .unwrap();
    let refused = failure(&mut app, "insert into t values (2, repeat('x', 200))");
    assert_eq!(refused.code().code(), "23514");
    app.batch_execute("insert into t values (3, 'c')").unwrap();
    settle(&mut admin, "t");
    assert_eq!(stage.standin.index("t").into_keys().collect::<Vec<_>>(), ["1", "3"]);
}

#[test]
fn a_trigger_on_the_queue_may_insert_into_another_watched_table() {
    let (stage, mut admin, mut app) = stage();
    watch(&mut admin, "log", "log", "columns => '{id}'");
    admin
        .batch_execute(
            "create function pass_on() returns trigger language plpgsql as
                 $$ begin
                     if new.index_id = (select id from audit_algolia.index where name = 't') then
                         insert into public.log values (new.id);
                     end if;
                     return new;
                 end $$;
             create trigger pass_on after insert on audit_algolia.queue for each row execute function pass_on()",
        )
        .unwrap();
    app.batch_execute(
        "insert into t values (1, 'a'); insert into t select generate_series(2, 400);
         begin; savepoint a; insert into t values (500); rollback to a; insert into t values (501); commit",
    )
    .unwrap();
    settle(&mut admin, "t");
    settle(&mut admin, "log");
    assert_eq!(stage.standin.index("t").len(), 401);
    assert_eq!(stage.standin.index("log").len(), 401);
}

#[test]
fn an_index_that_is_made_anew_while_a_statement_runs_is_found() {
    let (stage, mut admin, mut app) = stage();
    // This happens last before capture, and nothing of it reads a table.
    admin
        .batch_execute(
            "create function waits() returns trigger language plpgsql as
                 $$ begin perform pg_advisory_lock_shared(7); return null; end $$;
             create trigger aaa after insert on t execute function waits()",
        )
        .unwrap();
    app.batch_execute("insert into t values (1, 'a'); select pg_advisory_unlock_shared(7)").unwrap();
    admin.batch_execute("select pg_advisory_lock(7)").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            app.batch_execute("insert into t values (2, 'b')").unwrap();
        });
        let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
        wait_until("the writer", SOON, || one::<i64>(&mut admin, waits) == 1);
        admin
            .batch_execute(
                "alter table audit_algolia.queue drop constraint queue_pkey;
                 alter table audit_algolia.queue add constraint queue_pkey primary key (index_id, id);
                 select pg_advisory_unlock(7)",
            )
            .unwrap();
        writer.join().unwrap();
    });
    stage.wait_for_records("t", 2);
}
