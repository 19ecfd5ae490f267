//! A source's rules bound to one relation: where its values are, how they become a record, which rows have one, and how
//! a row is found by its key.

use std::borrow::Cow;
use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::column::TrackedColumn;
use super::decode::TextDecoder;
use super::key_index::KeyIndex;
use super::slot::{self, TupleSlot};
use crate::pg::descriptor::{columns, relation_name, TableColumn};
use crate::pg::filter::Filter;
use crate::pg::report::{overflow, redacted, sql_error, SqlError, SqlResult};
use crate::pg::rules::{column_is_gone, no_pseudonym_key, SourceRules};
use crate::record::{Field, Plan, RecordError, Value};
use crate::rules::{unlisted_keys, Mode};

/// The rules of a source for the rows of one relation: the watched table, or a partition, which has columns of its own.
pub(in crate::pg) struct BoundRelation {
    pub(super) plan: Plan,
    keys: Vec<(usize, TextDecoder)>,
    /// The attributes of the row, and behind them, where changes are told, the key columns that are none.
    tracked: Vec<TrackedColumn>,
    /// How many of them are attributes.
    shown: usize,
    key_names: Vec<String>,
    table: String,
    /// Where the columns are that are read, and their names; and which of them is being read.
    names: Vec<(usize, String)>,
    reading: Cell<usize>,
    /// Columns that must be read off a row: all up to the last one used.
    width: usize,
    /// Some value's output depends on the session's settings, which have to be set aside.
    depends_on_settings: bool,
    /// Its records tell of changes.
    pub(super) are_changes: bool,
    /// Its rows are mirrored.
    pub(super) is_mirrored: bool,
    /// Compiled for the relation.
    pub(super) filter: Option<Filter>,
    /// By which its rows are found by their keys.
    key_index: Option<KeyIndex>,
}

impl BoundRelation {
    /// Binds rules and their filter to a relation.
    ///
    /// # Safety
    /// `relation` is open and locked.
    pub(super) unsafe fn bind(rules: &SourceRules, relation: pg_sys::Relation) -> SqlResult<BoundRelation> {
        // SAFETY: handed on to the caller.
        unsafe {
            let (columns, table) = (columns((*relation).rd_att), relation_name(relation));
            let mut bound = BoundRelation::of_columns(rules, &columns, &table)?;
            if let Some(text) = &rules.filter {
                bound.filter = Some(Filter::compile(text, relation, rules.owner, Some)?);
            }
            Ok(bound)
        }
    }

    /// Binds rules, without their filter, to columns. One that is gone is an error: nothing wrong is sent.
    pub(in crate::pg) fn of_columns(
        rules: &SourceRules,
        columns: &[TableColumn],
        table: &str,
    ) -> SqlResult<BoundRelation> {
        let find = |name: &str| {
            let found = columns.iter().find(|column| column.name == name);
            found.map(|column| (column.place, column.type_oid)).ok_or_else(|| column_is_gone(name, table))
        };
        let is_pseudonymized = |name: &str| rules.pseudonymize.iter().any(|p| p == name);
        let mut keys = Vec::new();
        for name in &rules.object_id {
            let (place, oid) = find(name)?;
            keys.push((place, TextDecoder::of(oid)));
        }
        let (mut tracked, mut fields, mut further) = (Vec::new(), Vec::new(), Vec::new());
        for column in &rules.columns {
            let (place, oid) = find(&column.name)?;
            let pseudonymize = is_pseudonymized(&column.name);
            tracked.push(TrackedColumn::new(place, oid, pseudonymize));
            fields.push(Field {
                attribute: column.attribute.clone(),
                pseudonymize,
                bucketed: rules.time_column.as_ref() == Some(&column.name),
            });
        }
        if rules.are_changes() {
            let key: Vec<&str> = rules.object_id.iter().map(String::as_str).collect();
            for name in unlisted_keys(&rules.columns, &key) {
                let (place, oid) = find(name)?;
                let pseudonymize = is_pseudonymized(name);
                tracked.push(TrackedColumn::new(place, oid, pseudonymize));
                further.push(Field { attribute: name.to_owned(), pseudonymize, bucketed: false });
            }
        }
        let key_pseudonymize = rules.object_id.iter().map(|name| is_pseudonymized(name)).collect();
        let names = columns.iter().map(|column| (column.place, column.name.clone())).collect();
        let used = keys.iter().map(|(place, _)| *place).chain(tracked.iter().map(|tracked| tracked.place));
        Ok(BoundRelation {
            width: used.max().map_or(0, |last| last + 1),
            depends_on_settings: keys.iter().any(|(_, decoder)| decoder.depends_on_settings())
                || tracked.iter().any(TrackedColumn::depends_on_settings),
            shown: fields.len(),
            plan: Plan::new(&rules.object_prefix, fields, key_pseudonymize).tracking(further),
            keys,
            tracked,
            key_names: rules.object_id.clone(),
            table: table.to_owned(),
            names,
            reading: Cell::new(0),
            are_changes: rules.are_changes(),
            is_mirrored: rules.mode == Mode::Mirror,
            filter: None,
            key_index: None,
        })
    }

