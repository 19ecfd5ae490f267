//! A source's rules bound to the columns of the relation whose rows are at hand.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::decode::{utf8, Decoder, TextDecoder};
use crate::pg::filter::is_virtual;
use crate::pg::guc;
use crate::pg::report::{failure, Outcome};
use crate::pg::rules::{column_is_gone, SourceRules};
use crate::pseudonym::Pseudonymizer;
use crate::record::{
    write_change, write_record, write_truncate, Calendar, Change, Field, Moment, Plan, RecordError, Stamp,
    Value,
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
    /// Columns that must be read off a row: all up to the last one used.
    pub(super) width: usize,
    /// Some value's output depends on the session's settings, which have to be set aside.
    pub(super) depends_on_settings: bool,
}

/// One column, as it is read and compared.
struct Tracked {
    place: usize,
    decoder: FieldDecoder,
    length: i16,
    by_value: bool,
}

enum FieldDecoder {
    Plain(Decoder),
    /// Only the output text is read, to be replaced by its pseudonym.
    Text(TextDecoder),
}

impl Tracked {
    fn new(place: usize, oid: pg_sys::Oid, pseudonymize: bool) -> Tracked {
        let decoder = match pseudonymize {
            true => FieldDecoder::Text(TextDecoder::of(oid)),
            false => FieldDecoder::Plain(Decoder::of(oid)),
        };
        let (mut length, mut by_value) = (0, false);
        // SAFETY: a look-up in the system caches.
        unsafe { pg_sys::get_typlenbyval(oid, &mut length, &mut by_value) };
        Tracked { place, decoder, length, by_value }
    }

    fn depends_on_settings(&self) -> bool {
        match &self.decoder {
            FieldDecoder::Plain(decoder) => decoder.depends_on_settings(),
            FieldDecoder::Text(decoder) => decoder.depends_on_settings(),
        }
    }

    /// # Safety
    /// `datum` is null or a value of the column, valid until the current memory context is reset.
    unsafe fn decode<'a>(&self, datum: Option<pg_sys::Datum>) -> Value<'a> {
        match (datum, &self.decoder) {
            (None, _) => Value::Null,
            // SAFETY: handed on to the caller.
            (Some(datum), FieldDecoder::Plain(decoder)) => unsafe { decoder.decode(datum) },
            // SAFETY: handed on to the caller.
            (Some(datum), FieldDecoder::Text(decoder)) => Value::Text(unsafe { decoder.decode(datum) }),
        }
    }

    /// Whether two values differ as they are stored: as the server tells whether an update changes anything.
    ///
    /// # Safety
    /// As for `decode`.
    unsafe fn differs(&self, old: Option<pg_sys::Datum>, new: Option<pg_sys::Datum>) -> bool {
        let (Some(old), Some(new)) = (old, new) else {
            return old.is_some() != new.is_some();
        };
        let (by_value, length) = (self.by_value, i32::from(self.length));
        // SAFETY: both are values of a type with this length and way of passing. What an update leaves alone mostly is
        // the same byte for byte, which is seen without fetching what is stored elsewhere.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                !datumIsEqual(old, new, by_value, length) && !datum_image_eq(old, new, by_value, length)
            })
        }
    }
}

