//! Errors that are not about a row make the statement fail, under `warn` too.

use super::*;
use crate::play::failure;

#[test]
fn a_statement_that_is_to_end_ends() {
    let mut scene = shared("to_end");
    scene.run(
        "create table t (id bigint primary key, v int);
         create function slow(int) returns boolean language plpgsql stable as $$ begin perform pg_sleep($1); return true; end $$",
    );
    scene.watch("t", "columns => '{v}', filter => 'to_end.slow(v)'");
    scene.run("set statement_timeout = '300ms'");
    assert_eq!(failure(&mut scene.db, "insert into t values (1, 60)").code().code(), "57014");
    scene.run("reset statement_timeout; insert into t values (2, 0)");
    scene.stage.wait_for_records("to_end", 1);
    assert_eq!((scene.counts(), scene.warned().len()), ((0, 0, 0), 0));
}

#[test]
fn whoever_catches_such_an_error_rolls_back_what_is_theirs() {
    let mut scene = shared("caught");
    scene.run(
        "create table t (id bigint primary key, v int); create table note (text text);
         create function fails(int) returns boolean language plpgsql stable as $$
             begin
                 if $1 < 0 then raise serialization_failure; end if;
                 return 100 / $1 <> 1000;
             end $$",
    );
    scene.watch("t", "columns => '{v}', filter => 'caught.fails(v)'");
    // In each way of capturing rows: together, one by one after an error, and a single row.
    for rows in ["(1, -1)", "(2, 0), (3, -1)", "(4, 1), (5, 0), (6, -1), (7, 1)"] {
        scene.run(&format!(
            "do $$ begin
                 insert into note values ('kept');
                 begin
                     insert into note values ('undone');
                     insert into t values {rows};
                 exception when serialization_failure then insert into note values ('caught');
                 end;
                 begin
                     insert into note values ('undone'); raise 'x';
                 exception when raise_exception then null;
                 end;
             end $$"
        ));
    }
    let notes: String = one(&mut scene.db, "select string_agg(text, ' ' order by ctid) from note");
    assert_eq!(notes, "kept caught kept caught kept caught");
    assert_eq!(one::<i64>(&mut scene.db, "select count(*) from t"), 0);
    assert_eq!(scene.counts(), (0, 0, 0));
    scene.run("begin; savepoint a; insert into t values (8, 0), (9, 1); release a; savepoint b; insert into t values (10, 0); rollback to b; commit");
    scene.stage.wait_for_records("caught", 1);
    assert_eq!(scene.counts(), (1, 1, 0));
    scene.run("update t set v = 1 where id = 8");
    scene.wait_for_repairs();
    assert_eq!(scene.ids(), ["8", "9"]);
}
