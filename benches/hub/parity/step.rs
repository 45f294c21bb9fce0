//! What is asked: an operation with its arguments, and what is known of the answers.

use std::collections::BTreeSet;

use serde_json::Value;

/// Every operation, by the name that hubvault has for it, and what shard's library has.
pub(crate) const OPERATIONS: [&str; 30] = [
    "create_repo",
    "repo_info",
    "create_commit",
    "merge",
    "get_paths_info",
    "list_repo_tree",
    "list_repo_files",
    "list_repo_commits",
    "list_repo_refs",
    "create_branch",
    "delete_branch",
    "create_tag",
    "delete_tag",
    "list_repo_reflog",
    "open_file",
    "read_bytes",
    "read_range",
    "hf_hub_download",
    "snapshot_download",
    "upload_file",
    "upload_folder",
    "upload_large_folder",
    "delete_file",
    "delete_folder",
    "reset_ref",
    "quick_verify",
    "full_verify",
    "get_storage_overview",
    "gc",
    "squash_history",
];

/// No operation: time passes, more than the second that times of commits are told in.
pub(crate) const PAUSE: &str = "pause";

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

    /// The id of the commit in an answer.
    pub(crate) fn id_of(&self, answer: &Value) -> Option<String> {
        let value = &answer["value"];
        let id = [&value["oid"], &value["head"], &value["head_after"]].into_iter().find_map(Value::as_str);
        id.map(str::to_owned)
    }
}

/// The operations that some step calls.
pub(crate) fn calls(scenarios: &[Scenario]) -> BTreeSet<&'static str> {
    scenarios.iter().flat_map(|scenario| &scenario.steps).map(|step| step.call).collect()
}
