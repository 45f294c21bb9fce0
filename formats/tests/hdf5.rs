//! The HDF5 parser against what h5py reads, on sound files, on damaged ones and on hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod listing;

use listing::{all_agree, check, fixture, fixtures, listed};
use proptest::prelude::*;
use shard_core::DType;
use shard_formats::hdf5::Hdf5;
use shard_formats::{Format, FormatErrorKind};

#[test]
fn fixtures_are_listed_as_h5py_lists_them() {
    assert!(all_agree("hdf5") > 500);
    let dtypes = check(&fixture("hdf5", "dtypes-latest.h5")).layout.tensors.into_iter().map(|tensor| tensor.dtype);
    assert_eq!(dtypes.collect::<std::collections::BTreeSet<_>>().len(), 19);
}

#[test]
fn a_file_after_a_user_block_is_the_same() {
    // As when the block is put before a file that was written without one.
    let plain = fixture("hdf5", "keras-latest.h5");
    for block in [512, 1024, 2048] {
        let moved = [vec![b'#'; block], plain.clone()].concat();
        let layout = check(&moved).layout;
        assert_eq!(layout.format, "hdf5");
        assert_eq!(listed(&layout, &moved), listed(&check(&plain).layout, &plain));
    }
    let odd = [vec![b'#'; 700], plain].concat();
    assert_eq!(check(&odd).layout.format, "opaque");
}

