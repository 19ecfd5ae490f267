//! Asks Algolia with a sink and a sender of the session's own, which last as long as the call.
//!
//! The sender is a thread that does not use PostgreSQL and takes no signals. Meanwhile the session waits on its latch,
//! so it can be cancelled at once, and the request under way is aborted. If the session is terminated, nothing is
//! unwound; its threads end with the process.

use std::cell::RefCell;
use std::sync::Arc;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::delivery::http::HttpClient;
use crate::delivery::question::{AskError, AskErrorKind, AskResult, Question};
use crate::delivery::sender_pool::{AskJob, SenderPool};
use crate::delivery::sink::Sink;
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::{guc, process, shmem};

/// Requests are sent one after the other.
const AT_A_TIME: usize = 1;

/// A session's connection to Algolia.
pub(in crate::pg::api::reconcile) struct AlgoliaClient {
    sink: Arc<Sink<HttpClient>>,
    senders: RefCell<SenderPool<AskJob<HttpClient>>>,
}

impl Drop for AlgoliaClient {
    fn drop(&mut self) {
        self.sink.shutdown();
    }
}

impl AlgoliaClient {
    /// Uses the current settings.
    pub(in crate::pg::api::reconcile) fn open() -> SqlResult<AlgoliaClient> {
        if !shmem::is_preloaded() {
            return Err(cannot_tell(
                "audit_algolia is not preloaded, so what has been delivered is not known",
                "Add audit_algolia to shared_preload_libraries in postgresql.conf and restart the server.",
            ));
        }
        // SAFETY: reads the state of the server.
        if unsafe { pg_sys::RecoveryInProgress() } {
            return Err(cannot_tell(
                "this server is a standby, whose tables may be older than the index",
                "Call the function on the primary.",
            ));
        }
        if !guc::is_configured() {
            return Err(cannot_tell(
                "audit_algolia is not configured",
                "Set audit_algolia.application_id and audit_algolia.api_key (or api_key_file), and reload the configuration.",
            ));
        }
        let settings = guc::delivery();
        let sink = HttpClient::for_settings(&settings, AT_A_TIME)
            .and_then(|client| Sink::for_reading(settings, client, fastrand::u64(..)))
            .map_err(|error| {
                sql_error(
                    PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                    format!("audit_algolia cannot read from Algolia with these settings: {error}"),
                    "Correct the setting and reload the configuration.",
                )
            })?;
        process::share_one_arena();
        let senders = SenderPool::new().map_err(|error| {
            sql_error(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                format!("could not open a socket: {error}"),
                "Raise the server's limit for open files.",
            )
        })?;
        Ok(AlgoliaClient { sink: Arc::new(sink), senders: RefCell::new(senders) })
    }

    /// Where requests go, see [`Sink::destination`].
    pub(super) fn destination(&self) -> u64 {
        self.sink.destination()
    }

    /// Sends one request and waits for the answer, without retries.
    pub(super) fn ask(&self, question: Question) -> AskResult {
        let mut senders = self.senders.borrow_mut();
        senders.send(AskJob { question, sink: self.sink.clone() }).map_err(|error| {
            let reason = format!("could not start a thread: {error}");
            AskError { kind: AskErrorKind::Transient, reason, hint: String::new() }
        })?;
        loop {
            if let Some(reply) = senders.collect().pop() {
                return reply;
            }
            process::wait(Some(senders.bell()), -1);
        }
    }
}

fn cannot_tell(message: &str, hint: &str) -> Box<SqlError> {
    sql_error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message, hint)
}
