//! Finding the parameters of a block, on a sample of its words. Whatever is found decodes; what is found well is small.

use std::ops::Range;

use super::cluster::{Group, Member, Scale, cluster, gather};
use super::low_bits::Use;
use super::params::{Context, MAX_CLASSES, Params};
use super::subject::{Input, Subject};
use super::{Rows, TILE};
use crate::Level;
use crate::chain::Word;
use crate::kernel::buckets::{BINS, ESCAPE, Key};
use crate::kernel::{self, Isa};

/// Fewer words than this have no classes: naming them costs more than they tell.
const LEAST_FOR_CLASSES: usize = 2048;
/// With so many words, a context is believed to be within a factor of two of what its words say.
const PRIOR: f32 = 24.0;
/// Words of a run that tell its class, each weighed by what it tells.
const ENOUGH: f32 = 128.0;
/// Runs whose scores differ less than by an octave (see [`spread`]) are hardly ever worth classes.
const LEAST_SPREAD: f32 = 4.0;
/// The same of words without a prediction, whose magnitudes differ by half an octave or more.
const LEAST_DIFFERENCE: f32 = 1.0;
/// So many rows say whether all of them differ.
const ROWS_LOOKED_AT: usize = 64;
/// Residuals of a smaller mean magnitude than this are of words that were predicted nearly to the bit.
const NEARLY_EXACT: u64 = 64;

/// Sampled words, and counts of their tokens; kept for the next block.
#[derive(Default)]
pub(crate) struct Sample {
    residuals: Vec<i64>,
    /// The bins in use; by exponent; by mantissa.
    bins: Vec<u8>,
    exponents: Vec<u8>,
    mantissas: Vec<u8>,
    classes: Vec<u8>,
    /// Of tokens, 256 for each group of contexts.
    counts: Vec<u32>,
    /// The context of each sampled word.
    places: Vec<u16>,
    /// How far words move, and those of each class, in the unit of [`ulp_of`].
    typical: f32,
    steps: [f32; MAX_CLASSES],
    /// What each run is classified by.
    scores: Vec<f32>,
}

/// Contexts, and what a block takes with them.
struct Fit {
    runs: Option<(Rows, usize)>,
    mantissa_classes: u8,
    contexts: Vec<Context>,
    /// The last bin that occurs.
    last_bin: usize,
    /// Sampled words of each bucket.
    buckets: Vec<u32>,
    /// In units of 2^-16 bit.
    cost: u64,
}

/// What was found for a block.
pub(super) struct Found {
    /// Its parameters; the number of rANS states is not yet among them.
    pub(super) params: Params,
    /// How many words each bucket is expected to have.
    pub(super) counts: Vec<usize>,
    /// What the block is expected to take, in units of 2^-16 bit.
    pub(super) cost: u64,
}

/// Rows long enough to be worth a class, and short enough to tell something.
fn runs(rows: Rows) -> Rows {
    match rows.len {
        0 => Rows { len: 256, phase: 0 },
        1..64 => {
            let len = rows.len * 64u32.div_ceil(rows.len);
            Rows { len, phase: rows.phase }
        }
        64..=2048 => rows,
        // The largest part of a row that all rows are whole numbers of.
        len => match (64..=2048).rev().find(|part| len.is_multiple_of(*part)) {
            Some(part) => Rows { len: part, phase: rows.phase % part },
            None => Rows { len: 512, phase: 0 },
        },
    }
}

/// The unit in the last place of words in a bin, in units of the value that bin 63 has; 1 for words that are no floats.
fn ulp_of(word: Word, bin: u32) -> f32 {
    if word.float.is_some() { f32::from_bits((bin + 64) << 23) } else { 1.0 }
}

