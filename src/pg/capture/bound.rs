//! A source's rules bound to the columns of the relation whose rows are at hand.

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::column::Tracked;
use super::decode::TextDecoder;
use crate::pg::encoding::utf8;
use crate::pg::guc;
use crate::pg::report::{discreet, failure, overflow, Failure, Outcome};
use crate::pg::rules::{column_is_gone, SourceRules};
use crate::pseudonym::Pseudonymizer;
use crate::record::{
    write_change, write_object, write_record, write_truncate, Buffer, Calendar, Change, Field, Moment, Plan,
    RecordError, Stamp, Value,
};
use crate::rules::unlisted_keys;

/// Where a row's values are and how they become a record.
pub(in crate::pg) struct Bound {
    plan: Plan,
    keys: Vec<(usize, TextDecoder)>,
    /// The attributes of the row, and behind them, where changes are told, the key columns that are none.
    tracked: Vec<Tracked>,
    /// How many of them are attributes.
    shown: usize,
    key_names: Vec<String>,
    table: String,
    /// Where the columns are that are read, and their names; and which of them is being read.
    names: Vec<(usize, String)>,
    reading: Cell<usize>,
    /// Columns that must be read off a row: all up to the last one used.
    pub(super) width: usize,
    /// Some value's output depends on the session's settings, which have to be set aside.
    pub(super) depends_on_settings: bool,
}

