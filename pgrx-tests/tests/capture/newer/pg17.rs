//! PostgreSQL 17: `MERGE … RETURNING`, identity columns of partitioned tables, `COPY` that skips lines.

use std::io::Write;

use super::has;
use crate::changes::briefs;
use crate::play::{texts, Play};

const ALL: &str = "operations => '{insert, update, delete, truncate}'";

#[test]
fn each_row_of_a_merge_is_captured_once_whatever_it_returns() {
    if !has(17, "MERGE … RETURNING") {
        return;
    }
    let plain = "create table t (id int primary key, v text)";
    let parts = "create table t (id int primary key, v text) partition by range (id);
        create table low partition of t for values from (0) to (2);
        create table high partition of t for values from (2) to (100)";
    for (name, tables) in [("merge_plain", plain), ("merge_parts", parts)] {
        let log = "create table log (id int generated always as identity primary key, v text)";
        let mut play = Play::new(name, &format!("{tables}; {log}"));
        play.watch("t", &format!("columns => '{{v}}', {ALL}"));
        play.watch("log", &format!("columns => '{{v}}', object_prefix => 'log:', {ALL}"));
        play.run("insert into t values (1, 'a'), (2, 'b'), (3, 'c')");
        play.run(
            "with merged as (
                 merge into t using (values (1, 'new'), (4, 'd')) as s (id, v) on s.id = t.id
                 when matched then update set v = s.v
                 when not matched then insert values (s.id, s.v)
                 when not matched by source and t.id = 2 then delete
                 returning merge_action() as done, t.*
             ) insert into log (v) select done || id from merged order by id",
        );
        let mut told = briefs(&mut play);
        told.sort();
        assert_eq!(
            told,
            [
                "1 insert a",
                "1 update new a",
                "2 delete b",
                "2 insert b",
                "3 insert c",
                "4 insert d",
                "log:1 insert UPDATE1",
                "log:2 insert DELETE2",
                "log:3 insert INSERT4",
            ],
            "{name}"
        );
    }
}

#[test]
fn a_mirror_follows_a_merge_that_deletes_what_its_source_lacks() {
    if !has(17, "WHEN NOT MATCHED BY SOURCE") {
        return;
    }
    let mut play = Play::new("merge_mirror", "create table t (id int primary key, v text)");
    play.watch("t", "columns => '{v}', mode => 'mirror'");
    play.run("insert into t select n, 'a' from generate_series(1, 10) as n");
    play.run(
        "merge into t using generate_series(8, 12) as s (id) on s.id = t.id
         when matched then update set v = 'b'
         when not matched then insert values (s.id, 'c')
         when not matched by source then delete
         returning merge_action(), t.id",
    );
    let records = play.records();
    let shown = records.iter().map(|(id, record)| format!("{id} {}", record["v"].as_str().unwrap()));
    assert_eq!(texts(shown), texts(["10 b", "11 c", "12 c", "8 b", "9 b"]));
}

#[test]
fn rows_of_a_partitioned_table_with_an_identity_have_objects_of_their_own() {
    if !has(17, "identity columns of partitioned tables") {
        return;
    }
    let mut play = Play::new(
        "identity",
        "create table t (id bigint generated always as identity, day date, v text, primary key (id, day))
             partition by range (day);
         create table january partition of t for values from ('2026-01-01') to ('2026-02-01')",
    );
    play.watch("t", "columns => '{v}'");
    play.run("insert into t (day, v) values ('2026-01-05', 'through the root')");
    play.run("insert into january (day, v) values ('2026-01-06', 'straight')");
    play.owner
        .batch_execute(
            "create table february partition of t for values from ('2026-02-01') to ('2026-03-01');
             create table march (day date not null, id bigint not null, v text, primary key (id, day));
             alter table t attach partition march for values from ('2026-03-01') to ('2026-04-01')",
        )
        .unwrap();
    play.run("insert into february (day, v) values ('2026-02-05', 'straight')");
    play.run("insert into t (day, v) values ('2026-03-05', 'through the root')");
    play.run("insert into march (day, v) values ('2026-03-06', 'straight')");
    let expected = ["1:2026-01-05", "2:2026-01-06", "3:2026-02-05", "4:2026-03-05", "5:2026-03-06"];
    assert_eq!(play.ids(), expected);
    assert_eq!(play.arrivals(), 5);
}

#[test]
fn lines_that_a_copy_skips_are_not_captured() {
    if !has(17, "COPY … ON_ERROR") {
        return;
    }
    let plain = "create table t (id int primary key, v text)";
    let parts = "create table t (id int primary key, v text) partition by range (id);
        create table low partition of t for values from (0) to (3);
        create table high partition of t for values from (3) to (100)";
    for (name, tables) in [("copy_plain", plain), ("copy_parts", parts)] {
        let mut play = Play::new(name, tables);
        play.watch("t", "columns => '{v}'");
        let mut writer = play.app.copy_in("copy t from stdin (on_error ignore)").unwrap();
        writer.write_all(b"1\ta\nnone\tb\n3\tc\n4x\td\n5\te\n").unwrap();
        assert_eq!(writer.finish().unwrap(), 3);
        assert_eq!(play.ids(), ["1", "3", "5"], "{name}");
        assert_eq!(play.arrivals(), 3, "{name}");
    }
}
