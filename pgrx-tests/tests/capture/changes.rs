//! Change records: one for each change of a row, with the old and new values, who changed it and when.

use serde_json::{json, Value};

use crate::play::{failure, one, Play};

pub(crate) const ALL: &str = "operations => '{insert, update, delete, truncate}'";

/// The test's change records in the order of their numbers.
#[track_caller]
pub(crate) fn changes(play: &mut Play) -> Vec<Value> {
    let mut numbered: Vec<(i64, Value)> =
        play.records().into_iter().map(|(id, record)| (number(&id), record)).collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, record)| record).collect()
}

/// The number at the end of a change record's objectID.
fn number(id: &str) -> i64 {
    id.rsplit_once('@').unwrap_or_else(|| panic!("no number: {id}")).1.parse().unwrap()
}

/// What tests compare of a record, in one line: key, operation, attribute `v`, and its old value if it changed.
pub(crate) fn brief(record: &Value) -> String {
    let id = record["objectID"].as_str().unwrap();
    let key = id.rsplit_once('@').unwrap().0;
    let mut line = format!("{key} {}", record["op"].as_str().unwrap());
    for value in [&record["v"], &record["previous"]["v"]] {
        if let Some(text) = value.as_str() {
            line.push_str(&format!(" {text}"));
        }
    }
    line
}

#[track_caller]
pub(crate) fn briefs(play: &mut Play) -> Vec<String> {
    changes(play).iter().map(brief).collect()
}

