//! Old and new versions of changed rows, with statement triggers and with row triggers.

use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::wait::wait_until;
use serde_json::{json, Value};

use crate::changes::{changes, ALL};
use crate::play::{one, Play};

/// Ways to change many rows at once. Each row has its key and a version in `v`, which reveals versions that are paired
/// incorrectly.
const WAYS: &[(&str, usize)] = &[
    ("update t set v = k || ':' || split_part(v, ':', 2)::int + 1", 500),
    ("update t set v = t.k || ':' || split_part(t.v, ':', 2)::int + 1 from (select k from t order by random()) as s where s.k = t.k and t.k % 3 = 0", 166),
    ("update t set v = k || ':' || split_part(v, ':', 2)::int + 1, other = repeat('pad', 1000) where k <= 250", 250),
    ("update t set other = 'unlisted'", 0),
    ("insert into t (k, v) select k, v from t where k <= 100 on conflict (k) do update set v = t.k || ':' || split_part(t.v, ':', 2)::int + 1", 100),
    ("merge into t using (select k from t where k <= 300) as s on t.k = s.k
      when matched and t.k <= 200 then update set v = t.k || ':' || split_part(t.v, ':', 2)::int + 1
      when matched then do nothing", 200),
    ("with a as (update t set v = k || ':' || split_part(v, ':', 2)::int + 1 where k % 2 = 0 returning k)
      update t set v = k || ':' || split_part(v, ':', 2)::int + 1 where k % 2 = 1", 500),
    ("do $$ begin for i in 1 .. 50 loop update t set v = k || ':' || split_part(v, ':', 2)::int + 1 where k = i; end loop; end $$", 50),
    ("update origin set k = k", 0),
    ("update origin set stamp = 'x' where k <= 60", 60),
];

/// Tables whose updates are captured by statement triggers, by row triggers, and in partitions with another layout.
const LAYOUTS: &[(&str, &str)] = &[
    (
        "pairs_plain",
        "create table t (gone int, k int primary key, v text, other text); alter table t drop column gone",
    ),
    (
        "pairs_parted",
        "create table t (k int primary key, v text, other text) partition by range (k);
         create table low partition of t for values from (0) to (150);
         create table high (other text, gone int, v text, k int not null, primary key (k));
         alter table high drop column gone;
         alter table t attach partition high for values from (150) to (1000)",
    ),
    (
        "pairs_heirs",
        "create table t (k int primary key, v text, other text); create table child (more int) inherits (t)",
    ),
];

#[test]
fn old_and_new_versions_of_a_row_belong_together_whatever_the_way() {
    for (name, table) in LAYOUTS {
        let mut play = Play::new(
            name,
            &format!(
                "{table};
                 create table origin (k int primary key, stamp text);
                 create function pass_on() returns trigger language plpgsql as $$
                     begin
                         update {name}.t set v = k || ':' || split_part(v, ':', 2)::int + 1 where k = new.k;
                         return new;
                     end $$;
                 create trigger pass_on after update on origin for each row when (new.stamp is distinct from old.stamp) execute function pass_on();
                 insert into origin select i from generate_series(1, 500) as i;
                 insert into t (k, v) select i, i || ':0' from generate_series(1, 500) as i"
            ),
        );
        play.watch("t", &format!("columns => '{{k, v}}', {ALL}"));
        // So that tuplestores spill to disk.
        play.run("set work_mem = '64kB'");
        let mut seen = 0;
        for (statement, count) in WAYS {
            play.run(statement);
            let records = changes(&mut play);
            assert_eq!(records.len(), seen + count, "{name}: {statement}");
            for record in &records[seen..] {
                check_pair(record, &format!("{name}: {statement}"));
            }
            seen += count;
        }
    }
}

#[track_caller]
fn check_pair(record: &Value, what: &str) {
    let version = |value: &Value| {
        let (key, version) = value.as_str().unwrap().split_once(':').unwrap();
        assert_eq!(key, record["k"].to_string(), "{what}: {record}");
        version.parse::<u32>().unwrap()
    };
    assert_eq!(record["op"], "update", "{what}");
    assert_eq!(record["changed"], json!(["v"]), "{what}");
    assert_eq!(version(&record["v"]), version(&record["previous"]["v"]) + 1, "{what}: {record}");
}

/// A statement that had to wait for another continues with the row as that one left it.
#[test]
fn an_update_that_waited_tells_of_the_version_it_found_in_the_end() {
    for (name, table) in LAYOUTS {
        let name = format!("{name}_waiting").leak();
        let mut play = Play::new(
            name,
            &format!("{table}; insert into t (k, v) select i, i || ':0' from generate_series(1, 300) as i"),
        );
        play.watch("t", &format!("columns => '{{k, v}}', {ALL}"));
        play.run("begin; update t set v = k || ':1' where k in (10, 200); delete from t where k = 20");
        let mut other = play.stage.cluster.client("postgres", "app");
        let update = format!("update {name}.t set v = k || ':' || split_part(v, ':', 2)::int + 1");
        let waiting = std::thread::spawn(move || other.batch_execute(&update));
        wait_until("the second to wait", SOON, || {
            one::<i64>(
                &mut play.admin,
                &format!("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'update {name}.t %'"),
            ) == 1
        });
        play.run("commit");
        waiting.join().unwrap().unwrap();
        let records = changes(&mut play);
        assert_eq!(records.len(), 3 + 299, "{name}");
        let updates = records.iter().filter(|record| record["op"] == "update");
        let mut versions = Vec::new();
        for record in updates {
            check_pair(record, name);
            if record["k"] == 10 || record["k"] == 200 {
                versions.push(record["v"].as_str().unwrap().to_owned());
            }
        }
        versions.sort();
        assert_eq!(versions, ["10:1", "10:2", "200:1", "200:2"], "{name}");
    }
}
