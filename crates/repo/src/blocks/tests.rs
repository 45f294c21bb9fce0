use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use shard_codecs::{Base, Block, Coding, Encoder, Level, Shape, Word};
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
        let base = before.as_ref().map(|(reference, bytes)| Base::new(reference, bytes));
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
fn a_chain_ends_where_a_block_is_at_hand_and_goes_on_where_that_is_wrong() {
    let (source, versions) = chain(6, 20_000, 4);
    let (last, bytes) = &versions[5];
    let read = |at_hand: usize, given: &[u8]| {
        let give = |id: &Digest, out: &mut Vec<u8>| {
            out.clear();
            out.extend_from_slice(given);
            *id == versions[at_hand].0
        };
        source.reads.store(0, Ordering::Relaxed);
        let mut read = Vec::new();
        read_in_order_with(&source, Some(&give), &[*last], &mut |_, block| {
            read.extend_from_slice(block);
            Ok(())
        })
        .unwrap();
        assert!(read == *bytes);
        source.reads.load(Ordering::Relaxed)
    };
    assert_eq!(read(4, &versions[4].1), 1);
    assert_eq!(read(2, &versions[2].1), 3);
    assert_eq!(read(5, bytes), 6, "what is read is decoded");
    for wrong in [&[][..], &[0; 40_000], &versions[3].1] {
        assert_eq!(read(4, wrong), 1 + 6);
    }
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

/// The bytes of version `step` of a series of `words` bf16 words, each of which goes on moving its way.
fn version(step: u32, words: u32) -> Vec<u8> {
    let mix = |i: u32| (i.wrapping_mul(2_654_435_761) ^ (i.wrapping_mul(2_654_435_761) >> 15)) >> 8;
    let word = |i: u32| 0x3c00 + mix(i) % 512 + step * (mix(i + 7) % 9) + mix(i ^ step << 20) % 3;
    (0..words).flat_map(|i| (word(i) as u16).to_le_bytes()).collect()
}

impl Counted {
    /// Puts a block that leans on the starts of these: on none, one, or two, the newer first.
    fn put(&mut self, data: &[u8], on: &[&[u8]]) -> Digest {
        let len = data.len();
        let range = |base: &&[u8]| BaseRange { block: Some(sha256(base)), start: 0, len: len as u32 };
        let reference = BaseRef { ranges: on.iter().map(range).collect(), transpose: None };
        let bytes: Vec<u8> = on.iter().flat_map(|base| &base[..len]).copied().collect();
        let base = Some(Base::new(&reference, &bytes)).filter(|_| !on.is_empty());
        let dtype = Some(DType::BF16);
        let suits = |shape: &Shape| shape.predictor.bases() == on.len() && shape.predictor.id() != 2;
        let shape = Shape::legal(Word::of(dtype)).find(|shape| suits(shape) && shape.coding == Coding::Context);
        let mut stored = Vec::new();
        let block = Block { data, dtype, rows: None, base };
        Encoder::new(Level::Default).encode_with(shape.unwrap(), &block, &mut stored).unwrap();
        self.insert(sha256(data), stored, len)
    }

    fn insert(&mut self, id: Digest, stored: Vec<u8>, len: usize) -> Digest {
        let key = block_key(id);
        let (stored_len, raw_len) = (stored.len() as u64, len as u64);
        let location = Location { key, pack: PackId::Archive, offset: 0, stored_len, raw_len, depth: 0 };
        self.entries.insert(key, (stored, location));
        id
    }

    fn read(&self, id: Digest) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        BlockReader::new(self).read(&block_key(id), &mut out).map(|()| out)
    }

    fn reads(&self) -> u32 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

/// A series in which each version leans on the two before it.
fn pairs(count: u32, words: u32) -> (Counted, Vec<Vec<u8>>) {
    let mut source = Counted::default();
    let versions: Vec<Vec<u8>> = (0..count).map(|step| version(step, words)).collect();
    for step in 0..count as usize {
        let on: Vec<&[u8]> = versions[..step].iter().rev().take(2).map(Vec::as_slice).collect();
        source.put(&versions[step], &on);
    }
    (source, versions)
}

#[test]
fn a_chain_of_pairs_is_fetched_once_and_decoded_once() {
    let (source, versions) = pairs(MAX_DEPTH + 1, 10_000);
    let last = versions.last().unwrap();
    let mut reader = BlockReader::new(&source);
    let mut out = Vec::new();
    reader.read(&block_key(sha256(last)), &mut out).unwrap();
    assert!(out == *last);
    assert_eq!(source.reads(), MAX_DEPTH + 1, "every block of the chain once");
    let whole = reader.spare.iter().filter(|buffer| buffer.capacity() >= last.len()).count();
    assert!(whole <= 1, "one decoded block beside the output and the third buffer, however deep: {whole}");
    let (work, link) = reader.work();
    let more = versions_work(2, Some(DType::BF16));
    let mut shown = Vec::new();
    let visit = &mut |id: Digest, work: u32, bytes: &[u8]| {
        shown.push((id, work, bytes.to_vec()));
        Ok(())
    };
    reader.visit(&block_key(sha256(last)), visit).unwrap();
    assert_eq!(source.reads(), MAX_DEPTH + 1);
    assert!(shown.iter().map(|(_, _, bytes)| bytes).eq(&versions), "the keyframe first");
    assert!(shown.iter().zip(&versions).all(|((id, ..), bytes)| *id == sha256(bytes)));
    assert_eq!((work, work - link - more), (shown[8].1, shown[7].1), "a link, and what a second version adds");

    let (source, versions) = pairs(MAX_DEPTH + 2, 1000);
    assert!(matches!(source.read(sha256(&versions[9])), Err(RepoError::TooDeep { .. })));
}

#[test]
fn pairs_of_what_does_not_lean_on_each_other_are_read() {
    let versions: Vec<Vec<u8>> = (0..9).map(|step| version(step, 10_000)).collect();
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|step| &versions[step][..]);
    let mut source = Counted::default();
    for (block, on) in [(a, &[][..]), (b, &[]), (c, &[b, a]), (d, &[c, a]), (e, &[d, c])] {
        source.put(block, on);
    }
    // The first, which is beneath neither, is read for each of the two that lean on it.
    for (block, reads) in [(c, 3), (d, 5), (e, 6)] {
        assert!(source.read(sha256(block)).unwrap() == block);
        assert_eq!(source.reads(), reads);
    }
    // The older first, down to the keyframes: each of them is read by itself, which takes long, but not too long.
    let mut source = Counted::default();
    for step in 0..9 {
        let on: Vec<&[u8]> = versions[..step].iter().skip(step.saturating_sub(2)).map(Vec::as_slice).collect();
        source.put(&versions[step], &on);
    }
    for version in &versions {
        assert!(source.read(sha256(version)).unwrap() == *version);
    }
    assert!(source.reads() < MAX_FETCHES);
}

