//! Rows of a partition that is removed from a mirrored table are deleted from the index.

use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

/// The owner of these tables, who is not a superuser.
const OWNER: &str = "create role keeper login; create schema kept authorization keeper;
                     alter database postgres set search_path = kept, public";

/// The mirrored table `t`, with the partitions `a` (below 100), `b` and `c` (both below `m`, up to 300), each with a
/// row, and an empty partition.
pub(crate) fn stage() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    admin.batch_execute(OWNER).unwrap();
    let mut db = stage.cluster.client("postgres", "keeper");
    db.batch_execute(
        "create table t (id int primary key, v text, hidden int, shown bool not null default true) partition by range (id);
         create table a partition of t for values from (0) to (100);
         create table m partition of t for values from (100) to (300) partition by range (id);
         create table b partition of m for values from (100) to (200);
         create table c (gone int, v text, id int primary key, shown bool not null default true, hidden int);
         alter table c drop column gone;
         alter table m attach partition c for values from (200) to (300);
         create table empty partition of t for values from (900) to (1000)",
    )
    .unwrap();
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "select audit_algolia.watch('t', columns => '{v}', mode => 'mirror', filter => 'shown')",
        )
        .unwrap();
    db.batch_execute(
        "insert into t values (1, 'a'), (101, 'b'), (201, 'c'); insert into t values (2, 'a', 0, false)",
    )
    .unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c"]);
    (stage, db)
}

/// Waits until everything is done, and asserts what the index holds: objectID and `v`.
#[track_caller]
pub(crate) fn assert_holds(stage: &Stage, expected: &[&str]) {
    let mut admin = stage.admin();
    wait_until("nothing left to do", SOON, || {
        one(
            &mut admin,
            "select not exists (select from audit_algolia.queue)
                and not exists (select from audit_algolia.backfill_progress where state not in ('finished', 'failed'))",
        )
    });
    let mut held: Vec<String> = stage
        .standin
        .index("t")
        .into_iter()
        .map(|(id, record)| format!("{id} {}", record["v"].as_str().unwrap_or_default()))
        .collect();
    held.sort();
    let mut expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
    expected.sort();
    assert_eq!(held, expected);
}

#[test]
fn rows_of_a_partition_that_is_detached_leave_the_index() {
    let (stage, mut db) = stage();
    db.batch_execute("alter table t detach partition a").unwrap();
    assert_holds(&stage, &["101 b", "201 c"]);
    db.batch_execute(
        "insert into a values (3, 'alone'); update a set v = 'alone'; delete from a; truncate a",
    )
    .unwrap();
    db.batch_execute("alter table m detach partition c concurrently").unwrap();
    assert_holds(&stage, &["101 b"]);
    db.batch_execute("begin; alter table t detach partition m; rollback").unwrap();
    assert_holds(&stage, &["101 b"]);
    db.batch_execute("alter table t detach partition m").unwrap();
    assert_holds(&stage, &[]);
    let left: i64 = one(
        &mut stage.admin(),
        "select count(*) from pg_trigger where tgname like 'audit_algolia%' and tgrelid in ('a'::regclass, 'b'::regclass, 'c'::regclass)",
    );
    assert_eq!(left, 0, "nothing of ours is left on tables that are nobody's partitions");
}

#[test]
fn rows_of_a_partition_that_is_dropped_leave_the_index() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "begin; drop table a; rollback; begin; savepoint s; drop table a, b; rollback to s; commit",
    )
    .unwrap();
    db.batch_execute("create view seen as select * from a").unwrap();
    db.batch_execute("drop table a").unwrap_err();
    assert_holds(&stage, &["1 a", "101 b", "201 c"]);
    db.batch_execute("drop table if exists missing, a cascade").unwrap();
    assert_holds(&stage, &["101 b", "201 c"]);
    db.batch_execute("drop table m").unwrap();
    assert_holds(&stage, &[]);
}

#[test]
fn rows_leave_the_index_however_their_partition_is_dropped() {
    let (stage, mut db) = stage();
    let mut admin = stage.admin();
    admin.batch_execute("create schema aside authorization keeper; alter table a set schema aside").unwrap();
    db.batch_execute("drop schema aside cascade").unwrap();
    assert_holds(&stage, &["101 b", "201 c"]);
    admin
        .batch_execute("create role passing; alter table b owner to passing; drop owned by passing")
        .unwrap();
    assert_holds(&stage, &["201 c"]);
    // As for retention.
    db.batch_execute(
        "do $$ begin
            execute 'alter table m detach partition c';
            execute 'drop table c';
         end $$",
    )
    .unwrap();
    assert_holds(&stage, &[]);
}

/// The source is dropped with its table, and its records remain.
#[test]
fn a_table_that_is_dropped_with_its_partitions_tells_nothing() {
    let (stage, mut db) = stage();
    db.batch_execute("select 1; drop table a, t").unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c"]);
    assert_eq!(one::<i64>(&mut stage.admin(), "select count(*) from audit_algolia.source"), 0);
}

