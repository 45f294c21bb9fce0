//! Checks that hold for a file of any format, and comparison with what the format's own library finds in it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::ptr_arg,
    reason = "a test, and not every suite uses all of it"
)]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use shard_core::limits::Cut;
use shard_core::{Layout, sha256};
use shard_formats::compress::{Expanded, FileBytes, NotRepeated};
use shard_formats::cut::Cutter;
use shard_formats::{FormatErrorKind, Parsed, Source, parse};

/// A tensor as the library has it: `sha256` is that of its bytes in the order of the file, strides are in elements.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) sha256: String,
    pub(crate) strides: Option<Vec<u64>>,
}

/// The folder of a format's fixtures.
pub(crate) fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format)
}

/// A fixture's bytes.
pub(crate) fn fixture(format: &str, name: &str) -> Vec<u8> {
    std::fs::read(folder(format).join(name)).unwrap()
}

/// The names of a format's fixtures, sorted.
pub(crate) fn fixtures(format: &str) -> Vec<String> {
    let entries = folder(format).read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| !name.ends_with(".json") && !name.ends_with(".py")).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// What the library finds in a fixture; `None` where it has no listing.
pub(crate) fn expected(format: &str, name: &str) -> Option<Vec<Listed>> {
    listing(&folder(format).join(name))
}

/// The listing beside a file, sorted; `None` where there is none.
pub(crate) fn listing(file: &Path) -> Option<Vec<Listed>> {
    let json = std::fs::read(format!("{}.json", file.display())).ok()?;
    let mut listed: Vec<Listed> = serde_json::from_slice(&json).unwrap();
    listed.sort();
    Some(listed)
}

/// The layout of any bytes, which tiles them and gives them back.
pub(crate) fn check(bytes: &Vec<u8>) -> Parsed {
    let parsed = parse(bytes).unwrap();
    assert_eq!(parsed.layout.check(bytes.len() as u64), Ok(()));
    let expanded = Expanded::new(bytes, &parsed.layout);
    let mut cutter = Cutter::new(&expanded, &parsed.layout, Cut::TEST);
    let mut file = FileBytes::new(&parsed.layout);
    let (mut block, mut back) = (Vec::new(), Vec::new());
    let repeated = loop {
        match cutter.next(&mut block) {
            Ok(None) => break true,
            Ok(Some(_)) => {}
            // Damaged behind what was looked at: the engine then leaves it compressed.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => break false,
            Err(error) => panic!("{error}"),
        }
        let pushed = file.push::<NotRepeated>(&block, &mut |part| {
            back.extend_from_slice(part);
            Ok(())
        });
        if pushed.is_err() {
            break false;
        }
    };
    assert!(repeated && back == *bytes || !parsed.layout.compressed.is_empty(), "every byte comes back");
    parsed
}

/// Why a file was not understood.
pub(crate) fn refused(bytes: &Vec<u8>) -> Option<FormatErrorKind> {
    let parsed = check(bytes);
    assert_eq!(parsed.layout.format == "opaque", parsed.note.is_some(), "{:?}", parsed.note);
    parsed.note.map(|note| note.kind())
}

/// The tensors of a layout.
pub(crate) fn listed(layout: &Layout, file: &[u8]) -> Vec<Listed> {
    let expanded = Expanded::new(file, layout);
    let mut bytes = vec![0; expanded.len() as usize];
    expanded.read_at(0, &mut bytes).unwrap();
    let offsets = layout.segment_offsets();
    let tensor = |tensor: &shard_core::TensorView| {
        let start = (offsets[tensor.segment] + tensor.offset) as usize;
        let data = &bytes[start..start + tensor.byte_len().unwrap() as usize];
        Listed {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name().to_owned(),
            shape: tensor.shape.clone(),
            sha256: sha256(data).to_hex(),
            strides: tensor.strides.clone(),
        }
    };
    let mut all: Vec<Listed> = layout.tensors.iter().map(tensor).collect();
    all.sort();
    all
}

/// Compares a fixture with its listing; gives how many tensors there were.
pub(crate) fn agrees(format: &str, name: &str) -> usize {
    let expected = expected(format, name).unwrap();
    let bytes = fixture(format, name);
    let parsed = check(&bytes);
    assert_eq!(parsed.layout.format, format, "{name}: {:?}", parsed.note);
    assert!(parsed.note.is_none(), "{name}: {:?}", parsed.note);
    assert_eq!(listed(&parsed.layout, &bytes), expected, "{name}");
    expected.len()
}

/// Compares every fixture that has a listing; gives how many tensors there were.
pub(crate) fn all_agree(format: &str) -> usize {
    let names = fixtures(format);
    names.iter().filter(|name| expected(format, name).is_some()).map(|name| agrees(format, name)).sum()
}

/// Every file that a fixture begins with has a layout.
pub(crate) fn truncations(format: &str) {
    for name in fixtures(format) {
        let bytes = fixture(format, &name);
        for len in 0..bytes.len() {
            check(&bytes[..len].to_vec());
        }
    }
}

/// A layout that must hold, whatever bytes of a fixture are replaced.
pub(crate) fn damaged(format: &str, which: usize, edits: &[(usize, u8)]) {
    let names = fixtures(format);
    let mut bytes = fixture(format, &names[which % names.len()]);
    for (at, byte) in edits {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    check(&bytes);
}

/// Checks that a parser is not slow. It takes some tens of ms; the bound leaves room for a busy machine.
pub(crate) fn parses_quickly(bytes: &Vec<u8>) -> Parsed {
    let start = std::time::Instant::now();
    let parsed = parse(bytes).unwrap();
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    parsed
}
