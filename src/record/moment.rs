//! Points in time, written as Unix seconds with at most three decimals, because Algolia's numeric filters compare no
//! more.

#![forbid(unsafe_code)]

use std::io::Write;

use crate::record::Buffer;

/// Milliseconds from the Unix epoch to 2000-01-01, from which PostgreSQL counts.
pub const EPOCH_2000_MILLIS: i64 = 946_684_800_000;
const EPOCH_2000_DAYS: i64 = 10_957;
const DAY_MILLIS: i64 = 86_400_000;

/// A point in time, in the form in which a row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Microseconds since the Unix epoch.
    Micros(i64),
    /// Milliseconds since the Unix epoch. PostgreSQL's last timestamps do not fit into `Micros`, because the Unix epoch
    /// is 30 years earlier than PostgreSQL's.
    Millis(i64),
    /// Days since the Unix epoch; the moment is the day's beginning in UTC.
    Days(i64),
    /// Either infinity. It is no point in time, so records omit it.
    Infinity,
}

impl Moment {
    /// A `timestamptz`, or a `timestamp` read as UTC, in PostgreSQL's form: microseconds since 2000-01-01; both ends of
    /// the range mean an infinity.
    pub fn from_timestamp(micros_since_2000: i64) -> Moment {
        match micros_since_2000 {
            i64::MIN | i64::MAX => Moment::Infinity,
            micros => Moment::Millis(micros.div_euclid(1000) + EPOCH_2000_MILLIS),
        }
    }

    /// A `date` in PostgreSQL's form: days since 2000-01-01; both ends of the range mean an infinity.
    pub fn from_date(days_since_2000: i32) -> Moment {
        match days_since_2000 {
            i32::MIN | i32::MAX => Moment::Infinity,
            days => Moment::Days(i64::from(days) + EPOCH_2000_DAYS),
        }
    }

    /// Milliseconds since the Unix epoch, rounded down; `None` for the infinities.
    fn millis(self) -> Option<i64> {
        match self {
            Moment::Micros(micros) => Some(micros.div_euclid(1000)),
            Moment::Millis(millis) => Some(millis),
            Moment::Days(days) => Some(days.saturating_mul(DAY_MILLIS)),
            Moment::Infinity => None,
        }
    }

    /// Seconds since the Unix epoch, rounded down; `None` for the infinities.
    pub fn unix_seconds(self) -> Option<i64> {
        self.millis().map(|millis| millis.div_euclid(1000))
    }

    /// The seconds as records have them; `None` for the infinities.
    pub fn seconds(self) -> Option<String> {
        let mut text = Buffer::default();
        self.millis().and_then(|_| self.append(&mut text).ok())?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// Appends the seconds as a JSON number, without trailing zeros; `null` for the infinities.
    pub(super) fn append(self, out: &mut Buffer) -> serde_json::Result<()> {
        let Some(millis) = self.millis() else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        if millis < 0 {
            out.push(b'-');
        }
        let size = millis.unsigned_abs();
        serde_json::to_writer(&mut *out, &(size / 1000))?;
        let fraction = size % 1000;
        if fraction != 0 {
            write!(out, ".{fraction:03}").map_err(serde_json::Error::io)?;
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(moment: Moment) -> String {
        let mut out = Buffer::default();
        moment.append(&mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn seconds_have_up_to_three_decimals() {
        assert_eq!(written(Moment::Micros(0)), "0");
        assert_eq!(written(Moment::Micros(1_763_596_800_000_000)), "1763596800");
        assert_eq!(written(Moment::Micros(1_763_596_800_500_000)), "1763596800.5");
        assert_eq!(written(Moment::Micros(1_763_596_800_120_000)), "1763596800.12");
        assert_eq!(written(Moment::Micros(1_763_596_800_001_999)), "1763596800.001");
        assert_eq!(written(Moment::Micros(999)), "0");
        assert_eq!(written(Moment::Millis(1_763_596_800_050)), "1763596800.05");
        assert_eq!(written(Moment::Days(20_777)), "1795132800");
    }

    #[test]
    fn before_the_epoch_is_rounded_down_too() {
        assert_eq!(written(Moment::Micros(-1)), "-0.001");
        assert_eq!(written(Moment::Micros(-500_000)), "-0.5");
        assert_eq!(written(Moment::Micros(-1_000_001)), "-1.001");
        assert_eq!(written(Moment::Days(-1)), "-86400");
        assert_eq!(Moment::Micros(-1).unix_seconds(), Some(-1));
    }

    /// The ends of PostgreSQL's ranges: 4714-11-24 BC, 294276-12-31 23:59:59.999999, 5874897-12-31.
    #[test]
    fn the_whole_range_of_postgresql_fits() {
        assert_eq!(written(Moment::from_timestamp(0)), "946684800");
        assert_eq!(written(Moment::from_timestamp(-211_813_488_000_000_000)), "-210866803200");
        assert_eq!(written(Moment::from_timestamp(9_223_371_331_199_999_999)), "9224318015999.999");
        assert_eq!(written(Moment::from_date(0)), "946684800");
        assert_eq!(written(Moment::from_date(2_145_031_948)), "185331706992000");
        assert_eq!(Moment::from_timestamp(i64::MAX), Moment::Infinity);
        assert_eq!(Moment::from_timestamp(i64::MIN), Moment::Infinity);
        assert_eq!(Moment::from_date(i32::MAX), Moment::Infinity);
        assert_eq!(Moment::from_date(i32::MIN), Moment::Infinity);
        assert_eq!(written(Moment::Infinity), "null");
    }

    proptest! {
        #[test]
        fn a_moment_reads_back_to_the_millisecond(micros in any::<i64>()) {
            let text = written(Moment::Micros(micros));
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let size = format!("{}{fraction:0<3}", whole.trim_start_matches('-')).parse::<i64>().unwrap();
            let millis = if text.starts_with('-') { -size } else { size };
            prop_assert_eq!(millis, micros.div_euclid(1000));
            prop_assert!(!text.contains('.') || !text.ends_with('0'));
            prop_assert!(serde_json::from_str::<f64>(&text).is_ok());
        }

        #[test]
        fn any_moment_is_written(number in any::<i64>()) {
            for moment in [Moment::Micros(number), Moment::Millis(number), Moment::Days(number)] {
                prop_assert!(serde_json::from_str::<f64>(&written(moment)).is_ok());
            }
        }
    }
}
