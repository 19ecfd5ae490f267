//! Checks whether a worker still has an extension to serve.

use pgrx::pg_sys;

use crate::pg::process::in_transaction;
use crate::pg::shmem;
use crate::shared_state::ExtensionCheck;

/// Looks for the extension in the database and tells shared state. `false`: it is gone, or another one than this worker
/// has served, and the worker must leave.
pub(super) fn still_has_extension(slot: usize) -> bool {
    loop {
        if let Some(mut shared_state) = shmem::shared_state() {
            shared_state.begin_extension_check(slot);
        }
        let found = in_transaction(|| {
            // SAFETY: a look-up in the catalogs, inside a transaction.
            Ok::<_, ()>(unsafe { pg_sys::get_extension_oid(c"audit_algolia".as_ptr(), true) })
        });
        let Some((check, latches)) = shmem::shared_state().map(|mut shared_state| {
            shared_state.finish_extension_check(slot, found.unwrap_or(pg_sys::InvalidOid).to_u32())
        }) else {
            return false;
        };
        shmem::wake(latches);
        match check {
            ExtensionCheck::LookAgain => {
                pgrx::check_for_interrupts!();
            }
            ExtensionCheck::Serve => return true,
            ExtensionCheck::Leave => return false,
        }
    }
}
