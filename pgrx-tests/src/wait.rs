//! Waiting in tests: poll until something holds, up to a deadline.

use std::time::{Duration, Instant};

/// Polls `predicate` every 5 ms until it holds; fails the test with `what` at the deadline.
#[allow(
    clippy::panic,
    reason = "a test helper: a missed deadline is the test's failure"
)]
pub fn wait_until(what: &str, deadline: Duration, mut predicate: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !predicate() {
        if Instant::now() >= end {
            panic!("not within {deadline:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
