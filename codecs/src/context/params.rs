//! The parameters of a block: how its words get contexts, and what follows from a context.
//!
//! Wire form:
//!
//! - a byte: bits 0 and 1 the number of rANS states (0: 1, 1: 4, 2: 32, 3: 64), bit 2 whether runs have classes, bit 3 whether
//!   bins are the mantissa's in some class;
//! - with a prediction: the key that bin 0 starts at (varint, no larger than a key can be; 0 where words are no floats), and the
//!   number of bins less 1 (byte, below 64). Without: the origin (a word), and there is one bin;
//! - with classes: their number less 2 (byte, below 7), words of a run (at least [`LEAST_RUN`]) and words of the first run before
//!   the block (varints);
//! - where bins are the mantissa's (which takes a prediction, and signed floats): a byte, not 0, bit `c` of which says so for
//!   class `c`;
//! - the number of buckets less 1 (byte, below 32);
//! - bits, least significant first: for each class and each bin the number of low bits, as the gamma code of one more than the
//!   zigzag of its difference to what is expected (one less than the bin before, not below 0; for a class's first bin
//!   the same as the class before, 0 for the first); then a bit that is 1 if the bucket is that of the bin before (of the
//!   class before, bucket 0 for the first), else the bucket in as many bits as the highest needs. Zeros up to a whole byte.

use std::ops::Range;

use shard_core::WireReader;
use shard_core::wire::put_varint;

use super::Rows;
use super::subject::Subject;
use crate::chain::Word;
use crate::entropy::bits::{BitReader, BitWriter};
use crate::kernel::buckets::{BINS, Key, MAX_BUCKETS};
use crate::kernel::{self, Isa, MANY_LANES};
use crate::{CodecError, kernel::LANES};

/// Most classes of runs.
pub(super) const MAX_CLASSES: usize = 8;

/// Fewest words of a run: naming the classes of shorter ones costs a reader more than it tells.
const LEAST_RUN: u32 = 16;

/// What follows from a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) bucket: u8,
    /// Low bits that are stored as they are.
    pub(super) low_bits: u8,
}

/// How contexts are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) lanes: usize,
    /// With a prediction: the key of bin 0.
    pub(super) first_key: u32,
    /// Without: what is subtracted from every word.
    pub(super) origin: u64,
    pub(super) bins: usize,
    /// The classes in which bins are the mantissa's instead of the exponent's, a bit each.
    pub(super) mantissa_classes: u8,
    /// The runs that have classes, and the number of classes.
    pub(super) runs: Option<(Rows, usize)>,
    pub(super) buckets: usize,
    /// `bins` contexts a class.
    pub(super) contexts: Vec<Context>,
}

/// For each class, a map from bins.
pub(super) type Maps = [[u8; BINS]; MAX_CLASSES];

fn body(cause: &'static str) -> CodecError {
    CodecError::Body(cause)
}

impl Params {
    /// The most low bits that a word of that kind may have.
    pub(super) fn most_low_bits(word: Word) -> u32 {
        match word.bytes {
            1 => 7,
            2 => 15,
            // What fits in 32 or 64 bits from any bit of a byte on.
            4 => 25,
            _ => 56,
        }
    }

    fn maps(&self, part: impl Fn(&Context) -> u8) -> Maps {
        let mut maps = [[0; BINS]; MAX_CLASSES];
        for (map, contexts) in maps.iter_mut().zip(self.contexts.chunks(self.bins.max(1))) {
            for (bin, place) in map.iter_mut().enumerate() {
                *place = contexts.get(bin).or(contexts.last()).map_or(0, &part);
            }
        }
        maps
    }

    pub(super) fn bucket_maps(&self) -> Maps {
        self.maps(|context| context.bucket)
    }

    /// The maps of low bits; `None` where no context has any.
    pub(super) fn low_bit_maps(&self) -> Option<Maps> {
        let any = self.contexts.iter().any(|context| context.low_bits > 0);
        any.then(|| self.maps(|context| context.low_bits))
    }

    /// The bins of the words of `range`, of which these are the predictions.
    pub(super) fn bin(
        &self,
        isa: Isa,
        word: Word,
        classes: &[u8],
        range: Range<usize>,
        predictions: &[u8],
        bins: &mut [u8],
    ) {
        kernel::bins(isa, word, Key::Exponent { first: self.first_key }, predictions, bins);
        for (class, span) in self.spans(classes, range).filter(|_| self.mantissa_classes != 0) {
            if self.mantissa_classes >> class & 1 == 1 {
                let part = &predictions[span.start * word.bytes..span.end * word.bytes];
                kernel::bins(isa, word, Key::Mantissa, part, &mut bins[span]);
            }
        }
    }

