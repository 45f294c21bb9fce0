//! The parser of `.npy` against NumPy, and on hostile files.
#![allow(clippy::unwrap_used, reason = "a test")]

mod listing;

use listing::{all_agree, check, damaged, expected, fixture, fixtures, refused, truncations};
use proptest::prelude::*;
use shard_core::DType;
use shard_formats::FormatErrorKind::{self, Limit, Malformed, Truncated};

/// A file of that header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..data).map(|at| at as u8));
    bytes
}

fn with(descr: &str, fortran_order: &str, shape: &str, data: usize) -> Option<FormatErrorKind> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}");
    refused(&file(&format!("{header:117}\n"), data))
}

#[test]
fn fixtures_agree_with_numpy() {
    assert!(all_agree("npy") >= 25);
}

#[test]
fn every_truncation_has_a_layout() {
    truncations("npy");
}

#[test]
fn arrays_of_other_types_stay_opaque() {
    let mut count = 0;
    for name in fixtures("npy").iter().filter(|name| expected("npy", name).is_none()) {
        let note = check(&fixture("npy", name)).note.unwrap();
        assert_eq!(note.kind(), Malformed);
        assert!(note.message().contains("no numbers of a known type"), "{name}: {note}");
        count += 1;
    }
    assert!(count >= 9);
    for descr in [
        "'>f4'",
        "'<f16'",
        "'<c32'",
        "'<f3'",
        "'f'",
        "''",
        "'<'",
        "'<<f4'",
        "'|O'",
        "'|V4'",
        "'|S4'",
        "'<U1'",
        "'float32'",
    ] {
        assert_eq!(with(descr, "False", "(1,)", 64), Some(Malformed), "{descr}");
    }
    for descr in ["'=f4'", "'f4'", "'|u1'", "'<u1'", "'>i1'"] {
        assert_eq!(with(descr, "False", "(1,)", 64), None, "{descr}");
    }
}

#[test]
fn fault_37_a_header_that_claims_8_tib() {
    assert_eq!(with("'<f8'", "False", "(1099511627776,)", 0), Some(Truncated));
    assert_eq!(with("'<f8'", "True", "(1048576, 1048576)", 64), Some(Truncated));
    for shape in ["(18446744073709551615,)", "(4294967296, 4294967296, 4294967296)", "(2305843009213693952,)"] {
        for fortran_order in ["True", "False"] {
            assert_eq!(with("'<f8'", fortran_order, shape, 64), Some(Malformed), "{shape}");
        }
    }
    assert_eq!(with("'<f8'", "True", "(18446744073709551615, 0, 18446744073709551615)", 0), None);
    assert_eq!(with("'<f8'", "False", "(8,)", 63), Some(Truncated));
    assert_eq!(with("'<f8'", "False", "(8,)", 64), None);
    let shape = format!("({})", "1,".repeat(64));
    assert_eq!(refused(&file(&format!("{{'descr':'|u1','fortran_order':False,'shape':{shape}}}"), 1)), None);
    let shape = format!("({})", "1,".repeat(65));
    assert_eq!(refused(&file(&format!("{{'descr':'|u1','fortran_order':False,'shape':{shape}}}"), 1)), Some(Limit));
}

#[test]
fn fault_37_headers_longer_than_the_file() {
    for version in [2, 3] {
        for (len, kind) in [(u32::MAX, Truncated), (70_000, Truncated), (100, Truncated), (0, Malformed)] {
            let bytes = [&b"\x93NUMPY"[..], &[version, 0], &len.to_le_bytes(), &[b' '; 64]].concat();
            assert_eq!(refused(&bytes), Some(kind), "{len}");
        }
        let bytes = [&b"\x93NUMPY"[..], &[version, 0], &70_000u32.to_le_bytes(), &[b' '; 70_000]].concat();
        assert_eq!(refused(&bytes), Some(Limit));
    }
    for version in [[0, 0], [4, 0], [1, 1], [255, 255]] {
        assert_eq!(refused(&[&b"\x93NUMPY"[..], &version, &[b' '; 64]].concat()), Some(Malformed));
    }
}

#[test]
fn fault_33_nothing_in_a_header_is_executed() {
    for descr in ["__import__('os').abort()", "eval('1')", "[1].pop()", "lambda: 0", "'<f4' * 1000000000"] {
        assert_eq!(with(descr, "False", "(1,)", 64), Some(Malformed), "{descr}");
    }
}

#[test]
fn fortran_order_is_strides_where_it_matters() {
    let strides = |shape: &str| {
        let header = format!("{{'descr': '<u2', 'fortran_order': True, 'shape': {shape}, }}");
        let layout = check(&file(&header, 100)).layout;
        assert_eq!(layout.tensors[0].dtype, DType::U16);
        layout.tensors[0].strides.clone()
    };
    assert_eq!(strides("(2, 3)"), Some(vec![1, 2]));
    assert_eq!(strides("(2, 1, 3)"), Some(vec![1, 2, 2]));
    for shape in ["()", "(5,)", "(1, 5)", "(5, 1, 1)", "(0, 5, 5)"] {
        assert_eq!(strides(shape), None, "{shape}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_files_have_a_layout(which: usize, edits in prop::collection::vec((0usize..150, any::<u8>()), 1..4)) {
        damaged("npy", which, &edits);
    }

    #[test]
    fn any_header_is_read_or_refused(header in "[ '\"{}(),:<L0-9a-z\\[\\]_]{0,60}") {
        check(&file(&header, 8));
        check(&file(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {header}"), 8));
    }
}