impl Bound {
    /// Binds rules to the columns of a relation. A column that is gone is an error: nothing wrong is sent.
    pub(in crate::pg) fn new(
        rules: &SourceRules,
        columns: &[(usize, String, pg_sys::Oid)],
        table: &str,
    ) -> Outcome<Bound> {
        let find = |name: &str| {
            let found = columns.iter().find(|(_, column, _)| column == name);
            found.map(|(place, _, oid)| (*place, *oid)).ok_or_else(|| column_is_gone(name, table))
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
            tracked.push(Tracked::new(place, oid, pseudonymize));
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
                tracked.push(Tracked::new(place, oid, pseudonymize));
                further.push(Field { attribute: name.to_owned(), pseudonymize, bucketed: false });
            }
        }
        let key_pseudonymize = rules.object_id.iter().map(|name| is_pseudonymized(name)).collect();
        let names = columns.iter().map(|(place, name, _)| (*place, name.clone())).collect();
        let used = keys.iter().map(|(place, _)| *place).chain(tracked.iter().map(|tracked| tracked.place));
        Ok(Bound {
            width: used.max().map_or(0, |last| last + 1),
            depends_on_settings: keys.iter().any(|(_, decoder)| decoder.depends_on_settings())
                || tracked.iter().any(Tracked::depends_on_settings),
            shown: fields.len(),
            plan: Plan::new(&rules.object_prefix, fields, key_pseudonymize).tracking(further),
            keys,
            tracked,
            key_names: rules.object_id.clone(),
            table: table.to_owned(),
            names,
            reading: Cell::new(0),
        })
    }

    /// Whether a pseudonymizer is needed.
    pub(in crate::pg) fn pseudonymizes(&self) -> bool {
        self.plan.pseudonymizes()
    }

    /// Appends the record of one row to `out`.
    ///
    /// # Safety
    /// `value` returns values of the relation the rules were bound to, valid until the current memory context is
    /// reset.
    pub(in crate::pg) unsafe fn write(
        &self,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        pseudonymizer: Option<&Pseudonymizer>,
        calendar: &mut impl Calendar,
        out: &mut Buffer,
    ) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        let (keys, values) = unsafe { (self.keys_of(&value), self.values_of(&value)) };
        self.discreet(|| write_record(&self.plan, keys, values, pseudonymizer, calendar, out))
            .map_err(|error| self.explain(error))
    }

    /// Appends the record that deletes a row's object to `out`; nothing, and `false`, of a row whose key makes no objectID:
    /// as its record is refused, there is no such object.
    ///
    /// # Safety
    /// As for `write`.
    pub(super) unsafe fn write_object(
        &self,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        pseudonymizer: Option<&Pseudonymizer>,
        out: &mut Buffer,
    ) -> Outcome<bool> {
        // SAFETY: handed on to the caller.
        let keys = unsafe { self.keys_of(&value) };
        match self.discreet(|| write_object(&self.plan, keys, pseudonymizer, out)) {
            Ok(()) => Ok(true),
            Err(RecordError::EmptyKey) => Ok(false),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Does `work`, which reads values; of an error there, the column is told.
    fn discreet<T>(&self, work: impl FnOnce() -> T) -> T {
        discreet(work, |kind| {
            let found = self.names.iter().find(|(place, _)| *place == self.reading.get());
            let name = found.map_or("", |(_, name)| name.as_str());
            failure(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("column \"{name}\" of watched table \"{}\" cannot be read: {kind}", self.table),
                "What the server says may quote the row's values, so it is left out here. To see it, SELECT the column from the table.",
            )
        })
    }

    /// The output texts of the key columns.
    ///
    /// # Safety
    /// As for `write`.
    pub(in crate::pg) unsafe fn key(&self, value: impl Fn(usize) -> Option<pg_sys::Datum>) -> Vec<String> {
        // SAFETY: handed on to the caller.
        let texts = unsafe { self.keys_of(&value) };
        self.discreet(|| texts.map(|text| text.unwrap_or_default().into_owned()).collect())
    }

    /// Where the key columns are.
    pub(super) fn key_places(&self) -> Vec<usize> {
        self.keys.iter().map(|(place, _)| *place).collect()
    }

    /// Whether two versions of a row differ in what the index holds of it.
    ///
    /// # Safety
    /// As for `write`, of both.
    pub(super) unsafe fn differs(
        &self,
        old: impl Fn(usize) -> Option<pg_sys::Datum>,
        new: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> bool {
        let mut shown = self.tracked.iter().take(self.shown);
        // SAFETY: handed on to the caller.
        shown.any(|tracked| unsafe { tracked.differs(old(tracked.place), new(tracked.place)) })
    }

    /// # Safety
    /// As for `write`.
    unsafe fn keys_of<'a>(
        &'a self,
        value: impl Fn(usize) -> Option<pg_sys::Datum> + 'a,
    ) -> impl ExactSizeIterator<Item = Option<Cow<'a, str>>> {
        self.keys.iter().map(move |(place, decoder)| {
            self.reading.set(*place);
            // SAFETY: handed on to the caller.
            value(*place).map(|datum| unsafe { decoder.decode(datum) })
        })
    }

    /// # Safety
    /// As for `write`.
    unsafe fn values_of<'a>(
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
    /// As for `write`, of both.
    pub(super) unsafe fn previous<'a>(
        &self,
        old: impl Fn(usize) -> Option<pg_sys::Datum>,
        new: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> Vec<(usize, Value<'a>)> {
        self.discreet(|| {
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

    /// Who makes the changes of this statement, when and in which transaction.
    pub(in crate::pg) fn stamp(
        &self,
        now: pg_sys::TimestampTz,
        transaction: u64,
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Outcome<Stamp> {
        let transaction = i64::try_from(transaction).unwrap_or(i64::MAX);
        Stamp::new(&self.plan, &utf8(&actor()), Moment::from_timestamp(now), transaction, pseudonymizer)
            .map_err(|error| self.explain(error))
    }

    /// The same of a change that was noted and not recorded: as far as it is known.
    pub(super) fn stamp_of(
        &self,
        (changed_by, changed_at, transaction): (Option<&str>, Option<Moment>, Option<i64>),
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Outcome<Stamp> {
        Stamp::noted(&self.plan, changed_by, changed_at, transaction, pseudonymizer)
            .map_err(|error| self.explain(error))
    }

    /// Appends the record of a change of one row to `out`.
    ///
    /// # Safety
    /// As for `write`.
    pub(in crate::pg) unsafe fn write_change(
        &self,
        change: &Change<'_>,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        pseudonymizer: Option<&Pseudonymizer>,
        calendar: &mut impl Calendar,
        out: &mut Buffer,
    ) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        let (keys, values) = unsafe { (self.keys_of(&value), self.values_of(&value)) };
        self.discreet(|| write_change(&self.plan, change, keys, values, pseudonymizer, calendar, out))
            .map_err(|error| self.explain(error))
    }

    /// Appends the record of a TRUNCATE to `out`.
    pub(super) fn write_truncate(&self, number: i64, stamp: &Stamp, out: &mut Buffer) -> Outcome<()> {
        write_truncate(&self.plan, number, stamp, out).map_err(|error| self.explain(error))
    }

    pub(super) fn explain(&self, error: RecordError) -> Box<Failure> {
        let table = &self.table;
        match error {
            RecordError::NullKey { part } => {
                let name = self.key_names.get(part).map_or("", String::as_str);
                failure(
                    PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{name}\" of table \"{table}\" cannot be part of an objectID"
                    ),
                    "Watch the table with object_id columns that are never null.",
                )
            }
            RecordError::EmptyKey => failure(
                PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                format!(
                    "empty value in column \"{}\" of table \"{table}\" cannot be an objectID",
                    self.key_names.join("\", \"")
                ),
                "Watch the table with an object_prefix, or with object_id columns that are never empty.",
            ),
            RecordError::Overflow(error) => overflow(error, table),
            RecordError::PseudonymKeyMissing => crate::pg::rules::no_pseudonym_key(),
            other => failure(
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("could not make a record: {other}"),
                "Call audit_algolia.unwatch() and then audit_algolia.watch() again.",
            ),
        }
    }
}

/// Who makes the changes of this session, as the database keeps texts: whom the application names, else the session's
/// user.
pub(super) fn actor() -> Vec<u8> {
    match guc::actor() {
        Some(actor) => actor.into_bytes(),
        // SAFETY: the session's user has a name, a C string in the current context, or null if it was just dropped.
        None => unsafe {
            let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
            if name.is_null() {
                return Vec::new();
            }
            CStr::from_ptr(name).to_bytes().to_vec()
        },
    }
}
