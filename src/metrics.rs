//! The OpenMetrics text format: families of samples with labels, as scrapers read them.

#![forbid(unsafe_code)]

use std::fmt::Write;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, until it is reset to zero.
    Counter,
    /// One sample per state: 1 for the current one, 0 for the others.
    StateSet,
}

impl MetricKind {
    fn word(self) -> &'static str {
        match self {
            MetricKind::Gauge => "gauge",
            MetricKind::Counter => "counter",
            MetricKind::StateSet => "stateset",
        }
    }

    /// The suffix that a sample's name has after the family's name.
    fn suffix(self) -> &'static str {
        match self {
            MetricKind::Counter => "_total",
            MetricKind::Gauge | MetricKind::StateSet => "",
        }
    }
}

/// A label: its name, and its value, which may be any text.
pub type Label<'a> = (&'a str, &'a str);

/// An exposition under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    /// The sample name of the current family.
    sample: String,
}

impl Exposition {
    /// Begins a family. All its samples must follow before the next one. A family with a unit has a name that ends in
    /// it.
    pub fn family(&mut self, name: &str, kind: MetricKind, unit: &str, help: &str) {
        self.line(format_args!("# TYPE {name} {}", kind.word()));
        if !unit.is_empty() {
            debug_assert!(name.ends_with(unit), "{name} does not end in {unit}");
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {}", escaped(help)));
        self.sample = format!("{name}{}", kind.suffix());
    }

    /// Adds a sample that is an integer.
    pub fn count(&mut self, labels: &[Label<'_>], value: i64) {
        self.sample(labels, format_args!("{value}"));
    }

    /// Adds a sample that is any number.
    pub fn number(&mut self, labels: &[Label<'_>], value: f64) {
        match value {
            _ if value.is_nan() => self.sample(labels, format_args!("NaN")),
            f64::INFINITY => self.sample(labels, format_args!("+Inf")),
            f64::NEG_INFINITY => self.sample(labels, format_args!("-Inf")),
            _ => self.sample(labels, format_args!("{value}")),
        }
    }

    /// Adds the samples of a state set, one for each of `states`.
    pub fn states(&mut self, labels: &[Label<'_>], states: &[&str], current: &str) {
        // The label that holds the state has the family's name.
        let name = self.sample.clone();
        for state in states {
            let labels: Vec<Label<'_>> = labels.iter().copied().chain([(name.as_str(), *state)]).collect();
            self.count(&labels, i64::from(*state == current));
        }
    }

    /// Returns the complete text.
    pub fn finish(mut self) -> String {
        self.line(format_args!("# EOF"));
        self.text
    }

    fn sample(&mut self, labels: &[Label<'_>], value: std::fmt::Arguments<'_>) {
        let pairs: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let name = std::mem::take(&mut self.sample);
        match pairs.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", pairs.join(","))),
        }
        self.sample = name;
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _written = writeln!(self.text, "{line}");
    }
}

/// Escapes a label's value or a help text: backslashes, line feeds and quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_come_with_their_description_and_one_end() {
        let mut text = Exposition::default();
        text.family("a_rows", MetricKind::Gauge, "rows", "Rows that wait.");
        text.count(&[("index", "log"), ("database", "d")], 3);
        text.count(&[], -1);
        text.family("b_rows", MetricKind::Counter, "rows", "Rows ever.");
        text.count(&[("index", "log")], 9_007_199_254_740_993);
        text.family("c", MetricKind::StateSet, "", "State.");
        text.states(&[("index", "log")], &["idle", "paused"], "paused");
        assert_eq!(
            text.finish(),
            "# TYPE a_rows gauge\n# UNIT a_rows rows\n# HELP a_rows Rows that wait.\n\
             a_rows{index=\"log\",database=\"d\"} 3\na_rows -1\n\
             # TYPE b_rows counter\n# UNIT b_rows rows\n# HELP b_rows Rows ever.\n\
             b_rows_total{index=\"log\"} 9007199254740993\n\
             # TYPE c stateset\n# HELP c State.\n\
             c{index=\"log\",c=\"idle\"} 0\nc{index=\"log\",c=\"paused\"} 1\n\
             # EOF\n"
        );
    }

    #[test]
    fn texts_cannot_break_out_of_their_line() {
        let mut text = Exposition::default();
        text.family("a", MetricKind::Gauge, "", "a \\ b \" c \n d");
        text.count(&[("index", "x\"} 1\n# EOF\\")], 1);
        assert_eq!(
            text.finish(),
            "# TYPE a gauge\n# HELP a a \\\\ b \\\" c \\n d\na{index=\"x\\\"} 1\\n# EOF\\\\\"} 1\n# EOF\n"
        );
    }

    #[test]
    fn numbers_that_are_none_have_their_own_words() {
        let mut text = Exposition::default();
        text.family("a", MetricKind::Gauge, "", "A.");
        for value in [0.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            text.number(&[], value);
        }
        let text = text.finish();
        let values: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("a ")).collect();
        assert_eq!(values[0], "0.5");
        assert_eq!(values[1].parse(), Ok(1e300));
        assert_eq!(values[2..], ["NaN", "+Inf", "-Inf"]);
    }
}
