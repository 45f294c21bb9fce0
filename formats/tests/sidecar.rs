//! Files of data that other files name: external data of ONNX, checkpoints of TensorFlow.
#![allow(clippy::unwrap_used, reason = "a test")]

mod listing;

use std::fs;
use std::path::Path;
use std::time::Instant;

use listing::{Listed, folder, listed, listing};
use proptest::prelude::*;
use shard_core::DType;
use shard_formats::model::{LogicalModel, ModelError};
use shard_formats::{FileSource, Neighbours, Parsed, parse_file};
use tempfile::TempDir;

/// The layout of a file at a path, which holds whatever it is and whatever is beside it.
fn parsed(path: &Path) -> Parsed {
    let source = FileSource::open(path).unwrap();
    let parsed = parse_file(path, &source).unwrap();
    assert_eq!(parsed.layout.check(path.metadata().unwrap().len()), Ok(()));
    parsed
}

fn format(path: &Path) -> String {
    parsed(path).layout.format
}

fn check(path: &Path, format: &str) {
    let parsed = parsed(path);
    assert_eq!(parsed.layout.format, format, "{}", path.display());
    assert!(parsed.note.is_none());
    assert_eq!(listed(&parsed.layout, &fs::read(path).unwrap()), listing(path).unwrap(), "{}", path.display());
}

#[test]
fn external_data_is_found_as_the_package_reads_it() {
    for name in ["external.onnx.data", "a", "b", "c"] {
        check(&folder("onnx").join(name), "onnx-data");
    }
}

#[test]
fn checkpoints_are_found_as_tensorflow_reads_them() {
    for name in [
        "types.data-00000-of-00001",
        "two.data-00000-of-00002",
        "two.data-00001-of-00002",
        "slices.data-00000-of-00001",
    ] {
        check(&folder("tensorflow").join(name), "tf-checkpoint");
    }
    for name in ["types.index", "two.index", "slices.index"] {
        assert_eq!(format(&folder("tensorflow").join(name)), "opaque");
    }
}

/// All tensors of a model, sorted; those of parts that have a listing.
fn all(model: &LogicalModel) -> Vec<Listed> {
    let mut all: Vec<Listed> =
        model.parts.iter().flat_map(|part| listed(&part.parsed.layout, &fs::read(&part.path).unwrap())).collect();
    all.sort();
    all
}

fn all_listed(format: &str, names: &[&str]) -> Vec<Listed> {
    let mut all: Vec<Listed> = names.iter().flat_map(|name| listing(&folder(format).join(name)).unwrap()).collect();
    all.sort();
    all
}

fn parts(model: &LogicalModel) -> Vec<String> {
    model.parts.iter().map(|part| part.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_model_and_its_data_are_one() {
    let open = |format, name| LogicalModel::open(&folder(format).join(name)).unwrap();
    let model = open("onnx", "external.onnx");
    assert_eq!(parts(&model), ["external.onnx", "external.onnx.data"]);
    assert_eq!(all(&model), all_listed("onnx", &["external.onnx", "external.onnx.data"]));
    let model = open("onnx", "apart.onnx");
    assert_eq!(parts(&model), ["apart.onnx", "a", "b", "c"]);
    assert_eq!(all(&model), all_listed("onnx", &["apart.onnx", "a", "b", "c"]));
    assert_eq!(parts(&open("onnx", "typed.onnx")), ["typed.onnx"]);
    let model = open("tensorflow", "two.index");
    assert_eq!(parts(&model), ["two.data-00000-of-00002", "two.data-00001-of-00002"]);
    assert_eq!(all(&model), all_listed("tensorflow", &["two.data-00000-of-00002", "two.data-00001-of-00002"]));
    assert_eq!(parts(&open("tensorflow", "two.data-00001-of-00002")), ["two.data-00001-of-00002"]);
    // Several checkpoints in one folder.
    let error = LogicalModel::open(&folder("tensorflow")).unwrap_err();
    assert!(matches!(&error, ModelError::Ambiguous { names, .. } if names.len() == 3), "{error}");
}

#[test]
fn a_directory_is_its_models() {
    let copy = |format: &str, names: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| {
            fs::copy(folder(format).join(name), directory.path().join(name)).unwrap();
        });
        directory
    };
    let directory = copy("onnx", &["external.onnx", "external.onnx.data"]);
    assert_eq!(parts(&LogicalModel::open(directory.path()).unwrap()), ["external.onnx", "external.onnx.data"]);
    let directory = copy("tensorflow", &["two.index", "two.data-00000-of-00002", "two.data-00001-of-00002"]);
    fs::write(directory.path().join("faiss.index"), "of another kind").unwrap();
    let model = LogicalModel::open(directory.path()).unwrap();
    assert_eq!(model.index, Some(directory.path().join("two.index")));
    assert_eq!(model.parts.len(), 2);
    let other = LogicalModel::open(&directory.path().join("faiss.index")).unwrap();
    assert_eq!(parts(&other), ["faiss.index"]);
    fs::remove_file(directory.path().join("two.data-00001-of-00002")).unwrap();
    let error = LogicalModel::open(directory.path()).unwrap_err();
    assert!(matches!(&error, ModelError::MissingShard { name, .. } if name == "two.data-00001-of-00002"), "{error}");
}

