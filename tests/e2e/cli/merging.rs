//! `merge`: what it makes of both sides.

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
pub(crate) fn but(changed: &[(&str, f32)]) -> Vec<u8> {
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

pub(crate) type Files<'a> = &'a [(&'a str, Option<&'a [u8]>)];

/// A repository on `main`, and a branch `side`, each with a commit of its own on one base.
pub(crate) fn fork(base: Files<'_>, ours: Files<'_>, theirs: Files<'_>) -> Place {
    let place = Place::new();
    place.ok(&["init"]);
    commit(&place, base, "Base");
    place.ok(&["checkout", "-b", "side"]);
    commit(&place, theirs, "Theirs");
    place.ok(&["checkout", "main"]);
    commit(&place, ours, "Ours");
    place
}

pub(crate) fn fork_models(base: &[u8], ours: &[u8], theirs: &[u8]) -> Place {
    let file = |bytes| [("model.safetensors", Some(bytes))];
    fork(&file(base), &file(ours), &file(theirs))
}

pub(crate) fn head(place: &Place, revision: &str) -> String {
    place.json(&["log", revision, "-n", "1"])["commits"][0]["id"].as_str().unwrap().to_owned()
}

/// A merge that ends in conflicts: what it says, as JSON.
pub(crate) fn conflicts(place: &Place, args: &[&str]) -> Value {
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
pub(crate) fn lines(json: &Value) -> Vec<String> {
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
fn a_merge_that_was_interrupted_is_done_again() {
    let merged = but(&[("a.weight", 5.0), ("b.weight", 6.0)]);
    let fork = || {
        fork(
            &[("model.safetensors", Some(&but(&[]))), ("g", Some(b"1"))],
            &[("model.safetensors", Some(&but(&[("a.weight", 5.0)])))],
            &[("model.safetensors", Some(&but(&[("b.weight", 6.0)]))), ("g", Some(b"2")), ("h", Some(b"2"))],
        )
    };
    // Killed with all files in place, or with the stage moved as well.
    for is_staged in [false, true] {
        let place = fork();
        let files = [("model.safetensors", &merged[..]), ("g", b"2"), ("h", b"2")];
        for (path, bytes) in files {
            place.write(path, bytes);
        }
        if is_staged {
            place.ok(&["add", "-A"]);
        }
        let json = place.json(&["merge", "side"]);
        assert_eq!((&json["status"], place.ok(&["status", "-s"])), (&json!("merged"), String::new()), "{is_staged}");
        assert_eq!(place.json(&["show"])["parents"].as_array().map(Vec::len), Some(2));
        assert!(files.iter().all(|(path, bytes)| place.read(path) == *bytes));
    }
    // What is not as the merge would have it is not lost.
    let lost = ["changes that no commit has", "model.safetensors"];
    for other in [but(&[("a.weight", 5.0), ("b.weight", 7.0)]), b"shorter".to_vec()] {
        for is_staged in [false, true] {
            let place = fork();
            place.write("model.safetensors", &other);
            if is_staged {
                place.ok(&["add", "-A"]);
            }
            let before = (head(&place, "main"), place.ok(&["status", "-s"]));
            place.fails(&["merge", "side"], 4, &lost);
            assert_eq!((head(&place, "main"), place.ok(&["status", "-s"])), before);
            assert!(place.read("model.safetensors") == other && place.read("g") == b"1");
        }
    }
}