    /// [`Self::bin`] for words of a block; none where there is but one bin.
    pub(super) fn binned<'o>(
        &self,
        subject: &Subject<'_>,
        classes: &[u8],
        range: Range<usize>,
        out: &'o mut [u8],
    ) -> &'o [u8] {
        let Some(predictions) = subject.predictions(range.clone()).filter(|_| self.bins > 1) else { return &[] };
        let out = &mut out[..range.len()];
        self.bin(subject.isa, subject.word, classes, range, predictions, out);
        out
    }

    /// The parts of `range` that have one class: the class, and the part, from the start of the range on.
    fn spans(&self, classes: &[u8], range: Range<usize>) -> impl Iterator<Item = (u8, Range<usize>)> {
        let one_class = Rows { len: u32::MAX, phase: 0 };
        let rows = self.runs.map_or(one_class, |(rows, _)| rows);
        let start = range.start;
        rows.spans(range)
            .map(move |(row, span)| (classes.get(row).copied().unwrap_or(0), span.start - start..span.end - start))
    }

    /// Looks every word of `range` up; `bins` is empty where there is but one.
    pub(super) fn look_up(
        &self,
        isa: Isa,
        maps: &Maps,
        classes: &[u8],
        range: Range<usize>,
        bins: &[u8],
        out: &mut [u8],
    ) {
        for (class, span) in self.spans(classes, range) {
            let Some(map) = maps.get(usize::from(class)) else { return };
            match bins.get(span.clone()) {
                Some(bins) => kernel::map_bins(isa, map, bins, &mut out[span]),
                None => out[span].fill(map[0]),
            }
        }
    }

    pub(super) fn put(&self, word: Word, predicted: bool, out: &mut Vec<u8>) {
        let lanes = match self.lanes {
            1 => 0,
            4 => 1,
            LANES => 2,
            _ => 3,
        };
        out.push(lanes | u8::from(self.runs.is_some()) << 2 | u8::from(self.mantissa_classes != 0) << 3);
        if predicted {
            put_varint(out, u64::from(self.first_key));
            out.push((self.bins - 1) as u8);
        } else {
            out.extend_from_slice(&self.origin.to_le_bytes()[..word.bytes]);
        }
        if let Some((rows, classes)) = self.runs {
            out.push((classes - 2) as u8);
            put_varint(out, u64::from(rows.len));
            put_varint(out, u64::from(rows.phase));
        }
        if self.mantissa_classes != 0 {
            out.push(self.mantissa_classes);
        }
        out.push((self.buckets - 1) as u8);
        let id_bits = (self.buckets as u32 - 1).checked_ilog2().map_or(0, |top| top + 1);
        let mut bits = BitWriter::new(out);
        let mut above: Option<&[Context]> = None;
        for contexts in self.contexts.chunks(self.bins) {
            let mut before = above.and_then(|above| above.first()).copied().unwrap_or_default();
            let mut expected = i32::from(before.low_bits);
            for context in contexts {
                let off = i32::from(context.low_bits) - expected;
                bits.put_gamma(1 + (off << 1 ^ off >> 31) as u32);
                let same = context.bucket == before.bucket;
                bits.put(u32::from(same), 1);
                if !same {
                    bits.put(u32::from(context.bucket), id_bits);
                }
                before = *context;
                expected = (i32::from(before.low_bits) - 1).max(0);
            }
            above = Some(contexts);
        }
        bits.finish();
    }

    /// Reads the wire form; returns what follows it.
    pub(super) fn read(data: &[u8], word: Word, predicted: bool) -> Result<(Self, &[u8]), CodecError> {
        let mut reader = WireReader::new(data);
        let flags = reader.u8()?;
        if flags > 15 {
            return Err(body("a context block has unknown flags"));
        }
        let lanes = match flags & 3 {
            0 => 1,
            1 => 4,
            2 => LANES,
            _ => MANY_LANES,
        };
        let (mut first_key, mut origin, mut bins) = (0, 0, 1);
        if predicted {
            let most = word.float.map_or(0, |float| (1 << float.exponent) - 1);
            first_key = reader.varint_up_to(most, "first key")? as u32;
            bins = usize::from(reader.u8()?) + 1;
        } else {
            for index in 0..word.bytes {
                origin |= u64::from(reader.u8()?) << (8 * index);
            }
        }
        let mut runs = None;
        if flags & 4 != 0 {
            let classes = usize::from(reader.u8()?) + 2;
            let len = reader.varint_up_to(u64::from(u32::MAX), "words of a run")? as u32;
            let phase = reader.varint_up_to(u64::from(u32::MAX), "words before the block")? as u32;
            if classes > MAX_CLASSES || len < LEAST_RUN || phase >= len {
                return Err(body("a context block has impossible runs"));
            }
            runs = Some((Rows { len, phase }, classes));
        }
        let classes = runs.map_or(1, |(_, classes)| classes);
        let mut mantissa_classes = 0;
        if flags & 8 != 0 {
            mantissa_classes = reader.u8()?;
            let known = mantissa_classes > 0 && u32::from(mantissa_classes) < 1 << classes;
            if !known || !predicted || !word.sign_magnitude() {
                return Err(body("a context block has mantissa bins for no class"));
            }
        }
        let buckets = usize::from(reader.u8()?) + 1;
        if bins > BINS || buckets > MAX_BUCKETS {
            return Err(body("a context block has too many bins or buckets"));
        }
        let id_bits = (buckets as u32 - 1).checked_ilog2().map_or(0, |top| top + 1);
        let most = Self::most_low_bits(word) as i32;
        let mut bits = BitReader::new(data.get(reader.position()..).unwrap_or_default());
        let mut contexts: Vec<Context> = Vec::with_capacity(classes * bins);
        let mut take = || -> Option<()> {
            for class in 0..classes {
                let mut before = class.checked_sub(1).map_or(Context::default(), |above| contexts[above * bins]);
                let mut expected = i32::from(before.low_bits);
                for _ in 0..bins {
                    let off = bits.take_gamma(7)? as i32 - 1;
                    let low_bits = expected + (off >> 1 ^ -(off & 1));
                    let bucket = if bits.take(1)? == 1 { before.bucket } else { bits.take(id_bits)? as u8 };
                    if !(0..=most).contains(&low_bits) || usize::from(bucket) >= buckets {
                        return None;
                    }
                    before = Context { bucket, low_bits: low_bits as u8 };
                    expected = (low_bits - 1).max(0);
                    contexts.push(before);
                }
            }
            Some(())
        };
        take().ok_or(body("a context map is malformed"))?;
        let rest = bits.finish().ok_or(body("a context map is malformed"))?;
        Ok((Self { lanes, first_key, origin, bins, mantissa_classes, runs, buckets, contexts }, rest))
    }
}
