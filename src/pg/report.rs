//! Errors as PostgreSQL speaks them: SQLSTATE, message, detail and a hint that says how to fix it.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel, ErrorReportable};
use pgrx::prelude::*;

use super::error_context;
use crate::record::Overflow;
use crate::rules::{RuleError, RuleErrorKind};

/// The result of a function that may fail with an SQL error.
pub(super) type SqlResult<T> = Result<T, Box<SqlError>>;

/// An SQL error that has not been raised yet.
#[derive(Clone, Debug)]
pub(super) struct SqlError {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// Raised by us, and not by the server.
    is_ours: bool,
}

/// An error with a hint. The message names the object at fault.
pub(super) fn sql_error(
    code: PgSqlErrorCode,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Box<SqlError> {
    Box::new(SqlError { code, message: message.into(), detail: None, hint: Some(hint.into()), is_ours: true })
}

/// The error of a row whose record does not fit.
pub(super) fn overflow(error: Overflow, table: &str) -> Box<SqlError> {
    match error {
        Overflow::NoMemory { bytes } => sql_error(
            PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            format!("out of memory for the record of a row of table \"{table}\""),
            "Watch the table without the column whose values are that large, or give the server more memory.",
        )
        .with_detail(format!("Failed on request of size {bytes}.")),
        Overflow::TooLong { most } => sql_error(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("the record of a row of table \"{table}\" is longer than {most} bytes"),
            "Watch the table without the column whose values are that large.",
        ),
    }
}

impl SqlError {
    /// An error of the server.
    pub(super) fn of(report: &ErrorReportWithLevel) -> Box<SqlError> {
        Box::new(SqlError {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            detail: report.detail().map(str::to_owned),
            hint: report.hint().map(str::to_owned),
            is_ours: false,
        })
    }

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

    /// Its SQLSTATE.
    pub(super) fn code(&self) -> PgSqlErrorCode {
        self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Whether it may not happen again: a resource was lacking, the server is stopping, or other transactions were in
    /// the way.
    pub(super) fn is_transient(&self) -> bool {
        let is_locked = self.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE;
        self.is_out_of_memory() || (!self.is_ours && (is_transient_code(self.code) || is_locked))
    }

    /// Whether memory was lacking.
    pub(super) fn is_out_of_memory(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
    }

    /// Whether it has a message of ours, which quotes no values.
    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Its SQLSTATE as text.
    pub(super) fn sqlstate(&self) -> String {
        let code = self.code as i32;
        // Each character takes six bits, as the server packs them.
        (0..5).map(|place| char::from(((code >> (6 * place)) & 0x3F) as u8 + b'0')).collect()
    }

    /// The reason without values. A message of the server may quote a row's values, so only its kind is returned.
    pub(super) fn kind(&self) -> String {
        if self.is_ours {
            return self.message.clone();
        }
        let name = format!("{:?}", self.code);
        let words = name.trim_start_matches("ERRCODE_").to_lowercase().replace('_', " ");
        format!("{words} ({})", self.sqlstate())
    }

    /// Like [`SqlError::summary`], unless that might quote a row's values. Of the server's messages, those about names
    /// and privileges are quoted.
    pub(super) fn redacted_summary(&self) -> String {
        let is_about_names =
            class(self.code) == class(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
        if self.is_ours || is_about_names {
            self.summary()
        } else {
            self.kind()
        }
    }

    /// The message and the SQLSTATE in one line.
    pub(super) fn cause(&self) -> String {
        format!("{} ({})", self.message, self.sqlstate())
    }

    /// Message, detail and hint in one line.
    pub(super) fn summary(&self) -> String {
        let further = [&self.detail, &self.hint].into_iter().flatten();
        let further: Vec<String> = further.map(|text| format!(" {text}")).collect();
        let stop = if further.is_empty() { "" } else { "." };
        format!("{}{stop}{}", self.message, further.concat())
    }

    /// Raises it as a warning.
    pub(super) fn warn(self) {
        self.into_report().report(PgLogLevel::WARNING);
    }
}

/// Runs `work`. An error, even one of the server, gets `prefix` before its message and `hint` after its hint. Nothing
/// is cleaned up, so the transaction must fail.
pub(super) fn explained<T>(work: impl FnOnce() -> SqlResult<T>, prefix: &str, hint: &str) -> SqlResult<T> {
    let caught = PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|error| match error {
            CaughtError::PostgresError(ref report)
                if report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED =>
            {
                error.rethrow()
            }
            error => Err(of(error)),
        })
        .execute();
    caught.map_err(|mut error| {
        let message = format!("{prefix}: {}", error.message);
        error_context::reword(&error.message, &message);
        error.message = message;
        let hints: Vec<&str> = error.hint.as_deref().into_iter().chain([hint]).collect();
        error.hint = Some(hints.join(" "));
        error
    })
}

/// Runs `work`, which reads a row's values or computes with them. The server's error may quote them, and values must
/// not reach the log. So the error is replaced by `told`, given its kind; it keeps its SQLSTATE. An error about the
/// state of the server or the transaction quotes nothing and is kept. In both cases the memory context is restored,
/// because `work` may have switched to one that will not outlive the unwinding.
pub(super) fn redacted<T>(work: impl FnOnce() -> T, told: impl Fn(&str) -> Box<SqlError>) -> T {
    // SAFETY: there is a current context whenever PostgreSQL calls.
    let context = unsafe { pg_sys::CurrentMemoryContext };
    // As with the server's own error handling, this costs almost nothing without an error.
    let payload = match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => return done,
        Err(payload) => payload,
    };
    // SAFETY: it was current when this function was called, and the caller may still use it.
    unsafe { pg_sys::MemoryContextSwitchTo(context) };
    let told = AssertUnwindSafe(told);
    PgTryBuilder::new(AssertUnwindSafe(|| -> T { std::panic::resume_unwind(payload) }))
        .catch_others(move |error| match error {
            CaughtError::PostgresError(report) if !is_transient_code(report.sql_error_code()) => {
                let mut error = told(&SqlError::of(&report).kind());
                error.code = report.sql_error_code();
                Err(error.into_report()).unwrap_or_report()
            }
            error => error.rethrow(),
        })
        .execute()
}

/// Runs `work`, and returns the server's errors as ours. The transaction must be aborted after one.
pub(super) fn caught<T>(work: impl FnOnce() -> SqlResult<T>) -> SqlResult<T> {
    PgTryBuilder::new(AssertUnwindSafe(work)).catch_others(|error| Err(of(error))).execute()
}

/// The first two characters of an SQLSTATE, as the server packs them.
fn class(code: PgSqlErrorCode) -> i32 {
    code as i32 & 0xFFF
}

/// Whether an error is about the state of the server or the transaction.
pub(super) fn is_transient_code(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    let passing = [
        ERRCODE_TRANSACTION_ROLLBACK,
        ERRCODE_INSUFFICIENT_RESOURCES,
        ERRCODE_OPERATOR_INTERVENTION,
        ERRCODE_SYSTEM_ERROR,
    ];
    passing.into_iter().any(|passing| class(passing) == class(code))
}

/// The message and the SQLSTATE of an error, in one line.
pub(super) fn cause(error: &CaughtError) -> String {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    SqlError::of(report).cause()
}

fn of(error: CaughtError) -> Box<SqlError> {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => SqlError::of(&report),
        panic => panic.rethrow(),
    }
}

