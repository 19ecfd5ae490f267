//! Databases with other encodings than UTF-8: records and pseudonyms are still made from UTF-8.

use serde_json::{json, Value};

use crate::play::{failure, one, Play};

#[test]
fn a_database_in_latin1_makes_its_records_of_utf8() {
    let mut play = Play::new("latin", "");
    play.admin
        .batch_execute("create database latin template template0 encoding 'LATIN1' locale 'C'")
        .unwrap();
    let mut db = play.stage.cluster.client("latin", "postgres");
    db.batch_execute(
        "create extension audit_algolia;
         create type mood as enum ('fröhlich');
         create table t (id int primary key, size text, m mood default 'fröhlich', who text, j jsonb default '{\"ä\": \"ö\"}');
         select audit_algolia.watch('t', 'latin', columns => '{size, m, who, j}', pseudonymize => '{who}', object_id => '{size,id}');
         insert into t values (1, 'é ÿ', default, 'Müller');
         insert into t select i, 'é ' || i, 'fröhlich', 'Müller' from generate_series(2, 300) as i",
    )
    .unwrap();
    assert_eq!(one::<i64>(&mut db, "select count(*) from audit_algolia.queue"), 300);
    let pseudonym: String = one(&mut play.admin, "select audit_algolia.pseudonym('Müller')");
    let expected =
        json!({"objectID": "é ÿ:1", "size": "é ÿ", "m": "fröhlich", "who": pseudonym, "j": {"ä": "ö"}});
    assert_eq!(one::<String>(&mut db, "select audit_algolia.pseudonym('Müller')"), pseudonym);
    let shown: Value =
        one(&mut db, "select j from audit_algolia.preview('t', 300) as j where j ->> 'objectID' like '%ÿ:1'");
    assert_eq!(shown, expected);
    play.stage.wait_for_records("latin", 300);
    assert_eq!(play.stage.standin.index("latin")["é ÿ:1"], expected);
    db.batch_execute(
        "create function is_fine(text) returns boolean language sql immutable as $$ select $1 <> 'é' and $1 <> 'x' $$;
         create table c (id int primary key, v text, who text);
         select audit_algolia.watch('c', 'latin_changes', columns => '{v, who}', pseudonymize => '{who}',
             operations => '{insert, update}', filter => 'is_fine(v)');
         set audit_algolia.actor = 'Müller';
         insert into c values (1, 'é', 'a'), (2, 'ö', 'Müller'), (3, 'x', 'b'); update c set v = 'ü', who = null where id = 2",
    )
    .unwrap();
    play.stage.wait_for_records("latin_changes", 2);
    let records = play.stage.standin.index("latin_changes");
    let told = records.values().find(|record| record["op"] == "update").unwrap();
    assert_eq!((&told["v"], &told["previous"]), (&json!("ü"), &json!({"v": "ö", "who": pseudonym})));
    assert_eq!(told["changed_by"], json!(pseudonym));
    for filter in ["'v = ''é'''", "'v = U&''\\00e9'''"] {
        let watch = format!("select audit_algolia.watch('c', 'latin', columns => '{{v}}', object_prefix => 'c', filter => {filter})");
        let error = failure(&mut db, &watch);
        assert_eq!((error.code().code(), error.hint().is_some()), ("0A000", true), "{filter}: {error:?}");
    }
    drop(db);
    play.admin.batch_execute("drop database latin").unwrap();
}