    /// Whether records or filter depend on the session's settings.
    pub(super) fn depends_on_settings(&self) -> bool {
        self.depends_on_settings || self.filter.as_ref().is_some_and(|filter| filter.depends_on_settings)
    }

    /// The values of a row, as far as the rules need them, by the places of their columns.
    ///
    /// # Safety
    /// The slot holds a row of the relation, and is not emptied while they are asked for.
    pub(in crate::pg) unsafe fn row(
        &self,
        slot: TupleSlot,
    ) -> impl Fn(usize) -> Option<pg_sys::Datum> + Copy {
        // SAFETY: handed on to the caller.
        unsafe { slot::values_of(slot, self.width) }
    }

    /// Whether the filter lets a row through; for one row.
    ///
    /// # Safety
    /// The slot holds a row of the relation.
    pub(super) unsafe fn accepts(&self, slot: TupleSlot) -> bool {
        let Some(evaluation) = self.filter.as_ref().map(Filter::prepare) else {
            return true;
        };
        // SAFETY: handed on to the caller.
        let accepts = unsafe { evaluation.accepts(slot) };
        evaluation.close();
        accepts
    }

    /// Finds the unique index by which rows are found by their keys.
    ///
    /// # Safety
    /// `relation` is the one the rules are bound to, open and locked.
    pub(super) unsafe fn find_key_index(&mut self, relation: pg_sys::Relation) -> SqlResult<()> {
        // SAFETY: handed on to the caller.
        self.key_index = Some(unsafe { KeyIndex::find(relation, &self.key_places()) }?);
        Ok(())
    }

    /// Does `work` with the row whose key equals that of the row in `slot`, as a snapshot shows it; nothing when there is
    /// none. The row is gone afterwards.
    ///
    /// # Safety
    /// `relation` is the one the rules are bound to; the key columns of `slot` have been read and are not null; the
    /// snapshot is valid.
    pub(super) unsafe fn look_up<T>(
        &self,
        relation: pg_sys::Relation,
        slot: TupleSlot,
        snapshot: pg_sys::Snapshot,
        work: impl FnOnce(TupleSlot) -> SqlResult<T>,
    ) -> SqlResult<Option<T>> {
        // SAFETY: handed on to the caller; the slot found is our own.
        unsafe {
            let found = self.key_index.as_ref().and_then(|key| key.find_row(relation, slot, snapshot));
            let Some(found) = found else { return Ok(None) };
            let done = work(found);
            pg_sys::ExecDropSingleTupleTableSlot(found);
            done.map(Some)
        }
    }

    /// Does `work`, which reads values; of an error there, the column is told.
    pub(super) fn redacted<T>(&self, work: impl FnOnce() -> T) -> T {
        redacted(work, |kind| {
            let found = self.names.iter().find(|(place, _)| *place == self.reading.get());
            let name = found.map_or("", |(_, name)| name.as_str());
            sql_error(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("column \"{name}\" of watched table \"{}\" cannot be read: {kind}", self.table),
                "What the server says may quote the row's values, so it is left out here. To see it, SELECT the column from the table.",
            )
        })
    }

