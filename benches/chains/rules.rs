//! Rules that say what each version of a series leans on.

use std::time::Duration;

use shard_codecs::CodecError;

use super::sample::{Cost, Sample};

/// A version as it was stored: what it leans on, and how deep it is.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    base: Option<usize>,
    depth: usize,
}

/// Gives the base of the next version.
pub(crate) type Rule = fn(&mut Sample, &[Stored], usize) -> Result<Option<usize>, CodecError>;

pub(crate) const RULES: &[(&str, Rule)] = &[
    ("chain, then the keyframe", chain),
    ("chain, then a new keyframe", fresh),
    ("skip, lowest bit cleared", skip),
    ("chain, then the cheapest a version", cheapest),
];

pub(crate) struct Outcome {
    pub(crate) bytes: u64,
    pub(crate) depth: usize,
    /// Restores in multiples of the first version's.
    pub(crate) slowest: f64,
    pub(crate) mean: f64,
}

/// Stores the series by a rule.
pub(crate) fn simulate(sample: &mut Sample, rule: Rule, bound: usize) -> Result<Outcome, CodecError> {
    let mut stored: Vec<Stored> = Vec::new();
    let mut bytes = 0;
    let mut restores: Vec<Duration> = Vec::new();
    // One SHA-256 and one write.
    let last = 2 * sample.hash;
    for version in 0..sample.versions() {
        let base = rule(sample, &stored, bound)?;
        let Cost { bytes: taken, decode, delta } = sample.cost(version, base)?;
        bytes += taken;
        let below = base.filter(|_| delta);
        stored.push(Stored { base: below, depth: below.map_or(0, |base| stored[base].depth + 1) });
        restores.push(decode + below.map_or(Duration::ZERO, |base| restores[base]));
    }
    let multiple = |decode: Duration| (decode + last).as_secs_f64() / (restores[0] + last).as_secs_f64();
    let multiples: Vec<f64> = restores.iter().map(|decode| multiple(*decode)).collect();
    Ok(Outcome {
        bytes,
        depth: stored.iter().map(|version| version.depth).max().unwrap_or(0),
        slowest: multiples.iter().copied().fold(0.0, f64::max),
        mean: multiples.iter().sum::<f64>() / multiples.len() as f64,
    })
}

/// The fewest bytes of any tree in which every version's subtree is a stretch of the series: what could be had in hindsight.
pub(crate) fn hindsight(sample: &mut Sample, bound: usize) -> Result<u64, CodecError> {
    let count = sample.versions();
    let mut deltas = vec![vec![0; count]; count];
    for (first, deltas) in deltas.iter_mut().enumerate() {
        for (next, bytes) in deltas.iter_mut().enumerate().skip(first + 1) {
            *bytes = sample.cost(next, Some(first))?.bytes;
        }
    }
    let alone =
        (0..count).map(|version| Ok(sample.cost(version, None)?.bytes)).collect::<Result<Vec<_>, CodecError>>()?;
    // What lies between a version that is stored and an end takes, with so much depth left; first with none, where each stands
    // alone.
    let mut best = vec![vec![0; count + 1]; count];
    for (first, best) in best.iter_mut().enumerate() {
        for end in first + 2..=count {
            best[end] = best[end - 1] + alone[end - 1];
        }
    }
    for _ in 0..bound {
        let shallower = best.clone();
        for (first, best) in best.iter_mut().enumerate() {
            for end in first + 2..=count {
                // The last that leans on the first, and what lies behind it.
                let split = |next: usize| best[next] + deltas[first][next] + shallower[next][end];
                best[end] = (first + 1..end).map(split).min().unwrap_or(0);
            }
        }
    }
    Ok(alone[0] + best[0][count])
}

/// The versions that one leans on, itself first.
fn ancestors(stored: &[Stored], version: usize) -> Vec<usize> {
    std::iter::successors(Some(version), |version| stored[*version].base).collect()
}

fn chain(_: &mut Sample, stored: &[Stored], bound: usize) -> Result<Option<usize>, CodecError> {
    let Some(before) = stored.len().checked_sub(1) else { return Ok(None) };
    Ok(if stored[before].depth < bound { Some(before) } else { ancestors(stored, before).last().copied() })
}

fn fresh(_: &mut Sample, stored: &[Stored], bound: usize) -> Result<Option<usize>, CodecError> {
    Ok(stored.len().checked_sub(1).filter(|before| stored[*before].depth < bound))
}

fn skip(_: &mut Sample, stored: &[Stored], bound: usize) -> Result<Option<usize>, CodecError> {
    // Numbered within stretches that keep to the bound.
    let number = stored.len() % (1 << bound);
    let stretch = stored.len() - number;
    Ok(match (stored.len(), number) {
        (0, _) => None,
        (_, 0) => Some(0),
        (_, number) => Some(stretch + (number & (number - 1))),
    })
}

/// At the bound, the ancestor that takes the least more than a step for each version until the next time; a new keyframe if
/// that is it.
fn cheapest(sample: &mut Sample, stored: &[Stored], bound: usize) -> Result<Option<usize>, CodecError> {
    let version = stored.len();
    let Some(before) = version.checked_sub(1) else { return Ok(None) };
    if stored[before].depth < bound {
        return Ok(Some(before));
    }
    let near = sample.cost(version, Some(before))?.bytes as f64;
    let mut best = (f64::INFINITY, None);
    for base in ancestors(stored, before).into_iter().skip(1).map(Some).chain([None]) {
        let room = base.map_or(bound + 1, |base| bound - stored[base].depth);
        let more = (sample.cost(version, base)?.bytes as f64 - near) / room as f64;
        if more < best.0 {
            best = (more, base);
        }
    }
    Ok(best.1)
}
