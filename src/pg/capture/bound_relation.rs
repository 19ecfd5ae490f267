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
use crate::pg::condition::Conditions;
use crate::pg::descriptor::{columns, relation_name, TableColumn};
use crate::pg::report::{redacted, sql_error, SqlError, SqlResult};
use crate::pg::rules::{column_is_gone, SourceRules};
use crate::record::{add_alert, Buffer, Field, RecordLayout, Value};
use crate::rules::{unlisted_keys, Mode};

/// The rules of a source, bound to the columns of one relation: the watched table, or a partition, whose columns may be
/// in other places.
pub(in crate::pg) struct BoundRelation {
    pub(super) record_layout: RecordLayout,
    keys: Vec<(usize, TextDecoder)>,
    /// The attributes of the record, followed by key columns that are no attributes but whose changes are recorded.
    tracked: Vec<TrackedColumn>,
    /// How many of them are attributes.
    shown: usize,
    pub(super) key_names: Vec<String>,
    pub(super) table: String,
    /// The columns' places and names, and the place of the column that is being read.
    names: Vec<(usize, String)>,
    reading: Cell<usize>,
    /// How many columns must be deformed: all up to the last one used.
    width: usize,
    /// Some output depends on the session's settings, which must be pinned.
    depends_on_settings: bool,
    /// Whether its records are changes.
    pub(super) are_changes: bool,
    /// Whether it is mirrored.
    pub(super) is_mirrored: bool,
    /// The filter and the alert, compiled for this relation.
    pub(super) conditions: Conditions,
    /// The index by which rows are found by key.
    key_index: Option<KeyIndex>,
}

impl BoundRelation {
    /// Binds rules, including the conditions, to a relation.
    ///
    /// # Safety
    /// `relation` is open and locked.
    pub(super) unsafe fn bind(rules: &SourceRules, relation: pg_sys::Relation) -> SqlResult<BoundRelation> {
        // SAFETY: the caller guarantees this.
        unsafe {
            let (columns, table) = (columns((*relation).rd_att), relation_name(relation));
            let mut bound = BoundRelation::of_columns(rules, &columns, &table)?;
            bound.conditions = Conditions::compile(rules, relation, Some)?;
            Ok(bound)
        }
    }

