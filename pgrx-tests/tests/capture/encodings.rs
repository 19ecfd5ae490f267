//! Databases that do not keep their texts in UTF-8: records and pseudonyms are made of UTF-8 all the same.

use serde_json::{json, Value};

use crate::play::{one, Play};

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
    drop(db);
    play.admin.batch_execute("drop database latin").unwrap();
}
