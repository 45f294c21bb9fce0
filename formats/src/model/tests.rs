use std::fs;

use shard_core::DType;
use tempfile::TempDir;

use super::*;
use crate::source::Source;

/// A safetensors file with one tensor of two bytes.
fn shard(tensor: &str) -> Vec<u8> {
    let header = format!(r#"{{"{tensor}":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}"#);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[1, 2]].concat()
}

/// A directory `model` with two shards, `a.safetensors` and `sub/b.safetensors`, inside a directory of its own.
fn model() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let model = outer.path().join("model");
    fs::create_dir_all(model.join("sub")).unwrap();
    fs::write(model.join("a.safetensors"), shard("a")).unwrap();
    fs::write(model.join("sub/b.safetensors"), shard("b")).unwrap();
    (outer, model)
}

fn write_index(model: &Path, name: &str, files: &[&str]) -> PathBuf {
    let map: Vec<String> = files.iter().enumerate().map(|(tensor, file)| format!(r#""{tensor}": "{file}""#)).collect();
    let json = format!(r#"{{"metadata": {{"total_size": 4}}, "weight_map": {{{}}}}}"#, map.join(", "));
    fs::write(model.join(name), json).unwrap();
    model.join(name)
}

fn names(model: &LogicalModel) -> Vec<(&str, usize)> {
    model.tensors().map(|(name, part, _)| (name, part)).collect()
}

#[test]
fn a_file_is_one_part() {
    let (_outer, model) = model();
    let opened = LogicalModel::open(&model.join("a.safetensors")).unwrap();
    assert_eq!(names(&opened), [("a", 0)]);
    assert_eq!(opened.index, None);
    let part = &opened.parts[0];
    let (start, len) = part.tensor_range(&part.parsed.layout.tensors[0]).unwrap();
    let mut bytes = vec![0; len as usize];
    part.source().unwrap().read_at(start, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2]);
    let foreign =
        TensorView { name: String::new(), dtype: DType::U8, shape: vec![], segment: 9, offset: 0, strides: None };
    assert_eq!(part.tensor_range(&foreign), None);
    fs::write(model.join("notes.txt"), "any file").unwrap();
    let opened = LogicalModel::open(&model.join("notes.txt")).unwrap();
    assert_eq!(opened.parts[0].parsed.layout.format, "opaque");
}

#[test]
fn an_index_leads_to_its_shards() {
    let (_outer, model) = model();
    let index = write_index(&model, INDEX_NAME, &["sub/b.safetensors", "a.safetensors", "sub/b.safetensors"]);
    for path in [&index, &model] {
        let opened = LogicalModel::open(path).unwrap();
        assert_eq!(opened.index.as_ref(), Some(&index));
        assert_eq!(names(&opened), [("a", 0), ("b", 1)]);
        assert_eq!(opened.parts[1].path, model.join("sub/b.safetensors"));
    }
}

#[test]
fn a_directory_is_its_files_or_its_index() {
    let (_outer, model) = model();
    fs::write(model.join("0.safetensors"), shard("z")).unwrap();
    fs::write(model.join("._a.safetensors"), "left by another system").unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    assert_eq!(names(&LogicalModel::open(&model).unwrap()), [("z", 0), ("a", 1)]);
    write_index(&model, "unet.safetensors.index.json", &["a.safetensors"]);
    assert_eq!(names(&LogicalModel::open(&model).unwrap()), [("a", 0)]);
    write_index(&model, "model.fp16.safetensors.index.json", &["0.safetensors"]);
    let error = LogicalModel::open(&model).unwrap_err();
    assert!(matches!(&error, ModelError::Ambiguous { names, .. } if names.len() == 2), "{error}");
    write_index(&model, INDEX_NAME, &["0.safetensors", "a.safetensors"]);
    assert_eq!(LogicalModel::open(&model).unwrap().parts.len(), 2);
    let error = LogicalModel::open(tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(matches!(error, ModelError::Empty { .. }), "{error}");
}

#[test]
fn shards_never_lie_outside() {
    let (outer, model) = model();
    fs::write(outer.path().join("secret.safetensors"), shard("s")).unwrap();
    fs::create_dir(outer.path().join("model_evil")).unwrap();
    fs::write(outer.path().join("model_evil/x.safetensors"), shard("s")).unwrap();
    let absolute = outer.path().join("secret.safetensors");
    for name in [
        "../secret.safetensors",
        "sub/../../secret.safetensors",
        "sub/../a.safetensors",
        "../model_evil/x.safetensors",
        "./a.safetensors",
        absolute.to_str().unwrap(),
        r"..\\secret.safetensors",
        "C:secret.safetensors",
        r"a.safetensors\u0000",
        "",
        "..",
        "/",
    ] {
        let index = write_index(&model, INDEX_NAME, &["a.safetensors", name]);
        let error = LogicalModel::open(&index).unwrap_err();
        assert!(matches!(error, ModelError::Outside { .. }), "{name:?}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn symbolic_links_do_not_lead_outside() {
    use std::os::unix::fs::symlink;
    let (outer, model) = model();
    fs::write(outer.path().join("secret.safetensors"), shard("s")).unwrap();
    fs::create_dir(outer.path().join("model_evil")).unwrap();
    fs::write(outer.path().join("model_evil/x.safetensors"), shard("s")).unwrap();
    symlink("sub/b.safetensors", model.join("inside.safetensors")).unwrap();
    assert_eq!(names(&LogicalModel::open(&model).unwrap()), [("a", 0), ("b", 1)]);
    symlink("../model_evil", model.join("folder")).unwrap();
    let index = write_index(&model, "model.safetensors.index.json", &["folder/x.safetensors"]);
    assert!(matches!(LogicalModel::open(&index), Err(ModelError::Outside { .. })));
    fs::rename(&index, outer.path().join(INDEX_NAME)).unwrap();
    symlink("../model.safetensors.index.json", &index).unwrap();
    assert!(matches!(LogicalModel::open(&model), Err(ModelError::Outside { .. })));
    fs::remove_file(&index).unwrap();
    symlink("../secret.safetensors", model.join("escape.safetensors")).unwrap();
    let error = LogicalModel::open(&model).unwrap_err();
    assert!(matches!(&error, ModelError::Outside { name, .. } if name == "escape.safetensors"), "{error}");
    // A path that the user names is the user's choice.
    assert_eq!(names(&LogicalModel::open(&model.join("escape.safetensors")).unwrap()), [("s", 0)]);
}

#[test]
fn what_is_missing_or_unusable_is_named() {
    let (_outer, model) = model();
    let index = write_index(&model, INDEX_NAME, &["a.safetensors", "gone.safetensors"]);
    let error = LogicalModel::open(&index).unwrap_err();
    assert!(matches!(&error, ModelError::MissingShard { name, .. } if name == "gone.safetensors"), "{error}");
    assert!(matches!(LogicalModel::open(&model.join("none")), Err(ModelError::Io { .. })));
    write_index(&model, INDEX_NAME, &["sub"]);
    assert!(matches!(LogicalModel::open(&index), Err(ModelError::Io { .. })), "a directory is no shard");
    for json in [
        "",
        "[]",
        "{}",
        r#"{"weight_map": {}}"#,
        r#"{"weight_map": {"a": 1}}"#,
        r#"{"weight_map": {"a": "a.safetensors"}, "weight_map": {}}"#,
        r#"{"weight_map": {"a": "a.safetensors", "\u0061": "a.safetensors"}}"#,
    ] {
        fs::write(&index, json).unwrap();
        let error = LogicalModel::open(&index).unwrap_err();
        assert!(matches!(error, ModelError::Index { .. }), "{json}: {error}");
    }
}
