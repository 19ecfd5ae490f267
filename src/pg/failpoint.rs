//! Points at which a test makes a process fail. They exist only with the feature `failpoints`, which no release has.
//!
//! A file `audit_algolia.failpoint` in the data folder names a point and what happens there: `kill`, `stop` or `error`.
//! The first process that reaches the point removes the file, so each order is carried out once. The file can also say
//! that a long wait is over.

/// The working directory of every process is the data directory.
#[cfg(feature = "failpoints")]
const FILE: &str = "audit_algolia.failpoint";

/// Marks a point at which a test may make the process fail.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(super) fn reach(_point: &str) {}

/// Marks a point at which a test may make the process fail.
#[cfg(feature = "failpoints")]
pub(super) fn reach(point: &str) {
    use nix::sys::signal::{kill, Signal};
    use nix::unistd::Pid;
    use pgrx::prelude::*;

    let Some(action) = take_order(|order| order.strip_prefix(point)?.strip_prefix(' ').map(str::to_owned))
    else {
        return;
    };
    let signal = match action.trim() {
        "kill" => Some(Signal::SIGKILL),
        // The test lets it continue.
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

/// Marks a point at which a test may make the process abort if its data contains a certain text.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(super) fn carry(_point: &str, _what: &[u8]) {}

/// Marks a point at which a test may make the process abort if its data contains a certain text.
#[cfg(feature = "failpoints")]
pub(super) fn carry(point: &str, what: &[u8]) {
    let order = std::fs::read_to_string(FILE).unwrap_or_default();
    let text = order.strip_prefix(point).and_then(|rest| rest.trim().strip_suffix(" abort"));
    if let Some(text) = text.map(str::as_bytes).filter(|text| !text.is_empty()) {
        if what.windows(text.len()).any(|window| window == text) {
            std::process::abort();
        }
    }
}

/// Whether a test wants a long wait to be skipped.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(super) fn is_ordered(_order: &str) -> bool {
    false
}

/// Whether a test wants a long wait to be skipped.
#[cfg(feature = "failpoints")]
pub(super) fn is_ordered(order: &str) -> bool {
    take_order(|found| (found.trim() == order).then_some(())).is_some()
}

/// Takes the order from the file if `read` accepts it.
#[cfg(feature = "failpoints")]
fn take_order<T>(read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let order = read(&std::fs::read_to_string(FILE).ok()?)?;
    std::fs::remove_file(FILE).ok()?;
    Some(order)
}
