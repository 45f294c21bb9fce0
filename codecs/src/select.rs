//! Choosing a chain: every candidate runs on a sample of the block, and the entropies of its streams are its estimate.

use crate::block::BlockHeader;
use crate::chain::{MAX_STREAMS, Shape, Word};
use crate::entropy;
use crate::transform::{Transform, Workbench};
use crate::{Block, CodecError, Level, filter, kernel, residual};

/// Blocks up to this length, in bytes, are their own sample.
const WHOLE: usize = 48 << 10;
/// Longer ones are sampled by this many runs, spread evenly,
const RUNS: usize = 8;
/// of this many bytes: long enough for repeats to show.
const RUN: usize = 4 << 10;

/// Candidates this close, in units of a 64th, are encoded both ways.
const TIE: u64 = 1;
/// How many are encoded at most.
const TRIES: usize = 2;
/// The same at [`Level::Max`].
const TRIES_MAX: usize = 4;

/// A chain that comes into question for a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its stages before entropy coding.
    pub shape: Shape,
    /// What the stored block is expected to take, in bytes.
    pub estimated: u64,
    /// Streams in which zstd found repeats.
    pub(crate) repeats: [bool; MAX_STREAMS],
}

impl Candidate {
    /// Whether it is worth encoding after `tried` others, of which `best` was expected to be the smallest.
    pub(crate) fn rivals(&self, best: &Self, level: Level, tried: usize) -> bool {
        let close = self.estimated <= best.estimated + best.estimated * TIE / 64;
        // Filters of one residual keep the same information and differ by less than their estimates are off.
        match level {
            Level::Fast => false,
            Level::Default => close && tried < TRIES && self.shape.residual != best.shape.residual,
            Level::Max => tried < TRIES_MAX,
        }
    }
}

/// Samples and ranks; keeps its buffers for the next block.
#[derive(Default)]
pub(crate) struct Selector {
    data: Vec<u8>,
    base: Vec<u8>,
    scratch: Vec<u8>,
    ranking: Vec<Candidate>,
}

/// Every shape worth estimating for such words.
fn sensible(shape: Shape, word: Word, level: Level) -> bool {
    let filter = shape.filter.id();
    let planes = match (word.bytes, shape.residual.id()) {
        (1, _) => filter == filter::WHOLE,
        (_, residual::ULP) => filter == filter::BYTE_PLANES || filter == filter::ESCAPE,
        _ if word.sign_magnitude() => filter == filter::FLOAT_SPLIT,
        _ => filter == filter::BYTE_PLANES || filter == filter::WHOLE,
    };
    let sparse = filter == filter::SPARSE && (level != Level::Fast || shape.residual.id() == residual::ULP);
    (planes || sparse) && (level != Level::Fast || shape.residual.id() != residual::XOR)
}

impl Selector {
    /// The candidates of the last block, best first.
    pub(crate) fn ranking(&self) -> &[Candidate] {
        &self.ranking
    }

    /// Ranks the candidates for a block.
    pub(crate) fn rank(&mut self, block: &Block<'_>, bench: &mut Workbench) -> Result<&[Candidate], CodecError> {
        let word = Word::of(block.dtype);
        let level = bench.workspace.level();
        self.ranking.clear();
        let whole = block.data.len() / word.bytes * word.bytes;
        self.sample(block, word, whole);
        let header = 12 + block.data.len() - whole;
        let base_len = block.base.map_or(0, |base| BlockHeader::base_len(base.reference, block.data.len()));
        for shape in Shape::legal(word) {
            let based = shape.predictor.bases() > 0;
            if (based && block.base.is_none()) || !sensible(shape, word, level) {
                continue;
            }
            let repeats = [false; MAX_STREAMS];
            let mut candidate = Candidate { shape, estimated: 0, repeats };
            let Some(order_0) = self.estimate(&mut candidate, word, whole, false, bench)? else {
                continue;
            };
            candidate.estimated = order_0 + (header + if based { base_len } else { 0 }) as u64;
            self.ranking.push(candidate);
        }
        self.ranking.sort_by_key(|candidate| candidate.estimated);
        if level != Level::Fast || block.dtype.is_none() {
            self.look_for_repeats(word, whole, bench)?;
        }
        Ok(&self.ranking)
    }

    /// Tries zstd on the sample: for floats with the best candidate of each residual, since repeats that one filter keeps
    /// the others keep too, for other words with all.
    fn look_for_repeats(&mut self, word: Word, whole: usize, bench: &mut Workbench) -> Result<(), CodecError> {
        for index in 0..self.ranking.len() {
            let mut candidate = self.ranking[index];
            let before = &self.ranking[..index];
            if word.float.is_some() && before.iter().any(|other| other.shape.residual == candidate.shape.residual) {
                continue;
            }
            let plain = self.estimate(&mut candidate, word, whole, false, bench)?;
            let tried = self.estimate(&mut candidate, word, whole, true, bench)?;
            if let (Some(plain), Some(tried)) = (plain, tried) {
                candidate.estimated = candidate.estimated.saturating_sub(plain.saturating_sub(tried));
                self.ranking[index] = candidate;
            }
        }
        self.ranking.sort_by_key(|candidate| candidate.estimated);
        Ok(())
    }

    /// Gathers the sample of the first `whole` bytes and of the base.
    fn sample(&mut self, block: &Block<'_>, word: Word, whole: usize) {
        self.data.clear();
        self.base.clear();
        let mut take = |range: std::ops::Range<usize>| {
            self.data.extend_from_slice(&block.data[range.clone()]);
            if let Some(base) = block.base {
                self.base.extend_from_slice(&base.bytes[range]);
            }
        };
        if whole <= WHOLE {
            take(0..whole);
            return;
        }
        for run in 0..RUNS {
            let start = (whole - RUN) / (RUNS - 1) * run / word.bytes * word.bytes;
            take(start..start + RUN);
        }
    }

    /// The bytes that the streams of all `whole` bytes are expected to take, by the sample; `None` where the filter cannot
    /// take it. With `zstd`, tries that too, and marks the streams where it is better.
    fn estimate(
        &mut self,
        candidate: &mut Candidate,
        word: Word,
        whole: usize,
        zstd: bool,
        bench: &mut Workbench,
    ) -> Result<Option<u64>, CodecError> {
        let base = Some(&self.base[..]).filter(|_| candidate.shape.predictor.bases() > 0);
        let Workbench { workspace, streams, piece } = bench;
        let transform = Transform { isa: workspace.isa(), shape: candidate.shape, word };
        if transform.forward(&self.data, base, piece, streams).is_none() {
            return Ok(None);
        }
        let sampled = self.data.len().max(1);
        let scale = |len: usize| (len as u64 * whole as u64).div_ceil(sampled as u64);
        let mut total = 0;
        for (index, stream) in streams.iter().enumerate() {
            let counts = kernel::histogram(stream);
            let mut expected = entropy::estimate(&counts, stream.len()).bytes(scale(stream.len()) as usize);
            if zstd {
                self.scratch.clear();
                if let Some(len) = entropy::try_zstd(workspace, stream, &mut self.scratch)? {
                    let len = scale(len);
                    if len < expected - expected / 32 {
                        expected = len;
                        candidate.repeats[index] = true;
                    }
                }
            }
            total += expected;
        }
        Ok(Some(total))
    }
}
