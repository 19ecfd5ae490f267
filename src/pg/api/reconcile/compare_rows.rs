//! Reads the rows that should be in the index, and compares each with what is there.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::comparison::{Comparison, TimeRange};
use super::mismatches::{Expects, Mismatch, RowVersion};
use crate::delivery::offending_record::object_id;
use crate::pg::api::row_writer::{conditions_of, names_of, RowWriter};
use crate::pg::api::Table;
use crate::pg::capture::{
    ensure_room, identity_of, record_buffer, values_of, BoundRelation, RowKey, Scratch,
};
use crate::pg::condition::Conditions;
use crate::pg::descriptor::columns;
use crate::pg::latest_snapshot::Cursor;
use crate::pg::report::SqlResult;
use crate::pg::rules::SourceRules;
use crate::record::{Buffer, Fingerprint};

/// Rows fetched at a time.
const FETCH: i64 = 100;
/// How many rows, and bytes of their records, are compared with the index at a time.
const CHUNK: usize = 1000;
const CHUNK_BYTES: usize = 2 << 20;
/// How many columns follow those of the rules and the conditions: tableoid, ctid and xmin.
const PLACE_COLUMNS: usize = 3;

/// A row and what the index should hold of it.
pub(super) struct ExpectedRow {
    mismatch: Mismatch,
    bytes: usize,
}

/// The rows that are yet to be compared, and the mismatches that are yet to be checked again.
#[derive(Default)]
struct PendingRows {
    chunk: Vec<Mismatch>,
    bytes: usize,
    mismatches: Vec<Mismatch>,
}

/// What is needed to make records of the rows of a query.
struct RowReader<'a> {
    rules: &'a SourceRules,
    conditions: Conditions,
    bound: Option<BoundRelation>,
    table_name: &'a str,
    is_mirrored: bool,
    /// Whether the records are needed, to be sent again.
    keeps_records: bool,
}

impl Comparison<'_> {
    /// Compares all rows in the range of time.
    pub(super) fn compare_rows(&mut self) -> SqlResult<()> {
        let names = RefCell::new(names_of(&self.rules));
        let conditions = conditions_of(self.table, &self.rules, &names)?;
        let (query, arguments) = query(self.table, &self.rules, &names.into_inner(), self.window)?;
        let cursor = Cursor::open(&query, &arguments);
        let (rules, table, mut pending) = (self.rules.clone(), self.table, PendingRows::default());
        let mut row_reader = RowReader {
            rules: &rules,
            conditions,
            bound: None,
            table_name: &table.bare_name,
            is_mirrored: self.present.is_some(),
            keeps_records: self.writer.is_some(),
        };
        // Rows are compared one by one, for a page of them may be too large to be held in memory.
        let mut compare = |row| self.compare_row(row, &mut pending);
        let mut read = |descriptor, tuples: &[pg_sys::HeapTuple]| {
            // SAFETY: the rows are those of the query, as SPI holds them.
            unsafe { row_reader.page(descriptor, tuples, &mut compare) }
        };
        while cursor.fetch(FETCH, &mut read)?.is_some() {
            pgrx::check_for_interrupts!();
        }
        cursor.close();
        self.compare_chunk(&mut pending)?;
        self.settle(pending.mismatches)
    }

    fn compare_row(&mut self, row: ExpectedRow, pending: &mut PendingRows) -> SqlResult<()> {
        pending.bytes += row.bytes;
        pending.chunk.push(row.mismatch);
        if pending.chunk.len() >= CHUNK || pending.bytes >= CHUNK_BYTES {
            self.compare_chunk(pending)?;
        }
        Ok(())
    }

    /// Fetches the records of rows from the index and keeps those that differ as mismatches.
    fn compare_chunk(&mut self, pending: &mut PendingRows) -> SqlResult<()> {
        self.tally.checked += pending.chunk.len() as i64;
        pending.mismatches.extend(self.unlike(std::mem::take(&mut pending.chunk))?);
        pending.bytes = 0;
        if Mismatch::are_many(&pending.mismatches) {
            self.settle(std::mem::take(&mut pending.mismatches))?;
        }
        Ok(())
    }

    /// Those of the rows whose record in the index differs or is missing.
    fn unlike(&self, rows: Vec<Mismatch>) -> SqlResult<Vec<Mismatch>> {
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let found = self.index_client.objects(&ids)?;
        Ok(rows
            .into_iter()
            .zip(found)
            .filter(|(row, found)| !row.is_as_expected(*found))
            .map(|(row, _)| row)
            .collect())
    }
}

