//! Shared state in shared memory, behind a lightweight lock; and beside it what is used without one.
//!
//! The memory is requested while the postmaster preloads the library. If the library is not preloaded there is no
//! shared state, and every caller gets `None`: capture works without it, delivery does not.

use std::mem::size_of;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, Ordering};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::flight_recorder;
use crate::shared_state::{Announcements, IdReserves, LatchSet, SharedState};

const NAME: &std::ffi::CStr = c"audit_algolia";

/// What our piece of shared memory consists of.
#[repr(C)]
struct Shared {
    lock: *mut pg_sys::LWLock,
    announcements: Announcements,
    reserves: IdReserves,
    state: SharedState,
}

/// Set once in the postmaster and inherited by every process it forks.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());

/// Asks for the memory. Call it from `_PG_init` while libraries are preloaded.
pub(super) fn request() {
    // SAFETY: hooks are plain globals of the postmaster, which loads libraries single-threaded.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(on_request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    // SAFETY: the hook before ours is called as the server would have called it; we are in the request hook, where the
    // server accepts requests for shared memory. The name outlives the server.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size_of::<Shared>());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    // SAFETY: the startup hook runs once in the postmaster (again after a crash, with fresh memory) before
    // any other process can attach. ShmemInitStruct hands out memory of the size asked for, aligned to a
    // cache line; all zeroes is valid and empty by the contract of each of its parts. The tranche has the one lock that
    // was asked for.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        let mut found = false;
        let shared: *mut Shared =
            pg_sys::ShmemInitStruct(NAME.as_ptr(), size_of::<Shared>(), &mut found).cast();
        if !found {
            std::ptr::write_bytes(shared, 0, 1);
            (*shared).lock = &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock;
            flight_recorder::report_suspects(&mut (*shared).state);
        }
        SHARED.store(shared, Ordering::Release);
    }
}

/// Whether the library was preloaded, so that there is shared state and workers can run.
pub(super) fn is_preloaded() -> bool {
    !SHARED.load(Ordering::Acquire).is_null()
}

/// What transactions about to commit announce; `None` when the library was not preloaded.
pub(super) fn announcements() -> Option<&'static Announcements> {
    let shared = SHARED.load(Ordering::Acquire);
    // SAFETY: set by on_startup; shared memory outlives the process. It consists of atomics, which need no lock.
    (!shared.is_null()).then(|| unsafe { &(*shared).announcements })
}

/// The ids that databases have in reserve; `None` when the library was not preloaded.
pub(super) fn reserves() -> Option<&'static IdReserves> {
    let shared = SHARED.load(Ordering::Acquire);
    // SAFETY: as above.
    (!shared.is_null()).then(|| unsafe { &(*shared).reserves })
}

/// Shared state, locked for this process alone.
pub(super) struct Locked {
    shared: *mut Shared,
    /// Whom to wake, once it is let go of, for the commits of others that were published.
    latches: Option<LatchSet>,
}

/// Locks shared state; `None` when the library was not preloaded. Hold it briefly: who commits waits for it, or relies on
/// its being let go of.
pub(super) fn shared_state() -> Option<Locked> {
    let shared = SHARED.load(Ordering::Acquire);
    if shared.is_null() {
        return None;
    }
    // SAFETY: the pointer was set by on_startup and the lock initialised there; LWLockAcquire waits
    // without raising errors and holds interrupts off until the lock is released.
    unsafe { pg_sys::LWLockAcquire((*shared).lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
    // SAFETY: it is locked.
    let latches = unsafe { publish_pending_in(shared) };
    Some(Locked { shared, latches })
}

/// Publishes the commits that are pending, unless somebody has shared state locked, who will see to it.
pub(super) fn publish_pending() {
    let shared = SHARED.load(Ordering::Acquire);
    while announcements().is_some_and(Announcements::has_pending) {
        let lock = |shared: *mut Shared| {
            // SAFETY: as in `shared_state`; this one does not wait.
            unsafe { pg_sys::LWLockConditionalAcquire((*shared).lock, pg_sys::LWLockMode::LW_EXCLUSIVE) }
        };
        if !lock(shared) {
            return;
        }
        // SAFETY: it is locked, and nothing raises an error before it is released.
        unsafe {
            let latches = publish_pending_in(shared);
            pg_sys::LWLockRelease((*shared).lock);
            wake(latches.unwrap_or_default());
        }
    }
}

/// # Safety
/// The caller has shared state locked.
unsafe fn publish_pending_in(shared: *mut Shared) -> Option<LatchSet> {
    // SAFETY: the caller guarantees this; shared memory outlives the process.
    unsafe { (*shared).state.publish_pending(&(*shared).announcements) }
}

impl Locked {
    /// What transactions about to commit have announced.
    pub(super) fn announcements(&self) -> &'static Announcements {
        // SAFETY: as of the function of that name.
        unsafe { &(*self.shared).announcements }
    }
}

impl Deref for Locked {
    type Target = SharedState;

    fn deref(&self) -> &SharedState {
        // SAFETY: we hold the lock, and shared memory outlives the process.
        unsafe { &(*self.shared).state }
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut SharedState {
        // SAFETY: we hold the lock exclusively, and shared memory outlives the process.
        unsafe { &mut (*self.shared).state }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: an ERROR resets InterruptHoldoffCount, and all lightweight locks are released when the transaction
        // aborts, or by `release_locks` when there is none: so the lock is ours to release exactly when the count says that
        // interrupts are still held off.
        unsafe {
            if pg_sys::InterruptHoldoffCount > 0 {
                pg_sys::LWLockRelease((*self.shared).lock);
            }
        }
        if let Some(latches) = self.latches.take() {
            wake(latches);
        }
        // Whoever has committed meanwhile relies on us.
        publish_pending();
    }
}

/// Releases what an error has left locked. The first thing that an exit callback of ours does: outside of a transaction
/// nobody has done it before, and shared state would be waited for in vain.
pub(super) fn release_locks() {
    // SAFETY: what the server does when it recovers from an error; harmless when nothing is locked.
    unsafe { pg_sys::LWLockReleaseAll() };
    // Whoever has committed meanwhile relied on us.
    publish_pending();
}

/// Changes shared state, and then wakes whom that concerns. Nothing happens when the library was not preloaded.
pub(super) fn change_and_wake(change: impl FnOnce(&mut SharedState) -> LatchSet) {
    let latches = shared_state().map(|mut shared_state| change(&mut shared_state));
    wake(latches.unwrap_or_default());
}

/// Sets the latches of the processes to wake. Call it without holding shared state.
pub(super) fn wake(latches: LatchSet) {
    for address in latches.iter() {
        // SAFETY: the address was stored by a process of this server as that of its own latch, which lies in
        // the shared array of processes, at the same address everywhere and never unmapped. A latch that has
        // changed hands since is woken for nothing, which latches allow.
        unsafe { pg_sys::SetLatch(address as *mut pg_sys::Latch) };
    }
}

/// The address of this process's latch, for others to set.
pub(super) fn my_latch() -> u64 {
    // SAFETY: MyLatch is set before any code of ours runs in a process.
    unsafe { pg_sys::MyLatch as u64 }
}
