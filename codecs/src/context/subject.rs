//! A block as the encoder sees it: words, what they are measured from, and where their parameters are looked for.

use std::ops::Range;

use super::{Rows, TILE};
use crate::Level;
use crate::chain::Word;
use crate::kernel::buckets::{BINS, Key};
use crate::kernel::{self, Isa};

/// Tiles that are sampled at most.
const SAMPLED: usize = 8;

/// What is to be encoded.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    pub(crate) word: Word,
    /// Whole words.
    pub(crate) words: &'a [u8],
    /// As many words, where the chain has a prediction.
    pub(crate) prediction: Option<&'a [u8]>,
    /// Whether that tells magnitudes only: the residual is [`crate::residual::Turn`].
    pub(crate) turned: bool,
    pub(crate) rows: Option<Rows>,
}

/// A block that parameters are looked for.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) isa: Isa,
    pub(super) level: Level,
    pub(super) word: Word,
    words: &'a [u8],
    prediction: Option<&'a [u8]>,
    turned: bool,
    pub(super) rows: Option<Rows>,
    /// With a prediction: the key of bin 0.
    pub(super) first_key: u32,
    /// Without: what is subtracted from every word,
    pub(super) origin: u64,
    /// and the low bits that all contexts have, where that is settled.
    pub(super) low_bits: Option<u8>,
    /// The words that parameters are for: more than there are here, where these are a sample already.
    pub(super) meant: usize,
}

impl<'a> Subject<'a> {
    pub(super) fn new(isa: Isa, level: Level, input: Input<'a>, meant: usize) -> Self {
        let Input { word, words, prediction, turned, rows } = input;
        let first_key = prediction.map_or(0, |prediction| first_key_of(word, prediction));
        let (origin, low_bits) = if prediction.is_some() { (0, None) } else { origin_of(word, words) };
        Self { isa, level, word, words, prediction, turned, rows, first_key, origin, low_bits, meant }
    }

    /// The words that there are.
    pub(super) fn given(&self) -> usize {
        self.words.len() / self.word.bytes
    }

    pub(super) fn is_predicted(&self) -> bool {
        self.prediction.is_some()
    }

    /// The predictions of words, where there are some.
    pub(super) fn predictions(&self, range: Range<usize>) -> Option<&'a [u8]> {
        self.prediction.map(|prediction| &prediction[range.start * self.word.bytes..range.end * self.word.bytes])
    }

    /// The signed residuals of words, of a word's width.
    pub(super) fn residuals<'o>(&self, range: Range<usize>, out: &'o mut [u8]) -> &'o [u8] {
        let words = &self.words[range.start * self.word.bytes..range.end * self.word.bytes];
        let out = &mut out[..words.len()];
        match self.predictions(range) {
            Some(prediction) if self.turned => kernel::turn_forward(self.isa, self.word, words, prediction, out),
            Some(prediction) => kernel::step_forward(self.isa, self.word, words, prediction, out),
            None => kernel::offset_forward(self.isa, self.word, self.origin, words, out),
        }
        out
    }

    /// The bins of words by the exponent of their predictions; without, all are in bin 0.
    pub(super) fn bins<'o>(&self, range: Range<usize>, out: &'o mut [u8]) -> &'o [u8] {
        let out = &mut out[..range.len()];
        match self.predictions(range) {
            Some(prediction) => {
                kernel::bins(self.isa, self.word, Key::Exponent { first: self.first_key }, prediction, out);
            }
            None => out.fill(0),
        }
        out
    }

    /// The parts that are sampled.
    pub(super) fn sampled(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let words = self.given();
        let tiles = words.div_ceil(TILE);
        let taken = match self.level {
            Level::Max => tiles,
            _ => tiles.min(SAMPLED),
        };
        (0..taken).map(move |index| {
            let tile = if taken < 2 { 0 } else { (tiles - 1) * index / (taken - 1) };
            tile * TILE..((tile + 1) * TILE).min(words)
        })
    }
}

/// The tiles of a block that its key and origin are taken from.
fn some_tiles(word: Word, words: &[u8]) -> impl Iterator<Item = &[u8]> {
    let tiles = words.chunks(TILE * word.bytes);
    let step = tiles.len().div_ceil(4).max(1);
    tiles.step_by(step)
}

/// The key for bin 0: the lowest that leaves next to no word above the last bin.
pub(crate) fn first_key_of(word: Word, prediction: &[u8]) -> u32 {
    let Some(float) = word.float else { return 0 };
    let mut counts = vec![0u32; 1 << float.exponent];
    let mask = counts.len() - 1;
    let mut wide = [0; TILE];
    let mut all = 0;
    for tile in some_tiles(word, prediction) {
        let wide = &mut wide[..tile.len() / word.bytes];
        kernel::widen(word.bytes, tile, wide);
        for word in wide.iter() {
            counts[(*word >> float.mantissa) as usize & mask] += 1;
        }
        all += wide.len() as u32;
    }
    // Infinities and the like must not push the others out.
    let mut above = 0;
    let highest = counts.iter().rposition(|count| {
        above += count;
        above > all / 512
    });
    (highest.unwrap_or(0) as u32 + 1).saturating_sub(BINS as u32 - 1)
}

/// What words without a prediction are measured from, and the bits below what is modelled: of floats, the exponent is.
fn origin_of(word: Word, words: &[u8]) -> (u64, Option<u8>) {
    let Some(float) = word.float else { return (0, None) };
    // The top byte is modelled: the exponent, or some of the mantissa too; of a longer exponent all.
    let modelled = float.exponent.max(8);
    let low_bits = 8 * word.bytes as u32 - modelled;
    let (mut sum, mut count) = (0u64, 0u64);
    let mut wide = [0; TILE];
    for tile in some_tiles(word, words) {
        let wide = &mut wide[..tile.len() / word.bytes];
        kernel::widen(word.bytes, tile, wide);
        // The sign goes out at the top, as in the rotated word.
        let unused = 64 - 8 * word.bytes as u32 + u32::from(float.signed);
        sum += wide.iter().map(|word| (*word as u64) << unused >> (64 - modelled)).sum::<u64>();
        count += wide.len() as u64;
    }
    ((sum / count.max(1)) << low_bits, Some(low_bits as u8))
}
