//! PostgreSQL 18: keys without overlaps, and constraints that are not enforced or not checked.

use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::wait::wait_until;

use super::has;
use crate::changes::briefs;
use crate::play::{failure, texts, Play};

const ALL: &str = "operations => '{insert, update, delete, truncate}'";

/// A table whose rows are told apart by a period, too.
const PERIODS: &str = "
    create table t (room int, during daterange, v text, primary key (room, during without overlaps));
    insert into t values (1, '[2025-12-01, 2026-01-01)', 'before')";

fn play(name: &'static str) -> Play {
    let mut admin = crate::play::stage().admin();
    // Two tests may make it at the same time.
    admin
        .batch_execute(
            "select pg_advisory_lock(18); create extension if not exists btree_gist; select pg_advisory_unlock(18)",
        )
        .unwrap();
    Play::new(name, PERIODS)
}

#[test]
fn rows_under_a_key_without_overlaps_are_captured_backfilled_and_compared() {
    if !has(18, "keys WITHOUT OVERLAPS") {
        return;
    }
    let mut play = play("periods");
    play.watch("t", "columns => '{v}', backfill => true");
    play.run(
        "insert into t values (1, '[2026-01-01, 2026-02-01)', 'a'), (2, '[2026-01-01, 2026-02-01)', 'b')",
    );
    assert!(play.app.batch_execute("insert into t values (1, '[2026-01-15, 2026-01-20)', 'over')").is_err());
    play.run(
        "insert into t values (1, '[2026-01-15, 2026-01-20)', 'over') on conflict do nothing;
         insert into t values (1, '[2026-02-01, 2026-03-01)', 'c')",
    );
    let expected = [
        "1:[2025-12-01,2026-01-01)",
        "1:[2026-01-01,2026-02-01)",
        "1:[2026-02-01,2026-03-01)",
        "2:[2026-01-01,2026-02-01)",
    ];
    wait_until("the history", SOON, || play.ids() == expected);
    let query = "select checked, missing + different + orphaned from audit_algolia.reconcile('t')";
    let row = play.admin.query_one(query, &[]).unwrap();
    assert_eq!((row.get(0), row.get(1)), (4_i64, 0_i64));
}

#[test]
fn changes_under_a_key_without_overlaps_are_told() {
    if !has(18, "keys WITHOUT OVERLAPS") {
        return;
    }
    let mut play = play("period_changes");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("update t set v = 'a'");
    play.run("update t set during = '[2025-12-15, 2026-01-01)'");
    play.run("delete from t");
    assert_eq!(
        briefs(&mut play),
        [
            "1:[2025-12-01,2026-01-01) update a before",
            "1:[2025-12-15,2026-01-01) update a",
            "1:[2025-12-15,2026-01-01) delete a",
        ]
    );
}

/// A mirrored row is looked up by its key, in an index of equal values.
#[test]
fn a_key_without_overlaps_cannot_be_mirrored() {
    if !has(18, "keys WITHOUT OVERLAPS") {
        return;
    }
    let mut play = play("period_mirror");
    let error =
        failure(&mut play.admin, "select audit_algolia.watch('t', columns => '{v}', mode => 'mirror')");
    assert_eq!(error.code().code(), "55000");
    assert_eq!(
        error.message(),
        "columns (room, during) of table period_mirror.t are not a key that mirror mode can use"
    );
    assert!(error.hint().unwrap().contains("WITHOUT OVERLAPS"), "{error:?}");
    // An ordinary index beside it will do.
    play.owner.batch_execute("create unique index on t (room, during)").unwrap();
    play.watch("t", "columns => '{v}', mode => 'mirror', backfill => true");
    play.run(
        "insert into t values (1, '[2026-01-01, 2026-02-01)', 'a'), (2, '[2026-01-01, 2026-02-01)', 'b')",
    );
    play.run("update t set v = 'c' where room = 2; delete from t where v = 'before'");
    let shown = |play: &mut Play| {
        let records = play.records();
        texts(records.iter().map(|(id, record)| format!("{id} {}", record["v"].as_str().unwrap())))
    };
    wait_until("the mirror", SOON, || {
        shown(&mut play) == ["1:[2026-01-01,2026-02-01) a", "2:[2026-01-01,2026-02-01) c"]
    });
}

#[test]
fn rows_that_break_a_constraint_that_is_not_enforced_are_captured() {
    if !has(18, "constraints that are NOT ENFORCED") {
        return;
    }
    let mut play = Play::new(
        "unenforced",
        "create table other (id int primary key);
         create table t (id int constraint t_has_id not null constraint t_pkey primary key, v text,
             parent int constraint t_parent references other not enforced,
             constraint t_short check (length(v) < 3) not enforced)",
    );
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("insert into t values (1, 'long', 7)");
    play.owner
        .batch_execute(
            "alter table t rename constraint t_has_id to t_id_is_there;
             alter table t add constraint t_v not null v not valid;
             alter table t alter constraint t_parent not enforced",
        )
        .unwrap();
    play.run("update t set v = 'longer'");
    assert!(play.app.batch_execute("update t set v = null").is_err());
    assert_eq!(briefs(&mut play), ["1 insert long", "1 update longer long"]);
}

/// A column may hold nulls from before its constraint, as long as that has not been validated.
#[test]
fn a_key_whose_not_null_is_not_validated_cannot_be_mirrored() {
    if !has(18, "NOT NULL constraints that are NOT VALID") {
        return;
    }
    let mut play = Play::new(
        "unvalidated",
        "create table t (id int unique, v text); insert into t values (null, 'none'), (1, 'a');
         alter table t add constraint t_id not null id not valid",
    );
    let watch = "select audit_algolia.watch('t', index_name => 'unvalidated', object_id => '{id}',
        columns => '{v}', mode => 'mirror', backfill => true)";
    let error = failure(&mut play.admin, watch);
    assert_eq!(error.code().code(), "55000");
    assert!(error.message().contains("are not a key that mirror mode can use"), "{error}");
    play.owner
        .batch_execute("delete from t where id is null; alter table t validate constraint t_id")
        .unwrap();
    play.admin.batch_execute(watch).unwrap();
    wait_until("the mirror", SOON, || play.ids() == ["1"]);
}

#[test]
fn history_has_the_rows_without_a_time_that_a_constraint_not_validated_left() {
    if !has(18, "NOT NULL constraints that are NOT VALID") {
        return;
    }
    let mut play = Play::new(
        "unvalidated_time",
        "create table t (id int primary key, at timestamptz); create index on t (at);
         insert into t select n, case when n % 2 = 0 then now() end from generate_series(1, 100) as n;
         alter table t add constraint t_at not null at not valid",
    );
    play.watch("t", "columns => '{at}', time_column => 'at', backfill => true");
    wait_until("the history", SOON, || play.records().len() == 100);
}