/// The query for the rows in a range of time. After the columns in `names`, it selects the location of each row.
fn query(
    table: &Table,
    rules: &SourceRules,
    names: &[String],
    window: TimeRange,
) -> SqlResult<(String, Vec<(pg_sys::Oid, pg_sys::Datum)>)> {
    let list: Vec<String> = names.iter().map(|name| format!("t.{}", spi::quote_identifier(name))).collect();
    let (mut conditions, mut arguments) = (Vec::new(), Vec::new());
    if let Some(time) = &rules.time_column {
        let time = spi::quote_identifier(time);
        for (operator, bound) in [(">=", window.since), ("<", window.until)] {
            if let Some(micros) = bound {
                arguments.push((pg_sys::TIMESTAMPTZOID, pg_sys::Datum::from(micros)));
                conditions.push(format!("t.{time} {operator} ${}", arguments.len()));
            }
        }
    }
    let conditions =
        if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
    let query = format!(
        "select {}, t.tableoid, t.ctid::pg_catalog.text, t.xmin::pg_catalog.text from {}{} as t{conditions}",
        list.join(", "),
        table.only()?,
        table.name,
    );
    Ok((query, arguments))
}

impl RowReader<'_> {
    /// Passes to `compare` what the index should hold of each row.
    ///
    /// # Safety
    /// The rows are those of the query, with this descriptor.
    unsafe fn page(
        &mut self,
        descriptor: pg_sys::TupleDesc,
        tuples: &[pg_sys::HeapTuple],
        compare: &mut dyn FnMut(ExpectedRow) -> SqlResult<()>,
    ) -> SqlResult<()> {
        // SAFETY: the descriptor is valid.
        let columns = unsafe { columns(descriptor) };
        let bound = match self.bound.take() {
            Some(bound) => bound,
            None => BoundRelation::of_columns(self.rules, &columns, self.table_name)?,
        };
        let mut writer = RowWriter::new(self.rules, &bound)?;
        let conditions = self.conditions.prepare();
        let mut scratch = Scratch::new();
        // SAFETY: the slot has the same descriptor and does not own the rows, which SPI holds while values are read
        // from them.
        unsafe {
            let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsHeapTuple);
            for tuple in tuples {
                pg_sys::ExecStoreHeapTuple(*tuple, slot, false);
                if !conditions.accepts(slot) {
                    continue;
                }
                let value = values_of(slot, columns.len());
                let row = scratch.within(|| -> SqlResult<_> {
                    let Some(record) = writer.write(slot, &conditions)? else { return Ok(None) };
                    let key =
                        if self.is_mirrored { RowKey::Known(bound.key(value)) } else { RowKey::Impossible };
                    Ok(Some((record, key, RowVersion::read(value, columns.len() - PLACE_COLUMNS))))
                })?;
                scratch.give_back_if_large();
                if let Some((record, key, place)) = row {
                    compare(expected(record, key, place, self.keeps_records)?)?;
                }
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
        conditions.close();
        drop(writer);
        self.bound = Some(bound);
        Ok(())
    }
}

/// Keeps the record only if it will be sent again. A mirrored row is read again instead.
fn expected(record: Buffer, key: RowKey, place: RowVersion, keeps_record: bool) -> SqlResult<ExpectedRow> {
    let bytes = record.len();
    // Parsing allocates outside PostgreSQL's memory contexts, where running out of memory is fatal. So PostgreSQL is
    // asked beforehand for as much as it may take.
    ensure_room(2 * bytes);
    let text = std::str::from_utf8(&record).unwrap_or_default();
    let (print, id, object) =
        (Fingerprint::of(text), object_id(text).unwrap_or_default(), identity_of(text)?);
    let record = if keeps_record { record } else { record_buffer() };
    Ok(ExpectedRow {
        mismatch: Mismatch { id, object, key, expects: Expects::Row { print, place }, record },
        bytes,
    })
}
