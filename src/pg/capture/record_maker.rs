//! Makes records of rows: it adds the pseudonym key and the calendar to the rules of a bound relation.

use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

use super::bound_relation::BoundRelation;
use crate::pg::encoding::utf8;
use crate::pg::guc;
use crate::pg::report::SqlResult;
use crate::pg::rules::{pseudonymizer, ServerCalendar};
use crate::pseudonym::Pseudonymizer;
use crate::record::{
    write_change, write_deletion, write_record, write_truncate, Buffer, Change, ChangeOrigin, Moment,
    RecordError, RecordLayout,
};

/// What is needed to make records, besides rules and rows.
pub(in crate::pg) struct RecordMaker {
    pseudonymizer: Option<Rc<Pseudonymizer>>,
    calendar: ServerCalendar,
}

impl RecordMaker {
    /// With the current pseudonym key and time zone.
    pub(in crate::pg) fn current() -> RecordMaker {
        RecordMaker { pseudonymizer: pseudonymizer(), calendar: ServerCalendar::current() }
    }

    /// The same for the rows of one relation, which may need no pseudonym key.
    pub(super) fn for_relation(bound: &BoundRelation) -> RecordMaker {
        RecordMaker {
            pseudonymizer: bound.record_layout.pseudonymizes().then(pseudonymizer).flatten(),
            calendar: ServerCalendar::current(),
        }
    }

    /// Appends the record of one row to `out`.
    ///
    /// # Safety
    /// As for [`BoundRelation::key`].
    pub(in crate::pg) unsafe fn write_record(
        &mut self,
        bound: &BoundRelation,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        out: &mut Buffer,
    ) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        let (keys, values) = unsafe { (bound.keys_of(&value), bound.values_of(&value)) };
        let RecordMaker { pseudonymizer, calendar } = self;
        bound
            .redacted(|| {
                write_record(&bound.record_layout, keys, values, pseudonymizer.as_deref(), calendar, out)
            })
            .map_err(|error| bound.explain(error))
    }

    /// Appends the record that deletes a row's object to `out`. Returns `false`, and appends nothing, if the row's key
    /// makes no objectID: its record is refused, so there is no such object.
    ///
    /// # Safety
    /// As for [`BoundRelation::key`].
    pub(super) unsafe fn write_deletion(
        &self,
        bound: &BoundRelation,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        out: &mut Buffer,
    ) -> SqlResult<bool> {
        // SAFETY: the caller guarantees this.
        let keys = unsafe { bound.keys_of(&value) };
        match bound
            .redacted(|| write_deletion(&bound.record_layout, keys, self.pseudonymizer.as_deref(), out))
        {
            Ok(()) => Ok(true),
            Err(RecordError::EmptyKey) => Ok(false),
            Err(error) => Err(bound.explain(error)),
        }
    }

    /// The same for a key given by its texts, when the relation has changed or is another one.
    pub(super) fn write_former_deletion(
        &self,
        prefix: &str,
        key: &[(&[u8], bool)],
        out: &mut Buffer,
    ) -> Result<(), RecordError> {
        let layout =
            RecordLayout::new(prefix, Vec::new(), key.iter().map(|(_, is_hidden)| *is_hidden).collect());
        let texts = key.iter().map(|(text, _)| Some(utf8(text)));
        write_deletion(&layout, texts, self.pseudonymizer.as_deref(), out)
    }

    /// Appends the record of a change of one row to `out`.
    ///
    /// # Safety
    /// As for [`BoundRelation::key`].
    pub(in crate::pg) unsafe fn write_change(
        &mut self,
        bound: &BoundRelation,
        change: &Change<'_>,
        value: impl Fn(usize) -> Option<pg_sys::Datum>,
        out: &mut Buffer,
    ) -> SqlResult<()> {
        // SAFETY: the caller guarantees this.
        let (keys, values) = unsafe { (bound.keys_of(&value), bound.values_of(&value)) };
        let RecordMaker { pseudonymizer, calendar } = self;
        bound
            .redacted(|| {
                write_change(
                    &bound.record_layout,
                    change,
                    keys,
                    values,
                    pseudonymizer.as_deref(),
                    calendar,
                    out,
                )
            })
            .map_err(|error| bound.explain(error))
    }

    /// Appends the record of a TRUNCATE to `out`.
    pub(super) fn write_truncate(
        bound: &BoundRelation,
        number: i64,
        origin: &ChangeOrigin,
        out: &mut Buffer,
    ) -> SqlResult<()> {
        write_truncate(&bound.record_layout, number, origin, out).map_err(|error| bound.explain(error))
    }

    /// The origin of this statement's changes: who makes them, when and in which transaction.
    pub(in crate::pg) fn origin(
        &self,
        bound: &BoundRelation,
        now: pg_sys::TimestampTz,
        transaction: u64,
    ) -> SqlResult<ChangeOrigin> {
        let (actor, now) = (actor(), Moment::from_timestamp(now));
        let transaction = i64::try_from(transaction).unwrap_or(i64::MAX);
        ChangeOrigin::new(
            &bound.record_layout,
            &utf8(&actor),
            now,
            transaction,
            self.pseudonymizer.as_deref(),
        )
        .map_err(|error| bound.explain(error))
    }

    /// The origin of a change that was skipped, as far as it is known.
    pub(super) fn origin_of_skipped(
        &self,
        bound: &BoundRelation,
        changed_by: Option<&[u8]>,
        changed_at: Option<pg_sys::TimestampTz>,
        transaction: Option<i64>,
    ) -> SqlResult<ChangeOrigin> {
        let (by, at) = (changed_by.map(utf8), changed_at.map(Moment::from_timestamp));
        ChangeOrigin::of_skipped(
            &bound.record_layout,
            by.as_deref(),
            at,
            transaction,
            self.pseudonymizer.as_deref(),
        )
        .map_err(|error| bound.explain(error))
    }
}

/// Who makes the changes of this session, in the database's encoding: the actor that the application has set, otherwise
/// the session's user.
pub(super) fn actor() -> Vec<u8> {
    match guc::actor() {
        Some(actor) => actor.into_bytes(),
        // SAFETY: the name is a C string in the current context, or null if the user was just dropped.
        None => unsafe {
            let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
            if name.is_null() {
                return Vec::new();
            }
            CStr::from_ptr(name).to_bytes().to_vec()
        },
    }
}
