//! The check at the end of a chaos run: whatever was committed is in the index or, if it is poison, among the dead
//! letters; and nothing else is.

use std::collections::BTreeSet;

use anyhow::{ensure, Result};
use postgres::Client;
use serde_json::Value;

use super::changes::{self, Records};
use super::partitions;
use super::tables::{CHANGING, TABLES};
use crate::standin::Standin;

/// Huge notes are compared by their beginning, length and digest, so that they are never all in memory at once.
pub(super) const BRIEF: &str = "
    create function brief(note text) returns text immutable language sql as $$
        select case when length(note) < 200000 then note
            else left(note, 30) || ' of ' || length(note) || ', ' || md5(note) end $$;
    create function brief(record json) returns jsonb immutable language sql as $$
        select case when length(record::text) < 200000 then record::jsonb else record::jsonb
            || jsonb_build_object('note', brief(record ->> 'note'))
            || case when record -> 'previous' is null then '{}'
                else jsonb_build_object('previous', jsonb_build_object('note', brief(record #>> '{previous,note}'))) end
        end $$;";

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// How many records are expected: one for each row of the watched tables, and one for each change to tables whose
    /// changes are recorded.
    pub committed: u64,
    /// How many of them are updates or deletes.
    pub changes: u64,
    /// How many of them are dead letters, because their notes are poison.
    pub dead: u64,
    /// How many operations the stand-in has accepted, and how many of them repeat another.
    pub arrived: u64,
    pub repeated: u64,
    /// What is wrong, one line each.
    pub faults: Vec<String>,
}

/// What was found for one table.
#[derive(Default)]
struct Found {
    /// The expected records.
    committed: Records,
    dead: Records,
    /// The records that the index holds.
    held: Records,
    /// The objectID of each operation that the index has accepted.
    arrived: Vec<String>,
}

/// Compares tables, dead letters and indices, when nothing is in progress any more.
pub(super) fn check(db: &mut Client, standin: &Standin) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let arrivals = standin.arrivals();
    for (place, table) in TABLES.into_iter().enumerate() {
        let as_records = if place < CHANGING {
            format!(
                "select id::text, json_build_object(
                     'objectID', id::text, 'at', extract(epoch from at)::bigint, 'note', brief(note))
                 from {table} where {}",
                partitions::WRITTEN
            )
        } else {
            changes::as_records(table)
        };
        let dead_letters = format!(
            "select object_id, brief(record) from audit_algolia.dead_letters where index_name = '{table}'"
        );
        let arrived = arrivals.iter().filter(|one| one.index == table).map(|one| one.object_id.clone());
        let found = Found {
            committed: records(db, &as_records)?,
            dead: records(db, &dead_letters)?,
            held: standin.index(table),
            arrived: arrived.collect(),
        };
        verdict.judge(table, if place < CHANGING { found } else { found.unnumbered() });
        verdict.counters(db, table)?;
    }
    let left: i64 = db.query_one("select count(*) from pg_prepared_xacts", &[])?.get(0);
    if left > 0 {
        verdict.faults.push(format!("{left} prepared transactions are left over"));
    }
    Ok(verdict)
}

impl Found {
    /// Replaces the objectIDs of change records by names, in the history too.
    fn unnumbered(self) -> Found {
        let name = |id: String| self.held.get(&id).map_or(id, changes::name);
        let arrived = self.arrived.into_iter().map(name).collect();
        let [committed, dead, held] = [self.committed, self.dead, self.held].map(changes::unnumbered);
        Found { committed, dead, held, arrived }
    }
}

impl Verdict {
    fn judge(&mut self, table: &str, found: Found) {
        self.committed += found.committed.len() as u64;
        let is_change = |record: &&Value| record["op"] == "update" || record["op"] == "delete";
        self.changes += found.committed.values().filter(is_change).count() as u64;
        self.dead += found.dead.len() as u64;
        self.arrived += found.arrived.len() as u64;
        let distinct: BTreeSet<&String> = found.arrived.iter().collect();
        self.repeated += (found.arrived.len() - distinct.len()) as u64;
        let unreal: Vec<&String> =
            distinct.into_iter().filter(|id| !found.committed.contains_key(*id)).collect();
        if !unreal.is_empty() {
            self.faults.push(format!("index {table} was sent rows that never committed: {}", some(unreal)));
        }
        let (poison, good): (Records, Records) =
            found.committed.into_iter().partition(|(_, record)| is_poison(record));
        self.differ(&format!("index {table}"), &good, &found.held);
        self.differ(&format!("dead letters of {table}"), &poison, &found.dead);
    }

