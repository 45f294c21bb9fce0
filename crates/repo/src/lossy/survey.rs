//! What rounding a tensor would do, told before anything is rounded.

use std::io;

use shard_formats::Source;
use shard_manifest::TensorError;

use super::LossyBound;
use super::float::{Finite, Float, Nearest, power_of_two};
use super::squares::{Scaled, Squares};

/// Bytes that are read at once: whole elements of every type.
const READ: usize = 1 << 20;

/// By how much less than the bound allows is taken, so that what is lost in the root mean square's last digits cannot break it.
const MARGIN: f64 = 1.0 / (1u64 << 32) as f64;

/// How a tensor is rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rounding {
    /// The step's exponent of two.
    pub(super) step: i32,
    pub(super) error: TensorError,
}

/// Looks at the tensor in `start..start + len` of a source. `None` where it stays as it is: nothing in it is finite and not zero, or
/// all elements are on the grid, or at most half a step off it, or one is nearest to a multiple that the type does not have (see the
/// module's page).
pub(super) fn survey(
    source: &dyn Source,
    start: u64,
    len: u64,
    float: Float,
    bound: LossyBound,
    advance: &dyn Fn(u64),
) -> io::Result<Option<Rounding>> {
    let (mut squares, mut count) = (Squares::new(float), 0);
    read(source, start, len, &mut |bytes| {
        for finite in float.words(bytes).filter_map(|word| float.finite(word)) {
            count += 1;
            squares.add(finite);
        }
        advance(bytes.len() as u64);
    })?;
    let Some(step) = squares.root_mean(count).and_then(|rms| step(rms, bound, float)) else {
        advance(len);
        return Ok(None);
    };
    let (mut errors, mut largest, mut all_halfway, mut is_any_beyond) = (Squares::new(float), 0f64, true, false);
    read(source, start, len, &mut |bytes| {
        for word in float.words(bytes) {
            match (float.round(word, step), float.finite(word)) {
                (Nearest::Other(changed), Some(finite)) => {
                    largest = largest.max(changed.error as f64 * power_of_two(float.unit(finite.place)));
                    errors.add(Finite { mantissa: changed.error, place: finite.place });
                    all_halfway &= changed.was_halfway;
                }
                (Nearest::Beyond, _) => is_any_beyond = true,
                (Nearest::Same | Nearest::Other(_), _) => {}
            }
        }
        advance(bytes.len() as u64);
    })?;
    let Some(rms) = errors.root_mean(count).filter(|_| !all_halfway && !is_any_beyond) else { return Ok(None) };
    let rms_error = rms.value * power_of_two(rms.exponent);
    Ok(Some(Rounding { step, error: TensorError { step: power_of_two(step), max_error: largest, rms_error } }))
}

/// The exponent of the largest power of two of which a half is within the bound; `None` where that is too small to tell.
fn step(rms: Scaled, bound: LossyBound, float: Float) -> Option<i32> {
    let reach = bound.get() * rms.value;
    let reach = reach - reach * MARGIN;
    let exponent = reach.is_normal().then(|| (reach.to_bits() >> 52) as i32 - 1023)?;
    Some((exponent + rms.exponent + 1).min(float.largest()))
}

/// Hands out the bytes of `start..start + len` in order, in runs of whole elements.
fn read(source: &dyn Source, start: u64, len: u64, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(len).map_or(READ, |len| len.min(READ))];
    let mut at = 0;
    while at < len {
        let run = usize::try_from(len - at).map_or(READ, |left| left.min(READ));
        let bytes = buffer.get_mut(..run).unwrap_or_default();
        source.read_at(start + at, bytes)?;
        take(bytes);
        at += run as u64;
    }
    Ok(())
}
