//! A dump carries table, rules and undelivered rows into another cluster, where they are delivered.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::play::{one, watch};

#[test]
fn a_dump_carries_undelivered_rows_along() {
    let old = Stage::builder().setting("audit_algolia.enabled", "off").start().unwrap();
    let mut admin = old.admin();
    admin
        .batch_execute(
            "create schema s;
             create table s.\"T t\" (gone int, id int primary key, v text); alter table s.\"T t\" drop column gone;
             create table zz (id int primary key) partition by list (id); create table leaf partition of zz default;
             create table c (id int primary key, v text);
             create function s.fine(text) returns boolean language sql stable as $$ select $1 <> 'hidden' $$",
        )
        .unwrap();
    watch(&mut admin, "s.\"T t\"", "t", "columns => '{v}'");
    watch(&mut admin, "zz", "zz", "columns => '{id}'");
    watch(
        &mut admin,
        "c",
        "c",
        "columns => '{v}', operations => '{insert, update, delete}', filter => 's.fine(v)'",
    );
    admin
        .batch_execute("insert into s.\"T t\" select i, 'v' from generate_series(1, 2000) as i; insert into zz values (1); insert into c values (1, 'a'), (2, 'hidden'); update c set v = 'b' where id = 1; select audit_algolia.configure_index('t')")
        .unwrap();
    let new = Stage::builder().start().unwrap();
    new.admin().batch_execute("create database restored template template0").unwrap();
    let file = old.cluster.socket_dir().join("dump.sql");
    let path = file.to_str().unwrap();
    old.cluster.run("pg_dump", &["-f", path, "postgres"]).unwrap();
    new.cluster.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, "restored"]).unwrap();
    new.wait_for_records("t", 2000);
    new.wait_for_records("zz", 1);
    wait_until("the settings", SOON, || new.standin.settings("t").is_some());
    new.wait_for_records("c", 2);
    let mut restored = new.cluster.client("restored", "postgres");
    restored
        .batch_execute("insert into s.\"T t\" values (5000, 'new'), (5001, 'new'); insert into zz values (2)")
        .unwrap();
    new.wait_for_records("t", 2002);
    new.wait_for_records("zz", 2);
    assert_eq!(new.standin.index("t")["5001"]["v"], "new");
    restored
        .batch_execute("update c set v = 'hidden' where id = 1; insert into c values (3, 'c'), (4, 'hidden'); delete from c")
        .unwrap();
    new.wait_for_records("c", 4);
    let mut told: Vec<String> = new.standin.index("c").values().map(crate::changes::brief).collect();
    told.sort();
    assert_eq!(told, ["1 insert a", "1 update b a", "3 delete c", "3 insert c"]);
    let states: Vec<String> = restored
        .query("select state from audit_algolia.sources", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(states, ["watching", "watching", "watching"]);
    restored.batch_execute("create table later (id int primary key)").unwrap();
    let id: i32 = one(&mut restored, "select audit_algolia.watch('later', columns => '{id}')");
    assert_eq!(id, 4);
}
