//! DDL: statements about tables that nobody watches are not affected, and the others wait for nobody.

use std::time::Duration;

use audit_algolia_tests::stage::{one, SOON};
use audit_algolia_tests::wait::{stays_true, wait_until};

use crate::play::{stage, Play};

const MIRRORED: &str = "
    create table t (id int primary key, v text) partition by range (id);
    create table low partition of t for values from (0) to (100);
    create table high partition of t for values from (100) to (200);
    create table other (id int primary key, v text)";

#[test]
fn a_statement_about_other_tables_waits_for_no_locked_partition() {
    let mut play = Play::new("ddl_apart", MIRRORED);
    play.watch("t", "columns => '{v}', mode => 'mirror'");
    play.owner.batch_execute("begin; lock table low in access exclusive mode").unwrap();
    let mut other = play.another_owner();
    other
        .batch_execute(
            "set lock_timeout = '10 s';
             create temporary table mine (id int primary key); drop table mine;
             create table plain (id int); drop table plain;
             create table child () inherits (other); drop table child;
             create table roots (id int) partition by list (id); create table leaf partition of roots default;
             alter table roots detach partition leaf; drop table roots;
             alter table other add column more int",
        )
        .unwrap();
    play.owner.batch_execute("rollback").unwrap();
}

#[test]
fn sibling_partitions_are_altered_in_two_sessions_without_a_deadlock() {
    let mut play = Play::new("ddl_siblings", MIRRORED);
    play.watch("t", "columns => '{v}', mode => 'mirror'");
    let mut other = play.another_owner();
    let alter = |table: &str| {
        format!("set lock_timeout = '10 s'; begin; alter table {table} add constraint fits check (v <> 'x')")
    };
    play.owner.batch_execute(&alter("low")).unwrap();
    other.batch_execute(&alter("high")).unwrap();
    other.batch_execute("commit").unwrap();
    play.owner.batch_execute("commit").unwrap();
}

#[test]
fn a_partition_that_comes_is_covered_while_its_sibling_is_locked() {
    let mut play = Play::new("ddl_covered", MIRRORED);
    play.watch("t", "columns => '{v}', mode => 'mirror'");
    play.run("insert into t values (1, 'a')");
    let mut other = play.another_owner();
    other
        .batch_execute(
            "create table deep (id int primary key, v text) partition by range (id);
             create table deeper partition of deep for values from (200) to (250)",
        )
        .unwrap();
    play.owner.batch_execute("begin; lock table low in share row exclusive mode").unwrap();
    other
        .batch_execute(
            "set lock_timeout = '10 s';
             alter table t attach partition deep for values from (200) to (300)",
        )
        .unwrap();
    play.owner.batch_execute("rollback").unwrap();
    play.run("insert into t values (201, 'deep')");
    assert_eq!(play.ids(), ["1", "201"]);
    other.batch_execute("truncate deeper").unwrap();
    assert_eq!(play.ids(), ["1"]);
}

/// The extension cannot undo the renaming, but DDL on other tables must not depend on it.
#[test]
fn tables_come_and_go_though_the_schema_was_renamed() {
    let stage = stage();
    stage.admin().batch_execute("create database ddl_renamed").unwrap();
    let mut admin = stage.cluster.client("ddl_renamed", "postgres");
    admin
        .batch_execute(
            "create extension audit_algolia;
             create table t (id int primary key) partition by list (id);
             create table other partition of t for values in (1);
             select audit_algolia.watch('t', columns => '{id}')",
        )
        .unwrap();
    // This session has cached where everything is.
    let mut writer = stage.cluster.client("ddl_renamed", "postgres");
    writer.batch_execute("insert into t values (1)").unwrap();
    admin.batch_execute("alter schema audit_algolia rename to moved").unwrap();
    writer
        .batch_execute(
            "create table plain (id int); drop table plain;
             create table leaf partition of t default;
             alter table t owner to current_user; alter table t detach partition leaf;
             drop table leaf; drop table t",
        )
        .unwrap();
    admin.batch_execute("alter schema moved rename to audit_algolia").unwrap();
    let states: i64 =
        one(&mut admin, "select count(*) from audit_algolia.sources where state = 'table dropped'");
    assert_eq!(states, 1);
}