#[test]
fn every_truncation_has_a_layout() {
    for name in fixtures("hdf5") {
        let bytes = fixture("hdf5", &name);
        for len in 0..bytes.len() {
            let cut = bytes[..len].to_vec();
            let layout = shard_formats::parse(&cut).unwrap().layout;
            assert_eq!(layout.check(len as u64), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn damaged_files_have_a_layout(
        which in any::<usize>(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        listing::damaged("hdf5", which, &edits);
    }
}

/// A tar archive whose first member is an HDF5 file has the superblock where that of a file with a user block would be.
#[test]
fn an_archive_that_begins_with_a_file_is_an_archive() {
    let member = fixture("hdf5", "compact-latest.h5");
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"a.h5");
    header[100..107].copy_from_slice(b"0000644");
    header[124..136].copy_from_slice(format!("{:011o}\0", member.len()).as_bytes());
    header[156..263].copy_from_slice(&[&b"0"[..], &[0; 100], b"ustar\0"].concat());
    header[263..265].copy_from_slice(b"00");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = [header, member].concat();
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let parsed = check(&tar);
    assert_eq!(parsed.layout.format, "tar", "{:?}", parsed.note);
    assert_eq!(parsed.layout.tensors.len(), 3);
}

/// A file put together by hand, in the latest format: objects are added from the end of the superblock on.
struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    const UNDEFINED: u64 = u64::MAX;

    fn new() -> Self {
        Self { bytes: vec![0; 48] }
    }

    fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// An object header of these messages.
    fn object(&mut self, messages: &[(u8, Vec<u8>)]) -> u64 {
        let object = header(messages);
        self.put(&object)
    }

    fn finish(mut self, root: u64) -> Vec<u8> {
        let end = self.bytes.len() as u64;
        let mut superblock = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
        for address in [0, Self::UNDEFINED, end, root] {
            superblock.extend_from_slice(&address.to_le_bytes());
        }
        self.bytes[..44].copy_from_slice(&superblock);
        self.bytes
    }
}

fn header(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, message) in messages {
        body.push(*kind);
        body.extend_from_slice(&(message.len() as u16).to_le_bytes());
        body.push(0);
        body.extend_from_slice(message);
    }
    let mut object = b"OHDR\x02\x02".to_vec();
    object.extend_from_slice(&(body.len() as u32).to_le_bytes());
    object.extend_from_slice(&body);
    object.extend_from_slice(&[0; 4]);
    object
}

fn link(name: &str, object: u64) -> (u8, Vec<u8>) {
    let mut message = vec![1, 1];
    message.extend_from_slice(&(name.len() as u16).to_le_bytes());
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(&object.to_le_bytes());
    (6, message)
}

fn space(dims: &[u64]) -> (u8, Vec<u8>) {
    let mut message = vec![2, dims.len() as u8, 0, 1];
    dims.iter().for_each(|dim| message.extend_from_slice(&dim.to_le_bytes()));
    (1, message)
}

fn f32_type() -> (u8, Vec<u8>) {
    (3, vec![0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0])
}

fn contiguous(at: u64, len: u64) -> (u8, Vec<u8>) {
    (8, [&[3, 1][..], &at.to_le_bytes(), &len.to_le_bytes()].concat())
}

fn chunked(chunk: &[u64], kind: &[u8], at: u64) -> (u8, Vec<u8>) {
    let mut message = vec![4, 2, 0, chunk.len() as u8 + 1, 8];
    chunk.iter().chain([&4]).for_each(|dim| message.extend_from_slice(&dim.to_le_bytes()));
    message.extend_from_slice(kind);
    message.extend_from_slice(&at.to_le_bytes());
    (8, message)
}

/// The outcome for a file of one dataset `w` of such a shape and layout, with `extra` at byte 48.
fn one(extra: &[u8], dims: &[u64], layout: (u8, Vec<u8>)) -> Result<Vec<(String, u64)>, FormatErrorKind> {
    let mut file = Builder::new();
    file.put(extra);
    let dataset = file.object(&[space(dims), f32_type(), layout]);
    let root = file.object(&[link("w", dataset)]);
    tensors(&file.finish(root))
}

fn tensors(bytes: &[u8]) -> Result<Vec<(String, u64)>, FormatErrorKind> {
    let layout = Hdf5.parse(&bytes, 0).map_err(|error| error.kind())?;
    assert_eq!(layout.check(bytes.len() as u64), Ok(()));
    let starts = layout.segment_offsets();
    Ok(layout.tensors.iter().map(|t| (t.name.clone(), starts[t.segment] + t.offset)).collect())
}

#[test]
fn files_by_hand_are_understood() {
    let data = [7u8; 64];
    assert_eq!(one(&data, &[4, 4], contiguous(48, 64)), Ok(vec![("w".to_owned(), 48)]));
    assert_eq!(one(&data, &[4, 4], chunked(&[4, 4], &[1], 48)), Ok(vec![("w".to_owned(), 48)]));
    assert_eq!(one(&data, &[4, 4], chunked(&[2, 4], &[2], 48)), Ok(vec![("w".to_owned(), 48)]));
    assert_eq!(one(&data, &[4, 4], chunked(&[4, 2], &[2], 48)), Ok(vec![]), "small tiles");
    assert_eq!(one(&data, &[4, 4], contiguous(u64::MAX, 64)), Ok(vec![]), "never written");
}

#[test]
fn fault_34_shapes_that_overflow_are_refused() {
    use FormatErrorKind::{Limit, Malformed, Truncated};
    let data = [7u8; 64];
    let refused = |dims: &[u64], layout| one(&data, dims, layout).unwrap_err();
    assert_eq!(refused(&[4_194_305, 4_194_305, 211_106_198_978_564], contiguous(48, 64)), Malformed);
    assert_eq!(refused(&[1 << 32, 1 << 32], contiguous(48, 0)), Malformed);
    assert_eq!(refused(&[1 << 61], contiguous(48, 64)), Malformed);
    assert_eq!(refused(&[4, 5], contiguous(48, 64)), Malformed);
    assert_eq!(refused(&[1 << 40], contiguous(48, 1 << 42)), Truncated);
    assert_eq!(refused(&[4, 4], contiguous(u64::MAX - 9, 64)), Truncated);
    assert_eq!(refused(&[1; 65], contiguous(48, 64)), Limit);
    assert_eq!(refused(&[4, 4], chunked(&[0, 4], &[1], 48)), Malformed);
    assert_eq!(refused(&[4, 4], chunked(&[4], &[1], 48)), Malformed);
    assert_eq!(refused(&[4, 4], chunked(&[1 << 62, 1 << 62], &[1], 48)), Malformed);
    assert_eq!(refused(&[1 << 50, 2], chunked(&[1 << 50, 2], &[1], 48)), Truncated);
    // More chunks than the file has room for, all claimed to be there.
    assert_eq!(one(&data, &[1 << 50, 2], chunked(&[1, 1], &[2], 48)).unwrap_err(), Truncated);
    assert_eq!(one(&data, &[1 << 50, 2], chunked(&[32, 32], &[2], 48)), Ok(vec![]));
    // An empty dataset is empty however large its other dimensions are.
    assert_eq!(one(&data, &[u64::MAX, u64::MAX, 0], contiguous(u64::MAX, 0)), Ok(vec![("w".to_owned(), 0)]));
}

#[test]
fn groups_in_circles_come_to_an_end() {
    let mut file = Builder::new();
    let dataset = file.object(&[space(&[0]), f32_type(), contiguous(u64::MAX, 0)]);
    // Where the two groups are going to be: one links the other, and that one both.
    let first = file.bytes.len() as u64;
    let second = first + header(&[link("b", 0), link("w", 0)]).len() as u64;
    file.object(&[link("b", second), link("w", dataset)]);
    file.object(&[link("a", first), link("b", second), link("v", dataset)]);
    let names: Vec<_> = tensors(&file.finish(first)).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b/v", "w"]);
}

#[test]
fn groups_that_multiply_and_nest_are_refused() {
    // Two links to each next group are 2^40 paths.
    for (links, groups, kind) in [(2, 40, FormatErrorKind::Limit), (1, 100, FormatErrorKind::Limit)] {
        let mut file = Builder::new();
        let mut next = file.object(&[space(&[0]), f32_type(), contiguous(u64::MAX, 0)]);
        for _ in 0..groups {
            let links: Vec<_> = (0..links).map(|index| link(&index.to_string(), next)).collect();
            next = file.object(&links);
        }
        let start = std::time::Instant::now();
        assert_eq!(tensors(&file.finish(next)).unwrap_err(), kind);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}

#[test]
fn headers_and_trees_in_circles_are_refused() {
    // A header that goes on in itself.
    let mut file = Builder::new();
    let at = file.bytes.len() as u64;
    let again = [&b"OCHK"[..], &[0x10, 16, 0, 0], &at.to_le_bytes(), &32u64.to_le_bytes(), &[0; 8]].concat();
    file.put(&again);
    let root = file.object(&[(0x10, [at.to_le_bytes(), 32u64.to_le_bytes()].concat())]);
    assert_eq!(tensors(&file.finish(root)).unwrap_err(), FormatErrorKind::Limit);
    // A B-tree of groups whose child is itself.
    let mut file = Builder::new();
    let at = file.bytes.len() as u64;
    let mut node = b"TREE\x00\x01\x01\x00".to_vec();
    node.extend_from_slice(&[0xff; 16]);
    node.extend_from_slice(&[0; 8]);
    node.extend_from_slice(&at.to_le_bytes());
    node.extend_from_slice(&[0; 8]);
    file.put(&node);
    let heap = file.put(b"HEAP\0\0\0\0");
    let data = heap + 32;
    file.put(&[8u64.to_le_bytes(), u64::MAX.to_le_bytes(), data.to_le_bytes(), [0; 8]].concat());
    let root = file.object(&[(0x11, [at.to_le_bytes(), heap.to_le_bytes()].concat())]);
    assert_eq!(tensors(&file.finish(root)).unwrap_err(), FormatErrorKind::Malformed);
}

#[test]
fn fault_34_a_hundred_thousand_datasets_take_little() {
    let mut file = Builder::new();
    let data = file.put(&[7; 64]);
    let links: Vec<_> = (0..100_000)
        .map(|index| {
            let dataset = file.object(&[space(&[4, 4]), f32_type(), contiguous(data, 64)]);
            link(&format!("model.layers.{index}.weight"), dataset)
        })
        .collect();
    // A header's chunk has 4 bytes of length, so all links fit in one.
    let root = file.object(&links);
    let bytes = file.finish(root);
    let start = std::time::Instant::now();
    let layout = Hdf5.parse(&bytes, 0).unwrap();
    // Takes about 0.1 s; this catches what is quadratic, and leaves room for a busy machine.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert_eq!(layout.tensors.len(), 100_000);
    assert_eq!(layout.segments.iter().filter(|segment| segment.dtype == Some(DType::F32)).count(), 1);
}

/// A file with 100 links to one dataset, whose chunks follow one another without an index and are said to be `chunks`.
fn many_links(chunks: u64) -> Vec<u8> {
    let mut file = Builder::new();
    // It may grow along the slower dimension, so that the chunks have to be looked at one by one.
    let mut space = space(&[1, chunks]);
    space.1[2] = 1;
    space.1.extend([[2u64.to_le_bytes(), chunks.to_le_bytes()].concat()].concat());
    let dataset = file.object(&[space, f32_type(), chunked(&[1, 1], &[2], 48)]);
    let links: Vec<_> = (0..100).map(|index| link(&index.to_string(), dataset)).collect();
    let root = file.object(&links);
    file.finish(root)
}

#[test]
fn fault_34_links_to_one_dataset_cost_what_one_does() {
    // More chunks than the file has room for.
    let lying = many_links(1 << 19);
    assert!(lying.len() < 4096);
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/hdf5/implicit-links.h5");
    assert_eq!(lying, std::fs::read(seed).unwrap(), "the fuzzer's seed");
    let start = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(tensors(&lying), Ok(vec![]));
    }
    // As many as it has room for.
    let mut file = many_links(1 << 16);
    file.resize(48 + (8 << 16), 0);
    for _ in 0..20 {
        assert_eq!(tensors(&file).unwrap().len(), 100);
    }
    // Takes about 0.1 s; following each link took minutes.
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}

#[test]
fn chunks_that_are_looked_at_are_counted() {
    // Many datasets with one array of chunks, whose pages have an element each and were never written.
    let mut file = Builder::new();
    let entries = 1u64 << 15;
    let block = file.put(&[&b"FADB\0\0"[..], &vec![0; 8 + (1 << 12) + 4 + (12 << 15)]].concat());
    let header = [&b"FAHD\0\0\x08\0"[..], &entries.to_le_bytes(), &block.to_le_bytes(), &[0; 4]].concat();
    let array = file.put(&header);
    let links: Vec<_> = (0..1000)
        .map(|index| {
            let dataset = file.object(&[space(&[1 << 15]), f32_type(), chunked(&[1], &[3, 0], array)]);
            link(&index.to_string(), dataset)
        })
        .collect();
    let root = file.object(&links);
    let bytes = file.finish(root);
    let start = std::time::Instant::now();
    assert_eq!(tensors(&bytes), Err(FormatErrorKind::Limit));
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
}
