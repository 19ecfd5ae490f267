//! The queries of an analyst, who has a search key and no access to the database.

use anyhow::{ensure, Result};
use serde_json::{json, Value};

use super::environment::Environment;
use super::search::Search;
use crate::screen::{chart, grouped, table};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Runs all queries, over HTTP.
pub(super) fn ask(env: &mut Environment) -> Result<()> {
    let search = env.search()?;
    refuses_writes(&search)?;
    months(env, &search)?;
    days(&search)?;
    hours(&search)?;
    weekdays(&search)?;
    authors(env, &search)?;
    package(&search)
}

fn refuses_writes(search: &Search) -> Result<()> {
    let (status, message) = search.try_to_write()?;
    ensure!(status == 403, "a search key could write: {status} {message}");
    println!("the key can search; a write with it is answered {status}: {message}");
    Ok(())
}

/// Algolia has no date histogram, so this counts a range for each month, all in one request.
fn months(env: &mut Environment, search: &Search) -> Result<()> {
    let rows = env.db.query(
        "SELECT to_char(month, 'YYYY-MM'), extract(epoch FROM month)::bigint,
                extract(epoch FROM month + interval '1 month')::bigint
         FROM generate_series(date_trunc('month', now()) - interval '11 months', now(), '1 month') AS month",
        &[],
    )?;
    let filters: Vec<String> = rows
        .iter()
        .map(|row| {
            let (from, to): (i64, i64) = (row.get(1), row.get(2));
            format!("changed_at >= {from} AND changed_at < {to}")
        })
        .collect();
    let counts = search.counts(&filters)?;
    let months: Vec<(String, u64)> = rows.iter().map(|row| row.get(0)).zip(counts).collect();
    println!("\nHow many changes in each of the last twelve months?");
    chart(&months);
    Ok(())
}

fn days(search: &Search) -> Result<()> {
    let days = search.facet("changed_at_day", "")?;
    println!("\nWhich days had the most?");
    chart(&days[..days.len().min(5)]);
    Ok(())
}

fn hours(search: &Search) -> Result<()> {
    let mut hours = search.facet("changed_at_hour_of_day", "")?;
    let peak = hours.first().map(|(hour, _)| hour.clone()).unwrap_or_default();
    hours.sort();
    println!("\nWhen in the day is it busiest (UTC)? The peak is at {peak} h.");
    chart(&hours);
    Ok(())
}

fn weekdays(search: &Search) -> Result<()> {
    let mut days = search.facet("changed_at_weekday", "")?;
    days.sort_by_key(|(day, _)| WEEKDAYS.iter().position(|name| name == day));
    println!("\nAnd in the week?");
    chart(&days);
    Ok(())
}

/// The analyst sees pseudonyms. Only a user who may read the table and holds the key can resolve them.
fn authors(env: &mut Environment, search: &Search) -> Result<()> {
    let authors = search.facet("author", "")?;
    println!("\nWho made the most changes?");
    chart(&authors[..authors.len().min(5)]);
    let Some((top, count)) = authors.first() else {
        return Ok(());
    };
    let resolve = "SELECT DISTINCT author FROM document_changes WHERE audit_algolia.pseudonym(author) = $1";
    println!("\nThe analyst cannot tell who that is. The owner of the key can, in the database:");
    println!("  SELECT DISTINCT author FROM document_changes");
    println!("  WHERE audit_algolia.pseudonym(author) = '{top}';");
    let found = env.db.query(resolve, &[top])?;
    ensure!(found.len() == 1, "the pseudonym {top} stands for {} authors", found.len());
    let author: String = found[0].get(0);
    println!("  → {author}");
    let own: i64 =
        env.db.query_one("SELECT count(*) FROM document_changes WHERE author = $1", &[&author])?.get(0);
    ensure!(own as u64 == *count, "the index counts {count} changes of {top}, the table {own}");
    Ok(())
}

fn package(search: &Search) -> Result<()> {
    let packages = search.facet("package", "")?;
    let Some((package, count)) = packages.first() else {
        return Ok(());
    };
    let answer = search.query(&json!({
        "filters": format!("package:\"{package}\""), "hitsPerPage": 6,
        "attributesToRetrieve": ["changed_at_day", "version", "author", "urgency"],
    }))?;
    println!("\nThe history of a document: {package}, {} changes, the newest:", grouped(*count));
    let text = |hit: &Value, name: &str| hit[name].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = answer["hits"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|hit| ["changed_at_day", "version", "urgency", "author"].map(|name| text(hit, name)).to_vec())
        .collect();
    table(&["day", "version", "urgency", "author"], &rows);
    Ok(())
}
