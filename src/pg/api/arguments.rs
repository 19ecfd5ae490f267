//! Texts that callers pass. They are borrowed until it is known that they are no longer than names, rules and filters are:
//! a copy of ours that there is no memory for would end the server, and not the statement alone.

use pgrx::prelude::*;

use crate::pg::report::{sql_error, SqlResult};

/// The maximum size of an argument in bytes.
const MAX_BYTES: usize = 1 << 20;

/// An array argument: null, or elements that may be null.
pub(super) type List = Option<Vec<Option<String>>>;

/// Copies a text argument.
pub(super) fn text(argument: &str, value: Option<&str>) -> SqlResult<Option<String>> {
    check_length(argument, value.map_or(0, str::len))?;
    Ok(value.map(str::to_owned))
}

/// Copies an array argument.
pub(super) fn texts(argument: &str, list: Option<Array<'_, &str>>) -> SqlResult<List> {
    let Some(list) = list else { return Ok(None) };
    let entries = list.len() * size_of::<Option<String>>();
    check_length(argument, entries + list.iter().flatten().map(str::len).sum::<usize>())?;
    Ok(Some(list.iter().map(|entry| entry.map(str::to_owned)).collect()))
}

/// Refuses an argument that is larger than the maximum.
pub(super) fn check_length(argument: &str, bytes: usize) -> SqlResult<()> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(sql_error(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        format!("{argument} takes {bytes} bytes, but the maximum is {MAX_BYTES}"),
        "Pass a shorter one.",
    ))
}
