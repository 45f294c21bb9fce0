//! Looking for the tensor that another one was computed from: first by name, then by content.
//!
//! By content, a few values of both are compared: a conversion keeps the sign of nearly every value less the mean, whatever type
//! it makes, and unrelated tensors agree in half of the signs. Reading earlier tensors is paid from a credit that grows with the
//! bytes for which something is sought.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use shard_codecs::derive::{Cast, Ggml, NanRule, Rounding};
use shard_core::{DType, Layout, TensorView};
use shard_formats::Source;
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use super::average::find_average;
use super::compare::New;
use super::computed::{Computed, How, Input};
use super::moments::find_moments;
use crate::blocks::{BlockReader, block_key};
use crate::error::Result;
use crate::numeric::values;
use crate::parent::{Earlier, earlier_tensors, in_any_order, places, read_part, whole_tensors};

/// Tensors of a file that are compared with those of one earlier file in one type. If all of them are computed in the same way,
/// the others are taken for computed so as well: should one not be, its blocks find that out.
const TRIED: u32 = 4;
/// Earlier files that a name is looked up in.
const FILES: usize = 8;
/// Earlier tensors that one is compared with by content.
const COMPARED: usize = 64;
/// Fewest elements of a tensor that is sought by content.
const FEWEST: u64 = 1024;
/// Bytes of earlier blocks that may be decoded for any file.
const FREE: u64 = 64 << 20;
/// The longest tensor, in bytes, that may be scales.
const SMALL: u64 = 4 << 20;
/// Bytes of such tensors of one file that are held.
const ALL_SMALL: u64 = 16 << 20;

/// For each segment of a new file, the tensor that it is computed from.
pub(crate) type AllComputed = HashMap<usize, Computed>;

/// A small tensor of the new file.
pub(super) struct Small<'a> {
    pub(super) dtype: DType,
    pub(super) bytes: Vec<u8>,
    pub(super) segment: usize,
    name: &'a str,
}

/// What is known of tensors that are computed from those of one earlier file and type.
#[derive(Default)]
struct Known {
    tried: u32,
    exact: u32,
    how: Option<How>,
}

/// Values of an earlier tensor at a few places of its first block.
struct Values {
    elements: u64,
    values: Vec<f32>,
}

/// Finds the tensors that are computed from earlier ones, and those of which nothing is nearer than that: `has_base` says which
/// segments have a base in their own type.
pub(crate) fn find_computed(
    layout: &Layout,
    earlier: &[Arc<ContentManifest>],
    has_base: impl Fn(usize) -> bool,
    source: &dyn Source,
    path: &Path,
    store: &dyn EntrySource,
) -> Result<AllComputed> {
    let mut found = AllComputed::new();
    let mut search = Search {
        layout,
        earlier,
        names: earlier.iter().map(tensors_by_name).collect(),
        source,
        path,
        starts: layout.segment_offsets(),
        reader: BlockReader::new(store),
        known: HashMap::new(),
        values: HashMap::new(),
        small: None,
        credit: FREE,
        last: 0,
    };
    for tensor in whole_tensors(layout).filter(|tensor| is_made(tensor.dtype)) {
        if found.contains_key(&tensor.segment) || !in_any_order(layout, tensor.segment) {
            continue;
        }
        let mut best = search.by_name(tensor)?;
        let has_base = has_base(tensor.segment);
        if best.is_none() && !has_base {
            best = search.by_content(tensor)?;
        }
        if let Some(computed) = best.filter(|computed| computed.is_exact || !has_base) {
            found.insert(tensor.segment, computed);
        }
    }
    for (segment, moment) in find_moments(layout, earlier, source, path)? {
        found.insert(segment, moment);
    }
    for (segment, average) in find_average(layout, earlier, source, path, store)? {
        found.entry(segment).or_insert(average);
    }
    Ok(found)
}

pub(super) fn tensors_by_name(manifest: &Arc<ContentManifest>) -> HashMap<&str, &TensorView> {
    earlier_tensors(manifest).map(|(_, tensor)| (tensor.name.as_str(), tensor)).collect()
}

/// Types that others are computed from.
fn is_source(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2)
}

/// Types that are computed from others.
fn is_made(dtype: DType) -> bool {
    is_source(dtype) || Ggml::makes(dtype) || matches!(dtype, DType::I8 | DType::U8)
}

struct Search<'a> {
    layout: &'a Layout,
    earlier: &'a [Arc<ContentManifest>],
    names: Vec<HashMap<&'a str, &'a TensorView>>,
    source: &'a dyn Source,
    path: &'a Path,
    starts: Vec<u64>,
    reader: BlockReader<'a>,
    known: HashMap<(usize, DType, DType), Known>,
    /// By file and segment; `None` where they cannot be read.
    values: HashMap<(usize, usize), Option<Values>>,
    small: Option<Vec<Small<'a>>>,
    /// Bytes of blocks that may still be decoded to look for content.
    credit: u64,
    /// The file that content was found in last.
    last: usize,
}

