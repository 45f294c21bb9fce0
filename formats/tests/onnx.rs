//! The ONNX parser against the onnx package, and on damaged and hostile files.
#![allow(clippy::unwrap_used, reason = "a test")]

mod listing;

use std::time::Instant;

use listing::{agrees, check, fixture};
use proptest::prelude::*;
use shard_core::Layout;
use shard_formats::{FormatErrorKind, parse};

const FIXTURES: [&str; 5] = ["types.onnx", "typed.onnx", "nested.onnx", "external.onnx", "apart.onnx"];

#[test]
fn fixtures_are_found_as_the_package_reads_them() {
    let seen: usize = FIXTURES.iter().map(|name| agrees("onnx", name)).sum();
    assert!(seen >= FIXTURES.len());
}

#[test]
fn truncated_files_have_a_layout() {
    for name in FIXTURES {
        let whole = fixture("onnx", name);
        for len in 0..whole.len() {
            let parsed = check(&whole[..len].to_vec());
            // The fields behind the graph may be cut off between two of them.
            if parsed.layout.format == "opaque" {
                assert_eq!(parsed.layout, Layout::opaque(len as u64));
            } else {
                assert!(len + 20 > whole.len() || name == "nested.onnx", "{name}: {len} of {}", whole.len());
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
        let mut bytes = fixture("onnx", name);
        let at = at.index(bytes.len());
        bytes[at] = with;
        check(&bytes);
    }

    #[test]
    fn bytes_like_fields_have_a_layout(
        fields in prop::collection::vec((0u8..27, 0u8..6, prop::collection::vec(any::<u8>(), 0..12)), 0..20),
    ) {
        let mut graph = Vec::new();
        for (number, wire, bytes) in fields {
            graph.extend([number << 3 | wire, bytes.len() as u8]);
            graph.extend(bytes);
        }
        check(&model(&graph));
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

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A model with that graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [number(1, 10), bytes(2, b"test"), bytes(7, graph), bytes(8, &number(2, 21))].concat()
}

/// A tensor of bytes (type 2) with these fields before its dimensions, type, name and data.
fn tensor(more: &[u8], dims: &[u64], name: &str, raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    [more, &dims, &number(2, 2), &bytes(8, name.as_bytes()), &bytes(9, raw)].concat()
}

/// The names that a graph of these fields has.
fn names(graph: &[u8]) -> Vec<String> {
    let parsed = check(&model(graph));
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    assert_eq!(parsed.layout.format, "onnx");
    let mut names: Vec<String> = parsed.layout.tensors.into_iter().map(|tensor| tensor.name).collect();
    names.sort();
    names
}

fn note(bytes: &[u8]) -> Option<FormatErrorKind> {
    check(&bytes.to_vec()).note.map(|note| note.kind())
}

#[test]
fn tensors_that_contradict_themselves_are_left_out_and_the_others_kept() {
    let good = bytes(5, &tensor(&[], &[2], "good", b"xy"));
    for odd in [
        tensor(&[], &[3], "a", b"xy"),
        tensor(&[], &[1], "a", b"xy"),
        tensor(&[], &[u64::MAX], "a", b"xy"),
        tensor(&[], &[1 << 32, 1 << 32], "a", b""),
        tensor(&[], &[1 << 62, 4, 2], "a", b"xy"),
        tensor(&[], &[1; 65], "a", b"x"),
        tensor(&[], &[2], "", b"xy"),
        // In segments; data twice, in another field; numbers as varints; a place outside that is not named.
        tensor(&bytes(3, &number(1, 0)), &[2], "a", b"xy"),
        tensor(&bytes(4, &[0; 8]), &[2], "a", b"xy"),
        tensor(&bytes(5, &[1, 2]), &[2], "a", b"xy"),
        tensor(&number(5, 1), &[2], "a", b"xy"),
        tensor(&number(14, 1), &[2], "a", b"xy"),
        tensor(&number(14, 1), &[0], "a", b""),
        tensor(&bytes(1, &[2; 65]), &[], "a", b"xy"),
        // Floats one by one, and in two runs.
        [number(1, 2), number(2, 1), bytes(8, b"a"), vec![0x25, 0, 0, 0, 0, 0x25, 0, 0, 0, 0]].concat(),
        [number(1, 2), number(2, 1), bytes(8, b"a"), bytes(4, &[0; 4]), bytes(4, &[0; 4])].concat(),
        // A type that is not known, none, and one whose last elements do not fill a unit.
        [number(1, 2), number(2, 99), bytes(8, b"a"), bytes(9, b"xy")].concat(),
        [number(1, 2), bytes(8, b"a"), bytes(9, b"xy")].concat(),
        [number(1, 3), number(2, 27), bytes(8, b"a"), bytes(9, b"xyz")].concat(),
        vec![],
    ] {
        assert_eq!(names(&[good.clone(), bytes(5, &odd)].concat()), ["good"], "{odd:x?}");
        assert_eq!(names(&[bytes(5, &odd), good.clone()].concat()), ["good"], "{odd:x?}");
    }
}

#[test]
fn odd_but_sound_tensors_are_found() {
    for odd in [
        // Packed dimensions; fields in another order and unknown ones; a field without elements; of equal fields the last.
        tensor(&bytes(1, &[1, 2]), &[], "a", b"xy"),
        [bytes(9, b"xy"), bytes(8, b"a"), number(2, 2), number(99, 1), number(1, 2)].concat(),
        tensor(&[bytes(4, &[]), bytes(5, &[]), bytes(9, b"abc")].concat(), &[2], "a", b"xy"),
        tensor(&[], &[0, 1 << 40, 1 << 40], "a", b""),
        [number(1, 0), number(2, 1), bytes(8, b"a")].concat(),
        [number(1, 1), number(2, 1), bytes(8, b"a"), vec![0x25, 0, 0, 0, 0]].concat(),
    ] {
        assert_eq!(names(&bytes(5, &odd)), ["a"], "{odd:x?}");
    }
}

#[test]
fn names_are_distinct_whatever_comes_twice() {
    let same = bytes(5, &tensor(&[], &[2], "a", b"xy"));
    assert_eq!(names(&same.repeat(3)), ["a", "a#2", "a#3"]);
    // The parts of a name come behind what they name.
    let value = bytes(5, &[bytes(5, &tensor(&[], &[1], "", b"x")), bytes(1, b"value")].concat());
    let node = bytes(1, &[value.clone(), bytes(4, b"Constant"), bytes(2, b"out")].concat());
    assert_eq!(names(&node.repeat(2)), ["out", "out#2"]);
    let node = bytes(1, &[value.clone(), bytes(4, b"Other"), bytes(2, b""), bytes(3, b"name")].concat());
    assert_eq!(names(&node), ["name/value"]);
    assert!(names(&bytes(1, &value)).is_empty(), "a node that is not named");
}

#[test]
fn models_that_are_none() {
    use FormatErrorKind::{Limit, Malformed, Truncated};
    let good = bytes(5, &tensor(&[], &[2], "good", b"xy"));
    let tail = |tail: &[u8]| [model(&good), tail.to_vec()].concat();
    let long = "n".repeat(4097);
    for (file, kind) in [
        (tail(b"x"), Truncated),
        (tail(&[0, 0]), Malformed),
        (tail(&number(7, 1)), Malformed),
        (tail(&bytes(1, b"")), Malformed),
        (tail(&[0x3a, 0x05]), Truncated),
        (model(&[0x2a, 0x05, 0x00]), Malformed),
        (model(&bytes(5, &bytes(8, b"\xff"))), Malformed),
        (model(&bytes(5, &bytes(8, long.as_bytes()))), Limit),
        (model(&bytes(1, &bytes(5, &bytes(5, b"").repeat(2)))), Malformed),
        (model(&bytes(15, &bytes(1, b"").repeat(2))), Malformed),
    ] {
        assert_eq!(note(&file), Some(kind), "{file:x?}");
    }
}

#[test]
fn fault_36_subgraphs_nest_as_deep_as_they_may_and_no_deeper() {
    // Each level is a graph, a node and an attribute.
    let nested = |levels: usize| {
        let mut graph = bytes(5, &tensor(&[], &[2], "w", b"xy"));
        for _ in 0..levels {
            let attribute = [bytes(1, b"g"), bytes(6, &graph)].concat();
            graph = bytes(1, &[bytes(2, b"n"), bytes(5, &attribute)].concat());
        }
        model(&graph)
    };
    let parsed = check(&nested(20));
    assert_eq!(parsed.layout.tensors[0].name, format!("{}w", "n/g/".repeat(20)));
    assert_eq!(note(&nested(21)), Some(FormatErrorKind::Limit));
    assert_eq!(note(&nested(20_000)), Some(FormatErrorKind::Limit));
    // Types nest too, and nobody looks into them; groups are not followed.
    let mut of = Vec::new();
    for _ in 0..10_000 {
        of = bytes(4, &bytes(1, &of));
    }
    assert_eq!(note(&model(&bytes(11, &bytes(2, &of)))), None);
    assert_eq!(note(&model(&[bytes(2, b"g"), vec![0x0b; 1_000_000]].concat())), Some(FormatErrorKind::Malformed));
}

#[test]
fn names_that_multiply_are_bounded() {
    // 60,000 tensors in the body of a node with a name of 4,000 bytes.
    let inner = bytes(5, &tensor(&[], &[1], "w", b"x")).repeat(60_000);
    let attribute = [bytes(1, b"g"), bytes(6, &inner)].concat();
    let node = [bytes(2, "n".repeat(4000).as_bytes()), bytes(5, &attribute)].concat();
    assert_eq!(note(&model(&bytes(1, &node))), Some(FormatErrorKind::Limit));
}

#[test]
fn other_files_are_not_taken_for_models() {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let mut noted = 0;
    for round in 0..200_000 {
        let mut bytes: Vec<u8> = (0..64 + round % 64).map(|_| next()).collect();
        // Half of them start as a model may.
        if round % 2 == 0 {
            bytes[..2].copy_from_slice(&[8, 8]);
        }
        let parsed = parse(&bytes).unwrap();
        assert_eq!(parsed.layout.format, "opaque", "{bytes:x?}");
        noted += usize::from(parsed.note.is_some());
    }
    assert!(noted < 2000, "{noted} of 200,000 looked like a model");
}

#[test]
fn a_hundred_thousand_tensors_parse_quickly() {
    let one = |index: usize| {
        bytes(5, &tensor(&[], &[2, 2], &format!("model.layers.{index}.mlp.experts.weight"), &[index as u8; 4]))
    };
    let graph: Vec<u8> = (0..100_000).flat_map(one).collect();
    let bytes = model(&graph);
    let start = Instant::now();
    let parsed = parse(&bytes).unwrap();
    // It takes some 100 ms; the bound leaves room for a busy machine.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert!(parsed.note.is_none(), "{:?}", parsed.note);
    assert_eq!(parsed.layout.tensors.len(), 100_000);
}
