//! `merge`, and what goes with one that is under way: `checkout --ours`, `add`, `status`.

use std::fs;

use half::bf16;
use serde_json::{Value, json};
use shard_tests::rewrite::{Dtype, Tensor, read, write};

use crate::place::{Place, hex};

/// A tensor of 64 rows and columns, whose elements are 1 to 2 times `scale`.
fn tensor(name: &str, scale: f32) -> Tensor {
    let bytes = (0..4096u32).flat_map(|at| (scale * (1.0 + (at % 977) as f32 / 977.0)).to_le_bytes()).collect();
    Tensor { name: name.to_owned(), dtype: Dtype::F32, shape: vec![64, 64], bytes }
}

/// A model of such tensors.
fn model(scales: &[(&str, f32)]) -> Vec<u8> {
    write(&scales.iter().map(|(name, scale)| tensor(name, *scale)).collect::<Vec<_>>())
}

const BASE: [(&str, f32); 4] = [("a.weight", 1.0), ("b.weight", 2.0), ("c.weight", 3.0), ("d.bias", 4.0)];

/// The base with other scales.
fn but(changed: &[(&str, f32)]) -> Vec<u8> {
    let scale = |(name, scale): &(&'static str, f32)| {
        (*name, changed.iter().find(|(other, _)| other == name).map_or(*scale, |(_, scale)| *scale))
    };
    model(&BASE.iter().map(scale).collect::<Vec<_>>())
}

/// Makes the files of the work tree those (`None` removes one), and commits.
fn commit(place: &Place, files: &[(&str, Option<&[u8]>)], title: &str) -> String {
    for (path, _) in files.iter().filter(|(_, bytes)| bytes.is_none()) {
        fs::remove_file(place.path().join(path)).unwrap();
        // As Git leaves no empty folders.
        let folder = place.path().join(path).parent().unwrap().to_owned();
        if folder != place.path() {
            let _ = fs::remove_dir(folder);
        }
    }
    for (path, bytes) in files {
        if let Some(bytes) = bytes {
            place.write(path, bytes);
        }
    }
    place.ok(&["add", "-A"]);
    place.json(&["commit", "-m", title])["id"].as_str().unwrap().to_owned()
}

type Files<'a> = &'a [(&'a str, Option<&'a [u8]>)];

/// A repository on `main`, and a branch `side`, each with a commit of its own on one base.
fn fork(base: Files<'_>, ours: Files<'_>, theirs: Files<'_>) -> Place {
    let place = Place::new();
    place.ok(&["init"]);
    commit(&place, base, "Base");
    place.ok(&["checkout", "-b", "side"]);
    commit(&place, theirs, "Theirs");
    place.ok(&["checkout", "main"]);
    commit(&place, ours, "Ours");
    place
}

fn fork_models(base: &[u8], ours: &[u8], theirs: &[u8]) -> Place {
    let file = |bytes| [("model.safetensors", Some(bytes))];
    fork(&file(base), &file(ours), &file(theirs))
}

fn head(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
}

/// A merge that ends in conflicts: what it says, as JSON.
fn conflicts(place: &Place, args: &[&str]) -> Value {
    let before = (head(place, "main"), place.ok(&["status", "-s"]), place.json(&["status"])["staged"].clone());
    let run = place.run(&[args, &["--json"]].concat());
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{args:?}: {}", run.out);
    let json: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((json["status"].as_str(), json["commit"].as_str()), (Some("conflict"), None), "{json}");
    assert_eq!(json["head_after"], json["target_head_before"], "{json}");
    let after = (head(place, "main"), place.ok(&["status", "-s"]), place.json(&["status"])["staged"].clone());
    assert_eq!(after, before, "the branch, the stage and the work tree stay");
    json
}