impl<'a> Search<'a> {
    /// The tensor of the same name, or of the name that codes have theirs from.
    fn by_name(&mut self, tensor: &TensorView) -> Result<Option<Computed>> {
        let shape = tensor.stored_shape();
        let mut others = Vec::new();
        for (file, names) in self.names.iter().enumerate() {
            let known = names.get(tensor.name.as_str()).copied();
            let fits = |other: &&TensorView| {
                other.dtype != tensor.dtype
                    && is_source(other.dtype)
                    && other.strides.is_some() == tensor.strides.is_some()
                    && other.stored_shape() == shape
            };
            others.extend(known.filter(fits).map(|other| (file, other)));
        }
        let mut best = None;
        for (file, other) in others.into_iter().take(FILES) {
            let of = Earlier::new(&self.earlier[file], other.segment);
            let key = (file, other.dtype, tensor.dtype);
            let known = self.known.entry(key).or_default();
            // How codes were made is said by scales, which each tensor has of its own.
            let is_own = matches!(tensor.dtype, DType::I8 | DType::U8);
            let how = if known.tried < TRIED || is_own {
                let how = self.how(tensor, &of, other.dtype, false)?;
                let known = self.known.entry(key).or_default();
                known.tried += 1;
                known.exact += u32::from(how.is_some());
                known.how = how.clone().or(known.how.take());
                how
            } else {
                known.how.clone().filter(|_| known.exact == known.tried)
            };
            let of = Input::Earlier(of, other.dtype);
            let found = |how, is_exact| Computed::new(vec![of], tensor.dtype, how, is_exact);
            match how {
                Some(how) => return Ok(Some(found(how, true))),
                // A step further on, it is still near.
                None if best.is_none() && tensor.dtype.float().is_some() => {
                    let cast = Cast::of(other.dtype, Rounding::Nearest, NanRule::Payload, false);
                    best = Some(found(How::InPlace(cast), false));
                }
                None => {}
            }
        }
        Ok(best)
    }

