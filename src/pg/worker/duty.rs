//! Whether a worker still has an extension to serve.

use pgrx::pg_sys;

use crate::pg::process::in_transaction;
use crate::pg::shmem;
use crate::shared_state::Duty;

/// Looks which extension the database has, and tells the others. `false`: there is none, or another than the one this
/// worker has served, and the worker has to leave.
pub(super) fn is_on_duty(slot: usize) -> bool {
    loop {
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.look(slot);
        }
        let found = in_transaction(|| {
            // SAFETY: a look-up in the catalogs, inside a transaction.
            Ok::<_, ()>(unsafe { pg_sys::get_extension_oid(c"audit_algolia".as_ptr(), true) })
        });
        let Some((duty, latches)) = shmem::shared_state().map(|mut shared_state| {
            shared_state.note_extension(slot, found.unwrap_or(pg_sys::InvalidOid).to_u32())
        }) else {
            return false;
        };
        shmem::wake(latches);
        match duty {
            Duty::LookAgain => {
                pgrx::check_for_interrupts!();
            }
            Duty::Serve => return true,
            Duty::Leave => return false,
        }
    }
}