/// How far words moved, in the unit of [`ulp_of`]: by the number of words of each bin, and the sum of the residuals'
/// magnitudes.
fn typical_step(word: Word, by_bin: &[(u32, f64)]) -> f32 {
    let least = f32::MIN_POSITIVE * 1024.0;
    let bins = (0..).zip(by_bin).map(|(bin, seen)| (ulp_of(word, bin), seen.0 as f32, seen.1 as f32));
    let words = bins.clone().map(|(_, count, _)| count).sum::<f32>().max(1.0);
    let mut typical = bins.clone().map(|(ulp, _, moved)| moved * ulp).sum::<f32>() / words;
    // Words that are coarse beside the step say little about it: those are weighed by the step as it is known so far.
    for _ in 0..4 {
        typical = typical.max(least);
        let (mut sum, mut weight) = (0.0, 0.0);
        for (ulp, count, moved) in bins.clone() {
            let w = (typical / ulp).min(1.0);
            sum += w * moved * ulp;
            weight += w * count;
        }
        typical = sum / weight.max(f32::MIN_POSITIVE);
    }
    typical.max(least)
}

/// A score's exponent and the highest bit of its mantissa: its magnitude in half octaves.
fn cell(score: f32) -> u32 {
    score.to_bits() >> 22
}

/// How much scores differ: the variance of their magnitudes in half octaves. Those far below the mean count as a sixteenth of it.
fn spread(scores: &[f32]) -> f32 {
    let runs = scores.len() as f32;
    let least = cell(scores.iter().sum::<f32>() / runs / 16.0);
    let cells = scores.iter().map(|score| cell(*score).max(least) as f32);
    let mean = cells.clone().sum::<f32>() / runs;
    cells.map(|cell| (cell - mean) * (cell - mean)).sum::<f32>() / runs
}

/// The mean magnitude of words without a prediction, in octaves: their residuals are the bits of magnitudes, which are logarithms.
fn mean_magnitude(subject: &Subject<'_>, span: Range<usize>) -> f32 {
    let (mut residuals, mut wide) = ([0; 8 * TILE], [0; TILE]);
    let shift = subject.low_bits.unwrap_or(0);
    let len = span.len() as f32;
    let mut sum = 0.0;
    let end = span.end;
    for start in span.step_by(TILE) {
        let part = start..(start + TILE).min(end);
        let wide = &mut wide[..part.len()];
        kernel::widen(subject.word.bytes, subject.residuals(part, &mut residuals), wide);
        sum += wide.iter().map(|residual| (residual >> shift) as f64).sum::<f64>();
    }
    // Where the exponent is shorter than a byte, some of the mantissa is in it too.
    let octaves = subject.word.float.map_or(1.0, |float| 2f32.powi(float.exponent.min(8) as i32 - 8));
    sum as f32 / len * octaves
}

/// How much magnitudes in octaves differ: their variance, in half octaves.
fn differ(magnitudes: &[f32]) -> f32 {
    let runs = magnitudes.len() as f32;
    let mean = magnitudes.iter().sum::<f32>() / runs;
    4.0 * magnitudes.iter().map(|magnitude| (magnitude - mean) * (magnitude - mean)).sum::<f32>() / runs
}

/// Whether the rows of a block of floats differ so much that classes tell more about words without a prediction than they cost.
/// Looks at some of the rows.
pub(crate) fn rows_differ(isa: Isa, input: Input<'_>) -> bool {
    let Some(rows) = input.rows.filter(|_| input.word.float.is_some()) else { return false };
    let subject = Subject::new(isa, Level::Default, Input { prediction: None, ..input }, 0);
    let spans: Vec<_> = runs(rows).spans(0..subject.given()).collect();
    let step = spans.len().div_ceil(ROWS_LOOKED_AT);
    let spans = spans.into_iter().step_by(step.max(1)).map(|(_, span)| span.start..span.end.min(span.start + 256));
    let magnitudes: Vec<f32> = spans.map(|span| mean_magnitude(&subject, span)).collect();
    magnitudes.len() >= ROWS_LOOKED_AT / 2 && differ(&magnitudes) >= LEAST_DIFFERENCE
}

