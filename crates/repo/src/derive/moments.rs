//! Training checkpoints: an optimizer's moments beside the weights, by name (torch's `exp_avg`, `exp_avg_sq`, `momentum_buffer`).
//!
//! The second moment is estimated from the one before and from the scales of its rows and columns, the first moment's size from the
//! second, and the step of the weights from both.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use shard_codecs::derive::{Moments, Scales, Sizes};
use shard_codecs::kernel::Isa;
use shard_core::limits::MAX_BLOCK;
use shard_core::{DType, Layout, TensorView};
use shard_formats::Source;
use shard_history::natural_cmp;
use shard_manifest::ContentManifest;

use super::computed::{Computed, How, Input, RowsAndColumns};
use super::search::tensors_by_name;
use super::{MadeBlocks, make_blocks};
use crate::error::Result;
use crate::parent::{Earlier, in_any_order, read_part, whole_tensors};

const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";
const MOMENTUM: &str = "momentum_buffer";

/// Fewest elements of a moment, and of a row of one that has scales of its own.
const FEWEST: u64 = 4 << 10;
const FEWEST_COLUMNS: u64 = 64;
/// The longest row of one.
const MOST_COLUMNS: u64 = 1 << 20;

/// The tensors of one parameter.
struct Parameter<'a> {
    weights: Option<&'a TensorView>,
    first: &'a TensorView,
    second: Option<&'a TensorView>,
}

/// For each segment of a new file that holds moments, or weights with moments, what it is estimated from.
pub(super) fn find_moments(
    layout: &Layout,
    earlier: &[Arc<ContentManifest>],
    source: &dyn Source,
    path: &Path,
) -> Result<HashMap<usize, Computed>> {
    let mut found = HashMap::new();
    let parameters = parameters(layout);
    if parameters.is_empty() {
        return Ok(found);
    }
    let names: Vec<HashMap<&str, &TensorView>> = earlier.iter().map(tensors_by_name).collect();
    let before = |tensor: &TensorView| {
        names.iter().zip(earlier).find_map(|(names, manifest)| {
            let other = names.get(tensor.name.as_str())?;
            let fits = other.dtype == tensor.dtype && other.stored_shape() == tensor.stored_shape();
            fits.then(|| Input::Earlier(Earlier::new(manifest, other.segment), other.dtype))
        })
    };
    let own = |tensor: &TensorView| Input::Own(tensor.segment, tensor.dtype);
    for Parameter { weights, first, second } in parameters {
        let columns = columns(first);
        let mut level = 0;
        if let Some(second) = second {
            let scales = rows_and_columns(layout, second, source, path)?;
            let sizes = |tensors: usize| Sizes {
                tensors: tensors as u8,
                dtype: second.dtype,
                scales: scales.as_ref().map(|scales| scales.dtype),
                columns,
                phase: 0,
            };
            let of: Vec<Input> = before(second).into_iter().collect();
            if scales.is_some() {
                let how = How::Sizes(sizes(of.len()), scales.clone());
                found.insert(second.segment, Computed::new(of, second.dtype, how, true));
            }
            let how = How::Sizes(sizes(1), scales);
            let computed = Computed::new(vec![own(second)], first.dtype, how, true);
            level = 1;
            found.insert(first.segment, Computed { level, ..computed });
        }
        let Some((weights, now)) = weights.and_then(|weights| Some((weights, before(weights)?))) else { continue };
        let mut of = vec![now, own(first)];
        of.extend(second.map(own));
        let mut pairs = 1;
        if let (Some(first), Some(Some(second))) = (before(first), second.map(before)) {
            of.extend([first, second]);
            pairs = 2;
        }
        let moments = Moments { weights: weights.dtype, moments: first.dtype, pairs, second: second.is_some() };
        let computed = Computed::new(of, weights.dtype, How::Step(moments), true);
        found.insert(weights.segment, Computed { level: level + 1, ..computed });
    }
    Ok(found)
}

