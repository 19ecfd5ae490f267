//! The index follows the rows of a partitioned table however they come and go.

use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

/// Whose tables these are: somebody who is no superuser.
const OWNER: &str = "create role keeper login; create schema kept authorization keeper;
                     alter database postgres set search_path = kept, public";

/// The table `t`, mirrored, with the partitions `a` (below 100), `b` and `c` (both below `m`, up to 300), each with a row,
/// and a partition with none.
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

/// Waits until all has been done that there is to do, and asserts what the index holds: objectID and `v`.
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
    // As retention does it.
    db.batch_execute(
        "do $$ begin
            execute 'alter table m detach partition c';
            execute 'drop table c';
         end $$",
    )
    .unwrap();
    assert_holds(&stage, &[]);
}

/// With the table its source is gone, and its records are nobody's.
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

/// Rows of a child are its own, whatever its parent is.
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

/// In append mode records are of changes, and none of a row has changed.
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

/// Between the two transactions of DETACH … CONCURRENTLY, rows can still be written straight into the partition.
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

#[test]
fn rows_of_a_partition_that_is_attached_come_into_the_index() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create table d (v text, id int primary key, shown bool not null default true, hidden int);
         insert into d select 'd', n, n < 303 from generate_series(300, 310) as n;
         alter table t attach partition d for values from (300) to (400)",
    )
    .unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c", "300 d", "301 d", "302 d"]);
    // A tree of its own, in a transaction that changes rows before and after.
    db.batch_execute(
        "begin;
         create table n (id int primary key, v text, hidden int, shown bool not null default true) partition by range (id);
         create table n1 partition of n for values from (400) to (450);
         create table n2 partition of n for values from (450) to (500);
         insert into n values (400, 'n'), (401, 'n'), (450, 'n'), (451, 'n'); delete from n where id = 401;
         alter table t attach partition n for values from (400) to (500);
         insert into t values (402, 'after'); update t set v = 'after' where id = 450; delete from n where id = 451;
         commit",
    )
    .unwrap();
    assert_holds(
        &stage,
        &["1 a", "101 b", "201 c", "300 d", "301 d", "302 d", "400 n", "402 after", "450 after"],
    );
    db.batch_execute("begin; alter table t detach partition d; alter table t attach partition d for values from (300) to (400); commit")
        .unwrap();
    assert_holds(
        &stage,
        &["1 a", "101 b", "201 c", "300 d", "301 d", "302 d", "400 n", "402 after", "450 after"],
    );
    db.batch_execute("truncate n; alter table t detach partition d; delete from d where id = 300; alter table t attach partition d for values from (300) to (400)")
        .unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c", "301 d", "302 d"]);
}

/// Whoever attaches or takes away partitions may have begun before the table was watched, and sees nothing of that.
#[test]
fn partitions_come_and_go_in_transactions_older_than_the_watch() {
    let (stage, mut db) = stage();
    stage.admin().batch_execute("select audit_algolia.unwatch('t')").unwrap();
    db.batch_execute("create table d (like b including all); insert into d values (300, 'd')").unwrap();
    db.batch_execute("begin isolation level repeatable read; select from t").unwrap();
    stage
        .admin()
        .batch_execute(
            "select audit_algolia.watch('t', columns => '{v}', mode => 'mirror', filter => 'shown')",
        )
        .unwrap();
    db.batch_execute("alter table t attach partition d for values from (300) to (400)").unwrap();
    db.batch_execute("alter table t detach partition a; drop table b; commit").unwrap();
    assert_holds(&stage, &["201 c", "300 d"]);
}

/// What was deleted from a table is a newer version than all history; what is attached is newer still.
#[test]
fn rows_that_are_attached_supersede_deletions_that_still_wait() {
    let (stage, mut db) = stage();
    stage.admin().batch_execute("select audit_algolia.pause()").unwrap();
    db.batch_execute(
        "delete from t where id in (1, 101); create table again (like a including all);
         insert into again values (1, 'again'), (3, 'again');
         alter table t detach partition a; alter table t attach partition again for values from (0) to (100)",
    )
    .unwrap();
    stage.admin().batch_execute("select audit_algolia.resume()").unwrap();
    assert_holds(&stage, &["1 again", "3 again", "201 c"]);
}

/// The work is done in the background; meanwhile the rows are changed, moved and taken away again.
#[test]
fn rows_that_are_attached_may_change_before_they_have_come() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create table d (like a including all);
         insert into d select n, 'd' from generate_series(10000, 19999) as n;
         create table e (like a including all);
         insert into e select n, 'e' from generate_series(20000, 20999) as n;
         alter table t attach partition d for values from (10000) to (20000);
         update t set hidden = 1 where id between 10000 and 10100;
         update t set v = 'later' where id = 10001;
         delete from t where id between 10010 and 19990;
         alter table t attach partition e for values from (20000) to (30000);
         alter table t detach partition e",
    )
    .unwrap();
    let mut expected: Vec<String> = vec!["1 a".into(), "101 b".into(), "201 c".into(), "10001 later".into()];
    expected
        .extend((10000..=10009).chain(19991..=19999).filter(|id| *id != 10001).map(|id| format!("{id} d")));
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert_holds(&stage, &expected);
}

