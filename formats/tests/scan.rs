//! What a scan sees in pickles that would do harm, wherever they are hidden, and in those that do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod archive;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archive::{Member, stored};
use proptest::prelude::*;
use shard_formats::scan::{GlobalUse, ScanReport};
use shard_formats::{Source, scan};

/// A pickle of protocol 0 that runs a command.
const ATTACK: &[u8] = b"cos\nsystem\n(S'true'\ntR.";

fn look(bytes: &[u8]) -> ScanReport {
    scan(&bytes).unwrap()
}

/// What is not usual: member, offset, opcode, names, calls.
fn unusual(bytes: &[u8]) -> Vec<(String, u64, &'static str, String, u64)> {
    let tell = |global: GlobalUse| {
        let names = format!("{}:{}", global.module, global.name);
        (global.member, global.offset, global.opcode, names, global.calls)
    };
    look(bytes).globals.into_iter().filter(|global| !global.usual).map(tell).collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    unusual(bytes).into_iter().map(|(_, _, _, names, _)| names).collect()
}

/// An archive of members with that method, general flags and data.
fn zip(members: &[(&str, u16, u16, &[u8])]) -> Vec<u8> {
    let members = members.iter().map(|(name, method, flags, data)| Member {
        method: *method,
        flags: *flags,
        ..Member::stored(name, data)
    });
    archive::zip(&members.collect::<Vec<_>>())
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, data) in members {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        bytes.extend_from_slice(&[&header[..], data].concat());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Offset, opcode, names, calls.
type Expected = (u64, &'static str, &'static str, u64);

#[test]
fn fault_33_every_way_to_name_a_function_is_seen() {
    let cases: &[(&[u8], &[Expected])] = &[
        (ATTACK, &[(0, "GLOBAL", "os:system", 1)]),
        (b"(S'true'\nios\nsystem\n.", &[(9, "INST", "os:system", 1)]),
        (b"(cos\nsystem\nS'true'\no.", &[(1, "GLOBAL", "os:system", 1)]),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", &[(14, "STACK_GLOBAL", "os:system", 1)]),
        // The names come from the memo.
        (
            b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\0h\x01\x93\x8c\x04true\x85R.",
            &[(22, "STACK_GLOBAL", "os:system", 1)],
        ),
        // A name that a call makes.
        (
            b"\x80\x04\x8c\x02os\x8c\x08builtins\x8c\x03str\x93\x8c\x06system\x85R\x93)R.",
            &[(32, "STACK_GLOBAL", ":", 1)],
        ),
        // An attribute of an attribute.
        (b"\x80\x04\x8c\x05torch\x8c\x11storage.os.system\x93.", &[(28, "STACK_GLOBAL", "torch:storage.os.system", 0)]),
        (b"\x80\x04ctorch\nserialization.os.system\n)R.", &[(2, "GLOBAL", "torch:serialization.os.system", 1)]),
        (b"\x80\x02\x82\x05)R.", &[(2, "EXT1", "extension:5", 1)]),
        (b"\x80\x02cA\nB\n)\x81}b.", &[(2, "GLOBAL", "A:B", 1)]),
        (b"\x80\x02cA\nB\n)}\x92.", &[(2, "GLOBAL", "A:B", 1)]),
        // Imported only, which runs the module.
        (b"\x80\x02cA\nB\n.", &[(2, "GLOBAL", "A:B", 0)]),
        // The class of PyTorch's old files.
        (b"\x80\x02(U\x06modulecA\nB\nNNtQ)\x81.", &[(11, "GLOBAL", "A:B", 1)]),
        // Names that are no ASCII, or no names.
        (b"\x80\x04\x8c\x05\xc3\xbcber\x8c\x01\r\x93)R.", &[(12, "STACK_GLOBAL", "\u{fc}ber:\r", 1)]),
    ];
    for (bytes, expected) in cases {
        let found = unusual(bytes);
        let found: Vec<_> =
            found.iter().map(|(_, at, opcode, names, calls)| (*at, *opcode, names.as_str(), *calls)).collect();
        assert_eq!(found, *expected, "{bytes:?}");
    }
    let states = &look(b"\x80\x02cA\nB\n)\x81}b.").globals[0];
    assert_eq!((states.states, states.imports), (1, 1));
}

#[test]
fn fault_33_pickles_are_found_wherever_they_are() {
    let header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n";
    let npy = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header, ATTACK].concat();
    let npy2 = [&b"\x93NUMPY\x02\0"[..], &(header.len() as u32).to_le_bytes(), header, ATTACK].concat();
    let many = |name| stored(&[("a/data.pkl", b"\x80\x02N."), (name, ATTACK)]);
    let legacy = [&b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."[..], ATTACK].concat();
    let torch_tar = [
        &b"K\x02.(K\x01U\x03cpuctorch\nFloatStorage\nt.\x02\0\0\0\0\0\0\0........"[..],
        b"(K\x01U\x03cpuctorch\nFloatStorage\nt.\x01\0\0\0\0\0\0\0....",
        ATTACK,
    ]
    .concat();
    let torch_tensors = [&b"K\x01.(K\x01K\x01ctorch\nFloatTensor\nt.\x01\0\0\0\0\0\0\0"[..], &[0; 24], ATTACK].concat();
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("a bare pickle", ATTACK.to_vec(), ""),
        ("after another", [b"\x80\x02N.", ATTACK].concat(), ""),
        ("after another without a header", [b"N.", ATTACK].concat(), ""),
        ("in PyTorch's stream", legacy, ""),
        ("an array of objects", npy.clone(), ""),
        ("the same in version 2", npy2, ""),
        ("in an archive of arrays", stored(&[("a.npy", &npy)]), "a.npy"),
        ("under another extension", many("a/data/0"), "a/data/0"),
        ("without an extension", many("x"), "x"),
        ("as a text", many("README.txt"), "README.txt"),
        ("deflated", zip(&[("a.pkl", 8, 0, &deflated(ATTACK))]), "a.pkl"),
        ("stored, and said to be encrypted", zip(&[("a.pkl", 0, 1, ATTACK)]), "a.pkl"),
        ("deflated, and said to be encrypted", zip(&[("a.pkl", 8, 1, &deflated(ATTACK))]), "a.pkl"),
        ("in an archive in an archive", stored(&[("in.zip", &stored(&[("a.pkl", ATTACK)]))]), "in.zip/a.pkl"),
        ("in a tar archive", tar(&[("b/a.pkl", ATTACK)]), "b/a.pkl"),
        ("in a zip in a tar", tar(&[("b.zip", &stored(&[("a", ATTACK)]))]), "b.zip/a"),
        ("between storages", tar(&[("storages", &torch_tar)]), "storages"),
        ("between tensors", tar(&[("tensors", &torch_tensors)]), "tensors"),
        ("in an archive after other bytes", [&b"#!/bin/sh\n"[..], &stored(&[("a", ATTACK)])].concat(), "a"),
    ];
    for (what, bytes, member) in cases {
        let found = unusual(bytes);
        assert!(found.iter().all(|found| found.3 == "os:system"), "{what}: {found:?}");
        // A zip archive may be a pickle as well: its first line is a persistent id, and after that comes what it stores.
        assert_eq!(found.last().map(|found| found.0.as_str()), Some(*member), "{what}: {found:?}");
    }
    // The directory of the archive is gone: members are sought by their own headers.
    for bytes in [stored(&[("a.pkl", ATTACK)]), zip(&[("a.pkl", 8, 0, &deflated(ATTACK))])] {
        let report = look(&bytes[..bytes.len() - 20]);
        assert_eq!((report.unusual(), report.notes.len()), (1, 1), "{report:?}");
    }
}

