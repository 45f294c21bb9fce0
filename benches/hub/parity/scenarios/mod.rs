//! Everything that is asked.

mod care;
mod commits;
mod folders;
mod merges;
mod paths;
mod reading;
mod refs;

use serde_json::{Value, json};

use crate::step::{Scenario, Step, step};

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let groups =
        [commits::all(), paths::all(), folders::all(), reading::all(), refs::all(), merges::all(), care::all()];
    groups.into_iter().flatten().collect()
}

fn scenario(name: &'static str, steps: Vec<Step>) -> Scenario {
    let mut all = vec![step("create_repo", json!({}))];
    all.extend(steps);
    Scenario { name, steps: all }
}

fn add(path: &str, text: &str) -> Value {
    json!({"add": path, "text": text})
}

fn delete(path: &str) -> Value {
    json!({"delete": path})
}

fn copy(from: &str, to: &str) -> Value {
    json!({"copy": from, "to": to})
}

/// A commit to the default branch.
fn commit(operations: Vec<Value>) -> Step {
    step("create_commit", json!({"operations": operations, "commit_message": "A change"}))
}

/// A commit to a branch.
fn commit_on(branch: &str, operations: Vec<Value>) -> Step {
    step(
        "create_commit",
        json!({"operations": operations, "commit_message": format!("A change of {branch}"), "revision": branch}),
    )
}

fn files() -> Step {
    step("list_repo_files", json!({}))
}

fn branch(name: &str, start: &str) -> Step {
    step("create_branch", json!({"branch": name, "revision": start}))
}