/// Each conflict as `kind path` or `kind path related`.
fn lines(json: &Value) -> Vec<String> {
    let line = |conflict: &Value| {
        let related = conflict["related_path"].as_str().map(|path| format!(" {path}")).unwrap_or_default();
        format!("{} {}{related}", conflict["conflict_type"].as_str().unwrap(), conflict["path"].as_str().unwrap())
    };
    json["conflicts"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn fine_tunes_of_disjoint_layers_merge_exactly() {
    let place = fork_models(&but(&[]), &but(&[("a.weight", 1.01)]), &but(&[("c.weight", 3.02), ("d.bias", 4.5)]));
    let expected = but(&[("a.weight", 1.01), ("c.weight", 3.02), ("d.bias", 4.5)]);
    let (ours, theirs) = (head(&place, "main"), head(&place, "side"));
    // Without a work tree first.
    place.ok(&["branch", "other"]);
    let into = place.json(&["merge", "side", "--into", "other", "-m", "Elsewhere"]);
    assert_eq!((into["status"].as_str(), into["target_revision"].as_str()), (Some("merged"), Some("other")));
    assert_eq!((head(&place, "main"), place.read("model.safetensors")), (ours.clone(), but(&[("a.weight", 1.01)])));

    let json = place.json(&["merge", "side"]);
    assert_eq!(json["status"], "merged");
    assert_eq!((json["target_head_before"].as_str(), json["source_head"].as_str()), (Some(&*ours), Some(&*theirs)));
    assert_eq!(json["commit"].as_str(), Some(&*head(&place, "main")));
    assert_eq!(json["models"][0]["tensors"], json!({"same": 1, "ours": 1, "theirs": 2, "computed": 0, "removed": 0}));
    assert_eq!(place.read("model.safetensors"), expected);
    // The format's own library reads it, tensor by tensor.
    assert_eq!(read(&place.read("model.safetensors")), read(&expected));
    let merged = place.json(&["show"]);
    assert_eq!(merged["parents"], json!([ours, theirs]));
    assert_eq!(merged["message"], "Merge branch 'side'");
    assert_eq!(merged["merge"]["files"], json!(["model.safetensors"]));
    assert_eq!(merged["merge"]["base"], json!(head(&place, "main~2")));
    assert_eq!(place.ok(&["status", "-s"]), "");
    assert_eq!(place.json(&["show", "other"])["tree"], merged["tree"]);
    // It is stored as what it is made of: all blocks of tensors are known.
    assert_eq!(json["stored"]["new_blocks"], 0, "{json}");
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    assert_eq!(place.json(&["merge", "side"])["status"], "already-up-to-date");
    let text = place.ok(&["log", "-n", "1"]);
    assert!(text.contains("Merged: model.safetensors") && !text.contains("Rules:"), "{text}");
}

#[test]
fn the_same_layer_is_a_conflict_that_says_what_each_side_changed() {
    let place = fork_models(&but(&[]), &but(&[("b.weight", 2.2)]), &but(&[("b.weight", 1.0), ("c.weight", 3.5)]));
    let json = conflicts(&place, &["merge", "side"]);
    assert_eq!(lines(&json), ["modify/modify model.safetensors"]);
    let conflict = &json["conflicts"][0];
    assert_eq!(conflict["base_oid"].as_str(), Some(&*hex(&but(&[]))));
    assert_eq!(conflict["target_oid"].as_str(), Some(&*hex(&but(&[("b.weight", 2.2)]))));
    let tensors = conflict["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 1, "{json}");
    assert_eq!((&tensors[0]["name"], &tensors[0]["conflict_type"]), (&json!("b.weight"), &json!("modify/modify")));
    for (side, relative) in [("ours", 0.1), ("theirs", 0.5)] {
        let change = &tensors[0][side];
        assert_eq!(
            (&change["state"], change["stats"]["changed_share"].as_f64()),
            (&json!("value"), Some(1.0)),
            "{json}"
        );
        assert!((change["stats"]["relative"].as_f64().unwrap() - relative).abs() < 1e-6, "{json}");
    }
    // It is under way: nothing else begins, and giving it up leaves nothing.
    let status = place.json(&["status"]);
    assert_eq!(status["merge"]["conflicts"], json!([{"path": "model.safetensors", "conflict_type": "modify/modify"}]));
    let text = place.ok(&["status"]);
    assert!(text.contains("Merge under way of") && text.contains("modify/modify"), "{text}");
    place.fails(&["merge", "side"], 4, &["a merge is under way", "--abort"]);
    place.fails(&["commit", "--allow-empty", "-m", "x"], 4, &["a merge is under way"]);
    place.fails(&["checkout", "side"], 4, &["a merge is under way"]);
    let run = place.run(&["merge", "--continue"]);
    assert_eq!(run.code, 1);
    assert!(run.out.contains("b.weight") && run.out.contains("100.0% changed, relative 0.100"), "{}", run.out);
    assert!(place.ok(&["merge", "--abort"]).starts_with("Gave up merging"));
    assert_eq!(place.json(&["status"])["merge"], Value::Null);
    assert_eq!(
        (place.ok(&["status", "-s"]), place.read("model.safetensors")),
        (String::new(), but(&[("b.weight", 2.2)]))
    );
    place.fails(&["merge", "--abort"], 4, &["no merge is under way"]);
    place.fails(&["merge", "--continue"], 4, &["no merge is under way"]);
}

#[test]
fn strategies_and_rules_decide_and_are_recorded() {
    let (ours, theirs) =
        ([("a.weight", 1.5), ("b.weight", 2.5)], [("a.weight", 0.75), ("b.weight", 1.5), ("c.weight", 3.5)]);
    let place = fork_models(&but(&[]), &but(&ours), &but(&theirs));
    let tensors = |bytes: &[u8]| {
        read(bytes)
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let (base, ours, theirs) = (tensors(&but(&[])), tensors(&but(&ours)), tensors(&but(&theirs)));
    let floats = |tensor: &Tensor| -> Vec<f64> {
        tensor.bytes.chunks(4).map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))).collect()
    };
    let made = |name: &str, of: &dyn Fn(f64, f64, f64) -> f64| -> Vec<u8> {
        let all = floats(&base[name]).into_iter().zip(floats(&ours[name])).zip(floats(&theirs[name]));
        all.flat_map(|((base, ours), theirs)| (of(base, ours, theirs) as f32).to_le_bytes()).collect()
    };
    let average = |_: f64, ours: f64, theirs: f64| (ours + theirs) * 0.5;
    let task = |base: f64, ours: f64, theirs: f64| (base + 0.7 * (ours - base)) + 0.3 * (theirs - base);
    for (number, (options, expected)) in [
        (vec!["--strategy", "ours"], [ours["a.weight"].bytes.clone(), ours["b.weight"].bytes.clone()]),
        (vec!["--strategy", "theirs"], [theirs["a.weight"].bytes.clone(), theirs["b.weight"].bytes.clone()]),
        (vec!["--strategy", "average"], [made("a.weight", &average), made("b.weight", &average)]),
        (vec!["--strategy", "task=0.7,0.3"], [made("a.weight", &task), made("b.weight", &task)]),
        (
            vec!["--rule", "b.*=task=0.7,0.3", "--strategy", "theirs"],
            [theirs["a.weight"].bytes.clone(), made("b.weight", &task)],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let branch = format!("try-{number}");
        place.ok(&["branch", &branch, "main"]);
        let json = place.json(&[&["merge", "side", "--into", &branch], &options[..]].concat());
        assert_eq!(json["status"], "merged", "{json}");
        place.ok(&["checkout", &branch]);
        let found = tensors(&place.read("model.safetensors"));
        assert!(["a.weight", "b.weight"].map(|name| found[name].bytes.clone()) == expected, "{options:?}");
        // What only one side changed is taken whole.
        assert!(found["c.weight"] == theirs["c.weight"] && found["d.bias"] == base["d.bias"], "{options:?}");
        let record = &place.json(&["show"])["merge"];
        let last = record["rules"].as_array().unwrap().last().unwrap();
        assert_eq!((last["pattern"].as_str(), record["arithmetic"].as_u64()), (Some("*"), Some(1)), "{record}");
        assert!(place.ok(&["log", "-n", "1"]).contains("Rules:  "), "{options:?}");
    }
    assert!(place.ok(&["show", "try-4"]).contains("Rules:  b.*=task:0.7,0.3 *=theirs (arithmetic 1)"));
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    // A rule that leaves something open leaves a conflict of that alone; without a work tree nothing is under way.
    let json = conflicts(&place, &["merge", "side", "--into", "main", "--rule", "a.*=ours"]);
    assert_eq!(json["conflicts"][0]["tensors"][0]["name"], "b.weight");
    assert_eq!((json["waiting"].as_bool(), &place.json(&["status"])["merge"]), (Some(false), &Value::Null));
    // Of all changes: what one side alone changed is halved, too.
    let json = place.json(&["merge", "side", "--into", "main", "--strategy", "average", "--scope", "changes"]);
    assert_eq!(json["models"][0]["tensors"]["computed"], 3, "{json}");
}

#[test]
fn a_merge_under_way_is_decided_and_continued() {
    let place = fork(
        &[("model.safetensors", Some(&but(&[]))), ("notes", Some(b"1")), ("gone", Some(b"1")), ("plain", Some(b"1"))],
        &[("model.safetensors", Some(&but(&[("a.weight", 2.0)]))), ("notes", Some(b"2")), ("gone", None)],
        &[
            ("model.safetensors", Some(&but(&[("a.weight", 4.0)]))),
            ("notes", Some(b"3")),
            ("gone", Some(b"2")),
            ("plain", Some(b"2")),
        ],
    );
    let json = conflicts(&place, &["merge", "side", "-m", "Both"]);
    assert_eq!(lines(&json), ["delete/modify gone", "modify/modify model.safetensors", "modify/modify notes"]);
    // A folder that is named decides about nothing that stayed as it was.
    place.ok(&["add", "-A"]);
    assert_eq!(place.json(&["status"])["merge"]["conflicts"].as_array().map(Vec::len), Some(3));
    place.write("notes", b"2 and 3");
    place.ok(&["add", "notes"]);
    place.ok(&["checkout", "--theirs", "gone"]);
    assert_eq!(place.read("gone"), b"2");
    let status = place.json(&["status"]);
    assert_eq!(status["merge"]["resolved"], json!(["gone", "notes"]));
    assert_eq!(lines(&status["merge"]), ["modify/modify model.safetensors"]);
    let run = place.run(&["merge", "--continue"]);
    assert!(run.code == 1 && run.out.contains("a.weight") && !run.out.contains("notes"), "{}", run.out);
    // What is left is decided by a rule.
    let json = place.json(&["merge", "--continue", "--rule", "a.*=average"]);
    assert_eq!(json["status"], "merged");
    assert_eq!(
        (place.read("notes"), place.read("gone"), place.read("plain")),
        (b"2 and 3".to_vec(), b"2".to_vec(), b"2".to_vec())
    );
    assert_eq!(place.read("model.safetensors"), but(&[("a.weight", 3.0)]));
    assert_eq!((place.ok(&["status", "-s"]), &place.json(&["status"])["merge"]), (String::new(), &Value::Null));
    let commit = place.json(&["show"]);
    // A branch of its own for what the options of the message make.
    place.ok(&["branch", "other", "main~1"]);
    let merge = ["merge", "side", "--into", "other", "--strategy", "theirs"];
    place.fails(&[&merge[..], &["-m", " ", "--description", "No title"]].concat(), 2, &["needs a message"]);
    assert_eq!(place.run(&[&merge[..], &["--description", "No title"]].concat()).code, 2);
    place.ok(&[&merge[..], &["-m", "Title ", "--description", "A body\n\nof two parts\n"]].concat());
    assert_eq!(place.json(&["show", "other"])["message"], "Title\n\nA body\n\nof two parts");
    assert_eq!((commit["message"].as_str(), commit["parents"].as_array().map(Vec::len)), (Some("Both"), Some(2)));
    assert_eq!(commit["merge"]["files"], json!(["model.safetensors"]));
    assert_eq!(place.json(&["merge", "side"])["status"], "already-up-to-date");
}

#[test]
fn giving_up_brings_back_what_was() {
    let place = fork(
        &[("a", Some(b"1")), ("b", Some(b"1")), ("c", Some(b"1"))],
        &[("a", Some(b"2")), ("b", None)],
        &[("a", Some(b"3")), ("b", Some(b"2"))],
    );
    place.write("untracked", b"mine");
    place.write("c", b"unrelated");
    conflicts(&place, &["merge", "side"]);
    place.ok(&["checkout", "--theirs", "a", "b"]);
    assert_eq!((place.read("a"), place.read("b")), (b"3".to_vec(), b"2".to_vec()));
    let json = place.json(&["merge", "--abort"]);
    assert_eq!(json["head"], json!(head(&place, "main")));
    assert_eq!(
        (place.read("a"), place.read("c"), place.read("untracked")),
        (b"2".to_vec(), b"unrelated".to_vec(), b"mine".to_vec())
    );
    assert!(!place.path().join("b").exists());
    assert_eq!(place.ok(&["status", "-s"]), " M c\n?? untracked\n");
    // Where something else is checked out, it is only forgotten.
    place.write("c", b"1");
    conflicts(&place, &["merge", "side"]);
    place.ok(&["reset", "--soft", "HEAD~1"]);
    place.fails(&["merge", "--continue"], 4, &["something else is checked out", "--abort"]);
    let before = place.ok(&["status", "-s"]);
    place.ok(&["merge", "--abort"]);
    assert_eq!(place.ok(&["status", "-s"]), before);
    place.ok(&["reset", "--soft", "main@{1}"]);
    conflicts(&place, &["merge", "side"]);
    place.ok(&["reset", "--hard"]);
    assert_eq!(place.json(&["status"])["merge"], Value::Null);
}

#[test]
fn a_side_of_a_folder_is_that_of_its_conflicts_alone() {
    let place = fork(
        &[("models/a", Some(b"1")), ("models/b", Some(b"1")), ("models/d", Some(b"1"))],
        &[
            ("models/a", Some(b"2")),
            ("models/b", Some(b"2")),
            ("models/c", Some(b"2")),
            ("models/d", Some(b"2")),
            ("models/e", Some(b"2")),
        ],
        &[("models/a", Some(b"3")), ("models/d", Some(b"3"))],
    );
    conflicts(&place, &["merge", "side"]);
    place.write("models/b", b"edited");
    place.write("models/e", b"staged");
    place.ok(&["add", "models/e"]);
    // What was decided by its own name stays so.
    place.write("models/d", b"2 and 3");
    place.ok(&["add", "models/d"]);
    let files = || ["a", "b", "c", "d", "e"].map(|name| place.read(&format!("models/{name}")));
    let expected = |a: &[u8]| [a, b"edited", b"2", b"2 and 3", b"staged"].map(<[u8]>::to_vec);
    let report = place.json(&["checkout", "--theirs", "models"]);
    assert_eq!((&report["written"], &report["removed"]), (&json!([{"path": "models/a", "size": 1}]), &json!([])));
    assert_eq!(files(), expected(b"3"));
    assert_eq!(place.ok(&["status", "-s"]), "M  models/a\n M models/b\nM  models/d\nM  models/e\n");
    assert_eq!(place.json(&["status"])["merge"]["resolved"], json!(["models/a", "models/d"]));
    // Another side of what is decided is taken by its own name.
    let hints = ["`shard status`", "`shard checkout REV PATH`"];
    place.fails(&["checkout", "--ours", "."], 4, &[&[". is not in conflict"], &hints[..]].concat());
    place.ok(&["checkout", "--ours", "models/a"]);
    assert_eq!(files(), expected(b"2"));
    place.ok(&["checkout", "--theirs", "models/a"]);
    for path in ["models/b", "models/c", "nowhere"] {
        place.fails(&["checkout", "--theirs", path], 4, &[&format!("{path} is not in conflict")]);
    }
    assert_eq!(files(), expected(b"3"));
    place.ok(&["merge", "--continue"]);
    assert_eq!((files(), place.ok(&["status", "-s"])), (expected(b"3"), " M models/b\n".to_owned()));
    place.ok(&["checkout", "HEAD", "models/b"]);
    assert_eq!(place.read("models/b"), b"2");
}

#[test]
fn a_folder_in_the_place_of_a_file_is_decided_as_one() {
    let folder: Files<'_> = &[("d/e", Some(b"1")), ("d/f", Some(b"1"))];
    let place = fork(&[("x", Some(b"1"))], folder, &[("d", Some(b"file"))]);
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["file/directory d d/e"]);
    place.write("d/e", b"edited");
    place.fails(&["checkout", "--theirs", "d"], 4, &["not staged would be lost: d/e", "move them elsewhere"]);
    // Ours is there already.
    place.ok(&["checkout", "--ours", "d/f"]);
    assert_eq!(
        (place.read("d/e"), place.json(&["status"])["merge"]["resolved"].clone()),
        (b"edited".to_vec(), json!(["d"]))
    );
    fs::rename(place.path().join("d/e"), place.path().join("mine")).unwrap();
    place.ok(&["checkout", "--theirs", "d"]);
    place.ok(&["merge", "--continue"]);
    assert_eq!((place.read("d"), place.ok(&["status", "-s"])), (b"file".to_vec(), "?? mine\n".to_owned()));
    // By a path below it, which theirs alone has.
    let place = fork(&[("x", Some(b"1"))], &[("d", Some(b"file"))], folder);
    conflicts(&place, &["merge", "side"]);
    place.fails(&["checkout", "--theirs", "d/nowhere"], 4, &["d/nowhere is not in conflict"]);
    place.ok(&["checkout", "--theirs", "d/f"]);
    assert_eq!((place.read("d/e"), place.read("d/f")), (b"1".to_vec(), b"1".to_vec()));
    place.ok(&["merge", "--continue"]);
    assert_eq!(place.ok(&["status", "-s"]), "");
}

#[test]
fn giving_up_loses_no_edit_that_was_never_staged() {
    let place = fork(
        &[("a", Some(b"1")), ("b", Some(b"1")), ("gone", Some(b"1"))],
        &[("a", Some(b"2"))],
        &[("b", Some(b"2")), ("c", Some(b"2")), ("gone", None)],
    );
    let file = |path: &str| fs::read(place.path().join(path)).ok();
    place.ok(&["merge", "side", "--no-commit"]);
    // Changed by the merge, brought by it, removed by it; and what it has nothing to do with.
    for path in ["a", "b", "c", "gone"] {
        place.write(path, b"mine");
    }
    let mine = Some(b"mine".to_vec());
    place.fails(&["merge", "--abort"], 4, &["not staged would be lost: b, c, gone", "move them elsewhere", "--force"]);
    assert!(["a", "b", "c", "gone"].iter().all(|path| file(path) == mine));
    assert_eq!(place.json(&["status"])["merge"]["staged"], true);
    assert_eq!(place.run(&["merge", "side", "--force"]).code, 2);
    place.ok(&["merge", "--abort", "--force"]);
    let one = Some(b"1".to_vec());
    assert_eq!((file("a"), file("b"), file("c"), file("gone")), (mine.clone(), one.clone(), None, one));
    assert_eq!((place.ok(&["status", "-s"]), &place.json(&["status"])["merge"]), (" M a\n".to_owned(), &Value::Null));
    // Moved away as the hint says, they are nothing to lose.
    place.ok(&["merge", "side", "--no-commit"]);
    place.write("c", b"mine");
    fs::rename(place.path().join("c"), place.path().join("kept")).unwrap();
    place.ok(&["merge", "--abort"]);
    assert_eq!((file("b"), file("c"), file("kept")), (Some(b"1".to_vec()), None, mine));

    // What is written into a file in conflict decides about it, and is given up with the merge.
    let place = fork(&[("a", Some(b"1"))], &[("a", Some(b"2"))], &[("a", Some(b"3"))]);
    conflicts(&place, &["merge", "side"]);
    place.write("a", b"2 and 3");
    place.ok(&["merge", "--abort"]);
    assert_eq!((place.read("a"), place.ok(&["status", "-s"])), (b"2".to_vec(), String::new()));
}

#[test]
fn a_result_may_be_looked_at_before_it_is_committed() {
    let place =
        fork(&[("a", Some(b"1")), ("b", Some(b"1"))], &[("a", Some(b"2"))], &[("b", Some(b"2")), ("c", Some(b"1"))]);
    let before = head(&place, "main");
    let text = place.ok(&["merge", "side", "--no-commit"]);
    assert!(text.contains("`shard merge --continue`"), "{text}");
    assert_eq!((head(&place, "main"), place.ok(&["status", "-s"])), (before.clone(), "M  b\nA  c\n".to_owned()));
    assert_eq!(place.json(&["status"])["merge"]["staged"], true);
    place.ok(&["merge", "--abort"]);
    assert_eq!((place.ok(&["status", "-s"]), place.path().join("c").exists()), (String::new(), false));
    place.ok(&["merge", "side", "--no-commit"]);
    place.write("b", b"edited");
    place.ok(&["add", "b"]);
    place.ok(&["merge", "--continue", "-m", "With an edit"]);
    assert_eq!((place.read("b"), place.ok(&["status", "-s"])), (b"edited".to_vec(), String::new()));
    assert_eq!(place.json(&["show"])["parents"][0], json!(before));
}

#[test]
fn every_kind_of_conflict_of_files() {
    let place = fork(&[("x", Some(b"1"))], &[("new", Some(b"1"))], &[("new", Some(b"2"))]);
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["add/add new"]);

    let place = fork(&[("x", Some(b"1")), ("y", Some(b"1"))], &[("x", None)], &[("x", Some(b"2"))]);
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["delete/modify x"]);

    // A file that stays leaves nothing below it, and a folder that stays has no file in its place.
    for (side, is_file) in [("--ours", true), ("--theirs", false)] {
        let place = fork(&[("x", Some(b"1"))], &[("d", Some(b"file"))], &[("d/e", Some(b"1")), ("z", Some(b"1"))]);
        assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["file/directory d d/e"]);
        place.ok(&["checkout", side, "d"]);
        place.ok(&["merge", "--continue"]);
        assert_eq!((place.path().join("d").is_file(), place.read("z")), (is_file, b"1".to_vec()));
        assert_eq!(place.ok(&["status", "-s"]), "");
    }
    let place = fork(&[("x", Some(b"1"))], &[("d/e", Some(b"1"))], &[("d", Some(b"file"))]);
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["file/directory d d/e"]);
    place.ok(&["checkout", "--theirs", "d"]);
    place.ok(&["merge", "--continue"]);
    assert_eq!(place.read("d"), b"file");
}