#[test]
fn a_pair_may_be_the_start_of_longer_blocks() {
    let versions: Vec<Vec<u8>> = (0..5).map(|step| version(step, 12_000 - 1000 * step)).collect();
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|step| &versions[step][..]);
    let mut source = Counted::default();
    for (block, on) in [(a, &[][..]), (b, &[a]), (c, &[b, a]), (d, &[c, b]), (e, &[d])] {
        source.put(block, on);
    }
    for version in &versions {
        assert!(source.read(sha256(version)).unwrap() == *version);
    }
}

#[test]
fn two_versions_are_handed_out_where_one_leans_on_the_other() {
    let (mut source, versions) = pairs(4, 10_000);
    let [a, b, c, d] = [0, 1, 2, 3].map(|step| &versions[step][..]);
    let mut reader = BlockReader::new(&source);
    let mut out = Vec::new();
    let range = |block: &[u8], len: usize| BaseRange { block: Some(sha256(block)), start: 0, len: len as u32 };
    for (newer, older) in [(d, c), (c, b), (b, a)] {
        for len in [newer.len(), 5000] {
            let two = reader.two_base_bytes(sha256(newer), len, |_, _, _| true, &mut out).unwrap();
            assert_eq!(two, BaseRef { ranges: vec![range(newer, len), range(older, len)], transpose: None });
            assert!(out == [&newer[..len], &older[..len]].concat());
        }
    }
    source.reads();
    let mut works = (0, 0);
    let only = |work, link, bases: [&[u8]; 2]| {
        assert!(bases == [d, c]);
        works = (work, link);
        false
    };
    let one = reader.two_base_bytes(sha256(d), d.len(), only, &mut out).unwrap();
    assert_eq!((one, works), (BaseRef::whole(sha256(d), d.len() as u32), reader.work()));
    assert!(out == d);
    assert_eq!(source.reads(), 4);
    let keyframe = reader.two_base_bytes(sha256(a), a.len(), |_, _, _| true, &mut out).unwrap();
    assert_eq!(keyframe, BaseRef::whole(sha256(a), a.len() as u32));
    let longer = reader.two_base_bytes(sha256(d), d.len() + 1, |_, _, _| true, &mut out);
    assert!(matches!(longer, Err(RepoError::BadBase { .. })));
    // Wrong bytes under the newer one: nothing is handed out that was made of them.
    let mut wrong = Counted::default();
    wrong.put(d, &[]);
    let (stored, _) = wrong.entries[&block_key(sha256(d))].clone();
    source.insert(sha256(b), stored, b.len());
    let found = BlockReader::new(&source).two_base_bytes(sha256(d), d.len(), |_, _, _| true, &mut out);
    assert!(found.is_err_and(|error| error.is_damage()));
}

