//! Parses the times in changelogs and logs to Unix seconds.

use time::{Date, Month, OffsetDateTime};

/// Parses `Mon, 02 Jan 2006 15:04:05 -0700` to Unix seconds. The weekday is ignored, because it is often wrong.
pub(super) fn mail_time(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = text.split_once(',').map_or(text, |(_, date)| date);
    let words: Vec<&str> = date.split_whitespace().collect();
    let &[day, month, year, time, zone, ..] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| month.starts_with(name))? as i64 + 1;
    let offset: i64 = zone.parse().unwrap_or(0);
    let away = offset.signum() * (offset.abs() / 100 * 3600 + offset.abs() % 100 * 60);
    Some(days(year.parse().ok()?, month, day.parse().ok()?)? * 86_400 + seconds(time)? - away)
}

/// Parses `2006-01-02` and `15:04:05` to Unix seconds.
pub(super) fn plain_time(date: &str, time: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let mut part = || parts.next()?.ok();
    Some(days(part()?, part()?, part()?)? * 86_400 + seconds(time)?)
}

fn seconds(time: &str) -> Option<i64> {
    time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<i64>().ok()?))
}

/// Days since 1970.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year.try_into().ok()?, month, day.try_into().ok()?).ok()?;
    Some((date - OffsetDateTime::UNIX_EPOCH.date()).whole_days()).filter(|days| *days >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_days() {
        assert_eq!(days(1970, 1, 1), Some(0));
        assert_eq!(days(2000, 2, 29), Some(11_016));
        assert_eq!(days(2024, 3, 1), Some(19_783));
        assert_eq!(days(2024, 13, 1), None);
    }
}
