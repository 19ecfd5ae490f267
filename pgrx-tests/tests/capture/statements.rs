//! All ways of inserting rows: each committed row is delivered once, and nothing else is.

use std::collections::BTreeSet;
use std::io::Write;

use crate::play::{texts, Play};

const TABLE: &str = "create table t (id bigint primary key, v text)";
const RULES: &str = "columns => '{id, v}'";

fn play(name: &'static str) -> Play {
    let mut play = Play::new(name, TABLE);
    play.watch("t", RULES);
    play
}

#[test]
fn inserts_of_one_and_of_several_rows_arrive() {
    let mut play = play("inserts");
    play.run("insert into t values (1, 'one')");
    play.run("insert into t values (2, 'two'), (3, 'three'), (4, 'four')");
    play.run("insert into t select i, 'row ' || i from generate_series(5, 1200) as i");
    play.run("insert into t select 5000 where false");
    let prepared = play.app.prepare("insert into t values ($1, $2)").unwrap();
    for id in 1201..1204_i64 {
        play.app.execute(&prepared, &[&id, &"bound"]).unwrap();
    }
    let records = play.records();
    assert_eq!(records.into_keys().collect::<Vec<_>>(), texts(1..1204));
    assert_eq!(play.arrivals(), 1203);
}

#[test]
fn copied_rows_arrive() {
    let mut play = play("copied");
    let mut writer = play.app.copy_in("copy t from stdin").unwrap();
    for id in 0..3000 {
        writeln!(writer, "{id}\tcopied {id}").unwrap();
    }
    writer.finish().unwrap();
    let records = play.records();
    assert_eq!(records.len(), 3000);
    assert_eq!(records["2999"]["v"], "copied 2999");
}

#[test]
fn a_conflict_queues_only_the_rows_that_were_inserted() {
    let mut play = play("conflicts");
    play.run("insert into t values (1, 'first')");
    play.run("insert into t values (1, 'again'), (2, 'second') on conflict do nothing");
    play.run(
        "insert into t values (2, 'changed'), (3, 'third') on conflict (id) do update set v = excluded.v",
    );
    play.run("insert into t values (3, 'changed') on conflict (id) do update set v = excluded.v");
    let records = play.records();
    assert_eq!(records.keys().collect::<Vec<_>>(), ["1", "2", "3"]);
    let values: Vec<_> = records.values().map(|record| record["v"].as_str().unwrap()).collect();
    assert_eq!(values, ["first", "second", "third"]);
    assert_eq!(play.arrivals(), 3);
}

#[test]
fn statements_that_insert_on_the_way_are_captured() {
    let mut play = play("ctes");
    play.run(
        "with a as (insert into t values (1, 'a') returning id),
              b as (insert into t select id + 1, 'b' from a returning id)
         insert into t select id + 1, 'c' from b",
    );
    play.run("with a as (insert into t values (4, 'd') returning id) select * from a");
    play.run(
        "with a as (update t set v = 'changed' where id = 1 returning id), b as (delete from t where id = 2)
         insert into t select id + 4, 'e' from a",
    );
    play.run(
        "merge into t using (values (1), (6)) as s (id) on t.id = s.id
         when matched then update set v = 'merged'
         when not matched then insert values (s.id, 'f')",
    );
    play.run("create function pg_temp.add() returns void language sql as 'insert into t values (7, ''g'')'; select pg_temp.add()");
    play.run("do $$ begin for i in 8 .. 20 loop insert into t values (i, 'h'); end loop; end $$");
    play.run("update t set v = 'changed'; delete from t where id > 10; truncate t");
    assert_eq!(play.ids(), texts(1..21));
    assert_eq!(play.arrivals(), 20);
}

#[test]
fn views_and_rows_of_other_triggers_are_captured() {
    let mut play = Play::new(
        "indirect",
        "create table t (id bigint primary key, v text);
         create view shown as select id, v from t;
         create table origin (id bigint primary key);
         create function pass_on() returns trigger language plpgsql as $$
             begin insert into indirect.t values (new.id, 'passed on'); return new; end $$;
         create trigger pass_on before insert on origin for each row execute function pass_on();
         create function stamp() returns trigger language plpgsql as $$
             begin new.v := coalesce(new.v, '') || ' stamped'; return case when new.id > 0 then new end; end $$;
         create trigger stamp before insert on t for each row execute function stamp()",
    );
    play.watch("t", RULES);
    play.run("insert into shown values (1, 'by view'), (-1, 'refused')");
    play.run("insert into origin values (2), (3)");
    let records = play.records();
    assert_eq!(records.keys().collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(records["1"]["v"], "by view stamped");
    assert_eq!(records["3"]["v"], "passed on stamped");
}

#[test]
fn a_statement_that_fails_queues_nothing() {
    let mut play = play("failing");
    play.run("insert into t values (1, 'kept')");
    for statement in [
        "insert into t values (2, 'x'), (1, 'twice')",
        "insert into t select i, (1 / (500 - i))::text from generate_series(2, 600) as i",
        "begin; insert into t values (3, 'x'); select 1 / 0",
    ] {
        assert!(play.app.batch_execute(statement).is_err(), "{statement}");
        play.run("rollback");
    }
    play.run("insert into t values (4, 'kept')");
    assert_eq!(play.ids(), ["1", "4"]);
}

#[test]
fn rows_inserted_within_an_insert_arrive_too() {
    let mut play = Play::new(
        "nested",
        "create table t (id bigint primary key, v text);
         create function more() returns trigger language plpgsql as $$
             begin
                 if new.id < 100 then insert into nested.t select new.id * 100 + i, 'nested' from generate_series(1, 5) as i; end if;
                 return null;
             end $$;
         create trigger more after insert on t for each row execute function more()",
    );
    play.watch("t", RULES);
    play.run("insert into t values (1, 'a'), (2, 'b')");
    let expected = [1, 2].into_iter().chain(101..106).chain(201..206);
    assert_eq!(play.ids(), texts(expected));
}

#[test]
fn two_hundred_thousand_rows_of_one_statement_arrive_once_each() {
    let mut play =
        Play::new("bulk", "create table t (id bigint primary key, v text, at timestamptz default now())");
    play.watch("t", "columns => '{id, v, at}', pseudonymize => '{v}', time_column => 'at'");
    play.run("insert into t select i, 'user ' || i % 1000 from generate_series(1, 200000) as i");
    assert_eq!(play.records().len(), 200_000);
    let arrivals = play.stage.standin.arrivals();
    let ids: Vec<&str> = arrivals
        .iter()
        .filter(|arrival| arrival.index == "bulk")
        .map(|arrival| arrival.object_id.as_str())
        .collect();
    assert_eq!(ids.len(), 200_000);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>().len(), 200_000);
}