/// A class for each score (of at least 0), by its magnitude in half octaves: at most [`MAX_CLASSES`], of which those lie
/// together that are close, as a few far ones are as telling as many near ones.
fn group_scores(scores: &[f32]) -> impl Iterator<Item = u8> {
    let mut cells: Vec<u32> = scores.iter().copied().map(cell).collect();
    cells.sort_unstable();
    // First cell, number of scores, sum of cells.
    let mut groups: Vec<(u32, u64, u64)> = Vec::new();
    for cell in cells {
        match groups.last_mut() {
            Some(last) if last.0 == cell => *last = (cell, last.1 + 1, last.2 + u64::from(cell)),
            _ => groups.push((cell, 1, u64::from(cell))),
        }
    }
    while groups.len() > MAX_CLASSES {
        // By how much the squares of distances to the groups' means grow.
        let growth = |index: usize| {
            let ((_, a, sum_a), (_, b, sum_b)) = (groups[index], groups[index + 1]);
            let distance = sum_b as f32 / b as f32 - sum_a as f32 / a as f32;
            (a * b) as f32 / (a + b) as f32 * distance * distance
        };
        let least = (0..groups.len() - 1).min_by(|a, b| growth(*a).total_cmp(&growth(*b))).unwrap_or(0);
        let (_, count, sum) = groups.remove(least + 1);
        groups[least].1 += count;
        groups[least].2 += sum;
    }
    let firsts: Vec<u32> = groups.iter().skip(1).map(|group| group.0).collect();
    let class = move |score: &f32| firsts.iter().filter(|first| cell(*score) >= **first).count() as u8;
    scores.iter().map(class).collect::<Vec<u8>>().into_iter()
}

/// Whether the residuals of a class grow as the unit in the last place shrinks from bin to bin, as those of steps do: what is
/// left of words that were predicted nearly to the bit is as large in all bins.
fn follows_ulp(by_bin: &[(u32, f64)]) -> bool {
    let known = (0i64..).zip(by_bin).filter(|(_, seen)| seen.0 >= 8);
    let mut logs =
        known.map(|(bin, (count, moved))| (bin, i64::from(((moved / f64::from(*count)) as u64).max(1).ilog2())));
    let first = logs.next();
    match (first, logs.last()) {
        (Some((low, log_low)), Some((high, log_high))) => 2 * (log_low - log_high) >= high - low || log_low == 0,
        _ => true,
    }
}

/// The mean magnitude of residuals.
fn mean_residual(by_bin: &[(u32, f64)]) -> f32 {
    let (count, moved) = by_bin.iter().fold((0u32, 0.0), |(count, moved), seen| (count + seen.0, moved + seen.1));
    (moved / f64::from(count.max(1))) as f32
}

/// Finds parameters. `classes` are those of the runs, if there are any.
pub(super) fn fit(sample: &mut Sample, subject: Subject<'_>, classes: &mut Vec<u8>) -> Found {
    sample.take(&subject);
    let bins = if subject.is_predicted() { BINS } else { 1 };
    let seen = sample.seen_by_exponent(1, bins);
    sample.typical = typical_step(subject.word, &seen);
    sample.steps = [sample.typical; MAX_CLASSES];
    let mut best = sample.fit(&subject, None, 1, bins, seen);
    classes.clear();
    let rows = subject.rows.filter(|_| subject.level != Level::Fast && subject.given() >= LEAST_FOR_CLASSES);
    let mut tried = Vec::new();
    for rows in rows.into_iter().flat_map(|rows| candidate_runs(subject.level, rows)) {
        let known = sample.classify(&subject, rows, &mut tried);
        if known < 2 {
            continue;
        }
        sample.name_classes(&subject, rows, &tried);
        let seen = sample.seen_by_exponent(known, bins);
        let mut fit = sample.fit(&subject, Some((rows, &tried)), known, bins, seen);
        let mut counts = [0; 256];
        tried.iter().for_each(|class| counts[usize::from(*class)] += 1);
        fit.cost += super::segment::cost(&counts, tried.len()) + (64 << 16);
        if fit.cost < best.cost {
            best = Fit { runs: Some((rows, known)), ..fit };
            classes.clone_from(&tried);
        }
    }
    // Bins beyond the last that occurs need no telling.
    let Fit { runs, mantissa_classes, buckets, cost, last_bin, .. } = best;
    let used = 1 + last_bin;
    let contexts = best.contexts.chunks(bins).flat_map(|contexts| contexts[..used].to_vec()).collect();
    let (first_key, origin) = (subject.first_key, subject.origin);
    let sampled = sample.residuals.len().max(1) as u64;
    let counts = buckets.iter().map(|count| (u64::from(*count) * subject.given() as u64 / sampled) as usize).collect();
    let buckets = buckets.len();
    let params = Params { lanes: 1, first_key, origin, bins: used, mantissa_classes, runs, buckets, contexts };
    Found { params, counts, cost }
}

