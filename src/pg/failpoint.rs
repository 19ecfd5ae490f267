//! Points at which a test makes a process fail. Only the feature `failpoints` has them, which no release is built with.
//!
//! A file `audit_algolia.failpoint` in the data folder names a point and what happens there: `kill`, `stop` or `error`. Whoever
//! gets there first removes the file, so that each order is carried out once.

/// The process has come to a point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(super) fn reach(_point: &str) {}

/// The process has come to a point.
#[cfg(feature = "failpoints")]
pub(super) fn reach(point: &str) {
    use nix::sys::signal::{kill, Signal};
    use nix::unistd::Pid;
    use pgrx::prelude::*;

    // The data folder is every process's working directory.
    const FILE: &str = "audit_algolia.failpoint";
    let Ok(order) = std::fs::read_to_string(FILE) else { return };
    let Some(action) = order.strip_prefix(point).and_then(|rest| rest.strip_prefix(' ')) else { return };
    if std::fs::remove_file(FILE).is_err() {
        return;
    }
    let signal = match action.trim() {
        "kill" => Some(Signal::SIGKILL),
        // Whoever gave the order has it go on.
        "stop" => Some(Signal::SIGSTOP),
        _ => None,
    };
    if let Some(signal) = signal {
        let _ = kill(Pid::this(), signal);
        return;
    }
    ereport!(
        PgLogLevel::ERROR,
        PgSqlErrorCode::ERRCODE_DISK_FULL,
        format!("could not extend a file at failpoint {point}: No space left on device")
    );
}
