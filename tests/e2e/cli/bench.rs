//! `bench`.

use std::fs;

use half::bf16;
use serde_json::Value;
use shard_datasets::cases::{Versions, every_change, odd_dtypes};
use shard_datasets::rng::Rng;
use shard_tests::rewrite::{Dtype, Tensor, write};

use crate::place::Place;

/// A place with `a.safetensors` and `b.safetensors`: every kind of change between them.
fn pair() -> (Place, u64) {
    let place = Place::new();
    let (first, second) = every_change(1).unwrap();
    place.write("a.safetensors", &first);
    place.write("b.safetensors", &second);
    let header = u64::from_le_bytes(second[..8].try_into().unwrap());
    (place, second.len() as u64 - 8 - header)
}

/// The figures of one codec among those of a total or a group.
fn codec<'a>(figures: &'a Value, name: &str) -> &'a Value {
    let all = figures["codecs"].as_array().unwrap();
    all.iter().find(|codec| codec["codec"] == name).unwrap_or_else(|| panic!("no {name} in {figures}"))
}

#[test]
fn a_pair_is_measured_without_a_repository() {
    let (place, _) = pair();
    let out = place.ok(&["bench", "a.safetensors", "b.safetensors"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "b.safetensors against a.safetensors");
    assert!(lines[1].starts_with("codec ") && lines[1].contains("ratio") && lines[1].contains("decode MB/s"), "{out}");
    for (line, name) in lines[2..].iter().zip(["shard fast", "shard default", "shard max", "zstd -3", "BitX"]) {
        assert!(line.starts_with(name) && line.contains('x'), "{name} in {out}");
    }
    for said in
        ["stored for free by every codec", "median of 3 rounds", "every round trip gave the same bytes", "SHA-256"]
    {
        assert!(out.contains(said), "{said:?} in {out}");
    }
    assert!(!place.path().join(".shard").exists());
    let one_round = place.ok(&["bench", "a.safetensors", "b.safetensors", "--rounds", "1", "--codecs", "zstd"]);
    assert!(one_round.contains("one round") && !one_round.contains("BitX"), "{one_round}");
}

#[test]
fn json_accounts_for_every_byte() {
    let (place, data) = pair();
    let json =
        place.json(&["bench", "a.safetensors", "b.safetensors", "--by", "tensor", "--codecs", "all", "--explain"]);
    let total = &json["total"];
    assert_eq!(total["raw"], data);
    assert_eq!(
        json["outside_tensors"].as_u64().unwrap() + data,
        fs::metadata(place.path().join("b.safetensors")).unwrap().len()
    );
    assert_eq!((&json["files"][0]["measured"], &json["files"][1]["against"]), (&false.into(), &"a.safetensors".into()));
    let groups = json["groups"].as_array().unwrap();
    let sum = |name: &str| groups.iter().map(|group| group[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("raw"), Some(sum("identical"))), (data, total["identical"].as_u64()));
    let (shard, bitx) = (codec(total, "shard default"), codec(total, "BitX"));
    assert!(shard["stored"].as_u64() < bitx["stored"].as_u64(), "{total}");
    for name in ["encode_mb_s", "decode_mb_s", "encode_x_sha256", "decode_x_sha256", "ratio"] {
        assert!(shard[name].as_f64().unwrap() > 0.0, "{name} in {shard}");
    }
    let noisy = groups.iter().find(|group| group["name"] == "noisy.weight").unwrap();
    let (alone, delta) = (codec(noisy, "zero+split"), codec(noisy, "parent+ulp+planes"));
    assert!(delta["stored"].as_u64().unwrap() * 2 < alone["stored"].as_u64().unwrap(), "{noisy}");
    let equal = groups.iter().find(|group| group["name"] == "equal.f32").unwrap();
    assert_eq!((&equal["identical"], &codec(equal, "BitX")["stored"]), (&equal["raw"], &0.into()));
    assert_eq!(codec(equal, "BitX")["ratio"], Value::Null);
    let explained = json["explain"].as_array().unwrap();
    let noisy = explained.iter().find(|one| one["tensor"] == "noisy.weight").unwrap();
    assert!(noisy["chosen"][0]["chain"].as_str().unwrap().starts_with("parent+"), "{noisy}");
    assert!(noisy["estimates"].as_array().unwrap().len() > 2, "{noisy}");
}

#[test]
fn figures_are_broken_down_and_explained() {
    let place = Place::new();
    for (index, bytes) in Versions::new(3, 4, 32, 64, 0.05).take(3).enumerate() {
        place.write(&format!("{index}.safetensors"), &bytes.unwrap());
    }
    let files = ["0.safetensors", "1.safetensors", "2.safetensors"];
    let bench = |args: &[&str]| {
        let mut all = vec!["bench", "--codecs", "default,zstd", "--rounds", "1"];
        all.extend(files.iter().chain(args));
        place.ok(&all)
    };
    let out = bench(&["--by", "layer"]);
    assert!(out.starts_with("3 files, 0.safetensors to 2.safetensors, each against the one before\n"), "{out}");
    for layer in ["layer ", "block.0 ", "block.3 ", "total "] {
        assert!(out.lines().any(|line| line.starts_with(layer)), "{layer:?} in {out}");
    }
    let out = bench(&["--by", "file"]);
    assert!(!out.contains("\n0.safetensors ") && out.contains("\n2.safetensors "), "the first is only leant on: {out}");
    assert!(bench(&["--by", "dtype"]).contains("\nBF16 "));
    let out = bench(&["--explain=2", "--level", "fast"]);
    assert!(out.contains("what `--level fast` chose"), "{out}");
    let lines: Vec<&str> = out.lines().filter(|line| line.contains("block.")).collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines.iter().all(|line| line.contains(".safetensors")), "of which file it is: {out}");
}

