//! Which numbers may be JSON numbers: those that a reader who uses doubles reads unchanged.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

/// 2^53 − 1: doubles represent every integer up to this one exactly.
pub(super) const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Two different decimals with at most this many significant digits are never the same double, so the shortest text of
/// the nearest double is the decimal itself. (This holds above the subnormal range.)
const ALWAYS_EXACT_DIGITS: usize = 15;

/// The shortest text of a double never has more digits.
const MAX_SHORTEST_DIGITS: usize = 17;

/// Decimals with this many decimal places may be subnormal.
const SUBNORMAL_PLACES: usize = 290;

/// The JSON number for `text`, the output text of a numeric. `None` if it must be a string, because a double cannot
/// hold the value or because it is not a plain decimal (`NaN`, `Infinity`).
///
/// The result is a part of `text`. Trailing zeros of the fraction only show the declared scale, so they are dropped.
pub(super) fn exact_number(text: &str) -> Option<&str> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction.trim_end_matches('0')),
        Some(_) => return None,
        None => (unsigned, ""),
    };
    if !is_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let number = match unsigned.len() > whole.len() {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    let significant = match whole {
        "0" => fraction.trim_start_matches('0').len(),
        _ => whole.len() + fraction.len(),
    };
    if significant <= ALWAYS_EXACT_DIGITS && fraction.len() < SUBNORMAL_PLACES {
        return Some(number);
    }
    if significant > MAX_SHORTEST_DIGITS {
        return None;
    }
    let double: f64 = number.parse().ok()?;
    (double.abs() <= MAX_SAFE_INTEGER as f64 && displays_as(double, number)).then_some(number)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the shortest decimal that reads back as `double`, written without an exponent, is `expected`.
fn displays_as(double: f64, expected: &str) -> bool {
    let mut rest = TextMatcher { rest: expected };
    write!(rest, "{double}").is_ok() && rest.rest.is_empty()
}

/// Compares the text that is written to it with an expected text, without a buffer.
struct TextMatcher<'a> {
    rest: &'a str,
}

impl Write for TextMatcher<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.rest = self.rest.strip_prefix(piece).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(exact_number(text), expected, "{text}");
    }

    #[test]
    fn trailing_zeros_go() {
        check("1.10", Some("1.1"));
        check("0.1", Some("0.1"));
        check("100", Some("100"));
        check("100.00", Some("100"));
        check("0.00", Some("0"));
        check("-12.50", Some("-12.5"));
        check("0.000000100", Some("0.0000001"));
    }

    #[test]
    fn integers_are_numbers_up_to_two_to_the_53rd() {
        check("9007199254740991", Some("9007199254740991"));
        check("-9007199254740991.000", Some("-9007199254740991"));
        check("9007199254740992", None);
        check("10000000000000000", None);
        check(&format!("1{}", "0".repeat(400)), None);
    }

    #[test]
    fn fractions_are_numbers_when_a_double_holds_them() {
        check("0.30000000000000004", Some("0.30000000000000004"));
        check("0.30000000000000001", None);
        check("123456789.12345678", Some("123456789.12345678"));
        check("123456789.123456789", None);
        check("2251799813685249.5", Some("2251799813685249.5"));
        check("4503599627370497.5", None);
        check("3.141592653589793", Some("3.141592653589793"));
        check("3.14159265358979323846", None);
    }

    #[test]
    fn small_decimals_are_numbers_when_a_double_holds_them() {
        let small = |places: usize| format!("0.{}1", "0".repeat(places - 1));
        check(&small(300), Some(&small(300)));
        // 5e-324 is the shortest text of the smallest double, so 4e-324 and 1e-324 do not survive.
        check(&format!("0.{}5", "0".repeat(323)), Some(&format!("0.{}5", "0".repeat(323))));
        check(&format!("0.{}4", "0".repeat(323)), None);
        check(&small(324), None);
        check(&small(400), None);
    }

    #[test]
    fn whatever_is_not_a_plain_decimal_is_no_number() {
        for text in [
            "NaN",
            "Infinity",
            "-Infinity",
            "",
            "-",
            ".",
            "1.",
            ".5",
            "+1",
            "007",
            "1e5",
            "1.2.3",
            "0x1f",
            "١",
        ] {
            check(text, None);
        }
    }

    /// serde_json writes doubles with an algorithm of its own: an independent notion of "shortest".
    fn survives(text: &str) -> bool {
        let double: f64 = text.parse().unwrap();
        let shortest = serde_json::to_string(&double).unwrap();
        normalised(&shortest) == normalised(text) && double.abs() <= MAX_SAFE_INTEGER as f64
    }

    /// Sign, significant digits, and the power of ten of the last digit.
    fn normalised(text: &str) -> (bool, String, i64) {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        let dropped = digits.len() - digits.trim_end_matches('0').len();
        let power = exponent.parse::<i64>().unwrap() - fraction.len() as i64 + dropped as i64;
        (text.starts_with('-'), significant.to_owned(), if significant.is_empty() { 0 } else { power })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_number_is_exactly_what_survives_a_double(text in "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,20})?") {
            // Halfway between two equally short decimals (600000000000000.25 is one such double) readers differ in
            // which of them they write, and either answer is right.
            let double: f64 = text.parse().unwrap();
            let by_serde = serde_json::to_string(&double).unwrap();
            prop_assume!(normalised(&format!("{double}")) == normalised(&by_serde));
            prop_assert_eq!(exact_number(&text).is_some(), survives(&text), "{}", text);
            if let Some(number) = exact_number(&text) {
                prop_assert_eq!(normalised(number), normalised(&text));
                prop_assert_eq!(number.parse::<f64>().unwrap(), text.parse::<f64>().unwrap());
            }
        }

        #[test]
        fn every_double_in_range_is_a_number(double in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
            let text = format!("{double}");
            prop_assert_eq!(exact_number(&text).is_some(), double.abs() <= MAX_SAFE_INTEGER as f64, "{}", text);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = exact_number(&text);
        }
    }
}