    /// A tensor of the same shape, or the reverse, with the same values.
    fn by_content(&mut self, tensor: &TensorView) -> Result<Option<Computed>> {
        let (shape, len) = (tensor.stored_shape(), tensor.byte_len().unwrap_or(0));
        let elements: u64 = shape.iter().fold(1, |product, dim| product.saturating_mul(*dim));
        if elements < FEWEST || self.earlier.is_empty() {
            return Ok(None);
        }
        self.credit = self.credit.saturating_add(2 * len);
        let reverse: Vec<u64> = shape.iter().rev().copied().collect();
        let may_be_transposed = shape.len() == 2 && matches!(tensor.dtype, DType::I8 | DType::U8);
        let order = [self.last].into_iter().chain((0..self.earlier.len()).filter(|file| *file != self.last));
        let mut compared = 0;
        for file in order.collect::<Vec<_>>() {
            let earlier: &'a Arc<ContentManifest> = &self.earlier[file];
            for (_, other) in earlier_tensors(earlier) {
                let other_shape = other.stored_shape();
                let (same, reversed) = (other_shape == shape, may_be_transposed && other_shape == reverse);
                if !is_source(other.dtype) || other.dtype == tensor.dtype || !(same || reversed) {
                    continue;
                }
                compared += 1;
                if compared > COMPARED {
                    return Ok(None);
                }
                let of = Earlier::new(earlier, other.segment);
                for transposed in [false, true] {
                    let fits = if transposed { reversed } else { same };
                    if fits
                        && self.has_its_signs(tensor, file, other, &of, transposed)?
                        && let Some(how) = self.how(tensor, &of, other.dtype, transposed)?
                    {
                        self.last = file;
                        let of = vec![Input::Earlier(of, other.dtype)];
                        return Ok(Some(Computed::new(of, tensor.dtype, how, true)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether values of the new tensor have the signs of those of an earlier one, less the means of both.
    fn has_its_signs(
        &mut self,
        tensor: &TensorView,
        file: usize,
        other: &TensorView,
        of: &Earlier,
        transposed: bool,
    ) -> Result<bool> {
        let key = (file, other.segment);
        if !self.values.contains_key(&key) {
            let known = self.first_values(other, of)?;
            self.values.insert(key, known);
        }
        let Some(Some(known)) = self.values.get(&key) else { return Ok(false) };
        let (unit, bytes) = tensor.dtype.storage_unit();
        let start = self.starts.get(tensor.segment).copied().unwrap_or(u64::MAX);
        let shape = other.stored_shape();
        let mut own = Vec::with_capacity(known.values.len());
        let mut buffer = vec![0; bytes as usize];
        for at in places(known.elements) {
            let at = match (transposed, &shape[..]) {
                (true, [rows, columns]) => at % columns * rows + at / columns,
                _ => at,
            };
            read_part(self.source, start.saturating_add(at / unit * bytes), &mut buffer, self.path)?;
            let value = values(tensor.dtype, &buffer).and_then(|values| values.get((at % unit) as usize).copied());
            own.push(value.unwrap_or(f32::NAN));
        }
        Ok(signs_agree(&known.values, &own))
    }

    /// Values at a few places of an earlier tensor's first block; `None` where it cannot be read, or there is no credit left.
    fn first_values(&mut self, other: &TensorView, of: &Earlier) -> Result<Option<Values>> {
        let Some(first) = of.blocks().first() else { return Ok(None) };
        let Some(left) = self.credit.checked_sub(u64::from(first.len)) else { return Ok(None) };
        self.credit = left;
        let Some(block) = self.first_block(of)? else { return Ok(None) };
        let word = other.dtype.word_bytes();
        let elements = (block.len() / word) as u64;
        let value = |at: u64| {
            let at = at as usize * word;
            values(other.dtype, &block[at..at + word]).and_then(|values| values.first().copied()).unwrap_or(f32::NAN)
        };
        Ok(Some(Values { elements, values: places(elements).map(value).collect() }))
    }

    /// The first block of an earlier tensor; `None` where it is damaged.
    fn first_block(&mut self, of: &Earlier) -> Result<Option<Vec<u8>>> {
        let Some(first) = of.blocks().first() else { return Ok(None) };
        let mut block = Vec::new();
        match self.reader.look_at(&block_key(first.id), &mut block) {
            Ok(()) => Ok(Some(block)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn how(&mut self, tensor: &TensorView, of: &Earlier, from: DType, transposed: bool) -> Result<Option<How>> {
        let Some(start) = self.starts.get(tensor.segment).copied() else { return Ok(None) };
        let Some(words) = self.first_block(of)? else { return Ok(None) };
        if matches!(tensor.dtype, DType::I8 | DType::U8) && self.small.is_none() {
            self.small = Some(self.small_tensors()?);
        }
        let small = self.small.as_deref().unwrap_or_default();
        New { tensor, start, source: self.source, path: self.path, small }.how((from, &words), transposed)
    }

    /// The tensors of the new file that may be scales or zero points.
    fn small_tensors(&self) -> Result<Vec<Small<'a>>> {
        let (mut small, mut left) = (Vec::new(), ALL_SMALL);
        for tensor in whole_tensors(self.layout) {
            let len = tensor.byte_len().unwrap_or(u64::MAX);
            let may_be = is_source(tensor.dtype) || matches!(tensor.dtype, DType::I8 | DType::U8);
            if !may_be || len > SMALL.min(left) || !in_any_order(self.layout, tensor.segment) {
                continue;
            }
            left -= len;
            let mut bytes = vec![0; len as usize];
            let start = self.starts.get(tensor.segment).copied().unwrap_or(u64::MAX);
            read_part(self.source, start, &mut bytes, self.path)?;
            small.push(Small { dtype: tensor.dtype, bytes, segment: tensor.segment, name: &tensor.name });
        }
        // Names that scales have come first.
        small.sort_by_key(|small| !["scale", "zero", "_s", "_zp"].iter().any(|part| small.name.contains(part)));
        Ok(small)
    }
}

/// Whether nearly all values that are far from the mean lie on the same side of it in both.
fn signs_agree(a: &[f32], b: &[f32]) -> bool {
    /// Fewest pairs, and the inverse of the share that may differ.
    const FEWEST: usize = 48;
    const DIFFER: usize = 32;
    let pairs: Vec<(f64, f64)> = a
        .iter()
        .zip(b)
        .filter(|(a, b)| a.is_finite() && b.is_finite())
        .map(|(a, b)| (f64::from(*a), f64::from(*b)))
        .collect();
    let count = pairs.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (mean_a, mean_b) = (mean(&|pair| pair.0), mean(&|pair| pair.1));
    let spread = mean(&|pair| (pair.1 - mean_b).powi(2)).sqrt();
    let far: Vec<&(f64, f64)> = pairs.iter().filter(|(_, b)| (b - mean_b).abs() > spread / 2.0).collect();
    let differ = far.iter().filter(|(a, b)| (a > &mean_a) != (b > &mean_b)).count();
    far.len() >= FEWEST && differ * DIFFER <= far.len()
}
