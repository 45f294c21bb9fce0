//! The TensorFlow Lite parser against the tflite package, and on damaged and hostile files.
#![allow(clippy::unwrap_used, reason = "a test")]

mod listing;

use std::time::Instant;

use listing::{agrees, check, fixture};
use proptest::prelude::*;
use shard_core::Layout;
use shard_formats::{FormatErrorKind, parse};

const FIXTURES: [&str; 4] = ["types.tflite", "behind.tflite", "float.tflite", "dynamic.tflite"];

#[test]
fn fixtures_are_found_as_the_package_reads_them() {
    let seen: usize = FIXTURES.iter().map(|name| agrees("tflite", name)).sum();
    assert!(seen >= FIXTURES.len());
}

#[test]
fn truncated_files_have_a_layout() {
    for name in FIXTURES {
        let whole = fixture("tflite", name);
        for len in 0..whole.len() {
            let parsed = check(&whole[..len].to_vec());
            if parsed.layout.format == "opaque" {
                assert_eq!(parsed.layout, Layout::opaque(len as u64));
                assert_eq!(parsed.note.is_some(), len >= 8, "{name}: {len} bytes");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_have_a_layout(
        name in prop::sample::select(&FIXTURES[..]), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut bytes = fixture("tflite", name);
        let at = at.index(bytes.len());
        bytes[at] = with;
        check(&bytes);
    }
}

fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A model whose vector of tensors has `count` entries, which all lead to one tensor, in `subgraphs` entries that all lead to
/// one subgraph.
fn shared(subgraphs: u32, count: u32, name: &str) -> Vec<u8> {
    // Vtables come first, since tables point back to them; what tables point forward to comes last.
    let mut bytes = [u32s(&[0]), b"TFL3".to_vec()].concat();
    let mut put = |part: &[u8]| {
        let at = bytes.len() as u32;
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        at
    };
    let u16s = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let one = put(&u16s(&[6, 8, 4]));
    let model = put(&u16s(&[14, 12, 0, 0, 4, 0, 8]));
    let tensor = put(&u16s(&[12, 16, 4, 0, 12, 8]));
    let root = put(&u32s(&[0, 0, 0]));
    let subgraph_vector = put(&u32s(&vec![0; subgraphs as usize + 1]));
    let subgraph = put(&u32s(&[0, 0]));
    let tensor_vector = put(&u32s(&vec![0; count as usize + 1]));
    let buffer_vector = put(&u32s(&[2, 0, 0]));
    let buffer = put(&u32s(&[0, 0]));
    let tensor_table = put(&u32s(&[0, 0, 0, 1]));
    let text = put(&[u32s(&[name.len() as u32]), name.as_bytes().to_vec()].concat());
    let data = put(&[u32s(&[4]), vec![1, 2, 3, 4]].concat());
    let shape = put(&u32s(&[1, 1]));
    let mut set = |at: u32, to: u32| bytes[at as usize..at as usize + 4].copy_from_slice(&to.to_le_bytes());
    set(0, root);
    set(root, root - model);
    set(root + 4, subgraph_vector - (root + 4));
    set(root + 8, buffer_vector - (root + 8));
    set(subgraph_vector, subgraphs);
    for index in 0..subgraphs {
        let at = subgraph_vector + 4 + 4 * index;
        set(at, subgraph - at);
    }
    set(subgraph, subgraph - one);
    set(subgraph + 4, tensor_vector - (subgraph + 4));
    set(tensor_vector, count);
    for index in 0..count {
        let at = tensor_vector + 4 + 4 * index;
        set(at, tensor_table - at);
    }
    for index in 0..2 {
        let at = buffer_vector + 4 + 4 * index;
        set(at, buffer - at);
    }
    set(buffer, buffer - one);
    set(buffer + 4, data - (buffer + 4));
    set(tensor_table, tensor_table - tensor);
    set(tensor_table + 4, shape - (tensor_table + 4));
    set(tensor_table + 8, text - (tensor_table + 8));
    bytes
}

#[test]
fn what_is_pointed_to_often_is_counted() {
    let layout = check(&shared(1, 3, "w")).layout;
    let names: Vec<_> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["w", "w#2", "w#3"]);
    let layout = check(&shared(2, 1, "w")).layout;
    let names: Vec<_> = layout.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["1/w", "w"]);
    let kind = |bytes: Vec<u8>| check(&bytes).note.map(|note| note.kind());
    // 10,000 subgraphs of 10,000 tensors in a file of 80 KB; names of 400 MB in one of 400 KB.
    assert_eq!(kind(shared(10_000, 10_000, "w")), Some(FormatErrorKind::Limit));
    assert_eq!(kind(shared(1, 100_000, &"n".repeat(4000))), Some(FormatErrorKind::Limit));
    assert_eq!(kind(shared(1, 2, &"n".repeat(5000))), Some(FormatErrorKind::Limit));
}

#[test]
fn a_hundred_thousand_tensors_parse_quickly() {
    let bytes = shared(1, 100_000, "model.layers.0.weight");
    let start = Instant::now();
    let parsed = parse(&bytes).unwrap();
    // It takes some 150 ms; the bound leaves room for a busy machine.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    assert_eq!(parsed.layout.tensors.len(), 100_000);
}
