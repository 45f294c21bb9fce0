//! Why: the chain that shard chose for each tensor, and what the others were expected to take.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::codec::{Explanation, level_name};
use super::series::Place;
use super::tally::Row;
use crate::Context;
use crate::report::size::{human, ratio, ratio_value};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// How many other chains a line shows.
const SHOWN: usize = 3;

/// How shard chose for the blocks of a tensor that are not equal to earlier ones.
#[derive(Debug)]
pub(super) struct Explained {
    /// The tensor; its figures are not used.
    pub(super) row: Row,
    raw: u64,
    stored: u64,
    /// The chains chosen, and for how many bytes.
    chains: Vec<(String, u64)>,
    /// What each chain was expected to take, and for how many bytes.
    estimates: HashMap<String, (u64, u64)>,
}

impl Explained {
    pub(super) fn new(place: Place<'_>) -> Self {
        Self { row: Row::new(place), raw: 0, stored: 0, chains: Vec::new(), estimates: HashMap::new() }
    }

    /// Adds what was found for another block of `raw` bytes.
    pub(super) fn add(&mut self, raw: u64, explanation: Explanation) {
        self.raw += raw;
        self.stored += explanation.stored;
        match self.chains.iter_mut().find(|(chain, _)| *chain == explanation.chain) {
            Some((_, bytes)) => *bytes += raw,
            None => self.chains.push((explanation.chain, raw)),
        }
        self.chains.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        for (shape, estimated) in explanation.estimates {
            let (sum, covered) = self.estimates.entry(shape).or_default();
            *sum += estimated;
            *covered += raw;
        }
    }

    /// The chain of most of its bytes.
    fn chain(&self) -> &str {
        self.chains.first().map_or("", |(chain, _)| chain)
    }

    /// Whether a chain is of that shape.
    fn is_of(chain: &str, shape: &str) -> bool {
        chain.strip_prefix(shape).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
    }

    /// Estimates of the chains that came into question for every block, the least first.
    fn estimates(&self) -> Vec<(&str, u64)> {
        let whole = self.estimates.iter().filter(|(_, (_, covered))| *covered == self.raw);
        let mut all: Vec<(&str, u64)> = whole.map(|(shape, (sum, _))| (shape.as_str(), *sum)).collect();
        all.sort_by_key(|(shape, sum)| (*sum, *shape));
        all
    }
}

/// The `worst` that take the most, or all in file order.
pub(super) fn select(explained: Vec<Explained>, worst: Option<usize>) -> Vec<Explained> {
    let mut selected = explained;
    if let Some(worst) = worst {
        selected.sort_by_key(|explained| std::cmp::Reverse(explained.stored));
        selected.truncate(worst);
    }
    selected
}

/// The lines of a table; files are named where `several` are measured.
pub(super) fn to_text(explained: &[Explained], files: &[String], several: bool, context: &Context) -> String {
    let mut table = Table::new(&[
        "file",
        "tensor",
        "dtype",
        ">coded",
        ">stored",
        ">ratio",
        "chosen",
        ">estimated",
        "others, estimated",
    ]);
    for one in explained {
        let estimates = one.estimates();
        let chosen = estimates.iter().find(|(shape, _)| Explained::is_of(one.chain(), shape));
        let others: Vec<String> = estimates
            .iter()
            .filter(|(shape, _)| !Explained::is_of(one.chain(), shape))
            .take(SHOWN)
            .map(|(shape, sum)| format!("{shape} {}", ratio(one.raw, *sum)))
            .collect();
        let more = match one.chains.len() {
            0 | 1 => String::new(),
            chains => format!(" and {} more", chains - 1),
        };
        table.row(vec![
            files.get(one.row.file).filter(|_| several).map_or("", String::as_str).into(),
            one.row.name().into(),
            one.row.dtype_name().into(),
            human(one.raw).into(),
            human(one.stored).into(),
            ratio(one.raw, one.stored).into(),
            Cell::new(format!("{}{more}", one.chain()), Style::Green),
            chosen.map_or_else(|| "-".to_owned(), |(_, sum)| ratio(one.raw, *sum)).into(),
            others.join(", ").into(),
        ]);
    }
    let level = level_name(context.settings.level);
    if table.is_empty() {
        return "\nnothing was coded, so nothing was chosen\n".to_owned();
    }
    format!(
        "\nwhat `--level {level}` chose, and what was expected (of filters by a sample, of the context coder and mixing in long \
         tensors by rules from filters):\n{}",
        context.ui.table(&table)
    )
}

pub(super) fn to_json(explained: &[Explained], files: &[String]) -> Value {
    let one = |one: &Explained| {
        let chains = one.chains.iter().map(|(chain, bytes)| json!({"chain": chain, "bytes": bytes}));
        let estimates = one.estimates().into_iter().map(|(shape, sum)| json!({"chain": shape, "estimated": sum}));
        json!({
            "file": files.get(one.row.file),
            "tensor": one.row.tensor,
            "dtype": one.row.dtype.map(shard_core::DType::name),
            "coded": one.raw,
            "stored": one.stored,
            "ratio": ratio_value(one.raw, one.stored),
            "chosen": chains.collect::<Vec<_>>(),
            "estimates": estimates.collect::<Vec<_>>(),
        })
    };
    explained.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(chain: &str, stored: u64, estimates: &[(&str, u64)]) -> Explanation {
        let estimates = estimates.iter().map(|(shape, bytes)| ((*shape).to_owned(), *bytes)).collect();
        Explanation { chain: chain.to_owned(), stored, estimates }
    }

    fn explained(name: &str, stored: u64) -> Explained {
        let mut one = Explained::new(Place { file: 0, tensor: Some(name), dtype: None, offset: 0 });
        one.add(100, explanation("parent+ulp[rans]", stored, &[("parent+ulp", stored), ("zero", 70)]));
        one
    }

    #[test]
    fn blocks_of_a_tensor_are_one_line() {
        let mut one = explained("w", 30);
        one.add(200, explanation("zero[rans]", 130, &[("zero", 120), ("zero+split", 125)]));
        assert_eq!((one.raw, one.stored, one.chain()), (300, 160, "zero[rans]"));
        assert_eq!(one.estimates(), [("zero", 190)], "the others were not in question for every block");
        assert!(Explained::is_of("zero[rans]", "zero") && !Explained::is_of("zero+split[rans]", "zero"));
    }

    #[test]
    fn the_worst_take_the_most() {
        let all = || vec![explained("a", 10), explained("b", 30), explained("c", 20)];
        let names = |selected: Vec<Explained>| {
            selected.iter().map(|one| one.row.name().to_owned()).collect::<Vec<_>>().join("")
        };
        assert_eq!(names(select(all(), None)), "abc");
        assert_eq!(names(select(all(), Some(2))), "bc");
        assert_eq!(to_json(&all(), &["x".to_owned()])[1]["chosen"][0]["chain"], "parent+ulp[rans]");
    }
}
