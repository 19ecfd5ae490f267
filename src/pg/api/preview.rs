//! `preview`: exactly what would leave the database, for rows that are there now.

use std::cell::RefCell;
use std::ffi::CString;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{direct_function_call_as_datum, AnyElement};

use super::sources::watched;
use super::{caller, Table};
use crate::pg::capture::{columns, Bound};
use crate::pg::filter::Filter;
use crate::pg::owner::{as_user, set_output_aside};
use crate::pg::report::{failure, reported, Outcome};
use crate::pg::rules::{pseudonymizer, ServerCalendar, SourceRules};
use crate::pg::subtransaction::guarded;
use crate::pseudonym::Pseudonymizer;
use crate::record::{Change, Operation, Stamp};

#[pg_extern(sql = false)]
fn preview(
    source: Option<pg_sys::Oid>,
    max_rows: Option<i32>,
) -> Result<SetOfIterator<'static, Option<AnyElement>>, ErrorReport> {
    let shown = records(source, max_rows)
        .and_then(|records| records.into_iter().map(shown).collect::<Outcome<Vec<Option<AnyElement>>>>());
    reported(shown).map(SetOfIterator::new)
}

/// A record as jsonb; one that jsonb cannot hold, though it is sent, as a string with its text.
fn shown(record: Vec<u8>) -> Outcome<Option<AnyElement>> {
    match guarded(|| Ok(jsonb(&record)))? {
        Ok(shown) => Ok(shown),
        Err(failure) => {
            ereport!(
                PgLogLevel::NOTICE,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!(
                    "a record is shown as a string with its text, for jsonb cannot hold it: {}",
                    failure.kind()
                ),
                "It is sent as it is."
            );
            Ok(jsonb(serde_json::Value::from(String::from_utf8_lossy(&record)).to_string().as_bytes()))
        }
    }
}

/// A record as the server itself reads it, so that numbers keep their digits.
pub(super) fn jsonb(record: &[u8]) -> Option<AnyElement> {
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
    let (table, sources) = watched(source, caller)?;
    let mut records = Vec::new();
    for (_, rules) in sources {
        // With the caller's rights: row-level security and column privileges decide what is shown.
        records.extend(as_user(caller, || records_of(&table, &rules, i64::from(limit)))?);
    }
    Ok(records)
}

fn records_of(table: &Table, rules: &SourceRules, limit: i64) -> Outcome<Vec<Vec<u8>>> {
    let names = RefCell::new(names_of(rules));
    let filter = filter_of(table, rules, &names)?;
    let list: Vec<String> = names.borrow().iter().map(spi::quote_identifier).collect();
    let order: Vec<String> = rules
        .time_column
        .iter()
        .chain(&rules.object_id)
        .map(|name| format!("{} desc nulls last", spi::quote_identifier(name)))
        .collect();
    let query =
        format!("select {} from {} order by {} limit $1", list.join(", "), table.name, order.join(", "));
    set_output_aside();
    let mut records = Vec::new();
    Spi::connect(|client| {
        // How many rows it takes to have enough of those a filter lets through, only looking at them tells.
        let rows = filter.is_none().then_some(limit);
        let mut cursor = client.open_cursor(query.as_str(), &[rows.into()]);
        let mut shown = usize::try_from(limit).unwrap_or(usize::MAX);
        while shown > 0 {
            cursor.fetch(FETCH)?;
            // SAFETY: the result of the fetch is the one SPI has now.
            let page = unsafe { page(rules, table, filter.as_ref(), shown) }?;
            let Some(page) = page else { break };
            shown = shown.saturating_sub(page.len());
            records.extend(page);
        }
        Ok(records)
    })
}

