//! Rights and arguments.

use audit_algolia_tests::stage::{one, Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;

use crate::support::{error, lose, reconcile, try_reconcile, wait_for_empty_queue, well, Found};

fn stage() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role owner login; grant usage on schema audit_algolia to owner;
         grant create on schema public to owner;
         grant execute on function audit_algolia.watch, audit_algolia.reconcile to owner",
    )
    .unwrap();
    let mut owner = stage.cluster.client("postgres", "owner");
    owner
        .batch_execute(
            "create table t (id int primary key, v text, at timestamptz);
             select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
             insert into t select n, 'x' from generate_series(1, 10) as n",
        )
        .unwrap();
    stage.wait_for_records("t", 10);
    wait_for_empty_queue(&mut db);
    (stage, owner)
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    let (_stage, mut db) = stage();
    db.batch_execute(
        "create table unwatched (id int primary key);
         create table changes (id int primary key, v text);
         select audit_algolia.watch('changes', columns => '{v}', operations => '{insert,update}')",
    )
    .unwrap();
    for (arguments, code, says) in [
        ("null", "22004", "must not be null"),
        ("'unwatched'", "42704", "table public.unwatched is not watched"),
        ("4000000000", "42P01", "does not exist"),
        ("'t', since => now()", "22023", "watched without one"),
        ("'t', until => now()", "22023", "watched without one"),
        ("'t', since => '2026-01-02', until => '2026-01-01'", "22023", "since must not be later than until"),
        ("'changes'", "0A000", "are change records"),
        ("'pg_class'", "42501", "must be owner"),
    ] {
        let (found, message, hint) = error(try_reconcile(&mut db, arguments));
        assert_eq!(found, code, "{arguments}: {message}");
        assert!(message.contains(says), "{arguments}: {message}");
        assert!(!hint.is_empty(), "{arguments}");
    }
}

#[test]
fn history_on_its_way_is_missing_and_left_to_the_backfill() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table log (id int primary key, v text);
         insert into log select n, 'x' from generate_series(1, 5000) as n;
         select audit_algolia.watch('log', columns => '{v}');
         select audit_algolia.backfill('log', rows_per_second => 1)",
    )
    .unwrap();
    let (code, message, hint) = error(try_reconcile(&mut db, "'log', repair => true"));
    assert_eq!((code.as_str(), message.as_str()), ("55006", "a backfill of table public.log is under way"));
    assert!(hint.contains("cancel_backfill"), "{hint}");
    let found = reconcile(&mut db, "'log'");
    assert!(found.checked == 5000 && found.missing > 0 && found.repaired == 0, "{found:?}");
    db.batch_execute("select audit_algolia.cancel_backfill('log')").unwrap();
    assert!(reconcile(&mut db, "'log', repair => true").repaired > 0);
    stage.wait_for_records("log", 5000);
}

#[test]
fn repairs_of_a_mirror_cannot_be_prepared() {
    let stage = Stage::builder().setting("max_prepared_transactions", 2).start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text);
         insert into t values (1, 'x');
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror')",
    )
    .unwrap();
    db.batch_execute("begin").unwrap();
    assert_eq!(reconcile(&mut db, "'t', repair => true").repaired, 1);
    let refused = db.batch_execute("prepare transaction 'repairs'").unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().code().code(), "0A000");
    db.batch_execute("insert into t values (2, 'x')").unwrap();
    stage.wait_for_records("t", 1);
    assert_eq!(reconcile(&mut db, "'t', repair => true").repaired, 1);
    stage.wait_for_records("t", 2);
}

#[test]
fn owners_and_superusers_may_call_it_and_nobody_else() {
    let (stage, mut owner) = stage();
    lose(&stage, "t", &["1"]);
    let found = Found { checked: 10, missing: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut stage.admin(), "'t'"), Found { repaired: 0, ..found });
    assert_eq!(reconcile(&mut owner, "'t', repair => true"), found);
    let mut admin = stage.admin();
    admin
        .batch_execute(
            "create role guest login; grant usage on schema audit_algolia to guest; grant select on t to guest",
        )
        .unwrap();
    let mut guest = stage.cluster.client("postgres", "guest");
    assert!(error(try_reconcile(&mut guest, "'t'")).1.contains("permission denied for function reconcile"));
    admin.batch_execute("grant execute on function audit_algolia.reconcile to guest").unwrap();
    let (code, message, _) = error(try_reconcile(&mut guest, "'t'"));
    assert_eq!((code.as_str(), message.as_str()), ("42501", "must be owner of table public.t"));
}

