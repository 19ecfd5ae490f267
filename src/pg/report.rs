//! Errors as PostgreSQL speaks them: SQLSTATE, message, detail and a hint that mends it.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;

use crate::rules::{RuleError, RuleErrorKind};

/// What the functions of the SQL interface fail with.
pub(super) type Outcome<T> = Result<T, Box<Failure>>;

/// An error on its way to the user.
#[derive(Debug)]
pub(super) struct Failure {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// An error with a hint. The message names the object at fault.
pub(super) fn failure(
    code: PgSqlErrorCode,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Box<Failure> {
    Box::new(Failure { code, message: message.into(), detail: None, hint: Some(hint.into()) })
}

impl Failure {
    /// Adds a detail.
    pub(super) fn with_detail(mut self: Box<Self>, detail: impl Into<String>) -> Box<Self> {
        self.detail = Some(detail.into());
        self
    }

    fn into_report(self) -> ErrorReport {
        let mut report = ErrorReport::new(self.code, self.message, "audit_algolia");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report
    }

    /// Says it as a warning instead.
    pub(super) fn warn(self) {
        self.into_report().report(PgLogLevel::WARNING);
    }
}

/// Runs `work`; of its errors, the server's own included, the message gets `prefix` before it, and the hint `hint` behind
/// it. The transaction has to fail with them: nothing is cleaned up here.
pub(super) fn explained<T>(work: impl FnOnce() -> Outcome<T>, prefix: &str, hint: &str) -> Outcome<T> {
    let caught = PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|error| match error {
            CaughtError::PostgresError(ref report)
                if report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED =>
            {
                error.rethrow()
            }
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => Err(Box::new(Failure {
                code: report.sql_error_code(),
                message: report.message().to_owned(),
                detail: report.detail().map(str::to_owned),
                hint: report.hint().map(str::to_owned),
            })),
            panic => panic.rethrow(),
        })
        .execute();
    caught.map_err(|mut failure| {
        failure.message = format!("{prefix}: {}", failure.message);
        let hints: Vec<&str> = failure.hint.as_deref().into_iter().chain([hint]).collect();
        failure.hint = Some(hints.join(" "));
        failure
    })
}

/// Turns an outcome into the form the function manager's glue reports with its SQLSTATE.
pub(super) fn reported<T>(outcome: Outcome<T>) -> Result<T, ErrorReport> {
    outcome.map_err(|failure| failure.into_report())
}

impl From<RuleError> for Box<Failure> {
    fn from(error: RuleError) -> Self {
        let code = match error.kind() {
            RuleErrorKind::UndefinedColumn => PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            RuleErrorKind::DuplicateColumn => PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            RuleErrorKind::InvalidParameter => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            RuleErrorKind::NullNotAllowed => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            RuleErrorKind::ReservedName => PgSqlErrorCode::ERRCODE_RESERVED_NAME,
            RuleErrorKind::FeatureNotSupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        };
        Box::new(Failure { code, message: error.to_string(), detail: None, hint: Some(error.hint()) })
    }
}

impl From<spi::Error> for Box<Failure> {
    fn from(error: spi::Error) -> Self {
        Box::new(Failure {
            code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            message: format!("audit_algolia could not read its own tables: {error}"),
            detail: None,
            hint: Some("Check that the library and the extension have the same version: ALTER EXTENSION audit_algolia UPDATE.".to_owned()),
        })
    }
}