/// The divisions into runs that are tried.
fn candidate_runs(level: Level, rows: Rows) -> impl Iterator<Item = Rows> {
    let usual = runs(rows);
    let parts = [1, 2, 4].into_iter().filter(move |parts| usual.len.is_multiple_of(*parts) && usual.len / parts >= 64);
    let finer = parts.map(move |parts| Rows { len: usual.len / parts, phase: usual.phase % (usual.len / parts) });
    let coarser = Rows { len: 2 * usual.len, phase: usual.phase };
    finer.chain([coarser]).take(if level == Level::Max { 4 } else { 1 })
}

/// Whether words that were predicted nearly to the bit may tell more by their mantissas.
fn may_prefer_mantissas(subject: &Subject<'_>) -> bool {
    subject.word.float.is_some() && subject.word.bytes >= 4
}

impl Sample {
    fn take(&mut self, subject: &Subject<'_>) {
        self.residuals.clear();
        self.exponents.clear();
        self.mantissas.clear();
        let mut residuals = [0; 8 * TILE];
        for part in subject.sampled() {
            let start = self.exponents.len();
            let end = start + part.len();
            self.residuals.resize(end, 0);
            kernel::widen(
                subject.word.bytes,
                subject.residuals(part.clone(), &mut residuals),
                &mut self.residuals[start..],
            );
            self.exponents.resize(end, 0);
            subject.bins(part.clone(), &mut self.exponents[start..]);
            if let Some(prediction) = subject.predictions(part).filter(|_| may_prefer_mantissas(subject)) {
                self.mantissas.resize(end, 0);
                kernel::bins(subject.isa, subject.word, Key::Mantissa, prediction, &mut self.mantissas[start..]);
            }
        }
        self.classes.clear();
        self.classes.resize(self.residuals.len(), 0);
    }

    /// Puts the sampled words of those classes into bins by mantissa where that tells more about them, and the others by
    /// exponent. Decay that a weight goes through step by step is a function of its mantissa, to the bit.
    fn prefer_mantissas(&mut self, classes: usize) -> u8 {
        if self.mantissas.is_empty() {
            return 0;
        }
        let mut sums = [(0u64, 0u64); MAX_CLASSES];
        for (residual, class) in self.residuals.iter().zip(&self.classes) {
            let (count, moved) = &mut sums[usize::from(*class) % MAX_CLASSES];
            *count += 1;
            // Far outliers must not overflow the sum.
            *moved += residual.unsigned_abs().min(1 << 40);
        }
        let mut preferring = 0;
        for (class, (count, moved)) in (0u8..).zip(sums).take(classes) {
            // Others were hit by something else.
            if count < 512 || moved >= count * NEARLY_EXACT {
                continue;
            }
            let words = || self.residuals.iter().zip(&self.classes).enumerate().filter(|(_, (_, c))| **c == class);
            let cost = |bins: &[u8]| {
                let mut counts = vec![[0u32; 256]; BINS];
                for (index, (residual, _)) in words() {
                    let token = ((residual << 1 ^ residual >> 63) as u64).min(255) as usize;
                    counts[usize::from(bins[index]) % BINS][token] += 1;
                }
                counts
                    .iter()
                    .map(|counts| super::segment::cost(counts, counts.iter().sum::<u32>() as usize))
                    .sum::<u64>()
            };
            let (by_exponent, by_mantissa) = (cost(&self.exponents), cost(&self.mantissas));
            if by_mantissa < by_exponent - by_exponent / 8 {
                preferring |= 1 << class;
            }
        }
        if preferring != 0 {
            let bins = self.bins.iter_mut().zip(&self.mantissas).zip(&self.classes);
            for ((bin, mantissa), _) in bins.filter(|(_, class)| preferring >> **class & 1 == 1) {
                *bin = *mantissa;
            }
        }
        preferring
    }