#[test]
fn rows_that_a_policy_hides_are_not_taken_for_gone() {
    let (stage, mut owner) = stage();
    owner
        .batch_execute(
            "alter table t enable row level security; create policy half on t using (id <= 5);
             alter table t force row level security",
        )
        .unwrap();
    let (code, message, _) = error(try_reconcile(&mut owner, "'t', repair => true"));
    assert_eq!(code, "42501");
    assert!(message.contains("row-level security"), "{message}");
    assert_eq!(reconcile(&mut stage.admin(), "'t'"), well(10));
    owner.batch_execute("alter table t no force row level security").unwrap();
    assert_eq!(reconcile(&mut owner, "'t'"), well(10));
}

#[test]
fn in_a_read_only_transaction_it_looks_and_repairs_nothing() {
    let (stage, mut owner) = stage();
    lose(&stage, "t", &["1"]);
    owner.batch_execute("begin read only").unwrap();
    assert_eq!(reconcile(&mut owner, "'t'"), Found { checked: 10, missing: 1, ..Found::default() });
    let (code, ..) = error(try_reconcile(&mut owner, "'t', repair => true"));
    assert_eq!(code, "25006");
    owner.batch_execute("rollback").unwrap();
}

#[test]
fn repairs_are_part_of_the_transaction_whatever_its_isolation() {
    let (stage, mut owner) = stage();
    let found = Found { checked: 10, missing: 1, repaired: 1, ..Found::default() };
    for isolation in ["read committed", "repeatable read", "serializable"] {
        lose(&stage, "t", &["1"]);
        owner.batch_execute(&format!("begin isolation level {isolation}; select count(*) from t")).unwrap();
        stage.admin().batch_execute("update t set v = v || '!' where id = 2").unwrap();
        wait_for_empty_queue(&mut stage.admin());
        assert_eq!(reconcile(&mut owner, "'t', repair => true"), found, "{isolation}");
        owner.batch_execute("rollback").unwrap();
        assert_eq!(reconcile(&mut owner, "'t'").missing, 1, "{isolation}");
        owner.batch_execute(&format!("begin isolation level {isolation}")).unwrap();
        assert_eq!(reconcile(&mut owner, "'t', repair => true"), found, "{isolation}");
        owner.batch_execute("commit").unwrap();
        stage.wait_for_records("t", 10);
        wait_for_empty_queue(&mut stage.admin());
    }
}

#[test]
fn what_the_transaction_has_not_committed_is_not_missed() {
    let (_stage, mut owner) = stage();
    owner.batch_execute("begin; update t set v = 'new' where id = 1; insert into t values (11, 'x'); delete from t where id = 3").unwrap();
    assert_eq!(reconcile(&mut owner, "'t', repair => true"), well(10));
    owner.batch_execute("rollback").unwrap();
}

/// The change records of a table cannot be compared with its rows, but its mirror can.
#[test]
fn a_source_that_cannot_be_compared_keeps_no_other_of_the_table_from_it() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text, at timestamptz default '2026-01-01');
         insert into t (id, v) select n, 'x' from generate_series(1, 10) as n",
    )
    .unwrap();
    db.batch_execute(
        "select audit_algolia.watch('t', 'history', columns => '{v}', operations => '{update,delete}');
         select audit_algolia.watch('t', 'mirror', columns => '{v,at}', mode => 'mirror', time_column => 'at');
         select audit_algolia.watch('t', 'untimed', columns => '{v}', mode => 'mirror');
         select audit_algolia.backfill('t')",
    )
    .unwrap();
    for index in ["mirror", "untimed"] {
        stage.wait_for_records(index, 10);
    }
    db.batch_execute("delete from t where id = 10").unwrap();
    wait_for_empty_queue(&mut db);
    lose(&stage, "mirror", &["1"]);
    let found = Found { checked: 18, missing: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t'"), found);
    // With a time range, a source without a time column is skipped too.
    let found = Found { checked: 9, missing: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', since => '2025-01-01', repair => true"), found);
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("history").len(), 1);
    db.batch_execute("select audit_algolia.backfill('t', since => '2025-01-01')").unwrap();
    let ends =
        "select count(*) from audit_algolia.backfill_progress where state = 'finished' and since is not null";
    wait_until("the backfill of the source with a time", SOON, || one::<i64>(&mut db, ends) == 1);
}
