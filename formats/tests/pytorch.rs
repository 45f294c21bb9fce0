//! The PyTorch parser against what PyTorch loads, on its files and on damaged and hostile ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod archive;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archive::stored;
use proptest::prelude::*;
use serde_json::Value;
use shard_core::sha256;
use shard_formats::{FormatErrorKind, Parsed, parse};

/// Fixtures that there are at least: none may get lost.
const FIXTURES: usize = 20;

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch");
    let mut found: Vec<(String, Vec<u8>)> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pt"))
        .map(|path| (path.with_extension("").display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    found.sort();
    assert!(found.len() >= FIXTURES, "{} fixtures", found.len());
    found
}

/// Checks what holds for any bytes.
fn check(bytes: &[u8]) -> Parsed {
    let parsed = parse(&bytes).unwrap();
    assert_eq!(parsed.layout.check(bytes.len() as u64), Ok(()));
    parsed
}

/// A tensor: dtype, shape, strides, and the hash of its bytes.
type Tensor = (String, Vec<u64>, Option<Vec<u64>>, String);

fn ours(parsed: &Parsed, bytes: &[u8]) -> BTreeMap<String, Tensor> {
    let offsets = parsed.layout.segment_offsets();
    let tensor = |tensor: &shard_core::TensorView| {
        let start = (offsets[tensor.segment] + tensor.offset) as usize;
        let data = &bytes[start..start + tensor.byte_len().unwrap() as usize];
        let hash = sha256(data).to_hex();
        (tensor.name.clone(), (tensor.dtype.name().to_owned(), tensor.shape.clone(), tensor.strides.clone(), hash))
    };
    parsed.layout.tensors.iter().map(tensor).collect()
}

fn theirs(listing: &str) -> BTreeMap<String, Tensor> {
    let listing: Vec<Value> = serde_json::from_str(listing).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let numbers = |value: &Value| value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect();
    let tensor = |tensor: &Value| {
        let strides = tensor.get("strides").map(numbers);
        (text(&tensor["name"]), (text(&tensor["dtype"]), numbers(&tensor["shape"]), strides, text(&tensor["sha256"])))
    };
    let all: BTreeMap<String, Tensor> = listing.iter().map(tensor).collect();
    assert_eq!(all.len(), listing.len(), "names are unique");
    all
}

#[test]
fn every_file_lists_what_pytorch_loads() {
    for (path, bytes) in fixtures() {
        let parsed = check(&bytes);
        assert!(parsed.note.is_none(), "{path}: {:?}", parsed.note);
        assert_eq!(parsed.layout.format, "pytorch", "{path}");
        let (ours, theirs) = (ours(&parsed, &bytes), theirs(&std::fs::read_to_string(format!("{path}.json")).unwrap()));
        for (name, tensor) in &theirs {
            assert_eq!(ours.get(name), Some(tensor), "{path}: {name}");
        }
        let more: Vec<_> = ours.keys().filter(|name| !theirs.contains_key(*name)).collect();
        assert!(more.is_empty(), "{path}: {more:?}");
    }
}

#[test]
fn every_truncation_has_a_layout() {
    for (path, bytes) in fixtures() {
        for len in 0..bytes.len() {
            let parsed = check(&bytes[..len]);
            // A tar archive may end with its last member.
            assert!(
                parsed.layout.format != "pytorch" || path.ends_with("tar"),
                "{path}: {len} of {} bytes",
                bytes.len()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn damaged_files_have_a_layout(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        thread_local! { static FIXTURES: Vec<(String, Vec<u8>)> = fixtures(); }
        let mut bytes = FIXTURES.with(|fixtures| which.get(fixtures).1.clone());
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        check(&bytes);
    }
}

/// A checkpoint of that pickle, with one storage of 4 kB.
fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    stored(&[("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", &[7; 4096])])
}

/// The opcodes that make a tensor of that storage.
fn tensor(key: &str, items: u64, offset: u64, shape: &[u64], strides: &[u64]) -> Vec<u8> {
    let int = |value: u64| [&b"\x8a\x08"[..], &value.to_le_bytes()].concat();
    let ints = |values: &[u64]| {
        let values: Vec<u8> = values.iter().flat_map(|value| int(*value)).collect();
        [b"(", &values[..], b"t"].concat()
    };
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU"[..],
        &[key.len() as u8],
        key.as_bytes(),
        b"U\x03cpu",
        &int(items),
        b"tQ",
        &int(offset),
        &ints(shape),
        &ints(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

fn note(pickle: &[u8]) -> Option<FormatErrorKind> {
    check(&checkpoint(pickle)).note.map(|note| note.kind())
}

/// The names that a pickle's tensors get; the pickle has them in a list.
fn names(pickle: &[u8]) -> Vec<String> {
    let parsed = check(&checkpoint(pickle));
    assert_eq!(parsed.layout.format, "pytorch", "{:?}", parsed.note);
    parsed.layout.tensors.into_iter().map(|tensor| tensor.name).collect()
}

#[test]
fn views_that_no_storage_has() {
    // Beside a sound one, which is found whatever the other is.
    let listed = |items, offset, shape: &[u64], strides: &[u64]| {
        let (odd, sound) = (tensor("0", items, offset, shape, strides), tensor("0", 4, 0, &[4], &[1]));
        names(&[&b"\x80\x02("[..], &odd, &sound, b"t."].concat())
    };
    assert_eq!(listed(1024, 0, &[32, 32], &[32, 1]), ["0", "1"]);
    for (items, offset, shape, strides) in [
        (1024, 1, &[32, 32][..], &[32, 1][..]),
        (9999, 0, &[1025], &[1]),
        (1, u64::MAX >> 1, &[1], &[1]),
        (1, 0, &[1 << 62], &[1]),
        (1, 0, &[1 << 62, 1 << 62], &[1 << 62, 1]),
        (1, 0, &[u64::MAX], &[1]),
        (1, 0, &[2], &[u64::MAX]),
        (1, 0, &[2; 65], &[1; 65]),
    ] {
        assert_eq!(listed(items, offset, shape, strides), ["1"], "{offset} {shape:?}: it has no place in its storage");
    }
    let gone = [&b"\x80\x02("[..], &tensor("1", 4, 0, &[4], &[1]), &tensor("0", 4, 0, &[4], &[1]), b"t."].concat();
    assert_eq!(names(&gone), ["1"], "a storage that is not there, as of a tensor on the meta device");
}

#[test]
fn archives_of_others() {
    let pickle = [&b"\x80\x02"[..], &tensor("0", 4, 0, &[4], &[1]), b"."].concat();
    let data = ("a/data/0", &[1; 16][..]);
    for members in [&[("a/b.txt", &b"x"[..])][..], &[("data.pickle", &pickle), data], &[("xdata.pkl", &pickle), data]] {
        let parsed = check(&stored(members));
        assert_ne!(parsed.layout.format, "pytorch");
        assert!(parsed.note.is_none());
    }
    let parsed = check(&stored(&[("data.pkl", &pickle), ("data/0", &[1; 16])]));
    assert_eq!((parsed.layout.format.as_str(), parsed.layout.tensors.len()), ("pytorch", 1), "without its folder");
    let big = stored(&[("a/data.pkl", &pickle), ("a/byteorder", b"big"), data]);
    assert_eq!(check(&big).note.map(|note| note.kind()), Some(FormatErrorKind::Malformed));
    let twice = stored(&[("a/data.pkl", &pickle), data, data]);
    assert_eq!(check(&twice).note.map(|note| note.kind()), Some(FormatErrorKind::Duplicate));
    // The same member in the directory with the method of DEFLATE.
    let mut deflated = checkpoint(&pickle);
    let entry = deflated.windows(6).position(|window| window == b"PK\x01\x02\x14\0").unwrap();
    deflated[entry + 10] = 8;
    assert!(check(&deflated).note.is_none());
}

#[test]
fn names_come_from_paths() {
    let t = tensor("0", 4, 0, &[4], &[1]);
    let list = |parts: &[&[u8]]| [b"\x80\x02", &parts.concat()[..], b"."].concat();
    // Three entries that all make the name "a.b"; and one that has the name which the second gets.
    let same = list(&[b"}(U\x03a.b", &t, b"U\x01a}U\x01b", &t, b"sU\x05a.b#2", &t, b"U\x03a.b", &t, b"u"]);
    assert_eq!(names(&same), ["a.b", "a.b#2", "a.b#2#2", "a.b#3"]);
    let odd = list(&[b"}(K\x07", &t, b"N", &t, b"U\x02\xff\xfe", &t, b"u"]);
    assert_eq!(names(&odd), ["#1", "7", "\u{fffd}\u{fffd}"]);
    let long = list(&[b"}(X\x00\x20\0\0", &[b'x'; 8192], &t, b"U\x01y", &t, b"u"]);
    assert_eq!(names(&long), ["#0", "y"], "text that is longer than a name is none");
}

#[test]
fn fault_33_hostile_pickles_are_walked_and_never_run() {
    let t = tensor("0", 4, 0, &[4], &[1]);
    let proof = std::env::temp_dir().join(format!("shard-fault-33-{}", std::process::id()));
    let shell = format!("touch {}", proof.display());
    let by_global = format!("cos\nsystem\n(S'{shell}'\ntR0");
    let by_inst = format!("(S'{shell}'\nios\nsystem\n0");
    let by_obj = format!("(cos\nsystem\nS'{shell}'\no0");
    let by_stack = format!("S'os'\nS'system'\n\u{93}S'{shell}'\n\u{85}R0").chars().map(|c| c as u8).collect::<Vec<_>>();
    for attack in [by_global.as_bytes(), by_inst.as_bytes(), by_obj.as_bytes(), &by_stack] {
        let pickle = [b"\x80\x04", attack, &t, b"."].concat();
        assert_eq!(names(&pickle), ["tensor"]);
    }
    assert!(!proof.exists());
}

#[test]
fn fault_33_bombs_take_little_time() {
    use FormatErrorKind::{Limit, Malformed, Truncated};
    let t = tensor("0", 4, 0, &[4], &[1]);
    let start = Instant::now();
    // Lengths that are not there.
    for opcodes in [
        &b"X\xff\xff\xff\x7f"[..],
        b"T\xff\xff\xff\x7f",
        b"T\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
    ] {
        assert_eq!(note(opcodes), Some(Truncated));
    }
    assert_eq!(note(&[&b"\x8d"[..], &u64::MAX.to_le_bytes()].concat()), Some(Truncated));
    // A million lists in one another; beyond some depth nothing is looked for.
    let deep = [&vec![b']'; 1_000_000][..], &t, &vec![b'a'; 1_000_000], b"."].concat();
    assert_eq!(names(&deep), Vec::<String>::new());
    // A million calls, each of the one before it.
    let calls = [&b"N"[..], &b")R".repeat(1_000_000), b"."].concat();
    assert_eq!(names(&calls), Vec::<String>::new());
    // Every tuple has the one before it twice, so that there are 2^100 paths to a tensor.
    let doubled = [&t[..], &b"2\x86".repeat(100), b"."].concat();
    assert_eq!(note(&doubled), Some(Limit));
    // The same with so many members that few levels do.
    let wide = [&t[..], &[&b"(2"[..], &[b'2'; 500], b"t"].concat().repeat(1), b"."].concat();
    assert_eq!(note(&wide), Some(Malformed), "a mark hides what is below it");
    let wide = [&b"]"[..], b"q\0(", &b"h\0".repeat(300_000), b"e."].concat();
    assert_eq!(names(&wide), Vec::<String>::new(), "a list of itself");
    let lists = b"]q\0]q\x01]q\x02";
    let fill = |from: u8, to: u8| [&[b'h', from, b'('][..], &[b'h', to].repeat(3000), b"e0"].concat();
    let cross = [&lists[..], &fill(0, 1), &fill(1, 2), &fill(2, 0), b"."].concat();
    assert_eq!(note(&cross), Some(Limit));
    // Names that are long on every level.
    let key = [&b"X\0\x08\0\0"[..], &[b'k'; 2048]].concat();
    let level = [&b"}"[..], &key].concat();
    let long = [&level.repeat(60)[..], &t, &b"s".repeat(60), b"."].concat();
    assert_eq!(names(&long), Vec::<String>::new());
    // Functions that are handed to one another.
    let handed = [&b"ctorch._tensor\n_rebuild_from_type_v2\nq\0"[..], &b"(h\0h\0h\0NtR".repeat(1000), b"."].concat();
    assert_eq!(names(&handed), Vec::<String>::new());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_hundred_thousand_tensors_parse_quickly() {
    const TENSORS: u64 = 100_000;
    let mut pickle = b"\x80\x02}(".to_vec();
    for index in 0..TENSORS {
        let name = format!("model.layers.{index}.mlp.experts.weight");
        pickle.extend_from_slice(&[b"X", &(name.len() as u32).to_le_bytes()[..], name.as_bytes()].concat());
        pickle.extend_from_slice(&tensor("0", TENSORS * 2, index * 2, &[2, 1], &[1, 1]));
    }
    pickle.extend_from_slice(b"u.");
    let data = vec![1; TENSORS as usize * 8];
    let bytes = stored(&[("a/data.pkl", &pickle), ("a/data/0", &data)]);
    let start = Instant::now();
    let parsed = parse(&bytes).unwrap();
    let took = start.elapsed();
    println!("{TENSORS} tensors in {took:?}");
    // The bound leaves room for a busy machine.
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    assert_eq!(parsed.layout.tensors.len() as u64, TENSORS);
    assert_eq!(parsed.layout.check(bytes.len() as u64), Ok(()));
}