#[test]
fn shards_of_pytorch_are_one_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "training_args.bin"] {
        fs::write(path(name), [0x80, 2]).unwrap();
    }
    let shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    assert_eq!(parts(&LogicalModel::open(directory.path()).unwrap()), shards);
    let json = format!(r#"{{"metadata": {{}}, "weight_map": {{"b": "{}", "a": "{}"}}}}"#, shards[1], shards[1]);
    fs::write(path("pytorch_model.bin.index.json"), &json).unwrap();
    for path in [directory.path(), &path("pytorch_model.bin.index.json")] {
        let model = LogicalModel::open(path).unwrap();
        assert_eq!(parts(&model), [shards[1]]);
        assert_eq!(model.index, Some(directory.path().join("pytorch_model.bin.index.json")));
    }
    // The same weights as safetensors come first.
    fs::write(path("model.safetensors"), [2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']).unwrap();
    assert_eq!(parts(&LogicalModel::open(directory.path()).unwrap()), ["model.safetensors"]);
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len();
    let len = if len < 128 { vec![len as u8] } else { vec![len as u8 | 0x80, (len >> 7) as u8] };
    [vec![number << 3 | 2], len, bytes.to_vec()].concat()
}

/// A model with external tensors of bytes: their names, their locations, and where they start and how long they are.
fn model(tensors: &[(&str, &str, &str, &str)]) -> Vec<u8> {
    let mut graph = field(2, b"g");
    for (name, location, offset, length) in tensors {
        let mut tensor = [&[0x08, 4, 0x10, 2][..], &field(8, name.as_bytes()), &[0x70, 1]].concat();
        for (key, value) in [("location", location), ("offset", offset), ("length", length)] {
            if !value.is_empty() || key == "location" {
                tensor.extend(field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat()));
            }
        }
        graph.extend(field(5, &tensor));
    }
    let graph_len = [graph.len() as u8 | 0x80, (graph.len() >> 7) as u8 & 0x7f | 0x80, (graph.len() >> 14) as u8];
    [&[0x08, 10, 0x3a][..], &graph_len, &graph].concat()
}

/// A directory `mymodel` in one of its own, and 16 bytes that are no text.
fn place() -> (TempDir, std::path::PathBuf, [u8; 16]) {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("mymodel");
    fs::create_dir(&path).unwrap();
    (outer, path, [0xf0; 16])
}

#[test]
fn models_in_a_directory_are_one_where_they_share_data() {
    let (_outer, path, data) = place();
    for name in ["v", "w"] {
        fs::write(path.join(name), data).unwrap();
    }
    let put = |name: &str, file: &str| fs::write(path.join(name), model(&[(name, file, "0", "4")])).unwrap();
    let ambiguous = || {
        let error = LogicalModel::open(&path).unwrap_err();
        let ModelError::Ambiguous { names, .. } = &error else { panic!("{error}") };
        names.len()
    };
    put("a.onnx", "v");
    assert_eq!(parts(&LogicalModel::open(&path).unwrap()), ["a.onnx", "v"]);
    put("b.onnx", "w");
    assert_eq!(ambiguous(), 2);
    // One that needs the data of both joins them.
    fs::write(path.join("c.onnx"), model(&[("c", "v", "4", "4"), ("d", "w", "4", "4")])).unwrap();
    assert_eq!(parts(&LogicalModel::open(&path).unwrap()), ["a.onnx", "b.onnx", "c.onnx", "v", "w"]);
    fs::write(path.join("z.onnx"), "of another kind").unwrap();
    assert_eq!(ambiguous(), 4);
    put("model.onnx", "w");
    assert_eq!(parts(&LogicalModel::open(&path).unwrap()), ["model.onnx", "w"]);
}

#[test]
fn tensors_that_do_not_fit_are_left_out() {
    let (_outer, path, data) = place();
    fs::write(path.join("w"), data).unwrap();
    let tensors = [
        ("a", "w", "0", "4"),
        ("b", "w", "", ""),
        ("c", "w", "12", ""),
        ("d", "w", "2", "4"),
        ("long", "w", "0", "5"),
        ("late", "w", "13", "4"),
        ("far", "w", "18446744073709551615", "4"),
        ("farther", "w", "18446744073709551616", "4"),
        ("negative", "w", "-1", "4"),
        ("no number", "w", "x", "4"),
        ("elsewhere", "v", "0", "4"),
    ];
    fs::write(path.join("m.onnx"), model(&tensors)).unwrap();
    let layout = parsed(&path.join("w")).layout;
    let names: Vec<_> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "d", "c"], "tensors may share bytes");
    assert!(layout.tensors.iter().all(|tensor| tensor.dtype == DType::U8));
    fs::write(path.join("m.onnx"), model(&tensors[4..])).unwrap();
    assert_eq!(format(&path.join("w")), "opaque");
}

