//! How the commands wait: they check a condition again and again until a deadline, and stop on Ctrl-C.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use crate::interrupt;

/// A short pause between checks, which costs little.
pub(crate) const OFTEN: Duration = Duration::from_millis(10);
/// A longer pause between checks, which does not disturb measurements.
pub(crate) const SELDOM: Duration = Duration::from_millis(100);

/// Calls `done` until it returns true, with a pause between calls, and returns how long that took.
///
/// # Errors
/// With `what` if the deadline passes, and if the command is interrupted or a call fails.
pub(crate) fn until(
    what: &str,
    deadline: Duration,
    pause: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let started = Instant::now();
    while !done()? {
        interrupt::check()?;
        ensure!(started.elapsed() < deadline, "{what}: not after {deadline:?}");
        sleep(pause);
    }
    Ok(started.elapsed())
}

/// Waits for this long, for what is measured over a time.
///
/// # Errors
/// If the command is interrupted.
pub(crate) fn pass(length: Duration) -> Result<()> {
    let started = Instant::now();
    while let Some(left) = length.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        interrupt::check()?;
        sleep(left.min(SELDOM));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn looks_until_it_is_so() {
        let mut left = 3;
        let look = || {
            left -= 1;
            Ok(left == 0)
        };
        until("three looks", Duration::from_secs(60), Duration::ZERO, look).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn what_does_not_come_or_cannot_be_looked_at_is_an_error() {
        let late = until("the impossible", Duration::ZERO, Duration::ZERO, || Ok(false)).unwrap_err();
        assert_eq!(late.to_string(), "the impossible: not after 0ns");
        let blind = until("it", Duration::from_secs(60), Duration::ZERO, || bail!("no eyes")).unwrap_err();
        assert_eq!(blind.to_string(), "no eyes");
    }

    #[test]
    fn time_passes() {
        let started = Instant::now();
        pass(Duration::from_millis(2)).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(2));
    }
}
