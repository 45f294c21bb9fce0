//! One tensor on both sides, looked into: where it changed, by how much, and in how many directions.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use shard_core::{DType, Progress};

use super::contents::Placed;
use super::elements::Elements;
use super::kind::{is_complex, matrix, spectrum};
use super::part::at_once;
use super::{CompareOptions, Side, Spectrum, compare_sides};
use crate::error::{RepoError, Result};
use crate::numeric::{is_valued, signed_steps};

/// Rows and columns of the map of a tensor at most.
const SIDE: u64 = 32;
/// Bands that one thread looks at in a row.
const TOGETHER: usize = 8;
/// Elements that are read at a time.
const AT_ONCE: u64 = 1 << 16;

/// Part of a tensor: some rows and columns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Patch {
    /// Elements.
    pub elements: u64,
    /// Elements whose values, or bits where there are no values, differ.
    pub changed: u64,
    /// The largest step of a word, in units in the last place (floats) or in ones (integers).
    pub max_ulp: u64,
    /// Sum of the squares of the old values, where both are finite.
    pub old_squares: f64,
    /// Sum of the squares of the differences.
    pub change_squares: f64,
    /// Elements that are not finite on the new side only.
    pub lost: u64,
}

impl Patch {
    /// Share of the elements that changed.
    #[must_use]
    pub fn changed_share(&self) -> f64 {
        if self.elements == 0 { 0.0 } else { self.changed as f64 / self.elements as f64 }
    }

    /// Norm of the change over that of the old values; `None` where the latter is zero and something changed.
    #[must_use]
    pub fn relative(&self) -> Option<f64> {
        match (self.old_squares > 0.0, self.change_squares > 0.0) {
            (true, _) => Some((self.change_squares / self.old_squares).sqrt()),
            (false, false) => Some(0.0),
            (false, true) => None,
        }
    }

    fn add(&mut self, old: f64, new: f64, steps: i128) {
        self.elements += 1;
        self.changed += u64::from(steps != 0);
        self.max_ulp = self.max_ulp.max(u64::try_from(steps.unsigned_abs()).unwrap_or(u64::MAX));
        if old.is_finite() && new.is_finite() {
            self.old_squares += old * old;
            self.change_squares += (new - old) * (new - old);
        } else {
            self.lost += u64::from(old.is_finite());
        }
    }
}

/// How often a change falls between a power of two and the next: `(power, count)`, by rising power.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Elements that did not change.
    pub unchanged: u64,
    /// Changes below zero: those from `-2^(power + 1)`, which is not among them, to `-2^power`.
    pub down: Vec<(i32, u64)>,
    /// Changes above zero: those from `2^power` to `2^(power + 1)`, which is not among them.
    pub up: Vec<(i32, u64)>,
    /// Changes to or from what is not finite.
    pub not_finite: u64,
}

#[derive(Default)]
struct Counts {
    unchanged: u64,
    down: BTreeMap<i32, u64>,
    up: BTreeMap<i32, u64>,
    not_finite: u64,
}

impl Counts {
    fn merge(&mut self, next: Self) {
        self.unchanged += next.unchanged;
        self.not_finite += next.not_finite;
        next.down.into_iter().for_each(|(power, count)| *self.down.entry(power).or_default() += count);
        next.up.into_iter().for_each(|(power, count)| *self.up.entry(power).or_default() += count);
    }

    fn finish(self) -> Histogram {
        let Self { unchanged, down, up, not_finite } = self;
        Histogram { unchanged, down: down.into_iter().collect(), up: up.into_iter().collect(), not_finite }
    }
}

/// A tensor on both sides, looked into.
#[derive(Debug, Clone)]
pub struct Inside {
    /// Its name on either side.
    pub names: [String; 2],
    /// Its element type on either side.
    pub dtypes: [DType; 2],
    /// Its dimensions, in elements.
    pub shape: Vec<u64>,
    /// Rows and columns as they are stored: the first dimension, and all others.
    pub matrix: (u64, u64),
    /// Rows and columns of the map.
    pub grid: (usize, usize),
    /// The map, row by row.
    pub patches: Vec<Patch>,
    /// Changes in units in the last place (floats) or in ones (integers); of quantised types, in none.
    pub steps: Histogram,
    /// Changes of values.
    pub values: Histogram,
    /// Directions of the change; `None` for vectors, and where something is not finite.
    pub spectrum: Option<Spectrum>,
}

/// Looks into a tensor, given by its name on the new side, or on the old one.
///
/// # Errors
/// What cannot be read; [`RepoError::Argument`] where no tensor of that name is on both sides, with one shape and values that are
/// known.
pub fn look_inside(old: &Side, new: &Side, name: &str, progress: &dyn Progress) -> Result<Inside> {
    let of_name = |side: &Side, name: &str| side.tensors().iter().position(|(_, tensor)| tensor.name == name);
    let indices = match (of_name(old, name), of_name(new, name)) {
        (Some(from), Some(to)) => (from, to),
        (None, None) => {
            let all: BTreeSet<&str> =
                old.tensors().iter().chain(&new.tensors()).map(|(_, tensor)| tensor.name.as_str()).collect();
            let like: Vec<&str> = all.into_iter().filter(|other| other.contains(name)).take(5).collect();
            let like = if like.is_empty() { String::new() } else { format!("; there are {}", like.join(", ")) };
            return Err(RepoError::Argument(format!("there is no tensor {name:?} on either side{like}")));
        }
        _ => {
            // It may have another name on the other side.
            let found = compare_sides(old, new, CompareOptions::default(), progress)?;
            let is_it = |tensor: &&super::TensorDiff| {
                tensor.old_name.as_deref() == Some(name) || (tensor.name == name && tensor.old_name.is_some())
            };
            let partner = found
                .tensors
                .iter()
                .find(is_it)
                .and_then(|tensor| Some((of_name(old, tensor.old_name.as_deref()?)?, of_name(new, &tensor.name)?)));
            partner.ok_or_else(|| RepoError::Argument(format!("the tensor {name:?} is on one side only")))?
        }
    };
    let (old_tensors, new_tensors) = (old.tensors(), new.tensors());
    let (Some(old), Some(new)) = (old_tensors.get(indices.0).copied(), new_tensors.get(indices.1).copied()) else {
        return Err(RepoError::Argument(format!("there is no tensor {name:?}")));
    };
    inside(old, new, progress)
}

