//! Instants as text, for people to read. No decision of the store rests on one.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, as RFC 3339 in UTC with whole seconds: `2026-01-31T12:00:00Z`.
#[must_use]
pub fn now() -> String {
    let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    };
    from_unix(seconds)
}

/// Now, with nanoseconds: `2026-01-31T12:00:00.000000001Z`. For what people want to see in the order in which it happened.
#[must_use]
pub fn now_exact() -> String {
    let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH) else { return now() };
    let whole = from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), since.subsec_nanos())
}

/// An instant, in seconds since 1970-01-01T00:00:00Z, as RFC 3339 in UTC. Years outside 0 to 9999 are cut to those.
#[must_use]
pub fn from_unix(seconds: i64) -> String {
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let seconds = seconds.clamp(FIRST, LAST);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days, with eras of 400 years from March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_times_are_in_order() {
        let (first, second) = (now_exact(), now_exact());
        assert_eq!((first.len(), &first[19..20], &first[29..]), (30, ".", "Z"));
        assert!(first <= second, "{first} {second}");
    }

    #[test]
    fn known_instants() {
        assert_eq!(from_unix(0), "1970-01-01T00:00:00Z");
        assert_eq!(from_unix(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(from_unix(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(from_unix(4_102_444_800), "2100-01-01T00:00:00Z");
        assert_eq!(from_unix(-1), "1969-12-31T23:59:59Z");
        assert_eq!(from_unix(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(from_unix(i64::MIN), "0000-01-01T00:00:00Z");
        assert_eq!(now().len(), 20);
    }
}
