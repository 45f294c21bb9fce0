//! Which commits of a branch stay: rules as backups have them, and the best by a number that was recorded.
//!
//! Commits are looked at from the newest on, in the order of the history. For each rule by time the first commit of each hour,
//! day … that has any stays, until as many as the rule says. Times are those of the commits, so the same history and rules
//! come to the same whoever decides, and when. What no rule keeps goes; the last commit always stays.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use serde_json::Value;
use shard_core::Digest;
use shard_manifest::canonical;
use shard_manifest::object::Fields;

use crate::commit::Commit;
use crate::timestamp::Timestamp;

/// What stays. A commit stays if any rule says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// So many last commits.
    pub last: usize,
    /// The last commit of each of so many periods that have commits.
    pub periods: Vec<(Period, usize)>,
    /// Every commit that has a tag.
    pub tagged: bool,
    /// The best commits by numbers.
    pub best: Vec<Best>,
}

/// A period of time, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// So many commits with the highest or lowest of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Best {
    /// The number's name: see [`metric`].
    pub metric: String,
    /// How many.
    pub count: usize,
    /// Whether the lowest are the best.
    pub lowest: bool,
}

/// A commit to be decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: Digest,
    /// When it was made.
    pub time: Timestamp,
    /// The tags that it has.
    pub tags: Vec<String>,
    /// For each rule in [`Retention::best`] its number, where it has one.
    pub metrics: Vec<Option<f64>>,
}

/// Why a commit stays.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// It is where the branch ends.
    Tip,
    /// It is the n-th last, from 1.
    Last(usize),
    /// It is the last of a period, which is the n-th.
    Period(Period, usize),
    /// It has this tag.
    Tagged(String),
    /// It is the n-th best by a number.
    Best {
        /// The number's name.
        metric: String,
        /// From 1.
        rank: usize,
        /// The number.
        value: f64,
    },
}

impl Period {
    /// Its name: `hour` …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Tells periods apart.
    fn of(self, time: Timestamp) -> String {
        let text = time.to_string();
        let len = match self {
            // 1970-01-01 was a Thursday.
            Self::Week => return (time.unix_seconds().div_euclid(86_400) + 3).div_euclid(7).to_string(),
            Self::Hour => 13,
            Self::Day => 10,
            Self::Month => 7,
            Self::Year => 4,
        };
        text.chars().take(len).collect()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tip => f.write_str("the last commit"),
            Self::Last(number) => write!(f, "last {number}"),
            Self::Period(period, number) => write!(f, "{} {number}", period.name()),
            Self::Tagged(tag) => write!(f, "tag {tag}"),
            Self::Best { metric, rank, value } => write!(f, "best {rank} by {metric}: {value}"),
        }
    }
}

impl Retention {
    /// Whether no rule keeps anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_periods = self.periods.iter().any(|(_, count)| *count > 0);
        self.last == 0 && !has_periods && !self.tagged && self.best.iter().all(|best| best.count == 0)
    }

    /// For each of the candidates, newest first, why it stays: without a reason it goes.
    #[must_use]
    pub fn decide(&self, candidates: &[Candidate]) -> Vec<Vec<Reason>> {
        let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); candidates.len()];
        let mut seen: Vec<HashSet<String>> = vec![HashSet::new(); self.periods.len()];
        for (index, (candidate, reasons)) in candidates.iter().zip(&mut reasons).enumerate() {
            if index == 0 {
                reasons.push(Reason::Tip);
            }
            if index < self.last {
                reasons.push(Reason::Last(index + 1));
            }
            for ((period, count), seen) in self.periods.iter().zip(&mut seen) {
                // Also where clocks were set back, and a period comes again.
                if seen.len() < *count && seen.insert(period.of(candidate.time)) {
                    reasons.push(Reason::Period(*period, seen.len()));
                }
            }
            if self.tagged {
                reasons.extend(candidate.tags.iter().cloned().map(Reason::Tagged));
            }
        }
        for (rule, best) in self.best.iter().enumerate() {
            let value =
                |index: &usize| candidates.get(*index)?.metrics.get(rule).copied().flatten().filter(|v| v.is_finite());
            let mut ranked: Vec<(f64, usize)> =
                (0..candidates.len()).filter_map(|index| Some((value(&index)?, index))).collect();
            // Of equal ones the newest.
            ranked.sort_by(|(a, newer), (b, older)| {
                let by_value = if best.lowest { a.total_cmp(b) } else { b.total_cmp(a) };
                by_value.then(newer.cmp(older))
            });
            for (rank, (value, index)) in ranked.into_iter().take(best.count).enumerate() {
                if let Some(reasons) = reasons.get_mut(index) {
                    reasons.push(Reason::Best { metric: best.metric.clone(), rank: rank + 1, value });
                }
            }
        }
        reasons
    }
}