unsafe extern "C-unwind" {
    /// `utils/datum.h`, which pgrx does not bind: whether two values are alike byte for byte.
    fn datumIsEqual(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
    /// The same, of the values as they are once fetched and decompressed.
    fn datum_image_eq(one: pg_sys::Datum, other: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

/// A column of a row descriptor.
///
/// # Safety
/// `descriptor` is valid and `place` is less than its `natts`.
pub(in crate::pg) unsafe fn attribute(
    descriptor: pg_sys::TupleDesc,
    place: usize,
) -> pg_sys::Form_pg_attribute {
    // SAFETY: handed on to the caller. Up to 17 the attributes follow the descriptor; from 18 on they follow an
    // array of as many compact ones.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let first = (*descriptor).attrs.as_mut_ptr();
        #[cfg(feature = "pg18")]
        let first: pg_sys::Form_pg_attribute = (*descriptor)
            .compact_attrs
            .as_mut_ptr()
            .add(usize::try_from((*descriptor).natts).unwrap_or(0))
            .cast();
        first.add(place)
    }
}

/// Place, name and type of each column that is there for triggers to see.
///
/// # Safety
/// `descriptor` is valid.
pub(in crate::pg) unsafe fn columns(descriptor: pg_sys::TupleDesc) -> Vec<(usize, String, pg_sys::Oid)> {
    // SAFETY: handed on to the caller; names are C strings.
    unsafe {
        (0..usize::try_from((*descriptor).natts).unwrap_or(0))
            .map(|place| (place, attribute(descriptor, place)))
            .filter(|(_, attribute)| !(**attribute).attisdropped && !is_virtual(*attribute))
            .map(|(place, attribute)| {
                let name = CStr::from_ptr((*attribute).attname.data.as_ptr());
                (place, name.to_string_lossy().into_owned(), (*attribute).atttypid)
            })
            .collect()
    }
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
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        let (keys, values) = unsafe { (self.keys_of(&value), self.values_of(&value)) };
        let keys: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
        write_record(&self.plan, &keys, &values, pseudonymizer, calendar, out)
            .map_err(|error| self.explain(error))
    }

    /// # Safety
    /// As for `write`.
    unsafe fn keys_of<'a>(
        &self,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
    ) -> Vec<Option<Cow<'a, str>>> {
        let decoded = self.keys.iter().map(|(place, decoder)| {
            // SAFETY: handed on to the caller.
            value(*place).map(|datum| unsafe { decoder.decode(datum) })
        });
        decoded.collect()
    }

    /// # Safety
    /// As for `write`.
    unsafe fn values_of<'a>(&self, value: impl Fn(usize) -> Option<pg_sys::Datum>) -> Vec<Value<'a>> {
        // SAFETY: handed on to the caller.
        self.tracked.iter().take(self.shown).map(|t| unsafe { t.decode(value(t.place)) }).collect()
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
        let mut previous = Vec::new();
        for (place, tracked) in self.tracked.iter().enumerate() {
            let before = old(tracked.place);
            // SAFETY: handed on to the caller.
            unsafe {
                if tracked.differs(before, new(tracked.place)) {
                    previous.push((place, tracked.decode(before)));
                }
            }
        }
        previous
    }

    /// Who makes the changes of this statement, when and in which transaction.
    pub(in crate::pg) fn stamp(
        &self,
        now: pg_sys::TimestampTz,
        transaction: u64,
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Outcome<Stamp> {
        let transaction = i64::try_from(transaction).unwrap_or(i64::MAX);
        Stamp::new(&self.plan, &actor(), Moment::from_timestamp(now), transaction, pseudonymizer)
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
        out: &mut Vec<u8>,
    ) -> Outcome<()> {
        // SAFETY: handed on to the caller.
        let (keys, values) = unsafe { (self.keys_of(&value), self.values_of(&value)) };
        let keys: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
        write_change(&self.plan, change, &keys, &values, pseudonymizer, calendar, out)
            .map_err(|error| self.explain(error))
    }

    /// Appends the record of a TRUNCATE to `out`.
    pub(super) fn write_truncate(&self, number: i64, stamp: &Stamp, out: &mut Vec<u8>) {
        write_truncate(&self.plan, number, stamp, out);
    }

    fn explain(&self, error: RecordError) -> Box<crate::pg::report::Failure> {
        match error {
            RecordError::NullKey { part } => {
                let name = self.key_names.get(part).map_or("", String::as_str);
                failure(
                    PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                    format!("null value in column \"{name}\" cannot be part of an objectID"),
                    "Watch the table with object_id columns that are never null.",
                )
            }
            RecordError::PseudonymKeyMissing => crate::pg::rules::no_pseudonym_key(),
            other => failure(
                PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                format!("could not make a record: {other}"),
                "Call audit_algolia.unwatch() and then audit_algolia.watch() again.",
            ),
        }
    }
}

/// Who makes the changes of this session: whom the application names, else the session's user.
fn actor() -> String {
    match guc::actor() {
        Some(actor) => utf8(actor.as_bytes()).into_owned(),
        // SAFETY: the session's user has a name, a C string in the current context, or null if it was just dropped.
        None => unsafe {
            let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
            if name.is_null() {
                return String::new();
            }
            utf8(CStr::from_ptr(name).to_bytes()).into_owned()
        },
    }
}
