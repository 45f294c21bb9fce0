//! `diff` and `log --heat`: pictures, kinds of change, series, single tensors, and what is odd.

use std::fs;

use serde_json::Value;
use shard_datasets::cases::Versions;
use shard_tests::odd_files::safetensors;

use crate::place::Place;

/// Little-endian binary32.
fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Numbers between -1 and 1 that look random; the same for the same seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A safetensors file of binary32 tensors.
fn file(tensors: &[(&str, &[u64], Vec<f32>)]) -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(f32s(values.iter().copied()));
        entries
            .push(format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{}]}}"#, data.len()));
    }
    safetensors(&format!("{{{}}}", entries.join(",")), &data)
}

fn tensor<'a>(model: &'a Value, name: &str) -> &'a Value {
    let tensors = model["tensors"].as_array().unwrap();
    tensors.iter().find(|tensor| tensor["name"] == name).unwrap_or_else(|| panic!("no {name}: {model}"))
}

const SQUARE: &[u64] = &[64, 64];

/// The pair on which other tools went wrong: one tensor with noise, one resized, one added, one removed, three equal.
fn simple_pair() -> (Vec<u8>, Vec<u8>) {
    let (a, b, c) = (numbers(1, 4096), numbers(2, 4096), numbers(3, 64));
    let noisy = numbers(4, 4096);
    let with_noise: Vec<f32> = noisy.iter().zip(numbers(5, 4096)).map(|(value, noise)| value + 1e-3 * noise).collect();
    let resized = numbers(6, 4096);
    let grown: Vec<f32> = resized.iter().copied().chain(numbers(7, 16 * 64)).collect();
    let old = file(&[
        ("h.0.attn.q_proj.weight", SQUARE, a.clone()),
        ("h.0.attn.k_proj.weight", SQUARE, b.clone()),
        ("h.0.ln_1.weight", &[64], c.clone()),
        ("h.1.attn.q_proj.weight", SQUARE, noisy),
        ("wte.weight", SQUARE, resized),
        ("h.1.mlp.up_proj.weight", SQUARE, numbers(8, 4096)),
    ]);
    let new = file(&[
        ("h.0.attn.q_proj.weight", SQUARE, a),
        ("h.0.attn.k_proj.weight", SQUARE, b),
        ("h.0.ln_1.weight", &[64], c),
        ("h.1.attn.q_proj.weight", SQUARE, with_noise),
        ("wte.weight", &[80, 64], grown),
        ("h.1.mlp.down_proj.weight", SQUARE, numbers(9, 4096)),
    ]);
    (old, new)
}

#[test]
fn on_a_simple_pair_every_tensor_is_accounted_for_with_the_right_state() {
    let place = Place::new();
    let (old, new) = simple_pair();
    place.write("old.safetensors", &old);
    place.write("new.safetensors", &new);
    let model = &place.json(&["diff", "--equal", "old.safetensors", "new.safetensors"])["models"][0];
    assert_eq!(model["total"], 7);
    for (name, state, kind) in [
        ("h.0.attn.q_proj.weight", "equal", "frozen"),
        ("h.0.attn.k_proj.weight", "equal", "frozen"),
        ("h.0.ln_1.weight", "equal", "frozen"),
        ("h.1.attn.q_proj.weight", "value", "noise"),
        ("wte.weight", "shape", "resized"),
        ("h.1.mlp.down_proj.weight", "added", "added"),
        ("h.1.mlp.up_proj.weight", "removed", "removed"),
    ] {
        let found = tensor(model, name);
        assert_eq!((&found["state"], &found["kind"]), (&state.into(), &kind.into()), "{found}");
    }
    let resized = tensor(model, "wte.weight");
    assert!(resized["evidence"].as_str().unwrap().contains("what both have is the same"), "{resized}");
    assert_eq!(model["kind"]["kind"], "resized");
    let text = place.ok(&["diff", "old.safetensors", "new.safetensors"]);
    assert!(text.contains("7 tensors: 3 equal, 1 value, 1 shape, 1 added, 1 removed"), "{text}");
    for glyph in ["= equal", "- removed", "+ added", "s shape"] {
        assert!(text.contains(glyph), "{glyph}: {text}");
    }
    let csv = place.ok(&["diff", "--csv", "old.safetensors", "new.safetensors"]);
    assert_eq!(csv.lines().count(), 8, "{csv}");
    assert!(csv.lines().all(|line| line.starts_with("model,") || line.starts_with("new.safetensors,")), "{csv}");
}

