use shard_core::DType;

use super::values::{Float, store, values};
use super::{Derivation, Derived, InputLens, Number, Numbers, Target, byte_len, dtype, solve};
use crate::CodecError;
use crate::kernel::Isa;

/// Elements that are worked on at a time.
const TILE: usize = 1024;
/// Elements that exponents are fitted to, at most.
const FITTED: usize = 16 << 10;
/// Tensors that a magnitude depends on, at most.
const MOST: usize = 3;
/// The logarithm of what is taken for the smallest magnitude, 2^-100.
const SMALLEST: f64 = (27u64 << 23) as f64;
/// What an estimate has to take off the mean square of logarithms, as its inverse.
const LEAST: f64 = 12.0;

/// How large each element is likely to be, by others: an optimizer's second moment tells the size of the first, and rows and
/// columns of a moment differ by more than their elements (which Adafactor makes use of: Shazeer and Stern, arXiv:1804.04235).
///
/// The logarithm of the magnitude is `c + Σ a·log|x| + b·(log row + log column)`. The logarithm of a value is the bit pattern of its
/// magnitude as a binary32, a whole number that is linear between powers of two, and at least that of 2^-100; the result is taken
/// for such a pattern too, after all sums are done in binary64, in the order written. The sign is left open: the residual that goes
/// with it is [`crate::residual::Turn`].
///
/// Inputs: the tensors; where there are scales of rows and columns, those of the rows that the block has a part of, and those of
/// all columns. Numbers: how many tensors; their type; the type of scales, or 0; the length of a row, and where the block starts
/// in its tensor, in elements; `c`; `a` of three tensors; `b`.
pub struct Magnitude;

/// What magnitudes are estimated from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// How many tensors.
    pub tensors: u8,
    /// Their type.
    pub dtype: DType,
    /// The type of scales of rows and columns.
    pub scales: Option<DType>,
    /// The length of a row.
    pub columns: u64,
    /// Where the block starts in its tensor, in elements.
    pub phase: u64,
}

impl Sizes {
    /// With this constant, exponents of three tensors, and exponent of the scales.
    #[must_use]
    pub fn derived(self, exponents: &[f64]) -> Derived {
        let at = |index: usize| exponents.get(index).copied().unwrap_or(0.0).to_bits();
        let numbers = [
            self.tensors.into(),
            u64::from(self.dtype.wire_id()),
            self.scales.map_or(0, |dtype| u64::from(dtype.wire_id())),
            self.columns,
            self.phase,
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
        ];
        Derived::new(&Magnitude, &numbers)
    }

    /// The exponents that tell most of a block's magnitudes (by least squares of logarithms), if they tell enough.
    #[must_use]
    pub fn fit(self, isa: Isa, target: Target, input: &[u8], words: &[u8]) -> Option<Derived> {
        let numbers = self.derived(&[]).numbers;
        let parts = Parts::new(target, &numbers).ok()?;
        let lens = Magnitude.input_lens(target, &numbers).ok()?;
        let (inputs, count) = lens.split(input)?;
        let inputs = &inputs[..count];
        let to = Float::of(target.dtype).ok()?;
        let scales = Logarithms::new(isa, &parts, inputs);
        let count = words.len() / to.bytes();
        let tiles = count.div_ceil(TILE);
        let step = tiles.div_ceil(FITTED / TILE).max(1);
        // A constant, the tensors, the scales.
        let unknown = 1 + parts.tensors + usize::from(parts.scales.is_some());
        let (mut gram, mut along) = (vec![0.0; unknown * unknown], vec![0.0; unknown]);
        let (mut sum, mut square, mut counted) = (0.0, 0.0, 0.0);
        let mut features = [[0.0; TILE]; MOST + 1];
        let mut own = [0.0; TILE];
        for index in (0..tiles).step_by(step) {
            let range = index * TILE..((index + 1) * TILE).min(count);
            parts.read(isa, inputs, &scales, range.clone(), &mut features);
            let own = &mut own[..range.len()];
            values(isa, to, &words[range.start * to.bytes()..range.end * to.bytes()], own);
            for (at, value) in own.iter().enumerate() {
                // Logarithms in octaves, so that sums stay small.
                let octaves = |log: f64| log / f64::from(1u32 << 23);
                let wanted = octaves(log(*value));
                let mut row = [1.0; MOST + 2];
                for (place, feature) in row[1..].iter_mut().zip(&features) {
                    *place = octaves(feature[at]);
                }
                if parts.scales.is_some() {
                    row[unknown - 1] = octaves(features[MOST][at]);
                }
                (sum, square, counted) = (sum + wanted, square + wanted * wanted, counted + 1.0);
                for (index, value) in row[..unknown].iter().enumerate() {
                    along[index] += value * wanted;
                    for (other, column) in row[..unknown].iter().enumerate() {
                        gram[index * unknown + other] += value * column;
                    }
                }
            }
        }
        let found = solve(&gram, &along)?;
        let left = square - found.iter().zip(&along).map(|(exponent, along)| exponent * along).sum::<f64>();
        let total = square - sum * sum / counted;
        if total.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) || left > total - total / LEAST {
            return None;
        }
        let mut exponents = [0.0; MOST + 2];
        exponents[0] = found[0] * f64::from(1u32 << 23);
        exponents[1..=parts.tensors].copy_from_slice(&found[1..=parts.tensors]);
        if parts.scales.is_some() {
            exponents[MOST + 1] = found[unknown - 1];
        }
        Some(self.derived(&exponents))
    }
}

