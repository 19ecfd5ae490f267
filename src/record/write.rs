//! Writes the record of one row: the hot path of every insert into a watched table.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::pseudonym::Pseudonymizer;
use crate::record::layout::FieldLayout;
use crate::record::object_id::append_object_id;
use crate::record::{Buffer, Calendar, RecordError, RecordLayout, Value};

/// The attribute of records that alert.
pub const ALERT_ATTRIBUTE: &str = "alert";

/// Appends the record of one row to `out`.
///
/// `key_parts` are the output texts of the key columns, and `values` are the values of the fields, both in the layout's
/// order. Each is requested when it is written. `pseudonymizer` may be absent if the layout does not pseudonymize. Nulls
/// and infinite moments are omitted. On an error `out` is as it was before.
pub fn write_record<'a>(
    layout: &RecordLayout,
    key_parts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    values: impl ExactSizeIterator<Item = Value<'a>>,
    pseudonymizer: Option<&Pseudonymizer>,
    clock: &mut impl Calendar,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    all_or_nothing(out, |out| {
        append_object_id(layout, key_parts, None, pseudonymizer, out)?;
        append_fields(layout, values, pseudonymizer, clock, out)?;
        out.push(b'}');
        Ok(())
    })
}

/// Runs `append`, and takes back what it appended if it fails or if something did not fit.
#[inline]
pub(super) fn all_or_nothing(
    out: &mut Buffer,
    append: impl FnOnce(&mut Buffer) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let start = out.len();
    let result = append(out).and_then(|()| Ok(out.check()?));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Adds `"alert": true` to a finished record.
pub fn add_alert(record: &mut Buffer) -> Result<(), RecordError> {
    record.pop();
    record.extend_from_slice(b",\"");
    record.extend_from_slice(ALERT_ATTRIBUTE.as_bytes());
    record.extend_from_slice(b"\":true}");
    Ok(record.check()?)
}

/// Appends the attributes of a row, each with a leading comma.
pub(super) fn append_fields<'a>(
    layout: &RecordLayout,
    values: impl ExactSizeIterator<Item = Value<'a>>,
    pseudonymizer: Option<&Pseudonymizer>,
    clock: &mut impl Calendar,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    let expected = layout.fields.len();
    if values.len() != expected {
        return Err(RecordError::ValueCount { expected, found: values.len() });
    }
    for (index, (field, value)) in layout.fields.iter().zip(values).enumerate() {
        if value.is_absent() {
            continue;
        }
        out.extend_from_slice(&field.key);
        if field.pseudonymize {
            append_pseudonym(index, &value, pseudonymizer, out)?;
        } else {
            value.append(out)?;
            append_buckets(field, &value, clock, out);
        }
    }
    Ok(())
}

/// Appends a value or its pseudonym. An absent value is `null`.
pub(super) fn append_plain_or_pseudonym(
    value: &Value<'_>,
    pseudonymize: bool,
    field: usize,
    pseudonymizer: Option<&Pseudonymizer>,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    if pseudonymize && !value.is_absent() {
        return append_pseudonym(field, value, pseudonymizer, out);
    }
    Ok(value.append(out)?)
}

/// Appends a value's pseudonym. Refuses a value that is not a text, because writing it would leak the original.
fn append_pseudonym(
    field: usize,
    value: &Value<'_>,
    pseudonymizer: Option<&Pseudonymizer>,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    let Value::Text(text) = value else {
        return Err(RecordError::PseudonymNeedsText { field });
    };
    out.push(b'"');
    pseudonymizer.ok_or(RecordError::PseudonymKeyMissing)?.append(text, out);
    out.push(b'"');
    Ok(())
}

fn append_buckets(field: &FieldLayout, value: &Value<'_>, clock: &mut impl Calendar, out: &mut Buffer) {
    if let (Some(buckets), Value::Time(moment)) = (&field.buckets, value) {
        if let Some(seconds) = moment.unix_seconds() {
            buckets.append(seconds, clock, out);
        }
    }
}
