//! Mirrored tables: records without a row are found too, and repairs are queued as versions.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::Client;
use serde_json::json;

use crate::support::{lose, reconcile, wait_for_empty_queue, well, write, Found};

/// A stage with the mirrored table `t` of ten rows.
fn stage() -> (Stage, Client) {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text, shown bool not null default true, at timestamptz);
         select audit_algolia.watch('t', columns => '{v, at}', filter => 'shown', time_column => 'at', mode => 'mirror');
         insert into t select n, 'v' || n, n <= 10, '2026-01-01'::timestamptz + n * interval '1 hour'
         from generate_series(1, 12) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 10);
    wait_for_empty_queue(&mut db);
    (stage, db)
}

#[test]
fn what_is_lost_or_different_or_has_no_row_is_found_and_repaired() {
    let (stage, mut db) = stage();
    let before = stage.standin.index("t");
    assert_eq!(reconcile(&mut db, "'t'"), well(10));
    lose(&stage, "t", &["1", "2"]);
    let strange = ["99", "11", "01", "x", "1:2", "3\\"].map(|id| json!({"objectID": id, "v": "?"}));
    write(&stage, "t", "addObject", &strange);
    write(&stage, "t", "addObject", &[json!({"objectID": "3", "v": "old"})]);
    let found = Found { checked: 10, missing: 2, different: 1, orphaned: 6, repaired: 0 };
    assert_eq!(reconcile(&mut db, "'t'"), found);
    assert_eq!(reconcile(&mut db, "'t', repair => true"), Found { repaired: 9, ..found });
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t"), before);
    assert_eq!(reconcile(&mut db, "'t', repair => true"), well(10));
}

#[test]
fn repairs_are_versions_that_later_changes_supersede() {
    let (stage, mut db) = stage();
    lose(&stage, "t", &["1"]);
    write(&stage, "t", "addObject", &[json!({"objectID": "50", "v": "?"})]);
    db.batch_execute("select audit_algolia.pause()").unwrap();
    assert_eq!(reconcile(&mut db, "'t', repair => true").repaired, 2);
    db.batch_execute("update t set v = 'new' where id = 1; insert into t values (50, 'new')").unwrap();
    let query = "select array_agg(action::text || object order by object, id) from audit_algolia.queue";
    let queued: Vec<String> = db.query_one(query, &[]).unwrap().get(0);
    assert_eq!(queued, ["a1", "a1", "d50", "a50"]);
    db.batch_execute("select audit_algolia.resume()").unwrap();
    wait_for_empty_queue(&mut db);
    let index = stage.standin.index("t");
    assert_eq!((&index["1"]["v"], &index["50"]["v"]), (&json!("new"), &json!("new")));
}

