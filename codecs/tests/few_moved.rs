//! Blocks of floats most of whose words are as before: what they take, and that they come back.
#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

use half::bf16;
use shard_codecs::{Base, Block, BlockHeader, Coding, Decoder, Encoder, Level, Rows, Shape, Word};
use shard_core::{BaseRef, DType, sha256};

/// Words of a row.
const ROW: u32 = 1024;
/// The scale of weights.
const WEIGHT: f64 = 0.02;

/// A generator of pseudo-random numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Of mean 0 and variance 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn weight(&mut self) -> f32 {
        (WEIGHT * self.normal()) as f32
    }
}

fn bf16_bytes(value: f32) -> Vec<u8> {
    bf16::from_f32(value).to_le_bytes().to_vec()
}

fn fp32_bytes(value: f32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// A value as a word of some type.
type ToBytes = fn(f32) -> Vec<u8>;

/// A tensor of 4 MiB, and the one before it.
struct Pair {
    dtype: DType,
    base: Vec<u8>,
    data: Vec<u8>,
    moved: usize,
}

impl Pair {
    /// Of normal weights in that type. `moves` says what becomes of the word at an index, if anything.
    fn new(dtype: DType, bytes: ToBytes, mut moves: impl FnMut(&mut Random, usize, f32) -> Option<Vec<u8>>) -> Self {
        let mut random = Random(0x5eed);
        let mut pair = Self { dtype, base: Vec::new(), data: Vec::new(), moved: 0 };
        while pair.base.len() < 4 << 20 {
            let before = random.weight();
            let word = bytes(before);
            let index = pair.base.len() / word.len();
            let after = moves(&mut random, index, before);
            pair.moved += usize::from(after.as_ref().is_some_and(|after| *after != word));
            pair.data.extend(after.as_ref().unwrap_or(&word));
            pair.base.extend(word);
        }
        pair
    }

    /// What `encode` makes of it, having seen it come back.
    fn stored_with(&self, encode: impl FnOnce(&Block<'_>, &mut Vec<u8>)) -> usize {
        let reference = BaseRef::whole(sha256(&self.base), self.base.len() as u32);
        let base = Some(Base::new(&reference, &self.base));
        let block = Block { data: &self.data, dtype: Some(self.dtype), rows: Some(Rows { len: ROW, phase: 0 }), base };
        let mut stored = Vec::new();
        encode(&block, &mut stored);
        let (header, header_len) = BlockHeader::read(&stored).unwrap();
        let mut decoded = vec![0; self.data.len()];
        Decoder::new().decode(&header, &stored[header_len..], Some(&self.base), &mut decoded).unwrap();
        assert!(decoded == self.data, "not the words that were stored");
        stored.len()
    }

    fn stored(&self, level: Level) -> usize {
        self.stored_with(|block, out| {
            Encoder::new(level).encode(block, out).unwrap();
        })
    }

    /// What it takes with the context coder on the version before.
    fn by_context(&self) -> usize {
        let word = Word::of(Some(self.dtype));
        let shape = Shape::legal(word).find(|shape| {
            (shape.predictor.bases(), shape.predictor.factors()) == (1, 0)
                && shape.residual.name() == "step"
                && shape.coding == Coding::Context
        });
        self.stored_with(|block, out| {
            Encoder::new(Level::Default).encode_with(shape.unwrap(), block, out).unwrap();
        })
    }

    /// The stored bytes in millionths of the raw ones.
    fn millionths(&self, stored: usize) -> usize {
        stored * 1_000_000 / self.data.len()
    }

    /// The stored bits of a word that moved.
    fn bits(&self, stored: usize) -> usize {
        8 * stored / self.moved
    }
}

/// One word in so many, by chance.
fn one_in(random: &mut Random, many: u64) -> bool {
    random.next().is_multiple_of(many)
}

/// A unit in the last place up or down.
fn by_one(random: &mut Random, word: &[u8]) -> Vec<u8> {
    let mut word = word.to_vec();
    // From either end of the byte there is one way only, so that the step stays in it.
    word[0] = match word[0] {
        0 => 1,
        255 => 254,
        low if one_in(random, 2) => low + 1,
        low => low - 1,
    };
    word
}

#[test]
fn a_thousandth_of_bf16_words_that_moved_by_an_ulp_takes_a_thousandth_of_the_bytes() {
    let pair = Pair::new(DType::BF16, bf16_bytes, |random, _, before| {
        one_in(random, 1000).then(|| by_one(random, &bf16_bytes(before)))
    });
    let stored = pair.millionths(pair.stored(Level::Default));
    assert!(stored <= 1000, "{stored} millionths");
}

#[test]
fn a_thousandth_of_bf16_words_with_fresh_values_takes_two_thousandths_of_the_bytes() {
    let pair =
        Pair::new(DType::BF16, bf16_bytes, |random, _, _| one_in(random, 1000).then(|| bf16_bytes(random.weight())));
    let stored = pair.millionths(pair.stored(Level::Default));
    assert!(stored <= 2000, "{stored} millionths");
}

#[test]
fn words_that_did_not_move_do_not_pay_for_those_that_moved_far() {
    let kinds: [(DType, ToBytes); 2] = [(DType::BF16, bf16_bytes), (DType::F32, fp32_bytes)];
    for (many, (dtype, bytes)) in [1000, 100, 60, 30, 10].into_iter().flat_map(|many| kinds.map(|kind| (many, kind))) {
        let pair = Pair::new(dtype, bytes, |random, _, _| one_in(random, many).then(|| bytes(random.weight())));
        // A word as it is, and where it is.
        let least = 8 * Word::of(Some(dtype)).bytes + (std::f64::consts::E * many as f64).log2() as usize;
        let (fast, default) = (pair.stored(Level::Fast), pair.stored(Level::Default));
        let bits = pair.bits(fast.max(default));
        assert!(bits <= least + least / 2, "{dtype:?}, one of {many}: {bits} bits");
        // Rows that only chance sets apart do not pay either.
        assert!(default <= fast + fast / 20, "{dtype:?}, one of {many}: {default} bytes, {fast} by the fast level");
    }
}

#[test]
fn rows_that_moved_as_a_whole_keep_their_low_bits() {
    let mut is_moved = false;
    let pair = Pair::new(DType::F32, fp32_bytes, |random, index, before| {
        if index.is_multiple_of(ROW as usize) {
            is_moved = one_in(random, 30);
        }
        let step = random.normal() * WEIGHT / 200.0;
        is_moved.then(|| fp32_bytes(before + step as f32))
    });
    let bits = pair.bits(pair.stored(Level::Default));
    assert!(bits <= 20, "{bits} bits");
}

#[test]
fn where_few_moved_the_context_coder_is_tried_too() {
    let pair = Pair::new(DType::F32, fp32_bytes, |random, _, before| {
        one_in(random, 100).then(|| match one_in(random, 5) {
            true => fp32_bytes(random.weight()),
            false => by_one(random, &fp32_bytes(before)),
        })
    });
    let (chosen, by_context) = (pair.stored(Level::Default), pair.by_context());
    assert!(chosen <= by_context, "{chosen} bytes, {by_context} by the context coder");
}
