//! The page of documentation that follows from the steps.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::step::{OPERATIONS, Scenario};

/// What shard calls an operation, in the library and on the command line.
const NAMES: [(&str, &str, &str); 30] = [
    ("create_repo", "Repository::create_repo", "init --bare"),
    ("repo_info", "repo_info", "branch -v"),
    ("create_commit", "create_commit", "commit --add --delete --copy"),
    ("merge", "merge", "merge"),
    ("get_paths_info", "get_paths_info", "ls-tree"),
    ("list_repo_tree", "list_repo_tree", "ls-tree -r"),
    ("list_repo_files", "list_repo_files", "ls-tree -r"),
    ("list_repo_commits", "list_repo_commits", "log"),
    ("list_repo_refs", "branches, tags, named_refs", "branch, tag"),
    ("create_branch", "create_branch", "branch"),
    ("delete_branch", "delete_branch", "branch -d"),
    ("create_tag", "create_tag", "tag"),
    ("delete_tag", "delete_tag", "tag -d"),
    ("list_repo_reflog", "reflog", "reflog"),
    ("open_file", "open_file", "cat"),
    ("read_bytes", "read_bytes", "cat"),
    ("read_range", "read_range", "cat --range"),
    ("hf_hub_download", "hf_hub_download", "download"),
    ("snapshot_download", "snapshot_download", "snapshot"),
    ("upload_file", "upload_file", "commit --add"),
    ("upload_folder", "upload_folder", "add, commit"),
    ("upload_large_folder", "upload_large_folder", "add, commit"),
    ("delete_file", "delete_file", "commit --delete"),
    ("delete_folder", "delete_folder", "commit --delete"),
    ("reset_ref", "reset_ref", "reset"),
    ("quick_verify", "verify(false)", "verify"),
    ("full_verify", "verify(true)", "verify --full"),
    ("get_storage_overview", "storage_overview", "du"),
    ("gc", "plan_gc, gc", "gc"),
    ("squash_history", "plan_squash, squash", "squash"),
];

/// The whole page.
pub(crate) fn page(scenarios: &[Scenario]) -> String {
    let mut page = String::from(HEAD);
    let mut steps: BTreeMap<&str, usize> = BTreeMap::new();
    for step in scenarios.iter().flat_map(|scenario| &scenario.steps) {
        *steps.entry(step.call).or_default() += 1;
    }
    for (operation, library, command) in NAMES {
        let count = steps.get(operation).copied().unwrap_or_default();
        let _ = writeln!(page, "| `{operation}` | `{library}` | `shard {command}` | {count} |");
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
    reasons.sort_by_key(|(_, calls)| OPERATIONS.iter().position(|operation| *operation == calls[0]));
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

const DIFFERENCES: &str = "
## Differences

Both promise the same but where the table says otherwise. Not compared, since they are words and not outcomes: messages of errors, of
moves of refs in logs, and of verifications.

| operation | shard |
|---|---|
";
