//! Adapters: the factors of a merged tensor's change, as a file of their own has them (PEFT's names, and those of kohya's scripts).

use std::collections::HashMap;
use std::sync::Arc;

use shard_codecs::derive::{Arithmetic, Merge, Target};
use shard_codecs::kernel::Isa;
use shard_core::{DType, Layout, TensorView};
use shard_manifest::ContentManifest;

use crate::parent::{Earlier, earlier_tensors, whole_tensors};

/// The highest rank, and the most words of a factor, that products are computed of.
const MOST_RANK: u64 = 1024;
const MOST_WORDS: u64 = 1 << 22;

/// The two halves' names: of the one that is applied first, and of the other.
const HALVES: [(&str, &str); 2] = [(".lora_A", ".lora_B"), (".lora_down", ".lora_up")];

/// The factors of a tensor's change.
#[derive(Clone)]
pub(crate) struct Adapter {
    /// The factor that has a row for each row of the tensor, and the one for its columns; transposed each, where `transposed`.
    pub(super) left: Earlier,
    pub(super) right: Earlier,
    pub(super) dtypes: [DType; 2],
    pub(super) rank: u32,
    transposed: bool,
}

/// For each segment of a new file, the adapter that its name suggests.
pub(crate) type Adapters = HashMap<usize, Adapter>;

/// Both halves in one earlier file.
struct Pair<'a> {
    module: String,
    manifest: &'a Arc<ContentManifest>,
    down: &'a TensorView,
    up: &'a TensorView,
}

/// Finds adapters by name, the first of each.
pub(crate) fn find_adapters(layout: &Layout, earlier: &[Arc<ContentManifest>]) -> Adapters {
    let mut pairs = Vec::new();
    for manifest in earlier {
        let by_name: HashMap<&str, &TensorView> =
            earlier_tensors(manifest).map(|(_, tensor)| (tensor.name.as_str(), tensor)).collect();
        for (_, down) in earlier_tensors(manifest) {
            for (first, second) in HALVES {
                let Some((module, _)) = down.name.split_once(first) else { continue };
                if let Some(up) = by_name.get(down.name.replacen(first, second, 1).as_str()).copied() {
                    pairs.push(Pair { module: module.replace('.', "_"), manifest, down, up });
                }
            }
        }
    }
    let mut found = Adapters::new();
    for tensor in whole_tensors(layout).filter(|_| !pairs.is_empty()) {
        let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name).replace('.', "_");
        // A name that says more about where the tensor is may stand before the module's.
        let suits = |pair: &&Pair<'_>| {
            pair.module.strip_suffix(&module).is_some_and(|before| before.is_empty() || before.ends_with('_'))
        };
        if let Some(adapter) = pairs.iter().filter(suits).find_map(|pair| pair.of(tensor)) {
            found.insert(tensor.segment, adapter);
        }
    }
    found
}

impl Pair<'_> {
    /// The adapter of a tensor, if its shape fits.
    fn of(&self, tensor: &TensorView) -> Option<Adapter> {
        let (down, up, shape) = (self.down.stored_shape(), self.up.stored_shape(), tensor.stored_shape());
        let (&[rank, inputs], &[outputs, rank_too], &[rows, columns]) = (&down[..], &up[..], &shape[..]) else {
            return None;
        };
        // Layers that keep their inputs in rows have the transpose.
        let transposed = match (rows, columns) {
            _ if rank != rank_too => return None,
            shape if shape == (outputs, inputs) => false,
            shape if shape == (inputs, outputs) => true,
            _ => return None,
        };
        let [down, up] = [self.down, self.up].map(|half| (Earlier::new(self.manifest, half.segment), half.dtype));
        let (left, right) = if transposed { (down, up) } else { (up, down) };
        let is_small = rank <= MOST_RANK && rank * rows.max(columns) <= MOST_WORDS;
        is_small.then_some(())?;
        Some(Adapter {
            left: left.0,
            right: right.0,
            dtypes: [left.1, right.1],
            rank: u32::try_from(rank).ok()?,
            transposed,
        })
    }
}

/// Some whole rows of a tensor from its first on, what they were before, and the bytes of both factors.
pub(super) struct Merged<'a> {
    pub(super) words: (DType, &'a [u8]),
    pub(super) base: (DType, &'a [u8]),
    pub(super) columns: u64,
    pub(super) rows: u64,
    pub(super) left: &'a [u8],
    pub(super) right: &'a [u8],
}

impl Adapter {
    /// How the tensor was merged, if it was merged of these.
    pub(super) fn merge(&self, isa: Isa, merged: &Merged<'_>) -> Option<Merge> {
        let Merged { words: (to, words), base: (from, base), columns, .. } = *merged;
        let count = words.len() / to.word_bytes();
        let touched = count / columns as usize;
        let rank = self.rank as usize;
        let left_len = if self.transposed { merged.left.len() } else { touched * rank * self.dtypes[0].word_bytes() };
        let left = merged.left.get(..left_len)?;
        let merge = |base: DType, arithmetic, factor| Merge {
            dtypes: [base, self.dtypes[0], self.dtypes[1]],
            arithmetic,
            rank: self.rank,
            columns,
            phase: 0,
            transposed_rows: self.transposed.then_some(merged.rows),
            factor,
        };
        let make = |merge: &Merge, base: &[u8], target: Target| {
            let mut out = vec![0; target.len];
            merge.derived().derive(isa, target, &[base, left, merged.right].concat(), &mut out).ok()?;
            Some(out)
        };
        // How far the product itself goes in the change's direction.
        let zeros = vec![0; count * 8];
        let wide = Target { dtype: DType::F64, len: zeros.len() };
        let product = make(&merge(DType::F64, Arithmetic::Wide, 1.0), &zeros, wide)?;
        let (before, after) = (values(from, base), values(to, words));
        let product = product.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word));
        let (mut along, mut square) = (0.0, 0.0);
        for (product, (before, after)) in product.zip(before.iter().zip(&after)) {
            let (change, product) = (f64::from(*after) - f64::from(*before), product);
            if change.is_finite() {
                (along, square) = (along + change * product, square + product * product);
            }
        }
        let slope = along / square;
        if !slope.is_finite() || slope == 0.0 {
            return None;
        }
        // Most often a whole number over the rank, or over its root.
        let root = f64::from(self.rank).sqrt();
        let factors = [f64::from(self.rank), root].map(|over| (slope * over).round() / over);
        let target = Target { dtype: to, len: words.len() };
        let mut best: Option<(usize, Merge)> = None;
        for factor in factors.into_iter().filter(|factor| (factor / slope - 1.0).abs() < 0.02).chain([slope]) {
            for arithmetic in Arithmetic::ALL {
                let merge = merge(from, arithmetic, factor);
                let made = make(&merge, base, target)?;
                let pairs = made.chunks_exact(to.word_bytes()).zip(words.chunks_exact(to.word_bytes()));
                let equal = pairs.filter(|(made, word)| made == word).count();
                if best.as_ref().is_none_or(|(most, _)| equal > *most) {
                    best = Some((equal, merge));
                }
            }
        }
        best.filter(|(equal, _)| *equal * 2 > count).map(|(_, merge)| merge)
    }
}

/// The values of words of a float type.
fn values(dtype: DType, words: &[u8]) -> Vec<f32> {
    words
        .chunks(dtype.word_bytes() * 1024)
        .flat_map(|words| crate::numeric::values(dtype, words).unwrap_or_default())
        .collect()
}
