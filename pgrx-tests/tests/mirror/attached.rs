//! Rows of a partition that is attached to a mirrored table are added to the index.

use audit_algolia_tests::stage::{one, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::partitions::{assert_holds, stage};

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
    // A partition tree of its own, in a transaction that changes rows before and after.
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

/// A session that attaches or removes partitions may have begun before the table was watched, and does not see the
/// source.
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

/// A deletion is newer than all rows of backfills; the rows that are attached are newer still.
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

/// The rows are read in the background. Meanwhile they are changed, moved and removed again.
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

/// A session that attaches a partition need not wait, and a backfill of the whole table can be requested meanwhile.
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

/// The backfill of an attached partition that was stopped continues when a backfill of the table is requested.
#[test]
fn an_attached_partition_whose_backfill_was_cancelled_or_failed_is_read_again() {
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
    // Repaired without firing the trigger, which would fail for the old row.
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
    // No trigger sees this.
    db.batch_execute("update t set shown = true where id = 400").unwrap();
    admin.batch_execute("select audit_algolia.backfill('t')").unwrap();
    stage.cluster.set(&[("audit_algolia.workers", "1")]).unwrap();
    assert_holds(&stage, &["1 a", "101 b", "201 c", "300 d", "301 d", "400 e", "401 e"]);
}

/// The rows of the table, as the index should hold them.
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
                // A partition is detached with its rows, and attached again with others, or another one is.
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
