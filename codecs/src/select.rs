//! Choosing a chain: filters run on a sample of the block, and the entropies of their streams are the estimates. The context
//! coder is ranked by them, but in short blocks.

use crate::block::BlockHeader;
use crate::chain::{Coding, MAX_STREAMS, Shape, Word};
use crate::context;
use crate::decode::{parents, parents_of};
use crate::entropy;
use crate::kernel::Isa;
use crate::predict::{Factors, Known};
use crate::transform::{Transform, Workbench};
use crate::{Block, CodecError, Level, filter, kernel, predict, residual};

/// Blocks up to this length, in bytes, are their own sample.
const WHOLE: usize = 12 << 10;
/// Longer ones are sampled by runs of this many bytes, spread evenly: long enough for repeats to show.
const RUN: usize = 2 << 10;
/// One run for this many bytes of the block,
const SHARE: usize = 24 * RUN;
/// but at least and at most so many.
const RUNS: (usize, usize) = (5, 8);
/// And of floats with a base, of which the sample only says that it helps.
const FEW_RUNS: usize = 4;

/// Where a block is expected to take less than this part of its bytes, few of its words moved.
const FEW_MOVED: u64 = 96;

/// Parameters of the context coder weigh on fewer words than this, so that simpler forms may be smaller.
const FEW_WORDS: usize = 8 << 10;

/// Candidates this close, in units of a 64th, are encoded both ways.
const TIE: u64 = 1;
/// And the context coder, where it comes this close.
const CONTEXT_TIE: u64 = 8;
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
    /// What the predictor works with.
    pub(crate) factors: Factors,
}