/// The columns that records are made of, each once.
pub(super) fn names_of(rules: &SourceRules) -> Vec<String> {
    let mut names: Vec<String> = rules.columns.iter().map(|column| column.name.clone()).collect();
    names.extend(rules.object_id.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// Rows fetched at a time.
const FETCH: std::os::raw::c_long = 100;

/// The filter of a source, for rows that consist of the columns of `names`. Those it looks at are added to them.
pub(super) fn filter_of(
    table: &Table,
    rules: &SourceRules,
    names: &RefCell<Vec<String>>,
) -> Outcome<Option<Filter>> {
    let Some(text) = &rules.filter else {
        return Ok(None);
    };
    // SAFETY: the relation is opened with a lock, and closed again, by the abort after an error; places are those of its
    // columns.
    unsafe {
        let relation = pg_sys::relation_open(table.oid, pg_sys::AccessShareLock as i32);
        let known = columns((*relation).rd_att);
        let place = |column| {
            let (_, name, _) = known.iter().find(|(place, _, _)| *place == column)?;
            let mut names = names.borrow_mut();
            let found = names.iter().position(|other| other == name);
            if found.is_none() {
                names.push(name.clone());
            }
            Some(found.unwrap_or(names.len() - 1))
        };
        let filter = Filter::compile(text, relation, rules.owner, place);
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        filter.map(Some)
    }
}

/// The records of the rows SPI has fetched, up to `limit`; nothing when there are no rows any more.
///
/// # Safety
/// SPI holds the result of a query for the columns the rules name, and of those the filter was compiled for.
unsafe fn page(
    rules: &SourceRules,
    table: &Table,
    filter: Option<&Filter>,
    limit: usize,
) -> Outcome<Option<Vec<Vec<u8>>>> {
    // SAFETY: handed on to the caller; tuples live until SPI is left, and the slot does not own them.
    unsafe {
        let (fetched, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
        if count == 0 {
            return Ok(None);
        }
        let bound = Bound::new(rules, &columns(fetched.tupdesc), &table.bare_name)?;
        let writer = RowWriter::new(rules, &bound)?;
        let evaluation = filter.map(Filter::prepare);
        let slot = pg_sys::MakeSingleTupleTableSlot(fetched.tupdesc, &raw const pg_sys::TTSOpsHeapTuple);
        let mut records = Vec::new();
        for tuple in std::slice::from_raw_parts(fetched.vals, count) {
            pg_sys::ExecStoreHeapTuple(*tuple, slot, false);
            if records.len() < limit && evaluation.as_ref().is_none_or(|filter| filter.accepts(slot)) {
                records.extend(writer.write(|place| {
                    let mut is_null = false;
                    let ordinal = place as i32 + 1;
                    let value = pg_sys::SPI_getbinval(*tuple, fetched.tupdesc, ordinal, &mut is_null);
                    (!is_null).then_some(value)
                })?);
            }
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        if let Some(evaluation) = evaluation {
            evaluation.close();
        }
        Ok(Some(records))
    }
}

/// Makes records of rows as if each had just been inserted, or had whatever the source watches first done to it.
pub(super) struct RowWriter<'a> {
    bound: &'a Bound,
    pseudonymizer: Option<Rc<Pseudonymizer>>,
    /// Of a source whose records tell of changes: which they tell of, and by whom and when.
    change: Option<(Operation, Stamp)>,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(rules: &SourceRules, bound: &'a Bound) -> Outcome<RowWriter<'a>> {
        let pseudonymizer = pseudonymizer();
        // SAFETY: reads the state of the session and its transaction.
        let (now, transaction) = unsafe {
            (pg_sys::GetCurrentStatementStartTimestamp(), pg_sys::GetTopFullTransactionIdIfAny().value)
        };
        let change = match rules.operations.first() {
            Some(operation) if rules.are_changes() => {
                Some((*operation, bound.stamp(now, transaction, pseudonymizer.as_deref())?))
            }
            _ => None,
        };
        Ok(RowWriter { bound, pseudonymizer, change })
    }

    /// The record of a row; none when only TRUNCATE is watched, which tells of no row.
    ///
    /// # Safety
    /// `value` returns values of the row the rules were bound to.
    pub(super) unsafe fn write(
        &self,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> Outcome<Option<Vec<u8>>> {
        let (mut record, mut calendar) = (Vec::new(), ServerCalendar::current());
        let pseudonymizer = self.pseudonymizer.as_deref();
        // SAFETY: handed on to the caller.
        unsafe {
            match &self.change {
                None => self.bound.write(value, pseudonymizer, &mut calendar, &mut record)?,
                Some((Operation::Truncate, _)) => return Ok(None),
                Some((operation, stamp)) => {
                    let change = Change { operation: *operation, number: 0, previous: &[], stamp };
                    self.bound.write_change(&change, value, pseudonymizer, &mut calendar, &mut record)?;
                }
            }
        }
        Ok(Some(record))
    }
}
