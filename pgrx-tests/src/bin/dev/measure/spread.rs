//! The median and the range of several measurements.

use std::fmt;

/// Median, minimum and maximum of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Spread {
    /// `None` if there are no measurements.
    pub(super) fn of(values: &[f64]) -> Option<Spread> {
        Some(Spread {
            median: percentile(values, 50.0)?,
            least: percentile(values, 0.0)?,
            greatest: percentile(values, 100.0)?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, least, greatest } = *self;
        if least == greatest {
            return f.write_str(&short(median));
        }
        write!(f, "{} ({}–{})", short(median), short(least), short(greatest))
    }
}

/// A number with three significant digits and grouped thousands.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        f64::INFINITY => "∞".to_owned(),
        large if large >= 1000.0 => crate::screen::grouped(value.round() as u64),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The value below which so many percent are, interpolated between neighbours.
pub(super) fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = percent.clamp(0.0, 100.0) / 100.0 * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    // Nothing can be subtracted from infinity.
    Some(if below == above { *below } else { below + (above - below) * place.fract() })
}

/// A function of pairs that were measured one right after the other.
pub(super) fn pairwise(values: &[f64], against: &[f64], of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    values.iter().zip(against).map(|(&a, &b)| of(a, b)).collect()
}

/// The median ratio of pairs that were measured one right after the other.
pub(super) fn ratio(values: &[f64], against: &[f64]) -> Option<Spread> {
    Spread::of(&pairwise(values, against, |a, b| a / b))
}

/// A contender's results as a field of a table, with the ratio to what it is compared with first.
pub(super) fn compared(values: &[f64], against: &[f64]) -> String {
    match (ratio(values, against), Spread::of(values)) {
        (Some(ratio), Some(spread)) => format!("{} × · {spread}", short(ratio.median)),
        (None, Some(spread)) => spread.to_string(),
        _ => "–".to_owned(),
    }
}

/// The median as a field of a table.
pub(super) fn middle(values: &[f64]) -> String {
    percentile(values, 50.0).map_or_else(|| "–".to_owned(), short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(percentile(&[4.0, 1.0, 2.0, 3.0], 50.0), Some(2.5));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50.0), Some(2.0));
        assert_eq!(percentile(&[7.0], 99.0), Some(7.0));
        assert_eq!(percentile(&[f64::INFINITY], 50.0), Some(f64::INFINITY));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_spread_tells_middle_and_range() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread.to_string(), "2.00 (1.00–3.00)");
        assert_eq!(Spread::of(&[2.0]).unwrap().to_string(), "2.00");
        assert_eq!(Spread::of(&[2.0 / 0.0]).unwrap().to_string(), "∞");
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let spread = ratio(&[2.0, 9.0, 8.0], &[1.0, 3.0, 4.0]).unwrap();
        assert_eq!((spread.least, spread.median, spread.greatest), (2.0, 2.0, 3.0));
    }

    #[test]
    fn numbers_have_as_many_digits_as_count() {
        assert_eq!([0.123, 12.34, 123.4, 1234.5].map(short), ["0.12", "12.3", "123", "1,235"]);
    }
}