    /// The contexts for the sample with its classes, which are those of `runs` where there are several.
    fn fit(
        &mut self,
        subject: &Subject<'_>,
        runs: Option<(Rows, &[u8])>,
        classes: usize,
        bins: usize,
        seen: Vec<(u32, f64)>,
    ) -> Fit {
        let contexts = classes * bins;
        let mantissa_classes = self.prefer_mantissas(classes);
        let seen = if mantissa_classes == 0 { seen } else { self.seen(classes, bins) };
        let used = seen.iter().enumerate().filter(|(_, seen)| seen.0 > 0);
        let last_bin = used.map(|(index, _)| index % bins).max().unwrap_or(0);
        let most = Params::most_low_bits(subject.word) as u8;
        // What is left of a residual then has a mean of 8 to 16 either way, in which finer steps hide nothing. Short words seldom
        // come that far: twice as much is let through for fewer of them to need low bits.
        let kept_bits = if subject.word.bytes <= 2 { 4 } else { 3 };
        let mut found = vec![Context::default(); contexts];
        let mut means = vec![0f32; contexts];
        for (((found, seen), means), step) in
            found.chunks_mut(bins).zip(seen.chunks(bins)).zip(means.chunks_mut(bins)).zip(self.steps)
        {
            let step = Some(step).filter(|_| follows_ulp(seen));
            let overall = mean_residual(seen);
            for (((context, (count, moved)), mean), bin) in found.iter_mut().zip(seen).zip(means).zip(0..) {
                // A few words say less about a context than all of its class do.
                *mean = step.map_or(overall, |step| step / ulp_of(subject.word, bin));
                if *count > 0 {
                    let own = (*moved as f32 + 0.5) / *count as f32;
                    let trust = 1.0 + PRIOR / *count as f32;
                    *mean = mean.clamp(own / trust, own * trust);
                }
                let low_bits = (*mean as u64).checked_ilog2().map_or(0, |top| top.saturating_sub(kept_bits) as u8);
                context.low_bits = subject.low_bits.unwrap_or(low_bits).min(most);
            }
        }
        if subject.is_predicted() {
            self.drop_low_bits(subject, runs, bins, &seen, &mut found);
        }
        // Folding doubles it.
        let key = |mean: f32, context: &Context| (131_072.0 * mean / (1u64 << context.low_bits) as f32) as u64;
        let keys: Vec<u64> = means.iter().zip(&found).map(|(mean, found)| key(*mean, found)).collect();
        let members = found.iter().zip(&keys).zip(&seen).zip(0u16..).filter(|((_, seen), _)| seen.0 > 0);
        let members = members.map(|(((found, key), (count, moved)), context)| {
            // So many tokens tell their mean.
            let own = || (131_072.0 * moved / f64::from(*count) / (1u64 << found.low_bits) as f64) as u64;
            Member { context, key: if *count >= 16 { own() } else { *key }, total: *count }
        });
        let mut groups = gather(members.collect(), subject.level);
        self.counts.clear();
        self.counts.resize(256 * groups.len(), 0);
        let counts = &mut self.counts[..];
        let mut places = vec![(0u16, 0u8); contexts];
        for (index, group) in (0u16..).zip(&groups) {
            for member in &group.members {
                places[usize::from(*member)] = (index, found[usize::from(*member)].low_bits);
            }
        }
        for (residual, place) in self.residuals.iter().zip(&self.places) {
            let (group, low_bits) = places[usize::from(*place)];
            let kept = residual >> low_bits;
            let token = (kept << 1 ^ kept >> 63) as u64;
            counts[256 * usize::from(group) + token.min(255) as usize] += 1;
        }
        for (group, counts) in groups.iter_mut().zip(counts.as_chunks().0) {
            group.count(counts);
        }
        let scale = Scale { words: subject.meant as u64, sampled: self.residuals.len() as u64 };
        let (groups, mut cost) = cluster(groups, scale, subject.level);
        for (bucket, group) in (0..).zip(&groups) {
            for member in &group.members {
                found[usize::from(*member)].bucket = bucket;
            }
        }
        let low: u64 = found.iter().zip(&seen).map(|(c, seen)| u64::from(c.low_bits) * u64::from(seen.0)).sum();
        // What no token says is stored as a whole word.
        let escaped =
            self.counts.iter().skip(usize::from(ESCAPE)).step_by(256).map(|count| u64::from(*count)).sum::<u64>();
        cost += ((low + 8 * subject.word.bytes as u64 * escaped) << 16) / scale.sampled.max(1) * scale.words;
        // Contexts that the sample has nothing of go to the bucket whose tokens are most like theirs.
        let means: Vec<u64> = groups.iter().map(Group::mean).collect();
        let unseen = found.iter_mut().zip(&keys).zip(&seen).filter(|(_, seen)| seen.0 == 0);
        for ((context, key), _) in unseen {
            let nearest = (0u8..).zip(&means).min_by_key(|(_, mean)| mean.abs_diff(*key));
            context.bucket = nearest.map_or(0, |(bucket, _)| bucket);
        }
        // A bit or two tell a context that is like its neighbour.
        cost += (2 * contexts.min(classes * (last_bin + 1)) as u64) << 16;
        let mut buckets: Vec<u32> = groups.iter().map(|group| group.total).collect();
        buckets.resize(buckets.len().max(1), 0);
        Fit { runs: None, mantissa_classes, contexts: found, last_bin, buckets, cost }
    }

