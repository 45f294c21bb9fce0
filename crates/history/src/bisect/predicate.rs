//! What is asked of a tensor: `has nan`, `absmax > 10`, `changed since v1`.
//!
//! A predicate is `has nan`, `has inf`, `MEASURE OP NUMBER`, or `changed since REV`, with `not` in front for the opposite.
//! Measures are those of [`Measure`]; operators `<`, `<=`, `>`, `>=`, `==` and `!=`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Something that a tensor's values have a number for. Of finite values but where they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Values that are not a number.
    Nan,
    /// Infinite values.
    Inf,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The largest absolute value.
    AbsMax,
    /// The arithmetic mean.
    Mean,
    /// The standard deviation.
    Std,
    /// The share of values that are zero, from 0 to 1.
    Zeros,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Self; 8] =
        [Self::Nan, Self::Inf, Self::Min, Self::Max, Self::AbsMax, Self::Mean, Self::Std, Self::Zeros];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nan => "nan",
            Self::Inf => "inf",
            Self::Min => "min",
            Self::Max => "max",
            Self::AbsMax => "absmax",
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Zeros => "zeros",
        }
    }
}

/// How two numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Other,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("==", Operator::Equal),
    ("!=", Operator::Other),
    ("<", Operator::Less),
    (">", Operator::More),
];

#[derive(Debug, Clone, PartialEq)]
enum Question {
    Number(Measure, Operator, f64),
    ChangedSince(String),
}

/// A question about a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicate {
    is_negated: bool,
    question: Question,
}

/// A text that is no predicate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a question about a tensor: {why}")]
pub struct PredicateError {
    /// The text, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Predicate {
    type Err = PredicateError;

    fn from_str(text: &str) -> Result<Self, PredicateError> {
        let refuse = |why: &'static str| PredicateError { text: text.chars().take(80).collect(), why };
        let words = text.trim();
        let (is_negated, words) = match words.strip_prefix("not ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, words),
        };
        let question = match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["has", "nan"] => Question::Number(Measure::Nan, Operator::More, 0.0),
            ["has", "inf"] => Question::Number(Measure::Inf, Operator::More, 0.0),
            ["has", ..] => return Err(refuse("a tensor has nan or has inf")),
            ["changed", "since", revision] => Question::ChangedSince(revision.to_owned()),
            ["changed", ..] => return Err(refuse("a tensor changed since a revision")),
            _ => {
                let at = OPERATORS.iter().find_map(|(sign, operator)| Some((words.find(sign)?, *sign, *operator)));
                let (at, sign, operator) = at.ok_or_else(|| refuse("it has none of < <= > >= == !="))?;
                let (name, number) = words.split_at_checked(at).unwrap_or((words, ""));
                let measure = Measure::ALL.into_iter().find(|measure| measure.as_str() == name.trim());
                let measure = measure
                    .ok_or_else(|| refuse("a measure is one of nan, inf, min, max, absmax, mean, std, zeros"))?;
                let number = number.strip_prefix(sign).unwrap_or_default().trim().parse::<f64>();
                let number = number.ok().filter(|number| number.is_finite());
                Question::Number(
                    measure,
                    operator,
                    number.ok_or_else(|| refuse("what it is compared with is no number"))?,
                )
            }
        };
        Ok(Self { is_negated, question })
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negated {
            f.write_str("not ")?;
        }
        match &self.question {
            Question::Number(measure, operator, number) => {
                let sign = OPERATORS.iter().find(|(_, other)| other == operator).map_or("", |(sign, _)| *sign);
                write!(f, "{} {sign} {number}", measure.as_str())
            }
            Question::ChangedSince(revision) => write!(f, "changed since {revision}"),
        }
    }
}

impl Predicate {
    /// The revision that a tensor is compared with, where that is the question: no values are looked at then.
    #[must_use]
    pub fn changed_since(&self) -> Option<&str> {
        match &self.question {
            Question::ChangedSince(revision) => Some(revision),
            Question::Number(..) => None,
        }
    }

    /// The answer for a tensor, given its measures, and whether it changed. `None` where what is asked for is not known.
    #[must_use]
    pub fn holds(&self, measure: impl FnOnce(Measure) -> Option<f64>, has_changed: Option<bool>) -> Option<bool> {
        let holds = match &self.question {
            Question::ChangedSince(_) => has_changed?,
            Question::Number(of, operator, number) => {
                let order = measure(*of)?.partial_cmp(number)?;
                match operator {
                    Operator::Less => order == Ordering::Less,
                    Operator::AtMost => order != Ordering::Greater,
                    Operator::More => order == Ordering::Greater,
                    Operator::AtLeast => order != Ordering::Less,
                    Operator::Equal => order == Ordering::Equal,
                    Operator::Other => order != Ordering::Equal,
                }
            }
        };
        Some(holds != self.is_negated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, value: f64) -> Option<bool> {
        text.parse::<Predicate>().unwrap().holds(|_| Some(value), Some(value > 0.0))
    }

    #[test]
    fn questions_and_answers() {
        for (text, value, answer) in [
            ("has nan", 1.0, true),
            ("has nan", 0.0, false),
            ("not has nan", 0.0, true),
            ("has inf", 2.0, true),
            ("absmax > 10", 10.0, false),
            ("absmax>=10", 10.0, true),
            ("mean < 0", -1e-9, true),
            ("mean <= -1e-3", 0.0, false),
            ("zeros == 1", 1.0, true),
            ("std != 0", 0.0, false),
            ("  not   min  <  -2.5 ", -3.0, false),
            ("changed since v1~2", 1.0, true),
            ("not changed since v1", 1.0, false),
        ] {
            assert_eq!(holds(text, value), Some(answer), "{text}");
            let read: Predicate = text.parse().unwrap();
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        let mean: Predicate = "mean > 0".parse().unwrap();
        assert_eq!(mean.holds(|_| None, None), None);
        assert_eq!(mean.holds(|measure| (measure == Measure::Mean).then_some(1.0), None), Some(true));
        assert_eq!("changed since v1".parse::<Predicate>().unwrap().changed_since(), Some("v1"));
    }

    #[test]
    fn what_is_no_question() {
        for text in [
            "",
            "nan",
            "has",
            "has zeros",
            "absmax",
            "absmax > ",
            "absmax > nan",
            "norm > 1",
            "mean =< 1",
            "changed",
            "changed since",
            "changed since a b",
            "> 1",
            "mean > 1 > 2",
            "not",
            "mean = 1",
        ] {
            assert!(text.parse::<Predicate>().is_err(), "{text:?}");
        }
        let long = "x".repeat(10_000);
        assert_eq!(long.parse::<Predicate>().unwrap_err().text.len(), 80);
    }
}
