//! Reads the key by which the row of a skipped change is found again.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::context::{attempted, CaptureErrorContext};
use super::repair::RepairTarget;
use super::slot::{values_of, TupleSlot};
use crate::pg::owner::pin_output_settings;
use crate::pg::report::{SqlError, SqlResult};
use crate::pg::text_datum::TextArray;

/// The longest key that a repair can have.
const LONGEST_KEY: usize = 1 << 20;

/// The row's key, as texts.
///
/// # Safety
/// The slot is null or holds a row of the trigger's relation, which has the target's columns.
pub(super) unsafe fn key_of(
    target: &RepairTarget,
    context: &CaptureErrorContext,
    slot: TupleSlot,
    error: &SqlError,
) -> SqlResult<TextArray> {
    if slot.is_null() {
        return Err(unrepairable(error, "there is no row"));
    }
    let Some(columns) = &target.key else { return Err(unrepairable(error, "a column of its key is gone")) };
    // SAFETY: the caller guarantees this. An output function returns a C string.
    let texts = attempted(context, || unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pin_output_settings();
        let value = values_of(slot, columns.iter().map(|(place, _)| place + 1).max().unwrap_or(0));
        let text = |(place, output): &(usize, pg_sys::Oid)| {
            let datum = value(*place)?;
            Some(CStr::from_ptr(pg_sys::OidOutputFunctionCall(*output, datum)).to_bytes())
        };
        let texts: Option<Vec<&[u8]>> = columns.iter().map(text).collect();
        pg_sys::AtEOXact_GUC(false, level);
        Ok(texts)
    })?;
    match texts {
        Ok(Some(texts)) if texts.iter().map(|text| text.len()).sum::<usize>() > LONGEST_KEY => {
            Err(unrepairable(error, "its key is too long"))
        }
        Ok(Some(texts)) => Ok(TextArray(texts.into_iter().map(<[u8]>::to_vec).collect())),
        Ok(None) => Err(unrepairable(error, "a column of its key is null")),
        Err(_) => Err(unrepairable(error, "its key cannot be read")),
    }
}

/// An error that fails the writer although it should only be warned.
pub(super) fn unrepairable(error: &SqlError, why: &str) -> Box<SqlError> {
    let detail = format!(
        "The setting audit_algolia.on_capture_error = warn does not apply here: the row could not be found again, because {why}."
    );
    Box::new(error.clone()).with_detail(detail)
}