#[test]
fn models_are_sought_beside_and_above() {
    let (outer, path, data) = place();
    fs::create_dir_all(path.join("deep/deeper")).unwrap();
    for name in ["w", "deep/w", "deep/deeper/w", "text"] {
        fs::write(path.join(name), data).unwrap();
    }
    fs::write(path.join("text"), "weights in words").unwrap();
    let locations = ["w", "deep/w", "deep/deeper/w", "mymodel/w", "text"];
    let tensors: Vec<_> = locations.iter().map(|location| (*location, *location, "0", "4")).collect();
    fs::write(path.join("m.onnx"), model(&tensors)).unwrap();
    fs::write(path.join("._m.onnx"), "left by another system").unwrap();
    fs::create_dir(path.join("folder.onnx")).unwrap();
    for (name, tensor) in [("w", Some("w")), ("deep/w", Some("deep/w")), ("deep/deeper/w", None), ("text", None)] {
        let layout = parsed(&path.join(name)).layout;
        assert_eq!(layout.tensors.first().map(|tensor| tensor.name.as_str()), tensor, "{name}");
    }
    // The one whose name is most like the file's is asked first, then by name.
    fs::write(outer.path().join("mymodel/w.onnx"), model(&[("mine", "w", "0", "4")])).unwrap();
    assert_eq!(parsed(&path.join("w")).layout.tensors[0].name, "mine");
    // A model that was opened by its name says what it says of its own data.
    let opened = LogicalModel::open(&path.join("m.onnx"));
    assert!(matches!(opened, Err(ModelError::MissingShard { name, .. }) if name == "mymodel/w"));
    fs::write(path.join("m.onnx"), model(&tensors[..2])).unwrap();
    let opened = LogicalModel::open(&path.join("m.onnx")).unwrap();
    assert_eq!(opened.tensors().map(|(name, part, _)| (name, part)).collect::<Vec<_>>(), [("deep/w", 1), ("w", 2)]);
}