impl Candidate {
    /// Whether it is worth encoding after `tried` others, of which `best` was expected to be the smallest.
    pub(crate) fn rivals(&self, best: &Self, level: Level, tried: usize) -> bool {
        // What rows tell the context coder is not in the estimate.
        let tie = if self.shape.coding == Coding::Context { CONTEXT_TIE } else { TIE };
        let close = self.estimated <= best.estimated + best.estimated * tie / 64;
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
    older: Vec<u8>,
    scratch: Vec<u8>,
    ranking: Vec<Candidate>,
}

/// The factors for a block of which the first `whole` bytes are words; `None` where the predictor has none for it.
pub(crate) fn find_factors(shape: Shape, isa: Isa, block: &Block<'_>, whole: usize) -> Option<Factors> {
    let (words, rows) = (&block.data[..whole], block.rows);
    if shape.predictor.factors() == 0 {
        return Some(Factors::default());
    }
    let (bases, parents) = parents_of(block.base.map(|base| base.bytes), block.data.len(), whole);
    let bases = &bases[..parents.min(shape.predictor.bases())];
    shape.predictor.find(Known { isa, word: Word::of(block.dtype), words, bases, rows, dear: false })
}

/// Whether a shape is worth estimating for a block of `words` such words. Those left out are never, or hardly ever, the
/// smallest.
fn sensible(shape: Shape, word: Word, words: usize, level: Level) -> bool {
    match shape.coding {
        Coding::Mixing => return level == Level::Max,
        // Layers are for who asks for them; the others are tried beside what is found best.
        Coding::Recoded(_) => return false,
        _ => {}
    }
    if shape.predictor.factors() > 0 && level != Level::Max {
        // What decay tells is less than half a unit in the last place of a shorter word.
        let tells = word.bytes >= 4 || shape.predictor.bases() > 1;
        return level == Level::Default && shape.coding == Coding::Context && tells && words >= FEW_WORDS;
    }
    if shape.coding == Coding::Context {
        return true;
    }
    let (residual, filter) = (shape.residual.id(), shape.coding.id());
    let usual = match (word.bytes, residual) {
        (1, _) => filter == filter::WHOLE,
        (2, residual::ULP) => filter == filter::BYTE_PLANES || (filter == filter::ESCAPE && words < FEW_WORDS),
        (_, residual::ULP) => filter == filter::BYTE_PLANES,
        _ if word.sign_magnitude() => filter == filter::FLOAT_SPLIT,
        _ => filter == filter::BYTE_PLANES || filter == filter::WHOLE,
    };
    let sparse = filter == filter::SPARSE && (word.float.is_none() || words < FEW_WORDS);
    match level {
        Level::Fast => residual != residual::XOR && usual,
        Level::Default => (usual && (residual != residual::XOR || word.float.is_none())) || sparse,
        Level::Max => usual || filter == filter::SPARSE,
    }
}

/// Whether a block would be predicted from two versions, and where they are `dear`, save so much by it.
pub(crate) fn wants_two(isa: Isa, level: Level, block: &Block<'_>, bases: [&[u8]; 2], dear: bool) -> bool {
    let word = Word::of(block.dtype);
    let count = block.data.len() / word.bytes;
    let mut shapes = Shape::legal(word).filter(|shape| shape.predictor.bases() == bases.len());
    let Some(shape) = shapes.find(|shape| sensible(*shape, word, count, level)) else { return false };
    let whole = count * word.bytes;
    let [Some(newer), Some(older)] = bases.map(|base| base.get(..whole)) else { return false };
    let (words, rows) = (&block.data[..whole], block.rows);
    shape.predictor.find(Known { isa, word, words, bases: &[newer, older], rows, dear }).is_some()
}

/// Whether `stream` has repeats that matter to an order-0 coder: whether what it would spend on bytes that start 16 bytes
/// seen before is more than a 40th of all it spends.
pub(crate) fn has_repeats(stream: &[u8]) -> bool {
    /// Groups of 4 bytes that have to match.
    const MATCH: usize = 4;
    let costs = entropy::byte_costs(&kernel::histogram(stream), stream.len());
    let mut last = [0u16; 1 << 10];
    let (groups, _) = stream.as_chunks::<4>();
    let groups = &groups[..groups.len().min(usize::from(u16::MAX))];
    let (mut spent, mut repeated) = (0u64, 0u64);
    for (index, window) in groups.windows(MATCH).enumerate() {
        let mix = |key: u64, group: &[u8; 4]| {
            (key ^ u64::from(u32::from_le_bytes(*group))).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
        };
        let slot = window.iter().fold(0, mix) as usize % last.len();
        let before = usize::from(last[slot]);
        last[slot] = index as u16;
        let cost: u64 = window[0].iter().map(|byte| u64::from(costs[usize::from(*byte)])).sum();
        spent += cost;
        if before < index && groups[before..before + MATCH] == *window {
            repeated += cost;
        }
    }
    repeated * 40 > spent
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
        let len = block.data.len();
        // What is estimated by itself leans on the version before alone.
        let base_len = block.base.map_or(0, |base| BlockHeader::reference_len(&base, len));
        let words = whole / word.bytes;
        let unsigned = block.base.and_then(|base| base.derived).is_some_and(|derived| derived.is_unsigned());
        let mut alone = None;
        for shape in Shape::legal(word) {
            let based = shape.predictor.bases() > 0;
            // What tells magnitudes only is for the coders that see it.
            let is_turn = shape.residual.id() == residual::TURN;
            let suits = if unsigned && based {
                shape.coding == Coding::Context && shape.predictor.factors() == 0
            } else {
                !is_turn && sensible(shape, word, words, level)
            };
            if shape.predictor.bases() > parents(block) || !suits {
                continue;
            }
            let factors = match find_factors(shape, bench.workspace.isa(), block, whole) {
                Some(factors) => factors,
                None => continue,
            };
            let mut candidate = Candidate { shape, estimated: 0, repeats: [false; MAX_STREAMS], factors };
            if shape.coding == Coding::Mixing
                || (shape.coding == Coding::Context
                    && level != Level::Max
                    && words >= FEW_WORDS
                    && !(unsigned && based))
            {
                if based {
                    self.guess(candidate);
                } else {
                    alone = Some(candidate);
                }
                continue;
            }
            let zstd = block.dtype.is_none() || (level != Level::Fast && word.float.is_none());
            let Some(streams) = self.estimate(&mut candidate, word, whole, zstd, bench)? else { continue };
            candidate.estimated = streams + (header + if based { base_len } else { 0 }) as u64;
            self.ranking.push(candidate);
        }
        if let Some(candidate) = alone {
            let words = &block.data[..whole];
            let input = context::Input { word, words, prediction: None, turned: false, rows: block.rows };
            self.guess_alone(candidate, input, bench.workspace.isa());
        }
        self.ranking.sort_by_key(|candidate| candidate.estimated);
        // Floats seldom repeat: zstd is tried with the best filter only, alone and with the base.
        if level != Level::Fast && word.float.is_some() {
            for based in [false, true] {
                let suits = |candidate: &Candidate| {
                    (candidate.shape.predictor.bases() > 0) == based && candidate.shape.coding.is_filter()
                };
                let best = self.ranking.iter().position(suits);
                let Some(index) = best else { continue };
                let mut candidate = self.ranking[index];
                // Repeats that make up for more are found where the block is not a float's.
                if candidate.estimated > self.ranking[0].estimated * 3 / 2 {
                    continue;
                }
                if let Some(streams) = self.estimate(&mut candidate, word, whole, true, bench)? {
                    candidate.estimated = streams + (header + if based { base_len } else { 0 }) as u64;
                    // What repeats in residuals are mostly zeros, of which the context coder makes as much.
                    let ranked = self.ranking[index].estimated;
                    if !based || words < FEW_WORDS || candidate.estimated < ranked - ranked / 4 {
                        self.ranking[index] = candidate;
                    }
                }
            }
        }
        if !unsigned {
            self.put_down_few(block, word, level);
        }
        self.ranking.sort_by_key(|candidate| candidate.estimated);
        Ok(&self.ranking)
    }