fn inside(old: Placed<'_>, new: Placed<'_>, progress: &dyn Progress) -> Result<Inside> {
    let (name, dtype) = (&new.1.name, new.1.dtype);
    let matrix = match (matrix(old.1), matrix(new.1)) {
        (Some(before), Some(after)) if before == after && old.1.strides == new.1.strides && old.1.dtype == dtype => {
            after
        }
        _ => {
            return Err(RepoError::Argument(format!(
                "the tensor {name:?} is {} {:?} on one side and {dtype} {:?} on the other: only tensors of one shape, with elements, can \
                 be looked into",
                old.1.dtype, old.1.shape, new.1.shape
            )));
        }
    };
    let is_known = |dtype: &DType| is_valued(*dtype) && !is_complex(*dtype);
    if let Some(unknown) = [old.1.dtype, dtype].into_iter().find(|dtype| !is_known(dtype)) {
        let why = format!("values of {unknown} are not told one by one, so {name:?} cannot be looked into");
        return Err(RepoError::Argument(why));
    }
    let (rows, columns) = matrix;
    let grid = (rows.min(SIDE), columns.min(SIDE));
    progress.begin("looking inside", new.1.byte_len());
    let bands: Vec<u64> = (0..grid.0).collect();
    let found = bands
        .par_iter()
        // Neighbours are often in one block, which is decoded once then.
        .with_min_len(at_once([old.0, new.0]).max(TOGETHER))
        .map_init(
            || [Elements::new(old), Elements::new(new)],
            |sides, band| {
                let (first, last) = ((band * rows).div_ceil(grid.0), ((band + 1) * rows).div_ceil(grid.0));
                let found = look_at_band(sides, (first, last, columns), grid.1)?;
                progress.advance(new.1.byte_len().unwrap_or(0) / grid.0);
                Ok(found)
            },
        )
        .collect::<Result<Vec<_>>>()?;
    progress.finish();
    let (mut patches, mut steps, mut values) = (Vec::new(), Counts::default(), Counts::default());
    for band in found {
        patches.extend(band.0);
        steps.merge(band.1);
        values.merge(band.2);
    }
    Ok(Inside {
        names: [old.1.name.clone(), name.clone()],
        dtypes: [old.1.dtype, dtype],
        shape: new.1.shape.clone(),
        matrix,
        grid: (grid.0 as usize, grid.1 as usize),
        patches,
        steps: steps.finish(),
        values: values.finish(),
        spectrum: spectrum(old, new)?,
    })
}

/// Some rows, `columns` elements each, of both.
fn look_at_band(
    sides: &mut [Elements<'_>; 2],
    (first, last, columns): (u64, u64, u64),
    across: u64,
) -> Result<(Vec<Patch>, Counts, Counts)> {
    let (mut patches, mut steps, mut values) =
        (vec![Patch::default(); across as usize], Counts::default(), Counts::default());
    let same_type = sides[0].dtype() == sides[1].dtype();
    let (start, end) = (first * columns, last * columns);
    for at in (start..end).step_by(AT_ONCE as usize) {
        let count = (end - at).min(AT_ONCE);
        let [before, after] = &mut *sides;
        before.read(at, count)?;
        after.read(at, count)?;
        for index in 0..count as usize {
            let (Some(a), Some(b)) = (before.values.get(index).copied(), after.values.get(index).copied()) else {
                break;
            };
            let step = match before.words(index).zip(after.words(index)) {
                Some((a, b)) if same_type => signed_steps(after.dtype(), a, b),
                // Of elements that are parts of words, or of another type, there are only values.
                _ => i128::from(a != b),
            };
            let place = (at + index as u64) % columns * across / columns;
            if let Some(patch) = patches.get_mut(place as usize) {
                patch.add(a, b, step);
            }
            if step == 0 {
                steps.unchanged += 1;
                values.unchanged += 1;
                continue;
            }
            if same_type && before.has_words() {
                let power = step.unsigned_abs().ilog2() as i32;
                *(if step < 0 { &mut steps.down } else { &mut steps.up }).entry(power).or_default() += 1;
            }
            let change = b - a;
            if change == 0.0 {
                // Zeros of either sign.
                values.unchanged += 1;
            } else if change.is_finite() {
                let power = change.abs().log2().floor() as i32;
                *(if change < 0.0 { &mut values.down } else { &mut values.up }).entry(power).or_default() += 1;
            } else {
                values.not_finite += 1;
            }
        }
    }
    Ok((patches, steps, values))
}
