mod find;

pub use find::{Change, Factors, words};

use shard_core::DType;

use super::cast::{NanRule, put_special};
use super::values::{Float, store, values};
use super::{Derivation, Derived, InputLens, Number, Numbers, Target, byte_len, dtype};
use crate::CodecError;
use crate::kernel::{Isa, Work, compiled_for};

/// Words of a row that are summed up at a time.
const TILE: usize = 512;

/// A matrix to which one of low rank was added: a base with an adapter merged in (LoRA: Hu et al., arXiv:2106.09685).
///
/// Word `(i, j)` is `base(i, j) + factor · Σ left(i, k) · right(k, j)`, the sum over `k` in ascending order, in binary64, and
/// rounded as [`Arithmetic`] says. Where the base's word is not finite, it is that, as [`super::Cast`] would have it.
///
/// Inputs: the base's words; the left factor; the right factor. Numbers: the types of the three; the arithmetic; the rank; the
/// length of a row; where the block starts in its matrix, in words; the matrix' number of rows, where the factors lie transposed,
/// else 0; the factor. As they lie, the left factor has the rows that the block has a part of, row by row, and the right factor
/// `rank` rows. Transposed, the left factor is the whole of it with `rank` rows, and the right one has a row for each column.
///
/// Factors are floats, or whole numbers: of `U8`, `U16` and `U32` each word less 2^7, 2^15 and 2^23.
pub struct LowRank;

/// How the product and the sum are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Once, at the end.
    Wide,
    /// As in binary32: the sum of products, its multiple, and the sum with the base.
    Single,
    /// The product and its multiple as in binary32, and both that and the sum with the base in the type of the result.
    Change,
    /// All in the type of the result: the factors' values, the sum of products, its multiple, and the sum with the base.
    Own,
}

impl Arithmetic {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Wide, Self::Single, Self::Change, Self::Own];
}

/// What a block of low rank is made with, beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// The types of base, left and right factor.
    pub dtypes: [DType; 3],
    /// How it is rounded.
    pub arithmetic: Arithmetic,
    /// The rank.
    pub rank: u32,
    /// The length of a row, in words.
    pub columns: u64,
    /// Where the block starts in its matrix, in words.
    pub phase: u64,
    /// The number of rows, where the factors lie transposed.
    pub transposed_rows: Option<u64>,
    /// What the product is multiplied by.
    pub factor: f64,
}

/// The most columns, rows and rank: what is held as binary64 stays within bounds.
const MOST: u64 = 1 << 20;
const MOST_RANK: u64 = 1024;
/// And the most words of a factor.
const MOST_WORDS: u64 = 1 << 22;

impl Merge {
    /// That merge.
    #[must_use]
    pub fn derived(&self) -> Derived {
        let merge = self;
        let [base, left, right] = merge.dtypes.map(|dtype| u64::from(dtype.wire_id()));
        Derived::new(
            &LowRank,
            &[
                base,
                left,
                right,
                merge.arithmetic as u64,
                merge.rank.into(),
                merge.columns,
                merge.phase,
                merge.transposed_rows.unwrap_or(0),
                merge.factor.to_bits(),
            ],
        )
    }
}

/// The numbers, as they are read.
struct Parts {
    base: Float,
    left: Factor,
    right: Factor,
    arithmetic: Arithmetic,
    rank: usize,
    columns: usize,
    /// The first row that the block has a part of.
    first: usize,
    /// The words of it before the block.
    phase: usize,
    /// The rows that the block has a part of.
    touched: usize,
    transposed_rows: usize,
    factor: f64,
}

