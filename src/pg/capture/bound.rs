//! A source's rules bound to the columns of the relation whose rows are at hand.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::decode::{Decoder, TextDecoder};
use crate::pg::report::{failure, Outcome};
use crate::pg::rules::{column_is_gone, SourceRules};
use crate::pseudonym::Pseudonymizer;
use crate::record::{write_record, Calendar, Field, Plan, RecordError, Value};

/// Where a row's values are and how they become a record.
pub(in crate::pg) struct Bound {
    plan: Plan,
    keys: Vec<(usize, TextDecoder)>,
    fields: Vec<(usize, FieldDecoder)>,
    key_names: Vec<String>,
    /// Columns that must be read off a row: all up to the last one used.
    pub(super) width: usize,
    /// Some value's output depends on the session's settings, which have to be set aside.
    pub(super) depends_on_settings: bool,
}

enum FieldDecoder {
    Plain(Decoder),
    /// Only the output text is read, to be replaced by its pseudonym.
    Text(TextDecoder),
}

/// A column of a row descriptor.
///
/// # Safety
/// `descriptor` is valid and `place` is less than its `natts`.
pub(super) unsafe fn attribute(descriptor: pg_sys::TupleDesc, place: usize) -> pg_sys::Form_pg_attribute {
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

/// Place, name and type of each column that is not dropped.
///
/// # Safety
/// `descriptor` is valid.
pub(in crate::pg) unsafe fn columns(descriptor: pg_sys::TupleDesc) -> Vec<(usize, String, pg_sys::Oid)> {
    // SAFETY: handed on to the caller; names are C strings.
    unsafe {
        (0..usize::try_from((*descriptor).natts).unwrap_or(0))
            .map(|place| (place, attribute(descriptor, place)))
            .filter(|(_, attribute)| !(**attribute).attisdropped)
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
        let (mut fields, mut planned) = (Vec::new(), Vec::new());
        for column in &rules.columns {
            let (place, oid) = find(&column.name)?;
            let pseudonymize = is_pseudonymized(&column.name);
            let decoder = if pseudonymize {
                FieldDecoder::Text(TextDecoder::of(oid))
            } else {
                FieldDecoder::Plain(Decoder::of(oid))
            };
            fields.push((place, decoder));
            planned.push(Field {
                attribute: column.attribute.clone(),
                pseudonymize,
                bucketed: rules.time_column.as_ref() == Some(&column.name),
            });
        }
        let key_pseudonymize = rules.object_id.iter().map(|name| is_pseudonymized(name)).collect();
        let used = keys.iter().map(|(place, _)| *place).chain(fields.iter().map(|(place, _)| *place));
        Ok(Bound {
            plan: Plan::new(&rules.object_prefix, planned, key_pseudonymize),
            width: used.max().map_or(0, |last| last + 1),
            depends_on_settings: keys.iter().any(|(_, decoder)| decoder.depends_on_settings())
                || fields.iter().any(|(_, decoder)| match decoder {
                    FieldDecoder::Plain(decoder) => decoder.depends_on_settings(),
                    FieldDecoder::Text(decoder) => decoder.depends_on_settings(),
                }),
            keys,
            fields,
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
        let keys: Vec<Option<Cow<str>>> = self
            .keys
            .iter()
            .map(|(place, decoder)| value(*place).map(|datum| unsafe { decoder.decode(datum) }))
            .collect();
        let key_parts: Vec<Option<&str>> = keys.iter().map(Option::as_deref).collect();
        let values: Vec<Value> = self
            .fields
            .iter()
            .map(|(place, decoder)| match (value(*place), decoder) {
                (None, _) => Value::Null,
                // SAFETY: handed on to the caller.
                (Some(datum), FieldDecoder::Plain(decoder)) => unsafe { decoder.decode(datum) },
                // SAFETY: handed on to the caller.
                (Some(datum), FieldDecoder::Text(decoder)) => Value::Text(unsafe { decoder.decode(datum) }),
            })
            .collect();
        write_record(&self.plan, &key_parts, &values, pseudonymizer, calendar, out)
            .map_err(|error| self.explain(error))
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
