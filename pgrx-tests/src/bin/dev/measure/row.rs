//! A line of the report: a figure, what it is compared with, and what is promised.

use super::spread::{percentile, ratio, Spread};

/// One line of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) measured: String,
    pub(super) target: Option<Target>,
    pub(super) ratio: Option<Spread>,
    pub(super) reason: Option<String>,
    /// The values from which the figure was computed, and their unit.
    pub(super) values: Option<(&'static str, Vec<f64>)>,
}

/// The promised limit of a figure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// The ratio must not be greater.
    RatioAtMost(f64),
    /// The ratio must not be less.
    RatioAtLeast(f64),
    /// The figure itself must not be greater, in the unit given.
    AtMost(f64, &'static str, f64),
}

impl Row {
    /// A figure that is reported but not judged.
    pub(super) fn new(what: impl Into<String>, measured: impl Into<String>) -> Row {
        Row { what: what.into(), measured: measured.into(), ..Row::default() }
    }

    /// Something that could not be measured, with the reason.
    pub(super) fn not_measured(what: impl Into<String>, reason: &str) -> Row {
        Row { reason: Some(one_line(reason)), ..Row::new(what, "") }
    }

    /// The median and the range of the repeats.
    pub(super) fn of(what: impl Into<String>, unit: &'static str, values: &[f64]) -> Row {
        let Some(spread) = Spread::of(values) else {
            return Row::not_measured(what, "no run");
        };
        Row { values: Some((unit, values.to_vec())), ..Row::new(what, format!("{spread} {unit}")) }
    }

    /// Adds the values of another contender, if there are any.
    #[must_use]
    pub(super) fn beside(self, whom: &str, others: &[f64]) -> Row {
        match Spread::of(others).filter(|_| self.reason.is_none()) {
            Some(spread) => Row { measured: format!("{}, {whom} {spread}", self.measured), ..self },
            None => Row::not_measured(self.what, self.reason.as_deref().unwrap_or("no run")),
        }
    }

    /// The same, with the ratio of each pair.
    #[must_use]
    pub(super) fn against(self, whom: &str, others: &[f64]) -> Row {
        let ratio = self.values.as_ref().and_then(|(_, values)| ratio(values, others));
        Row { ratio, ..self.beside(whom, others) }
    }

    /// Adds the ratio to what it was compared with.
    #[must_use]
    pub(super) fn ratio(self, ratio: Option<Spread>) -> Row {
        Row { ratio, ..self }
    }

    #[must_use]
    pub(super) fn target(self, target: Target) -> Row {
        Row { target: Some(target), ..self }
    }

    /// The same for the median of the values, in their unit.
    #[must_use]
    pub(super) fn at_most(self, most: f64) -> Row {
        let target = self
            .values
            .as_ref()
            .map(|(unit, values)| Target::AtMost(most, unit, percentile(values, 50.0).unwrap_or(f64::NAN)));
        Row { target, ..self }
    }

    /// Adds the reason why it could not be measured, if there is one.
    #[must_use]
    pub(super) fn unless(self, reason: Option<&str>) -> Row {
        match reason {
            Some(reason) => Row { target: self.target, ..Row::not_measured(self.what, reason) },
            None => self,
        }
    }

    /// Whether the promise is kept, if there is one.
    pub(super) fn is_kept(&self) -> Option<bool> {
        let ratio = self.ratio.map(|ratio| ratio.median);
        match self.target? {
            Target::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Target::AtMost(most, _, value) => Some(value <= most),
        }
    }

    fn verdict(&self) -> String {
        match (&self.reason, self.is_kept()) {
            (Some(reason), _) => format!("not measured: {reason}"),
            (None, Some(true)) => "ok".to_owned(),
            (None, Some(false)) => "**not**".to_owned(),
            (None, None) => String::new(),
        }
    }

    pub(super) fn promise(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::RatioAtMost(most)) => format!("≤ {most} ×"),
            Some(Target::RatioAtLeast(least)) => format!("≥ {least} ×"),
            Some(Target::AtMost(most, unit, _)) => format!("≤ {most} {unit}"),
        }
    }

    pub(super) fn cells(&self) -> [String; 5] {
        [
            self.what.clone(),
            self.ratio.map(|ratio| format!("{ratio} ×")).unwrap_or_default(),
            self.promise(),
            self.verdict(),
            self.measured.clone(),
        ]
    }

    /// The cells of a line without a promise.
    pub(super) fn plain_cells(&self) -> Vec<String> {
        let [what, ratio, _, verdict, measured] = self.cells();
        vec![what, ratio, if measured.is_empty() { verdict } else { measured }]
    }
}

/// The first line of an error, without characters that would break a table.
pub(super) fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    line.trim_end_matches('.').chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(value: f64) -> Option<Spread> {
        Spread::of(&[value])
    }

    #[test]
    fn promises_are_judged_by_the_median() {
        let most = Row::new("a", "1").ratio(spread(2.1)).target(Target::RatioAtMost(2.2));
        let least = Row::new("a", "1").ratio(spread(0.7)).target(Target::RatioAtLeast(0.8));
        let figure = Row::new("a", "3").target(Target::AtMost(2.0, "ms", 3.0));
        assert_eq!([&most, &least, &figure].map(Row::is_kept), [Some(true), Some(false), Some(false)]);
        assert_eq!(Row::new("a", "1").is_kept(), None);
    }
}
