//! Turns Ctrl-C and SIGTERM into an error, so that a command drops what it has started.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{signal, SigHandler, Signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// The command was interrupted.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

extern "C" fn note(_signal: i32) {
    ASKED.store(true, Ordering::Relaxed);
}

/// From now on, a signal is recorded and does not end the process.
pub(crate) fn watch() -> Result<()> {
    for one in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which a signal handler may do.
        unsafe { signal(one, SigHandler::Handler(note)) }.context("signals cannot be watched")?;
    }
    Ok(())
}

/// Returns an error once a signal has been received.
pub(crate) fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        return Err(Interrupted.into());
    }
    Ok(())
}