/// The session's snapshot shows no source. Still, the current state counts for a table that it attaches or that
/// inherits from a watched table.
#[test]
fn a_table_watched_after_a_sessions_snapshot_is_followed_all_the_same() {
    let mut play = Play::new(
        "ddl_snapshot",
        "create table t (id int primary key, v text) partition by range (id);
         create table low (id int primary key, v text); create table high (id int primary key, v text);
         create table parent (id int primary key, v text); create table child (id int primary key, v text);
         create table mirrored (id int primary key, v text) partition by range (id);
         create table leaf (id int primary key, v text)",
    );
    let mut other = play.another_owner();
    other.batch_execute("begin isolation level repeatable read; select 1").unwrap();
    const ALL: &str = "columns => '{v}', operations => '{insert, update, delete}'";
    for table in ["low", "high", "parent", "child"] {
        play.watch(table, &format!("{ALL}, object_prefix => '{table}:'"));
    }
    play.watch("mirrored", "columns => '{v}', mode => 'mirror', object_prefix => 'mirrored:'");
    other
        .batch_execute(
            "alter table t attach partition low for values from (0) to (100);
             alter table t attach partition high for values from (100) to (200);
             alter table child inherit parent;
             alter table mirrored attach partition leaf default;
             commit",
        )
        .unwrap();
    let states: String = one(
        &mut play.admin,
        "select string_agg(distinct state, ',') from audit_algolia.sources where index_name = 'ddl_snapshot'",
    );
    assert_eq!(states, "watching");
    play.run(
        "insert into t values (1, 'a'), (101, 'b'); update t set v = 'c' where id = 1;
         insert into child values (1, 'child'); update parent set v = 'd';
         insert into mirrored values (1, 'm')",
    );
    other.batch_execute("truncate leaf").unwrap();
    let mut seen: Vec<String> = play
        .records()
        .values()
        .map(|record| {
            let id = record["objectID"].as_str().unwrap().split('@').next().unwrap().to_owned();
            format!("{id} {} {}", record["op"].as_str().unwrap_or_default(), record["v"].as_str().unwrap())
        })
        .collect();
    seen.sort();
    let expected =
        ["child:1 insert child", "child:1 update d", "high:101 insert b", "low:1 insert a", "low:1 update c"];
    assert_eq!(seen, expected);
}

/// When a table gets a child, its triggers must be replaced, which would have to wait for writers. The session that
/// creates the child gets a warning, `sources` shows the state, and the triggers are replaced as soon as nobody writes.
#[test]
fn outdated_triggers_of_a_table_in_use_are_replaced_as_soon_as_nobody_writes_to_it() {
    let mut play = Play::new("ddl_in_use", "create table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}', operations => '{insert, update}'");
    play.app.batch_execute("begin; insert into t values (1, 'a')").unwrap();
    let mut other = play.another_owner();
    other.batch_execute("set lock_timeout = '10 s'; create table child () inherits (t)").unwrap();
    let state = "select state from audit_algolia.sources where index_name = 'ddl_in_use'";
    assert_eq!(one::<String>(&mut play.admin, state), "trigger outdated");
    // Nobody waits for the process that would replace them.
    stays_true("they are kept", Duration::from_secs(1), || {
        other.batch_execute("begin; insert into t values (2, 'b'); rollback").unwrap();
        one::<String>(&mut play.admin, state) == "trigger outdated"
    });
    play.app.batch_execute("commit").unwrap();
    wait_until("other triggers", SOON, || one::<String>(&mut play.admin, state) == "watching");
    let levels = "select string_agg(distinct (tgtype & 1)::text, ', ') from pg_trigger
                  where tgrelid = 'ddl_in_use.t'::regclass and tgname like 'audit_algolia%'";
    let insert_stays = "select count(*) from pg_trigger where tgrelid = 'ddl_in_use.t'::regclass and tgname like '%insert' and tgtype & 1 = 0";
    assert_eq!(one::<String>(&mut play.admin, levels), "0, 1");
    assert_eq!(one::<i64>(&mut play.admin, insert_stays), 1, "insertions name the table they are for");
}

/// Both owners are granted the right to create triggers on future partitions, which only one transaction can do at a
/// time.
#[test]
fn partitioned_tables_of_two_owners_come_under_watch_at_once() {
    let mut play = Play::new("ddl_owners", "");
    let owned = |number: i32| {
        format!(
            "create role ddl_owner_{number}; create table t{number} (id int primary key) partition by list (id);
             create table leaf{number} partition of t{number} default; alter table t{number} owner to ddl_owner_{number};"
        )
    };
    play.admin.batch_execute(&[owned(1), owned(2), owned(3)].concat()).unwrap();
    let watch = |number: i32| {
        format!("select audit_algolia.watch('ddl_owners.t{number}', 'ddl_owners', columns => '{{id}}', object_prefix => '{number}:')")
    };
    play.admin.batch_execute(&watch(3)).unwrap();
    play.admin.batch_execute(&format!("begin; {}", watch(1))).unwrap();
    let mut second = play.stage.admin();
    let pid: i32 = one(&mut second, "select pg_backend_pid()");
    let statement = watch(2);
    let waiter = std::thread::spawn(move || second.batch_execute(&statement));
    let waits = format!("select exists (select from pg_locks where pid = {pid} and not granted)");
    wait_until("the second to wait", SOON, || one(&mut play.admin, &waits));
    // A session that only changes the owner of a table does not have to wait.
    let mut third = play.stage.admin();
    third.batch_execute("set lock_timeout = '10 s'; alter table ddl_owners.t3 owner to ddl_owner_1").unwrap();
    play.admin.batch_execute("commit").unwrap();
    waiter.join().unwrap().unwrap();
    for number in [1, 2] {
        play.admin
            .batch_execute(&format!(
                "grant create, usage on schema ddl_owners to ddl_owner_{number}; set role ddl_owner_{number};
                 create table more{number} partition of t{number} for values in (1); reset role"
            ))
            .unwrap();
    }
}
