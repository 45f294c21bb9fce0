use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use shard_codecs::{Base, Block, Encoder, Level};
use shard_core::DType;
use shard_store::PackId;

use super::*;

/// Entries in memory, which counts how often they are read.
#[derive(Default)]
struct Counted {
    entries: HashMap<EntryKey, (Vec<u8>, Location)>,
    reads: AtomicU32,
}

impl EntrySource for Counted {
    fn locate(&self, key: &EntryKey) -> std::result::Result<Option<Location>, StoreError> {
        Ok(self.entries.get(key).map(|(_, location)| *location))
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> std::result::Result<(), StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        out.clear();
        out.extend_from_slice(&self.entries[&location.key].0);
        Ok(())
    }
}

/// A chain of `count` versions of a block of `words` bf16 words, each leaning on the one before; their ids and bytes. Words
/// move by less than `noise` from one version to the next.
fn chain(count: u32, words: u32, noise: u32) -> (Counted, Vec<(Digest, Vec<u8>)>) {
    let mut source = Counted::default();
    let mut versions: Vec<(Digest, Vec<u8>)> = Vec::new();
    for depth in 0..count {
        let mix = |i: u32| i.wrapping_mul(2_654_435_761) ^ (i.wrapping_mul(2_654_435_761) >> 15);
        let word = |i: u32| (0x3c00 + (mix(i) >> 22) + mix(mix(i) ^ mix(depth)) % noise) as u16;
        let data: Vec<u8> = (0..words).flat_map(|i| word(i).to_le_bytes()).collect();
        let id = sha256(&data);
        let before = versions.last().map(|(id, bytes)| (BaseRef::whole(*id, bytes.len() as u32), bytes));
        let base = before.as_ref().map(|(reference, bytes)| Base { reference, bytes });
        let mut stored = Vec::new();
        let block = Block { data: &data, dtype: Some(DType::BF16), rows: None, base };
        let encoded = Encoder::new(Level::Default).encode(&block, &mut stored).unwrap();
        assert_eq!(encoded.used_base, depth > 0);
        let key = block_key(id);
        let (stored_len, raw_len) = (stored.len() as u64, data.len() as u64);
        let location = Location { key, pack: PackId::Archive, offset: 0, stored_len, raw_len, depth };
        source.entries.insert(key, (stored, location));
        versions.push((id, data));
    }
    (source, versions)
}

#[test]
fn a_chain_is_fetched_once_and_decoded_in_a_few_buffers() {
    let (source, versions) = chain(MAX_DEPTH + 1, 50_000, 4);
    let mut reader = BlockReader::new(&source);
    let (last, bytes) = versions.last().unwrap();
    let mut out = Vec::new();
    reader.read(&block_key(*last), &mut out).unwrap();
    assert!(out == *bytes);
    assert_eq!(source.reads.load(Ordering::Relaxed), MAX_DEPTH + 1, "every block of the chain once");
    // Two of them hold decoded bytes in turns (the other is the caller's), the others what is stored.
    let whole = reader.spare.iter().filter(|buffer| buffer.capacity() >= bytes.len()).count();
    assert!(whole <= 1, "one decoded block beside the output, however deep: {whole}");
    reader.read(&block_key(*last), &mut out).unwrap();
    assert!(reader.spare.len() as u32 <= MAX_DEPTH + 2, "and they are used again");
}

#[test]
fn a_chain_is_shown_from_its_keyframe_on() {
    let (source, versions) = chain(5, 20_000, 4);
    let mut reader = BlockReader::new(&source);
    let mut shown = Vec::new();
    let visit = &mut |id: Digest, work: u32, bytes: &[u8]| {
        shown.push((id, work, bytes.to_vec()));
        Ok(())
    };
    reader.visit(&block_key(versions[4].0), visit).unwrap();
    assert_eq!(shown.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), versions.iter().map(|v| v.0).collect::<Vec<_>>());
    assert!(shown.iter().zip(&versions).all(|((_, _, bytes), (_, expected))| bytes == expected));
    assert_eq!(shown[0].1, 0, "a keyframe is no link");
    assert!(shown.windows(2).all(|pair| pair[0].1 < pair[1].1), "work adds up");
    let (work, link) = reader.work();
    assert_eq!((work, work - link), (shown[4].1, shown[3].1));
}

#[test]
fn what_is_too_much_to_keep_is_fetched_again() {
    let (source, versions) = chain(MAX_DEPTH + 1, MAX_BLOCK as u32 / 2, 300);
    let stored: usize = source.entries.values().map(|(stored, _)| stored.len()).sum();
    assert!(stored > KEPT + MAX_BLOCK, "expected more stored bytes than are kept: {stored}");
    let mut out = Vec::new();
    BlockReader::new(&source).read(&block_key(versions[MAX_DEPTH as usize].0), &mut out).unwrap();
    assert!(out == versions[MAX_DEPTH as usize].1);
    assert!(source.reads.load(Ordering::Relaxed) > MAX_DEPTH + 1);
}
