//! Repositories, commits and what they say.

use serde_json::json;

use super::{add, commit, commit_on, copy, delete, files, scenario};
use crate::step::{Scenario, step};

pub(super) fn all() -> Vec<Scenario> {
    vec![repositories(), messages(), parents(), operations(), copies(), deletions(), twins()]
}

fn repositories() -> Scenario {
    scenario(
        "repositories",
        vec![
            step("create_repo", json!({})),
            step("create_repo", json!({"exist_ok": true})),
            step("repo_info", json!({})).saved("first"),
            step("repo_info", json!({"revision": "main"})),
            step("repo_info", json!({"revision": "{first}"})),
            step("repo_info", json!({"revision": "nowhere"})),
            step("repo_info", json!({})).on("nothing"),
            step("list_repo_files", json!({})).on("nothing"),
            files(),
            step("list_repo_commits", json!({})),
            step("quick_verify", json!({})),
            step("create_repo", json!({"default_branch": "trunk"})).on("other"),
            step("list_repo_refs", json!({})).on("other"),
            step("list_repo_files", json!({"revision": "trunk"})).on("other"),
        ],
    )
}

fn messages() -> Scenario {
    let with = |message: &str, description: Option<&str>, text: &str| {
        let operations = vec![add("a.txt", text)];
        step(
            "create_commit",
            json!({"operations": operations, "commit_message": message, "commit_description": description}),
        )
    };
    scenario(
        "messages",
        vec![
            with("A title", None, "1"),
            with("A title", Some("A text\nof two lines"), "2"),
            with("", None, "3"),
            with("The same bytes again", None, "2"),
            step("create_commit", json!({"operations": [], "commit_message": "Nothing"})),
            step("list_repo_commits", json!({})),
            step(
                "upload_file",
                json!({"text": "x", "path_in_repo": "b.txt", "commit_message": "Said", "commit_description": "more"}),
            ),
            step("delete_file", json!({"path_in_repo": "b.txt", "commit_message": "Gone"})),
            step("list_repo_commits", json!({})),
        ],
    )
}

fn parents() -> Scenario {
    let with = |parent: &str, text: &str| {
        let operations = vec![add("a.txt", text)];
        step("create_commit", json!({"operations": operations, "commit_message": "m", "parent_commit": parent}))
    };
    scenario(
        "parents",
        vec![
            commit(vec![add("a.txt", "1")]).saved("one"),
            with("{one}", "2").saved("two"),
            with("{one}", "3"),
            with("0000000000000000000000000000000000000000", "3"),
            files(),
            step("read_bytes", json!({"path_in_repo": "a.txt"})),
            step(
                "upload_file",
                json!({"text": "4", "path_in_repo": "a.txt", "commit_message": "m", "parent_commit": "{one}"}),
            ),
            step(
                "upload_file",
                json!({"text": "4", "path_in_repo": "a.txt", "commit_message": "m", "parent_commit": "{two}"}),
            )
            .saved("three"),
            step("delete_file", json!({"path_in_repo": "a.txt", "commit_message": "m", "parent_commit": "{two}"})),
            step("delete_file", json!({"path_in_repo": "a.txt", "commit_message": "m", "parent_commit": "{three}"})),
            commit_on("nowhere", vec![add("a.txt", "5")]),
            commit_on("{one}", vec![add("a.txt", "5")]),
            step("create_tag", json!({"tag": "v1"})),
            commit_on("v1", vec![add("a.txt", "5")]),
        ],
    )
}

fn operations() -> Scenario {
    scenario(
        "operations",
        vec![
            commit(vec![add("a.txt", "1"), add("d/b.txt", "22"), add("d/e/c.txt", "333")]),
            commit(vec![add("q.txt", "1"), add("q.txt", "2")]),
            step("read_bytes", json!({"path_in_repo": "q.txt"})),
            commit(vec![add("r.txt", "1"), delete("r.txt")]),
            commit(vec![delete("d/b.txt"), add("d/b.txt", "new")]),
            step("read_bytes", json!({"path_in_repo": "d/b.txt"})),
            commit(vec![add("a.txt", "lost"), delete("nowhere")]),
            step("read_bytes", json!({"path_in_repo": "a.txt"})),
            commit(vec![delete("d/"), add("d", "a file now")]),
            commit(vec![delete("d"), add("d/again.txt", "a folder again")]),
            files(),
        ],
    )
}

fn copies() -> Scenario {
    scenario(
        "copies",
        vec![
            commit(vec![add("a.txt", "1"), add("d/b.txt", "2"), add("d/e/c.txt", "3")]).saved("one"),
            commit(vec![copy("a.txt", "x/a2.txt")]),
            commit(vec![copy("d", "d2")]),
            commit(vec![copy("nowhere", "y")]),
            commit(vec![copy("a.txt", "d/b.txt")]),
            step("read_bytes", json!({"path_in_repo": "d/b.txt"})),
            commit(vec![json!({"copy": "d/b.txt", "to": "old.txt", "src_revision": "{one}"})]),
            step("read_bytes", json!({"path_in_repo": "old.txt"})),
            commit(vec![json!({"copy": "d/b.txt", "to": "old.txt", "src_revision": "nowhere"})]),
            files(),
        ],
    )
}

fn deletions() -> Scenario {
    let file = |path: &str| step("delete_file", json!({"path_in_repo": path, "commit_message": "m"}));
    let folder = |path: &str| step("delete_folder", json!({"path_in_repo": path, "commit_message": "m"}));
    scenario(
        "deletions",
        vec![
            commit(vec![add("a.txt", "1"), add("d/b.txt", "2"), add("d/e/c.txt", "3"), add("f/g.txt", "4")]),
            file("nowhere"),
            file("d"),
            folder("a.txt"),
            folder("nowhere"),
            folder("d/e"),
            files(),
            folder("d/"),
            file("a.txt"),
            commit(vec![delete("f")]),
            commit(vec![delete("f/")]),
            files(),
            step("list_repo_tree", json!({})),
        ],
    )
}

fn twins() -> Scenario {
    scenario(
        "ids",
        vec![
            commit(vec![add("a.txt", "hello\n"), add("d/b.txt", ""), add("d/é.txt", "ü")]),
            step("list_repo_tree", json!({"recursive": true})),
            step("get_paths_info", json!({"paths": ["d", "a.txt", "nowhere"]})),
            step("create_repo", json!({"large_file_threshold": 10})).on("small"),
            step("upload_file", json!({"text": "0123456789", "path_in_repo": "large.bin", "commit_message": "m"}))
                .on("small"),
            step("upload_file", json!({"text": "012345678", "path_in_repo": "small.bin", "commit_message": "m"}))
                .on("small"),
            step("list_repo_tree", json!({})).on("small"),
        ],
    )
}