#[test]
fn fault_28_names_that_some_file_systems_take_for_one_are_a_conflict() {
    let place = fork(&[("x", Some(b"1"))], &[("README", Some(b"1"))], &[("readme", Some(b"2"))]);
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), ["case-fold README readme", "case-fold readme README"]);
    place.ok(&["merge", "--abort"]);
    // Composed and decomposed.
    let (nfc, nfd) = ("caf\u{e9}.bin", "cafe\u{301}.bin");
    let place = fork(&[("x", Some(b"1"))], &[(nfc, Some(b"1"))], &[(nfd, Some(b"2"))]);
    let expected = [format!("case-fold {nfd} {nfc}"), format!("case-fold {nfc} {nfd}")];
    assert_eq!(lines(&conflicts(&place, &["merge", "side"])), expected);
    place.ok(&["checkout", "--ours", nfc, nfd]);
    place.ok(&["merge", "--continue"]);
    assert_eq!(
        place.json(&["show", "--storage"])["storage"].as_object().unwrap().keys().collect::<Vec<_>>(),
        [nfc, "x"]
    );
}

#[test]
fn strategies_take_whole_files_that_have_no_tensors() {
    let place = fork(
        &[("notes", Some(b"1")), ("gone", Some(b"1"))],
        &[("notes", Some(b"2")), ("gone", None)],
        &[("notes", Some(b"3")), ("gone", Some(b"2"))],
    );
    let json = conflicts(&place, &["merge", "side", "--strategy", "average"]);
    assert_eq!(json["conflicts"].as_array().map(Vec::len), Some(2));
    place.ok(&["merge", "--abort"]);
    let json = place.json(&["merge", "side", "--strategy", "theirs"]);
    assert_eq!(json["taken"], json!([{"path": "gone", "side": "theirs"}, {"path": "notes", "side": "theirs"}]));
    assert_eq!((place.read("notes"), place.read("gone")), (b"3".to_vec(), b"2".to_vec()));
}

