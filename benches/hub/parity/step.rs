//! What is asked: an operation with its arguments, and what is known of the answers.

use std::collections::BTreeSet;

use serde_json::Value;

/// An operation.
pub(crate) struct Operation {
    /// hubvault's name of it.
    pub(crate) name: &'static str,
    /// What shard's library has for it.
    pub(crate) library: &'static str,
    /// And its command line.
    pub(crate) command: &'static str,
}

const fn operation(name: &'static str, library: &'static str, command: &'static str) -> Operation {
    Operation { name, library, command }
}

/// Every operation that hubvault has.
pub(crate) const OPERATIONS: [Operation; 30] = [
    operation("create_repo", "Repository::create_repo", "init --bare"),
    operation("repo_info", "repo_info", "branch -v"),
    operation("create_commit", "create_commit", "commit --add --delete --copy"),
    operation("merge", "merge", "merge"),
    operation("get_paths_info", "get_paths_info", "ls-tree"),
    operation("list_repo_tree", "list_repo_tree", "ls-tree -r"),
    operation("list_repo_files", "list_repo_files", "ls-tree -r"),
    operation("list_repo_commits", "list_repo_commits", "log"),
    operation("list_repo_refs", "branches, tags, named_refs", "branch, tag"),
    operation("create_branch", "create_branch", "branch"),
    operation("delete_branch", "delete_branch", "branch -d"),
    operation("create_tag", "create_tag", "tag"),
    operation("delete_tag", "delete_tag", "tag -d"),
    operation("list_repo_reflog", "reflog", "reflog"),
    operation("open_file", "open_file", "cat"),
    operation("read_bytes", "read_bytes", "cat"),
    operation("read_range", "read_range", "cat --range"),
    operation("hf_hub_download", "hf_hub_download", "download"),
    operation("snapshot_download", "snapshot_download", "snapshot"),
    operation("upload_file", "upload_file", "commit --add"),
    operation("upload_folder", "upload_folder", "add, commit"),
    operation("upload_large_folder", "upload_large_folder", "add, commit"),
    operation("delete_file", "delete_file", "commit --delete"),
    operation("delete_folder", "delete_folder", "commit --delete"),
    operation("reset_ref", "reset_ref", "reset"),
    operation("quick_verify", "verify(false)", "verify"),
    operation("full_verify", "verify(true)", "verify --full"),
    operation("get_storage_overview", "storage_overview", "du"),
    operation("gc", "plan_gc, gc", "gc"),
    operation("squash_history", "plan_squash, squash", "squash"),
];

/// No operation: time passes, more than the second that times of commits are told in.
pub(crate) const PAUSE: &str = "pause";

/// No operation: a byte in the middle of the largest file that holds content becomes another one.
pub(crate) const DAMAGE: &str = "damage";

/// Steps on one repository, in their order.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// A difference that is meant.
pub(crate) struct Difference {
    /// Where the answers differ: these places, or below.
    pub(crate) at: Vec<&'static str>,
    /// What shard does in place of what hubvault does, and why.
    pub(crate) why: &'static str,
}

/// One operation.
pub(crate) struct Step {
    pub(crate) call: &'static str,
    pub(crate) arguments: Value,
    /// The folder of the repository, in that of the side.
    pub(crate) repo: &'static str,
    /// The name that stands for the id of the answer in later steps.
    pub(crate) save: Option<&'static str>,
    pub(crate) differs: Option<Difference>,
}

/// An operation on the scenario's repository.
pub(crate) fn step(call: &'static str, arguments: Value) -> Step {
    Step { call, arguments, repo: "repo", save: None, differs: None }
}

impl Step {
    /// Later steps have the id of the commit as `{name}`.
    pub(crate) fn saved(self, name: &'static str) -> Self {
        Self { save: Some(name), ..self }
    }

    pub(crate) fn on(self, repo: &'static str) -> Self {
        Self { repo, ..self }
    }

    /// The answers differ at these places, and why.
    pub(crate) fn differs(self, at: &[&'static str], why: &'static str) -> Self {
        Self { differs: Some(Difference { at: at.to_vec(), why }), ..self }
    }
}

/// The operations that some step calls.
pub(crate) fn calls(scenarios: &[Scenario]) -> BTreeSet<&'static str> {
    scenarios.iter().flat_map(|scenario| &scenario.steps).map(|step| step.call).collect()
}

/// The id of the commit in an answer.
pub(crate) fn id_of(answer: &Value) -> Option<String> {
    let value = &answer["value"];
    let id = [&value["oid"], &value["head"], &value["head_after"]].into_iter().find_map(Value::as_str);
    id.map(str::to_owned)
}