#[test]
fn csv_is_one_table() {
    let (place, _) = pair();
    let out =
        place.ok(&["bench", "a.safetensors", "b.safetensors", "--csv", "--by", "dtype", "--codecs", "default,bitx"]);
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0][..4], ["by", "name", "codec", "raw"]);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{out}");
    assert_eq!(lines.len(), 1 + 2 * 4, "two codecs for three types and the total: {out}");
    assert_eq!(lines[8][..3], ["total", "", "BitX"]);
}

/// A place with `a.safetensors` in binary32, and `b.safetensors`, the same in bf16.
fn copy() -> (Place, u64) {
    let place = Place::new();
    let mut rng = Rng::new(1);
    let values: Vec<f32> = (0..128 * 256).map(|_| rng.normal() as f32).collect();
    let tensor = |dtype, bytes| vec![Tensor { name: "w".to_owned(), dtype, shape: vec![128, 256], bytes }];
    let master = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let half: Vec<u8> = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
    let raw = half.len() as u64;
    place.write("a.safetensors", &write(&tensor(Dtype::F32, master)));
    place.write("b.safetensors", &write(&tensor(Dtype::BF16, half)));
    (place, raw)
}

#[test]
fn what_is_computed_is_listed() {
    let (place, raw) = copy();
    let args = ["bench", "a.safetensors", "b.safetensors", "--codecs", "default"];
    let out = place.ok(&args);
    let row = out.lines().find(|line| line.starts_with("cast ")).unwrap_or_else(|| panic!("no cast in {out}"));
    assert!(out.contains("\nderivation ") && row.contains("65.5 kB"), "{out}");

    let json = place.json(&args);
    let cast = &json["derivations"][0];
    assert_eq!((&cast["name"], &cast["tensors"], &cast["blocks"]), (&"cast".into(), &1.into(), &1.into()), "{json}");
    let number = |name: &str| cast[name].as_u64().unwrap();
    assert_eq!(number("raw"), raw);
    assert!(number("stored") * 100 < raw, "{cast}");
    assert_eq!(number("without"), codec(&json["total"], "shard default")["stored"].as_u64().unwrap(), "alone: {json}");
    assert!(cast["decode_mb_s"].as_f64().unwrap() > 0.0, "{cast}");

    let csv = place.ok(&[&args[..], &["--csv"]].concat());
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{csv}");
    let [.., derived, without] = &lines[..] else { panic!("{csv}") };
    assert_eq!(
        (&derived[..3], &without[..3]),
        (&["derivation", "cast", "derived"][..], &["derivation", "cast", "without"][..])
    );
    assert_eq!(derived[6].parse::<u64>().unwrap(), number("stored"));

    // By itself nothing is computed from anything.
    let alone = place.json(&[&args[..], &["--solo"]].concat());
    assert_eq!(alone["derivations"], Value::Array(Vec::new()));
    assert!(!place.path().join(".shard").exists());
}

