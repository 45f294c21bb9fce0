//! Sizes for people.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// A number of bytes in decimal units: `999 B`, `1.2 MB`, `123 MB`.
#[must_use]
pub fn human(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be written as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("EB");
    if value < 99.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// How many times smaller `stored` is than `raw`: `13.1x`; `-` where there is nothing to compare.
#[must_use]
pub fn ratio(raw: u64, stored: u64) -> String {
    match ratio_value(raw, stored) {
        None => "-".to_owned(),
        Some(ratio) if ratio < 9.995 => format!("{ratio:.2}x"),
        Some(ratio) if ratio < 99.95 => format!("{ratio:.1}x"),
        Some(ratio) => format!("{ratio:.0}x"),
    }
}

/// The same as a number, for JSON.
#[must_use]
pub fn ratio_value(raw: u64, stored: u64) -> Option<f64> {
    (raw > 0 && stored > 0).then(|| raw as f64 / stored as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_two_or_three_digits() {
        let expected = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (99_940, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (123_456_789, "123 MB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in expected {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn ratios() {
        assert_eq!(ratio(0, 0), "-");
        assert_eq!(ratio(10, 0), "-");
        assert_eq!(ratio(151, 100), "1.51x");
        assert_eq!(ratio(9_996, 1000), "10.0x");
        assert_eq!(ratio(131, 10), "13.1x");
        assert_eq!(ratio(321, 1), "321x");
        assert_eq!(ratio_value(3, 2), Some(1.5));
    }
}
