//! The tables of a chaos run whose updates and deletes are recorded as well.
//!
//! A trigger in PL/pgSQL stores the expected records in the same transactions. The extension chooses the number of a
//! record, so records are compared without it: by the row, the transaction and the notes before and after.

use std::collections::BTreeMap;

use serde_json::Value;

use super::notes::note_expression;
use super::tables::{CHANGING, TABLES};
use super::transactions::{Rows, Work};

/// Records by objectID.
pub(super) type Records = BTreeMap<String, Value>;

/// The filter refuses rows that are hidden or whose luck is 0. Neither column is sent.
const FILTER: &str = "not hidden and luck <> 0";

/// Creates the tables and their history, and watches them.
pub(super) fn set_up() -> String {
    let columns = "id bigint primary key, at timestamptz not null, note text not null,
         hidden boolean not null default false, luck int not null generated always as (id % 7) stored";
    let mut script = format!(
        "create table delta ({columns});
         create table epsilon ({columns}) partition by range (id);
         create table history (place bigint generated always as identity, source text, id bigint, op text,
             at timestamptz, note text, previous text, transaction bigint);
         create function write_history() returns trigger language plpgsql as $$
             declare told record;
             begin
                 told := case when tg_op = 'DELETE' then old else new end;
                 if told.hidden or told.id % 7 = 0 or tg_op = 'UPDATE' and old.note = new.note then
                     return null;
                 end if;
                 insert into history (source, id, op, at, note, previous, transaction)
                 values (tg_argv[0], told.id, lower(tg_op), told.at, told.note,
                     case when tg_op = 'UPDATE' then old.note end, pg_current_xact_id()::text::bigint);
                 return null;
             end $$;"
    );
    for table in &TABLES[CHANGING..] {
        script.push_str(&format!(
            "create trigger history after insert or update or delete on {table} for each row
                 execute function write_history('{table}');
             select audit_algolia.watch('{table}', columns => '{{at, note}}', object_id => '{{id}}',
                 operations => '{{insert, update, delete}}', filter => '{FILTER}');"
        ));
    }
    script
}

/// The statement that changes rows.
pub(super) fn statement(rows: &Rows, work: Work) -> String {
    let Rows { table, first, count, .. } = *rows;
    let (table, which) = (TABLES[table], format!("id between {first} and {}", first + count - 1));
    let rewrite = |number: i64| match rows.poison {
        Some(id) => {
            format!(
                "note = case when id = {id} then {} else 'note ' || id || ' {number}' end",
                note_expression(rows, id)
            )
        }
        None => format!("note = 'note ' || id || ' {number}'"),
    };
    match work {
        Work::Rewrite(number) => format!("update {table} set {} where {which}", rewrite(number)),
        Work::Show(number) => format!("update {table} set {}, hidden = false where {which}", rewrite(number)),
        Work::Hide => format!("update {table} set hidden = true where {which}"),
        Work::Delete => format!("delete from {table} where {which}"),
    }
}

/// A query for the expected records of a table's changes, each numbered by its place in the history.
pub(super) fn as_records(table: &str) -> String {
    format!(
        "select id || '@' || place,
             jsonb_strip_nulls(jsonb_build_object(
                 'objectID', id || '@' || place, 'at', extract(epoch from at)::bigint, 'note', brief(note), 'op', op,
                 'changed', case when op = 'update' then '[\"note\"]'::jsonb end,
                 'previous', case when op = 'update' then jsonb_build_object('note', brief(previous)) end,
                 'changed_by', 'postgres', 'transaction_id', transaction))
         from history where source = '{table}'"
    )
}

/// A short description of a change record. No change is made twice in a transaction.
pub(super) fn name(record: &Value) -> String {
    let text = |value: &Value| -> String { value.as_str().unwrap_or_default().chars().take(40).collect() };
    let id = text(&record["objectID"]);
    let (key, _) = id.rsplit_once('@').unwrap_or((&id, ""));
    let (op, transaction) = (text(&record["op"]), &record["transaction_id"]);
    let (note, previous) = (text(&record["note"]), text(&record["previous"]["note"]));
    format!("{key} {op} in {transaction}: '{note}' was '{previous}'")
}

/// Names records by their descriptions, which do not depend on their numbers. A record that occurs twice is kept twice.
pub(super) fn unnumbered(records: Records) -> Records {
    let mut named = Records::new();
    for (id, mut record) in records {
        let mut name = name(&record);
        if let Some(fields) = record.as_object_mut() {
            fields.remove("objectID");
            fields.remove("changed_at");
        }
        if named.contains_key(&name) {
            name = format!("{name}, again as {id}");
        }
        named.insert(name, record);
    }
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_that_is_told_twice_is_there_twice() {
        let change = |number: i64, note: &str| {
            let id = format!("7@{number}");
            let record = json!({
                "objectID": id, "op": "update", "note": note, "previous": {"note": "a"},
                "transaction_id": 70, "changed_at": number,
            });
            (id, record)
        };
        let told = unnumbered([change(1, "b"), change(2, "c"), change(3, "b")].into());
        let names: Vec<&str> = told.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "7 update in 70: 'b' was 'a'",
                "7 update in 70: 'b' was 'a', again as 7@3",
                "7 update in 70: 'c' was 'a'"
            ]
        );
        assert!(told.values().all(|record| record.get("changed_at").is_none()));
    }
}