#[test]
fn fault_33_what_comes_before_a_break_is_told() {
    let whole = [ATTACK.strip_suffix(b".").unwrap(), b"\0junk"].concat();
    let report = look(&whole);
    assert_eq!((report.unusual(), report.notes.len()), (1, 1));
    assert!(report.notes[0].message.contains("breaks off"), "{report:?}");
    // What fails after the call does not undo it.
    let after = [ATTACK.strip_suffix(b".").unwrap(), b"cno such\nname\n\0"].concat();
    assert_eq!(names(&after), ["os:system", "no such:name"]);
    let cut = [b"\x80\x02", ATTACK].concat();
    assert_eq!(names(&cut[..cut.len() - 1]), ["os:system"], "without its end");
    let damaged = zip(&[("a", 8, 0, &deflated(&[ATTACK, &[b'N'; 90_000]].concat())[..100])]);
    assert_eq!(names(&damaged), ["os:system"]);
    // More marks than shard follows: what is asked for is told all the same, but not what becomes of it.
    let mut large = b"\x80\x02".to_vec();
    large.extend(vec![b'('; 5_000_000]);
    large.extend_from_slice(b"\x8c\x02os\x8c\x06system\x93cposix\nsystem\n(iA\nB\n");
    let report = look(&large);
    assert_eq!(names(&large), [":", "posix:system", "A:B"]);
    assert!(!report.notes.is_empty());
}

