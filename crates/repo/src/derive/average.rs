//! Averages and other sums of checkpoints: the same weights for all tensors of a file, so that one of them tells.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use shard_codecs::derive::{Linear, MAX_INPUTS, Sum};
use shard_codecs::kernel::Isa;
use shard_core::{DType, Layout, TensorView};
use shard_formats::Source;
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use super::computed::{Computed, How, Input};
use super::search::tensors_by_name;
use crate::blocks::{BlockReader, block_key};
use crate::error::Result;
use crate::parent::{Earlier, in_any_order, read_part, whole_tensors};

/// Fewest and most words of the tensor that tells.
const FEWEST: u64 = 4 << 10;
const COMPARED: usize = 64 << 10;
/// Tensors that are asked, until one tells.
const ASKED: usize = 2;
/// What is left of the difference to the nearest checkpoint is at most this share of its mean square.
const MOST_LEFT: f64 = 0.3;

/// For each segment of a new file that is such a sum, what it is the sum of.
pub(super) fn find_average(
    layout: &Layout,
    earlier: &[Arc<ContentManifest>],
    source: &dyn Source,
    path: &Path,
    store: &dyn EntrySource,
) -> Result<HashMap<usize, Computed>> {
    let mut found = HashMap::new();
    let names: Vec<HashMap<&str, &TensorView>> = earlier.iter().map(tensors_by_name).collect();
    let is_float = |dtype: DType| matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
    let same = |file: usize, tensor: &TensorView| {
        let other = names.get(file)?.get(tensor.name.as_str()).copied()?;
        let fits = other.dtype == tensor.dtype
            && other.strides == tensor.strides
            && other.stored_shape() == tensor.stored_shape();
        fits.then(|| Earlier::new(&earlier[file], other.segment))
    };
    let words = |tensor: &TensorView| tensor.byte_len().unwrap_or(0) / tensor.dtype.word_bytes() as u64;
    let mut tellers: Vec<&TensorView> = whole_tensors(layout)
        .filter(|tensor| is_float(tensor.dtype) && words(tensor) >= FEWEST && in_any_order(layout, tensor.segment))
        .collect();
    tellers.sort_by_key(|tensor| words(tensor));
    let mut answer: Option<(Vec<usize>, Sum)> = None;
    for tensor in tellers.into_iter().take(ASKED) {
        // Copies of one checkpoint are one.
        let mut files: Vec<(usize, Earlier)> = Vec::new();
        for file in 0..earlier.len() {
            let Some(other) = same(file, tensor) else { continue };
            let id = other.blocks().first().map(|block| block.id);
            let is_new = files.iter().all(|(_, known)| known.blocks().first().map(|block| block.id) != id);
            if is_new && files.len() < MAX_INPUTS {
                files.push((file, other));
            }
        }
        if files.len() < 2 {
            continue;
        }
        answer = ask(layout, tensor, &files, source, path, store)?
            .map(|sum| (sum.used.iter().filter_map(|index| Some(files.get(*index)?.0)).collect(), sum));
        if answer.is_some() {
            break;
        }
    }
    let Some((files, sum)) = answer else { return Ok(found) };
    for tensor in whole_tensors(layout).filter(|tensor| is_float(tensor.dtype)) {
        let input = |file: &usize| same(*file, tensor).map(|other| Input::Earlier(other, tensor.dtype));
        let of: Option<Vec<Input>> = files.iter().map(input).collect();
        if let Some(of) = of {
            found
                .insert(tensor.segment, Computed::new(of, tensor.dtype, How::InPlace(sum.derived(tensor.dtype)), true));
        }
    }
    Ok(found)
}

/// The sum that the first words of a tensor are of those of earlier ones, if that is nearer than the nearest of them.
fn ask(
    layout: &Layout,
    tensor: &TensorView,
    files: &[(usize, Earlier)],
    source: &dyn Source,
    path: &Path,
    store: &dyn EntrySource,
) -> Result<Option<Sum>> {
    let word = tensor.dtype.word_bytes();
    let mut reader = BlockReader::new(store);
    let mut tensors: Vec<Vec<u8>> = Vec::new();
    for (_, other) in files {
        let Some(first) = other.blocks().first() else { return Ok(None) };
        let mut block = Vec::new();
        match reader.look_at(&block_key(first.id), &mut block) {
            Ok(()) => {}
            Err(error) if error.is_damage() => return Ok(None),
            Err(error) => return Err(error),
        }
        tensors.push(block);
    }
    let len = tensors.iter().map(Vec::len).min().unwrap_or(0).min(COMPARED * word) / word * word;
    let start = layout.segment_offsets().get(tensor.segment).copied().unwrap_or(u64::MAX);
    let mut own = vec![0; len];
    read_part(source, start, &mut own, path)?;
    let parts: Vec<&[u8]> = tensors.iter().map(|block| &block[..len]).collect();
    Ok(Linear::find(Isa::best(), tensor.dtype, &own, &parts).filter(|sum| sum.left <= MOST_LEFT))
}