#[test]
fn kinds_of_change_are_told_with_their_numbers() {
    let place = Place::new();
    let base = numbers(1, 4096);
    let (left, right) = (numbers(2, 64 * 3), numbers(3, 64 * 3));
    let product = |row: usize, column: usize| (0..3).map(|k| left[row * 3 + k] * right[column * 3 + k]).sum::<f32>();
    let merged: Vec<f32> =
        base.iter().enumerate().map(|(at, value)| value + 0.01 * product(at / 64, at % 64)).collect();
    // Rows learn at their own rates, as in training.
    let trained: Vec<f32> = base
        .iter()
        .zip(numbers(4, 4096))
        .enumerate()
        .map(|(at, (value, step))| value + step * 1e-3 * ((at / 64) % 7 + 1) as f32 * ((at % 64) % 5 + 1) as f32)
        .collect();
    let old: Vec<(&str, &[u64], Vec<f32>)> =
        ["a.weight", "b.weight", "c.weight", "d.weight"].map(|name| (name, SQUARE, base.clone())).into();
    let new: Vec<(&str, &[u64], Vec<f32>)> = vec![
        ("a.weight", SQUARE, merged),
        ("b.weight", SQUARE, trained),
        ("c.weight", SQUARE, base.iter().map(|value| value * 0.9).collect()),
        ("d.weight", SQUARE, numbers(9, 4096)),
    ];
    place.write("old.safetensors", &file(&old));
    place.write("new.safetensors", &file(&new));
    let model = &place.json(&["diff", "old.safetensors", "new.safetensors"])["models"][0];
    let merged = tensor(model, "a.weight");
    assert_eq!((&merged["kind"], &merged["rank"]), (&"low-rank".into(), &3.into()), "{merged}");
    assert_eq!(tensor(model, "b.weight")["kind"], "fine-tune");
    let scaled = tensor(model, "c.weight");
    assert_eq!((&scaled["kind"], &scaled["evidence"]), (&"scaled".into(), &"times 0.900000".into()), "{scaled}");
    assert_eq!(tensor(model, "d.weight")["kind"], "re-initialised");

    let odd = |values: Vec<f32>| {
        place.write("odd.safetensors", &file(&[("a.weight", SQUARE, values)]));
        place.write("plain.safetensors", &file(&[("a.weight", SQUARE, base.clone())]));
        let found = place.json(&["diff", "plain.safetensors", "odd.safetensors"]);
        let tensor = tensor(&found["models"][0], "a.weight");
        (tensor["kind"].as_str().unwrap().to_owned(), tensor["evidence"].as_str().unwrap().to_owned())
    };
    let (kind, evidence) = odd(base.iter().map(|value| -value).collect());
    assert_eq!((kind.as_str(), evidence.as_str()), ("scaled", "times -1.000000"));
    let (kind, evidence) = odd(base.iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect());
    assert!(kind == "cast" && evidence.starts_with("rounded to BF16, kept as F32"), "{kind}: {evidence}");
    let (kind, evidence) = odd(base.iter().map(|value| if value.abs() < 0.5 { 0.0 } else { *value }).collect());
    assert!(kind == "changed" && evidence.starts_with("pruned: "), "{kind}: {evidence}");
}

#[test]
fn what_is_not_finite_is_told_and_nothing_is_skipped() {
    let place = Place::new();
    let values = numbers(1, 4096);
    let mut broken = values.clone();
    broken[17] = f32::NAN;
    broken[18] = f32::INFINITY;
    let nothing = vec![f32::NAN; 4096];
    let layers = |first: &[f32], second: &[f32]| {
        file(&[("h.0.attn.q_proj.weight", SQUARE, first.to_vec()), ("h.1.attn.q_proj.weight", SQUARE, second.to_vec())])
    };
    place.write("a.safetensors", &layers(&values, &values));
    place.write("b.safetensors", &layers(&values, &broken));
    place.write("c.safetensors", &layers(&nothing, &nothing));
    let model = &place.json(&["diff", "a.safetensors", "b.safetensors"])["models"][0];
    let lost = &tensor(model, "h.1.attn.q_proj.weight")["stats"];
    assert_eq!((&lost["lost"], &lost["not_finite"], &lost["changed"]), (&2.into(), &2.into(), &2.into()), "{lost}");
    let text = place.ok(&["diff", "a.safetensors", "b.safetensors"]);
    assert!(text.contains("! NaN or infinite") && text.contains("2 values became NaN or infinite, in h.1"), "{text}");
    let stat = place.ok(&["diff", "--stat", "a.safetensors", "b.safetensors"]);
    assert_eq!(stat.lines().nth(1), Some("2 values became NaN or infinite, in h.1"), "{stat}");
    let run = place.run(&["diff", "--exit-code", "a.safetensors", "c.safetensors"]);
    assert!(run.code == 1 && run.out.contains("2 tensors: 2 value"), "{}", run.out);
    let model = &place.json(&["diff", "c.safetensors", "a.safetensors"])["models"][0];
    assert_eq!(tensor(model, "h.0.attn.q_proj.weight")["stats"]["relative"], Value::Null);
    assert_eq!(model["kind"]["kind"], "changed");
    // A series tells the step.
    let text = place.ok(&["diff", "--series", "a.safetensors", "a.safetensors", "b.safetensors", "--no-sizes"]);
    assert!(text.contains("b: 2 values became NaN or infinite, in h.1"), "{text}");
}

