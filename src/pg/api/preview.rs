//! `preview`: exactly what would leave the database, for rows that are there now.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{direct_function_call_as_datum, AnyElement};

use super::{as_owner, caller, Table};
use crate::pg::capture::{columns, Bound};
use crate::pg::owner::{as_user, set_output_aside};
use crate::pg::report::{failure, reported, Outcome};
use crate::pg::rules::{pseudonymizer, ServerCalendar, SourceRules};

#[pg_extern(sql = false)]
fn preview(
    source: Option<pg_sys::Oid>,
    max_rows: Option<i32>,
) -> Result<SetOfIterator<'static, Option<AnyElement>>, ErrorReport> {
    reported(records(source, max_rows)).map(|records| SetOfIterator::new(records.into_iter().map(jsonb)))
}

/// A record as the server itself reads it, so that numbers keep their digits.
fn jsonb(record: Vec<u8>) -> Option<AnyElement> {
    let text = CString::new(record).ok()?;
    // SAFETY: pg_any_to_server returns its argument or a C string in the current context, in the database's encoding;
    // jsonb_in takes a C string and returns a jsonb in that context, from which PostgreSQL copies it.
    unsafe {
        let length = i32::try_from(text.as_bytes().len()).ok()?;
        let text = pg_sys::pg_any_to_server(text.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32);
        let datum = direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text))])?;
        AnyElement::from_polymorphic_datum(datum, false, pg_sys::JSONBOID)
    }
}

fn records(source: Option<pg_sys::Oid>, max_rows: Option<i32>) -> Outcome<Vec<Vec<u8>>> {
    let Some(limit) = max_rows.filter(|rows| *rows >= 0) else {
        return Err(failure(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_rows must be zero or more",
            "Give the number of rows to show.",
        ));
    };
    let caller = caller();
    let (table, sources) = as_owner(|| {
        let table = Table::of(source, caller)?;
        let names: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        let mut sources = Vec::new();
        for (id, _) in super::watch::sources_of(&table, None)? {
            sources.extend(SourceRules::load(id, table.oid, &table.bare_name, &names)?);
        }
        Ok((table, sources))
    })?;
    let mut records = Vec::new();
    for rules in sources {
        // With the caller's rights: row-level security and column privileges decide what is shown.
        records.extend(as_user(caller, || records_of(&table, &rules, i64::from(limit)))?);
    }
    Ok(records)
}

fn records_of(table: &Table, rules: &SourceRules, limit: i64) -> Outcome<Vec<Vec<u8>>> {
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
    let query =
        format!("select {} from {} order by {} limit $1", list.join(", "), table.name, order.join(", "));
    set_output_aside();
    let pseudonymizer = pseudonymizer();
    Spi::connect(|client| {
        let mut rows = client.select(query.as_str(), None, &[limit.into()])?;
        let mut records = Vec::new();
        // SAFETY: SPI_tuptable is the result of the query just run; it lives until SPI is left.
        let described = unsafe { columns((*pg_sys::SPI_tuptable).tupdesc) };
        let bound = Bound::new(rules, &described, &table.bare_name)?;
        let mut calendar = ServerCalendar::current();
        while rows.next().is_some() {
            let mut record = Vec::new();
            // An error while a value is fetched is an ordinal out of range, which the descriptor excludes.
            let value = |place: usize| rows.get_datum_by_ordinal(place + 1).ok().flatten();
            // SAFETY: the values come from the row whose descriptor the rules were bound to.
            unsafe { bound.write(value, pseudonymizer.as_deref(), &mut calendar, &mut record) }?;
            records.push(record);
        }
        Ok(records)
    })
}
