//! Ctrl-C and SIGTERM as an error, so that a command ends by dropping what it has started.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{signal, SigHandler, Signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Somebody wants the command to end.
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

/// From now on a signal is noted and no longer ends the process.
pub(crate) fn watch() -> Result<()> {
    for one in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is allowed in a signal handler.
        unsafe { signal(one, SigHandler::Handler(note)) }.context("signals cannot be watched")?;
    }
    Ok(())
}

/// An error once a signal has come.
pub(crate) fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        return Err(Interrupted.into());
    }
    Ok(())
}