#[test]
fn models_that_have_nothing_in_common_are_listed_whole() {
    let place = Place::new();
    let a = file(&[("h.0.attn.q_proj.weight", SQUARE, numbers(1, 4096)), ("wte.weight", SQUARE, numbers(2, 4096))]);
    let b =
        file(&[("layer1.0.conv1.weight", &[8, 8, 3, 3], numbers(3, 576)), ("fc.weight", &[10, 64], numbers(4, 640))]);
    place.write("a.safetensors", &a);
    place.write("b.safetensors", &b);
    place.write("none.safetensors", &safetensors("{}", b""));
    place.write("padded.safetensors", &safetensors("{} ", b""));
    place.write("notes.txt", b"not a model");
    let run = place.run(&["diff", "--exit-code", "a.safetensors", "b.safetensors"]);
    assert!(run.code == 1 && run.out.contains("unrelated: no tensor of one side is on the other"), "{}", run.out);
    assert!(run.out.contains("4 tensors: 2 added, 2 removed") && run.out.contains("fc.weight"), "{}", run.out);
    let kind = |old: &str, new: &str| {
        let found = place.json(&["diff", old, new]);
        (found["differs"].as_bool().unwrap(), found["models"][0]["kind"]["kind"].as_str().unwrap().to_owned())
    };
    assert_eq!(kind("a.safetensors", "none.safetensors"), (true, "removed".to_owned()));
    assert_eq!(kind("none.safetensors", "a.safetensors"), (true, "added".to_owned()));
    assert_eq!(kind("none.safetensors", "none.safetensors"), (false, "identical".to_owned()));
    assert_eq!(kind("none.safetensors", "padded.safetensors"), (true, "changed".to_owned()));
    assert_eq!(kind("notes.txt", "a.safetensors"), (true, "added".to_owned()));
    // What is damaged is no model without tensors.
    place.write("cut.safetensors", &a[..a.len() / 2]);
    place.fails(&["diff", "a.safetensors", "cut.safetensors"], 5, &["cut.safetensors", "cannot be read"]);
    // A folder of models is no model.
    place.write("run/one.safetensors", &a);
    place.write("run/two.safetensors", &a);
    place.fails(&["diff", "run", "a.safetensors"], 2, &["several models", "--series"]);
    assert_eq!(place.run(&["diff", "--exit-code", "none.safetensors", "padded.safetensors"]).code, 1);
}

#[test]
fn a_hundred_thousand_tensors_are_compared() {
    let place = Place::new();
    let names: Vec<String> =
        (0..100_000).map(|i| format!("model.layers.{}.mlp.experts.{}.w1.weight", i / 10, i % 10)).collect();
    let version = |seed: u64| {
        let values = numbers(seed, 400_000);
        let mut header = String::from("{");
        for (at, name) in names.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            header.push_str(&format!(
                r#"{comma}"{name}":{{"dtype":"F32","shape":[4],"data_offsets":[{},{}]}}"#,
                at * 16,
                at * 16 + 16
            ));
        }
        safetensors(&format!("{header}}}"), &f32s(values))
    };
    place.write("a.safetensors", &version(1));
    place.write("b.safetensors", &version(2));
    let text = place.ok(&["diff", "a.safetensors", "b.safetensors"]);
    assert!(text.contains("100000 tensors: 100000 value"), "{text}");
    assert!(text.lines().count() < 150, "{} lines", text.lines().count());
    let found = place.json(&["diff", "a.safetensors", "b.safetensors"]);
    assert_eq!(found["models"][0]["tensors"].as_array().unwrap().len(), 100_000);
}