    /// The output texts of the key columns.
    ///
    /// # Safety
    /// `value` returns values of the relation the rules were bound to, valid until the current memory context is
    /// reset.
    pub(in crate::pg) unsafe fn key(&self, value: impl Fn(usize) -> Option<pg_sys::Datum>) -> Vec<String> {
        // SAFETY: handed on to the caller.
        let texts = unsafe { self.keys_of(&value) };
        self.redacted(|| texts.map(|text| text.unwrap_or_default().into_owned()).collect())
    }

    /// Where the key columns are.
    pub(super) fn key_places(&self) -> Vec<usize> {
        self.keys.iter().map(|(place, _)| *place).collect()
    }

    /// Whether two versions of a row differ in what the index holds of it.
    ///
    /// # Safety
    /// As for `key`, of both.
    pub(super) unsafe fn differs(
        &self,
        old: impl Fn(usize) -> Option<pg_sys::Datum>,
        new: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> bool {
        let mut shown = self.tracked.iter().take(self.shown);
        // SAFETY: handed on to the caller.
        shown.any(|tracked| unsafe { tracked.differs(old(tracked.place), new(tracked.place)) })
    }

    /// The key columns' output texts, read one by one.
    ///
    /// # Safety
    /// As for `key`.
    pub(super) unsafe fn keys_of<'a>(
        &'a self,
        value: impl Fn(usize) -> Option<pg_sys::Datum> + 'a,
    ) -> impl ExactSizeIterator<Item = Option<Cow<'a, str>>> {
        self.keys.iter().map(move |(place, decoder)| {
            self.reading.set(*place);
            // SAFETY: handed on to the caller.
            value(*place).map(|datum| unsafe { decoder.decode(datum) })
        })
    }

    /// The values of the record's attributes, read one by one.
    ///
    /// # Safety
    /// As for `key`.
    pub(super) unsafe fn values_of<'a>(
        &'a self,
        value: impl Fn(usize) -> Option<pg_sys::Datum> + 'a,
    ) -> impl ExactSizeIterator<Item = Value<'a>> {
        self.tracked.iter().take(self.shown).map(move |tracked| {
            self.reading.set(tracked.place);
            // SAFETY: handed on to the caller.
            unsafe { tracked.decode(value(tracked.place)) }
        })
    }

    /// The old values of what an update changed, each with its place among the tracked attributes.
    ///
    /// # Safety
    /// As for `key`, of both.
    pub(super) unsafe fn previous<'a>(
        &self,
        old: impl Fn(usize) -> Option<pg_sys::Datum>,
        new: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> Vec<(usize, Value<'a>)> {
        self.redacted(|| {
            let mut previous = Vec::new();
            for (place, tracked) in self.tracked.iter().enumerate() {
                self.reading.set(tracked.place);
                let before = old(tracked.place);
                // SAFETY: handed on to the caller.
                unsafe {
                    if tracked.differs(before, new(tracked.place)) {
                        previous.push((place, tracked.decode(before)));
                    }
                }
            }
            previous
        })
    }

    /// The error of a record that could not be made.
    pub(super) fn explain(&self, error: RecordError) -> Box<SqlError> {
        let table = &self.table;
        match error {
            RecordError::NullKey { part } => {
                let name = self.key_names.get(part).map_or("", String::as_str);
                sql_error(
                    PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{name}\" of table \"{table}\" cannot be part of an objectID"
                    ),
                    "Watch the table with object_id columns that are never null.",
                )
            }
            RecordError::EmptyKey => sql_error(
                PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                format!(
                    "empty value in column \"{}\" of table \"{table}\" cannot be an objectID",
                    self.key_names.join("\", \"")
                ),
                "Watch the table with an object_prefix, or with object_id columns that are never empty.",
            ),
            RecordError::Overflow(error) => overflow(error, table),
            RecordError::PseudonymKeyMissing => no_pseudonym_key(),
            other => sql_error(
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("could not make a record: {other}"),
                "Call audit_algolia.unwatch() and then audit_algolia.watch() again.",
            ),
        }
    }
}
