//! Values that a record cannot hold unchanged: amounts of money, keys without text, names of users who change rows.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;
use serde_json::{json, Value};

use crate::changes::changes;
use crate::play::{failure, one, settle, watch, Play};

/// Only the database's setting determines the currency and its decimal places.
#[test]
fn money_is_of_the_databases_currency_whoever_writes() {
    let stage = Stage::builder()
        .locale("ja_JP")
        .locale("de_DE")
        .setting("lc_monetary", "ja_JP.UTF-8")
        .start()
        .unwrap();
    let mut admin = stage.admin();
    for statement in ["create database shop", "alter database shop set lc_monetary = 'de_DE.UTF-8'"] {
        admin.batch_execute(statement).unwrap();
    }
    stage.cluster.client("shop", "postgres").batch_execute("create extension audit_algolia").unwrap();
    for (database, amount, ending) in [("postgres", "1234", "1,234"), ("shop", "12.34", "€")] {
        let mut db = stage.cluster.client(database, "postgres");
        let money = format!("{amount}::numeric::money");
        db.batch_execute(&format!(
            "create type price as (amount money);
             create table t (id int primary key, v money, words money[], p price);
             insert into t values (1, {money}, array[{money}], row({money}))"
        ))
        .unwrap();
        watch(&mut db, "t", database, "columns => '{v, words, p}', backfill => true");
        let text: String = one(&mut db, "select v::text from t");
        assert!(text.ends_with(ending), "{text}");
        let copy = |id: i32| format!("insert into t select {id}, v, words, p from t where id = 1");
        db.batch_execute(&format!("{}; set lc_monetary = 'C'; {}", copy(2), copy(3))).unwrap();
        assert!(one::<String>(&mut db, "select v::text from t where id = 1").starts_with('$'));
        let previewed = db.query("select audit_algolia.preview('t')", &[]).unwrap();
        stage.wait_for_records(database, 3);
        let delivered = stage.standin.index(database);
        let records: Vec<Value> =
            previewed.iter().map(|row| row.get(0)).chain(delivered.into_values()).collect();
        assert_eq!(records.len(), 6);
        for record in records {
            assert_eq!(
                json!([record["v"], record["words"], record["p"]]),
                json!([text, [text], {"amount": text}]),
                "{record}"
            );
        }
    }
}

/// Algolia would assign an objectID to a record without one, and nobody could find it again.
#[test]
fn a_key_that_makes_an_empty_object_id_is_refused_like_a_null_one() {
    let mut play = Play::new("empty_keys", "");
    for (table, rules) in
        [("appended", "columns => '{v}'"), ("mirrored", "columns => '{v}', mode => 'mirror'")]
    {
        play.owner
            .batch_execute(&format!(
                "create table {table} (code text primary key, v int); insert into {table} values ('', 1)"
            ))
            .unwrap();
        let index = format!("empty_keys_{table}");
        watch(&mut play.admin, table, &index, rules);
        let message = format!("empty value in column \"code\" of table \"{table}\" cannot be an objectID");
        for statement in [
            format!("insert into empty_keys.{table} values ('b', 2); delete from {table}; insert into {table} values ('', 2)"),
            format!("select audit_algolia.preview('{table}')"),
            format!("select audit_algolia.reconcile('{table}')"),
        ] {
            let error = failure(&mut play.admin, &statement);
            assert_eq!((error.code().code(), error.message()), ("23502", message.as_str()), "{statement}");
            assert!(error.hint().is_some_and(|hint| hint.contains("object_prefix")));
        }
        play.admin.batch_execute(&format!("select audit_algolia.backfill('{table}')")).unwrap();
        let told = format!(
            "select coalesce(last_error, '') from audit_algolia.backfill_progress where index_name = '{index}'"
        );
        wait_until("the end of the backfill", SOON, || {
            one::<String>(&mut play.admin, &told).contains(&message)
        });
    }
    // Such a row has no object that could be added or deleted.
    let error = failure(&mut play.app, "update mirrored set v = 2");
    assert_eq!(error.code().code(), "23502");
    play.run("update mirrored set code = 'a'");
    let error = failure(&mut play.app, "update mirrored set code = ''");
    assert_eq!(error.code().code(), "23502");
    play.owner
        .batch_execute("alter table mirrored disable trigger user; insert into mirrored values ('', 3); alter table mirrored enable trigger user")
        .unwrap();
    play.run("delete from mirrored where code = ''; insert into mirrored values ('b', 4)");
    settle(&mut play.admin, "empty_keys_mirrored");
    let ids: Vec<String> = play.stage.standin.index("empty_keys_mirrored").into_keys().collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn an_empty_key_makes_an_object_id_with_whatever_stands_beside_it() {
    let mut play = Play::new("empty_parts", "");
    for (table, key, rules) in [
        ("prefixed", "a", "object_prefix => 'p:'"),
        ("paired", "a, b", "object_prefix => ''"),
        ("told", "a", "operations => '{insert, delete}', object_prefix => 't'"),
        ("hidden", "a", "pseudonymize => '{a}'"),
    ] {
        play.owner
            .batch_execute(&format!("create table {table} (a text, b text, v int, primary key ({key}))"))
            .unwrap();
        watch(&mut play.admin, table, &format!("empty_{table}"), &format!("columns => '{{v}}', {rules}"));
        play.run(&format!("insert into {table} values ('', '', 1)"));
        settle(&mut play.admin, &format!("empty_{table}"));
    }
    let id = |table: &str| play.stage.standin.index(&format!("empty_{table}")).into_keys().next().unwrap();
    assert_eq!((id("prefixed").as_str(), id("paired").as_str()), ("p:", ":"));
    assert!(id("told").starts_with("t@"));
    assert_eq!(id("hidden"), one::<String>(&mut play.admin, "select audit_algolia.pseudonym('')"));
}

/// It is part of every change record of a session, and anybody may set it.
#[test]
fn the_name_of_who_makes_changes_has_a_bounded_length() {
    let mut play = Play::new("long_actor", "create table t (id int primary key, v int)");
    play.watch("t", "columns => '{v}', operations => '{insert, update}'");
    let longest = "x".repeat(1000);
    play.run(&format!("set audit_algolia.actor = '{longest}'; insert into t values (1, 1)"));
    let too_long = "é".repeat(501);
    for statement in [
        format!("set audit_algolia.actor = '{too_long}'"),
        format!("select set_config('audit_algolia.actor', '{}', true)", "x".repeat(200_000)),
        format!("alter role app set audit_algolia.actor = '{too_long}'"),
    ] {
        let error = failure(&mut play.app, &statement);
        assert_eq!(error.code().code(), "22023");
        assert!(
            error.message().contains("audit_algolia.actor") && error.message().len() < 200,
            "{}",
            error.message()
        );
        assert!(error.hint().is_some());
    }
    // In a session that is just starting, it is refused like any invalid setting.
    let options = format!("-c audit_algolia.actor={too_long}");
    let mut config: postgres::Config =
        play.stage.cluster.connection_string("postgres", "app").parse().unwrap();
    let refused = config.options(&options).connect(postgres::NoTls).err().unwrap();
    assert_eq!(refused.code().map(|code| code.code()), Some("22023"));
    play.run("update t set v = 2");
    let records = changes(&mut play);
    assert!(records.len() == 2 && records.iter().all(|record| record["changed_by"] == longest.as_str()));
}