    fn differ(&mut self, what: &str, wanted: &Records, found: &Records) {
        let missing: Vec<&String> = wanted.keys().filter(|id| !found.contains_key(*id)).collect();
        let surplus: Vec<&String> = found.keys().filter(|id| !wanted.contains_key(*id)).collect();
        let changed: Vec<&String> = wanted
            .iter()
            .filter(|(id, record)| found.get(*id).is_some_and(|other| other != *record))
            .map(|(id, _)| id)
            .collect();
        for (word, ids) in [("misses", missing), ("has too many", surplus), ("has differently", changed)] {
            if !ids.is_empty() {
                self.faults.push(format!("{what} {word} {} rows: {}", ids.len(), some(ids)));
            }
        }
    }

    /// Compares the counters in shared memory with the tables.
    fn counters(&mut self, db: &mut Client, index: &str) -> Result<()> {
        let row = db.query_one(
            "select q.queued, q.in_flight, q.dead,
                 (select count(*) from audit_algolia.queue as r join audit_algolia.index as i on i.id = r.index_id
                  where i.name = q.index_name),
                 (select count(*) from audit_algolia.dead_letters as d where d.index_name = q.index_name)
             from audit_algolia.queue_stats() as q where q.index_name = $1",
            &[&index],
        )?;
        let numbers: Vec<i64> = (0..5).map(|place| row.get(place)).collect();
        if numbers[..2] != [0, 0] || numbers[3] != 0 || numbers[2] != numbers[4] {
            self.faults.push(format!(
                "counters of {index}: queued, in flight, dead = {:?}; in the tables {:?}",
                &numbers[..3],
                &numbers[3..]
            ));
        }
        Ok(())
    }
}

fn records(db: &mut Client, query: &str) -> Result<Records> {
    let rows = db.query(query, &[])?;
    let records: Records = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    ensure!(records.len() == rows.len(), "an objectID occurs twice in: {query}");
    Ok(records)
}

/// The record of an update also holds the previous note.
fn is_poison(record: &Value) -> bool {
    let notes = [&record["note"], &record["previous"]["note"]];
    notes.iter().any(|note| note.as_str().is_some_and(|note| note.starts_with("poison")))
}

/// The first few, joined.
fn some<T: AsRef<str>>(ids: Vec<T>) -> String {
    ids.iter().take(5).map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn records(notes: &[(&str, &str)]) -> Records {
        notes.iter().map(|(id, note)| ((*id).to_owned(), json!({"objectID": id, "note": note}))).collect()
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn faults(change: impl FnOnce(&mut Found)) -> Vec<String> {
        let mut found = Found {
            committed: records(&[("1", "note"), ("2", "poison")]),
            dead: records(&[("2", "poison")]),
            held: records(&[("1", "note")]),
            arrived: ids(&["1", "1"]),
        };
        change(&mut found);
        let mut verdict = Verdict::default();
        verdict.judge("t", found);
        verdict.faults
    }

    #[test]
    fn what_is_where_it_belongs_is_no_fault() {
        assert_eq!(faults(|_| {}), [""; 0]);
    }

    #[test]
    fn every_kind_of_difference_is_a_fault() {
        assert_eq!(faults(|found| found.held.clear()), ["index t misses 1 rows: 1"]);
        assert_eq!(faults(|found| found.dead.clear()), ["dead letters of t misses 1 rows: 2"]);
        let other = records(&[("1", "another note")]);
        assert_eq!(faults(|found| found.held = other), ["index t has differently 1 rows: 1"]);
        let both = records(&[("1", "note"), ("2", "poison")]);
        assert_eq!(faults(|found| found.held = both.clone()), ["index t has too many 1 rows: 2"]);
        assert_eq!(faults(|found| found.dead = both), ["dead letters of t has too many 1 rows: 1"]);
        assert_eq!(
            faults(|found| found.arrived = ids(&["1", "3"])),
            ["index t was sent rows that never committed: 3"]
        );
    }

    #[test]
    fn repeats_are_counted() {
        let mut verdict = Verdict::default();
        verdict.judge("t", Found { arrived: ids(&["1", "2", "1"]), ..Found::default() });
        assert_eq!((verdict.arrived, verdict.repeated), (3, 1));
    }
}