#[test]
fn fault_36_locations_do_not_leave_the_directory() {
    let (outer, path, data) = place();
    fs::create_dir_all(outer.path().join("mymodel_evil")).unwrap();
    fs::create_dir_all(path.join("sub")).unwrap();
    let secret = outer.path().join("secret");
    for file in [&secret, &outer.path().join("mymodel_evil/w"), &path.join("w"), &path.join("sub/w")] {
        fs::write(file, data).unwrap();
    }
    for location in [
        "../secret",
        "sub/../../secret",
        "sub/../w",
        "../mymodel_evil/w",
        "../mymodel/w",
        "./w",
        secret.to_str().unwrap(),
        path.join("w").to_str().unwrap(),
        r"..\secret",
        r"sub\w",
        "C:w",
        "w:stream",
        "w\0",
        "",
        "..",
        ".",
        "/",
    ] {
        fs::write(path.join("m.onnx"), model(&[("t", location, "0", "4")])).unwrap();
        fs::write(outer.path().join("m.onnx"), model(&[("t", location, "0", "4")])).unwrap();
        for file in ["w", "sub/w", "../secret", "../mymodel_evil/w"] {
            assert_eq!(format(&path.join(file)), "opaque", "{location:?} {file}");
        }
        let error = LogicalModel::open(&path.join("m.onnx")).unwrap_err();
        assert!(matches!(error, ModelError::Outside { .. }), "{location:?}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn fault_36_links_do_not_leave_the_directory() {
    use std::os::unix::fs::symlink;
    let (outer, path, data) = place();
    fs::create_dir_all(outer.path().join("mymodel_evil")).unwrap();
    fs::create_dir_all(path.join("sub")).unwrap();
    fs::write(outer.path().join("mymodel_evil/w"), data).unwrap();
    fs::write(path.join("sub/w"), data).unwrap();
    symlink("sub/w", path.join("inside")).unwrap();
    symlink("../mymodel_evil/w", path.join("outside")).unwrap();
    symlink("../mymodel_evil", path.join("folder")).unwrap();
    symlink("loop", path.join("loop")).unwrap();
    fs::hard_link(outer.path().join("mymodel_evil/w"), path.join("hard")).unwrap();
    let one = |location| model(&[("t", location, "0", "4")]);
    for (location, file, is) in [
        ("inside", "inside", "onnx-data"),
        ("inside", "sub/w", "opaque"),
        ("sub/w", "sub/w", "onnx-data"),
        // A hard link is a file of this directory, whatever other names it has; it is laid out and nothing else.
        ("hard", "hard", "onnx-data"),
        ("hard", "../mymodel_evil/w", "opaque"),
        ("outside", "outside", "opaque"),
        ("outside", "../mymodel_evil/w", "opaque"),
        ("folder/w", "folder/w", "opaque"),
        ("folder/w", "../mymodel_evil/w", "opaque"),
    ] {
        fs::write(path.join("m.onnx"), one(location)).unwrap();
        assert_eq!(format(&path.join(file)), is, "{location} {file}");
        let opened = LogicalModel::open(&path.join("m.onnx"));
        let leaves = matches!(location, "outside" | "folder/w");
        assert_eq!(matches!(opened, Err(ModelError::Outside { .. })), leaves, "{location}");
    }
    fs::write(path.join("m.onnx"), one("loop")).unwrap();
    assert!(matches!(LogicalModel::open(&path.join("m.onnx")), Err(ModelError::Io { .. })));
    // A model that lies elsewhere says nothing of this directory.
    fs::write(outer.path().join("mymodel_evil/m.onnx"), one("hard")).unwrap();
    fs::remove_file(path.join("m.onnx")).unwrap();
    symlink("../mymodel_evil/m.onnx", path.join("m.onnx")).unwrap();
    assert_eq!(format(&path.join("hard")), "opaque");
}

#[test]
fn neighbours_are_asked_once() {
    let (outer, path, data) = place();
    let names: Vec<String> = (0..3000).map(|index| format!("weight{index}")).collect();
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str(), "0", "4")).collect();
    fs::write(path.join("m.onnx"), model(&tensors)).unwrap();
    let other = outer.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("w"), data).unwrap();
    fs::write(outer.path().join("n.onnx"), model(&[("n", "other/w", "0", "4")])).unwrap();
    let neighbours = Neighbours::default();
    let start = Instant::now();
    for name in &names {
        fs::write(path.join(name), data).unwrap();
        for (path, tensor) in [(path.join(name), name.as_str()), (other.join("w"), "n")] {
            let layout = neighbours.parse_file(&path, &FileSource::open(&path).unwrap()).unwrap().layout;
            assert_eq!(layout.tensors[0].name, tensor);
        }
    }
    // It takes half a second; to read the model for each would take ten times as long.
    assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
    let opened = LogicalModel::open(&path).unwrap();
    assert_eq!(opened.parts.len(), 3001);
}

