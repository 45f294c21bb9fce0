//! What is coded: blocks of weights as the engine cuts them, of four types, with earlier versions; and a block of text.

use std::sync::LazyLock;

use half::{bf16, f16};
use shard_codecs::{Base, Block, Rows};
use shard_core::limits::MAX_BLOCK;
use shard_core::{BaseRef, DType, sha256};
use shard_datasets::rng::Rng;

/// The scale of weights, and of the step between two versions: nearly every fp32 word of them differs, and most bf16 words.
const WEIGHT: f32 = 0.02;
const STEP: f32 = 4e-4;
/// The scale of int8 weights.
const INT8: f32 = 0.06 / 127.0;
/// One word in so many moves in a sparse step.
const SPARSE: u64 = 50;
/// Words of a row.
const ROW: u64 = 1024;

/// A block, and what earlier versions have in its place.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) dtype: Option<DType>,
    pub(crate) data: Vec<u8>,
    pub(crate) rows: Option<Rows>,
    /// By name, how far the version before was away.
    pub(crate) bases: Vec<(&'static str, Vec<u8>)>,
    /// The version before the one in `bases` that is far away.
    pub(crate) older: Vec<u8>,
}

/// Every case, made when the first is needed.
pub(crate) static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    vec![
        weights("bf16", DType::BF16, |value, out| out.extend(bf16::from_f32(value).to_le_bytes())),
        weights("fp16", DType::F16, |value, out| out.extend(f16::from_f32(value).to_le_bytes())),
        weights("fp32", DType::F32, |value, out| out.extend(value.to_le_bytes())),
        // The cast saturates.
        weights("int8", DType::I8, |value, out| out.extend(((value / INT8).round() as i8).to_le_bytes())),
        text(),
    ]
});

impl Case {
    /// The first `len` bytes without a base, and against each, by name.
    pub(crate) fn inputs(&self, len: usize) -> Vec<Input<'_>> {
        let solo = ("solo", None);
        let based = self.bases.iter().map(|(name, base)| (*name, Some(base)));
        [solo]
            .into_iter()
            .chain(based)
            .map(|(name, base)| {
                let base = base.map(|base| {
                    let bytes = &base[..len];
                    (BaseRef::whole(sha256(bytes), bytes.len() as u32), bytes)
                });
                Input { name, data: &self.data[..len], dtype: self.dtype, rows: self.rows, base }
            })
            .collect()
    }
}

/// A block to encode, owning what refers to its base.
pub(crate) struct Input<'a> {
    pub(crate) name: &'static str,
    pub(crate) data: &'a [u8],
    dtype: Option<DType>,
    rows: Option<Rows>,
    pub(crate) base: Option<(BaseRef, &'a [u8])>,
}

impl Input<'_> {
    pub(crate) fn block(&self) -> Block<'_> {
        let base = self.base.as_ref().map(|(reference, bytes)| Base::new(reference, bytes));
        Block { data: self.data, dtype: self.dtype, rows: self.rows, base }
    }
}

/// A block of weights of one type, and the blocks before it: one in which few words differ, one in which most do, and one
/// more step before that.
fn weights(name: &'static str, dtype: DType, put: fn(f32, &mut Vec<u8>)) -> Case {
    let mut rng = Rng::new(3);
    let words = MAX_BLOCK / dtype.word_bytes();
    let new: Vec<f32> = (0..words).map(|_| rng.normal() as f32 * WEIGHT).collect();
    let bytes = |values: &[f32]| {
        let mut bytes = Vec::with_capacity(MAX_BLOCK);
        values.iter().for_each(|value| put(*value, &mut bytes));
        bytes
    };
    let mut step = |values: &[f32], one_in: u64| -> Vec<f32> {
        let mut stepped = |value: &f32| {
            let moves = rng.below(one_in) == 0;
            if moves { value + rng.normal() as f32 * STEP } else { *value }
        };
        values.iter().map(&mut stepped).collect()
    };
    let (sparse, dense) = (step(&new, SPARSE), step(&new, 1));
    let older = step(&dense, 1);
    Case {
        name,
        dtype: Some(dtype),
        data: bytes(&new),
        rows: Rows::of(dtype, &[words as u64 / ROW, ROW], 0),
        bases: vec![("sparse delta", bytes(&sparse)), ("dense delta", bytes(&dense))],
        older: bytes(&older),
    }
}

/// A block of something like a log. The engine gives opaque bytes no base.
fn text() -> Case {
    let mut rng = Rng::new(5);
    let mut data = Vec::with_capacity(MAX_BLOCK + 128);
    let mut step = 0;
    while data.len() < MAX_BLOCK {
        step += 1 + rng.below(3);
        let (loss, rate) = (2.0 + rng.normal() * 0.05, 6e-4 * rng.unit());
        data.extend_from_slice(format!("{{\"step\": {step}, \"loss\": {loss:.5}, \"lr\": {rate:.3e}}}\n").as_bytes());
    }
    data.truncate(MAX_BLOCK);
    Case { name: "text", dtype: None, data, rows: None, bases: Vec::new(), older: Vec::new() }
}