/// A number that a commit has under a name: in the `metrics` of its run records, else in their hyperparameters or other fields, the
/// commit's own `metrics`, or its other fields; `epoch` and `step` are those of the records. Where several records have one, the
/// highest counts, or the lowest where that is better.
#[must_use]
pub fn metric(commit: &Commit, name: &str, lowest: bool) -> Option<f64> {
    let inside = |fields: &Fields| number(fields.get("metrics")?.get(name)?);
    let mut numbers = Vec::new();
    for record in &commit.records {
        let own = match name {
            "epoch" => record.epoch,
            "step" => record.step.map(|step| step as f64),
            _ => None,
        };
        let given = inside(&record.extra).or_else(|| number(record.hyperparameters.get(name)?));
        numbers.extend(given.or(own).or_else(|| number(record.extra.get(name)?)));
    }
    let better = |a: &f64, b: &f64| -> Ordering { if lowest { b.total_cmp(a) } else { a.total_cmp(b) } };
    let best = numbers.into_iter().filter(|number| number.is_finite()).max_by(better);
    best.or_else(|| inside(&commit.extra)).or_else(|| number(commit.extra.get(name)?))
}

/// A number as records have it. Texts are none, even such as stand for large integers or NaN.
fn number(value: &Value) -> Option<f64> {
    canonical::as_float(value).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shard_core::sha256;
    use shard_manifest::RunRecord;

    fn candidate(number: u8, time: &str) -> Candidate {
        Candidate { id: sha256(&[number]), time: time.parse().unwrap(), tags: Vec::new(), metrics: Vec::new() }
    }

    fn kept(rules: &Retention, candidates: &[Candidate]) -> Vec<usize> {
        let reasons = rules.decide(candidates);
        assert_eq!(reasons.len(), candidates.len());
        reasons.iter().enumerate().filter(|(_, reasons)| !reasons.is_empty()).map(|(index, _)| index).collect()
    }

    #[test]
    fn the_last_of_each_period_stays() {
        let times = [
            "2026-01-05T10:30:00Z", // Monday
            "2026-01-05T10:10:00Z",
            "2026-01-05T09:00:00Z",
            "2026-01-04T23:59:59Z", // Sunday, the week before
            "2026-01-04T01:00:00Z",
            "2026-01-01T00:00:00Z",
            "2025-12-31T23:00:00Z",
            "1969-12-28T00:00:00Z",
        ];
        let all: Vec<Candidate> = (0u8..).zip(times).map(|(number, time)| candidate(number, time)).collect();
        let by = |period, count| Retention { periods: vec![(period, count)], ..Retention::default() };
        assert_eq!(kept(&by(Period::Hour, 3), &all), [0, 2, 3]);
        assert_eq!(kept(&by(Period::Day, 3), &all), [0, 3, 5]);
        assert_eq!(kept(&by(Period::Week, 9), &all), [0, 3, 7]);
        assert_eq!(kept(&by(Period::Month, 2), &all), [0, 6]);
        assert_eq!(kept(&by(Period::Year, 9), &all), [0, 6, 7]);
        let both = Retention { last: 2, periods: vec![(Period::Day, 2)], ..Retention::default() };
        let reasons = both.decide(&all);
        assert_eq!(reasons[0], [Reason::Tip, Reason::Last(1), Reason::Period(Period::Day, 1)]);
        assert_eq!(reasons[1], [Reason::Last(2)]);
        assert_eq!(reasons[3], [Reason::Period(Period::Day, 2)]);
        assert_eq!(kept(&both, &all), [0, 1, 3]);
        assert!(Retention::default().is_empty() && by(Period::Day, 0).is_empty() && !both.is_empty());
        assert_eq!(kept(&Retention::default(), &all), [0], "the tip stays whatever the rules are");
        assert_eq!(kept(&both, &[]), [0usize; 0]);
    }

    #[test]
    fn fault_16_a_clock_that_was_set_back_keeps_no_period_twice() {
        let times = ["2026-01-02T00:00:00Z", "2036-01-01T00:00:00Z", "2026-01-02T12:00:00Z", "2026-01-01T00:00:00Z"];
        let all: Vec<Candidate> = (0u8..).zip(times).map(|(number, time)| candidate(number, time)).collect();
        let daily = Retention { periods: vec![(Period::Day, 3)], ..Retention::default() };
        assert_eq!(kept(&daily, &all), [0, 1, 3]);
    }

    #[test]
    fn tags_and_the_best_stay() {
        let mut all: Vec<Candidate> = (0..6).map(|number| candidate(number, "2026-01-01T00:00:00Z")).collect();
        all[4].tags.push("v1".to_owned());
        for (candidate, loss) in all.iter_mut().zip([Some(0.5), Some(0.2), None, Some(0.2), Some(f64::NAN), Some(0.9)])
        {
            candidate.metrics = vec![loss, loss];
        }
        let best = |lowest, count| Best { metric: "loss".to_owned(), count, lowest };
        let rules = Retention { tagged: true, best: vec![best(true, 1), best(false, 1)], ..Retention::default() };
        let reasons = rules.decide(&all);
        assert_eq!(kept(&rules, &all), [0, 1, 4, 5]);
        assert_eq!(reasons[1], [Reason::Best { metric: "loss".to_owned(), rank: 1, value: 0.2 }]);
        assert_eq!(reasons[4][0].to_string(), "tag v1");
        let rules = Retention { best: vec![best(true, 3)], ..Retention::default() };
        assert_eq!(kept(&rules, &all), [0, 1, 3]);
    }

    #[test]
    fn numbers_are_found_by_name() {
        let mut record = RunRecord { step: Some(7), epoch: Some(0.5), ..RunRecord::new("a") };
        record.hyperparameters.insert("lr".to_owned(), json!(0.1));
        record.hyperparameters.insert("name".to_owned(), json!("0.3"));
        record.extra.insert("metrics".to_owned(), json!({"loss": 2, "bad": "NaN"}));
        let mut other = RunRecord::new("b");
        other.extra.insert("loss".to_owned(), json!(3));
        let commit = Commit {
            tree: sha256(b""),
            parents: Vec::new(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            author: None,
            message: String::new(),
            records: vec![record, other],
            extra: json!({"metrics": {"f1": 0.9}, "score": 4}).as_object().cloned().unwrap(),
        };
        let of = |name| metric(&commit, name, false);
        assert_eq!(
            [of("lr"), of("step"), of("epoch"), of("f1"), of("score")],
            [Some(0.1), Some(7.0), Some(0.5), Some(0.9), Some(4.0)]
        );
        assert_eq!((of("loss"), metric(&commit, "loss", true)), (Some(3.0), Some(2.0)));
        assert_eq!([of("bad"), of("name"), of("none")], [None; 3]);
    }
}
