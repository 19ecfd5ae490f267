//! What changes of rows do to the index.

use std::collections::BTreeMap;

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::standin::{Fault, Times};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::json;

/// A stage with the table `t`, mirrored with the defaults.
fn stage() -> (Stage, Client) {
    let stage = Stage::builder().setting("max_prepared_transactions", 10).start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text, shown bool not null default true, note text);
         select audit_algolia.watch('t', columns => '{v}', filter => 'shown', mode => 'mirror')",
    )
    .unwrap();
    (stage, db)
}

/// What an index holds: objectID and `v`.
fn held(stage: &Stage, index: &str) -> BTreeMap<String, String> {
    let value = |record: serde_json::Value| record["v"].as_str().unwrap_or_default().to_owned();
    stage.standin.index(index).into_iter().map(|(id, record)| (id, value(record))).collect()
}

#[track_caller]
fn assert_holds(stage: &Stage, db: &mut Client, index: &str, expected: &[(&str, &str)]) {
    wait_until("an empty queue", SOON, || {
        db.query_one("select count(*) from audit_algolia.queue", &[]).unwrap().get::<_, i64>(0) == 0
    });
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(id, v)| ((*id).to_owned(), (*v).to_owned())).collect();
    assert_eq!(held(stage, index), expected);
}

/// The queue's versions in the order of their ids: objectID and action.
fn queued(db: &mut Client) -> Vec<(String, String)> {
    let rows = db.query("select object, action::text from audit_algolia.queue order by id", &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn inserts_updates_and_deletes_are_mirrored() {
    let (stage, mut db) = stage();
    db.batch_execute("insert into t values (1, 'a'), (2, 'b'), (3, 'c')").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "a"), ("2", "b"), ("3", "c")]);
    assert_eq!(stage.standin.index("t")["1"], json!({"objectID": "1", "v": "a"}));
    db.batch_execute("update t set v = v || '!' where id < 3; delete from t where id = 3").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "a!"), ("2", "b!")]);
    db.batch_execute("update t set id = id + 10").unwrap();
    assert_holds(&stage, &mut db, "t", &[("11", "a!"), ("12", "b!")]);
    db.batch_execute("truncate t").unwrap();
    assert_holds(&stage, &mut db, "t", &[]);
}

#[test]
fn a_row_that_stops_matching_the_filter_is_deleted() {
    let (stage, mut db) = stage();
    db.batch_execute("insert into t values (1, 'a', true), (2, 'b', false)").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "a")]);
    db.batch_execute("update t set shown = not shown").unwrap();
    assert_holds(&stage, &mut db, "t", &[("2", "b")]);
    db.batch_execute("update t set shown = false, id = 3 where id = 2").unwrap();
    assert_holds(&stage, &mut db, "t", &[]);
}

#[test]
fn what_the_index_does_not_hold_is_not_told() {
    let (stage, mut db) = stage();
    db.batch_execute("select audit_algolia.pause(); insert into t values (1, 'a', true), (2, 'b', false)")
        .unwrap();
    db.batch_execute("update t set note = 'n'; update t set v = v; update t set v = 'x' where not shown")
        .unwrap();
    db.batch_execute("delete from t where not shown").unwrap();
    assert_eq!(queued(&mut db), [("1".to_owned(), "a".to_owned())]);
    drop(stage);
}

#[test]
fn many_updates_of_a_row_go_out_as_one_operation() {
    let (stage, mut db) = stage();
    db.batch_execute("select audit_algolia.pause(); insert into t values (1, 'a'), (2, 'b')").unwrap();
    for n in 0..300 {
        db.batch_execute(&format!("update t set v = '{n}' where id = 1")).unwrap();
    }
    db.batch_execute("delete from t where id = 2; select audit_algolia.resume()").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "299")]);
    let sent: Vec<String> = stage.standin.arrivals().into_iter().map(|arrival| arrival.object_id).collect();
    assert_eq!(sent.len(), 2, "{sent:?}");
    let stats = db
        .query_one(
            "select queued, in_flight, enqueued_total, delivered_total from audit_algolia.queue_stats()",
            &[],
        )
        .unwrap();
    let stats: Vec<i64> = (0..4).map(|place| stats.get(place)).collect();
    assert_eq!(stats, [0, 0, 303, 303]);
}

