//! How the commands wait: by looking again and again until it is so, with a deadline, and never past Ctrl-C.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use crate::interrupt;

/// A pause between looks that keeps nobody waiting and costs little.
pub(crate) const OFTEN: Duration = Duration::from_millis(10);
/// A pause between looks that is no load for what is being measured.
pub(crate) const SELDOM: Duration = Duration::from_millis(100);

/// Looks until `done` says so, with a pause between looks; tells how long that took.
///
/// # Errors
/// With `what` when it is not so at the deadline, when somebody wants the command to end, and when a look fails.
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

/// Lets so much time pass, for what is measured over a time.
///
/// # Errors
/// When somebody wants the command to end.
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
