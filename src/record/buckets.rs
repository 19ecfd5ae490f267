//! Time buckets: the day, hour, weekday and hour of the day of a record's time, as facets.
//!
//! Most rows of a statement fall into one minute, so the buckets of the last minute are cached. The key of the cache is
//! the minute of Unix time: when the clock goes back in autumn an hour comes twice, but a minute of Unix time always
//! lies in one hour of the clock.

#![forbid(unsafe_code)]

use crate::record::name::field_key;
use crate::record::Buffer;
use std::cell::Cell;

/// The suffixes that make a bucket's name from the time column's attribute, in the order in which a record has them.
pub const BUCKET_SUFFIXES: [&str; 4] = ["_day", "_hour", "_weekday", "_hour_of_day"];

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// 1972-02-01. Before that month, one zone's offset was not a whole number of minutes (Monrovia's, −0:44:30), so a
/// minute of Unix time could lie in two hours of the clock. Such moments are not cached.
const WHOLE_MINUTE_OFFSETS_SINCE: i64 = 65_750_400;

/// An hour as the clock of some time zone shows it, in the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilHour {
    /// The astronomical year: 0 is 1 BC.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 for Sunday to 6 for Saturday.
    pub weekday: u8,
}

/// A time zone's clock and calendar.
pub trait Calendar {
    /// The hour that contains `unix_seconds` (seconds since the Unix epoch). The answer is used for a whole minute, so
    /// from 1972 on offsets must be whole minutes.
    fn hour_of(&mut self, unix_seconds: i64) -> CivilHour;

    /// A number that changes whenever the time zone does. Cached buckets are used only while it is the same. A calendar
    /// whose zone never changes needs none.
    fn generation(&self) -> u64 {
        0
    }
}

/// The four buckets of one attribute.
pub(super) struct Buckets {
    /// `,"attribute_day":` and so on, in the order of [`BUCKET_SUFFIXES`].
    keys: [Vec<u8>; 4],
    last: Cell<Option<Rendered>>,
}

/// The buckets of one minute, ready to be copied into a record.
struct Rendered {
    generation: u64,
    /// Minutes since the Unix epoch.
    minute: i64,
    /// `,"attribute_day":"…",…`
    fragment: Buffer,
}

impl Buckets {
    pub(super) fn new(attribute: &str) -> Buckets {
        let keys = BUCKET_SUFFIXES.map(|suffix| field_key(&format!("{attribute}{suffix}")));
        Buckets { keys, last: Cell::new(None) }
    }

    /// Appends the buckets of a moment, given in seconds since the Unix epoch.
    pub(super) fn append(&self, unix_seconds: i64, calendar: &mut impl Calendar, out: &mut Buffer) {
        if unix_seconds < WHOLE_MINUTE_OFFSETS_SINCE {
            return self.render(calendar.hour_of(unix_seconds), out);
        }
        let generation = calendar.generation();
        let minute = unix_seconds.div_euclid(60);
        // If the calendar unwinds, the cache is empty and nothing stays borrowed.
        let rendered = match self.last.take() {
            Some(last) if last.minute == minute && last.generation == generation => last,
            last => {
                let mut fragment = last.map(|last| last.fragment).unwrap_or_default();
                fragment.clear();
                self.render(calendar.hour_of(minute * 60), &mut fragment);
                Rendered { generation, minute, fragment }
            }
        };
        out.extend_from_slice(&rendered.fragment);
        self.last.set(Some(rendered));
    }

    fn render(&self, hour: CivilHour, out: &mut Buffer) {
        let [day_key, hour_key, weekday_key, hour_of_day_key] = &self.keys;
        append_bucket(day_key, out, |out| append_day(hour, out));
        append_bucket(hour_key, out, |out| {
            append_day(hour, out);
            out.push(b'T');
            append_digits(hour.hour.into(), out);
        });
        let weekday = WEEKDAYS[usize::from(hour.weekday % 7)];
        append_bucket(weekday_key, out, |out| out.extend_from_slice(weekday.as_bytes()));
        append_bucket(hour_of_day_key, out, |out| append_digits(hour.hour.into(), out));
    }
}

/// Appends one bucket. Its text contains nothing that JSON escapes.
fn append_bucket(key: &[u8], out: &mut Buffer, append_text: impl FnOnce(&mut Buffer)) {
    out.extend_from_slice(key);
    out.push(b'"');
    append_text(out);
    out.push(b'"');
}

fn append_day(hour: CivilHour, out: &mut Buffer) {
    append_year(hour.year, out);
    out.push(b'-');
    append_digits(hour.month.into(), out);
    out.push(b'-');
    append_digits(hour.day.into(), out);
}

/// Appends four digits. Outside of 0 to 9999, appends ISO 8601's expanded form: a sign and at least four digits, such
/// as `+12026` or `-0043` (44 BC).
fn append_year(year: i32, out: &mut Buffer) {
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    append_digits(year.unsigned_abs() / 100, out);
    append_digits(year.unsigned_abs() % 100, out);
}

/// Appends at least two digits.
fn append_digits(number: u32, out: &mut Buffer) {
    match number {
        0..=99 => out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]),
        _ => {
            append_digits(number / 10, out);
            out.push(b'0' + (number % 10) as u8);
        }
    }
}
