//! Squashing, collecting, verifying and what takes space.

use serde_json::json;

use super::{add, branch, commit, files, scenario};
use crate::step::{DAMAGE, Scenario, Step, step};

pub(super) fn all() -> Vec<Scenario> {
    vec![squashes(), collections(), damaged()]
}

fn squash(arguments: serde_json::Value) -> Step {
    step("squash_history", arguments)
}

fn squashes() -> Scenario {
    let mut steps = vec![
        commit(vec![add("a.txt", "1")]).saved("one"),
        commit(vec![add("a.txt", "2"), add("b.txt", "2")]).saved("two"),
        commit(vec![add("a.txt", "3")]).saved("three"),
        commit(vec![add("a.txt", "4")]),
        squash(json!({"ref_name": "nowhere"})),
        squash(json!({"ref_name": "main", "root_revision": "nowhere"})),
        squash(json!({"ref_name": "main", "root_revision": "{three}", "run_gc": false})),
        step("list_repo_commits", json!({})),
        files(),
        step("read_bytes", json!({"path_in_repo": "a.txt"})),
        step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "main"})),
        branch("dev", "main"),
        commit(vec![add("a.txt", "5")]),
        step("create_tag", json!({"tag": "v1"})),
        squash(json!({"ref_name": "main", "commit_message": "All of it", "run_gc": false})),
        step("list_repo_commits", json!({})),
        step("read_bytes", json!({"path_in_repo": "a.txt"})),
        step("delete_branch", json!({"branch": "dev"})),
        step("delete_tag", json!({"tag": "v1"})),
        squash(json!({"ref_name": "main"})).differs(
            &["answer"],
            "Squashing what is one commit already says that there is nothing to do, as an error; nothing changes on either side.",
        ),
        step("full_verify", json!({})),
    ];
    steps.push(squash(json!({"ref_name": "v1"})));
    scenario("squashes", steps)
}

fn collections() -> Scenario {
    let long = "a line of text that takes some room\n".repeat(2000);
    scenario(
        "collections",
        vec![
            commit(vec![add("a.txt", &long)]).saved("one"),
            step("quick_verify", json!({})),
            step("full_verify", json!({})),
            step("get_storage_overview", json!({})),
            step("gc", json!({"dry_run": true})),
            step("gc", json!({})),
            branch("dev", "main"),
            step(
                "create_commit",
                json!({"operations": [add("b.txt", &long.replace("some", "more"))], "commit_message": "m", "revision": "dev"}),
            ),
            step("delete_branch", json!({"branch": "dev"})),
            step("get_storage_overview", json!({})),
            step("gc", json!({"dry_run": true})),
            step("gc", json!({})),
            step("gc", json!({"prune_cache": false})),
            step("get_storage_overview", json!({})),
            step("read_bytes", json!({"path_in_repo": "a.txt"})),
            step("full_verify", json!({})),
            step("hf_hub_download", json!({"filename": "a.txt"})),
            step("get_storage_overview", json!({})),
            step("gc", json!({"prune_cache": true})),
            step("get_storage_overview", json!({})),
            step("hf_hub_download", json!({"filename": "a.txt"})),
        ],
    )
}

fn damaged() -> Scenario {
    // Nothing that compresses, so that the byte that changes is one of the file.
    let mut state = 1u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (state >> 24) as u8 % 64)
    };
    let text: String = (0..1 << 20).map(|_| letter()).collect();
    scenario(
        "damaged",
        vec![
            commit(vec![add("a.txt", "small"), add("b.txt", &text)]),
            step("full_verify", json!({})),
            step(DAMAGE, json!({})),
            step("full_verify", json!({})),
            step("read_bytes", json!({"path_in_repo": "b.txt"})),
        ],
    )
}
