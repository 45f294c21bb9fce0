//! What a sketch is found by: hashes of a few of its words.
//!
//! Fine keys are shared by files that differ in few words, and tell members of a family apart: where two differ at all, some of
//! their keys do. Coarse ones survive training, keys of signs also quantisation to integers.

use std::cmp::Reverse;

use half::bf16;
use shard_manifest::SketchedTensor;
use shard_manifest::sketch::{SKETCH_WORDS, scatter};

/// Tensors of a sketch that have keys, largest first.
const KEYED: usize = 16;

/// Kinds of keys.
const FINE: Kind = Kind { number: 1, keys: 4, words: 4 };
const COARSE: Kind = Kind { number: 2, keys: 3, words: 4 };
const SIGNS: Kind = Kind { number: 3, keys: 1, words: 20 };

struct Kind {
    number: u64,
    /// Keys of each tensor.
    keys: usize,
    /// Words of each key.
    words: usize,
}

/// The keys of a sketch.
pub(super) fn keys(tensors: &[SketchedTensor]) -> Vec<u64> {
    let mut largest: Vec<&SketchedTensor> = tensors.iter().collect();
    largest.sort_by_key(|tensor| (Reverse(tensor.elements), tensor.segment));
    let mut keys = Vec::with_capacity(KEYED * (FINE.keys + COARSE.keys + SIGNS.keys));
    for tensor in largest.into_iter().take(KEYED) {
        put(&FINE, tensor.elements, &tensor.words, &mut keys);
        put(&COARSE, tensor.elements, &tensor.words.map(coarse), &mut keys);
        put(&SIGNS, tensor.elements, &signs(&tensor.words), &mut keys);
    }
    keys
}

/// Appends the keys of one kind. Each has words from all over the tensor.
fn put(kind: &Kind, elements: u64, words: &[u16; SKETCH_WORDS], keys: &mut Vec<u64>) {
    for key in 0..kind.keys {
        let own = words.iter().enumerate().skip(key).step_by(SKETCH_WORDS / kind.words).take(kind.words);
        let start = scatter(scatter(elements) ^ kind.number);
        keys.push(own.fold(start, |hash, (place, word)| scatter(hash ^ ((place as u64) << 16 | u64::from(*word)))));
    }
}

/// Sign, exponent and the first bit of the mantissa.
pub(super) fn coarse(word: u16) -> u16 {
    word >> 6
}

/// Whether each word is above the mean: integers that values were quantised to keep that, whatever their zero is.
pub(super) fn signs(words: &[u16; SKETCH_WORDS]) -> [u16; SKETCH_WORDS] {
    let value = |word: u16| bf16::from_bits(word).to_f32();
    let finite = words.iter().map(|word| value(*word)).filter(|value| value.is_finite());
    let (sum, count) = finite.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    words.map(|word| u16::from(value(word) > mean))
}
