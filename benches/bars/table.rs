//! The table of results.

use std::fmt::Write as _;
use std::time::Duration;

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) bar: String,
    /// What the yardstick took; empty where there is none.
    pub(crate) yardstick: String,
    /// What shard took.
    pub(crate) ours: String,
    /// One against the other.
    pub(crate) ratio: String,
    /// What the ratio, or what shard took, has to be.
    pub(crate) limit: String,
    /// Whether it is; `None` for what is only told.
    pub(crate) passed: Option<bool>,
    /// How far a time is from its limit: 1 at the limit, more when better.
    pub(crate) margin: Option<f64>,
}

impl Row {
    /// shard's speed must be at least `least` times the yardstick's.
    pub(crate) fn speed(bar: &str, pair: &Pair, least: f64) -> Self {
        let ratio = pair.yardstick().as_secs_f64() / pair.ours().as_secs_f64();
        Self {
            bar: bar.to_owned(),
            yardstick: seconds(pair.yardstick()),
            ours: seconds(pair.ours()),
            ratio: format!("{ratio:.2}x the speed"),
            limit: format!(">= {least}x"),
            passed: Some(ratio >= least),
            margin: Some(ratio / least),
        }
    }

    /// shard must take at most `most` times what the yardstick takes.
    pub(crate) fn time(bar: &str, pair: &Pair, most: f64) -> Self {
        let ratio = pair.ours().as_secs_f64() / pair.yardstick().as_secs_f64();
        Self {
            bar: bar.to_owned(),
            yardstick: seconds(pair.yardstick()),
            ours: seconds(pair.ours()),
            ratio: format!("{ratio:.2}x the time"),
            limit: format!("<= {most}x"),
            passed: Some(ratio <= most),
            margin: Some(most / ratio),
        }
    }

    /// Lets a time miss its limit by a factor, and says so.
    pub(crate) fn relax(&mut self, slack: f64) {
        if let (Some(false), Some(margin)) = (self.passed, self.margin)
            && margin * slack >= 1.0
        {
            self.passed = Some(true);
            self.limit.push_str(&format!(", missed within the slack of {slack}"));
        }
    }

