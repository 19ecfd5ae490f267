//! Replaces triggers that became outdated while others were writing to their tables, as soon as nobody does.

use pgrx::prelude::*;

use super::transaction::transact;
use crate::pg::api::replace_outdated_triggers;
use crate::pg::clock::now;
use crate::pg::locks::try_lock_named;
use crate::pg::owner::{as_user, extension_objects};
use crate::pg::report::SqlResult;
use crate::pg::restores;
use crate::pg::worker::is_of_our_version;
use crate::shared_state::Micros;

/// The pause before checking again whether somebody writes to a table, at first and at last.
const BUSY: Micros = 200_000;
const LONGEST_BUSY: Micros = 12_800_000;
/// After this many checks, about a minute and a half, it gives up until the next request. Workers request it every ten
/// minutes.
const LOOKS: u32 = 12;

/// The outdated triggers of a database.
#[derive(Default)]
pub(super) struct OutdatedTriggers {
    /// Nothing is done before this time.
    due: Micros,
    looks: u32,
}

impl OutdatedTriggers {
    /// Starts again, because there may be new ones.
    pub(super) fn look(&mut self) {
        *self = OutdatedTriggers::default();
    }

    /// Replaces triggers if it is time. Returns when to check again; `None` if nothing is left to do.
    pub(super) fn round(&mut self) -> Option<Micros> {
        if self.due <= now() {
            self.looks = self.looks.saturating_add(1);
            self.due = match transact(replace) {
                Ok(false) if self.looks < LOOKS => {
                    now() + (BUSY << (self.looks - 1).min(6)).min(LONGEST_BUSY)
                }
                Ok(_) => Micros::MAX,
                Err(error) => {
                    if is_of_our_version() && !error.is_transient() {
                        ereport!(
                            PgLogLevel::WARNING,
                            error.code(),
                            format!(
                                "audit_algolia could not replace outdated triggers: {}",
                                error.redacted_summary()
                            )
                        );
                    }
                    Micros::MAX
                }
            };
        }
        Some(self.due).filter(|due| *due != Micros::MAX)
    }
}

/// Replaces triggers. Returns whether all have been replaced.
fn replace() -> SqlResult<bool> {
    if restores::is_under_way() || try_lock_named(c"source", pg_sys::AccessShareLock).is_none() {
        return Ok(false);
    }
    as_user(extension_objects()?.owner, replace_outdated_triggers)
}