#[test]
fn a_writer_does_not_wait_for_the_delivery_of_its_row() {
    let (stage, mut db) = stage();
    db.batch_execute("insert into t values (1, 'a')").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "a")]);
    stage.standin.fault(None, Fault::Hang, Times::Once);
    db.batch_execute("update t set v = 'b'").unwrap();
    wait_until("a request that hangs", SOON, || stage.standin.in_hang() == 1);
    db.batch_execute(
        "set statement_timeout = '5s'; update t set v = 'c'; truncate t; insert into t values (1, 'd')",
    )
    .unwrap();
    stage.standin.clear_faults();
    drop(db);
}

#[test]
fn an_older_transaction_that_writes_later_wins() {
    let (stage, mut db) = stage();
    db.batch_execute("insert into t values (1, 'a'), (2, 'b'); select audit_algolia.pause()").unwrap();
    let mut older = stage.admin();
    older.batch_execute("begin; update t set v = 'first' where id = 2").unwrap();
    db.batch_execute("update t set v = 'second' where id = 1").unwrap();
    older.batch_execute("update t set v = 'third' where id = 1; commit").unwrap();
    db.batch_execute("select audit_algolia.resume()").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "third"), ("2", "first")]);
}

#[test]
fn triggers_that_change_a_row_again_are_told_in_the_end() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create function again() returns trigger language plpgsql as $$ begin
             if tg_op = 'DELETE' then
                 insert into t values (old.id, 'back');
             elsif new.v = 'again' then
                 update t set v = 'changed' where id = new.id;
             elsif new.v = 'away' then
                 delete from t where id = new.id;
             end if;
             return null;
         end $$;
         create trigger aaa after insert or update on t for each row execute function again();
         create trigger aab after delete on t for each row when (old.v = 'stay') execute function again()",
    )
    .unwrap();
    db.batch_execute("insert into t values (1, 'again'), (2, 'stay'), (3, 'away'), (4, 'x')").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "changed"), ("2", "stay"), ("4", "x")]);
    db.batch_execute("delete from t where id in (1, 2); update t set v = 'away' where id = 4").unwrap();
    assert_holds(&stage, &mut db, "t", &[("2", "back")]);
}

#[test]
fn equal_keys_that_are_written_differently_are_different_objects() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create table n (id numeric primary key, v text);
         select audit_algolia.watch('n', columns => '{v}', mode => 'mirror', object_prefix => 'n:');
         insert into n values (1.0, 'a');
         update n set id = 1.00",
    )
    .unwrap();
    assert_holds(&stage, &mut db, "n", &[("n:1.00", "a")]);
}

#[test]
fn partitions_are_emptied_alone_and_together() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create table p (id int primary key, v text) partition by range (id);
         create table p_low partition of p for values from (0) to (10);
         select audit_algolia.watch('p', columns => '{v}', mode => 'mirror');
         create table p_high partition of p for values from (10) to (20);
         insert into p values (1, 'a'), (2, 'b'), (11, 'c')",
    )
    .unwrap();
    assert_holds(&stage, &mut db, "p", &[("1", "a"), ("11", "c"), ("2", "b")]);
    db.batch_execute("update p set id = id + 10 where id = 2; truncate p_low").unwrap();
    assert_holds(&stage, &mut db, "p", &[("11", "c"), ("12", "b")]);
    db.batch_execute("truncate p_high; insert into p values (3, 'd'), (13, 'e')").unwrap();
    assert_holds(&stage, &mut db, "p", &[("13", "e"), ("3", "d")]);
    db.batch_execute("truncate p").unwrap();
    assert_holds(&stage, &mut db, "p", &[]);
    db.batch_execute("alter table p detach partition p_low; truncate p_low").unwrap();
    db.batch_execute("select audit_algolia.unwatch('p'); truncate p; drop table p").unwrap();
}

