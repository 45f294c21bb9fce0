//! Sampling a file: values at fixed places of its largest tensors, whatever type they are stored in.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;

use half::bf16;
use shard_core::{Layout, TensorView};
use shard_formats::Source;
use shard_formats::compress::Expanded;
use shard_manifest::SketchedTensor;
use shard_manifest::sketch::{FEWEST_SKETCHED, MAX_SKETCHED, SKETCH_WORDS, places};

use crate::error::{RepoError, Result};
use crate::numeric::{MOST_VALUES, values};
use crate::parent::{in_any_order, read_part, whole_tensors};

/// The smallest file that is sketched, in bytes.
const SMALLEST: u64 = 256 << 10;

/// A sketch has at most one byte for so many of the file, so that long series of small files do not grow by them.
const SHARE: u64 = 1024;

/// Bytes of a sketch without its tensors, at most.
const HEADER: u64 = 34;

/// Longest tensor that is read whole, in bytes.
const AT_ONCE: u64 = 16 << 10;

/// How matrices are taken to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    AsStored,
    /// Rows and columns changed places: the values are those that a sketch of the transposed matrix has.
    Transposed,
}

/// The values of a file, by ascending segment; none where it is small, or says nothing. Transposed, none without matrices.
pub(super) fn sample(
    source: &Expanded<&dyn Source>,
    layout: &Layout,
    file_len: u64,
    order: Order,
    path: &Path,
) -> Result<Vec<SketchedTensor>> {
    let room = (file_len / SHARE).saturating_sub(HEADER) / SketchedTensor::MAX_LEN as u64;
    let most = MAX_SKETCHED.min(room as usize);
    if file_len < SMALLEST || most == 0 {
        return Ok(Vec::new());
    }
    let mut segments = BTreeSet::new();
    let mut tensors: Vec<(u64, &TensorView)> = whole_tensors(layout)
        .filter_map(|tensor| Some((tensor.elements().filter(|elements| *elements >= FEWEST_SKETCHED)?, tensor)))
        .filter(|(_, tensor)| segments.insert(tensor.segment) && in_any_order(layout, tensor.segment))
        .collect();
    tensors.sort_by_key(|(elements, tensor)| (Reverse(*elements), tensor.segment));
    if order == Order::Transposed && !tensors.iter().any(|(_, tensor)| matrix(tensor).is_some()) {
        return Ok(Vec::new());
    }
    let starts = layout.segment_offsets();
    let mut sample = Vec::with_capacity(most);
    // Of tensors that say nothing only so many are looked at.
    for (elements, tensor) in tensors.into_iter().take(2 * most) {
        let start = starts.get(tensor.segment).copied().unwrap_or(u64::MAX);
        let words = match words(source, tensor, start, elements, order, path) {
            // Not to be restored from expanded bytes: the file is kept as it is, and its layout is another one.
            Err(RepoError::NotRepeated(_)) => return Ok(Vec::new()),
            words => words?,
        };
        if let Some(words) = words.filter(says_something) {
            sample.push(SketchedTensor { segment: tensor.segment as u64, elements, words });
            if sample.len() == most {
                break;
            }
        }
    }
    sample.sort_by_key(|tensor| tensor.segment);
    Ok(sample)
}

/// Rows and columns, as stored.
fn matrix(tensor: &TensorView) -> Option<(u64, u64)> {
    match tensor.stored_shape()[..] {
        [rows, columns] if rows > 1 && columns > 1 => Some((rows, columns)),
        _ => None,
    }
}

/// The values of a tensor that starts at byte `start`; `None` where shard does not know those of its type.
fn words(
    source: &dyn Source,
    tensor: &TensorView,
    start: u64,
    elements: u64,
    order: Order,
    path: &Path,
) -> Result<Option<[u16; SKETCH_WORDS]>> {
    let transpose = matrix(tensor).filter(|_| order == Order::Transposed);
    let place = |at: u64| match transpose {
        Some((rows, columns)) => at % rows * columns + at / rows,
        None => at,
    };
    let (per_unit, unit) = tensor.dtype.storage_unit();
    let mut at = [0u64; SKETCH_WORDS];
    at.iter_mut().zip(places(elements, SKETCH_WORDS as u64)).for_each(|(at, found)| *at = place(found));
    let mut units = vec![0u8; SKETCH_WORDS * unit as usize];
    let len = tensor.byte_len().unwrap_or(u64::MAX);
    if len <= AT_ONCE {
        let mut all = vec![0; len as usize];
        read_part(source, start, &mut all, path)?;
        for (at, bytes) in at.iter().zip(units.chunks_exact_mut(unit as usize)) {
            let from = (at / per_unit * unit) as usize;
            if let Some(found) = all.get(from..from + unit as usize) {
                bytes.copy_from_slice(found);
            }
        }
    } else {
        for (at, bytes) in at.iter().zip(units.chunks_exact_mut(unit as usize)) {
            read_part(source, start.saturating_add(at / per_unit * unit), bytes, path)?;
        }
    }
    let mut words = [0; SKETCH_WORDS];
    let at_once = (MOST_VALUES / per_unit as usize).clamp(1, SKETCH_WORDS);
    let parts = words.chunks_mut(at_once).zip(at.chunks(at_once)).zip(units.chunks(at_once * unit as usize));
    for ((words, at), units) in parts {
        let Some(values) = values(tensor.dtype, units) else { return Ok(None) };
        // Complex elements have two.
        let each = values.len() / at.len();
        for ((word, at), values) in words.iter_mut().zip(at).zip(values.chunks(each.max(1))) {
            *word = values.get((at % per_unit) as usize).map_or(0, |value| word_of(*value));
        }
    }
    Ok(Some(words))
}

/// A value as a bfloat16, in one form where there are several.
fn word_of(value: f32) -> u16 {
    if value == 0.0 {
        0
    } else if value.is_nan() {
        bf16::NAN.to_bits()
    } else {
        bf16::from_f32(value).to_bits()
    }
}

/// Whether at most half of the words are equal.
fn says_something(words: &[u16; SKETCH_WORDS]) -> bool {
    let mut sorted = *words;
    sorted.sort_unstable();
    // More than half would have the middle among them.
    let middle = sorted[SKETCH_WORDS / 2];
    sorted.iter().filter(|word| **word == middle).count() <= SKETCH_WORDS / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_one_form() {
        assert_eq!((word_of(1.0), word_of(-1.0), word_of(0.0), word_of(-0.0)), (0x3f80, 0xbf80, 0, 0));
        assert_eq!((word_of(f32::NAN), word_of(-f32::NAN), word_of(f32::INFINITY)), (0x7fc0, 0x7fc0, 0x7f80));
        // To nearest, as casts do it.
        assert_eq!(word_of(f32::from_bits(0x3f80_8001)), 0x3f81);
    }

    #[test]
    fn half_of_the_words_may_be_equal() {
        let words = |equal: usize| std::array::from_fn(|i| if i < equal { 7 } else { i as u16 + 100 });
        assert!(says_something(&words(32)) && !says_something(&words(33)) && !says_something(&[0; 64]));
    }
}
