//! Listings, reads and downloads.

use serde_json::{Value, json};

use super::{add, commit, scenario};
use crate::step::{Scenario, Step, step};

pub(super) fn all() -> Vec<Scenario> {
    vec![listings(), reads(), downloads(), snapshots()]
}

fn some_files() -> Vec<Step> {
    vec![
        commit(vec![add("a.txt", "1"), add("d/b.txt", "0123456789"), add("d/e/c.txt", "333"), add("z.bin", "z")])
            .saved("one"),
        commit(vec![add("a.txt", "changed")]).saved("two"),
    ]
}

fn listings() -> Scenario {
    let tree = |arguments: Value| step("list_repo_tree", arguments);
    let mut steps = some_files();
    steps.extend([
        tree(json!({})),
        tree(json!({"recursive": true})),
        tree(json!({"path_in_repo": "d"})),
        tree(json!({"path_in_repo": "d/"})),
        tree(json!({"path_in_repo": "d", "recursive": true})),
        tree(json!({"path_in_repo": "nowhere"})),
        tree(json!({"path_in_repo": "a.txt"}))
            .differs(&["/error"], "A file is no folder: `not found`, not a wrong argument."),
        tree(json!({"revision": "{one}"})),
        tree(json!({"revision": "nowhere"})),
        step("list_repo_files", json!({"revision": "{one}"})),
        step("list_repo_files", json!({"revision": "nowhere"})),
        step("get_paths_info", json!({"paths": ["a.txt", "d/e", "d/b.txt", "nowhere"]})),
        step("get_paths_info", json!({"paths": "a.txt", "revision": "{one}"})),
        step("get_paths_info", json!({"paths": []})),
        step("list_repo_commits", json!({"revision": "{one}"})),
        step("list_repo_commits", json!({"revision": "nowhere"})),
    ]);
    scenario("listings", steps)
}

fn reads() -> Scenario {
    let read = |path: &str| step("read_bytes", json!({"path_in_repo": path}));
    let range = |start: i64, length: i64| {
        step("read_range", json!({"path_in_repo": "d/b.txt", "start": start, "length": length}))
    };
    let mut steps = some_files();
    steps.extend([
        read("a.txt"),
        step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "{one}"})),
        step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "main"})),
        step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "nowhere"})),
        read("nowhere"),
        read("d"),
        range(0, 10),
        range(3, 4),
        range(8, 10),
        range(10, 1),
        range(100, 1),
        range(5, 0),
        range(-1, 1),
        range(0, -1),
        step("read_range", json!({"path_in_repo": "nowhere", "start": 0, "length": 1})),
        step("open_file", json!({"path_in_repo": "d/b.txt", "seeks": [[0, 3], [8, 10], [2, 2], [20, 1]]})),
        step("open_file", json!({"path_in_repo": "a.txt", "revision": "{one}", "seeks": [[0, 9]]})),
        step("open_file", json!({"path_in_repo": "nowhere", "seeks": []})),
        step("open_file", json!({"path_in_repo": "d", "seeks": []})),
    ]);
    scenario("reads", steps)
}

fn downloads() -> Scenario {
    let download = |arguments: Value| step("hf_hub_download", arguments);
    let mut steps = some_files();
    steps.extend([
        download(json!({"filename": "d/b.txt"})),
        download(json!({"filename": "d/b.txt"})),
        download(json!({"filename": "a.txt", "revision": "{one}"})),
        download(json!({"filename": "a.txt"})),
        download(json!({"filename": "a.txt", "local_dir": "{dir}/out"})),
        download(json!({"filename": "a.txt", "revision": "{one}", "local_dir": "{dir}/out"})),
        download(json!({"filename": "d/e/c.txt", "local_dir": "{dir}/out"})),
        download(json!({"filename": "a.txt", "local_dir": "{dir}/repo/inside"})),
        download(json!({"filename": "nowhere"})),
        download(json!({"filename": "d"})),
        download(json!({"filename": "a.txt", "revision": "nowhere"})),
    ]);
    scenario("downloads", steps)
}

fn snapshots() -> Scenario {
    let snapshot = |arguments: Value| step("snapshot_download", arguments);
    let mut steps = some_files();
    steps.extend([
        snapshot(json!({})),
        snapshot(json!({"revision": "{one}"})),
        snapshot(json!({"allow_patterns": "*.txt"})),
        snapshot(json!({"allow_patterns": ["d/*"]})),
        snapshot(json!({"ignore_patterns": ["d/*", "*.bin"]})),
        snapshot(json!({"allow_patterns": ["*.txt"], "ignore_patterns": "a*"})),
        snapshot(json!({"allow_patterns": ["d/"]})),
        snapshot(json!({"allow_patterns": ["nothing"]})),
        snapshot(json!({"local_dir": "{dir}/out"})),
        commit(vec![json!({"delete": "z.bin"})]),
        snapshot(json!({"local_dir": "{dir}/out"})).differs(
            &["/value"],
            "Nothing is deleted in a folder of the caller's, as in Hugging Face's client: a file that the revision does not have any more stays.",
        ),
        snapshot(json!({"local_dir": "{dir}/repo"})),
        snapshot(json!({"revision": "nowhere"})),
    ]);
    scenario("snapshots", steps)
}
