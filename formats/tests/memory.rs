//! The memory that files take whose every byte asks for more, measured in a process of its own for each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![cfg(target_os = "linux")]

mod archive;

use std::io::{self, Write as _};
use std::process::Command;

use archive::{Member, stored, zip};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use shard_formats::{Source, parse, scan};

/// Most memory that a file takes beside its own bytes, in MiB.
const MOST: usize = 256;

/// The case that a process measures.
const CASE: &str = "SHARD_TEST_MEMORY_OF";

/// Before the path of an archive: it is scanned.
const NESTED: &str = "nested:";

/// A file that is not in memory: a head, parts of one length that are made of their number, a tail.
struct Generated {
    head: Vec<u8>,
    part: fn(u64) -> Vec<u8>,
    part_len: u64,
    parts: u64,
    tail: Vec<u8>,
}

impl Source for Generated {
    fn len(&self) -> u64 {
        self.head.len() as u64 + self.part_len * self.parts + self.tail.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (mut at, mut filled) = (offset, 0);
        let (start, end) = (self.head.len() as u64, self.head.len() as u64 + self.part_len * self.parts);
        while filled < buf.len() {
            let made;
            let rest = if at < start {
                &self.head[at as usize..]
            } else if at < end {
                made = (self.part)((at - start) / self.part_len);
                &made[((at - start) % self.part_len) as usize..]
            } else {
                self.tail
                    .get((at - end) as usize..)
                    .filter(|rest| !rest.is_empty())
                    .ok_or(io::ErrorKind::UnexpectedEof)?
            };
            let len = rest.len().min(buf.len() - filled);
            buf[filled..filled + len].copy_from_slice(&rest[..len]);
            (at, filled) = (at + len as u64, filled + len);
        }
        Ok(())
    }
}

/// What comes before the object in PyTorch's stream.
const STREAM: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// One tensor that is remembered as 1, and a list for many of it.
const TENSOR: &[u8] = b"]ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQK\0K\x04\x85K\x01\x85\
    \x89ccollections\nOrderedDict\n)RtRq\x010(";

/// After an object: the keys of its storages, and the storage.
const STORAGES: &[u8] = b".\x80\x02]U\x010a.\x04\0\0\0\0\0\0\0abcdefghijklmnop";

fn remember(index: u32) -> Vec<u8> {
    [&b"r"[..], &index.to_le_bytes()].concat()
}

/// Before the parts, the parts, how many there are, and what comes after them.
type Case = (&'static str, &'static [u8], fn(u64) -> Vec<u8>, u64, &'static [u8]);

/// Pickles of tens of megabytes that have as much as they can of one thing, and of all.
const CASES: &[Case] = &[
    ("numbers-65-apart", b"N", |index| remember(index as u32 * 65), 20_000_000, STORAGES),
    ("numbers-2-apart", b"N", |index| remember(index as u32 * 2), 20_000_000, STORAGES),
    ("numbers-far-apart", b"N", |index| remember(index as u32 * 40_000), 100_000, STORAGES),
    ("objects", b"N", |_| b"]0".to_vec(), 20_000_000, STORAGES),
    ("globals", b"N", |_| b"cA\nB\n0".to_vec(), 12_000_000, STORAGES),
    ("states", b"N", |_| b"N)RNb0".to_vec(), 12_000_000, STORAGES),
    ("members-one-by-one", b"]", |_| b"Na".to_vec(), 20_000_000, STORAGES),
    ("members", b"N", |_| b"(NNNNNNNNt0".to_vec(), 6_000_000, STORAGES),
    ("marks", b"N", |_| b"(".to_vec(), 60_000_000, STORAGES),
    ("stack", b"N", |_| b"N".to_vec(), 60_000_000, STORAGES),
    ("texts", b"N", |_| [&b"X\0\x10\0\0"[..], &[b'a'; 4096], b"0"].concat(), 40_000, STORAGES),
    (
        "all",
        b"]",
        |index| [&b"cA\nB\n)R"[..], &remember(index as u32 * 2), b"NbNaK\x01a((0(N\x85]aU\x08abcdefgh"].concat(),
        4_000_000,
        STORAGES,
    ),
    ("tensors-again", TENSOR, |_| b"h\x01".to_vec(), 500_000, b"e.\x80\x02]U\x010a.\x04\0\0\0\0\0\0\0abcdefghijklmnop"),
    ("lists", b"](", |_| b"]".to_vec(), 4_000_000, b"e.\x80\x02].\0"),
];

/// The most memory that this process has had, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

/// The memory that a case takes, in MiB, as another process measures it.
fn measured(case: &str) -> usize {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "a_measured_process"])
        .env(CASE, case)
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{case}: {said}{errors}");
    let taken = said.split("took ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    println!("{case}: {}", said.lines().find(|line| line.contains("took ")).unwrap());
    taken.parse().unwrap()
}

#[test]
#[ignore = "the process that the tests start: cargo test --release -p shard-formats --test memory"]
fn a_measured_process() {
    let case = std::env::var(CASE).unwrap();
    if let Some(path) = case.strip_prefix(NESTED) {
        let archive = std::fs::read(path).unwrap();
        let before = peak();
        let notes = scan(&archive).unwrap().notes;
        assert!(!notes.is_empty(), "what was not expanded is told");
        println!("took {} MiB, {} notes", peak() - before, notes.len());
        return;
    }
    let (_, head, part, parts, tail) = *CASES.iter().find(|(name, ..)| *name == case).unwrap();
    let part_len = part(0).len() as u64;
    let source = Generated { head: [STREAM, head].concat(), part, part_len, parts, tail: tail.to_vec() };
    let before = peak();
    let parsed = parse(&source).unwrap();
    let parse_took = peak() - before;
    let kind = (parsed.layout.format.clone(), parsed.layout.tensors.len(), parsed.note.map(|note| note.to_string()));
    drop(parsed.layout);
    scan(&source).unwrap();
    println!("took {} MiB, {parse_took} MiB of them to parse: {kind:?}", peak() - before);
}

#[test]
fn fault_33_no_pickle_takes_more_memory_than_it_may() {
    let taken: Vec<(&str, usize)> = CASES.iter().map(|(case, ..)| (*case, measured(case))).collect();
    assert!(taken.iter().all(|(_, taken)| *taken <= MOST), "{taken:?} MiB");
}

/// Archives in one another, each compressed, and each with almost as much behind the next as a scan expands.
fn nested() -> Vec<u8> {
    let filler = vec![0; 100 << 20];
    let mut archive = b"\x80\x02cos\nsystem\n.".to_vec();
    for _ in 0..3 {
        let archives = stored(&[("z", &archive), ("filler", &filler)]);
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
        deflated.write_all(&archives).unwrap();
        let data = deflated.finish().unwrap();
        archive = zip(&[Member { name: "z", method: 8, flags: 0, data: &data, len: archives.len() as u32 }]);
    }
    archive
}

#[test]
fn fault_33_archives_in_one_another_share_what_a_scan_expands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nested.zip");
    std::fs::write(&path, nested()).unwrap();
    let taken = measured(&format!("{NESTED}{}", path.display()));
    assert!(taken < 160, "{taken} MiB");
}
