//! Databases that do not keep their texts in UTF-8: what leaves them is UTF-8 all the same.

use serde_json::{json, Value};

use crate::play::{one, settle, Play};

#[test]
fn a_database_in_latin1_delivers_utf8() {
    let mut play = Play::new("latin", "");
    play.admin
        .batch_execute("create database latin template template0 encoding 'LATIN1' locale 'C'")
        .unwrap();
    let mut db = play.stage.cluster.client("latin", "postgres");
    db.batch_execute(
        "create extension audit_algolia;
         create type mood as enum ('fröhlich');
         create table \"tü\" (id int primary key, \"größe\" text, m mood default 'fröhlich', who text, j jsonb default '{\"ä\": \"ö\"}');
         select audit_algolia.watch('\"tü\"', 'latin_ü', columns => '{größe, m, who, j}', pseudonymize => '{who}', object_prefix => 'ß');
         insert into \"tü\" values (1, 'é ÿ', default, 'Müller');
         insert into \"tü\" select i, 'é ' || i, default, 'Müller' from generate_series(2, 300) as i",
    )
    .unwrap();
    settle(&mut db, "latin_ü");
    let records = play.stage.standin.index("latin_ü");
    assert_eq!(records.len(), 300);
    let pseudonym: String = one(&mut play.admin, "select audit_algolia.pseudonym('Müller')");
    let expected = json!({"objectID": "ß1", "größe": "é ÿ", "m": "fröhlich", "who": pseudonym, "j": {"ä": "ö"}});
    assert_eq!(records["ß1"], expected);
    assert_eq!(one::<String>(&mut db, "select audit_algolia.pseudonym('Müller')"), pseudonym);
    let shown: Value = one(&mut db, "select j from audit_algolia.preview('\"tü\"', 300) as j where j ->> 'objectID' like '%1' and j ->> 'größe' like '%ÿ'");
    assert_eq!(shown, expected);
}
