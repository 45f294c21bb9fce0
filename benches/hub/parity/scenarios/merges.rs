//! Merges, and each kind of conflict.

use serde_json::{Value, json};

use super::{add, branch, commit, commit_on, delete, files, scenario};
use crate::step::{PAUSE, Scenario, Step, step};

pub(super) fn all() -> Vec<Scenario> {
    vec![clean(), conflicts(), unrelated()]
}

fn merge(source: &str) -> Step {
    step("merge", json!({"source_revision": source}))
}

fn clean() -> Scenario {
    scenario(
        "merges",
        vec![
            commit(vec![add("a.txt", "1"), add("d/b.txt", "2"), add("k.txt", "k")]).saved("base"),
            merge("main"),
            branch("dev", "main"),
            commit_on("dev", vec![add("n.txt", "1")]).saved("dev"),
            merge("dev"),
            merge("dev"),
            step(PAUSE, json!({})),
            commit(vec![add("o.txt", "1")]),
            step(PAUSE, json!({})),
            commit_on("dev", vec![add("p.txt", "1"), delete("k.txt"), add("d/b.txt", "changed")]),
            step("merge", json!({"source_revision": "dev", "parent_commit": "{base}"})),
            step(PAUSE, json!({})),
            step("merge", json!({"source_revision": "dev", "commit_message": "Both", "commit_description": "of them"})),
            merge("dev"),
            files(),
            step("list_repo_commits", json!({})).differs(
                &["/value"],
                "Commits come newest first by their times, none before one that follows it; hubvault goes along parents.",
            ),
            step("merge", json!({"source_revision": "main", "target_revision": "dev"})),
            merge("nowhere"),
            step("merge", json!({"source_revision": "dev", "target_revision": "nowhere"})),
            step("merge", json!({"source_revision": "dev", "target_revision": "{base}"})).differs(
                &["/error"],
                "A commit as a target is a branch that there is not: `not found`, not a wrong argument.",
            ),
            step("create_tag", json!({"tag": "v1", "revision": "{dev}"})),
            merge("v1"),
        ],
    )
}

/// Two branches of one base, merged: what is in the base, and what each does to it.
fn conflict(name: [&'static str; 2], base: Vec<Value>, ours: Vec<Value>, theirs: Vec<Value>) -> Vec<Step> {
    let [target, source] = name;
    vec![
        branch(target, "main"),
        commit_on(target, base),
        branch(source, target),
        commit_on(target, ours),
        commit_on(source, theirs),
        step("merge", json!({"source_revision": source, "target_revision": target})),
        step("list_repo_files", json!({"revision": target})),
    ]
}

fn conflicts() -> Scenario {
    let a = |path: &str, text: &str| vec![add(path, text)];
    let mut steps = vec![commit(a("base.txt", "0"))];
    steps.extend(conflict(["mm", "mm2"], a("m", "1"), a("m", "2"), a("m", "3")));
    steps.extend(conflict(["aa", "aa2"], a("x", "1"), a("m", "2"), a("m", "3")));
    steps.extend(conflict(["md", "md2"], a("m", "1"), a("m", "2"), vec![delete("m")]));
    steps.extend(conflict(["dm", "dm2"], a("m", "1"), vec![delete("m")], a("m", "2")));
    let met = |steps: Vec<Step>, at: &'static str, why| {
        let meant = move |step: Step| if step.call == "merge" { step.differs(&[at], why) } else { step };
        steps.into_iter().map(meant)
    };
    let file = "A conflict of a file with a folder has the id of the file, too.";
    let folders = [
        (conflict(["fd", "fd2"], a("x", "1"), a("m", "2"), a("m/x", "2")), "/value/conflicts/0/target_oid", file),
        (conflict(["df", "df2"], a("x", "1"), a("m/x", "2"), a("m", "2")), "/value/conflicts/0/source_oid", file),
        (
            conflict(["cf", "cf2"], a("x", "1"), a("m", "2"), a("M", "3")),
            "/value/conflicts",
            "Paths that differ only in case are a conflict of each of them, with the ids of their files.",
        ),
    ];
    for (conflicts, at, why) in folders {
        steps.extend(met(conflicts, at, why));
    }
    steps.extend(conflict(["ss", "ss2"], a("m", "1"), a("m", "2"), vec![add("m", "2"), add("n", "1")]));
    steps.extend(conflict(["dd", "dd2"], a("m", "1"), vec![delete("m")], vec![delete("m"), add("n", "1")]));
    scenario("conflicts", steps)
}

fn unrelated() -> Scenario {
    scenario(
        "unrelated histories",
        vec![
            commit(vec![add("a.txt", "1")]),
            branch("dev", "main"),
            step("squash_history", json!({"ref_name": "dev", "run_gc": false})),
            merge("dev").differs(
                &["answer"],
                "Histories that share no commit are merged only where that is asked for (`allow_unrelated`), as in Git.",
            ),
        ],
    )
}
