//! Branches, tags, resets and logs.

use serde_json::{Value, json};

use super::{add, branch, commit, commit_on, scenario};
use crate::step::{Scenario, step};

const NAMES: &str = "Names of branches and tags that Git cannot have are refused.";

pub(super) fn all() -> Vec<Scenario> {
    vec![branches(), tags(), resets(), logs()]
}

fn branches() -> Scenario {
    let create = |arguments: Value| step("create_branch", arguments);
    let delete = |name: &str| step("delete_branch", json!({"branch": name}));
    let mut steps = vec![
        commit(vec![add("a.txt", "1")]).saved("one"),
        commit(vec![add("a.txt", "2")]),
        create(json!({"branch": "dev"})),
        create(json!({"branch": "dev"})),
        create(json!({"branch": "dev", "exist_ok": true})),
        create(json!({"branch": "dev", "revision": "{one}", "exist_ok": true})),
        create(json!({"branch": "old", "revision": "{one}"})),
        create(json!({"branch": "topic/one", "revision": "dev"})),
        create(json!({"branch": "lost", "revision": "nowhere"})),
        commit_on("dev", vec![add("a.txt", "3")]),
        step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "dev"})),
        step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "refs/heads/dev"})),
        step("list_repo_refs", json!({})),
        delete("main"),
        delete("nowhere"),
        delete("old"),
        delete("dev"),
        step("list_repo_refs", json!({})),
    ];
    for name in ["", "a b", "-x", "/a", "a~1", "a^", "a:b", "@", "a@{b", "DEV"] {
        steps.push(create(json!({"branch": name})));
    }
    for name in ["a..b", "x.lock", "a//b", "a/", "HEAD"] {
        steps.push(create(json!({"branch": name})).differs(&["answer"], NAMES));
    }
    steps.push(step("list_repo_refs", json!({})).differs(&["/value/branches"], NAMES));
    scenario("branches", steps)
}

fn tags() -> Scenario {
    let create = |arguments: Value| step("create_tag", arguments);
    scenario(
        "tags",
        vec![
            commit(vec![add("a.txt", "1")]).saved("one"),
            commit(vec![add("a.txt", "2")]),
            create(json!({"tag": "v1"})),
            create(json!({"tag": "v1"})),
            create(json!({"tag": "v1", "exist_ok": true})),
            create(json!({"tag": "v0", "revision": "{one}", "tag_message": "The first"})),
            create(json!({"tag": "v2", "revision": "nowhere"})),
            step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "v0"})),
            step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "refs/tags/v1"})),
            step("list_repo_refs", json!({})),
            step("list_repo_commits", json!({"revision": "v0"})),
            step("delete_tag", json!({"tag": "v1"})),
            step("delete_tag", json!({"tag": "v1"})),
            step("delete_tag", json!({"tag": "main"})),
            step("list_repo_refs", json!({})),
        ],
    )
}

fn resets() -> Scenario {
    let reset = |name: &str, to: &str| step("reset_ref", json!({"ref_name": name, "to_revision": to}));
    scenario(
        "resets",
        vec![
            commit(vec![add("a.txt", "1")]).saved("one"),
            commit(vec![add("a.txt", "2")]).saved("two"),
            branch("dev", "main"),
            step("create_tag", json!({"tag": "v1"})),
            reset("main", "{one}"),
            step("read_bytes", json!({"path_in_repo": "a.txt"})),
            step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "{two}"})),
            reset("main", "dev"),
            step("read_bytes", json!({"path_in_repo": "a.txt"})),
            reset("main", "nowhere"),
            reset("v1", "{one}"),
            reset("nowhere", "{one}"),
            reset("dev", "v1"),
            step("list_repo_reflog", json!({"ref_name": "main"})),
        ],
    )
}

fn logs() -> Scenario {
    let log = |name: &str| step("list_repo_reflog", json!({"ref_name": name}));
    scenario(
        "logs",
        vec![
            commit(vec![add("a.txt", "1")]).saved("one"),
            commit(vec![add("a.txt", "2")]),
            log("main"),
            log("refs/heads/main"),
            step("list_repo_reflog", json!({"ref_name": "main", "limit": 2})),
            step("list_repo_reflog", json!({"ref_name": "main", "limit": 0})),
            log("nowhere"),
            branch("dev", "{one}"),
            commit_on("dev", vec![add("b.txt", "1")]),
            step("delete_branch", json!({"branch": "dev"})),
            log("dev"),
            step("create_tag", json!({"tag": "same"})),
            branch("same", "main"),
            log("same"),
            log("refs/tags/same"),
            step("read_bytes", json!({"path_in_repo": "a.txt", "revision": "same"})).differs(
                &["answer"],
                "A name that a branch and a tag have is refused as a revision everywhere, not only for logs: `heads/NAME` and `tags/NAME` are \
                 not ambiguous.",
            ),
            step("delete_tag", json!({"tag": "same"})),
            log("refs/tags/same"),
            log("same").differs(&["answer"], "A short name means the ref that is there, though another of the name once was."),
        ],
    )
}