/// Whoever attaches is not kept, and a backfill of the whole table may be asked for meanwhile.
#[test]
fn what_is_attached_shows_in_the_progress_until_it_has_come() {
    let (stage, mut db) = stage();
    stage.cluster.set(&[("audit_algolia.workers", "0")]).unwrap();
    db.batch_execute(
        "create table d (like a including all); insert into d select n, 'd' from generate_series(300, 310) as n;
         alter table t attach partition d for values from (300) to (400)",
    )
    .unwrap();
    let shown = "select format('%s %s %s', source, state, partition) from audit_algolia.backfill_progress";
    let mut admin = stage.admin();
    assert_eq!(one::<String>(&mut admin, shown), "t waiting d");
    admin.batch_execute("select audit_algolia.backfill('t')").unwrap();
    stage.cluster.set(&[("audit_algolia.workers", "1")]).unwrap();
    let expected: Vec<String> = ["1 a", "101 b", "201 c"]
        .into_iter()
        .map(str::to_owned)
        .chain((300..=310).map(|id| format!("{id} d")))
        .collect();
    assert_holds(&stage, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(one::<String>(&mut admin, shown), "t finished ");
}

/// An arrival that was stopped goes on when the history of the table is asked for.
#[test]
fn an_arrival_that_was_cancelled_or_failed_begins_anew() {
    let (stage, mut db) = stage();
    let mut admin = stage.admin();
    admin.batch_execute("delete from t where id = 2; select audit_algolia.unwatch('t')").unwrap();
    admin
        .batch_execute(
            "select audit_algolia.watch('t', columns => '{v}', mode => 'mirror', filter => '1 / coalesce(hidden, 1) > 0')",
        )
        .unwrap();
    db.batch_execute(
        "create table d (like a including all); insert into d values (300, 'd', 1), (301, 'd', 0);
         alter table t attach partition d for values from (300) to (400)",
    )
    .unwrap();
    let state = "select state from audit_algolia.backfill_progress where partition is not null";
    wait_until("a failure", SOON, || one::<String>(&mut admin, state) == "failed");
    // Mended behind the trigger's back, which would look at what the row was.
    admin.batch_execute("alter table d disable trigger user; update d set hidden = 1 where id = 301; alter table d enable trigger user").unwrap();
    admin.batch_execute("select audit_algolia.backfill('t')").unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c", "300 d", "301 d"]);

    stage.cluster.set(&[("audit_algolia.workers", "0")]).unwrap();
    db.batch_execute(
        "create table e (like a including all); insert into e values (400, 'e', 1), (401, 'e', 1);
         alter table t attach partition e for values from (400) to (500)",
    )
    .unwrap();
    admin.batch_execute("select audit_algolia.cancel_backfill('t')").unwrap();
    assert_eq!(one::<String>(&mut admin, state), "cancelled");
    // Of this nobody is told now.
    db.batch_execute("update t set shown = true where id = 400").unwrap();
    admin.batch_execute("select audit_algolia.backfill('t')").unwrap();
    stage.cluster.set(&[("audit_algolia.workers", "1")]).unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c", "300 d", "301 d", "400 e", "401 e"]);
}

/// Rows of the table, as the index is to hold them.
fn rows(db: &mut Client) -> Vec<String> {
    let rows = db.query("select format('%s %s', id, v) from t where shown order by 1", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn the_index_equals_the_table_however_partitions_come_and_go_meanwhile() {
    let (stage, mut db) = stage();
    db.batch_execute("create table rest partition of t default").unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let deadlock = |error: &postgres::Error| {
        error.code().is_some_and(|code| ["40P01", "23505", "23514"].contains(&code.code()))
    };
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (stage, is_over) = (&stage, &is_over);
            scope.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(seed);
                let mut db = stage.cluster.client("postgres", "keeper");
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let (id, v) = (dice.i32(0..1000), dice.u8(..));
                    let statement = match dice.u8(0..5) {
                        0 => format!("insert into t values ({id}, '{v}') on conflict (id) do update set v = excluded.v"),
                        1 => format!("update t set hidden = {v} where id between {id} and {id} + 20"),
                        2 => format!("update t set shown = not shown where id = {id}"),
                        3 => format!("delete from t where id = {id}"),
                        _ => format!("update t set id = id + {v} where id = {id}"),
                    };
                    if let Err(error) = db.batch_execute(&statement) {
                        assert!(deadlock(&error), "{statement}: {error:?}");
                    }
                }
            });
        }
        let mut dice = fastrand::Rng::with_seed(7);
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..30 {
                // A partition takes its rows along, and comes back with others, or another does.
                let aside = format!("aside_{round}");
                let leave = match dice.u8(0..3) {
                    0 => format!("alter table t detach partition a; alter table a rename to {aside}"),
                    1 => "alter table t detach partition a; drop table a".to_owned(),
                    _ => "drop table a".to_owned(),
                };
                let come = "create table a (like t including all);
                     insert into a select n, 'came', n from generate_series(0, 99) as n where n % 3 = 0;
                     delete from t where id < 100;
                     alter table t attach partition a for values from (0) to (100)";
                for statement in [format!("begin; {leave}; commit"), format!("begin; lock t; {come}; commit")]
                {
                    while let Err(error) = db.batch_execute(&statement) {
                        assert!(deadlock(&error), "{statement}: {error:?}");
                        db.batch_execute("rollback").unwrap();
                    }
                }
            }
        }));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Err(panic) = changed {
            std::panic::resume_unwind(panic);
        }
    });
    let expected = rows(&mut db);
    assert_holds(&stage, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

/// What cannot be followed is said, with what mends it.
#[test]
fn whoever_drops_a_partition_in_another_way_is_told_how_to_mend_the_index() {
    let (stage, _) = stage();
    let drop = "create extension citext; alter extension citext add table kept.b; drop extension citext";
    let output = stage.cluster.run("psql", &["-X", "postgres", "-c", drop]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("WARNING:  objects of partition kept.b stay in the index that mirrors table kept.t"),
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

/// As any other change of rows that cannot be captured.
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