    /// shard must take less than a time.
    pub(crate) fn within(bar: &str, ours: Duration, most: Duration) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: String::new(),
            ours: seconds(ours),
            ratio: String::new(),
            limit: format!("< {}", seconds(most)),
            passed: Some(ours < most),
            margin: Some(most.as_secs_f64() / ours.as_secs_f64()),
        }
    }

    /// A number that must be less than `most`.
    pub(crate) fn less(bar: &str, ours: f64, most: f64) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: String::new(),
            ours: format!("{ours:.1}"),
            ratio: String::new(),
            limit: format!("< {most}"),
            passed: Some(ours < most),
            margin: None,
        }
    }

    /// shard must take at most `most` bytes of memory.
    pub(crate) fn memory(bar: &str, ours: u64, most: u64) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: String::new(),
            ours: mebibytes(ours),
            ratio: String::new(),
            limit: format!("<= {}", mebibytes(most)),
            passed: Some(ours <= most),
            margin: None,
        }
    }

    /// shard's ratio of raw to stored bytes must be at least `least` times the best peer's.
    pub(crate) fn ratio(bar: &str, peer: f64, ours: f64, least: f64) -> Self {
        Self {
            yardstick: format!("{peer:.3}"),
            ours: format!("{ours:.3}"),
            ..Self::mean(bar, ours / peer, Some(least))
        }
    }

    /// The mean of such ratios by the best peers' must be at least `least`, where that is given.
    pub(crate) fn mean(bar: &str, mean: f64, least: Option<f64>) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: String::new(),
            ours: String::new(),
            ratio: format!("{mean:.3}x the ratio"),
            limit: least.map(|least| format!(">= {least}x")).unwrap_or_default(),
            passed: least.map(|least| mean >= least),
            margin: None,
        }
    }

    /// shard's ratio of raw to stored bytes must be at least `least`.
    pub(crate) fn reached(bar: &str, ours: f64, least: f64) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: String::new(),
            ours: format!("{ours:.3}"),
            ratio: String::new(),
            limit: format!(">= {least}"),
            passed: Some(ours >= least),
            margin: None,
        }
    }

    /// shard must store at most `most` times the bytes of the yardstick.
    #[cfg(feature = "demo")]
    pub(crate) fn at_most(bar: &str, yardstick: u64, ours: u64, most: f64) -> Self {
        Self {
            limit: format!("<= {most}x"),
            passed: Some(ours as f64 <= yardstick as f64 * most),
            ..Self::size(bar, yardstick, ours)
        }
    }

    /// shard must store less than `most` percent of the raw bytes.
    pub(crate) fn share(bar: &str, raw: u64, ours: u64, most: f64) -> Self {
        let percent = ours as f64 / raw as f64 * 100.0;
        Self {
            bar: bar.to_owned(),
            yardstick: mebibytes(raw),
            ours: mebibytes(ours),
            ratio: format!("{percent:.3}% of raw"),
            limit: format!("< {most}%"),
            passed: Some(percent < most),
            margin: None,
        }
    }

    /// What a second thread gains must be at least `least` of two threads' worth, or of what it gains the yardstick.
    pub(crate) fn scaling(bar: &str, yardstick: f64, ours: f64, share: f64, least: f64) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: format!("{yardstick:.2}x"),
            ours: format!("{ours:.2}x"),
            ratio: format!("{share:.2} of it"),
            limit: format!(">= {least}"),
            passed: Some(share >= least),
            margin: Some(share / least),
        }
    }

    /// Bytes stored, without a limit.
    pub(crate) fn size(bar: &str, yardstick: u64, ours: u64) -> Self {
        Self {
            bar: bar.to_owned(),
            yardstick: mebibytes(yardstick),
            ours: mebibytes(ours),
            ratio: format!("{:.3}x the size", ours as f64 / yardstick as f64),
            limit: String::new(),
            passed: None,
            margin: None,
        }
    }
}

/// Paired measurements.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    yardstick: Vec<Duration>,
    ours: Vec<Duration>,
}

impl Pair {
    /// Adds a measurement of both.
    pub(crate) fn add(&mut self, yardstick: Duration, ours: Duration) {
        self.yardstick.push(yardstick);
        self.ours.push(ours);
    }

    /// The yardstick's median.
    pub(crate) fn yardstick(&self) -> Duration {
        median(&self.yardstick)
    }

    /// shard's median.
    pub(crate) fn ours(&self) -> Duration {
        median(&self.ours)
    }
}

/// The middle one, or the mean of the middle two.
fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.get(middle.saturating_sub(1)..=middle) {
        Some([below, above]) if sorted.len().is_multiple_of(2) => (*below + *above) / 2,
        Some([.., middle]) => *middle,
        _ => Duration::ZERO,
    }
}

pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.3} s", time.as_secs_f64())
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The table as text, columns aligned.
pub(crate) fn render(rows: &[Row]) -> String {
    let verdict = |row: &Row| match row.passed {
        Some(true) => "pass",
        Some(false) => "FAIL",
        None => "",
    };
    let mut lines = vec![["bar", "yardstick", "ours", "ratio", "limit", ""].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [&row.bar, &row.yardstick, &row.ours, &row.ratio, &row.limit, verdict(row)].map(|text: &str| text.to_owned())
    }));
    let widths: [usize; 6] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or_default());
    let mut text = String::new();
    for line in &lines {
        let [bar, numbers @ .., verdict] = line;
        let _ = write!(text, "{bar:<width$}", width = widths[0]);
        for (number, width) in numbers.iter().zip(&widths[1..]) {
            let _ = write!(text, "  {number:>width$}");
        }
        text.push_str(format!("  {verdict}").trim_end());
        text.push('\n');
    }
    text
}
