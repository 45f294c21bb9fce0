//! Folders on disk, uploaded: made by downloads first, so that both sides have the same.

use serde_json::json;

use super::{add, commit, files, scenario};
use crate::step::{Scenario, Step, step};

const MEMORY: &str = "What downloads remember of themselves in a folder (`.cache`) is not uploaded from there.";
const MESSAGE: &str = "Messages that nobody gave say what was done, without the name of a product.";

pub(super) fn all() -> Vec<Scenario> {
    vec![uploads(), patterns()]
}

/// A folder `{dir}/from` with files.
fn folder() -> Vec<Step> {
    vec![
        commit(vec![add("f.bin", "f"), add("g.txt", "g"), add("sub/h.txt", "h"), add("sub/deep/i.bin", "i")]),
        step("snapshot_download", json!({"local_dir": "{dir}/from"})),
        step("create_repo", json!({})).on("to"),
    ]
}

fn upload(arguments: serde_json::Value) -> Step {
    let mut arguments = arguments;
    arguments["folder_path"] = json!("{dir}/from");
    arguments["commit_message"] = json!("m");
    step("upload_folder", arguments).on("to")
}

fn uploads() -> Scenario {
    let mut steps = folder();
    steps.extend([
        upload(json!({})),
        files().on("to").differs(&["/value"], MEMORY),
        upload(json!({"path_in_repo": "up"})),
        files().on("to").differs(&["/value"], MEMORY),
        upload(json!({})),
        step("upload_folder", json!({"folder_path": "{dir}/nowhere", "commit_message": "m"})).on("to"),
        step("upload_folder", json!({"folder_path": "{dir}/from/f.bin", "commit_message": "m"})).on("to"),
        step("upload_large_folder", json!({"folder_path": "{dir}/from"}))
            .on("to")
            .differs(&["/value/commit_message"], MESSAGE),
        step("upload_large_folder", json!({"folder_path": "{dir}/from", "allow_patterns": ["*.nothing"]})).on("to"),
        step("upload_file", json!({"file": "{dir}/from/f.bin", "path_in_repo": "one.bin", "commit_message": "m"}))
            .on("to"),
        step("upload_file", json!({"file": "{dir}/nowhere", "path_in_repo": "two.bin", "commit_message": "m"}))
            .on("to"),
        step("upload_file", json!({"file": "{dir}/from/sub", "path_in_repo": "three.bin", "commit_message": "m"}))
            .on("to"),
        step("upload_file", json!({"text": "x", "path_in_repo": "four.bin"}))
            .on("to")
            .differs(&["/value/commit_message"], MESSAGE),
        step("delete_file", json!({"path_in_repo": "four.bin"})).on("to").differs(&["/value/commit_message"], MESSAGE),
        files().on("to").differs(&["/value"], MEMORY),
    ]);
    scenario("uploads", steps)
}

fn patterns() -> Scenario {
    let mut steps = folder();
    steps.extend([
        upload(json!({"allow_patterns": ["*.txt"]})),
        files().on("to"),
        upload(json!({"allow_patterns": "sub/*", "path_in_repo": "b"})),
        files().on("to"),
        upload(json!({"ignore_patterns": ["sub/"], "path_in_repo": "c"})),
        files().on("to").differs(&["/value"], MEMORY),
        upload(json!({"ignore_patterns": ["*.bin", "g*"], "path_in_repo": "d"})),
        files().on("to").differs(&["/value"], MEMORY),
        upload(json!({"allow_patterns": ["*.txt"], "delete_patterns": "*.bin", "path_in_repo": "b"})),
        files().on("to").differs(&["/value"], MEMORY),
        upload(json!({"allow_patterns": ["g.txt"], "delete_patterns": ["*"]})),
        files().on("to"),
        step("upload_large_folder", json!({"folder_path": "{dir}/from", "ignore_patterns": "*.txt"}))
            .on("to")
            .differs(&["/value/commit_message"], MESSAGE),
        files().on("to").differs(&["/value"], MEMORY),
    ]);
    scenario("upload patterns", steps)
}