    /// Leaves low bits out where few words need them: all words of a context store them, those too that did not move.
    fn drop_low_bits(
        &self,
        subject: &Subject<'_>,
        runs: Option<(Rows, &[u8])>,
        bins: usize,
        seen: &[(u32, f64)],
        contexts: &mut [Context],
    ) {
        if contexts.iter().all(|context| context.low_bits == 0) {
            return;
        }
        let mut uses = vec![Use::default(); contexts.len()];
        for (residual, place) in self.residuals.iter().zip(&self.places) {
            let low_bits = contexts[usize::from(*place)].low_bits;
            if low_bits > 0 {
                uses[usize::from(*place)].count(low_bits, *residual);
            }
        }
        let uses = uses.chunks(bins).zip(seen.chunks(bins));
        for (class, (contexts, (uses, seen))) in (0..).zip(contexts.chunks_mut(bins).zip(uses)) {
            // Of a class that the sample has nothing of, a run tells.
            let is_sampled = seen.iter().any(|seen| seen.0 > 0);
            let run = runs.filter(|_| !is_sampled).map(|runs| Use::of_run(subject, runs, class, contexts));
            for (context, found) in contexts.iter_mut().zip(uses) {
                if !run.as_ref().unwrap_or(found).is_worth(subject.word) {
                    context.low_bits = 0;
                }
            }
        }
    }

    /// [`Self::seen`], with all bins by exponent.
    fn seen_by_exponent(&mut self, classes: usize, bins: usize) -> Vec<(u32, f64)> {
        self.bins.clone_from(&self.exponents);
        self.seen(classes, bins)
    }

    /// How many sampled words each context has, and the sum of their residuals' magnitudes.
    fn seen(&mut self, classes: usize, bins: usize) -> Vec<(u32, f64)> {
        self.places.clear();
        self.places.resize(self.bins.len(), 0);
        let pairs = self.bins.iter().zip(&self.classes);
        for (place, (bin, class)) in self.places.iter_mut().zip(pairs) {
            *place = u16::from(*class) * bins as u16 + u16::from(*bin);
        }
        // In four parts, so that words of one context do not wait for one another.
        let contexts = classes * bins;
        let mut parts = vec![(0u32, 0f64); 4 * contexts];
        for (index, (residual, place)) in self.residuals.iter().zip(&self.places).enumerate() {
            let seen = &mut parts[index % 4 * contexts + usize::from(*place)];
            seen.0 += 1;
            seen.1 += residual.unsigned_abs() as f64;
        }
        let (seen, others) = parts.split_at_mut(contexts);
        for other in others.chunks(contexts) {
            seen.iter_mut().zip(other).for_each(|(seen, other)| *seen = (seen.0 + other.0, seen.1 + other.1));
        }
        parts.truncate(contexts);
        parts
    }

