//! What is measured of a change.

/// A measure of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Share of the words whose bits changed, 0 to 1.
    Changed,
    /// Norm of the difference over the norm of the old values, 0 and more.
    Relative,
    /// Cosine of the angle between old and new values, -1 to 1; the nearer to 1, the less changed.
    Cosine,
    /// The largest step of a word, in units in the last place.
    MaxUlp,
    /// How many directions the change of a matrix has, 1 and more (Roy and Vetterli, "The effective rank", EUSIPCO 2007).
    EffectiveRank,
}

impl Metric {
    /// Every metric, in the order in which they are offered.
    pub const ALL: [Self; 5] = [Self::Relative, Self::Changed, Self::Cosine, Self::MaxUlp, Self::EffectiveRank];

    /// The word for it in options and data.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Relative => "relative",
            Self::Cosine => "cosine",
            Self::MaxUlp => "max-ulp",
            Self::EffectiveRank => "effective-rank",
        }
    }

    /// What it is called in a legend.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Changed => "changed words",
            Self::Relative => "relative change",
            Self::Cosine => "1 - cosine",
            Self::MaxUlp => "largest step in ULP",
            Self::EffectiveRank => "effective rank of the change",
        }
    }

    /// Whether a larger value is a smaller change.
    #[must_use]
    pub const fn falls(self) -> bool {
        matches!(self, Self::Cosine)
    }

    /// A value for people, short enough for a cell: `12%`, `3.4e-3`, `812`.
    #[must_use]
    pub fn short(self, value: f64) -> String {
        match self {
            Self::Changed => percent(value),
            Self::Relative => significant(value, 2),
            Self::Cosine => significant(1.0 - value, 2),
            Self::MaxUlp if value < 10_000.0 => format!("{value:.0}"),
            Self::MaxUlp => format!("{value:.0e}"),
            Self::EffectiveRank if value < 99.5 => format!("{value:.1}"),
            Self::EffectiveRank => format!("{value:.0}"),
        }
    }

    /// Of the values of several tensors, that of the largest change.
    #[must_use]
    pub fn largest(self, values: impl IntoIterator<Item = f64>) -> Option<f64> {
        let change = |value: &f64| if self.falls() { -*value } else { *value };
        values.into_iter().max_by(|a, b| change(a).total_cmp(&change(b)))
    }

    const fn place(self) -> usize {
        match self {
            Self::Relative => 0,
            Self::Changed => 1,
            Self::Cosine => 2,
            Self::MaxUlp => 3,
            Self::EffectiveRank => 4,
        }
    }
}

/// Values of the metrics, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Values([Option<f64>; Metric::ALL.len()]);

impl Values {
    /// The value of a metric.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(metric.place()).copied().flatten()
    }

    /// Sets the value of a metric; what is NaN counts as unknown.
    pub fn set(&mut self, metric: Metric, value: Option<f64>) {
        if let Some(place) = self.0.get_mut(metric.place()) {
            *place = value.filter(|value| !value.is_nan());
        }
    }

    /// Of each metric the value of the largest change of several.
    #[must_use]
    pub fn largest<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let mut found = Self::default();
        for metric in Metric::ALL {
            found.set(metric, metric.largest(all.clone().filter_map(|values| values.get(metric))));
        }
        found
    }
}

/// A share in percent. What is not quite nothing and not quite all does not look as if it were.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0%".to_owned(),
        less if less < 0.1 => "<.1%".to_owned(),
        less if less < 9.95 => format!("{less:.1}%"),
        more if (99.5..100.0).contains(&more) => ">99%".to_owned(),
        more => format!("{more:.0}%"),
    }
}

/// A number with so many significant digits: `0.012`, `1.2e-5`, `340`.
fn significant(value: f64, digits: i32) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(0.01..1000.0).contains(&size) {
        let places = (digits - 1).max(0) as usize;
        return format!("{value:.places$e}");
    }
    let places = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_order_of_all() {
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(metric.place(), index);
        }
    }

    #[test]
    fn short_values() {
        let cases = [
            (Metric::Changed, 0.0, "0%"),
            (Metric::Changed, 0.0001, "<.1%"),
            (Metric::Changed, 0.123, "12%"),
            (Metric::Changed, 0.9999, ">99%"),
            (Metric::Changed, 1.0, "100%"),
            (Metric::Relative, 0.0, "0"),
            (Metric::Relative, 0.0123, "0.012"),
            (Metric::Relative, 1.234, "1.2"),
            (Metric::Relative, 1.21e-5, "1.2e-5"),
            (Metric::Cosine, 0.5, "0.50"),
            (Metric::MaxUlp, 812.0, "812"),
            (Metric::MaxUlp, 4.3e9, "4e9"),
            (Metric::EffectiveRank, 7.96, "8.0"),
        ];
        for (metric, value, text) in cases {
            assert_eq!(metric.short(value), text, "{metric:?} {value}");
        }
    }

    #[test]
    fn the_largest_change_is_kept() {
        let mut values = [Values::default(); 3];
        values[0].set(Metric::Cosine, Some(0.9));
        values[1].set(Metric::Cosine, Some(0.5));
        values[1].set(Metric::Relative, Some(0.1));
        values[2].set(Metric::Relative, Some(f64::NAN));
        let all = Values::largest(values.iter());
        assert_eq!((all.get(Metric::Cosine), all.get(Metric::Relative)), (Some(0.5), Some(0.1)));
        assert_eq!(all.get(Metric::Changed), None);
    }
}
