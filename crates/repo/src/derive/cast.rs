//! Casts: the tensor of the same name and shape in another float type.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use shard_codecs::Derived;
use shard_codecs::derive::{Cast, NanRule, Rounding};
use shard_codecs::kernel::Isa;
use shard_core::{BaseRef, DType, Layout, TensorView};
use shard_formats::Source;
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use crate::blocks::{BlockReader, block_key};
use crate::error::Result;
use crate::parent::{Earlier, earlier_tensors, in_any_order, read_part, whole_tensors};

/// Words of a tensor that are compared with a cast of another.
const COMPARED: usize = 16 << 10;

/// Tensors of a file that are compared. If all of them are casts, the others are taken for casts as well: should one not be, its
/// blocks find that out.
const TRIED: u32 = 4;

/// Earlier files that a tensor is looked for in.
const FILES: usize = 8;

/// A tensor in another type.
#[derive(Clone)]
pub(crate) struct CastOf {
    of: Earlier,
    from: DType,
    to: DType,
    derived: Derived,
    /// Whether words agreed, where that was looked at.
    pub(crate) is_exact: bool,
}

impl CastOf {
    /// What predicts the `len` bytes at `offset`.
    pub(crate) fn base(&self, offset: u64, len: usize) -> Option<(Derived, BaseRef)> {
        let (from, to) = (self.from.word_bytes() as u64, self.to.word_bytes() as u64);
        let reference = self.source(offset / to * from, len as u64 / to * from);
        (len as u64).is_multiple_of(to).then_some((self.derived, reference))
    }

    /// The `len` bytes at `offset` of the other tensor.
    pub(crate) fn source(&self, offset: u64, len: u64) -> BaseRef {
        let mut ranges = Vec::new();
        self.of.put_ranges(offset, len, &mut ranges);
        BaseRef { ranges, transpose: None }
    }

    /// The other type.
    pub(crate) fn from(&self) -> DType {
        self.from
    }
}

/// For each segment of a new file, the tensor in another type.
pub(crate) type Casts = HashMap<usize, CastOf>;

/// What is known of casts from one earlier file and type to another type.
#[derive(Default)]
struct Known {
    tried: u32,
    exact: u32,
    cast: Option<Derived>,
}

/// Finds the tensors that are casts of earlier ones, and those of which nothing is nearer than a cast: `has_base` says which
/// segments have a base in their own type.
pub(crate) fn find_casts(
    layout: &Layout,
    earlier: &[Arc<ContentManifest>],
    has_base: impl Fn(usize) -> bool,
    source: &dyn Source,
    path: &Path,
    store: &dyn EntrySource,
) -> Result<Casts> {
    let mut casts = Casts::new();
    let names: Vec<HashMap<&str, (usize, &TensorView)>> = earlier
        .iter()
        .map(|manifest| earlier_tensors(manifest).map(|(i, tensor)| (tensor.name.as_str(), (i, tensor))).collect())
        .collect();
    let mut known: HashMap<(usize, DType, DType), Known> = HashMap::new();
    let starts = layout.segment_offsets();
    let mut reader = BlockReader::new(store);
    for tensor in whole_tensors(layout).filter(|tensor| is_cast_type(tensor.dtype)) {
        let same = |(file, names): (usize, &HashMap<&str, (usize, &TensorView)>)| {
            let (_, other) = names.get(tensor.name.as_str())?;
            let fits = other.dtype != tensor.dtype
                && is_cast_type(other.dtype)
                && other.strides.is_some() == tensor.strides.is_some()
                && other.stored_shape() == tensor.stored_shape();
            fits.then(|| (file, other.dtype, Earlier::new(&earlier[file], other.segment)))
        };
        let mut best: Option<CastOf> = None;
        for (file, from, of) in names.iter().enumerate().filter_map(same).take(FILES) {
            let known = known.entry((file, from, tensor.dtype)).or_default();
            let is_exact = if known.tried < TRIED {
                let words = starts.get(tensor.segment).map_or(Ok(None), |start| {
                    let order = in_any_order(layout, tensor.segment);
                    if order { compare(tensor, &of, from, *start, source, path, &mut reader) } else { Ok(None) }
                })?;
                known.tried += 1;
                known.exact += u32::from(words.is_some());
                known.cast = words.or(known.cast);
                words.is_some()
            } else {
                known.exact == known.tried
            };
            let usual = || Cast::new(from, Rounding::Nearest, NanRule::Payload, false);
            let found = CastOf { of, from, to: tensor.dtype, derived: known.cast.unwrap_or_else(usual), is_exact };
            if is_exact {
                best = Some(found);
                break;
            }
            best.get_or_insert(found);
        }
        if let Some(found) = best.filter(|found| found.is_exact || !has_base(tensor.segment)) {
            casts.insert(tensor.segment, found);
        }
    }
    Ok(casts)
}

/// Float types that casts are known of.
fn is_cast_type(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2)
}

/// The cast that makes nearly all of the tensor's first words out of the other's, or the other way round.
fn compare(
    tensor: &TensorView,
    of: &Earlier,
    from: DType,
    start: u64,
    source: &dyn Source,
    path: &Path,
    reader: &mut BlockReader<'_>,
) -> Result<Option<Derived>> {
    let Some(first) = of.blocks().first() else { return Ok(None) };
    let mut other = Vec::new();
    match reader.look_at(&block_key(first.id), &mut other) {
        Err(error) if error.is_damage() => return Ok(None),
        result => result?,
    }
    let (from_bytes, to_bytes) = (from.word_bytes(), tensor.dtype.word_bytes());
    let count = (other.len() / from_bytes).min(COMPARED);
    other.truncate(count * from_bytes);
    let mut words = vec![0; count * to_bytes];
    read_part(source, start, &mut words, path)?;
    let isa = Isa::best();
    let agrees = |cast: Option<(Derived, usize)>| cast.filter(|(_, equal)| *equal * 16 >= count * 15);
    if let Some((cast, _)) = agrees(Cast::find(isa, (from, &other), (tensor.dtype, &words))) {
        return Ok(Some(cast));
    }
    // The other was made of this one: what it lost is all that is left.
    let widens = agrees(Cast::find(isa, (tensor.dtype, &words), (from, &other))).is_some();
    Ok(widens.then(|| Cast::new(from, Rounding::Nearest, NanRule::Payload, false)))
}