/// The scales of a matrix' rows and columns: the mean magnitudes, as `BF16` words.
pub struct Scales {
    float: Float,
    /// The sum of each column so far.
    columns: Vec<f64>,
    rows: Vec<f64>,
    row: Vec<f64>,
}

impl Scales {
    /// Of a matrix of that type with so many columns; `None` where it has no floats that can be computed with.
    #[must_use]
    pub fn new(dtype: DType, columns: usize) -> Option<Self> {
        let float = Float::of(dtype).ok()?;
        Some(Self { float, columns: vec![0.0; columns], rows: Vec::new(), row: vec![0.0; columns] })
    }

    /// Adds the next rows, whole.
    pub fn update(&mut self, isa: Isa, rows: &[u8]) {
        for words in rows.chunks_exact((self.columns.len() * self.float.bytes()).max(1)) {
            values(isa, self.float, words, &mut self.row);
            let sum: f64 = self.row.iter().map(|value| value.abs()).sum();
            self.rows.push(sum / self.columns.len() as f64);
            self.columns.iter_mut().zip(&self.row).for_each(|(sum, value)| *sum += value.abs());
        }
    }

    /// The scales of the rows, and of the columns.
    #[must_use]
    pub fn finish(mut self, isa: Isa) -> Option<[Vec<u8>; 2]> {
        let short = Float::of(DType::BF16).ok()?;
        let count = self.rows.len() as f64;
        self.columns.iter_mut().for_each(|sum| *sum /= count);
        Some([&self.rows, &self.columns].map(|values| {
            let mut words = vec![0; 2 * values.len()];
            store(isa, short, values, &mut words);
            words
        }))
    }
}

/// The logarithm of a value.
#[inline(always)]
fn log(value: f64) -> f64 {
    let bits = f64::from((value as f32).to_bits() & 0x7fff_ffff);
    if bits < SMALLEST { SMALLEST } else { bits }
}

/// The numbers, as they are read.
struct Parts {
    tensors: usize,
    float: Float,
    scales: Option<Float>,
    columns: usize,
    before: usize,
    touched: usize,
    constant: f64,
    exponents: [f64; MOST + 1],
}

/// The logarithms of the scales of the rows and of the columns.
#[derive(Default)]
struct Logarithms {
    rows: Vec<f64>,
    columns: Vec<f64>,
}

impl Logarithms {
    fn new(isa: Isa, parts: &Parts, inputs: &[&[u8]]) -> Self {
        let (Some(float), [.., rows, columns]) = (parts.scales, inputs) else { return Self::default() };
        let logs = |words: &[u8]| {
            let mut out = vec![0.0; words.len() / float.bytes()];
            values(isa, float, words, &mut out);
            out.iter_mut().for_each(|value| *value = log(*value));
            out
        };
        Self { rows: logs(rows), columns: logs(columns) }
    }
}

