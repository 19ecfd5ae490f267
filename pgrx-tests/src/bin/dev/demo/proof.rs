//! Shows what arrived, and compares it with the table.

use std::collections::{BTreeSet, HashSet};

use anyhow::{ensure, Result};
use serde_json::Value;

use audit_algolia_tests::workload::TABLE;

use super::environment::Environment;
use super::status;
use crate::screen::{grouped, wrapped};

/// Prints rows and, below each, its record in Algolia.
pub(super) fn show_records(env: &mut Environment) -> Result<()> {
    let rows = env.db.query(
        "(SELECT id, to_jsonb(d)::text FROM document_changes AS d ORDER BY id DESC LIMIT 1)
         UNION ALL
         (SELECT id, to_jsonb(d)::text FROM document_changes AS d WHERE email IS NOT NULL
          ORDER BY changed_at, id LIMIT 1)",
        &[],
    )?;
    let records = env.standin.index(TABLE);
    for row in rows {
        let (id, text): (i64, String) = (row.get(0), row.get(1));
        println!("\n  row {id} in the database:\n{}", wrapped(&text, 4));
        if let Some(record) = records.get(&id.to_string()) {
            println!("  as Algolia got it:\n{}", wrapped(&spaced(record), 4));
        }
    }
    Ok(())
}

/// A record's JSON with spaces, so that lines can be broken.
fn spaced(record: &Value) -> String {
    let members = record.as_object().into_iter().flatten();
    let parts: Vec<String> = members.map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", parts.join(", "))
}

/// Compares the index with the table, and checks that the index contains nothing that it must not. Returns the number
/// of rows.
pub(super) fn check(env: &mut Environment) -> Result<u64> {
    let row = env.db.query_one("SELECT count(*), count(DISTINCT author) FROM document_changes", &[])?;
    let (rows, authors) = (row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as usize);
    let records = env.standin.index(TABLE);
    ensure!(records.len() as u64 == rows, "the table has {rows} rows, the index {} records", records.len());
    println!("{} rows in the table, as many records in the index", grouped(rows));

    let arrivals = env.standin.arrivals();
    let sent = arrivals.iter().filter(|one| one.action == "addObject").count() as u64;
    ensure!(sent == rows, "{sent} records were sent for {rows} rows");
    println!("each was sent once");

    let ids: HashSet<String> =
        env.db.query("SELECT id::text FROM document_changes", &[])?.iter().map(|row| row.get(0)).collect();
    let strangers = records.keys().filter(|id| !ids.contains(*id)).count();
    ensure!(strangers == 0, "{strangers} records belong to no row");

    let leaks = leaks(env, records.values())?;
    ensure!(
        leaks.is_empty(),
        "originals reached the index: {}",
        leaks.into_iter().take(5).collect::<Vec<_>>().join(", ")
    );
    println!("no address and no author's name in any of them");

    let pseudonyms: BTreeSet<&str> = records.values().filter_map(|one| one["author"].as_str()).collect();
    ensure!(pseudonyms.len() == authors, "{authors} authors have {} pseudonyms", pseudonyms.len());
    println!("{} authors, as many pseudonyms", grouped(authors as u64));

    let queue = status::queue(&mut env.db)?;
    ensure!(queue.queued == 0 && queue.dead == 0 && queue.failed == 0, "something is left over: {queue:?}");
    println!("nothing queued, nothing failed, nothing dead");
    Ok(rows)
}

/// Values in the index that should be pseudonyms, or that look like an address.
fn leaks<'a>(env: &mut Environment, records: impl Iterator<Item = &'a Value>) -> Result<BTreeSet<String>> {
    let originals: HashSet<String> = env
        .db
        .query(
            "SELECT author FROM document_changes UNION SELECT email FROM document_changes WHERE email IS NOT NULL",
            &[],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut leaks = BTreeSet::new();
    for record in records {
        for (attribute, value) in record.as_object().into_iter().flatten() {
            let Some(text) = value.as_str() else { continue };
            let person = ["author", "email"].contains(&attribute.as_str());
            let leaked = if person {
                !text.starts_with("p_") || originals.contains(text)
            } else {
                looks_like_an_address(text)
            };
            if leaked {
                leaks.insert(format!("{attribute} {text}"));
            }
        }
    }
    Ok(leaks)
}

fn looks_like_an_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(_, host)| host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses() {
        assert!(looks_like_an_address("ada@example.org"));
        assert!(!looks_like_an_address("2:1.4-3+b1"));
    }

    #[test]
    fn json_can_be_wrapped() {
        let record = serde_json::json!({"a": "x", "b": 1});
        assert_eq!(spaced(&record), r#"{"a": "x", "b": 1}"#);
    }
}
