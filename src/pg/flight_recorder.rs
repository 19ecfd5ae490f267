//! The memory of the flight recorder. The postmaster maps it before it starts any process, and all processes share it.
//!
//! The server does not know of it. So, unlike the server's shared memory, it keeps its content when the postmaster
//! starts again after a crash.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::libc::{
    mmap, raise, sigaction, siginfo_t, MAP_ANONYMOUS, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE,
    SA_RESETHAND, SA_SIGINFO, SIGABRT,
};
use pgrx::pg_sys;

use crate::flight_recorder::{FlightRecord, FlightRecorder};
use crate::shared_state::SharedState;

/// Set once in the postmaster and inherited by every process it forks.
static RECORDER: AtomicPtr<FlightRecorder> = AtomicPtr::new(null_mut());
/// The place where this process records that it was told to stop.
static WAS_STOPPED: AtomicPtr<AtomicBool> = AtomicPtr::new(null_mut());

// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    fn SignalHandlerForCrashExit(signal: std::ffi::c_int);
}

/// Requests the memory. Call it from `_PG_init` while libraries are preloaded. Without this memory, nothing is ever
/// suspected.
pub(super) fn request() {
    // SAFETY: new memory of the recorder's size, for which all zeroes is valid.
    let memory = unsafe {
        let (access, kind) = (PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
        mmap(null_mut(), size_of::<FlightRecorder>(), access, kind, -1, 0)
    };
    if memory != MAP_FAILED {
        RECORDER.store(memory.cast(), Ordering::Release);
    }
}

/// Tells shared state the suspects when the server starts, for the first time or after a crash. Only the postmaster may
/// call it, while there are no other processes.
pub(super) fn report_suspects(shared_state: &mut SharedState) {
    // SAFETY: the memory is as large as a recorder and is never unmapped. Nobody else uses it now.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.take_crash_suspects().into_iter().for_each(|record| shared_state.suspect_crash(record));
    }
}

/// A worker starts in this slot. If the postmaster tells it to stop because another process has crashed, that will be
/// recorded.
pub(super) fn begin(slot: usize) {
    end(slot);
    let recorder = RECORDER.load(Ordering::Acquire);
    if recorder.is_null() {
        return;
    }
    // SAFETY: as above. Only the worker itself records that it was told to stop. Its handler stores a value in memory
    // that is never unmapped, and then does what the server's handler does, which is installed until ours is.
    unsafe {
        if let Some(was_stopped) = (*recorder).was_stopped.get(slot) {
            was_stopped.store(false, Ordering::Relaxed);
            WAS_STOPPED.store(std::ptr::from_ref(was_stopped).cast_mut(), Ordering::Release);
            super::process::install(pg_sys::SIGQUIT as i32, on_quit);
            notice_abort();
        }
    }
}

/// With `send_abort_for_crash` (PostgreSQL 16 and later), the postmaster stops workers by SIGABRT, which a failed
/// assertion raises as well.
fn notice_abort() {
    // SAFETY: all zeroes is a valid action. The handler has the declared signature, and the server has none for this
    // signal. After the first call the default action is restored.
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = on_abort as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_RESETHAND;
        sigaction(SIGABRT, &raw const action, null_mut());
    }
}

/// Ends the process as the signal's default action does. Records it if the postmaster sent the signal.
unsafe extern "C" fn on_abort(
    signal: std::ffi::c_int,
    about: *mut siginfo_t,
    _context: *mut std::ffi::c_void,
) {
    // SAFETY: the kernel passes a description of the signal. WAS_STOPPED is null or points to memory that is never
    // unmapped. The signal is blocked until the handler returns, and then ends the process.
    unsafe {
        if (*about).si_pid() == pg_sys::PostmasterPid {
            if let Some(was_stopped) = WAS_STOPPED.load(Ordering::Acquire).as_ref() {
                was_stopped.store(true, Ordering::Relaxed);
            }
        }
        raise(signal);
    }
}

/// Records the signal and calls the server's handler of SIGQUIT.
unsafe extern "C-unwind" fn on_quit(signal: std::ffi::c_int) {
    // SAFETY: WAS_STOPPED is null or points to memory that is never unmapped. The server's handler is called as it
    // would be.
    unsafe {
        if let Some(was_stopped) = WAS_STOPPED.load(Ordering::Acquire).as_ref() {
            was_stopped.store(true, Ordering::Relaxed);
        }
        SignalHandlerForCrashExit(signal)
    }
}

/// Records a batch of this worker as in flight.
pub(super) fn enter(slot: usize, flight: usize, record: FlightRecord) {
    // SAFETY: as above. Only the worker of a slot changes its records.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.records.enter(slot, flight, record);
    }
}

/// Records the end of a flight.
pub(super) fn leave(slot: usize, flight: usize) {
    // SAFETY: as above.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.records.leave(slot, flight);
    }
}

/// A worker starts, or ends normally.
pub(super) fn end(slot: usize) {
    // SAFETY: as above.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.records.clear(slot);
    }
}