#[test]
fn fast_forwards() {
    let place = Place::with_history();
    place.ok(&["branch", "old", "v1"]);
    let (first, second) = (head(&place, "v1"), head(&place, "main"));
    assert_eq!(place.json(&["merge", "old"])["status"], "already-up-to-date");
    assert_eq!(place.json(&["merge", "main", "--target", "old"])["fast_forward"], true);
    assert_eq!(head(&place, "old"), second);
    place.ok(&["checkout", "-b", "again", "v1"]);
    place.fails(&["merge", "main", "--expect", "main"], 4, &["heads/again is at", "as was expected"]);
    let json = place.json(&["merge", "main", "--ff-only", "--expect", &first]);
    assert_eq!((json["status"].as_str(), json["created_commit"].as_bool()), (Some("fast-forward"), Some(false)));
    assert_eq!((head(&place, "HEAD"), place.ok(&["status", "-s"])), (second.clone(), String::new()));
    place.ok(&["checkout", "-b", "third", "v1"]);
    let json = place.json(&["merge", "main", "--no-ff"]);
    assert_eq!((json["status"].as_str(), json["fast_forward"].as_bool()), (Some("merged"), Some(false)));
    assert_eq!(place.json(&["show"])["parents"], json!([first, second]));
    assert_eq!(place.json(&["show"])["message"], "Merge branch 'main' into third");
    place.ok(&["checkout", "-b", "fourth", "v1"]);
    commit(&place, &[("z", Some(b"1"))], "Apart");
    place.fails(&["merge", "main", "--ff-only"], 4, &["cannot be fast-forwarded", "--ff-only"]);
    // Merges in both directions leave two best common ancestors; it says so.
    place.ok(&["branch", "fifth", "main"]);
    place.ok(&["merge", "main"]);
    place.ok(&["merge", "fourth~1", "--into", "fifth"]);
    place.ok(&["checkout", "fifth"]);
    let text = place.ok(&["merge", "fourth", "--no-ff"]);
    assert!(text.contains("1 other common ancestor would have been as good"), "{text}");
}