#[test]
fn other_files_have_no_pickles() {
    let words = b"cat\ndog\nelephant\nimport\nos\n".to_vec();
    let code = b"import os\nimport sys\n\nclass Net(nn.Module):\n    pass\n".to_vec();
    let class = b"class Net(nn.Module):\n    pass\n".to_vec();
    let weights: Vec<u8> = (0..100_000u32).flat_map(|i| (i as f32).sqrt().to_le_bytes()).collect();
    for bytes in [words, code, class, weights, Vec::new(), b"{\"a\": 1}".to_vec(), vec![0; 4096]] {
        let report = look(&bytes);
        assert_eq!(report, ScanReport::default(), "{:?}", &bytes[..bytes.len().min(50)]);
    }
    // Tensors of one number each, in whose bytes there are opcodes.
    for number in 60_000..140_000u32 {
        for repeated in
            [(number as f32).to_le_bytes(), number.to_le_bytes(), ((number as f32).to_bits() >> 8).to_le_bytes()]
        {
            let bytes = repeated.repeat(8);
            assert_eq!(look(&bytes), ScanReport::default(), "{:?}", &bytes[..4]);
        }
    }
    // As joblib and others write pickles; two bytes alone are no stream.
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(ATTACK).unwrap();
    for (bytes, kind) in [(zlib.finish().unwrap(), "zlib"), (b"\x5d\0\0\x80\0\xff\xff\xff".to_vec(), "LZMA")] {
        let notes = look(&bytes).notes;
        assert!(notes.iter().any(|note| note.message.contains(kind)), "{kind}: {notes:?}");
    }
    assert!(look(&[0x78, 0x9c, 0xff, 0xff, 0xff, 0xff]).notes.is_empty());
    let report = look(b"7z\xbc\xaf\x27\x1c and so on");
    assert_eq!(report.notes.len(), 1, "what was not opened is told");
    let plain = b"\x93NUMPY\x01\0\x40\0{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }    \n";
    assert_eq!(look(&[&plain[..], ATTACK].concat()), ScanReport::default(), "an array of numbers");
}

#[test]
fn files_of_pytorch_are_usual() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch");
    let paths = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "pt")).collect();
    assert!(paths.len() >= 20);
    for path in paths {
        let report = look(&std::fs::read(&path).unwrap());
        assert!(
            report.pickles > 0 && !report.globals.is_empty() && report.notes.is_empty(),
            "{}: {report:?}",
            path.display()
        );
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let found: BTreeSet<String> =
            report.globals.iter().filter(|global| !global.usual).map(|global| global.module.clone()).collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        match stem {
            // Whole modules and classes of one's own are not.
            "module" => assert!(found.contains(&"torch.nn.modules.linear") && found.contains(&"__main__"), "{found:?}"),
            "legacy-module" => assert_eq!(found, ["__main__"]),
            "names" => assert_eq!(found, ["__main__", "types"]),
            _ => assert!(found.is_empty(), "{stem}: {found:?}"),
        }
    }
}

#[test]
fn fault_33_bombs_take_little_time_and_memory() {
    let start = Instant::now();
    // 150 MB from 150 kB, in ten members.
    let bomb = deflated(&vec![0; 150 << 20]);
    let members: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    let members: Vec<_> = members.iter().map(|name| (name.as_str(), 8, 0, &bomb[..])).collect();
    let report = look(&zip(&members));
    assert_eq!(report.notes.len(), 10);
    // Archives in one another, deeper than they are opened.
    let mut nested = stored(&[("a.pkl", ATTACK)]);
    for _ in 0..6 {
        nested = stored(&[("z", &nested)]);
    }
    let report = look(&nested);
    assert_eq!((report.unusual(), report.notes.len()), (0, 1), "{report:?}");
    // Starts of members, each followed by a line that has no end.
    let header = [&b"PK\x03\x04"[..], &[0; 26], b"F"].concat();
    look(&header.repeat(100_000));
    // The same with data that expands to nothing.
    let header = [&b"PK\x03\x04\0\0\0\0\x08\0"[..], &[0; 20]].concat();
    look(&[&header.repeat(2000)[..], &b"\0\0\0\xff\xff".repeat(200_000)].concat());
    // As many functions as a report takes, and more.
    let mut many = b"\x80\x02".to_vec();
    for index in 0..150_000 {
        many.extend_from_slice(format!("ca{index}\nb\n0").as_bytes());
    }
    let report = look(&many);
    assert_eq!(report.globals.len(), 100_000);
    assert!(report.notes.len() <= 3, "{:?}", report.notes);
    println!("bombs took {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn fault_33_a_long_name_of_a_member_is_not_told_without_end() {
    let mut many = b"\x80\x02".to_vec();
    (0..50_000).for_each(|index| many.extend_from_slice(format!("ca{index}\nb\n0").as_bytes()));
    let report = look(&stored(&[(&"n".repeat(4000), &many)]));
    let told: usize = report.globals.iter().map(|found| found.member.len()).sum();
    assert!((32 << 20..=64 << 20).contains(&told), "{told} bytes");
    assert!(!report.notes.is_empty(), "what was left out is told");
}

/// A source whose reads fail.
struct Broken;

impl Source for Broken {
    fn len(&self) -> u64 {
        100
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

#[test]
fn a_failing_read_is_an_error() {
    assert!(scan(&Broken).is_err());
}

/// Parts of pickles and of archives.
const PIECES: &[&[u8]] = &[
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x80\x02",
    b"cos\nsystem\n",
    b"(",
    b"t",
    b"R",
    b".",
    b"\x93",
    b"\x8c\x01a",
    b"q\0",
    b"h\0",
    b"]",
    b"}",
    b"a",
    b"e",
    b"u",
    b"s",
    b"Q",
    b"\x81",
    b"b",
    b"\x93NUMPY\x01\0\x10\0'O'",
    b"X\xff\xff\xff\x7f",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_scanned(
        pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..6),
        ], 0..40),
    ) {
        look(&pieces.concat());
    }
}
