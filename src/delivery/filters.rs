//! Filters in Algolia's grammar.
#![forbid(unsafe_code)]

use crate::record::Moment;

/// A filter for times from `since` on and before `until`, both in microseconds since 2000-01-01; `None` if neither is
/// given.
///
/// Records have times in milliseconds, rounded down, and Algolia compares no more. The filter includes the whole
/// milliseconds in which the window begins and ends.
pub fn between(attribute: &str, since: Option<i64>, until: Option<i64>) -> Option<String> {
    let until = until.map(|until| until.saturating_add(999));
    let bounds = [(">=", since), ("<", until)];
    let tests: Vec<String> = bounds
        .iter()
        .filter_map(|(operator, bound)| {
            let seconds = Moment::from_timestamp((*bound)?).seconds()?;
            Some(format!("{} {operator} {seconds}", name(attribute)))
        })
        .collect();
    (!tests.is_empty()).then(|| tests.join(" AND "))
}

/// An attribute's name. It is quoted only where Algolia would misread it.
fn name(attribute: &str) -> String {
    const WORDS: [&str; 4] = ["AND", "OR", "NOT", "TO"];
    let is_plain = attribute.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(attribute)) {
        return attribute.to_owned();
    }
    format!("\"{}\"", attribute.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EPOCH_2000_MILLIS;

    /// Microseconds since 2000-01-01 of a moment in Unix microseconds.
    fn at(unix: i64) -> Option<i64> {
        Some(unix - EPOCH_2000_MILLIS * 1000)
    }

    #[test]
    fn a_window_is_written_in_unix_seconds_also_before_1970() {
        let bound = |unix| between("at", at(unix), None).unwrap();
        assert_eq!(bound(1_763_596_800_500_000), "at >= 1763596800.5");
        assert_eq!(bound(0), "at >= 0");
        assert_eq!(bound(-500_000), "at >= -0.5");
        assert_eq!(bound(-1_000_000), "at >= -1");
        assert_eq!(bound(-1_250_000), "at >= -1.25");
        assert_eq!(between("at", None, at(-500_000)).unwrap(), "at < -0.5");
        assert_eq!(between("at", at(-1_500_000), at(250_000)).unwrap(), "at >= -1.5 AND at < 0.25");
        assert_eq!(between("at", None, None), None);
    }

    #[test]
    fn the_milliseconds_at_its_edges_belong_to_a_window() {
        assert_eq!(between("at", at(1_500), at(2_500)).unwrap(), "at >= 0.001 AND at < 0.003");
        assert_eq!(between("at", at(-1_500), at(-500)).unwrap(), "at >= -0.002 AND at < 0");
        assert_eq!(between("at", None, Some(i64::MAX - 1)), None, "later than any time that a row can have");
    }

    #[test]
    fn a_name_is_quoted_only_where_it_has_to_be() {
        for (attribute, expected) in [
            ("created_at", "created_at"),
            ("Not_2", "Not_2"),
            ("created at", "\"created at\""),
            ("to", "\"to\""),
            ("NOT", "\"NOT\""),
            ("größe", "\"größe\""),
            ("a-b", "\"a-b\""),
            ("5\"", "\"5\\\"\""),
            ("a\\b", "\"a\\\\b\""),
        ] {
            assert_eq!(name(attribute), expected);
        }
    }
}
