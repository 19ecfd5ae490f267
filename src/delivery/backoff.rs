//! How long to wait after failures in a row: exponential, with jitter.
#![forbid(unsafe_code)]

use std::time::Duration;

/// The bounds of the delay. Every delay lies between `min` and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest delay. Zero counts as one millisecond, because a retry without a pause is a busy loop.
    pub min: Duration,
    /// The longest delay. A value below `min` counts as `min`.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row.
    ///
    /// The upper bound doubles with each failure, from twice `min` up to `max`. `jitter` (0 to 1) chooses evenly between
    /// `min` and that bound. Workers that failed together spread over the whole range and do not come back together.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let floor = self.min.max(Duration::from_millis(1));
        let max = self.max.max(floor);
        let doubled = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        let ceiling = floor.checked_mul(doubled).unwrap_or(max).min(max);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        floor + (ceiling - floor).mul_f64(jitter).min(ceiling - floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULT: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(300) };

    #[test]
    fn the_bound_doubles_until_the_maximum() {
        let bounds: Vec<_> = (0..13).map(|failures| DEFAULT.delay(failures, 1.0).as_millis()).collect();
        assert_eq!(
            bounds,
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 102_400, 204_800, 300_000, 300_000]
        );
    }

    #[test]
    fn jitter_spreads_over_the_whole_span() {
        assert_eq!(DEFAULT.delay(4, 0.0), DEFAULT.min);
        assert_eq!(DEFAULT.delay(4, 0.5), Duration::from_millis(1700));
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_nor_longer_than_the_maximum(
            min in 0u64..1_000_000, max in 0u64..u64::MAX, failures: u32, jitter: f64,
        ) {
            let backoff = Backoff { min: Duration::from_millis(min), max: Duration::from_millis(max) };
            let delay = backoff.delay(failures, jitter);
            prop_assert!(delay >= Duration::from_millis(1).max(backoff.min));
            prop_assert!(delay <= backoff.max.max(backoff.min).max(Duration::from_millis(1)));
        }
    }
}
