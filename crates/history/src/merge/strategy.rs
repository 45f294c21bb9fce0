//! How tensors are decided about that both sides changed: rules by name, as data.
//!
//! A rule is written `PATTERN=STRATEGY`, such as `encoder.*=theirs`, `*.bias=average` or `lm_head.*=task:0.7,0.3`; a strategy
//! alone is a rule for every tensor. For `task:` there may be `task=`. The first rule whose pattern matches decides.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::glob::{Glob, GlobError};

/// Most rules of one merge.
pub const MAX_RULES: usize = 4096;

/// A text that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// What is before the `=` is no pattern.
    #[error("{rule:?}: {source}")]
    Pattern {
        /// The rule, shortened.
        rule: String,
        /// What is wrong with the pattern.
        source: GlobError,
    },
    /// A strategy that there is not.
    #[error("{0:?} is not a strategy: there are ours, theirs, average, and task:A,B")]
    Strategy(String),
    /// Weights that are not two finite numbers.
    #[error("{0:?} has no two finite numbers as weights, as in task:0.7,0.3")]
    Weights(String),
    /// More rules than a merge may have.
    #[error("more than {MAX_RULES} rules")]
    TooMany,
}

/// A finite number. There is one zero, so that equal weights have equal texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight(f64);

// No weight is a NaN.
impl Eq for Weight {}

impl Weight {
    /// A weight, if the number is finite.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero makes -0 of it 0.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// How one tensor of the result is made of those of the base and both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// That of ours.
    Ours,
    /// That of theirs.
    Theirs,
    /// The mean of both sides, element by element.
    Average,
    /// `base + ours * (A - base) + theirs * (B - base)`, element by element, with A and B the tensors of the two sides: task
    /// arithmetic, after Ilharco et al., "Editing Models with Task Arithmetic", 2023 (arXiv 2212.04089).
    Task {
        /// The weight of ours.
        ours: Weight,
        /// The weight of theirs.
        theirs: Weight,
    },
}

impl Strategy {
    /// The word for it, without weights.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Average => "average",
            Self::Task { .. } => "task",
        }
    }
}

impl fmt::Display for Strategy {
    /// The text that [`FromStr`] reads back, with the fewest digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::Task { ours, theirs } => write!(f, ":{:?},{:?}", ours.0, theirs.0),
            _ => Ok(()),
        }
    }
}

impl FromStr for Strategy {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text {
            "ours" => Ok(Self::Ours),
            "theirs" => Ok(Self::Theirs),
            "average" => Ok(Self::Average),
            _ => {
                let weights = match text.strip_prefix("task") {
                    None => return Err(RuleError::Strategy(shortened(text))),
                    Some("") => return Err(RuleError::Weights(shortened(text))),
                    Some(rest) => rest.strip_prefix([':', '=']).ok_or_else(|| RuleError::Strategy(shortened(text)))?,
                };
                let weight = |text: &str| text.trim().parse().ok().and_then(Weight::new);
                let weights = weights.split_once(',').and_then(|(ours, theirs)| Some((weight(ours)?, weight(theirs)?)));
                let (ours, theirs) = weights.ok_or_else(|| RuleError::Weights(shortened(text)))?;
                Ok(Self::Task { ours, theirs })
            }
        }
    }
}

/// A strategy for the tensors with certain names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The names.
    pub pattern: Glob,
    /// The strategy.
    pub strategy: Strategy,
}

impl fmt::Display for Rule {
    /// The text that [`FromStr`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.strategy)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    /// The last `=` separates, but for that of `task=`: patterns may have more of them, strategies not.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (pattern, strategy) = match text.rsplit_once('=') {
            None | Some(("task", _)) => ("*", text),
            Some((rest, _)) => match rest.strip_suffix("=task") {
                Some(pattern) => (pattern, text.get(pattern.len() + 1..).unwrap_or_default()),
                None => (rest, text.get(rest.len() + 1..).unwrap_or_default()),
            },
        };
        let strategy = strategy.parse()?;
        let pattern = Glob::new(pattern).map_err(|source| RuleError::Pattern { rule: shortened(text), source })?;
        Ok(Self { pattern, strategy })
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Which tensors rules decide about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those that both sides changed, and not to the same. What only one side changed is taken whole.
    #[default]
    Conflicts,
    /// All that any side changed: so are merges meant where weights belong to a whole model, as task arithmetic is published.
    Changes,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 2] = [Self::Conflicts, Self::Changes];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflicts => "conflicts",
            Self::Changes => "changes",
        }
    }
}

/// Rules in order, and what they apply to. Without rules every conflict stays one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Which tensors the rules decide about.
    pub scope: Scope,
}

impl Rules {
    /// Rules in order, at most [`MAX_RULES`].
    ///
    /// # Errors
    /// [`RuleError::TooMany`].
    pub fn new(rules: Vec<Rule>, scope: Scope) -> Result<Self, RuleError> {
        if rules.len() > MAX_RULES { Err(RuleError::TooMany) } else { Ok(Self { rules, scope }) }
    }

