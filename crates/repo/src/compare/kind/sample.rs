//! Some rows of two tensors of one shape, as numbers.

use shard_core::DType;

use super::super::contents::Placed;
use super::super::elements::Elements;
use super::{is_complex, matrix};
use crate::error::Result;

/// Runs of neighbouring rows that a sample is made of: few, since each may have to be decoded.
const RUNS: u64 = 4;

/// How much of two tensors is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: u64,
    pub(super) columns: u64,
}

impl Limits {
    /// Enough to tell kinds apart.
    const GLANCE: Self = Self { rows: 192, columns: 256 };
    /// Columns of a vector.
    const VECTOR: u64 = 16 << 10;
}

/// Rows of two tensors, at the same places of both.
pub(super) struct Sample {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) dtypes: [DType; 2],
    pub(super) old: Vec<f64>,
    pub(super) new: Vec<f64>,
    /// The words, where elements are whole words on both sides.
    words: Option<(Vec<u8>, Vec<u8>)>,
}

impl Sample {
    /// Of two tensors of one shape; `None` where their values cannot be told, or there are none.
    pub(super) fn read(old: Placed<'_>, new: Placed<'_>) -> Result<Option<Self>> {
        Self::read_within(old, new, Limits::GLANCE)
    }

    /// The same with other limits.
    pub(super) fn read_within(old: Placed<'_>, new: Placed<'_>, limits: Limits) -> Result<Option<Self>> {
        let (Some(before), Some(after)) = (matrix(old.1), matrix(new.1)) else { return Ok(None) };
        if before != after { Ok(None) } else { Self::of(old, new, before, limits) }
    }

    /// Of the first rows and columns of two tensors of different shapes.
    pub(super) fn of_corner(old: Placed<'_>, new: Placed<'_>, rows: u64, columns: u64) -> Result<Option<Self>> {
        Self::of(old, new, (rows, columns), Limits::GLANCE)
    }

    fn of(old: Placed<'_>, new: Placed<'_>, (rows, columns): (u64, u64), limits: Limits) -> Result<Option<Self>> {
        if is_complex(old.1.dtype) || is_complex(new.1.dtype) || old.1.strides != new.1.strides {
            return Ok(None);
        }
        let most = if rows == 1 { Limits::VECTOR } else { limits.columns };
        let wanted = columns.min(most);
        let taken = rows.min(limits.rows);
        let mut sample = Self {
            rows: taken as usize,
            columns: wanted as usize,
            dtypes: [old.1.dtype, new.1.dtype],
            old: Vec::new(),
            new: Vec::new(),
            words: Some((Vec::new(), Vec::new())),
        };
        let mut sides = [old, new].map(|side| (Elements::new(side), matrix(side.1).map_or(0, |(_, columns)| columns)));
        if !sides.iter().all(|(side, _)| side.has_words()) {
            sample.words = None;
        }
        for index in 0..taken {
            // Where not all rows are taken: as many from each of some places.
            let row = if taken == rows {
                index
            } else {
                let per_run = taken.div_ceil(RUNS);
                index / per_run * (rows / RUNS) + index % per_run
            };
            // In tensors of different shapes rows are of different lengths.
            for (elements, columns) in &mut sides {
                if !elements.read(row * *columns, wanted)? {
                    return Ok(None);
                }
            }
            let [(before, _), (after, _)] = &sides;
            sample.old.extend(before.values.iter().take(wanted as usize));
            sample.new.extend(after.values.iter().take(wanted as usize));
            if let Some(words) = &mut sample.words {
                words.0.extend_from_slice(&before.bytes);
                words.1.extend_from_slice(&after.bytes);
            }
        }
        Ok(Some(sample))
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.old.len()
    }

    /// Old and new values that are finite.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        let pairs = self.old.iter().copied().zip(self.new.iter().copied());
        pairs.filter(|(a, b)| a.is_finite() && b.is_finite())
    }

    /// The words of both.
    pub(super) fn bytes(&self) -> Option<(&[u8], &[u8])> {
        self.words.as_ref().map(|(old, new)| (old.as_slice(), new.as_slice()))
    }

    /// See [`correlation`].
    pub(super) fn correlation(&self) -> f64 {
        correlation(&self.old, &self.new, self.columns)
    }
}

/// Pearson's correlation of old and new values within rows of `columns` values, over all rows: scales and offsets of rows do not
/// matter, so that codes of quantised rows are compared as well as values.
pub(in super::super) fn correlation(old: &[f64], new: &[f64], columns: usize) -> f64 {
    let (mut ab, mut aa) = (0.0, 0.0);
    for (old, new) in old.chunks(columns.max(1)).zip(new.chunks(columns.max(1))) {
        let count = old.len() as f64;
        let (a, b) = (old.iter().sum::<f64>() / count, new.iter().sum::<f64>() / count);
        let (mut row_ab, mut row_aa, mut row_bb) = (0.0, 0.0, 0.0);
        for (x, y) in old.iter().zip(new) {
            row_ab += (x - a) * (y - b);
            row_aa += (x - a) * (x - a);
            row_bb += (y - b) * (y - b);
        }
        // Rows weigh by what the old values are worth, whatever scale the new ones have.
        if row_bb > 0.0 && row_aa.is_finite() && row_bb.is_finite() {
            (ab, aa) = (ab + row_ab * (row_aa / row_bb).sqrt(), aa + row_aa);
        }
    }
    if aa > 0.0 { ab / aa } else { 0.0 }
}
