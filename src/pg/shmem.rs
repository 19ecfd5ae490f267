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

/// The extension's shared memory.
#[repr(C)]
struct Shared {
    lock: *mut pg_sys::LWLock,
    announcements: Announcements,
    reserves: IdReserves,
    state: SharedState,
}

/// Set once in the postmaster and inherited by every process it forks.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(std::ptr::null_mut());

/// Requests the memory. Call it from `_PG_init` while libraries are preloaded.
pub(super) fn request() {
    // SAFETY: hooks are global variables of the postmaster, which is single-threaded while it loads libraries.
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
    // SAFETY: the previous hook is called as the server would have called it. In the request hook, the server accepts
    // requests for shared memory. The name outlives the server.
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
    // SAFETY: the startup hook runs once in the postmaster (again after a crash, with fresh memory) before any other
    // process can attach. ShmemInitStruct returns memory of the requested size, aligned to a cache line. All zeroes is
    // valid and empty by the contract of each part. The tranche has the one lock that was requested.
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

/// The announcements of transactions; `None` if the library was not preloaded.
pub(super) fn announcements() -> Option<&'static Announcements> {
    let shared = SHARED.load(Ordering::Acquire);
    // SAFETY: set by on_startup. Shared memory outlives the process. The announcements consist of atomics, which need
    // no lock.
    (!shared.is_null()).then(|| unsafe { &(*shared).announcements })
}

/// The reserves of ids; `None` if the library was not preloaded.
pub(super) fn reserves() -> Option<&'static IdReserves> {
    let shared = SHARED.load(Ordering::Acquire);
    // SAFETY: as above.
    (!shared.is_null()).then(|| unsafe { &(*shared).reserves })
}

/// Shared state, locked exclusively.
pub(super) struct Locked {
    shared: *mut Shared,
    /// The latches to set after unlocking, for the commits of others that were published.
    latches: Option<LatchSet>,
}

/// Locks shared state; `None` if the library was not preloaded. Hold the lock briefly: committing transactions wait for
/// it or rely on its release.
pub(super) fn shared_state() -> Option<Locked> {
    let shared = SHARED.load(Ordering::Acquire);
    if shared.is_null() {
        return None;
    }
    // SAFETY: on_startup has set the pointer and initialised the lock. LWLockAcquire waits without raising errors, and
    // interrupts are held off until the lock is released.
    unsafe { pg_sys::LWLockAcquire((*shared).lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
    // SAFETY: it is locked.
    let latches = unsafe { publish_pending_in(shared) };
    Some(Locked { shared, latches })
}

/// Publishes pending commits, unless another process has locked shared state and will do so.
pub(super) fn publish_pending() {
    let shared = SHARED.load(Ordering::Acquire);
    while announcements().is_some_and(Announcements::has_pending) {
        let lock = |shared: *mut Shared| {
            // SAFETY: as in `shared_state`, but without waiting.
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
    /// The announcements of transactions.
    pub(super) fn announcements(&self) -> &'static Announcements {
        // SAFETY: as in the function of that name.
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
        // SAFETY: an ERROR resets InterruptHoldoffCount. All lightweight locks are released when the transaction
        // aborts, or by `release_locks` if there is none. So we must release the lock exactly if interrupts are still
        // held off.
        unsafe {
            if pg_sys::InterruptHoldoffCount > 0 {
                pg_sys::LWLockRelease((*self.shared).lock);
            }
        }
        if let Some(latches) = self.latches.take() {
            wake(latches);
        }
        // Transactions that have committed meanwhile rely on this.
        publish_pending();
    }
}

/// Releases locks that an error has left. Our exit callbacks call this first: outside of a transaction nobody else has
/// done it, and waiting for shared state would never end.
pub(super) fn release_locks() {
    // SAFETY: the server does this when it recovers from an error. It does nothing if nothing is locked.
    unsafe { pg_sys::LWLockReleaseAll() };
    // Transactions that have committed meanwhile rely on this.
    publish_pending();
}

/// Changes shared state, and then sets the latches that `change` returns. Does nothing if the library was not
/// preloaded.
pub(super) fn change_and_wake(change: impl FnOnce(&mut SharedState) -> LatchSet) {
    let latches = shared_state().map(|mut shared_state| change(&mut shared_state));
    wake(latches.unwrap_or_default());
}

/// Sets latches. Call it without holding shared state.
pub(super) fn wake(latches: LatchSet) {
    for address in latches.iter() {
        // SAFETY: the address was stored by a process of this server as that of its own latch. Latches lie in the
        // shared array of processes, which has the same address everywhere and is never unmapped. If the latch has
        // another owner by now, that one is woken needlessly, which is allowed.
        unsafe { pg_sys::SetLatch(address as *mut pg_sys::Latch) };
    }
}

/// The address of this process's latch, for others to set.
pub(super) fn my_latch() -> u64 {
    // SAFETY: MyLatch is set before any code of ours runs in a process.
    unsafe { pg_sys::MyLatch as u64 }
}