#[test]
fn many_models_are_not_all_read() {
    let (_outer, path, data) = place();
    fs::write(path.join("w"), data).unwrap();
    for index in 0..40 {
        fs::write(path.join(format!("{index:02}.onnx")), model(&[("t", "other", "0", "4")])).unwrap();
    }
    fs::write(path.join("zz.onnx"), model(&[("t", "w", "0", "4")])).unwrap();
    assert_eq!(format(&path.join("w")), "opaque", "it is the 41st");
    fs::rename(path.join("zz.onnx"), path.join("w.onnx")).unwrap();
    assert_eq!(format(&path.join("w")), "onnx-data");
}

/// Lays out the data of a checkpoint whose index is these bytes.
fn with_index(directory: &Path, index: &[u8]) -> Parsed {
    fs::write(directory.join("types.index"), index).unwrap();
    parsed(&directory.join("types.data-00000-of-00001"))
}

fn checkpoint() -> (TempDir, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let data = "types.data-00000-of-00001";
    fs::copy(folder("tensorflow").join(data), directory.path().join(data)).unwrap();
    (directory, fs::read(folder("tensorflow").join("types.index")).unwrap())
}

#[test]
fn truncated_indexes_say_nothing() {
    let (directory, index) = checkpoint();
    for len in 0..index.len() {
        assert_eq!(with_index(directory.path(), &index[..len]).layout.format, "opaque", "{len}");
    }
    assert_eq!(with_index(directory.path(), &index).layout.format, "tf-checkpoint");
}

