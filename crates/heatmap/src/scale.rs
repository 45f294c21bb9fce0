//! From values to colours and back.

use crate::metric::Metric;

/// A logarithmic scale begins and ends at 1, 2 or 5 times a power of ten: so many steps are a decade.
const DECADE: i32 = 3;
/// Steps that a logarithmic scale spans, down from the largest value: six decades at most, a factor of five at least.
const STEPS: std::ops::RangeInclusive<i32> = 2..=6 * DECADE;
/// Steps up to which each has its tick.
const FEW_STEPS: i32 = 7;
/// The powers of ten between which a logarithmic scale ends, so that none of its round numbers is zero or infinite.
const LEAST_DECADE: f64 = -300.0;
const MOST_DECADE: f64 = 306.0;

/// A mark beside a scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where it is, from 0 (least change) to 1.
    pub position: f64,
    /// What it says.
    pub label: String,
}

/// How the values of a metric become positions on the colour map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    metric: Metric,
    /// Whether positions follow the logarithm.
    logarithmic: bool,
    /// The amounts of change at positions 0 and 1; `low < high`.
    low: f64,
    high: f64,
    /// The steps that these are, on a logarithmic scale.
    steps: (i32, i32),
}

impl Scale {
    /// A scale on which the values of a metric fill the colour map; `None` without values. Shares go from 0 to 1, ranks from 0 on; all
    /// else is logarithmic, over at most six decades, and what lies below has the colour of the least.
    #[must_use]
    pub fn of(metric: Metric, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let amounts = values.into_iter().map(|value| amount(metric, value)).filter(|amount| amount.is_finite());
        let amounts: Vec<f64> = amounts.collect();
        let largest = amounts.iter().copied().max_by(f64::total_cmp)?;
        let linear = |high| Self { metric, logarithmic: false, low: 0.0, high, steps: (0, 0) };
        match metric {
            Metric::Changed => return Some(linear(1.0)),
            Metric::EffectiveRank => return Some(linear(largest.max(1.0))),
            _ if largest <= 0.0 => return Some(linear(1.0)),
            Metric::Relative | Metric::Cosine | Metric::MaxUlp => {}
        }
        let least = amounts.iter().copied().filter(|amount| *amount > 0.0).min_by(f64::total_cmp).unwrap_or(largest);
        // Round numbers, so that scales of like pairs are alike.
        let last = steps_of(largest).1;
        let first = steps_of(least).0.clamp(last - STEPS.end(), last - STEPS.start());
        Some(Self {
            metric,
            logarithmic: true,
            low: round_number(first),
            high: round_number(last),
            steps: (first, last),
        })
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Whether positions follow the logarithm of the amount of change.
    #[must_use]
    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// The amounts of change at positions 0 and 1; of a cosine its distance from 1.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where a value is, from 0 (least change) to 1. What is infinite is at 1.
    #[must_use]
    pub fn position(&self, value: f64) -> f64 {
        let amount = amount(self.metric, value);
        let position = match self.logarithmic {
            true if amount <= self.low => 0.0,
            true => (amount / self.low).ln() / (self.high / self.low).ln(),
            false => (amount - self.low) / (self.high - self.low),
        };
        if position.is_nan() { 0.0 } else { position.clamp(0.0, 1.0) }
    }

    /// Marks beside the scale, from the least up.
    #[must_use]
    pub fn ticks(&self) -> Vec<Tick> {
        let tick = |amount: f64| {
            let value = if self.metric.falls() { 1.0 - amount } else { amount };
            let label = match self.metric {
                _ if self.logarithmic => round_text(amount),
                metric => metric.short(value),
            };
            let position = match self.logarithmic {
                true => (amount / self.low).ln() / (self.high / self.low).ln(),
                false => (amount - self.low) / (self.high - self.low),
            };
            Tick { position: position.clamp(0.0, 1.0), label }
        };
        if self.logarithmic {
            let (first, last) = self.steps;
            let every = if last - first <= FEW_STEPS { 1 } else { DECADE };
            // The ends, too, where the next tick leaves room for them.
            let is_apart = |to_next: i32| to_next * 10 >= last - first;
            let is_end = |step: i32| {
                step == first && is_apart((-step).rem_euclid(every)) || step == last && is_apart(step.rem_euclid(every))
            };
            let is_marked = |step: &i32| step.rem_euclid(every) == 0 || is_end(*step);
            (first..=last).filter(is_marked).map(|step| tick(round_number(step))).collect()
        } else {
            (0..=4).map(|quarter| tick(self.low + (self.high - self.low) * f64::from(quarter) / 4.0)).collect()
        }
    }

    /// Ticks with the spans from start to end that they take beside a scale: of all, or where they would overlap of every second, third
    /// and so on, down from the largest.
    pub(crate) fn spaced_ticks(&self, span: impl Fn(&Tick) -> (f64, f64)) -> Vec<(Tick, (f64, f64))> {
        let all: Vec<(Tick, (f64, f64))> = self.ticks().into_iter().map(|tick| (tick.clone(), span(&tick))).collect();
        let last = all.len().saturating_sub(1);
        let every = |step: usize| all.iter().enumerate().filter(move |(index, _)| (last - index).is_multiple_of(step));
        let apart = |step: &usize| {
            let spans: Vec<(f64, f64)> = every(*step).map(|(_, (_, span))| *span).collect();
            spans.windows(2).all(|pair| matches!(pair, [before, after] if before.1 <= after.0))
        };
        let step = (1..=last).find(apart).unwrap_or(last + 1);
        every(step).map(|(_, tick)| tick.clone()).collect()
    }
}

/// How large a change is: a cosine's distance from 1, any other value itself.
pub(crate) fn amount(metric: Metric, value: f64) -> f64 {
    if metric.falls() { (1.0 - value).max(0.0) } else { value }
}

/// 1, 2 or 5 times a power of ten, by its place among these; 1 is at 0.
fn round_number(step: i32) -> f64 {
    let factor = match step.rem_euclid(DECADE) {
        0 => 1,
        1 => 2,
        _ => 5,
    };
    // As it is written: a product would be off by rounding.
    format!("{factor}e{}", step.div_euclid(DECADE)).parse().unwrap_or(f64::MAX)
}

/// The places of the next round numbers down and up.
fn steps_of(amount: f64) -> (i32, i32) {
    let decade = amount.log10().floor().clamp(LEAST_DECADE, MOST_DECADE) as i32;
    let near = decade * DECADE - 1..=(decade + 1) * DECADE + 1;
    let below = near.clone().rev().find(|step| round_number(*step) <= amount);
    let above = near.clone().find(|step| round_number(*step) >= amount);
    (below.unwrap_or(*near.start()), above.unwrap_or(*near.end()))
}

/// A round number: `0.05`, `5e-4`, `200`, `1e6`.
fn round_text(amount: f64) -> String {
    match amount {
        small if small < 0.0099 => format!("{small:.0e}"),
        small if small < 0.099 => format!("{small:.2}"),
        small if small < 0.99 => format!("{small:.1}"),
        middle if middle < 999.0 => format!("{middle:.0}"),
        large => format!("{large:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fill_the_scale() {
        let labels = |scale: Scale| -> Vec<String> { scale.ticks().into_iter().map(|tick| tick.label).collect() };
        let scale = Scale::of(Metric::Relative, [0.0011, 0.9, 0.0]).unwrap();
        assert_eq!(scale.range(), (0.001, 1.0));
        assert_eq!((scale.position(0.0), scale.position(1.0), scale.position(f64::INFINITY)), (0.0, 1.0, 1.0));
        assert!((scale.position(10f64.powf(-1.5)) - 0.5).abs() < 1e-12);
        assert_eq!(labels(scale), ["1e-3", "0.01", "0.1", "1"]);
        let scale = Scale::of(Metric::Relative, [0.023, 0.07]).unwrap();
        assert_eq!(scale.range(), (0.02, 0.1));
        assert_eq!(labels(scale), ["0.02", "0.05", "0.1"]);
        let scale = Scale::of(Metric::MaxUlp, [1.0, 3e9]).unwrap();
        assert_eq!(scale.range(), (5e3, 5e9), "no more than six decades");
        assert_eq!(labels(scale), ["1e4", "1e5", "1e6", "1e7", "1e8", "1e9", "5e9"]);
    }

    #[test]
    fn the_smallest_and_the_largest_numbers_have_scales() {
        for value in [f64::from_bits(1), f64::MIN_POSITIVE, f64::MAX] {
            let scale = Scale::of(Metric::Relative, [value, 0.0]).unwrap();
            let (low, high) = scale.range();
            assert!(low > 0.0 && low < high && high.is_finite(), "{low} {high}");
            assert!((2..=8).contains(&scale.ticks().len()), "{value}");
            assert!((0.0..=1.0).contains(&scale.position(value)));
        }
    }

    #[test]
    fn cosines_count_from_one_down() {
        let scale = Scale::of(Metric::Cosine, [0.99, 0.0]).unwrap();
        assert!(scale.position(0.0) > scale.position(0.9));
        assert_eq!(scale.position(1.0), 0.0);
        assert_eq!(Scale::of(Metric::Cosine, []), None);
        assert_eq!(Scale::of(Metric::Changed, [0.2]).unwrap().position(0.5), 0.5);
        assert_eq!(Scale::of(Metric::MaxUlp, [0.0]).unwrap().position(0.0), 0.0);
    }
}