#[test]
fn each_change_is_a_record_that_tells_what_was_done() {
    let mut play = Play::new(
        "changes",
        "create table t (id int primary key, level text, who text, at timestamptz, secret text)",
    );
    play.watch(
        "t",
        &format!(
            "columns => '{{level AS grade, who, at}}', time_column => 'at', {ALL}, object_prefix => 'g:'"
        ),
    );
    let before: f64 =
        one(&mut play.admin, "select floor(extract(epoch from clock_timestamp()) * 1000)::float8");
    play.run("insert into t values (1, null, 'ann', '2026-11-20 13:34:15.5+00', 'raw')");
    play.run("update t set level = 'reader', secret = 'raw 2'");
    play.run("begin; update t set level = 'writer', at = null; select 1; commit");
    play.run("delete from t");
    let transaction: i64 = one(&mut play.admin, "select pg_current_xact_id()::text::bigint");
    let records = changes(&mut play);
    let numbers: Vec<i64> =
        records.iter().map(|record| number(record["objectID"].as_str().unwrap())).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let mut last = 0;
    for record in &records {
        let at = record["changed_at"].as_f64().unwrap() * 1000.0;
        assert!(at >= before - 1.0 && at < before + 120_000.0, "{record}");
        let id = record["transaction_id"].as_i64().unwrap();
        assert!(last < id && id < transaction, "{record}");
        last = id;
    }
    let rest = |place: usize| {
        let mut record = records[place].clone();
        for name in ["changed_at", "transaction_id", "objectID"] {
            record.as_object_mut().unwrap().remove(name);
        }
        record
    };
    assert!(records.iter().all(|record| record["objectID"].as_str().unwrap().starts_with("g:1@")));
    let time = json!({
        "at": 1_795_181_655.5, "at_day": "2026-11-20", "at_hour": "2026-11-20T13", "at_weekday": "Fri", "at_hour_of_day": "13",
    });
    let with = |mut record: Value, more: &Value| {
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let inserted = json!({"who": "ann", "op": "insert", "changed_by": "app"});
    assert_eq!(rest(0), with(inserted, &time));
    let updated = json!({
        "grade": "reader", "who": "ann", "op": "update", "changed_by": "app", "changed": ["grade"], "previous": {"grade": null},
    });
    assert_eq!(rest(1), with(updated, &time));
    assert_eq!(
        rest(2),
        json!({
            "grade": "writer", "who": "ann", "op": "update", "changed_by": "app", "changed": ["grade", "at"],
            "previous": {"grade": "reader", "at": 1_795_181_655.5},
        })
    );
    assert_eq!(rest(3), json!({"grade": "writer", "who": "ann", "op": "delete", "changed_by": "app"}));
    assert_eq!(records.len(), 4);
}

#[test]
fn a_source_has_the_operations_it_was_given_and_no_others() {
    for (name, operations, expected) in [
        ("only_update", "{update}", vec!["1 update b a"]),
        ("only_delete", "{DELETE}", vec!["1 delete b"]),
        ("only_truncate", "{truncate}", vec![" truncate"]),
        ("not_update", "{insert, delete}", vec!["1 insert a", "1 delete b", "2 insert c"]),
    ] {
        let mut play = Play::new(name, "create table t (id int primary key, v text)");
        play.watch("t", &format!("columns => '{{v}}', operations => '{operations}'"));
        play.owner.batch_execute("grant truncate on t to app").unwrap();
        play.run("insert into t values (1, 'a')");
        play.run("update t set v = 'b'");
        play.run("delete from t");
        play.run("insert into t values (2, 'c')");
        play.run("truncate t");
        assert_eq!(briefs(&mut play), expected, "{name}");
        let triggers = "select count(*) from pg_trigger where tgrelid = 't'::regclass";
        assert!(one::<i64>(&mut play.admin, triggers) > 0);
        let shown: Vec<String> =
            one(&mut play.admin, "select operations from audit_algolia.sources where source = 't'::regclass");
        assert!(shown.iter().all(|word| operations.to_lowercase().contains(word)), "{shown:?}");
        play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
        assert_eq!(one::<i64>(&mut play.admin, triggers), 0);
    }
}

#[test]
fn a_truncation_is_one_record() {
    let mut play = Play::new(
        "emptied",
        "create table t (id int primary key, v text); create table parted (id int primary key) partition by list (id);
         create table leaf partition of parted default",
    );
    play.watch("t", &format!("columns => '{{v}}', {ALL}, object_prefix => 't:'"));
    play.watch("parted", &format!("columns => '{{id}}', {ALL}, object_prefix => 'p:'"));
    play.owner.batch_execute("insert into t values (1, 'a'), (2, 'b'); insert into parted values (1); set audit_algolia.actor = 'cleaner'; truncate t, parted").unwrap();
    play.owner.batch_execute("begin; truncate t; rollback").unwrap();
    let records = changes(&mut play);
    let truncations: Vec<&Value> = records.iter().filter(|record| record["op"] == "truncate").collect();
    assert_eq!(truncations.len(), 2);
    for record in truncations {
        let names: Vec<&String> = record.as_object().unwrap().keys().collect();
        assert_eq!(names, ["changed_at", "changed_by", "objectID", "op", "transaction_id"]);
        assert_eq!(record["changed_by"], "cleaner");
        assert!(["t:@", "p:@"].iter().any(|prefix| record["objectID"].as_str().unwrap().starts_with(prefix)));
    }
}

#[test]
fn sources_tell_when_one_of_several_triggers_is_missing() {
    let mut play = Play::new("one_missing", "create table t (id int primary key, v text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    let state = "select state from audit_algolia.sources where source = 't'::regclass";
    assert_eq!(one::<String>(&mut play.admin, state), "watching");
    let id: i32 = one(&mut play.admin, "select id from audit_algolia.sources where source = 't'::regclass");
    play.owner.batch_execute(&format!("alter table t disable trigger audit_algolia_{id}_truncate")).unwrap();
    assert_eq!(one::<String>(&mut play.admin, state), "trigger disabled");
    play.owner.batch_execute(&format!("drop trigger audit_algolia_{id}_update on t")).unwrap();
    assert_eq!(one::<String>(&mut play.admin, state), "trigger missing");
    play.run("insert into t values (1, 'a'); update t set v = 'b'; delete from t");
    assert_eq!(briefs(&mut play), ["1 insert a", "1 delete b"]);
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    assert_eq!(
        one::<i64>(&mut play.admin, "select count(*) from pg_trigger where tgrelid = 't'::regclass"),
        0
    );
}

#[test]
fn only_what_savepoints_kept_is_told() {
    let mut play = Play::new("kept_changes", "create table t (id int primary key, v text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("begin; insert into t values (1, 'a'); savepoint s; update t set v = 'lost'; rollback to s; update t set v = 'b'; commit");
    play.run("begin; delete from t; rollback");
    assert_eq!(briefs(&mut play), ["1 insert a", "1 update b a"]);
    let stale = failure(&mut play.app, "begin; update t set v = 'c'; select 1/0");
    assert_eq!(stale.code().code(), "22012");
    play.run("rollback");
    assert_eq!(briefs(&mut play).len(), 2);
}

#[test]
fn a_preview_shows_change_records_as_of_rows_just_inserted() {
    let mut play = Play::new(
        "change_preview",
        "create table t (id int primary key, v text); insert into t values (1, 'a')",
    );
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    let mut shown: Value = one(&mut play.admin, "select audit_algolia.preview('t')");
    assert!(shown["changed_at"].as_f64().unwrap() > 1.7e9);
    shown.as_object_mut().unwrap().remove("changed_at");
    assert_eq!(
        shown,
        json!({"objectID": "1@0", "v": "a", "op": "insert", "changed_by": "postgres", "transaction_id": 0})
    );
    play.admin.batch_execute("select audit_algolia.unwatch('t')").unwrap();
    play.watch("t", "columns => '{v}', operations => '{truncate}'");
    assert!(play.admin.query("select audit_algolia.preview('t')", &[]).unwrap().is_empty());
}

/// Numbers continue where the last extension's ended. Otherwise new records would overwrite old ones.
#[test]
fn numbers_are_not_used_again_by_an_extension_made_anew() {
    let stage = audit_algolia_tests::stage::Stage::builder().start().unwrap();
    let mut admin = stage.admin();
    let mut highest = 0;
    for round in 0..2 {
        admin
            .batch_execute(&format!(
                "create table if not exists t (id int primary key, v int);
                 select audit_algolia.watch('t', columns => '{{v}}', {ALL});
                 insert into t values ({round}, 1); update t set v = 2 where id = {round}"
            ))
            .unwrap();
        stage.wait_for_records("t", 2 * (round + 1));
        let numbers: Vec<i64> = stage.standin.index("t").keys().map(|id| number(id)).collect();
        let newer = numbers.iter().filter(|number| **number > highest).count();
        assert_eq!(newer, 2, "{numbers:?}");
        highest = numbers.into_iter().max().unwrap();
        crate::play::settle(&mut admin, "t");
        admin.batch_execute("drop extension audit_algolia cascade; create extension audit_algolia").unwrap();
    }
}

#[test]
fn each_source_of_a_table_tells_of_a_change_in_its_own_way() {
    let mut play = Play::new("twice_told", "create table t (id int primary key, v text, w text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    crate::play::watch(&mut play.admin, "t", "twice_told_b", "columns => '{w}', operations => '{update}'");
    play.run("insert into t select i, 'a', 'b' from generate_series(1, 200) as i");
    play.run("update t set v = 'c' where id = 1; update t set w = 'd' where id = 2; update t set v = 'e', w = 'f' where id = 3");
    assert_eq!(briefs(&mut play)[200..], ["1 update c a", "3 update e a"]);
    crate::play::settle(&mut play.admin, "twice_told_b");
    let other = play.stage.standin.index("twice_told_b");
    let mut told: Vec<&Value> = other.values().map(|record| &record["w"]).collect();
    told.sort_by_key(|value| value.to_string());
    assert_eq!(told, [&json!("d"), &json!("f")]);
}