#[test]
fn what_a_merge_refuses() {
    let place = fork(&[("a", Some(b"1")), ("b", Some(b"1"))], &[("a", Some(b"2"))], &[("b", Some(b"2"))]);
    place.fails(&["merge", "nowhere"], 3, &["nowhere"]);
    place.fails(&["merge", "side", "--into", "nowhere"], 3, &["there is no branch \"nowhere\""]);
    for (option, bad) in [("--strategy", "median"), ("--strategy", "task=1"), ("--rule", "[=ours"), ("--rule", "x")] {
        place.fails(&["merge", "side", option, bad], 2, &["GLOB=STRATEGY"]);
    }
    assert_eq!(place.run(&["merge"]).code, 2);
    assert_eq!(place.run(&["merge", "side", "--abort"]).code, 2);
    place.fails(&["merge", "side", "-m", " "], 2, &["needs a message"]);
    // Changes that no commit has stay, and so does everything else.
    let main = head(&place, "main");
    place.write("b", b"mine");
    place.fails(&["merge", "side"], 4, &["changes that no commit has", "b"]);
    place.ok(&["add", "b"]);
    place.fails(&["merge", "side"], 4, &["changes that no commit has", "b"]);
    assert_eq!((head(&place, "main"), place.read("b")), (main.clone(), b"mine".to_vec()));
    place.ok(&["reset", "--hard", "--force"]);
    // Those that are in nobody's way may stay.
    place.write("a", b"mine");
    place.ok(&["merge", "side"]);
    assert_eq!((place.read("a"), place.ok(&["status", "-s"])), (b"mine".to_vec(), " M a\n".to_owned()));

    // A history that shares nothing: another repository's packs.
    let other = Place::new();
    other.ok(&["init"]);
    let foreign = commit(&other, &[("c", Some(b"1"))], "Elsewhere");
    for pack in fs::read_dir(other.path().join(".shard/packs")).unwrap() {
        let pack = pack.unwrap();
        fs::copy(pack.path(), place.path().join(".shard/packs").join(pack.file_name())).unwrap();
    }
    place.ok(&["reindex"]);
    place.ok(&["branch", "foreign", &foreign]);
    place.fails(&["merge", "foreign"], 4, &["have no commit in common", "--allow-unrelated"]);
    let json = place.json(&["merge", "foreign", "--allow-unrelated"]);
    assert_eq!((json["status"].as_str(), json["base_commit"].as_str()), (Some("merged"), None));
    assert_eq!(place.read("c"), b"1");
}

