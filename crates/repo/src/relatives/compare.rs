//! Comparing two sketches.

use std::cmp::Reverse;
use std::collections::HashMap;

use shard_manifest::SketchedTensor;
use shard_manifest::sketch::SKETCH_WORDS;

use super::keys::{coarse, signs};
use crate::parent::{Agreement, Sketch};

/// The sample of a new file, ready to be compared with many.
pub(super) struct Subject {
    /// In order of segments.
    tensors: Vec<Prepared>,
    /// Elements of all.
    elements: f64,
}

/// A tensor's words, and what is left of them in each form that is compared.
struct Prepared {
    elements: u64,
    /// How many tensors before it have as many elements.
    rank: usize,
    coarse_words: [u16; SKETCH_WORDS],
    fine: Sketch,
    coarse: Sketch,
    signs: Sketch,
}

fn prepare(tensors: &[SketchedTensor]) -> Vec<Prepared> {
    let mut ranks: HashMap<u64, usize> = HashMap::new();
    let prepared = tensors.iter().map(|tensor| {
        let rank = ranks.entry(tensor.elements).or_default();
        *rank += 1;
        let coarse_words = tensor.words.map(coarse);
        Prepared {
            elements: tensor.elements,
            rank: *rank,
            coarse_words,
            fine: Sketch::new(tensor.words.to_vec()),
            coarse: Sketch::new(coarse_words.to_vec()),
            signs: Sketch::new(signs(&tensor.words).to_vec()),
        }
    });
    prepared.collect()
}

impl Subject {
    pub(super) fn new(tensors: &[SketchedTensor]) -> Self {
        let elements = tensors.iter().map(|tensor| tensor.elements as f64).sum();
        Self { tensors: prepare(tensors), elements }
    }

    /// By how much another sketch agrees beyond chance: the mean of words, coarse words and signs, of each tensor in proportion to
    /// its elements. `None` where it may be chance.
    pub(super) fn nearness(&self, other: &[SketchedTensor]) -> Option<f64> {
        let mut others = prepare(other);
        others.sort_by_key(|other| Reverse(other.elements));
        let (mut coarse, mut signs) = (Agreement::NONE, Agreement::NONE);
        let mut sum = 0.0;
        for own in &self.tensors {
            let from = others.partition_point(|other| other.elements > own.elements);
            let same: Vec<&Prepared> =
                others.iter().skip(from).take_while(|other| other.elements == own.elements).collect();
            let equal = |other: &Prepared| {
                own.coarse_words.iter().zip(&other.coarse_words).filter(|(own, other)| own == other).count()
            };
            // Tensors keep their order, where they are not renamed. Signs alone say too little to pick the best of many.
            let Some(fellow) = same.iter().find(|other| other.rank == own.rank).or(same.first()) else { continue };
            let best = if equal(fellow) * 2 >= SKETCH_WORDS {
                fellow
            } else {
                same.iter().max_by_key(|other| equal(other)).unwrap_or(fellow)
            };
            let by_coarse = own.coarse.agreement(&best.coarse);
            let by_signs = own.signs.agreement(&fellow.signs);
            coarse = coarse.and(by_coarse);
            signs = signs.and(by_signs);
            let agreements = [own.fine.agreement(&best.fine), by_coarse, by_signs];
            sum += own.elements as f64 * agreements.iter().map(|agreement| agreement.share()).sum::<f64>() / 3.0;
        }
        (coarse.is_related() || signs.is_related()).then_some(sum / self.elements)
    }
}
