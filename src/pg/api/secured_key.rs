//! `secured_key`: a search key that shows only a part of an index. No message contains the parent key.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::arguments::{check_length, texts};
use crate::pg::encoding::utf8;
use crate::pg::report::{reported, sql_error, SqlError, SqlResult};
use crate::record::Moment;
use crate::secret::Secret;
use crate::secured_key::{Restrictions, SecuredKeyError};

#[pg_extern(sql = false)]
fn secured_key(
    parent_key: Option<&[u8]>,
    filters: Option<&[u8]>,
    valid_until: Option<TimestampWithTimeZone>,
    restrict_indices: Option<Array<'_, &str>>,
) -> Result<String, ErrorReport> {
    reported(make(parent_key, filters, valid_until, restrict_indices))
}

fn make(
    parent_key: Option<&[u8]>,
    filters: Option<&[u8]>,
    valid_until: Option<TimestampWithTimeZone>,
    restrict_indices: Option<Array<'_, &str>>,
) -> SqlResult<String> {
    let Some(parent) = parent_key else {
        return Err(null("parent_key", "Pass a search key of the Algolia application."));
    };
    // A filter that is null by mistake must not give access to the whole index.
    let Some(filters) = filters else {
        return Err(null("filters", "Pass a filter, or '' for a key that sees all records."));
    };
    check_length("parent_key", parent.len())?;
    check_length("filters", filters.len())?;
    let indices = texts("restrict_indices", restrict_indices)?
        .map(|names| names.into_iter().collect::<Option<Vec<String>>>());
    let indices = match indices {
        Some(None) => return Err(null("a name in restrict_indices", "Leave the entry out.")),
        Some(names) => names,
        None => None,
    };
    let restrictions = Restrictions {
        filters: utf8(filters).into_owned(),
        valid_until: valid_until.map(unix_seconds).transpose()?,
        indices,
    };
    let parent = Secret::new(&utf8(parent));
    Ok(crate::secured_key::secured_key(&parent, &restrictions)?)
}

fn null(what: &str, hint: &str) -> Box<SqlError> {
    sql_error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{what} must not be null"), hint)
}

/// Rounds down to a second.
fn unix_seconds(moment: TimestampWithTimeZone) -> SqlResult<i64> {
    Moment::from_timestamp(pg_sys::TimestampTz::from(moment)).unix_seconds().ok_or_else(|| {
        sql_error(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "valid_until must be finite",
            "Leave valid_until out for a key that does not expire.",
        )
    })
}

impl From<SecuredKeyError> for Box<SqlError> {
    fn from(error: SecuredKeyError) -> Self {
        sql_error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, error.to_string(), error.hint())
    }
}
