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
/// Where this process notes that it has been told to go.
static WAS_STOPPED: AtomicPtr<AtomicBool> = AtomicPtr::new(null_mut());

// SAFETY: declared as in the server's headers.
unsafe extern "C-unwind" {
    fn SignalHandlerForCrashExit(signal: std::ffi::c_int);
}

/// Asks for the memory. Call it from `_PG_init` while libraries are preloaded. Without it nothing is suspected.
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

/// The server begins, for the first time or after a crash: tells shared state what is suspected. To be called by the
/// postmaster, which has no other process then.
pub(super) fn report_suspects(shared_state: &mut SharedState) {
    // SAFETY: the memory is as large as a recorder and stays; nobody else uses it now.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.take_crash_suspects().into_iter().for_each(|record| shared_state.suspect_crash(record));
    }
}

/// A worker begins in this slot. Should the postmaster tell it to go, since another process has crashed, that is noted.
pub(super) fn begin(slot: usize) {
    end(slot);
    let recorder = RECORDER.load(Ordering::Acquire);
    if recorder.is_null() {
        return;
    }
    // SAFETY: as above. Whether a worker was told to go is for itself alone to note, by a handler that stores a value in
    // memory that stays, and then does what the server's own does; until the handler is there, that is the server's own.
    unsafe {
        if let Some(was_stopped) = (*recorder).was_stopped.get(slot) {
            was_stopped.store(false, Ordering::Relaxed);
            WAS_STOPPED.store(std::ptr::from_ref(was_stopped).cast_mut(), Ordering::Release);
            super::process::install(pg_sys::SIGQUIT as i32, on_quit);
            notice_abort();
        }
    }
}

/// With `send_abort_for_crash` (from PostgreSQL 16 on) the postmaster tells workers to go by the signal they would end by if
/// they failed an assertion.
fn notice_abort() {
    // SAFETY: all zeroes is a valid action, whose handler gets what it is declared with. The server has none for this
    // signal. Once it has been called the signal does again what it does by default.
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = on_abort as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_RESETHAND;
        sigaction(SIGABRT, &raw const action, null_mut());
    }
}

/// Ends the process as the signal does by default, with a note if it is the postmaster that wants it.
unsafe extern "C" fn on_abort(
    signal: std::ffi::c_int,
    about: *mut siginfo_t,
    _context: *mut std::ffi::c_void,
) {
    // SAFETY: the kernel's description of the signal; null, or the place of a value in memory that stays. The process is ended
    // when the handler returns, for until then the signal is blocked.
    unsafe {
        if (*about).si_pid() == pg_sys::PostmasterPid {
            if let Some(was_stopped) = WAS_STOPPED.load(Ordering::Acquire).as_ref() {
                was_stopped.store(true, Ordering::Relaxed);
            }
        }
        raise(signal);
    }
}

/// The server's handler of SIGQUIT, and a note of it.
unsafe extern "C-unwind" fn on_quit(signal: std::ffi::c_int) {
    // SAFETY: null, or the place of a value in memory that stays. The handler of the server's is called as it would be.
    unsafe {
        if let Some(was_stopped) = WAS_STOPPED.load(Ordering::Acquire).as_ref() {
            was_stopped.store(true, Ordering::Relaxed);
        }
        SignalHandlerForCrashExit(signal)
    }
}

/// A batch of this worker's is on its way.
pub(super) fn enter(slot: usize, flight: usize, record: FlightRecord) {
    // SAFETY: as above; of the traces, those of a slot are changed by its worker alone.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.records.enter(slot, flight, record);
    }
}

/// It is back.
pub(super) fn leave(slot: usize, flight: usize) {
    // SAFETY: as above.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.records.leave(slot, flight);
    }
}

/// The worker ends in order, or begins.
pub(super) fn end(slot: usize) {
    // SAFETY: as above.
    if let Some(recorder) = unsafe { RECORDER.load(Ordering::Acquire).as_mut() } {
        recorder.records.clear(slot);
    }
}
