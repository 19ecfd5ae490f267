//! `preview`: exactly what would leave the database, for rows that are there now.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::JsonB;

use super::{caller, Table};
use crate::pg::capture::{columns, Bound};
use crate::pg::owner::{as_user, set_output_aside};
use crate::pg::report::{failure, reported, Outcome};
use crate::pg::rules::{pseudonymizer, ServerCalendar, SourceRules};

#[pg_extern(sql = false)]
fn preview(
    source: Option<pg_sys::Oid>,
    max_rows: Option<i32>,
) -> Result<SetOfIterator<'static, JsonB>, ErrorReport> {
    reported(records(source, max_rows)).map(SetOfIterator::new)
}

fn records(source: Option<pg_sys::Oid>, max_rows: Option<i32>) -> Outcome<Vec<JsonB>> {
    let Some(limit) = max_rows.filter(|rows| *rows >= 0) else {
        return Err(failure(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_rows must be zero or more",
            "Give the number of rows to show.",
        ));
    };
    let table = Table::of(source)?;
    let mut records = Vec::new();
    for (id, _) in super::watch::sources_of(&table, None)? {
        let names: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        if let Some(rules) = SourceRules::load(id, &names)? {
            // With the caller's rights: row-level security and column privileges decide what is shown.
            records.extend(as_user(caller(), || {
                records_of(&table, &rules, i64::from(limit))
            })?);
        }
    }
    Ok(records)
}

fn records_of(table: &Table, rules: &SourceRules, limit: i64) -> Outcome<Vec<JsonB>> {
    let mut names: Vec<&str> = rules.columns.iter().map(|column| column.name.as_str()).collect();
    names.extend(rules.object_id.iter().map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let list: Vec<String> = names.iter().map(spi::quote_identifier).collect();
    let order: Vec<String> = rules
        .time_column
        .iter()
        .chain(&rules.object_id)
        .map(|name| format!("{} desc nulls last", spi::quote_identifier(name)))
        .collect();
    let query = format!(
        "select {} from {} order by {} limit $1",
        list.join(", "),
        table.name,
        order.join(", ")
    );
    set_output_aside();
    let pseudonymizer = pseudonymizer();
    Spi::connect(|client| {
        let mut rows = client.select(query.as_str(), None, &[limit.into()])?;
        let mut records = Vec::new();
        // SAFETY: SPI_tuptable is the result of the query just run; it lives until SPI is left.
        let described = unsafe { columns((*pg_sys::SPI_tuptable).tupdesc) };
        let bound = Bound::new(rules, &described, &table.name)?;
        let mut calendar = ServerCalendar::current();
        let mut record = Vec::new();
        while rows.next().is_some() {
            record.clear();
            // An error while a value is fetched is an ordinal out of range, which the descriptor excludes.
            let value = |place: usize| rows.get_datum_by_ordinal(place + 1).ok().flatten();
            // SAFETY: the values come from the row whose descriptor the rules were bound to.
            unsafe { bound.write(value, pseudonymizer.as_deref(), &mut calendar, &mut record) }?;
            let json = serde_json::from_slice(&record).map_err(|error| {
                failure(
                    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                    format!("the record of a row of {} is no JSON: {error}", table.name),
                    "Report this as a fault of audit_algolia.",
                )
            })?;
            records.push(JsonB(json));
        }
        Ok(records)
    })
}
