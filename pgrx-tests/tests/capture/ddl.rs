//! Statements that define tables: those about tables that nobody watches are left alone, and the others wait for nobody.

use audit_algolia_tests::stage::one;

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

/// The name is not ours to give back; what others do to their tables must not depend on it.
#[test]
fn tables_come_and_go_though_the_schema_was_renamed() {
    let stage = stage();
    stage.admin().batch_execute("create database ddl_renamed").unwrap();
    let mut admin = stage.cluster.client("ddl_renamed", "postgres");
    admin
        .batch_execute(
            "create extension audit_algolia;
             create table t (id int primary key) partition by list (id);
             select audit_algolia.watch('t', columns => '{id}');
             alter schema audit_algolia rename to moved",
        )
        .unwrap();
    admin
        .batch_execute(
            "create table plain (id int); drop table plain;
             create table leaf partition of t default;
             alter table t owner to current_user; alter table t detach partition leaf;
             drop table leaf; drop table t;
             alter schema moved rename to audit_algolia",
        )
        .unwrap();
    let states: i64 =
        one(&mut admin, "select count(*) from audit_algolia.sources where state = 'table dropped'");
    assert_eq!(states, 1);
}