impl Parts {
    fn new(target: Target, numbers: &Numbers) -> Result<Self, CodecError> {
        let [base, left, right, arithmetic, rank, columns, phase, rows, factor, ..] = *numbers;
        let fault = || CodecError::Chain("a product of low rank does not fit its block");
        let words = target.elements()? as u64;
        let touched = (phase % columns.max(1) + words).div_ceil(columns.max(1));
        let first = phase / columns.max(1);
        let left_rows = if rows > 0 { rows } else { touched };
        let fits = rank.saturating_mul(columns.max(left_rows)) <= MOST_WORDS && (rows == 0 || first + touched <= rows);
        if rank == 0 || columns == 0 || !fits {
            return Err(fault());
        }
        Ok(Self {
            base: Float::of(dtype(base)?)?,
            left: Factor::of(dtype(left)?)?,
            right: Factor::of(dtype(right)?)?,
            arithmetic: *Arithmetic::ALL.get(arithmetic as usize).ok_or_else(fault)?,
            rank: rank as usize,
            columns: columns as usize,
            first: first as usize,
            phase: (phase % columns) as usize,
            touched: touched as usize,
            transposed_rows: rows as usize,
            factor: f64::from_bits(factor),
        })
    }
}

/// A type that factors have.
#[derive(Debug, Clone, Copy)]
enum Factor {
    Float(Float),
    /// Whole numbers of so many bytes, above the least.
    Whole {
        dtype: DType,
        least: f64,
    },
}

impl Factor {
    fn of(dtype: DType) -> Result<Self, CodecError> {
        let bits = match dtype {
            DType::U8 => 7,
            DType::U16 => 15,
            DType::U32 => 23,
            _ => return Float::of(dtype).map(Self::Float),
        };
        Ok(Self::Whole { dtype, least: f64::from(1u32 << bits) })
    }

    fn dtype(self) -> DType {
        match self {
            Self::Float(float) => float.dtype,
            Self::Whole { dtype, .. } => dtype,
        }
    }

    /// All values; those that are not finite are 0.
    fn values(self, isa: Isa, words: &[u8]) -> Vec<f64> {
        let bytes = self.dtype().word_bytes();
        let mut out = vec![0.0; words.len() / bytes];
        match self {
            Self::Float(float) => {
                values(isa, float, words, &mut out);
            }
            Self::Whole { least, .. } => {
                for (value, word) in out.iter_mut().zip(words.chunks_exact(bytes)) {
                    *value = super::values::bits(word) as f64 - least;
                }
            }
        }
        out
    }
}

/// `sums[j] = Σ left[k] · right[k][j]`.
struct Products<'a> {
    left: &'a [f64],
    right: &'a [f64],
    columns: usize,
    from: usize,
    sums: &'a mut [f64],
}

impl Work for Products<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { left, right, columns, from, sums } = self;
        sums.fill(0.0);
        for (left, row) in left.iter().zip(right.chunks_exact(columns)) {
            let row = row.get(from..from + sums.len()).unwrap_or_default();
            for (sum, right) in sums.iter_mut().zip(row) {
                *sum += left * right;
            }
        }
    }
}

/// `sums[j] = base[j] + factor · sums[j]`, all rounded to binary32.
struct AddSingle<'a> {
    base: &'a [f64],
    factor: f32,
    sums: &'a mut [f64],
}

impl Work for AddSingle<'_> {
    #[inline(always)]
    fn run(self) {
        for (sum, base) in self.sums.iter_mut().zip(self.base) {
            let product = *sum as f32 * self.factor;
            *sum = f64::from(*base as f32 + product);
        }
    }
}

/// `sums[j] = base[j] + factor · sums[j]`.
struct AddWide<'a> {
    base: &'a [f64],
    factor: f64,
    sums: &'a mut [f64],
}

impl Work for AddWide<'_> {
    #[inline(always)]
    fn run(self) {
        for (sum, base) in self.sums.iter_mut().zip(self.base) {
            *sum = base + self.factor * *sum;
        }
    }
}

/// Rounds values to a type and back, by way of `words`; what is not finite then becomes 0.
fn through(isa: Isa, to: Float, sums: &mut [f64], words: &mut [u8]) {
    sums.iter_mut().filter(|sum| !sum.is_finite()).for_each(|sum| *sum = 0.0);
    store(isa, to, sums, words);
    values(isa, to, words, sums);
}