#[test]
fn what_is_told_to_do_about_changes_in_the_way_works() {
    let hint = |place: &Place, args: &[&str], code: i32, expected: &[&str]| {
        place.fails(args, code, expected);
        let said = place.run(args).err;
        assert!(!said.contains("--force"), "there is no such option: {said}");
    };
    let base: Files<'_> = &[("a", Some(b"1")), ("plain", Some(b"1"))];
    let place = fork(base, &[("a", Some(b"2"))], &[("a", Some(b"3")), ("plain", Some(b"3")), ("new", Some(b"3"))]);
    place.write("plain", b"mine");
    hint(&place, &["merge", "side"], 4, &["plain", "commit them", "move them away"]);
    place.write("plain", b"1");
    for is_given_up in [true, false] {
        conflicts(&place, &["merge", "side"]);
        place.ok(&["checkout", "--theirs", "a"]);
        place.write("plain", b"mine");
        place.write("new", b"mine");
        let lost =
            ["changes that no commit has would be lost: new, plain", "move them elsewhere", "`shard merge --abort`"];
        hint(&place, &["merge", "--continue"], 4, &lost);
        place.ok(&["add", "plain", "new"]);
        let lost = [
            "staged since the merge began would be lost, since the merge changes it too: new, plain",
            "`shard checkout HEAD PATH` takes it back",
            "`shard add PATH` after the file is moved away",
            "`shard merge --abort` gives up",
        ];
        hint(&place, &["merge", "--continue"], 4, &lost);
        if is_given_up {
            place.ok(&["merge", "--abort"]);
            assert_eq!((place.read("plain"), place.ok(&["status", "-s"])), (b"1".to_vec(), String::new()));
        }
    }
    place.ok(&["checkout", "HEAD", "plain"]);
    fs::remove_file(place.path().join("new")).unwrap();
    place.ok(&["add", "new"]);
    place.ok(&["merge", "--continue"]);
    let files = ["a", "plain", "new"].map(|path| place.read(path));
    assert_eq!((files, place.ok(&["status", "-s"])), ([b"3"; 3].map(|bytes| bytes.to_vec()), String::new()));
}