#[test]
fn a_dead_version_goes_when_a_newer_one_is_delivered_and_never_comes_over_it() {
    let stage = Stage::builder().standin(|standin| standin.max_record_bytes = 1_000).start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text);
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t select n, repeat('x', 2000) from generate_series(1, 3) as n",
    )
    .unwrap();
    let dead = |db: &mut Client| -> Vec<String> {
        let rows = db.query("select object_id from audit_algolia.dead_letters order by 1", &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    wait_until("deaths", SOON, || dead(&mut db) == ["1", "2", "3"]);
    assert_holds(&stage, &mut db, "t", &[]);
    db.batch_execute("update t set v = 'short' where id = 1; delete from t where id = 2").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "short")]);
    assert_eq!(dead(&mut db), ["3"]);
    // It is put back while a newer version waits, so it is superseded.
    db.batch_execute("select audit_algolia.pause(); update t set v = 'short, too' where id = 3").unwrap();
    let put_back = db.query_one("select audit_algolia.redrive()", &[]).unwrap();
    assert_eq!(put_back.get::<_, i64>(0), 1);
    stage.standin.set_max_record_bytes(100_000);
    db.batch_execute("select audit_algolia.resume()").unwrap();
    assert_holds(&stage, &mut db, "t", &[("1", "short"), ("3", "short, too")]);
    assert!(dead(&mut db).is_empty());
}

#[test]
fn truncation_cascades() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create table child (id int primary key, parent int references t, v text);
         select audit_algolia.watch('child', columns => '{v}', mode => 'mirror');
         insert into t values (1, 'a');
         insert into child select n, 1, 'c' from generate_series(1, 3000) as n",
    )
    .unwrap();
    stage.wait_for_records("child", 3000);
    db.batch_execute("truncate t cascade").unwrap();
    assert_holds(&stage, &mut db, "child", &[]);
    assert_holds(&stage, &mut db, "t", &[]);
}

#[test]
fn keys_that_two_rows_can_share_are_refused() {
    let (_stage, mut db) = stage();
    db.batch_execute(
        "create table k (a int not null, b int, c int not null, v text,
             unique (a) deferrable, unique (b));
         create unique index on k (c) where c > 0",
    )
    .unwrap();
    for key in ["a", "b", "c", "a,c"] {
        let watch = format!(
            "select audit_algolia.watch('k', columns => '{{v}}', object_id => '{{{key}}}', mode => 'mirror')"
        );
        let error = db.batch_execute(&watch).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "55000", "{key}");
        assert!(error.hint().unwrap().contains("DEFERRABLE"), "{key}");
    }
    db.batch_execute("create unique index on k (c) include (v)").unwrap();
    db.batch_execute(
        "select audit_algolia.watch('k', columns => '{v}', object_id => '{c}', mode => 'mirror')",
    )
    .unwrap();
}

/// An SQL function increments the command counter before each of its statements, but not after the last. What its
/// calling statement changes later has the same command number.
#[test]
fn a_change_that_waited_for_its_row_is_newer_than_what_a_function_of_the_same_statement_did_before() {
    let (stage, mut db) = stage();
    db.batch_execute(
        "create function f() returns int language sql volatile as 'insert into t values (100, ''x'') returning 1';
         insert into t values (7, 'o'), (8, 'o')",
    )
    .unwrap();
    assert_holds(&stage, &mut db, "t", &[("7", "o"), ("8", "o")]);
    db.batch_execute("select audit_algolia.pause()").unwrap();
    let waiting = |db: &mut Client, count: i64| {
        let query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'update t set v = %'";
        wait_until("those who wait", SOON, || db.query_one(query, &[]).unwrap().get::<_, i64>(0) == count);
    };
    let mut holder = stage.admin();
    holder.batch_execute("begin; select from t where id = 8 for update").unwrap();
    std::thread::scope(|scope| {
        let run = |statement: &'static str| {
            let mut session = stage.admin();
            session.batch_execute("set enable_seqscan = off").unwrap();
            scope.spawn(move || session.batch_execute(statement).unwrap())
        };
        let first = run("update t set v = 'a' where id in (7, 8)");
        waiting(&mut db, 1);
        let second = run("update t set v = 'b' where id = 7 and (select f()) = 1");
        waiting(&mut db, 2);
        holder.batch_execute("commit").unwrap();
        first.join().unwrap();
        second.join().unwrap();
    });
    db.batch_execute("select audit_algolia.resume()").unwrap();
    assert_holds(&stage, &mut db, "t", &[("100", "x"), ("7", "b"), ("8", "a")]);
}