impl Parts {
    fn new(target: Target, numbers: &Numbers) -> Result<Self, CodecError> {
        let [tensors, float, scales, columns, phase, constant, ..] = *numbers;
        Float::of(target.dtype)?;
        let elements = target.elements()? as u64;
        let touched = (phase % columns.max(1) + elements).div_ceil(columns.max(1));
        if tensors > MOST as u64 || columns == 0 || (tensors == 0 && scales == 0) {
            return Err(CodecError::Chain("magnitudes do not fit their block"));
        }
        Ok(Self {
            tensors: tensors as usize,
            float: Float::of(dtype(float)?)?,
            scales: if scales == 0 { None } else { Some(Float::of(dtype(scales)?)?) },
            columns: columns as usize,
            before: (phase % columns) as usize,
            touched: touched as usize,
            constant: f64::from_bits(constant),
            exponents: [6, 7, 8, 9].map(|index| f64::from_bits(numbers[index])),
        })
    }

    /// The logarithms of a few elements: of the tensors, and last of the scales.
    fn read(
        &self,
        isa: Isa,
        inputs: &[&[u8]],
        scales: &Logarithms,
        range: std::ops::Range<usize>,
        features: &mut [[f64; TILE]; MOST + 1],
    ) {
        let len = range.len();
        let bytes = self.float.bytes();
        for (input, feature) in inputs.iter().zip(features.iter_mut()).take(self.tensors) {
            let feature = &mut feature[..len];
            values(isa, self.float, &input[range.start * bytes..range.end * bytes], feature);
            feature.iter_mut().for_each(|value| *value = log(*value));
        }
        if self.scales.is_some() {
            for (at, feature) in range.zip(features[MOST].iter_mut()) {
                let (row, column) = ((at + self.before) / self.columns, (at + self.before) % self.columns);
                *feature =
                    scales.rows.get(row).copied().unwrap_or(0.0) + scales.columns.get(column).copied().unwrap_or(0.0);
            }
        }
    }
}

impl Derivation for Magnitude {
    fn id(&self) -> u8 {
        7
    }
    fn name(&self) -> &'static str {
        "magnitude"
    }
    fn is_unsigned(&self) -> bool {
        true
    }
    fn numbers(&self) -> &'static [Number] {
        &[
            Number::UpTo(MOST as u64),
            Number::DType,
            Number::UpTo(255),
            Number::UpTo(1 << 48),
            Number::UpTo(1 << 48),
            Number::Factor,
            Number::Factor,
            Number::Factor,
            Number::Factor,
            Number::Factor,
        ]
    }
    fn input_lens(&self, target: Target, numbers: &Numbers) -> Result<InputLens, CodecError> {
        let parts = Parts::new(target, numbers)?;
        let mut lens = [0; MOST + 2];
        lens[..parts.tensors].fill(byte_len(parts.float.dtype, target.elements()?)?);
        let mut count = parts.tensors;
        if let Some(scales) = parts.scales {
            for elements in [parts.touched, parts.columns] {
                lens[count] = byte_len(scales.dtype, elements)?;
                count += 1;
            }
        }
        Ok(InputLens::of(&lens[..count]))
    }
    fn derive(
        &self,
        isa: Isa,
        target: Target,
        numbers: &Numbers,
        inputs: &[&[u8]],
        out: &mut [u8],
    ) -> Result<(), CodecError> {
        let (parts, to) = (Parts::new(target, numbers)?, Float::of(target.dtype)?);
        let scales = Logarithms::new(isa, &parts, inputs);
        let mut features = [[0.0; TILE]; MOST + 1];
        let mut made = [0.0; TILE];
        for (index, out) in out.chunks_mut(TILE * to.bytes()).enumerate() {
            let len = out.len() / to.bytes();
            parts.read(isa, inputs, &scales, index * TILE..index * TILE + len, &mut features);
            for (at, made) in made[..len].iter_mut().enumerate() {
                let mut sum = parts.constant;
                for (feature, exponent) in features.iter().zip(&parts.exponents).take(parts.tensors) {
                    sum += feature[at] * exponent;
                }
                if parts.scales.is_some() {
                    sum += features[MOST][at] * parts.exponents[MOST];
                }
                // Within the normal numbers.
                let most = f64::from(f32::MAX.to_bits());
                let bits = if sum < SMALLEST { SMALLEST } else { sum };
                let bits = if bits > most { most } else { bits };
                *made = f64::from(f32::from_bits(bits as u32));
            }
            store(isa, to, &made[..len], out);
        }
        Ok(())
    }
}
