//! Owns the judgement at the end of a chaos run: what committed is in the index or, if it is poison, in the dead letters;
//! and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{ensure, Result};
use postgres::Client;
use serde_json::Value;

use super::plan::TABLES;
use crate::standin::Standin;

/// Records by objectID.
type Records = BTreeMap<String, Value>;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Rows in the watched tables.
    pub committed: u64,
    /// Of them, poison.
    pub dead: u64,
    /// Operations the stand-in has taken, and those of them that repeat another.
    pub arrived: u64,
    pub repeated: u64,
    /// What is wrong, a line each.
    pub faults: Vec<String>,
}

/// Compares tables, dead letters and index. All must be at rest.
pub(super) fn check(db: &mut Client, standin: &Standin) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for table in TABLES {
        let committed = records(
            db,
            &format!(
                "select id::text,
                     json_build_object('objectID', id::text, 'at', extract(epoch from at)::bigint, 'note', note)
                 from {table}"
            ),
        )?;
        let dead = records(
            db,
            &format!("select object_id, record from audit_algolia.dead_letters where index_name = '{table}'"),
        )?;
        let held = standin.index(table);
        let (poison, good): (Records, Records) =
            committed.clone().into_iter().partition(|(_, record)| is_poison(record));
        verdict.committed += committed.len() as u64;
        verdict.dead += dead.len() as u64;
        verdict.differ(&format!("index {table}"), &good, &held);
        verdict.differ(&format!("dead letters of {table}"), &poison, &dead);

        let arrivals = standin.arrivals();
        let ids: Vec<&str> =
            arrivals.iter().filter(|one| one.index == table).map(|one| one.object_id.as_str()).collect();
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        verdict.arrived += ids.len() as u64;
        verdict.repeated += (ids.len() - distinct.len()) as u64;
        let unreal: Vec<&&str> = distinct.iter().filter(|id| !committed.contains_key(**id)).collect();
        if !unreal.is_empty() {
            verdict
                .faults
                .push(format!("index {table} was sent rows that never committed: {}", some(unreal)));
        }
        verdict.counters(db, table)?;
    }
    let left: i64 = db.query_one("select count(*) from pg_prepared_xacts", &[])?.get(0);
    if left > 0 {
        verdict.faults.push(format!("{left} prepared transactions are left over"));
    }
    Ok(verdict)
}

impl Verdict {
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

    /// The counters in shared memory against the tables.
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

fn is_poison(record: &Value) -> bool {
    record["note"].as_str().is_some_and(|note| note.starts_with("poison"))
}

/// The first few.
fn some<T: AsRef<str>>(ids: Vec<T>) -> String {
    ids.iter().take(5).map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
}