    /// Where few words of a float moved, has them put down one by one as well, as an equal of the context coder: what so small a sample
    /// has of them says little about how the two compare.
    fn put_down_few(&mut self, block: &Block<'_>, word: Word, level: Level) {
        let whole = block.data.len() / word.bytes * word.bytes;
        let is_left_out = word.float.is_some() && whole / word.bytes >= FEW_WORDS;
        let few_moved = self.least(true).is_some_and(|least| least < whole as u64 / FEW_MOVED);
        let coding = Coding::Filtered(&filter::Gaps);
        let shape = Shape { predictor: &predict::Parent, residual: &residual::Ulp, coding };
        if !is_left_out || !few_moved || level != Level::Default || shape.check(word).is_err() {
            return;
        }
        let rivals = self.ranking.iter().filter(|other| other.shape.coding == Coding::Context);
        let Some(estimated) = rivals.map(|rival| rival.estimated).min() else { return };
        let repeats = [false; MAX_STREAMS];
        self.ranking.push(Candidate { shape, estimated, repeats, factors: Factors::default() });
    }

    /// Ranks the context coder by the best that others make of a base: looking for its parameters costs about as much as encoding.
    fn guess(&mut self, candidate: Candidate) {
        let Some(least) = self.least(true) else { return };
        // It is hardly ever larger, and smaller yet with a better prediction.
        let share = match (candidate.shape.predictor.bases(), candidate.shape.predictor.factors()) {
            (_, 0) => 16,
            (1, _) => 12,
            _ => 10,
        };
        self.ranking.push(Candidate { estimated: least - least / share, ..candidate });
    }

    /// The same without a prediction: it is only worth its time where there is what filters do not see, which is rows that differ
    /// and exponents of more than a byte.
    fn guess_alone(&mut self, candidate: Candidate, input: context::Input<'_>, isa: Isa) {
        let Some(least) = self.least(false) else { return };
        let is_least = self.ranking.iter().all(|candidate| candidate.estimated >= least);
        let long = input.word.float.is_some_and(|float| float.exponent > 8);
        let estimated = if is_least && (long || context::rows_differ(isa, input)) {
            least - least / 128
        } else if input.word.bytes == 1 {
            // A byte by itself is an order-0 symbol anyway.
            least + least / 4
        } else {
            least + least / 64
        };
        self.ranking.push(Candidate { estimated, ..candidate });
    }

    /// The least that is expected with or without a base.
    fn least(&self, based: bool) -> Option<u64> {
        let those = self.ranking.iter().filter(|other| (other.shape.predictor.bases() > 0) == based);
        those.map(|other| other.estimated).min()
    }

    /// Gathers the sample of the first `whole` bytes and of the base.
    fn sample(&mut self, block: &Block<'_>, word: Word, whole: usize) {
        self.data.clear();
        self.base.clear();
        self.older.clear();
        let mut take = |range: std::ops::Range<usize>| {
            self.data.extend_from_slice(&block.data[range.clone()]);
            if let Some(base) = block.base {
                self.base.extend_from_slice(&base.bytes[range.clone()]);
                if let Some(older) = base.bytes.get(block.data.len()..) {
                    self.older.extend_from_slice(older.get(range).unwrap_or_default());
                }
            }
        };
        if whole <= WHOLE {
            take(0..whole);
            return;
        }
        let runs = match block.base {
            Some(_) if word.float.is_some() => FEW_RUNS,
            _ => (whole / SHARE).clamp(RUNS.0, RUNS.1),
        };
        for run in 0..runs {
            let start = (whole - RUN) / (runs - 1) * run / word.bytes * word.bytes;
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
        let Workbench { workspace, streams, piece, context, predicted } = bench;
        let Some(transform) = Transform::of(workspace.isa(), candidate.shape, word) else {
            let (isa, level, words) = (workspace.isa(), workspace.level(), &self.data[..]);
            let bases = [base.unwrap_or_default(), &self.older];
            let bases = &bases[..candidate.shape.predictor.bases()];
            let prediction = candidate.shape.predictor.predict(isa, word, &candidate.factors, bases, predicted);
            let turned = candidate.shape.residual.id() == residual::TURN;
            let input = context::Input { word, words, prediction, turned, rows: None };
            return Ok(Some(context::estimate(context, isa, level, input, whole / word.bytes)));
        };
        if transform.forward(&self.data, base, piece, streams).is_none() {
            return Ok(None);
        }
        let sampled = self.data.len().max(1);
        let scale = |len: usize| (len as u64 * whole as u64).div_ceil(sampled as u64);
        let mut total = 0;
        for (index, stream) in streams.iter().enumerate() {
            let counts = kernel::histogram(stream);
            let mut expected = entropy::estimate(&counts, stream.len()).bytes(scale(stream.len()) as usize);
            if zstd && (word.float.is_none() || has_repeats(stream)) {
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
