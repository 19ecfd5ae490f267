//! Rows as the queries of a backfill find them: where each is, and the cursor behind it.

use std::ffi::{CStr, CString};

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::progress::Progress;
use crate::pg::owner::set_locally;
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::text_datum::TextArray;

/// A row of a page.
pub(super) struct FoundRow {
    pub(super) relation: pg_sys::Oid,
    pub(super) place: pg_sys::ItemPointerData,
    pub(super) cursor: Option<Vec<Option<String>>>,
    pub(super) keyless: bool,
}

/// Runs `work` with a new snapshot as the active one.
pub(super) fn with_snapshot<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    // SAFETY: popped below, or by the abort after an error.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = work()?;
    // SAFETY: pops the snapshot pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    Ok(result)
}

/// Since and until as arguments, and which of them are null.
pub(super) fn bound_arguments(progress: &Progress) -> (Vec<pg_sys::Datum>, String) {
    let datum = |time: &Option<TimestampWithTimeZone>| {
        time.and_then(IntoDatum::into_datum).unwrap_or_else(|| pg_sys::Datum::from(0usize))
    };
    let null = |time: &Option<TimestampWithTimeZone>| if time.is_none() { 'n' } else { ' ' };
    (
        vec![datum(&progress.since), datum(&progress.until)],
        [null(&progress.since), null(&progress.until)].iter().collect(),
    )
}

/// Runs the query of a page under the active snapshot.
pub(super) fn select(text: &str, progress: &Progress, limit: i64) -> SqlResult<Vec<FoundRow>> {
    // With an index's order, the table need not be sorted for each page. SAFETY: the nest level is closed below or by
    // the abort.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    for setting in [c"enable_seqscan", c"enable_bitmapscan", c"enable_sort"] {
        set_locally(setting, c"off");
    }
    let (mut values, nulls) = bound_arguments(progress);
    let cursor = (!progress.cursor.is_empty()).then(|| progress.cursor.clone());
    let nulls = format!("{nulls}{} ", if cursor.is_none() { 'n' } else { ' ' });
    let text = CString::new(text).unwrap_or_default();
    let nulls = CString::new(nulls).unwrap_or_default();
    let rows = Spi::connect(|_| {
        values.push(cursor.and_then(IntoDatum::into_datum).unwrap_or_else(|| pg_sys::Datum::from(0usize)));
        values.push(limit.into());
        let mut types =
            [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPTZOID, pg_sys::TEXTARRAYOID, pg_sys::INT8OID];
        // SAFETY: SPI is connected. There are as many types and values as the query has arguments. A read-only query
        // uses the active snapshot.
        unsafe {
            pg_sys::SPI_execute_with_args(
                text.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                true,
                0,
            );
            fetched()
        }
    });
    // SAFETY: closes the nest level opened above.
    unsafe { pg_sys::AtEOXact_GUC(false, level) };
    Ok(rows)
}

/// Runs the query for the rows with a certain key, under the active snapshot.
pub(super) fn find(text: &str, key: &TextArray) -> SqlResult<Vec<FoundRow>> {
    let text = CString::new(text).unwrap_or_default();
    Ok(Spi::connect(|_| {
        let key = key.clone().into_datum().unwrap_or_else(|| pg_sys::Datum::from(0usize));
        let (mut types, mut values) = ([pg_sys::TEXTARRAYOID], [key]);
        // SAFETY: SPI is connected. The query has one argument. A read-only query uses the active snapshot.
        unsafe {
            pg_sys::SPI_execute_with_args(
                text.as_ptr(),
                1,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                std::ptr::null(),
                true,
                0,
            );
            fetched()
        }
    }))
}

/// The rows that SPI has fetched.
///
/// # Safety
/// SPI holds the result of one of our queries.
pub(super) unsafe fn fetched() -> Vec<FoundRow> {
    // SAFETY: the caller guarantees this. The columns are relation, place, cursor and whether there is no key.
    unsafe {
        let (table, count) = (&*pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize);
        if count == 0 {
            return Vec::new();
        }
        let rows = std::slice::from_raw_parts(table.vals, count).iter().map(|tuple| {
            let value = |ordinal| {
                let mut is_null = true;
                let datum = pg_sys::SPI_getbinval(*tuple, table.tupdesc, ordinal, &mut is_null);
                (datum, is_null)
            };
            let (place, _) = value(2);
            let (cursor, no_cursor) = value(3);
            FoundRow {
                relation: pg_sys::Oid::from(value(1).0.value() as u32),
                place: *place.cast_mut_ptr::<pg_sys::ItemPointerData>(),
                cursor: Vec::<Option<String>>::from_polymorphic_datum(
                    cursor,
                    no_cursor,
                    pg_sys::TEXTARRAYOID,
                ),
                keyless: value(4).0.value() as u8 != 0,
            }
        });
        rows.collect()
    }
}

/// The place of a row.
pub(super) fn place_of(row: &FoundRow) -> (u32, u32, u16) {
    let block = (u32::from(row.place.ip_blkid.bi_hi) << 16) | u32::from(row.place.ip_blkid.bi_lo);
    (row.relation.to_u32(), block, row.place.ip_posid)
}

/// The error of a row that could not be queued. The server's error may quote the row's values, which must not get into
/// a table or the log. So it contains only the SQLSTATE and the place of the row.
pub(super) fn row_at_fault(error: &SqlError, (relation, block, offset): (u32, u32, u16)) -> Box<SqlError> {
    let table = qualified_name(pg_sys::Oid::from(relation));
    let place = format!("({block},{offset})");
    let next = match error.is_out_of_memory() {
        true => "it is tried again automatically, at growing intervals.",
        false => "correct the row or the filter, and call audit_algolia.backfill() again.",
    };
    let why = match error.is_ours() || error.is_out_of_memory() {
        true => error.kind(),
        false => format!("error {}", error.sqlstate()),
    };
    sql_error(
        error.code(),
        format!("the row at {place} of {table} cannot be queued: {why}"),
        format!("To see it, SELECT * FROM {table} WHERE ctid = '{place}'; {next}"),
    )
}

/// A relation's current name, quoted and qualified.
pub(in crate::pg) fn qualified_name(relation: pg_sys::Oid) -> String {
    // SAFETY: look-ups in the catalogs, inside a transaction. Names are C strings, or null if there is none.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        if name.is_null() || schema.is_null() {
            return format!("relation {}", relation.to_u32());
        }
        let [schema, name] = [schema, name].map(|text| CStr::from_ptr(text).to_string_lossy().into_owned());
        spi::quote_qualified_identifier(schema, name)
    }
}