#[test]
fn a_plot_is_an_svg() {
    let (place, _) = pair();
    let out = place.ok(&["bench", "a.safetensors", "b.safetensors", "--plot", "p.svg", "--codecs", "all"]);
    assert!(out.ends_with("p.svg made\n"), "{out}");
    let svg = String::from_utf8(place.read("p.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    for shown in ["shard default", "BitX", "SHA-256", "b.safetensors against a.safetensors"] {
        assert!(svg.contains(shown), "{shown} in {svg}");
    }
    assert!(!place.ok(&["-q", "bench", "b.safetensors", "--plot", "p.svg"]).contains("made"));
    let json = place.json(&["bench", "b.safetensors", "--plot", "q.svg"]);
    assert_eq!(json["plot"], "q.svg");
    assert!(place.path().join("q.svg").exists());
    // Said before anything is measured.
    let both = ["bench", "a.safetensors", "b.safetensors", "--plot"];
    place.fails(&[&both[..], &["p.png"]].concat(), 2, &["p.png: plots are SVG files", "--plot p.svg", "rsvg-convert"]);
    place.fails(&[&both[..], &["none/p.svg"]].concat(), 3, &["none/p.svg: cannot write the plot"]);
}

#[test]
fn one_file_is_measured_by_itself() {
    let (place, data) = pair();
    let json = place.json(&["bench", "b.safetensors"]);
    assert_eq!((&json["files"][0]["measured"], &json["files"][0]["against"]), (&true.into(), &Value::Null));
    assert_eq!((&json["total"]["raw"], &json["total"]["identical"]), (&data.into(), &0.into()));
    assert!(place.ok(&["bench", "b.safetensors"]).starts_with("b.safetensors, by itself\n"));
    let solo = place.json(&["bench", "b.safetensors", "b.safetensors", "--solo"]);
    assert_eq!(solo["total"]["raw"], 2 * data);
    assert_eq!(solo["total"]["identical"], 0, "each file is as if it were the only one");
    let again = place.json(&["bench", "b.safetensors", "b.safetensors"]);
    assert_eq!(again["total"]["identical"], data);
    assert!(place.ok(&["bench", "b.safetensors", "b.safetensors", "--plot", "p.svg"]).contains("100.0%"));
}

#[test]
fn any_file_can_be_measured() {
    let place = Place::new();
    place.write("notes.txt", "a line of text\n".repeat(500).as_bytes());
    place.write("empty", b"");
    place.write("odd.safetensors", &odd_dtypes(1).unwrap());
    place.write(
        "broken.safetensors",
        &[&40u64.to_le_bytes()[..], br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,9]}}"#].concat(),
    );
    let json = place.json(&["bench", "notes.txt", "--by", "dtype"]);
    assert_eq!((&json["groups"][0]["name"], &json["total"]["raw"]), (&"opaque".into(), &7500.into()));
    assert!(codec(&json["total"], "shard default")["ratio"].as_f64().unwrap() > 50.0, "{json}");
    let json =
        place.json(&["bench", "odd.safetensors", "notes.txt", "empty", "--solo", "--codecs", "all", "--by", "dtype"]);
    let types: Vec<&str> =
        json["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert!(types.contains(&"F4") && types.contains(&"C64") && types.contains(&"opaque"), "{types:?}");
    assert!(place.ok(&["bench", "broken.safetensors"]).contains("note: broken.safetensors is taken as opaque bytes: "));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let (place, _) = pair();
    place.write("empty", b"");
    place.fails(&["bench", "none.safetensors"], 3, &["none.safetensors: cannot read", "check the spelling"]);
    place.fails(&["bench", "."], 2, &[".: is not a file", "shard bench run/*.safetensors"]);
    place.fails(&["bench", "empty"], 4, &["there is nothing to measure"]);
    place.fails(
        &["bench", "a.safetensors", "--codecs", "gzip"],
        2,
        &["there is no codec \"gzip\"", "zstd, bitx, chains"],
    );
    for args in [
        &["bench"][..],
        &["bench", "a.safetensors", "--rounds", "0"],
        &["bench", "a.safetensors", "--by", "colour"],
        &["bench", "a.safetensors", "--csv", "--json"],
        &["bench", "a.safetensors", "--csv", "--explain"],
    ] {
        let run = place.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}: {}", run.err);
    }
}