#[test]
fn one_tensor_is_looked_into() {
    let place = Place::new();
    let base = numbers(1, 4096);
    // Only the last 32 rows move.
    let moved: Vec<f32> =
        base.iter().enumerate().map(|(at, value)| if at >= 2048 { value * 1.5 } else { *value }).collect();
    place.write("a.safetensors", &file(&[("w", SQUARE, base.clone()), ("b", &[64], base[..64].to_vec())]));
    place.write("b.safetensors", &file(&[("w", SQUARE, moved), ("b", &[64], base[..64].to_vec())]));
    let found = place.json(&["diff", "a.safetensors", "b.safetensors", "--tensor", "w"]);
    assert_eq!((&found["rows"], &found["columns"], &found["dtype"]), (&64.into(), &64.into(), &"F32".into()));
    let patches = found["grid"]["patches"].as_array().unwrap();
    assert_eq!(patches.len(), 1024);
    assert!(patches[..512].iter().all(|patch| patch["changed"] == 0));
    assert!(patches[512..].iter().all(|patch| (patch["relative"].as_f64().unwrap() - 0.5).abs() < 1e-6));
    for histogram in ["steps", "values"] {
        let found = &found[histogram];
        let count =
            |side: &str| found[side].as_array().unwrap().iter().map(|bin| bin[1].as_u64().unwrap()).sum::<u64>();
        assert_eq!(found["unchanged"].as_u64().unwrap(), 2048, "{histogram}");
        assert_eq!(count("down") + count("up"), 2048, "{histogram}");
    }
    let lengths = found["spectrum"]["singular_values"].as_array().unwrap();
    let energy: f64 = lengths.iter().map(|length| length.as_f64().unwrap().powi(2)).sum();
    let expected: f64 = base[2048..].iter().map(|value| (f64::from(*value) * 0.5).powi(2)).sum();
    assert!((energy / expected - 1.0).abs() < 1e-6, "{energy} {expected}");
    assert!(found["spectrum"]["effective_rank"].as_f64() < Some(32.5));
    let text = place.ok(&["diff", "a.safetensors", "b.safetensors", "--tensor", "w"]);
    for part in ["columns", "units in the last place", "changes of values", "effective rank"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A vector has no directions.
    assert_eq!(place.json(&["diff", "a.safetensors", "b.safetensors", "--tensor", "b"])["spectrum"], Value::Null);
    place.fails(&["diff", "a.safetensors", "b.safetensors", "--tensor", "x"], 2, &["no tensor \"x\""]);
    assert_eq!(place.run(&["diff", "--exit-code", "a.safetensors", "b.safetensors", "--tensor", "b"]).code, 0);
    assert_eq!(place.run(&["diff", "--exit-code", "a.safetensors", "b.safetensors", "--tensor", "w"]).code, 1);
}

#[test]
fn pictures_are_written_where_they_are_wanted() {
    let place = Place::new();
    let (old, new) = simple_pair();
    place.write("old.safetensors", &old);
    place.write("new.safetensors", &new);
    let pair = ["diff", "old.safetensors", "new.safetensors"];
    place.ok(&[&pair[..], &["--svg", "a.svg", "--png", "a.png", "--html", "a.html"]].concat());
    let svg = String::from_utf8(place.read("a.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("h.1.attn.q_proj.weight"), "{svg}");
    assert_eq!(&place.read("a.png")[..8], b"\x89PNG\r\n\x1a\n");
    let html = String::from_utf8(place.read("a.html")).unwrap();
    assert!(html.contains("<!doctype html>") || html.contains("<!DOCTYPE html>"), "{}", &html[..200]);
    assert!(html.contains("Content-Security-Policy") && html.contains("q_proj.weight"));
    // The same picture is the same bytes.
    place.ok(&[&pair[..], &["--svg", "b.svg", "--html", "b.html"]].concat());
    assert_eq!((place.read("b.svg"), place.read("b.html")), (svg.into_bytes(), html.into_bytes()));
    place.ok(&[&pair[..], &["--tensor", "h.1.attn.q_proj.weight", "--svg", "t.svg"]].concat());
    assert!(fs::metadata(place.path().join("t.svg")).unwrap().len() > 10_000);
    place.fails(&[&pair[..], &["--svg", "no/such/folder/a.svg"]].concat(), 3, &["no/such/folder"]);
    assert!(place.json(&[&pair[..], &["--svg", "c.svg"]].concat())["differs"].as_bool().unwrap());
    assert!(place.path().join("c.svg").exists());
}

#[test]
fn a_series_is_shown_over_time_with_what_each_version_takes() {
    let place = Place::new();
    place.ok(&["init"]);
    let mut versions = Versions::new(7, 6, 64, 64, 0.3);
    for step in 1..=4 {
        let bytes = versions.next().unwrap().unwrap();
        place.write("model.safetensors", &bytes);
        place.write(&format!("run/step{step}.safetensors"), &bytes);
        place.ok(&["add", "model.safetensors"]);
        place.ok(&["commit", "-m", &format!("Step {step}"), "--step", &step.to_string()]);
    }
    let files: Vec<String> = (1..=4).map(|step| format!("run/step{step}.safetensors")).collect();
    let args: Vec<&str> = ["diff", "--series"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let text = place.ok(&args);
    for part in ["4 versions", "step1", "step4", "block.5", "stored", "ratio", "relative change  "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = place.json(&args);
    let points = found["versions"].as_array().unwrap();
    assert_eq!(points.len(), 4);
    assert!(points[0].get("kind").is_none() && points[3]["kind"]["kind"].is_string(), "{found}");
    let stored: Vec<u64> = points.iter().map(|point| point["stored"].as_u64().unwrap()).collect();
    assert!(stored[1..].iter().all(|later| *later < stored[0] && *later > 0), "{stored:?}");
    assert_eq!(points[2]["tensors"].as_array().unwrap().len(), 6);
    assert_eq!(place.json(&[&args[..], &["--no-sizes"]].concat())["versions"][0]["stored"], Value::Null);
    assert_eq!(place.run(&[&args[..], &["--exit-code"]].concat()).code, 1);

    // The same of commits, by range, by names, and as a log.
    let of_range = place.json(&["diff", "--series", "HEAD~3..HEAD"]);
    let names = place.json(&["diff", "--series", "HEAD~3", "HEAD~2", "HEAD~1", "HEAD"]);
    assert_eq!(of_range, names);
    assert_eq!(of_range["versions"].as_array().unwrap().len(), 4);
    assert_eq!(of_range["versions"][3]["label"], "4", "{of_range}");
    let stats = |found: &Value, version: usize| found["versions"][version]["tensors"][0]["stats"].clone();
    assert_eq!(stats(&of_range, 2), stats(&found, 2), "files and commits give the same numbers");
    let heat = place.ok(&["log", "--heat", "--svg", "heat.svg", "--by", "changed"]);
    assert!(heat.contains("4 versions") && heat.contains("changed words") && heat.contains("stored"), "{heat}");
    assert!(place.path().join("heat.svg").exists());
    // Of the last commit alone there is a column, against the one before it.
    let last = place.ok(&["log", "--heat", "-n", "1"]);
    assert!(last.contains("1 version\n") && last.contains("block.5"), "{last}");
    place.fails(&["log", "--svg", "x.svg"], 2, &["--heat"]);
    place.fails(&["diff", "--series", "HEAD~1..HEAD", "--svg", "-"], 2, &["standard output"]);
    assert_eq!(place.json(&["log", "--heat", "HEAD", "model.safetensors"]), of_range);

    place.fails(&["diff", "--series", "run/step1.safetensors"], 2, &["two versions"]);
    place.fails(&["diff", "--series", "HEAD..HEAD~1"], 4, &["first parents"]);
    place.fails(&["diff", "--series", "run/step1.safetensors", "run/gone.safetensors"], 3, &["gone"]);
    place.fails(&["diff", "a", "b", "c"], 2, &["--series"]);
}

#[test]
fn equal_blocks_of_stored_models_are_not_read() {
    let place = Place::new();
    place.ok(&["init"]);
    let weights = numbers(1, 1 << 18);
    let model = |name: &str| {
        let header = format!(
            r#"{{"__metadata__":{{"of":"{name}"}},"w":{{"dtype":"F32","shape":[512,512],"data_offsets":[0,1048576]}}}}"#
        );
        safetensors(&header, &f32s(weights.iter().copied()))
    };
    for name in ["one", "two"] {
        place.write("model.safetensors", &model(name));
        place.ok(&["add", "model.safetensors"]);
        place.ok(&["commit", "-m", name]);
    }
    // What holds the tensor is ruined, so that whatever reads it fails.
    let packs = fs::read_dir(place.path().join(".shard/packs")).unwrap().map(|entry| entry.unwrap().path());
    let largest = packs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 4..bytes.len() * 3 / 4;
    bytes[middle].fill(0);
    // Packs are read-only.
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, bytes).unwrap();
    let text = place.ok(&["diff", "HEAD~1", "HEAD"]);
    assert!(text.contains("1 tensor: 1 equal; bytes outside of tensors differ"), "{text}");
    assert_eq!(place.run(&["verify", "--full"]).code, 1);
}

#[test]
fn pictures_in_the_terminal_follow_its_colours() {
    let place = Place::new();
    let (old, new) = simple_pair();
    place.write("old.safetensors", &old);
    place.write("new.safetensors", &new);
    let run = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = place.command(&[&["diff", "old.safetensors", "new.safetensors"], args].concat());
        command.env_remove("COLORTERM").envs(environment.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let always = ["--color", "always"];
    assert!(!run(&[], &[]).contains('\u{1b}'), "a pipe gets no colours");
    assert!(!run(&["--color", "never"], &[("COLORTERM", "truecolor")]).contains('\u{1b}'));
    assert!(run(&always, &[("COLORTERM", "truecolor")]).contains(";48;2;"));
    assert!(run(&always, &[("TERM", "xterm-256color")]).contains(";48;5;"));
    let sixteen = run(&always, &[("TERM", "xterm")]);
    assert!(sixteen.contains("\u{1b}[30;") && !sixteen.contains("48;"), "{sixteen}");
}

/// What a command prints on a terminal of so many columns, by `script` of util-linux.
#[cfg(target_os = "linux")]
fn on_terminal(place: &Place, columns: usize, no_color: bool, args: &str) -> String {
    let shard = env!("CARGO_BIN_EXE_shard");
    let command = format!("stty cols {columns} rows 50; {shard} {args}");
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(place.path()).stdin(std::process::Stdio::null());
    script.env("TERM", "xterm-256color").env_remove("COLORTERM").env_remove("NO_COLOR");
    if no_color {
        script.env("NO_COLOR", "1");
    }
    let output = script.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_pictures_and_tables_fit_the_window_and_no_color_is_honoured() {
    let place = Place::new();
    let (old, new) = simple_pair();
    place.write("old.safetensors", &old);
    place.write("new.safetensors", &new);
    for columns in [60, 80, 200] {
        let args = "diff old.safetensors new.safetensors";
        let coloured = on_terminal(&place, columns, false, args);
        assert!(coloured.contains("\u{1b}[38;5;"), "{coloured}");
        let plain = on_terminal(&place, columns, true, args);
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(plain.contains("noise") && plain.contains("tensor  "), "{plain}");
        // But for the line that accounts for all tensors, which is a sentence.
        for line in plain.lines().filter(|line| !line.starts_with("7 tensors: ")) {
            assert!(line.chars().count() <= columns, "{columns}: {line:?}");
        }
        let tables = on_terminal(&place, columns, true, &format!("{args} --layers --equal"));
        for line in tables.lines().skip(2).filter(|line| !line.starts_with("7 tensors: ")) {
            assert!(line.chars().count() <= columns, "{columns}: {line:?}");
        }
    }
}

#[test]
fn values_in_another_order_of_memory_are_the_same() {
    let place = Place::new();
    let values = numbers(1, 12);
    // The same 3 x 4 matrix row by row and column by column, and its bytes read the other way.
    let rows = f32s(values.iter().copied());
    let columns = f32s((0..4).flat_map(|column| (0..3).map(move |row| row * 4 + column)).map(|at| values[at]));
    let array = |fortran: &str, data: &[u8]| {
        let mut header = format!("{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': (3, 4), }}");
        while (header.len() + 11) % 64 != 0 {
            header.push(' ');
        }
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16 + 1).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.push(b'\n');
        bytes.extend(data);
        bytes
    };
    place.write("rows/m.npy", &array("False", &rows));
    place.write("columns/m.npy", &array("True", &columns));
    place.write("other/m.npy", &array("True", &rows));
    let state = |old: &str, new: &str| {
        let found = place.json(&["diff", "--equal", &format!("{old}/m.npy"), &format!("{new}/m.npy")]);
        found["models"][0]["tensors"][0].clone()
    };
    assert_eq!(state("rows", "columns")["state"], "equal");
    let other = state("rows", "other");
    assert_eq!(other["state"], "value", "{other}");
    let changed = (0..12).filter(|at| values[*at] != values[at % 4 * 3 + at / 4]).count();
    assert_eq!(other["stats"]["changed"].as_u64(), Some(changed as u64), "{other}");
}
