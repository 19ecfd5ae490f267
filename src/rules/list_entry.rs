//! Entries of the lists that callers pass.

#![forbid(unsafe_code)]

use crate::rules::RuleError;

/// The entry without surrounding spaces; it must be neither null nor empty.
pub(super) fn required_entry<'a>(list: &'static str, entry: &Option<&'a str>) -> Result<&'a str, RuleError> {
    match entry.map(str::trim) {
        None => Err(RuleError::NullEntry { list }),
        Some("") => Err(RuleError::EmptyEntry { list }),
        Some(entry) => Ok(entry),
    }
}