    /// Reads one rule a text.
    ///
    /// # Errors
    /// [`RuleError`] for the first text that is not a rule.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>, scope: Scope) -> Result<Self, RuleError> {
        Self::new(texts.into_iter().map(str::parse).collect::<Result<_, _>>()?, scope)
    }

    /// The rules, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Rule] {
        &self.rules
    }

    /// The strategy for everything that no other rule is for: of the first rule that matches every name.
    #[must_use]
    pub fn otherwise(&self) -> Option<Strategy> {
        self.rules.iter().find(|rule| rule.pattern.as_str() == "*").map(|rule| rule.strategy)
    }

    /// The strategy of the first rule that matches a name.
    #[must_use]
    pub fn strategy(&self, name: &str) -> Option<Strategy> {
        self.rules.iter().find(|rule| rule.pattern.matches(name)).map(|rule| rule.strategy)
    }
}

#[cfg(test)]
mod tests {
    use super::{Strategy, *};
    use proptest::prelude::*;

    fn task(ours: f64, theirs: f64) -> Strategy {
        Strategy::Task { ours: Weight::new(ours).unwrap(), theirs: Weight::new(theirs).unwrap() }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let texts = ["encoder.*=theirs", "*.bias=average", "lm_head.*=task:0.7,0.3", "ours"];
        let rules = Rules::parse(texts, Scope::Conflicts).unwrap();
        assert_eq!(rules.strategy("encoder.0.bias"), Some(Strategy::Theirs));
        assert_eq!(rules.strategy("lm_head.bias"), Some(Strategy::Average));
        assert_eq!(rules.strategy("lm_head.weight"), Some(task(0.7, 0.3)));
        assert_eq!(rules.strategy("x"), Some(Strategy::Ours));
        assert_eq!(Rules::parse(texts.into_iter().take(3), Scope::Conflicts).unwrap().strategy("x"), None);
        let shown: Vec<String> = rules.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["encoder.*=theirs", "*.bias=average", "lm_head.*=task:0.7,0.3", "*=ours"]);
        assert_eq!((rules.otherwise(), Rules::default().otherwise()), (Some(Strategy::Ours), None));
        assert_eq!("a=b=ours".parse::<Rule>().unwrap().pattern.as_str(), "a=b");
        for (text, same) in
            [("x=task=1,-2", "x=task:1.0,-2.0"), ("task=0.5,1", "*=task:0.5,1.0"), ("task=ours", "*=task=ours")]
        {
            assert_eq!(text.parse::<Rule>().ok(), same.parse().ok(), "{text}");
        }
        assert_eq!("a=b=task=1,2".parse::<Rule>().unwrap().to_string(), "a=b=task:1.0,2.0");
    }

    #[test]
    fn refusals() {
        let error = |text: &str| text.parse::<Rule>().unwrap_err();
        for text in ["", "x=", "OURS", "median", "tasks:1,2", "task;1,2", "average:1", "encoder.*"] {
            assert!(matches!(error(text), RuleError::Strategy(_)), "{text}");
        }
        for text in ["task", "task:", "task:1", "task:1,2,3", "a=task:1,x", "task:inf,1", "task:1,NaN", "task:1e999,0"]
        {
            assert!(matches!(error(text), RuleError::Weights(_)), "{text}");
        }
        assert_eq!(error("=ours"), RuleError::Pattern { rule: "=ours".to_owned(), source: GlobError::Empty });
        assert!(matches!(error("a[=ours"), RuleError::Pattern { source: GlobError::Unclosed, .. }));
        assert!(error(&"x".repeat(1000)).to_string().len() < 200);
        let many = std::iter::repeat_n("ours", MAX_RULES + 1);
        assert_eq!(Rules::parse(many, Scope::Changes), Err(RuleError::TooMany));
    }

    #[test]
    fn there_is_one_zero() {
        assert_eq!("task:-0,-0.0".parse::<Strategy>().unwrap().to_string(), "task:0.0,0.0");
        assert_eq!(Weight::new(-0.0).map(|weight| weight.get().to_bits()), Some(0));
        assert_eq!(Scope::ALL.map(Scope::as_str), ["conflicts", "changes"]);
    }

    proptest! {
        #[test]
        fn strategies_round_trip(ours in any::<f64>(), theirs in any::<f64>()) {
            if let (Some(ours), Some(theirs)) = (Weight::new(ours), Weight::new(theirs)) {
                let strategy = Strategy::Task { ours, theirs };
                prop_assert_eq!(strategy.to_string().parse(), Ok(strategy));
            }
        }

        #[test]
        fn any_text_is_a_rule_or_refused(text in "\\PC{0,12}(=(ours|task:-?[0-9]{1,3},1e[0-9]))?") {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
        }
    }
}
