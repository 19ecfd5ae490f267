//! `preview`: exactly what would leave the database, for rows that exist now.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::direct_function_call_as_datum;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::sources::watched;
use super::{caller, Table};
use crate::pg::capture::{record_buffer, BoundRelation, RecordMaker, Scratch, TupleSlot};
use crate::pg::descriptor::columns;
use crate::pg::error_context::with_error_context;
use crate::pg::filter::Filter;
use crate::pg::owner::{as_user, pin_output_settings};
use crate::pg::report::{overflow, reported, sql_error, SqlResult};
use crate::pg::rules::SourceRules;
use crate::pg::subtransaction::guarded;
use crate::record::{Buffer, Change, ChangeOrigin, Operation};

/// Rows may be many and large, so they go where the server keeps a set: in memory up to `work_mem`, then on disk.
#[pg_extern(sql = false)]
fn preview(
    source: Option<pg_sys::Oid>,
    max_rows: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    reported(with_error_context(|| {
        // SAFETY: the call is under way.
        let mut set = unsafe { ResultSet::begin(call) }?;
        records(source, max_rows, &mut set)
    }))
}

/// The set that a function returns.
struct ResultSet {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
}

impl ResultSet {
    /// # Safety
    /// `call` is the call of a function that returns a set of jsonb.
    unsafe fn begin(call: pg_sys::FunctionCallInfo) -> SqlResult<ResultSet> {
        // SAFETY: who takes a set says so in the call, and in which forms; set and descriptor are to live in the query's
        // memory, and are the caller's from then on.
        unsafe {
            let info = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let modes = match info.as_ref() {
                Some(info) if info.type_ == pg_sys::NodeTag::T_ReturnSetInfo => info.allowedModes as u32,
                _ => 0,
            };
            if modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize == 0 {
                return Err(sql_error(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    "audit_algolia.preview() was called where no set can be returned",
                    "Call it in the list of a SELECT, or in FROM.",
                ));
            }
            let before = pg_sys::MemoryContextSwitchTo((*(*info).econtext).ecxt_per_query_memory);
            let descriptor = pg_sys::CreateTemplateTupleDesc(1);
            pg_sys::TupleDescInitEntry(descriptor, 1, c"preview".as_ptr(), pg_sys::JSONBOID, -1, 0);
            let is_random = modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random != 0;
            let store = pg_sys::tuplestore_begin_heap(is_random, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*info).setResult = store;
            (*info).setDesc = descriptor;
            Ok(ResultSet { store, descriptor })
        }
    }

    fn add(&mut self, record: Buffer) -> SqlResult<()> {
        let text = c_string(&record);
        // Reading it takes several copies; this is one less.
        drop(record);
        let value = shown(text)?;
        let (mut values, mut nulls) = ([value.unwrap_or(pg_sys::Datum::from(0usize))], [value.is_none()]);
        // SAFETY: made by `begin` for one another; the value is copied.
        unsafe {
            pg_sys::tuplestore_putvalues(
                self.store,
                self.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        Ok(())
    }
}

/// A record as jsonb; one that jsonb cannot hold, though it is sent, as a string with its text.
fn shown(record: &CStr) -> SqlResult<Option<pg_sys::Datum>> {
    let error = match guarded(|| Ok(jsonb(record)))? {
        Ok(shown) => return Ok(shown),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => error,
    };
    ereport!(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("a record is shown as a string with its text, for jsonb cannot hold it: {}", error.kind()),
        "It is sent as it is."
    );
    let mut text = Buffer::default();
    // A text is always JSON as a string; whether it had a place is told behind it.
    let _ = serde_json::to_writer(&mut text, record.to_str().unwrap_or_default());
    text.check().map_err(|error| overflow(error, "a watched table"))?;
    Ok(jsonb(c_string(&text)))
}

/// A record as the server itself reads it, so that numbers keep their digits; in the current memory context.
pub(super) fn jsonb(record: &CStr) -> Option<pg_sys::Datum> {
    // SAFETY: pg_any_to_server returns its argument or a C string in the current context, in the database's encoding;
    // jsonb_in takes a C string and returns a jsonb in that context.
    unsafe {
        let length = i32::try_from(record.to_bytes().len()).ok()?;
        let text = pg_sys::pg_any_to_server(record.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32);
        direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text))])
    }
}

/// A copy with a zero behind it, in the current memory context, which has to outlive `'a`.
pub(super) fn c_string<'a>(record: &[u8]) -> &'a CStr {
    // SAFETY: the copy ends with a zero.
    unsafe { CStr::from_ptr(pg_sys::pnstrdup(record.as_ptr().cast(), record.len())) }
}

fn records(source: Option<pg_sys::Oid>, max_rows: Option<i32>, set: &mut ResultSet) -> SqlResult<()> {
    let Some(limit) = max_rows.filter(|rows| *rows >= 0) else {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_rows must be zero or more",
            "Give the number of rows to show.",
        ));
    };
    let caller = caller();
    let (table, sources) = watched(source, caller)?;
    for (_, rules) in sources {
        // With the caller's rights: row-level security and column privileges decide what is shown.
        as_user(caller, || show(&table, &rules, i64::from(limit), set))?;
    }
    Ok(())
}