impl Derivation for LowRank {
    fn id(&self) -> u8 {
        2
    }
    fn name(&self) -> &'static str {
        "low-rank"
    }
    fn numbers(&self) -> &'static [Number] {
        const WORDS: Number = Number::UpTo(1 << 48);
        &[
            Number::DType,
            Number::DType,
            Number::DType,
            Number::UpTo(3),
            Number::UpTo(MOST_RANK),
            Number::UpTo(MOST),
            WORDS,
            Number::UpTo(MOST),
            Number::Factor,
        ]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        Float::of(target.dtype)?;
        let parts = Parts::new(target, numbers)?;
        let left_rows = if parts.transposed_rows > 0 { parts.transposed_rows } else { parts.touched };
        Ok(InputLens::of(&[
            byte_len(parts.base.dtype, target.elements()?)?,
            byte_len(parts.left.dtype(), left_rows * parts.rank)?,
            byte_len(parts.right.dtype(), parts.columns * parts.rank)?,
        ]))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let parts = Parts::new(target, numbers)?;
        let (from, to) = (parts.base, Float::of(target.dtype)?);
        let &[base, left, right] = inputs else { return Err(CodecError::BaseMissing) };
        let (mut left, mut right) = (parts.left.values(isa, left), parts.right.values(isa, right));
        if parts.transposed_rows > 0 {
            left = transpose(&left, parts.rank);
            left.drain(..parts.first * parts.rank);
            right = transpose(&right, parts.columns);
        }
        if parts.arithmetic == Arithmetic::Own {
            for factor in [&mut left, &mut right] {
                let mut words = vec![0; factor.len() * to.bytes()];
                through(isa, to, factor, &mut words);
            }
        }
        let (mut sums, mut bases) = ([0.0; TILE], [0.0; TILE]);
        let words = base.len() / from.bytes();
        let mut at = 0;
        while at < words {
            let (row, column) = ((at + parts.phase) / parts.columns, (at + parts.phase) % parts.columns);
            let count = TILE.min(parts.columns - column).min(words - at);
            let (sums, bases) = (&mut sums[..count], &mut bases[..count]);
            let left = left.get(row * parts.rank..(row + 1) * parts.rank).unwrap_or_default();
            compiled_for(isa, Products { left, right: &right, columns: parts.columns, from: column, sums });
            let source = &base[at * from.bytes()..(at + count) * from.bytes()];
            let made = &mut out[at * to.bytes()..(at + count) * to.bytes()];
            let all_finite = values(isa, from, source, bases);
            match parts.arithmetic {
                Arithmetic::Wide => compiled_for(isa, AddWide { base: bases, factor: parts.factor, sums }),
                Arithmetic::Single => {
                    compiled_for(isa, AddSingle { base: bases, factor: parts.factor as f32, sums });
                }
                Arithmetic::Change => {
                    let factor = parts.factor as f32;
                    sums.iter_mut().for_each(|sum| *sum = f64::from(*sum as f32 * factor));
                    through(isa, to, sums, made);
                    sums.iter_mut().zip(&*bases).for_each(|(sum, base)| *sum += base);
                }
                Arithmetic::Own => {
                    through(isa, to, sums, made);
                    sums.iter_mut().for_each(|sum| *sum *= parts.factor);
                    through(isa, to, sums, made);
                    sums.iter_mut().zip(&*bases).for_each(|(sum, base)| *sum += base);
                }
            }
            // A sum beyond all bounds must not become a NaN, whose bits are not the same everywhere.
            sums.iter_mut().filter(|sum| !sum.is_finite()).for_each(|sum| *sum = 0.0);
            store(isa, to, sums, made);
            if !all_finite {
                for (word, made) in source.chunks_exact(from.bytes()).zip(made.chunks_exact_mut(to.bytes())) {
                    put_special(from, word, NanRule::Payload, false, to, made);
                }
            }
            at += count;
        }
        Ok(())
    }
}

/// A matrix with so many rows, transposed.
fn transpose(matrix: &[f64], rows: usize) -> Vec<f64> {
    let columns = matrix.len() / rows.max(1);
    let mut out = vec![0.0; matrix.len()];
    for (row, values) in matrix.chunks_exact(columns.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
    out
}
