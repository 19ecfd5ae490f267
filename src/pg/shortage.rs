//! What the launcher has too little of, such as process slots: logged once, with the remedy.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::shmem;
use crate::shared_state::Micros;

pub(super) const MORE_PROCESSES: &str =
    "Raise max_worker_processes, or lower audit_algolia.workers. It is tried again every 10 s.";
pub(super) const FEWER_WORKERS: &str =
    "Lower audit_algolia.workers, or name fewer databases in audit_algolia.databases. It is tried again every 10 s.";

/// A lack of some resource. It is logged once until it is over.
#[derive(Default)]
pub(super) struct Shortage {
    is_logged: bool,
    /// It has occurred in this round.
    met: bool,
}

impl Shortage {
    pub(super) fn log_once(&mut self, message: &str, database: &str, hint: &str) {
        self.met = true;
        if !std::mem::replace(&mut self.is_logged, true) {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
                format!("{message}; rows of database \"{database}\" wait"),
                "audit_algolia launcher",
            )
            .set_hint(hint)
            .report(PgLogLevel::WARNING);
        }
    }

    /// If it has not occurred in this round, it is over.
    pub(super) fn end_round(&mut self) {
        self.is_logged = std::mem::take(&mut self.met);
    }
}

/// Records why a database has no worker at all. If it has some, the lack of more is no problem of its rows.
pub(super) fn note_trouble(database: u32, message: &str, hint: &str, now: Micros) {
    if let Some(mut shared_state) = shmem::shared_state() {
        if shared_state.running_workers(database) == 0 {
            shared_state.note_trouble(database, &format!("{message}. {hint}"), now);
        }
    }
}
