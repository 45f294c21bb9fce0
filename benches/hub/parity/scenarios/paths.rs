//! Paths that one system or another cannot have.

use serde_json::json;

use super::{add, commit, files, scenario};
use crate::step::{Scenario, step};

const TIDIED: &str = "A path that is not in its one form (`a//b`, `./a`, `a/`, `a\\b`) is refused, not tidied up: what was asked for is \
                      what is kept.";
const ELSEWHERE: &str =
    "Paths that Git or Windows cannot have are refused too: `.git` in a path, names that end in a dot or a space.";
const NOT_THERE: &str =
    "A path that no revision could have is one that it has not: reading it is `not found`, not a wrong argument.";
const SAME_NAME: &str = "Folders whose names differ only in case, and names that differ only in how accents are composed, clash as \
                         files do: some file systems take them for one.";

pub(super) fn all() -> Vec<Scenario> {
    vec![refused(), clashes()]
}

fn refused() -> Scenario {
    let mut steps = vec![commit(vec![add("a.txt", "1")])];
    for path in [
        "../x", "/abs", "d/../b", "..", ".", "", "C:/x", "con", "nul.txt", "x:y", "a?b", "a*b", "a|b", "a<b", "a\"b",
        "a\u{0}b",
    ] {
        steps.push(commit(vec![add(path, "1")]));
    }
    for path in ["d//b", "./c.txt", "e/", "f\\g"] {
        steps.push(commit(vec![add(path, "1")]).differs(&["answer"], TIDIED));
    }
    for path in [".git/config", "x/.git/y", "t ", "t."] {
        steps.push(commit(vec![add(path, "1")]).differs(&["answer"], ELSEWHERE));
    }
    steps.push(files().differs(&["/value"], ELSEWHERE));
    steps.push(step("read_bytes", json!({"path_in_repo": "../x"})).differs(&["/error"], NOT_THERE));
    steps.push(step("hf_hub_download", json!({"filename": "../x"})).differs(&["/error"], NOT_THERE));
    scenario("paths", steps)
}

fn clashes() -> Scenario {
    scenario(
        "clashes",
        vec![
            commit(vec![add("a.txt", "1"), add("d/b.txt", "2"), add("caf\u{e9}.txt", "3")]),
            commit(vec![add("a.txt/below", "1")]),
            commit(vec![add("d", "1")]),
            commit(vec![add("A.TXT", "1")]),
            commit(vec![add("D/other.txt", "1")]).differs(&["answer"], SAME_NAME),
            commit(vec![add("n.txt", "1"), add("N.txt", "1")]),
            commit(vec![add("m", "1"), add("m/below", "1")]),
            commit(vec![add("cafe\u{301}.txt", "1")]).differs(&["answer"], SAME_NAME),
            files().differs(&["/value"], SAME_NAME),
        ],
    )
}