/// A safetensors file whose header is this, with `data` after it.
fn raw(header: &Value, data: &[u8]) -> Vec<u8> {
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), &header[..], data].concat()
}

#[test]
fn what_a_file_says_beside_its_tensors_is_merged_as_one() {
    let file = |step: &str, scales: [f32; 2]| {
        let header = json!({
            "__metadata__": {"step": step},
            "a": {"dtype": "F32", "shape": [64, 64], "data_offsets": [0, 16384]},
            "b": {"dtype": "F32", "shape": [64, 64], "data_offsets": [16384, 32768]},
        });
        raw(&header, &scales.map(|scale| tensor("", scale).bytes).concat())
    };
    let place = fork_models(&file("1", [1.0, 2.0]), &file("1", [1.5, 2.0]), &file("2", [1.0, 2.5]));
    place.ok(&["merge", "side"]);
    assert_eq!(place.read("model.safetensors"), file("2", [1.5, 2.5]));
    let place = fork_models(&file("1", [1.0, 2.0]), &file("3", [1.5, 2.0]), &file("2", [1.0, 2.5]));
    let json = conflicts(&place, &["merge", "side"]);
    let message = json["conflicts"][0]["message"].as_str().unwrap();
    assert!(message.contains("beside its tensors") && message.contains("__metadata__=ours"), "{message}");
    place.ok(&["merge", "--continue", "--rule", "__metadata__=theirs"]);
    assert_eq!(place.read("model.safetensors"), file("2", [1.5, 2.5]));
}

#[test]
fn lists_of_tensors_that_changed_on_one_side_are_followed_and_on_both_are_a_conflict() {
    let of = |scales: &[(&str, f32)]| model(scales);
    let (a, b) = (("a", 1.0), ("b", 2.0));
    let place = fork_models(&of(&[a, b]), &of(&[("a", 1.5), b]), &of(&[a, b, ("c", 3.0)]));
    let json = place.json(&["merge", "side"]);
    assert_eq!(place.read("model.safetensors"), of(&[("a", 1.5), b, ("c", 3.0)]));
    assert_eq!(json["models"][0]["tensors"]["ours"], 1, "{json}");
    let place = fork_models(&of(&[a, b]), &of(&[a, b, ("d", 1.0)]), &of(&[a, b, ("c", 3.0)]));
    let json = conflicts(&place, &["merge", "side"]);
    assert!(json["conflicts"][0]["message"].as_str().unwrap().contains("written anew"), "{json}");
    // Removed on one side, changed on the other.
    let place = fork_models(&of(&[a, b]), &of(&[a]), &of(&[a, ("b", 3.0)]));
    let json = conflicts(&place, &["merge", "side"]);
    assert_eq!(json["conflicts"][0]["tensors"][0]["conflict_type"], "delete/modify", "{json}");
    assert_eq!(json["conflicts"][0]["tensors"][0]["ours"]["state"], "removed", "{json}");
}

