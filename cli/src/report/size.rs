//! Numbers for people: sizes, ratios, shares, counts.

pub(crate) use shard_core::size::{human, ratio, ratio_value};

/// A share from 0 to 1 as a percentage. What is not quite nothing and not quite all does not look as if it were.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.01 {
        "<0.01%".to_owned()
    } else if (99.995..100.0).contains(&percent) {
        ">99.99%".to_owned()
    } else if (percent > 0.0 && percent < 10.0) || (99.9..100.0).contains(&percent) {
        format!("{percent:.2}%")
    } else {
        format!("{percent:.1}%")
    }
}

/// A small number with three significant digits: `0.00123`, `1.23e-7`.
pub(crate) fn significant(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value.abs() >= 0.001 && value.abs() < 1000.0 {
        let digits = (2 - value.abs().log10().floor() as i32).max(0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.2e}")
    }
}

/// A cosine, which is most often close to 1.
pub(crate) fn cosine(value: f64) -> String {
    let distance = 1.0 - value;
    if value < 1.0 && distance < 5e-7 { format!("1-{distance:.0e}") } else { format!("{value:.6}") }
}

/// A count with its noun: `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_do_not_round_to_nothing_or_all() {
        assert_eq!(percent(0.0), "0.0%");
        assert_eq!(percent(1e-9), "<0.01%");
        assert_eq!(percent(0.0123), "1.23%");
        assert_eq!(percent(0.5), "50.0%");
        assert_eq!(percent(0.999_7), "99.97%");
        assert_eq!(percent(0.999_999_9), ">99.99%");
        assert_eq!(percent(1.0), "100.0%");
    }

    #[test]
    fn small_numbers() {
        assert_eq!(significant(0.0), "0");
        assert_eq!(significant(0.001_234), "0.00123");
        assert_eq!(significant(12.34), "12.3");
        assert_eq!(significant(123.4), "123");
        assert_eq!(significant(1.234e-7), "1.23e-7");
        assert_eq!(cosine(1.0), "1.000000");
        assert_eq!(cosine(0.5), "0.500000");
        assert_eq!(cosine(1.0 - 2e-9), "1-2e-9");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
    }
}