    /// Gives each run a class by how far its words move, and returns the number of classes.
    fn classify(&mut self, subject: &Subject<'_>, rows: Rows, classes: &mut Vec<u8>) -> usize {
        let bytes = subject.word.bytes;
        self.scores.clear();
        classes.clear();
        let mut residuals = [0; 8 * TILE];
        let parts = |span: Range<usize>, step: usize| {
            let end = span.end;
            span.step_by(step).map(move |start| start..(start + step).min(end))
        };
        let spans = rows.spans(0..subject.given());
        if subject.is_predicted() {
            let typical = self.typical;
            let (step, enough) = if subject.level == Level::Max { (TILE, f32::MAX) } else { (192, ENOUGH) };
            let mut bins = [0; TILE];
            let mut score = |span: Range<usize>| {
                let (mut moved, mut weight) = (0.0, f32::MIN_POSITIVE);
                for part in parts(span, step) {
                    let bins = subject.bins(part.clone(), &mut bins);
                    let residuals = subject.residuals(part, &mut residuals);
                    let (part_moved, part_weight) = kernel::movement(subject.isa, bytes, typical, bins, residuals);
                    moved += part_moved;
                    weight += part_weight;
                    if weight > enough {
                        break;
                    }
                }
                moved / weight / typical
            };
            // Some runs say whether it is worth looking at all: of 64, the variance is a fifth off or so. Heads and the like come at
            // even distances.
            let every = (rows.count(subject.given()) / ROWS_LOOKED_AT) | 1;
            if subject.level != Level::Max && every > 1 {
                let some = rows.spans(0..subject.given()).step_by(every);
                let some: Vec<f32> = some.map(|(_, span)| score(span)).collect();
                if spread(&some) < LEAST_SPREAD * 0.75 {
                    return 1;
                }
            }
            self.scores.extend(spans.map(|(_, span)| score(span)));
            if subject.level != Level::Max && spread(&self.scores) < LEAST_SPREAD {
                return 1;
            }
            classes.extend(group_scores(&self.scores));
        } else {
            self.scores.extend(spans.map(|(_, span)| mean_magnitude(subject, span)));
            if subject.level != Level::Max && differ(&self.scores) < LEAST_DIFFERENCE {
                return 1;
            }
            let mean = self.scores.iter().sum::<f32>() / self.scores.len() as f32;
            classes.extend(self.scores.iter().map(|score| (2.0 * (score - mean) + 4.0).clamp(0.0, 7.0) as u8));
        }
        let mut counts = [0u32; MAX_CLASSES];
        let mut sums = [0f32; MAX_CLASSES];
        for (class, score) in classes.iter().zip(&self.scores) {
            counts[usize::from(*class) % MAX_CLASSES] += 1;
            sums[usize::from(*class) % MAX_CLASSES] += score;
        }
        let mut known = 0;
        let names = counts.map(|count| {
            known += u8::from(count > 0);
            known.saturating_sub(1)
        });
        let typical = self.typical;
        for ((sum, count), name) in sums.iter().zip(counts).zip(names).filter(|((_, count), _)| *count > 0) {
            self.steps[usize::from(name)] = typical * sum / count as f32;
        }
        classes.iter_mut().for_each(|class| *class = names[usize::from(*class) % MAX_CLASSES]);
        usize::from(known)
    }

    /// Puts the classes of the sampled words in place.
    fn name_classes(&mut self, subject: &Subject<'_>, rows: Rows, classes: &[u8]) {
        let mut at = 0;
        for part in subject.sampled() {
            for (row, span) in rows.spans(part) {
                let class = classes.get(row).copied().unwrap_or(0);
                self.classes[at..at + span.len()].fill(class);
                at += span.len();
            }
        }
    }
}