#[test]
fn tied_weights_are_decided_alike() {
    let file = |scales: [f32; 2]| {
        let header = json!({
            "head": {"dtype": "F32", "shape": [64, 64], "data_offsets": [0, 16384]},
            "embed": {"dtype": "F32", "shape": [64, 64], "data_offsets": [0, 16384]},
            "z": {"dtype": "F32", "shape": [64, 64], "data_offsets": [16384, 32768]},
        });
        raw(&header, &scales.map(|scale| tensor("", scale).bytes).concat())
    };
    let place = fork_models(&file([1.0, 2.0]), &file([2.0, 2.0]), &file([4.0, 2.5]));
    let json = conflicts(&place, &["merge", "side"]);
    assert_eq!(json["conflicts"][0]["tensors"].as_array().map(Vec::len), Some(2), "{json}");
    let json = conflicts(&place, &["merge", "--continue", "--rule", "head=theirs", "--rule", "embed=ours"]);
    let message = json["conflicts"][0]["message"].as_str().unwrap();
    assert!(message.contains("\"embed\" and \"head\" share bytes"), "{message}");
    place.ok(&["merge", "--continue", "--strategy", "average"]);
    assert_eq!(place.read("model.safetensors"), file([3.0, 2.5]));
}

#[test]
fn types_and_files_that_are_not_computed_or_looked_into() {
    let of = |value: u8| {
        write(&[Tensor { name: "steps".to_owned(), dtype: Dtype::I64, shape: vec![2], bytes: vec![value; 16] }])
    };
    let place = fork_models(&of(1), &of(2), &of(3));
    let json = conflicts(&place, &["merge", "side", "--strategy", "average"]);
    assert_eq!(json["conflicts"][0]["tensors"][0]["why"], "its type is not one to compute with", "{json}");
    place.ok(&["merge", "--continue", "--rule", "steps=theirs"]);
    assert_eq!(place.read("model.safetensors"), of(3));

    let halves = |scale: f32| {
        let bytes = (0..64).flat_map(|at| bf16::from_f32(scale * at as f32).to_le_bytes()).collect();
        write(&[Tensor { name: "w".to_owned(), dtype: Dtype::BF16, shape: vec![64], bytes }])
    };
    let place = fork_models(&halves(1.0), &halves(2.0), &halves(4.0));
    place.ok(&["merge", "side", "--strategy", "average"]);
    assert_eq!(place.read("model.safetensors"), halves(3.0));

    // A zip archive has checksums of its members.
    let zip = |level: u8| shard_tests::zips::zip(&[("w.npy", &shard_tests::zips::npy(&[level; 64]), 0)]);
    let (base, ours, theirs) = (zip(1), zip(2), zip(3));
    let place = fork(&[("w.npz", Some(&base))], &[("w.npz", Some(&ours))], &[("w.npz", Some(&theirs))]);
    let json = conflicts(&place, &["merge", "side"]);
    assert!(json["conflicts"][0]["message"].as_str().unwrap().contains("checksums"), "{json}");
    place.ok(&["merge", "--continue", "--strategy", "theirs"]);
    assert_eq!(place.read("w.npz"), theirs);
}

#[test]
fn a_merge_that_waits_outlives_what_tidies() {
    let (base, ours, theirs) = (but(&[]), but(&[("a.weight", 1.01)]), but(&[("a.weight", 1.02), ("c.weight", 3.02)]));
    let place = fork_models(&base, &ours, &theirs);
    place.ok(&["branch", "other", "side"]);
    conflicts(&place, &["merge", "side"]);
    let before = head(&place, "main");
    // The branch that is merged into stays where it is.
    let commit = ["commit", "-m", "more", "--revision", "main", "--add", "more.safetensors=model.safetensors"];
    for args in [&["squash"][..], &["squash", "main"], &["forget", "--keep-last", "1"], &commit] {
        place.fails(args, 4, &["a merge is under way", "merge --abort"]);
    }
    assert_eq!(head(&place, "main"), before);
    // Other branches may be rewritten, even that which is merged and goes then; nothing that the merge needs is collected.
    place.ok(&["squash", "other"]);
    place.ok(&["squash", "side"]);
    place.ok(&["branch", "-D", "other"]);
    place.ok(&["optimize"]);
    place.ok(&["gc", "--prune-now"]);
    place.ok(&["checkout", "--theirs", "model.safetensors"]);
    let json = place.json(&["merge", "--continue"]);
    assert_eq!(json["status"], "merged");
    assert_eq!(place.read("model.safetensors"), theirs);
    assert_eq!(place.json(&["verify", "--full"])["ok"], true);
    place.ok(&["squash"]);
    assert_eq!(place.read("model.safetensors"), theirs);
}
