//! Change records: what they say of a change besides the row, and their objectIDs.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use crate::pseudonym::{is_pseudonym, Pseudonymizer};
use crate::record::object_id::{append_number, append_object_id};
use crate::record::write::{all_or_nothing, append_fields, append_plain_or_pseudonym};
use crate::record::{Buffer, Calendar, Moment, RecordError, RecordLayout, Value};

/// The attributes that a change record has besides those of the row.
pub const CHANGE_ATTRIBUTES: [&str; 6] =
    ["op", "changed", "previous", "changed_by", "changed_at", "transaction_id"];

/// What happened to a row, or to all rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Operation {
    /// All operations, in the order in which rules list them.
    pub const ALL: [Operation; 4] =
        [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];

    /// The operation's name in rules, in records and in the names of triggers.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
        }
    }

    /// The operation with this name, in any case.
    pub fn of(word: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.word().eq_ignore_ascii_case(word))
    }
}

/// Who made the changes of a statement, when, and in which transaction, as serialised JSON.
pub struct ChangeOrigin {
    /// `,"changed_by":…,"changed_at":…,"transaction_id":…}`
    tail: Buffer,
}

impl ChangeOrigin {
    /// The origin of a change as the trigger sees it. If the layout has pseudonyms, `changed_by` becomes one, because
    /// whoever makes changes may be one of the users whom they protect.
    pub fn new(
        layout: &RecordLayout,
        changed_by: &str,
        changed_at: Moment,
        transaction_id: i64,
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Result<ChangeOrigin, RecordError> {
        let changed_by = Some((changed_by, layout.pseudonymizes()));
        ChangeOrigin::write(changed_by, Some(changed_at), Some(transaction_id), pseudonymizer)
    }

    /// The origin of a change that was skipped, as far as it is known. `changed_by` may be a pseudonym already.
    pub fn of_skipped(
        layout: &RecordLayout,
        changed_by: Option<&str>,
        changed_at: Option<Moment>,
        transaction_id: Option<i64>,
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Result<ChangeOrigin, RecordError> {
        let changed_by = changed_by.map(|name| (name, layout.pseudonymizes() && !is_pseudonym(name)));
        ChangeOrigin::write(changed_by, changed_at, transaction_id, pseudonymizer)
    }

    /// `changed_by` comes with whether it is to be pseudonymized.
    fn write(
        changed_by: Option<(&str, bool)>,
        changed_at: Option<Moment>,
        transaction_id: Option<i64>,
        pseudonymizer: Option<&Pseudonymizer>,
    ) -> Result<ChangeOrigin, RecordError> {
        let mut tail = Buffer::default();
        if let Some((name, pseudonymize)) = changed_by {
            tail.extend_from_slice(br#","changed_by":"#);
            append_plain_or_pseudonym(&Value::Text(name.into()), pseudonymize, 0, pseudonymizer, &mut tail)?;
        }
        if let Some(changed_at) = changed_at {
            tail.extend_from_slice(br#","changed_at":"#);
            Value::Time(changed_at).append(&mut tail)?;
        }
        if let Some(transaction_id) = transaction_id {
            tail.extend_from_slice(br#","transaction_id":"#);
            Value::Int(transaction_id).append(&mut tail)?;
        }
        tail.push(b'}');
        tail.check()?;
        Ok(ChangeOrigin { tail })
    }

    /// The origin of a change that nothing is known about: the record says neither who made it nor when.
    pub fn unknown() -> ChangeOrigin {
        let mut tail = Buffer::default();
        tail.push(b'}');
        ChangeOrigin { tail }
    }
}

/// One change of one row.
pub struct Change<'a> {
    pub operation: Operation,
    /// Makes the objectID unique. Newer changes have higher numbers.
    pub number: i64,
    /// For an update: the old values of the attributes that changed, each with its place among the layout's [tracked
    /// attributes](RecordLayout::tracked).
    pub previous: &'a [(usize, Value<'a>)],
    pub origin: &'a ChangeOrigin,
}

/// Appends the record of a change to `out`: the row as [`write_record`](crate::record::write_record) writes it, but
/// with the change's number in the objectID, and the attributes of the change. On an error `out` is as it was before.
pub fn write_change<'a>(
    layout: &RecordLayout,
    change: &Change<'_>,
    key_parts: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    values: impl ExactSizeIterator<Item = Value<'a>>,
    pseudonymizer: Option<&Pseudonymizer>,
    clock: &mut impl Calendar,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    all_or_nothing(out, |out| {
        append_object_id(layout, key_parts, Some(change.number), pseudonymizer, out)?;
        append_fields(layout, values, pseudonymizer, clock, out)?;
        append_operation(change.operation, out);
        if change.operation == Operation::Update {
            append_previous(layout, change.previous, pseudonymizer, out)?;
        }
        out.extend_from_slice(&change.origin.tail);
        Ok(())
    })
}

/// Appends the record of a TRUNCATE. It has no row, so its objectID consists of the prefix and the number.
pub fn write_truncate(
    layout: &RecordLayout,
    number: i64,
    origin: &ChangeOrigin,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    out.extend_from_slice(&layout.opening);
    append_number(number, out);
    out.push(b'"');
    append_operation(Operation::Truncate, out);
    out.extend_from_slice(&origin.tail);
    Ok(out.check()?)
}

fn append_operation(operation: Operation, out: &mut Buffer) {
    out.extend_from_slice(br#","op":""#);
    out.extend_from_slice(operation.word().as_bytes());
    out.push(b'"');
}

fn append_previous(
    layout: &RecordLayout,
    previous: &[(usize, Value<'_>)],
    pseudonymizer: Option<&Pseudonymizer>,
    out: &mut Buffer,
) -> Result<(), RecordError> {
    let tracked = |place: &usize| layout.tracked(*place).ok_or(RecordError::NotTracked { place: *place });
    out.extend_from_slice(br#","changed":["#);
    for (index, (place, _)) in previous.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(tracked(place)?.name());
    }
    out.extend_from_slice(br#"],"previous":{"#);
    for (index, (place, value)) in previous.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let field = tracked(place)?;
        out.extend_from_slice(field.name());
        out.push(b':');
        append_plain_or_pseudonym(value, field.pseudonymize, *place, pseudonymizer, out)?;
    }
    out.push(b'}');
    Ok(())
}