#[test]
fn hostile_pairs_are_errors() {
    let (mut source, versions) = pairs(3, 10_000);
    let [a, b, c] = [0, 1, 2].map(|step| &versions[step][..]);
    let (stored, _) = source.entries[&block_key(sha256(c))].clone();
    let (mut header, body) = BlockHeader::read(&stored).unwrap();
    let len = c.len() as u32;
    let mut put = |source: &mut Counted, ranges: Vec<BaseRange>| {
        header.base = Some(BaseRef { ranges, transpose: None });
        let mut changed = Vec::new();
        header.put(&mut changed);
        changed.extend_from_slice(&stored[body..]);
        source.insert(sha256(c), changed, c.len());
    };
    let range = |block: &[u8], start: u32, len: u32| BaseRange { block: Some(sha256(block)), start, len };
    let none = version(9, 10);
    for (ranges, what) in [
        (vec![], "nothing"),
        (vec![range(b, 0, len)], "half of it"),
        (vec![range(b, 0, 2 * len)], "more than there is"),
        (vec![range(b, 4, len), range(a, 0, len)], "a start further on"),
        (vec![range(b, 0, len), range(a, 1, len)], "a start further on"),
        (vec![range(b, 0, len), range(a, 0, len - 2), range(a, 0, 1)], "too little"),
        (vec![range(b, 0, len), range(&none, 0, len)], "what is not there"),
        (vec![range(&none, 0, len), range(a, 0, len)], "what is not there"),
        (vec![range(c, 0, len), range(b, 0, len)], "itself"),
        (vec![range(b, 0, len), range(c, 0, len)], "itself"),
        (vec![range(b, 0, len), range(b, 0, len)], "the same twice"),
    ] {
        put(&mut source, ranges);
        assert!(source.read(sha256(c)).is_err_and(|error| error.is_damage()), "{what}");
        let two = BlockReader::new(&source).two_base_bytes(sha256(c), c.len(), |_, _, _| true, &mut Vec::new());
        assert!(two.is_err(), "{what}");
    }
    // The same bytes by other ranges.
    let half = len / 2;
    let ranges = vec![range(b, 0, half), range(b, half, half), range(a, 0, len)];
    put(&mut source, ranges);
    assert!(source.read(sha256(c)).unwrap() == c);
}
