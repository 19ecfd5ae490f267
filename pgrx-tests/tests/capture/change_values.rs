//! The values in change records: what changed, from which old values, and who changed it.

use serde_json::{json, Value};

use crate::changes::{briefs, changes, ALL};
use crate::play::{one, Play};

#[test]
fn an_update_that_changes_nothing_allowed_queues_nothing() {
    let mut play = Play::new(
        "unchanged",
        "create table t (id int primary key, v text, big text, n numeric, secret text);
         alter table t alter big set storage external;
         insert into t values (1, 'a', repeat('x', 20000), 1.0, 's'), (2, null, null, null, null)",
    );
    play.watch("t", &format!("columns => '{{v, big, n}}', {ALL}"));
    play.run("update t set secret = 'other'");
    play.run("update t set v = v, big = big, id = id");
    play.run("update t set big = repeat('x', 20000) where id = 1");
    play.run("update t set v = 'b' where id = 3");
    play.run("begin; update t set v = 'b'; rollback");
    assert_eq!(changes(&mut play), Vec::<Value>::new());
    play.run("update t set big = repeat('x', 19999) || 'y' where id = 1");
    play.run("update t set n = 2, secret = 'third' where id = 2");
    let records = changes(&mut play);
    assert_eq!(records[0]["changed"], json!(["big"]));
    assert_eq!(records[0]["previous"]["big"].as_str().unwrap(), "x".repeat(20_000));
    assert_eq!((&records[1]["changed"], &records[1]["previous"]), (&json!(["n"]), &json!({"n": null})));
    assert_eq!(records.len(), 2);
}

#[test]
fn who_made_a_change_is_told_by_the_application_or_the_session() {
    let mut play = Play::new("actors", "create table t (id int primary key, v text, who text)");
    play.watch("t", &format!("columns => '{{v}}', {ALL}"));
    play.run("insert into t values (1)");
    play.run("begin; set local audit_algolia.actor = 'alice \"é\"'; insert into t values (2); update t set v = 'x' where id = 2; commit");
    play.run("insert into t values (3)");
    play.run("set audit_algolia.actor = 'bob'; insert into t values (4)");
    play.run("set audit_algolia.actor = ''; insert into t values (5)");
    play.run("set audit_algolia.actor = 'bob'");
    play.run("begin; set local audit_algolia.actor = 'carol'; rollback");
    play.run("insert into t values (6)");
    play.run("reset audit_algolia.actor");
    play.admin
        .batch_execute("create function actors.as_owner() returns void language sql security definer as 'insert into actors.t values (7)'; set session authorization app; select actors.as_owner(); reset session authorization")
        .unwrap();
    let actors: Vec<Value> =
        changes(&mut play).into_iter().map(|record| record["changed_by"].clone()).collect();
    let alice = "alice \"é\"";
    assert_eq!(json!(actors), json!(["app", alice, alice, "app", "bob", "app", "bob", "app"]));
}

#[test]
fn people_stay_pseudonyms_in_all_that_a_change_tells() {
    let mut play = Play::new("masked", "create table t (id text primary key, who text, v text)");
    play.watch("t", &format!("columns => '{{who, v}}', pseudonymize => '{{who, id}}', {ALL}"));
    play.run("set audit_algolia.actor = 'raw-actor'");
    play.run("insert into t values ('raw-key', 'raw-one', 'a')");
    play.run("update t set who = 'raw-two', id = 'raw-new-key'");
    play.run("update t set who = null");
    let queued: i64 =
        one(&mut play.admin, "select count(*) from audit_algolia.queue where record like '%raw%'");
    assert_eq!(queued, 0);
    let mut pseudonym =
        |of: &str| one::<String>(&mut play.admin, &format!("select audit_algolia.pseudonym('{of}')"));
    let (key, new_key, one, two, actor) = (
        pseudonym("raw-key"),
        pseudonym("raw-new-key"),
        pseudonym("raw-one"),
        pseudonym("raw-two"),
        pseudonym("raw-actor"),
    );
    let records = changes(&mut play);
    assert!(records[0]["objectID"].as_str().unwrap().starts_with(&format!("{key}@")));
    assert_eq!(records[0]["changed_by"], json!(actor));
    assert!(records[1]["objectID"].as_str().unwrap().starts_with(&format!("{new_key}@")));
    assert_eq!(records[1]["changed"], json!(["who", "id"]));
    assert_eq!(records[1]["previous"], json!({"who": one, "id": key}));
    assert_eq!(records[2]["previous"], json!({"who": two}));
    assert!(!json!(records).to_string().contains("raw"));
}

#[test]
fn a_key_that_changes_is_told_with_the_old_one() {
    let mut play = Play::new("rekeyed", "create table t (a int, b int, v text, primary key (a, b))");
    play.watch("t", &format!("columns => '{{b AS part, v}}', {ALL}"));
    play.run("insert into t values (1, 2, 'x'), (5, 6, 'y')");
    play.run("update t set a = a + 10, b = b + 10 where a = 1");
    let records = changes(&mut play);
    assert_eq!(records[2]["changed"], json!(["part", "a"]));
    assert_eq!(records[2]["previous"], json!({"a": 1, "part": 2}));
    assert!(records[2]["objectID"].as_str().unwrap().starts_with("11:12@"));
    assert_eq!(records.len(), 3);
}

#[test]
fn what_other_triggers_and_keys_do_to_rows_is_told_as_it_ends() {
    let mut play = Play::new(
        "cascades",
        "create table doc (id int primary key);
         create table t (id int primary key, doc int references doc on update cascade on delete cascade, v text);
         create function stamp() returns trigger language plpgsql as $$
             begin
                 if new.v = 'refused' then return null; end if;
                 new.v := new.v || '!';
                 return new;
             end $$;
         create trigger stamp before update on t for each row execute function stamp();
         insert into doc values (1), (2);
         insert into t values (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 2, 'd')",
    );
    play.watch("t", &format!("columns => '{{doc, v}}', {ALL}"));
    play.run("update t set v = case id when 1 then 'refused' else 'new' || id end where doc = 1");
    play.run("update doc set id = id + 10");
    play.run("delete from doc where id = 11");
    play.run("insert into t values (5, 12, 'e'), (3, 12, 'x') on conflict (id) do update set v = excluded.v");
    play.run(
        "merge into t using (values (3), (4), (6)) as s (id) on t.id = s.id
         when matched and t.id = 3 then delete
         when matched then update set v = 'merged'
         when not matched then insert values (s.id, 12, 'm')",
    );
    let mut seen = briefs(&mut play);
    let cascaded: Vec<String> = seen.drain(1..5).collect();
    assert_eq!(
        crate::play::texts(cascaded),
        ["1 update a! a", "2 update new2!! new2!", "3 update c! c", "4 update d! d"]
    );
    seen.sort();
    assert_eq!(
        seen,
        [
            "1 delete a!",
            "2 delete new2!!",
            "2 update new2! b",
            "3 delete x!",
            "3 update x! c!",
            "4 update merged! d!",
            "5 insert e",
            "6 insert m",
        ]
    );
}
