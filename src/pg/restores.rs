//! Sessions that copy rows into the extension's own tables, as restoring a dump does.
//!
//! The copied rows may be about tables that are not restored yet: history to be read, changes to be looked up again. So
//! that work starts only after such sessions have ended. Each holds a lock that says so, and nobody waits for it.

use pgrx::pg_sys;

use super::databases::my_database;

/// A lock tag that nothing else uses: the invalid extension, with a sub-id.
fn tag() -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: my_database(),
        locktag_field2: pg_sys::ExtensionRelationId.to_u32(),
        locktag_field3: 0,
        locktag_field4: u16::MAX,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        // Locks of this method may outlive a transaction, whether it succeeds or fails. They end with the session.
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Notes until its end that this session has copied rows into the tables.
pub(super) fn begin() {
    let tag = tag();
    // SAFETY: a session-level lock that several sessions can hold at once. Whoever checks for it releases its own at
    // once.
    unsafe { pg_sys::LockAcquire(&raw const tag, pg_sys::ShareLock as i32, true, false) };
}

/// Whether there is such a session in this database.
pub(super) fn is_under_way() -> bool {
    let (tag, lock) = (tag(), pg_sys::ExclusiveLock as i32);
    // SAFETY: a lock that is not waited for, inside a transaction, and released at once.
    unsafe {
        let acquired = pg_sys::LockAcquire(&raw const tag, lock, false, true);
        if acquired == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&raw const tag, lock, false);
        false
    }
}