/// The parameters that have moments.
fn parameters(layout: &Layout) -> Vec<Parameter<'_>> {
    let is_moment = |name: &str| name.contains(FIRST) || name.contains(MOMENTUM);
    let is_float = |dtype: DType| matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64);
    let all: Vec<&TensorView> =
        whole_tensors(layout).filter(|tensor| is_float(tensor.dtype) && in_any_order(layout, tensor.segment)).collect();
    let by_name: HashMap<&str, &TensorView> = all.iter().map(|tensor| (tensor.name.as_str(), *tensor)).collect();
    let is_long = |tensor: &TensorView| tensor.byte_len().unwrap_or(0) / tensor.dtype.word_bytes() as u64 >= FEWEST;
    let mut firsts: Vec<(&TensorView, Option<&TensorView>)> = all
        .iter()
        .filter(|tensor| is_moment(&tensor.name) && !tensor.name.contains(SECOND))
        .map(|tensor| {
            let second = tensor.name.replacen(FIRST, SECOND, 1);
            let second = by_name.get(second.as_str()).copied().filter(|_| tensor.name.contains(FIRST));
            let fits = |second: &&TensorView| {
                second.dtype == tensor.dtype && second.shape == tensor.shape && second.strides == tensor.strides
            };
            (*tensor, second.filter(fits))
        })
        .collect();
    firsts.sort_by(|(a, _), (b, _)| natural_cmp(&a.name, &b.name));
    // Weights that moments name by a number, in the order of the file.
    let mut others = all.iter().filter(|tensor| !is_moment(&tensor.name)).copied().peekable();
    let mut found = Vec::new();
    for (first, second) in firsts {
        let parameter = parameter_name(&first.name);
        let suits = |tensor: &&TensorView| tensor.shape == first.shape && tensor.strides == first.strides;
        let weights = if parameter.bytes().all(|byte| byte.is_ascii_digit()) {
            others.by_ref().find(|tensor| suits(tensor))
        } else {
            let ends = |tensor: &&&TensorView| {
                let before = tensor.name.strip_suffix(parameter);
                !is_moment(&tensor.name) && before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            };
            let known = by_name.get(parameter).copied().filter(|tensor| !is_moment(&tensor.name));
            known.or_else(|| all.iter().filter(|_| is_long(first)).find(ends).copied()).filter(suits)
        };
        if is_long(first) {
            found.push(Parameter { weights, first, second });
        }
    }
    found
}

/// The parameter that a moment's name stands for.
fn parameter_name(name: &str) -> &str {
    for kind in [FIRST, MOMENTUM] {
        if let Some((before, after)) = name.split_once(kind) {
            // `exp_avg.NAME` or `state.NAME.exp_avg`.
            let named = after.strip_prefix('.').filter(|named| !named.is_empty());
            let before = before.strip_suffix('.').unwrap_or(before);
            let before = before.rsplit_once("state.").map_or(before, |(_, name)| name);
            return named.unwrap_or(before);
        }
    }
    name
}

/// Elements of a row.
fn columns(tensor: &TensorView) -> u64 {
    let shape = tensor.stored_shape();
    shape.split_first().map_or(1, |(_, others)| others.iter().product::<u64>()).max(1)
}

/// The scales of a moment's rows and columns, where they take little beside it.
fn rows_and_columns(
    layout: &Layout,
    tensor: &TensorView,
    source: &dyn Source,
    path: &Path,
) -> Result<Option<RowsAndColumns>> {
    let columns = columns(tensor);
    let len = tensor.byte_len().unwrap_or(0);
    let rows = len / tensor.dtype.word_bytes() as u64 / columns;
    if !(FEWEST_COLUMNS..=MOST_COLUMNS).contains(&columns) || rows < FEWEST_COLUMNS {
        return Ok(None);
    }
    let start = layout.segment_offsets().get(tensor.segment).copied().unwrap_or(u64::MAX);
    let Some(mut scales) = Scales::new(tensor.dtype, columns as usize) else { return Ok(None) };
    let row = columns * tensor.dtype.word_bytes() as u64;
    let some = (MAX_BLOCK as u64 / row).max(1) * row;
    let mut words = Vec::new();
    for at in (0..len).step_by(some as usize) {
        words.resize(some.min(len - at) as usize, 0);
        read_part(source, start.saturating_add(at), &mut words, path)?;
        scales.update(Isa::best(), &words);
    }
    let Some([rows, columns]) = scales.finish(Isa::best()) else { return Ok(None) };
    let mut made = Vec::new();
    let blocks =
        [make_blocks(DType::BF16, &rows, path, &mut made)?, make_blocks(DType::BF16, &columns, path, &mut made)?];
    Ok(Some(RowsAndColumns { dtype: DType::BF16, blocks, made: MadeBlocks::new(made) }))
}