#[test]
fn truncated_data_keeps_what_is_there() {
    let (directory, index) = checkpoint();
    let path = directory.path().join("types.data-00000-of-00001");
    let whole = fs::read(&path).unwrap();
    let mut count = with_index(directory.path(), &index).layout.tensors.len();
    for len in (0..whole.len()).rev().step_by(7) {
        fs::write(&path, &whole[..len]).unwrap();
        let left = parsed(&path).layout.tensors.len();
        assert!(left <= count, "{len}");
        count = left;
    }
    assert!(count <= 1, "but for a tensor without elements all are gone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damaged_indexes_do_no_harm(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let (directory, mut index) = checkpoint();
        let at = at.index(index.len());
        index[at] = with;
        with_index(directory.path(), &index);
    }

    #[test]
    fn damaged_models_do_no_harm(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut model = fs::read(folder("onnx").join("external.onnx")).unwrap();
        let at = at.index(model.len());
        model[at] = with;
        fs::write(directory.path().join("external.onnx"), model).unwrap();
        let data = directory.path().join("external.onnx.data");
        fs::copy(folder("onnx").join("external.onnx.data"), &data).unwrap();
        parsed(&data);
        // What an index says of other files may be an error, but nothing else.
        let _ = LogicalModel::open(&directory.path().join("external.onnx"));
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A block of a table: entries of (shared, rest of the key, value).
fn block(entries: &[(u64, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (shared, key, value) in entries {
        block.extend([varint(*shared), varint(key.len() as u64), varint(value.len() as u64)].concat());
        block.extend([key.clone(), value.clone()].concat());
    }
    [block, vec![0; 4], vec![1, 0, 0, 0]].concat()
}

/// A table of these blocks, compressed as the byte says, whose index has an entry for each of `handles`.
fn table(blocks: &[Vec<u8>], compression: u8, handles: &[usize]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut places = Vec::new();
    let mut put = |block: &[u8], compression: u8| {
        let handle = [varint(table.len() as u64), varint(block.len() as u64)].concat();
        table.extend([block, &[compression, 0, 0, 0, 0]].concat());
        handle
    };
    for block in blocks {
        places.push(put(block, compression));
    }
    let index: Vec<_> =
        handles.iter().map(|which| (0, (*which as u32).to_be_bytes().to_vec(), places[*which].clone())).collect();
    let meta = put(&block(&[]), 0);
    let index = put(&block(&index), 0);
    let mut footer = [meta, index].concat();
    footer.resize(40, 0);
    [table, footer, 0xdb47_7524_8b80_fb57u64.to_le_bytes().to_vec()].concat()
}

/// An entry of a float, at that offset.
fn float(offset: u64) -> Vec<u8> {
    [vec![0x08, 1, 0x12, 0, 0x20], varint(offset), vec![0x28, 4]].concat()
}

const HEADER: [u8; 2] = [0x08, 1];

#[test]
fn tables_that_are_none_say_nothing() {
    let (directory, _) = checkpoint();
    let header = (0, Vec::new(), HEADER.to_vec());
    let one = |key: &[u8]| (0, key.to_vec(), float(0));
    let format = |index: &[u8]| with_index(directory.path(), index).layout.format;
    let good = [block(&[header.clone(), one(b"a")]), block(&[one(b"b")])];
    assert_eq!(format(&table(&good, 0, &[0, 1])), "tf-checkpoint");
    for (what, index) in [
        ("compressed", table(&good, 1, &[0, 1])),
        ("a block twice", table(&good, 0, &[0, 0])),
        ("blocks that go back", table(&good, 0, &[1, 0])),
        ("no header", table(&[block(&[one(b"a")])], 0, &[0])),
        ("no entries", table(&[], 0, &[])),
        ("keys that do not ascend", table(&[block(&[header.clone(), one(b"b"), one(b"a")])], 0, &[0])),
        ("a key twice", table(&[block(&[header.clone(), one(b"b"), one(b"b")])], 0, &[0])),
        ("a key that shares too much", table(&[block(&[header.clone(), (1, b"b".to_vec(), float(0))])], 0, &[0])),
        ("big-endian data", table(&[block(&[(0, vec![], vec![0x08, 1, 0x10, 1]), one(b"a")])], 0, &[0])),
        ("two data files", table(&[block(&[(0, vec![], vec![0x08, 2]), one(b"a")])], 0, &[0])),
        ("a key that is too long", table(&[block(&[header.clone(), one(&[b'k'; 9000])])], 0, &[0])),
        ("no text", table(&[block(&[header.clone(), one(b"\xff")])], 0, &[0])),
        ("a part without a name", table(&[block(&[header, one(b"\0abc")])], 0, &[0])),
    ] {
        assert_eq!(format(&index), "opaque", "{what}");
    }
}

#[test]
fn keys_that_multiply_are_bounded() {
    let (directory, _) = checkpoint();
    let mut entries = vec![(0, Vec::new(), HEADER.to_vec()), (0, vec![b'k'; 4000], float(0))];
    entries.extend((0..100_000u32).map(|index| (4000, index.to_be_bytes().to_vec(), vec![])));
    let index = table(&[block(&entries)], 0, &[0]);
    assert_eq!(with_index(directory.path(), &index).layout.format, "opaque");
}

#[test]
fn a_hundred_thousand_tensors_are_found_quickly() {
    let (directory, _) = checkpoint();
    let data = directory.path().join("types.data-00000-of-00001");
    fs::write(&data, vec![0xf0; 400_000]).unwrap();
    let mut entries = vec![(0, Vec::new(), HEADER.to_vec())];
    entries
        .extend((0..100_000u64).map(|index| (0, format!("layers/{index:06}/weight").into_bytes(), float(4 * index))));
    let index = table(&[block(&entries)], 0, &[0]);
    let start = Instant::now();
    let layout = with_index(directory.path(), &index).layout;
    // It takes some 100 ms; the bound leaves room for a busy machine.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert_eq!(layout.tensors.len(), 100_000);
}
