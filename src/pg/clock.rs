//! The server's clock.

use pgrx::pg_sys;

use crate::shared_state::Micros;

/// The current time.
pub(super) fn now() -> Micros {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}