/// Converts a result into the form that the function manager's glue raises.
pub(super) fn reported<T>(outcome: SqlResult<T>) -> Result<T, ErrorReport> {
    outcome.map_err(|error| error.into_report())
}

impl From<RuleError> for Box<SqlError> {
    fn from(error: RuleError) -> Self {
        let code = match error.kind() {
            RuleErrorKind::UndefinedColumn => PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            RuleErrorKind::DuplicateColumn => PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
            RuleErrorKind::InvalidParameter => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            RuleErrorKind::NullNotAllowed => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            RuleErrorKind::ReservedName => PgSqlErrorCode::ERRCODE_RESERVED_NAME,
            RuleErrorKind::InvalidName => PgSqlErrorCode::ERRCODE_INVALID_NAME,
        };
        Box::new(SqlError {
            code,
            message: error.to_string(),
            detail: None,
            hint: Some(error.hint()),
            is_ours: true,
        })
    }
}

impl From<spi::Error> for Box<SqlError> {
    fn from(error: spi::Error) -> Self {
        Box::new(SqlError {
            code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            message: format!("audit_algolia could not read its own tables: {error}"),
            detail: None,
            hint: Some("Check that the library and the extension have the same version: ALTER EXTENSION audit_algolia UPDATE.".to_owned()),
            is_ours: true,
        })
    }
}