#[test]
fn a_row_that_somebody_is_changing_is_left_to_them() {
    let (stage, mut db) = stage();
    lose(&stage, "t", &["1", "2"]);
    write(&stage, "t", "addObject", &[json!({"objectID": "50", "v": "?"})]);
    let mut other = stage.admin();
    other
        .batch_execute("begin; update t set v = 'theirs' where id = 1; insert into t values (50, 'theirs')")
        .unwrap();
    // They are about to commit the row, so the record under its key is no orphan.
    let found = Found { checked: 10, missing: 2, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    other.batch_execute("commit").unwrap();
    wait_for_empty_queue(&mut db);
    let index = stage.standin.index("t");
    assert_eq!((&index["1"]["v"], &index["50"]["v"]), (&json!("theirs"), &json!("theirs")));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
}

#[test]
fn a_repair_that_is_committed_late_does_not_come_over_later_changes() {
    let (stage, mut db) = stage();
    lose(&stage, "t", &["1", "2"]);
    write(
        &stage,
        "t",
        "addObject",
        &[json!({"objectID": "50", "v": "?"}), json!({"objectID": "51", "v": "?"})],
    );
    db.batch_execute("begin").unwrap();
    let found = Found { checked: 10, missing: 2, orphaned: 2, repaired: 4, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    // No writer waits, and everything except what is being repaired is delivered before the repairs are.
    stage
        .admin()
        .batch_execute(
            "update t set v = 'new' where id = 1; insert into t values (50, 'new'), (60, 'new'); delete from t where id = 2",
        )
        .unwrap();
    wait_until("what is not being repaired", SOON, || stage.standin.index("t").contains_key("60"));
    db.batch_execute("commit").unwrap();
    wait_for_empty_queue(&mut db);
    let index = stage.standin.index("t");
    assert_eq!((&index["1"]["v"], &index["50"]["v"]), (&json!("new"), &json!("new")));
    assert!(!index.contains_key("2") && !index.contains_key("51"));
    assert_eq!(reconcile(&mut db, "'t'"), well(11));
}

#[test]
fn what_was_held_for_repairs_goes_on_when_they_are_rolled_back() {
    let (stage, mut db) = stage();
    lose(&stage, "t", &["1"]);
    db.batch_execute("begin").unwrap();
    assert_eq!(reconcile(&mut db, "'t', repair => true").repaired, 1);
    stage.admin().batch_execute("update t set v = 'new' where id = 1").unwrap();
    db.batch_execute("rollback").unwrap();
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t")["1"]["v"], json!("new"));
}

#[test]
fn a_window_of_time_has_orphans_of_its_own() {
    let (stage, mut db) = stage();
    let record = |id: &str, hour: i64| json!({"objectID": id, "at": 1_767_225_600 + hour * 3600});
    write(&stage, "t", "addObject", &[record("100", 1), record("101", 5), record("102", 8)]);
    let window = "since => '2026-01-01 03:00', until => '2026-01-01 08:00'";
    let found = Found { checked: 5, orphaned: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, &format!("'t', repair => true, {window}")), found);
    wait_for_empty_queue(&mut db);
    let index = stage.standin.index("t");
    assert_eq!(["100", "101", "102"].map(|id| index.contains_key(id)), [true, false, true]);
}

#[test]
fn a_window_before_1970_is_one_of_the_records_times() {
    let (stage, mut db) = stage();
    let record = |id: &str, at: f64| json!({"objectID": id, "at": at});
    let strays = [record("100", -0.9), record("101", -0.8), record("102", -0.301), record("103", -0.3)];
    write(&stage, "t", "addObject", &strays);
    let window = "since => '1969-12-31 23:59:59.2 UTC', until => '1969-12-31 23:59:59.7 UTC'";
    let found = Found { orphaned: 2, repaired: 2, ..Found::default() };
    assert_eq!(reconcile(&mut db, &format!("'t', repair => true, {window}")), found);
    wait_for_empty_queue(&mut db);
    let index = stage.standin.index("t");
    assert_eq!(["100", "101", "102", "103"].map(|id| index.contains_key(id)), [true, false, false, true]);
}

#[test]
fn sources_that_share_an_index_leave_each_others_records_alone() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table a (id int primary key, v text); create table b (id int, nth int, v text, primary key (id, nth));
         create table c (id text primary key, v text);
         select audit_algolia.watch('a', 'all', columns => '{v}', mode => 'mirror', object_prefix => 'a:');
         select audit_algolia.watch('b', 'all', columns => '{v}', mode => 'mirror', object_prefix => 'a:b:');
         select audit_algolia.watch('c', 'all', columns => '{v}', mode => 'mirror');
         insert into a select n, 'a' from generate_series(1, 5) as n;
         insert into b select n, n, 'b' from generate_series(1, 5) as n;
         insert into c select 'a:' || n, 'c' from generate_series(1, 5) as n",
    )
    .unwrap();
    stage.wait_for_records("all", 15);
    wait_for_empty_queue(&mut db);
    for table in ["a", "b", "c"] {
        assert_eq!(reconcile(&mut db, &format!("'{table}', repair => true")), well(5), "{table}");
    }
    let strays = ["a:9", "a:b:9:9", "zz"].map(|id| json!({"objectID": id}));
    write(&stage, "all", "addObject", &strays);
    for table in ["a", "b", "c"] {
        let found = Found { checked: 5, orphaned: 1, repaired: 1, ..Found::default() };
        assert_eq!(reconcile(&mut db, &format!("'{table}', repair => true")), found, "{table}");
    }
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("all").len(), 15);
}