    /// Binds rules, without the conditions, to columns. A missing column is an error, so that nothing wrong is sent.
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
            record_layout: RecordLayout::new(&rules.object_prefix, fields, key_pseudonymize)
                .tracking(further),
            keys,
            tracked,
            key_names: rules.object_id.clone(),
            table: table.to_owned(),
            names,
            reading: Cell::new(0),
            are_changes: rules.are_changes(),
            is_mirrored: rules.mode == Mode::Mirror,
            conditions: Conditions::default(),
            key_index: None,
        })
    }

    /// Whether records or conditions depend on the session's settings.
    pub(super) fn depends_on_settings(&self) -> bool {
        self.depends_on_settings || self.conditions.depends_on_settings()
    }

    /// The values of a row by the places of their columns, as far as the rules need them.
    ///
    /// # Safety
    /// The slot holds a row of the relation until the last value has been requested.
    pub(in crate::pg) unsafe fn row(
        &self,
        slot: TupleSlot,
    ) -> impl Fn(usize) -> Option<pg_sys::Datum> + Copy {
        // SAFETY: the caller guarantees this.
        unsafe { slot::values_of(slot, self.width) }
    }

    /// For a single row: whether the filter accepts it, and whether its record alerts.
    ///
    /// # Safety
    /// The slot holds a row of the relation.
    pub(super) unsafe fn judge(&self, slot: TupleSlot) -> (bool, bool) {
        if self.conditions.are_none() {
            return (true, false);
        }
        let evaluations = self.conditions.prepare();
        // SAFETY: the caller guarantees this.
        let judged = unsafe {
            let accepts = evaluations.accepts(slot);
            (accepts, accepts && evaluations.alerts(slot))
        };
        evaluations.close();
        judged
    }

    /// Finds the unique index by which rows are found by key.
    ///
    /// # Safety
    /// `relation` is the one that the rules are bound to, open and locked.
    pub(super) unsafe fn find_key_index(&mut self, relation: pg_sys::Relation) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        self.key_index = Some(unsafe { KeyIndex::find(relation, &self.key_places()) }?);
        Ok(())
    }

    /// Passes to `work` the row whose key equals that of the row in `slot`, as `snapshot` shows it; `None` if there is
    /// none. The row is freed afterwards.
    ///
    /// # Safety
    /// `relation` is the one that the rules are bound to. The key columns of `slot` have been deformed and are
    /// not null. The snapshot is valid.
    pub(super) unsafe fn look_up<T>(
        &self,
        relation: pg_sys::Relation,
        slot: TupleSlot,
        snapshot: pg_sys::Snapshot,
        work: impl FnOnce(TupleSlot) -> SqlResult<T>,
    ) -> SqlResult<Option<T>> {
        // SAFETY: the caller guarantees this. The slot that was found is our own.
        unsafe {
            // Without an index every row would seem to be gone, and a mirror would delete its object.
            let key_index = self.key_index.as_ref().ok_or_else(|| self.no_key_index())?;
            let Some(found) = key_index.find_row(relation, slot, snapshot) else { return Ok(None) };
            let done = work(found);
            pg_sys::ExecDropSingleTupleTableSlot(found);
            done.map(Some)
        }
    }

    /// `look_up` was called before `find_key_index`: a fault of ours.
    fn no_key_index(&self) -> Box<SqlError> {
        sql_error(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("rows of watched table \"{}\" cannot be looked up by their key", self.table),
            "Call audit_algolia.unwatch() and then audit_algolia.watch() again.",
        )
    }

    /// Runs `work`, which reads values. An error names the column instead of quoting the value.
    pub(super) fn redacted<T>(&self, work: impl FnOnce() -> T) -> T {
        redacted(work, |kind| {
            let found = self.names.iter().find(|(place, _)| *place == self.reading.get());
            let name = found.map_or("", |(_, name)| name.as_str());
            sql_error(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("column \"{name}\" of watched table \"{}\" cannot be read: {kind}", self.table),
                "The server's error may quote the row's values, so it is omitted here. To see it, SELECT the column from the table.",
            )
        })
    }

    /// The output texts of the key columns.
    ///
    /// # Safety
    /// `value` returns values of the relation that the rules were bound to. They are valid until the current
    /// memory context is reset.
    pub(in crate::pg) unsafe fn key(&self, value: impl Fn(usize) -> Option<pg_sys::Datum>) -> Vec<String> {
        // SAFETY: the caller guarantees this.
        let texts = unsafe { self.keys_of(&value) };
        self.redacted(|| texts.map(|text| text.unwrap_or_default().into_owned()).collect())
    }

    /// The places of the key columns.
    pub(super) fn key_places(&self) -> Vec<usize> {
        self.keys.iter().map(|(place, _)| *place).collect()
    }

    /// Whether two versions of a row differ in an attribute of the record.
    ///
    /// # Safety
    /// As for `key`, for both versions.
    pub(super) unsafe fn differs(
        &self,
        old: impl Fn(usize) -> Option<pg_sys::Datum>,
        new: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> bool {
        let mut shown = self.tracked.iter().take(self.shown);
        // SAFETY: the caller guarantees this.
        shown.any(|tracked| unsafe { tracked.differs(old(tracked.place), new(tracked.place)) })
    }

    /// The output texts of the key columns, read one by one.
    ///
    /// # Safety
    /// As for `key`.
    pub(super) unsafe fn keys_of<'a>(
        &'a self,
        value: impl Fn(usize) -> Option<pg_sys::Datum> + 'a,
    ) -> impl ExactSizeIterator<Item = Option<Cow<'a, str>>> {
        self.keys.iter().map(move |(place, decoder)| {
            self.reading.set(*place);
            // SAFETY: the caller guarantees this.
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
            // SAFETY: the caller guarantees this.
            unsafe { tracked.decode(value(tracked.place)) }
        })
    }

    /// The old values of the tracked attributes that an update changed, each with the attribute's place.
    ///
    /// # Safety
    /// As for `key`, for both versions.
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
                // SAFETY: the caller guarantees this.
                unsafe {
                    if tracked.differs(before, new(tracked.place)) {
                        previous.push((place, tracked.decode(before)));
                    }
                }
            }
            previous
        })
    }

    /// Adds to a record that it alerts.
    pub(in crate::pg) fn add_alert(&self, record: &mut Buffer) -> SqlResult<()> {
        add_alert(record).map_err(|error| self.explain(error))
    }
}
