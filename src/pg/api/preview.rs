//! `preview`: exactly what would leave the database, for rows that exist now.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::direct_function_call_as_datum;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::row_writer::{conditions_of, names_of, RowWriter};
use super::sources::watched;
use super::{caller, refuse_other_version, Table};
use crate::pg::capture::{BoundRelation, Scratch};
use crate::pg::condition::Conditions;
use crate::pg::descriptor::columns;
use crate::pg::error_context::with_error_context;
use crate::pg::owner::{as_user, pin_output_settings};
use crate::pg::report::{overflow, reported, sql_error, SqlResult};
use crate::pg::rules::SourceRules;
use crate::pg::subtransaction::guarded;
use crate::record::Buffer;

/// Rows may be many and large. So they are returned in a tuplestore, which keeps them in memory up to `work_mem` and
/// then on disk.
#[pg_extern(sql = false)]
fn preview(
    source: Option<pg_sys::Oid>,
    max_rows: Option<i32>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    refuse_other_version()?;
    reported(with_error_context(|| {
        // SAFETY: this is the call's own argument.
        let mut set = unsafe { ResultSet::begin(call) }?;
        records(source, max_rows, &mut set)
    }))
}

/// The set that the function returns.
struct ResultSet {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
}

impl ResultSet {
    /// # Safety
    /// `call` is the call of a function that returns a set of jsonb.
    unsafe fn begin(call: pg_sys::FunctionCallInfo) -> SqlResult<ResultSet> {
        // SAFETY: a caller that takes a set says so in the call, with the modes that it allows. The tuplestore and its
        // descriptor must live in the query's memory context, and belong to the caller from then on.
        unsafe {
            let info = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let modes = match info.as_ref() {
                Some(info) if info.type_ == pg_sys::NodeTag::T_ReturnSetInfo => info.allowedModes as u32,
                _ => 0,
            };
            if modes & pg_sys::SetFunctionReturnMode::SFRM_Materialize == 0 {
                return Err(sql_error(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    "audit_algolia.preview() was called in a context that cannot accept a set",
                    "Call it in FROM or in the select list.",
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
        // jsonb_in makes several copies; this saves one.
        drop(record);
        let value = as_jsonb(text)?;
        let (mut values, mut nulls) = ([value.unwrap_or(pg_sys::Datum::from(0usize))], [value.is_none()]);
        // SAFETY: `begin` made the tuplestore and the descriptor for each other, and the value is copied.
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

/// Returns a record as jsonb. A record that jsonb cannot hold, although Algolia can, becomes a string with its text.
fn as_jsonb(record: &CStr) -> SqlResult<Option<pg_sys::Datum>> {
    let error = match guarded(|| Ok(jsonb(record)))? {
        Ok(value) => return Ok(value),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => error,
    };
    ereport!(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!(
            "a record is shown as a string with its text, because jsonb cannot hold it: {}",
            error.kind()
        ),
        "It is sent to Algolia unchanged."
    );
    let mut text = Buffer::default();
    // Serializing a string fails only for lack of memory, which `check` reports.
    let _ = serde_json::to_writer(&mut text, record.to_str().unwrap_or_default());
    text.check().map_err(|error| overflow(error, "a watched table"))?;
    Ok(jsonb(c_string(&text)))
}

/// Parses a record as PostgreSQL does, so that numbers keep their digits. The result is in the current memory context.
pub(super) fn jsonb(record: &CStr) -> Option<pg_sys::Datum> {
    // SAFETY: pg_any_to_server returns its argument or a C string in the current memory context, in the database's
    // encoding. jsonb_in takes a C string and returns a jsonb in that context.
    unsafe {
        let length = i32::try_from(record.to_bytes().len()).ok()?;
        let text = pg_sys::pg_any_to_server(record.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32);
        direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text))])
    }
}

/// Copies a record with a terminating zero into the current memory context, which must outlive `'a`.
pub(super) fn c_string<'a>(record: &[u8]) -> &'a CStr {
    // SAFETY: the copy ends with a zero.
    unsafe { CStr::from_ptr(pg_sys::pnstrdup(record.as_ptr().cast(), record.len())) }
}

fn records(source: Option<pg_sys::Oid>, max_rows: Option<i32>, set: &mut ResultSet) -> SqlResult<()> {
    let Some(limit) = max_rows.filter(|rows| *rows >= 0) else {
        return Err(sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_rows must be zero or more",
            "Pass the number of rows to show.",
        ));
    };
    let caller = caller();
    let (table, sources) = watched(source, caller)?;
    for (_, rules) in sources {
        // Reads with the caller's rights, so that row security policies and column privileges apply.
        as_user(caller, || show(&table, &rules, i64::from(limit), set))?;
    }
    Ok(())
}

fn show(table: &Table, rules: &SourceRules, limit: i64, set: &mut ResultSet) -> SqlResult<()> {
    let names = RefCell::new(names_of(rules));
    let conditions = conditions_of(table, rules, &names)?;
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
        // With a filter, it is not known how many rows must be read to find `limit` that pass.
        let rows = (!conditions.has_filter()).then_some(limit);
        let mut cursor = client.open_cursor(query.as_str(), &[rows.into()]);
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        while left > 0 {
            cursor.fetch(FETCH)?;
            // SAFETY: SPI holds the result of this fetch.
            let shown = unsafe { show_page(rules, table, &conditions, left, set) }?;
            let Some(shown) = shown else { break };
            left = left.saturating_sub(shown);
        }
        Ok(())
    })
}

/// Rows fetched at a time.
const FETCH: std::os::raw::c_long = 100;

/// Shows the records of the fetched rows, at most `limit`, and returns how many; `None` if no rows were fetched.
///
/// # Safety
/// SPI holds the result of a query for the columns in the rules and those that the conditions read.
unsafe fn show_page(
    rules: &SourceRules,
    table: &Table,
    conditions: &Conditions,
    limit: usize,
    set: &mut ResultSet,
) -> SqlResult<Option<usize>> {
    // SAFETY: the caller guarantees this. The tuples live until the next fetch, and the slot does not own them.
    unsafe {
        let (fetched, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
        if count == 0 {
            return Ok(None);
        }
        let bound = BoundRelation::of_columns(rules, &columns(fetched.tupdesc), &table.bare_name)?;
        let mut writer = RowWriter::new(rules, &bound)?;
        let conditions = conditions.prepare();
        let slot = pg_sys::MakeSingleTupleTableSlot(fetched.tupdesc, &raw const pg_sys::TTSOpsHeapTuple);
        let (mut shown, mut scratch) = (0, Scratch::new());
        for tuple in std::slice::from_raw_parts(fetched.vals, count) {
            pg_sys::ExecStoreHeapTuple(*tuple, slot, false);
            if shown < limit && conditions.accepts(slot) {
                let record = scratch.within(|| writer.write(slot, &conditions))?;
                scratch.give_back();
                if let Some(record) = record {
                    scratch.within(|| set.add(record))?;
                    scratch.give_back();
                    shown += 1;
                }
            }
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        conditions.close();
        Ok(Some(shown))
    }
}