#[test]
fn keys_of_several_columns_lead_back_to_their_rows() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        r#"create table t (a text, b timestamptz, c uuid, v text, primary key (c, a, b));
           select audit_algolia.watch('t', columns => '{v}', object_id => '{a, b, c}', mode => 'mirror', object_prefix => 'x"\');
           insert into t select E'a:\\"é' || n, '2026-01-01'::timestamptz + n * interval '1 day', gen_random_uuid(), 'v'
           from generate_series(1, 30) as n"#,
    )
    .unwrap();
    stage.wait_for_records("t", 30);
    wait_for_empty_queue(&mut db);
    db.batch_execute("set datestyle = 'German'; set timezone = 'Asia/Tokyo'").unwrap();
    assert_eq!(reconcile(&mut db, "'t', repair => true"), well(30));
    let id = stage.standin.index("t").into_keys().next().unwrap();
    lose(&stage, "t", &[&id]);
    assert_eq!(reconcile(&mut db, "'t', repair => true").repaired, 1);
    stage.wait_for_records("t", 30);
}

#[test]
fn rows_of_partitions_are_found_in_them() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (id int primary key, v text) partition by range (id);
         create table t_1 partition of t for values from (0) to (10);
         create table t_2 (v text, gone int, id int not null);
         alter table t_2 drop column gone;
         alter table t attach partition t_2 for values from (10) to (20);
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t select n, 'v' || n from generate_series(0, 19) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 20);
    wait_for_empty_queue(&mut db);
    let before = stage.standin.index("t");
    lose(&stage, "t", &["3", "13"]);
    write(
        &stage,
        "t",
        "addObject",
        &[json!({"objectID": "14", "v": "?"}), json!({"objectID": "30", "v": "?"})],
    );
    let found = Found { checked: 20, missing: 2, different: 1, orphaned: 1, repaired: 4 };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t"), before);
}

#[test]
fn pseudonymized_keys_are_looked_for_in_the_whole_table() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create table t (who text primary key, v text, shown bool not null default true);
         select audit_algolia.watch('t', columns => '{who, v}', pseudonymize => '{who}', filter => 'shown',
                                    mode => 'mirror', object_prefix => 'w:');
         insert into t select 'user ' || n, 'v' from generate_series(1, 20) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 20);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t', repair => true"), well(20));
    let ids: Vec<String> = stage.standin.index("t").into_keys().collect();
    lose(&stage, "t", &[&ids[0]]);
    write(&stage, "t", "addObject", &[json!({"objectID": "w:p_none"}), json!({"objectID": "other"})]);
    db.batch_execute("alter table t disable trigger all; update t set shown = false where who = 'user 7'; alter table t enable trigger all").unwrap();
    let pseudonym: String = db.query_one("select audit_algolia.pseudonym('user 7')", &[]).unwrap().get(0);
    let is_lost = ids[0].ends_with(&pseudonym);
    let found = reconcile(&mut db, "'t', repair => true");
    let expected = Found { checked: 19, missing: 1, orphaned: 2, repaired: 3, different: 0 };
    let without_it = Found { missing: 0, orphaned: 1, repaired: 1, ..expected };
    assert_eq!(found, if is_lost { without_it } else { expected });
    wait_for_empty_queue(&mut db);
    let index = stage.standin.index("t");
    assert!(index.contains_key("other") && !index.contains_key(&format!("w:{pseudonym}")));
    assert_eq!(index.len(), 20);
}
