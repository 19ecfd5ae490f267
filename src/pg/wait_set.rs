//! What a process waits for again and again. The kernel is told once: telling it each time costs ten system calls a wait.

use std::os::fd::RawFd;

use pgrx::pg_sys;

/// Waits for the latch, the postmaster's death and a descriptor.
pub(super) struct WaitSet {
    set: *mut pg_sys::WaitEventSet,
    fd: Option<RawFd>,
}

impl WaitSet {
    /// A set with this process's latch, and the descriptor if there is one.
    pub(super) fn new(fd: Option<RawFd>) -> WaitSet {
        const MOST: i32 = 3;
        // SAFETY: the set lives until it is freed, and MyLatch as long as the process. The descriptor belongs to the
        // caller's sender pool, which outlives the set's use; see `wait`.
        let set = unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let set = pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, MOST);
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            let set = pg_sys::CreateWaitEventSet(std::ptr::null_mut(), MOST);
            let add =
                |events, fd, latch| pg_sys::AddWaitEventToSet(set, events, fd, latch, std::ptr::null_mut());
            let (none, nobody) = (pg_sys::PGINVALID_SOCKET, std::ptr::null_mut());
            add(pg_sys::WL_LATCH_SET, none, pg_sys::MyLatch);
            add(pg_sys::WL_EXIT_ON_PM_DEATH, none, nobody);
            if let Some(fd) = fd {
                add(pg_sys::WL_SOCKET_READABLE, fd, nobody);
            }
            set
        };
        WaitSet { set, fd }
    }

    /// Whether it includes this descriptor, and no other.
    pub(super) fn is_for(&self, fd: Option<RawFd>) -> bool {
        self.fd == fd
    }

    /// Waits. Returns whether the time has passed (negative: never).
    pub(super) fn wait(&self, timeout_ms: i64) -> bool {
        let mut event = pg_sys::WaitEvent::default();
        // SAFETY: the set exists until it is dropped. There is room for one event.
        let events = unsafe {
            pg_sys::WaitEventSetWait(self.set, timeout_ms, &mut event, 1, pg_sys::PG_WAIT_EXTENSION)
        };
        events == 0
    }
}

impl Drop for WaitSet {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it, and it is not used any more.
        unsafe { pg_sys::FreeWaitEventSet(self.set) };
    }
}
