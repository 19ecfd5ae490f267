//! Problems of the worker itself, as the server's log shows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::intervals::LOG_EVERY;
use crate::pg::clock::now;
use crate::shared_state::Micros;

/// What went wrong, and how to fix it.
pub(super) struct Problem {
    code: PgSqlErrorCode,
    reason: String,
    hint: &'static str,
}

impl Problem {
    pub(super) fn no_memory(reason: &str) -> Problem {
        Problem {
            code: PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            reason: reason.to_owned(),
            hint: "Give the server more memory, or lower audit_algolia.batch_bytes. It is tried again.",
        }
    }

    pub(super) fn damage(reason: &str) -> Problem {
        Problem {
            code: PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            reason: reason.to_owned(),
            hint: "Restore or delete the damaged rows of audit_algolia.queue. They are tried again.",
        }
    }

    pub(super) fn limit(reason: &str) -> Problem {
        Problem {
            code: PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            reason: reason.to_owned(),
            hint: "Reduce the number of indices, over all databases of the server.",
        }
    }
}

impl From<&spi::Error> for Problem {
    fn from(error: &spi::Error) -> Problem {
        Problem {
            code: PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            reason: error.to_string(),
            hint: "Check that the library and the extension have the same version: ALTER EXTENSION audit_algolia UPDATE.",
        }
    }
}

impl From<&io::Error> for Problem {
    fn from(error: &io::Error) -> Problem {
        Problem {
            code: PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            reason: error.to_string(),
            hint: "Raise the limits on threads and open files of the server's user, or lower audit_algolia.in_flight.",
        }
    }
}

/// Logs a problem of our own, and the same one again only after a while.
pub(super) fn log_problem(what: &'static str, cause: impl Into<Problem>) {
    thread_local! {
        static SAID: RefCell<HashMap<&'static str, Micros>> = RefCell::default();
    }
    let now = now();
    let is_news = SAID.with_borrow_mut(|said| {
        let is_news = said.get(what).is_none_or(|at| now.saturating_sub(*at) >= LOG_EVERY);
        if is_news {
            said.insert(what, now);
        }
        is_news
    });
    if is_news {
        let Problem { code, reason, hint } = cause.into();
        ErrorReport::new(code, format!("{what}: {reason}"), "audit_algolia worker")
            .set_hint(hint)
            .report(PgLogLevel::WARNING);
    }
}
