//! The page of documentation that follows from the steps.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::ours::ASKED_WITH;
use crate::step::{OPERATIONS, Operation, Scenario};

/// The whole page.
pub(crate) fn page(scenarios: &[Scenario]) -> String {
    let mut page = String::from(HEAD);
    let mut steps: BTreeMap<&str, usize> = BTreeMap::new();
    for step in scenarios.iter().flat_map(|scenario| &scenario.steps) {
        *steps.entry(step.call).or_default() += 1;
    }
    for Operation { name, library, command } in OPERATIONS {
        let count = steps.get(name).copied().unwrap_or_default();
        let _ = writeln!(page, "| `{name}` | `{library}` | `shard {command}` | {count} |");
    }
    page.push_str(ASKED);
    for (name, with, default) in ASKED_WITH {
        let _ = writeln!(page, "| `{name}` | {with} | {default} |");
    }
    page.push_str(DIFFERENCES);
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for step in scenarios.iter().flat_map(|scenario| &scenario.steps) {
        let Some(difference) = &step.differs else { continue };
        match reasons.iter_mut().find(|(why, _)| *why == difference.why) {
            Some((_, calls)) if calls.contains(&step.call) => {}
            Some((_, calls)) => calls.push(step.call),
            None => reasons.push((difference.why, vec![step.call])),
        }
    }
    reasons.sort_by_key(|(_, calls)| OPERATIONS.iter().position(|operation| operation.name == calls[0]));
    for (why, calls) in reasons {
        let calls: Vec<String> = calls.iter().map(|call| format!("`{call}`")).collect();
        let _ = writeln!(page, "| {} | {why} |", calls.join(", "));
    }
    page
}

const HEAD: &str = "# Beside hubvault

hubvault 0.0.2 (from PyPI) keeps versions of models and data in a folder, with the operations of the Hugging
Face hub's client. shard has all of them; `benches/hub/parity/run` asks both the same, step by step on repositories of their own, and
compares what they answer: values, errors, bytes and files. Commits are compared by their place in history, since their ids are made
from times and authors; ids of files and folders have to be equal, as they are Git's. This page is written by that run, which fails
where the two differ otherwise than it says.

| hubvault | shard's library | shard's command | steps |
|---|---|---|---|
";

const ASKED: &str = "
## Asked with

Where shard does something else by default, it is asked so that it does what hubvault does:

| operation | asked with | by default |
|---|---|---|
";

const DIFFERENCES: &str = "
## Differences

Both promise the same but where this table, or the one above, says otherwise. Not compared, since they are words and not outcomes: messages of errors, of
moves of refs in logs, and of verifications.

| operation | shard |
|---|---|
";