fn show(table: &Table, rules: &SourceRules, limit: i64, set: &mut ResultSet) -> SqlResult<()> {
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
    pin_output_settings();
    Spi::connect(|client| {
        // How many rows it takes to have enough of those a filter lets through, only looking at them tells.
        let rows = filter.is_none().then_some(limit);
        let mut cursor = client.open_cursor(query.as_str(), &[rows.into()]);
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        while left > 0 {
            cursor.fetch(FETCH)?;
            // SAFETY: the result of the fetch is the one SPI has now.
            let shown = unsafe { show_page(rules, table, filter.as_ref(), left, set) }?;
            let Some(shown) = shown else { break };
            left = left.saturating_sub(shown);
        }
        Ok(())
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
) -> SqlResult<Option<Filter>> {
    let Some(text) = &rules.filter else {
        return Ok(None);
    };
    // SAFETY: the relation is opened with a lock, and closed again, by the abort after an error; places are those of its
    // columns.
    unsafe {
        let relation = pg_sys::relation_open(table.oid, pg_sys::AccessShareLock as i32);
        let known = columns((*relation).rd_att);
        let place = |column| {
            let name = &known.iter().find(|known| known.place == column)?.name;
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

/// Shows the records of the rows SPI has fetched, up to `limit`; how many. Nothing when there are no rows any more.
///
/// # Safety
/// SPI holds the result of a query for the columns the rules name, and of those the filter was compiled for.
unsafe fn show_page(
    rules: &SourceRules,
    table: &Table,
    filter: Option<&Filter>,
    limit: usize,
    set: &mut ResultSet,
) -> SqlResult<Option<usize>> {
    // SAFETY: the caller guarantees this; tuples live until the next fetch, and the slot does not own them.
    unsafe {
        let (fetched, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
        if count == 0 {
            return Ok(None);
        }
        let bound = BoundRelation::of_columns(rules, &columns(fetched.tupdesc), &table.bare_name)?;
        let mut writer = RowWriter::new(rules, &bound)?;
        let evaluation = filter.map(Filter::prepare);
        let slot = pg_sys::MakeSingleTupleTableSlot(fetched.tupdesc, &raw const pg_sys::TTSOpsHeapTuple);
        let (mut shown, mut scratch) = (0, Scratch::new());
        for tuple in std::slice::from_raw_parts(fetched.vals, count) {
            pg_sys::ExecStoreHeapTuple(*tuple, slot, false);
            if shown < limit && evaluation.as_ref().is_none_or(|filter| filter.accepts(slot)) {
                let record = scratch.within(|| writer.write(slot))?;
                scratch.give_back();
                if let Some(record) = record {
                    scratch.within(|| set.add(record))?;
                    scratch.give_back();
                    shown += 1;
                }
            }
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        if let Some(evaluation) = evaluation {
            evaluation.close();
        }
        Ok(Some(shown))
    }
}

/// Makes records of rows as if each had just been inserted, or had whatever the source watches first done to it.
pub(super) struct RowWriter<'a> {
    bound: &'a BoundRelation,
    maker: RecordMaker,
    /// Of a source whose records tell of changes: which they tell of, and by whom and when.
    change: Option<(Operation, ChangeOrigin)>,
}

impl<'a> RowWriter<'a> {
    pub(super) fn new(rules: &SourceRules, bound: &'a BoundRelation) -> SqlResult<RowWriter<'a>> {
        let maker = RecordMaker::current();
        // SAFETY: reads the state of the session and its transaction.
        let (now, transaction) = unsafe {
            (pg_sys::GetCurrentStatementStartTimestamp(), pg_sys::GetTopFullTransactionIdIfAny().value)
        };
        let change = match rules.operations.first() {
            Some(operation) if rules.are_changes() => {
                Some((*operation, maker.origin(bound, now, transaction)?))
            }
            _ => None,
        };
        Ok(RowWriter { bound, maker, change })
    }

    /// The record of a row; none when only TRUNCATE is watched, which tells of no row.
    ///
    /// # Safety
    /// The slot holds a row of what the rules were bound to.
    pub(super) unsafe fn write(&mut self, slot: TupleSlot) -> SqlResult<Option<Buffer>> {
        let mut record = record_buffer();
        // SAFETY: the caller guarantees this.
        unsafe {
            let value = self.bound.row(slot);
            match &self.change {
                None => self.maker.write_record(self.bound, value, &mut record)?,
                Some((Operation::Truncate, _)) => return Ok(None),
                Some((operation, origin)) => {
                    let change = Change { operation: *operation, number: 0, previous: &[], origin };
                    self.maker.write_change(self.bound, &change, value, &mut record)?;
                }
            }
        }
        Ok(Some(record))
    }
}