#[test]
fn rows_of_a_partition_that_is_emptied_leave_the_index() {
    let (stage, mut db) = stage();
    db.batch_execute("truncate b").unwrap();
    assert_holds(&stage, &["1 a", "201 c"]);
    db.batch_execute("truncate m").unwrap();
    assert_holds(&stage, &["1 a"]);
}

/// The rows of a child are its own, whatever its parent is.
#[test]
fn children_that_come_and_go_change_nothing() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text); create table child (id int primary key, v text);
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t values (1, 'own'); insert into child values (1, 'child''s'), (2, 'child''s')",
    )
    .unwrap();
    for statement in [
        "alter table child inherit t",
        "create table other () inherits (t)",
        "insert into child values (3, 'child''s'); delete from child where id = 2",
        "truncate child",
        "insert into child values (1, 'child''s')",
        "alter table child no inherit t",
        "drop table child, other",
    ] {
        db.batch_execute(statement).unwrap();
        assert_holds(&stage, &["1 own"]);
    }
}

/// In append mode, records are about changes, and no row has changed.
#[test]
fn an_index_that_is_appended_to_keeps_what_partitions_held() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text) partition by range (id);
         create table a partition of t for values from (0) to (100);
         create table b partition of t for values from (100) to (200);
         select audit_algolia.watch('t', columns => '{v}');
         insert into t values (1, 'a'), (101, 'b')",
    )
    .unwrap();
    db.batch_execute("alter table t detach partition a; drop table b").unwrap();
    assert_holds(&stage, &["1 a", "101 b"]);
}

/// Between the two transactions of DETACH … CONCURRENTLY, rows can still be written directly into the partition.
#[test]
fn writers_into_a_partition_that_is_being_detached_go_on() {
    let (stage, mut db) = stage();
    let mut reader = stage.admin();
    reader.batch_execute("begin isolation level repeatable read; select from t").unwrap();
    let mut detacher = stage.cluster.client("postgres", "keeper");
    std::thread::scope(|scope| {
        let detaching =
            scope.spawn(move || detacher.batch_execute("alter table t detach partition a concurrently"));
        wait_until("a partition on its way", SOON, || {
            one(&mut db, "select exists (select from pg_inherits where inhdetachpending)")
        });
        db.batch_execute("insert into a values (5, 'late'); update a set v = 'later' where id = 5; delete from a where id = 1")
            .unwrap();
        reader.batch_execute("commit").unwrap();
        detaching.join().unwrap().unwrap();
    });
    assert_holds(&stage, &["101 b", "201 c"]);
}

/// If a drop cannot be handled, a warning says how to repair the index.
#[test]
fn whoever_drops_a_partition_in_another_way_is_told_how_to_repair_the_index() {
    let (stage, _) = stage();
    let drop = "create extension citext; alter extension citext add table kept.b; drop extension citext";
    let output = stage.cluster.run("psql", &["-X", "postgres", "-c", drop]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("WARNING:  objects of partition kept.b remain in the index that mirrors table kept.t"),
        "{said}"
    );
    assert!(said.contains("SELECT * FROM audit_algolia.reconcile('kept.t', repair => true)"), "{said}");
    assert_holds(&stage, &["1 a", "101 b", "201 c"]);
    let mut admin = stage.admin();
    assert_eq!(
        one::<i64>(&mut admin, "select orphaned from audit_algolia.reconcile('kept.t', repair => true)"),
        1
    );
    assert_holds(&stage, &["1 a", "201 c"]);
    let output = stage.cluster.run("psql", &["-X", "postgres", "-c", "drop table kept.a"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_holds(&stage, &["201 c"]);
}

/// As for any other change that cannot be captured.
#[test]
fn rows_that_leave_and_cannot_be_told_of_are_an_error_or_a_warning() {
    let (stage, mut db) = stage();
    let mut admin = stage.admin();
    admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    admin
        .batch_execute(
            "create function kept.holds(int) returns bool stable language sql as 'select true';
             select audit_algolia.watch('t', columns => '{v}', mode => 'mirror', filter => 'holds(id)');
             create or replace function kept.holds(int) returns bool stable language plpgsql as 'begin return 1 / 0 > 0; end'",
        )
        .unwrap();
    for statement in ["alter table t detach partition a", "drop table b"] {
        let error = db.batch_execute(statement).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22012", "{error:?}");
    }
    assert_holds(&stage, &["1 a", "101 b", "201 c"]);
    db.batch_execute("set audit_algolia.on_capture_error = warn").unwrap_err();
    stage.cluster.set(&[("audit_algolia.on_capture_error", "warn")]).unwrap();
    wait_until("the setting", SOON, || {
        one::<String>(&mut db, "show audit_algolia.on_capture_error") == "warn"
    });
    db.batch_execute("alter table t detach partition a; drop table b").unwrap();
    assert_eq!(one::<i64>(&mut admin, "select count(*) from audit_algolia.repair"), 3);
    admin
        .batch_execute(
            "create or replace function kept.holds(int) returns bool stable language sql as 'select true'",
        )
        .unwrap();
    wait_until("the repairs", SOON, || {
        one::<i64>(&mut admin, "select count(*) from audit_algolia.repair") == 0
    });
    assert_holds(&stage, &["201 c"]);
}
