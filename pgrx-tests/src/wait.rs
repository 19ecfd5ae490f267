//! Waiting in tests, only here: for a condition, with a deadline and a name for what is awaited.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a random run waits before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `predicate` holds, and panics with `what` and the time waited at the deadline.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut predicate: impl FnMut() -> bool) {
    eventually(what, deadline, || predicate().then_some(()));
}

/// Waits until `attempt` has a value and returns it; panics like [`wait_until`].
#[track_caller]
#[allow(clippy::panic, reason = "a condition that never holds is a failed test")]
pub fn eventually<T>(what: &str, deadline: Duration, attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    match poll(deadline, attempt) {
        Some(value) => value,
        None => panic!("{what}: not after {:.1} s", started.elapsed().as_secs_f64()),
    }
}

/// Checks `predicate` for a while, and panics with `what` as soon as it is false.
#[track_caller]
#[allow(clippy::panic, reason = "a condition that breaks is a failed test")]
pub fn stays_true(what: &str, length: Duration, mut predicate: impl FnMut() -> bool) {
    let started = Instant::now();
    if poll(length, || (!predicate()).then_some(())).is_some() {
        panic!("{what}: no longer after {:.1} s", started.elapsed().as_secs_f64());
    }
}

/// Calls `attempt` until it returns a value; `None` at the deadline.
pub(crate) fn poll<T>(deadline: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_as_soon_as_the_condition_holds() {
        let mut left = 3;
        wait_until("three attempts", Duration::from_secs(5), || {
            left -= 1;
            left == 0
        });
        assert_eq!(eventually("a value", Duration::ZERO, || Some(7)), 7);
    }

    #[test]
    fn notices_that_something_does_not_stay_true() {
        stays_true("the truth", Duration::from_millis(1), || true);
        let mut left = 3;
        let failing = std::panic::AssertUnwindSafe(|| {
            stays_true("the last moment", Duration::from_secs(5), || {
                left -= 1;
                left > 0
            });
        });
        assert!(std::panic::catch_unwind(failing).is_err());
    }

    #[test]
    fn names_what_it_waited_for() {
        let caught = std::panic::catch_unwind(|| wait_until("the impossible", Duration::ZERO, || false));
        let message = caught.unwrap_err().downcast::<String>().unwrap();
        assert!(message.starts_with("the impossible: not after"), "{message}");
    }
}
