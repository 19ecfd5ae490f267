//! ObjectIDs are parsed as keys, with the owner's rights only. None is an orphan because it cannot be parsed.

use audit_algolia_tests::stage::{one, Stage};
use serde_json::json;

use crate::support::{error, lose, reconcile, try_reconcile, wait_for_empty_queue, well, write, Found};

#[test]
fn the_checks_of_a_domain_run_with_the_rights_of_the_tables_owner() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create role mallory login; grant usage on schema audit_algolia to mallory;
         create schema mallory authorization mallory;
         grant execute on function audit_algolia.watch to mallory",
    )
    .unwrap();
    let mut mallory = stage.cluster.client("postgres", "mallory");
    mallory
        .batch_execute(
            "create table mallory.seen (who text); grant insert on mallory.seen to public;
             create function mallory.f(text) returns boolean language plpgsql as $$
             begin insert into mallory.seen values (current_user); return true; end $$;
             create domain mallory.evil as text check (mallory.f(value));
             create table mallory.t (id mallory.evil primary key, v text);
             create table mallory.u (id mallory.evil[] primary key, v text);
             select audit_algolia.watch('mallory.t', columns => '{v}', mode => 'mirror');
             select audit_algolia.watch('mallory.u', columns => '{v}', mode => 'mirror');
             insert into mallory.t select 'k' || n, 'x' from generate_series(1, 3) as n;
             insert into mallory.u select array['k' || n], 'x' from generate_series(1, 3) as n;
             truncate mallory.seen",
        )
        .unwrap();
    for (table, key) in [("t", "k1"), ("u", "{k1}")] {
        stage.wait_for_records(table, 3);
        wait_for_empty_queue(&mut db);
        lose(&stage, table, &[key]);
        write(&stage, table, "addObject", &[json!({"objectID": "k9"})]);
        let found = Found { checked: 3, missing: 1, orphaned: 1, repaired: 2, different: 0 };
        assert_eq!(reconcile(&mut db, &format!("'mallory.{table}', repair => true")), found);
        wait_for_empty_queue(&mut db);
    }
    let query = "select coalesce(array_agg(distinct who), '{}') from mallory.seen where who <> 'mallory'";
    assert_eq!(one::<Vec<String>>(&mut db, query), Vec::<String>::new());
}

#[test]
fn a_row_with_a_key_that_its_domain_would_not_take_any_more_is_no_orphan() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    for (table, of) in [("plain", "key"), ("many", "key[]"), ("pairs", "pair")] {
        let value = match of {
            "key" => "'k' || n",
            "key[]" => "array['k' || n]",
            _ => "row('k' || n, n)::pair",
        };
        db.batch_execute(&format!(
            "create domain key as varchar(5); create type pair as (a key, b int);
             create table {table} (id {of} primary key, v text);
             select audit_algolia.watch('{table}', columns => '{{v}}', mode => 'mirror');
             insert into {table} select {value}, 'x' from generate_series(1, 5) as n;
             alter domain key add constraint later check (value <> 'k1') not valid"
        ))
        .unwrap();
        stage.wait_for_records(table, 5);
        wait_for_empty_queue(&mut db);
        assert_eq!(reconcile(&mut db, &format!("'{table}', repair => true")), well(5), "{table}");
        // It is not deleted for being different either.
        let id = stage.standin.index(table).into_keys().find(|id| id.contains("k1")).unwrap();
        write(
            &stage,
            table,
            "addObject",
            &[json!({"objectID": id, "v": "old"}), json!({"objectID": "junk"})],
        );
        let found = reconcile(&mut db, &format!("'{table}', repair => true"));
        assert_eq!((found.different, found.orphaned), (1, 1), "{table}");
        wait_for_empty_queue(&mut db);
        let index = stage.standin.index(table);
        assert!(index.contains_key(&id) && !index.contains_key("junk"), "{table}");
        // A key part inside another value cannot be looked up, so the record is left as it is.
        let held = if table == "plain" { "x" } else { "old" };
        assert_eq!(index[&id]["v"], json!(held), "{table}");
        db.batch_execute(&format!("drop table {table}; drop type pair; drop domain key")).unwrap();
    }
}

#[test]
fn a_key_that_cannot_be_read_for_want_of_memory_is_no_orphan() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create function is_fine(text) returns boolean language plpgsql as $$
         begin
             if current_setting('test.short', true) = 'on' then
                 raise exception 'out of memory' using errcode = 'out_of_memory';
             end if;
             return $1 <> 'junk';
         end $$;
         create domain key as text check (is_fine(value));
         create table t (id key[] primary key, v text);
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t select array['k' || n], 'x' from generate_series(1, 5) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 5);
    wait_for_empty_queue(&mut db);
    lose(&stage, "t", &["{k1}"]);
    db.batch_execute("set test.short = 'on'").unwrap();
    assert_eq!(error(try_reconcile(&mut db, "'t', repair => true")).0, "53200");
    db.batch_execute("set test.short = 'off'").unwrap();
    let found = Found { checked: 5, missing: 1, repaired: 1, ..Found::default() };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("t").len(), 5);
}

#[test]
fn keys_of_types_with_a_length_lead_back_to_their_rows() {
    let stage = Stage::builder().start().unwrap();
    let mut db = stage.admin();
    db.batch_execute(
        "create domain code as char(4); create domain flags as bit(3);
         create table t (a code, b flags, c varchar(3), d numeric(6, 2), v text, primary key (a, b, c, d));
         select audit_algolia.watch('t', columns => '{v}', mode => 'mirror');
         insert into t select 'k' || n, n::bit(3), n, n, 'x' from generate_series(1, 7) as n",
    )
    .unwrap();
    stage.wait_for_records("t", 7);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t', repair => true"), well(7));
    let strays = ["k1:001:1:1.00", "k1  :0010:1:1.00", "k1  :001:1234:1.00", "k1  :001:1:1.001"];
    write(&stage, "t", "addObject", &strays.map(|id| json!({ "objectID": id })));
    lose(&stage, "t", &["k2  :010:2:2.00"]);
    let found = Found { checked: 7, missing: 1, orphaned: 4, repaired: 5, different: 0 };
    assert_eq!(reconcile(&mut db, "'t', repair => true"), found);
    wait_for_empty_queue(&mut db);
    assert_eq!(reconcile(&mut db, "'t'"), well(7));
}
