//! Lossy archival, for those who ask for it: a file's tensors are rounded before the file is stored, and everything after that is
//! exact. What is stored is a file like any other, proven by its own SHA-256; its manifest says that it is an approximation, of what,
//! and how good.
//!
//! The elements of a tensor become multiples of one power of two, `2^s`: the largest of which a half is within the bound. So each is
//! off by half a step at most, and no more than the bound times the tensor's root mean square. Rounding does not leave the type, since
//! a multiple of a power of two above an element's last place has no more digits than the element; only beyond the largest number is
//! there none. A tensor with an element that is nearest to such a multiple stays as it is: the element would be on no grid, and a root
//! mean square that shrank would move it when the tensor is rounded again.
//!
//! The root mean square of what was rounded may be larger than before, by less than twice, so that its own step may be `2^(s+1)` where
//! it was close. Nothing is won by another round then, and rounding again must change nothing. So a tensor whose every element off the
//! grid of its step is on that of half the step stays as it is.

mod float;
mod squares;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;

use rayon::prelude::*;
use shard_core::{Digest, Layout, Progress, Sha256};
use shard_formats::Source;
use shard_manifest::{Lossy, TensorError};

use float::Float;
use survey::{Rounding, survey};

/// Tensors with fewer elements stay as they are: counters, scales, small biases. They are next to nothing of a file.
const FEWEST: u64 = 64;

/// Formats whose files have no checksum over their tensors, which rounding would break.
const FORMATS: &[&str] = &["gguf", "npy", "onnx", "onnx-data", "pytorch", "safetensors", "tflite"];

/// The largest error of an element, as a share of its tensor's root mean square: above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossyBound(f64);

impl LossyBound {
    /// The bound; `None` for what is not above 0 and below 1.
    #[must_use]
    pub fn new(bound: f64) -> Option<Self> {
        (bound > 0.0 && bound < 1.0).then_some(Self(bound))
    }

    /// The share.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Part of a file whose elements are rounded.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u64,
    end: u64,
    float: Float,
    step: i32,
}

/// A file as it is with its tensors rounded. Tensors are rounded as they are read, wherever reading starts and ends.
pub(crate) struct Rounded<'a> {
    source: &'a dyn Source,
    /// In file order.
    runs: Vec<Run>,
    pub(crate) mark: Lossy,
}

/// What rounding makes of a file.
pub(crate) enum Outcome<'a> {
    Rounded(Rounded<'a>),
    /// Nothing changes: there is nothing to round, or all of it is on its grid.
    Same,
    /// It has tensors, but they are not to be touched: why.
    Untouched(&'static str),
}

impl<'a> Rounded<'a> {
    /// Reads a file, of that layout, to find out how to round it: it once, and the tensors twice.
    pub(crate) fn of(
        source: &'a dyn Source,
        layout: &Layout,
        bound: LossyBound,
        progress: &dyn Progress,
    ) -> io::Result<Outcome<'a>> {
        if layout.tensors.is_empty() {
            return Ok(Outcome::Same);
        }
        if let Some(why) = untouched(source, layout)? {
            return Ok(Outcome::Untouched(why));
        }
        let (starts, floats) = (layout.segment_offsets(), floats(layout));
        let look = |segment: usize| -> io::Result<Option<(usize, Run, Rounding)>> {
            let (Some(float), Some(start)) = (floats.get(&segment), starts.get(segment)) else { return Ok(None) };
            let len = layout.segments.get(segment).map_or(0, |segment| segment.len);
            let found = survey(source, *start, len, *float, bound, &|bytes| progress.advance(bytes))?;
            Ok(found.map(|rounding| {
                let run = Run { start: *start, end: start + len, float: *float, step: rounding.step };
                (segment, run, rounding)
            }))
        };
        let surveyed = || (0..layout.segments.len()).into_par_iter().map(look).collect::<io::Result<Vec<_>>>();
        let (of, found) = rayon::join(|| hash(source), surveyed);
        let (of, found) = (of?, found?);
        let mut errors = HashMap::new();
        let mut runs = Vec::new();
        for (segment, run, rounding) in found.into_iter().flatten() {
            errors.insert(segment, rounding.error);
            runs.push(run);
        }
        if runs.is_empty() {
            return Ok(Outcome::Same);
        }
        let mut tensors: BTreeMap<String, TensorError> = BTreeMap::new();
        for tensor in &layout.tensors {
            let Some(error) = errors.get(&tensor.segment) else { continue };
            // Names need not be unique: the worse of two is told.
            let told = tensors.entry(tensor.name.clone()).or_insert(*error);
            if error.max_error > told.max_error {
                *told = *error;
            }
        }
        Ok(Outcome::Rounded(Self { source, runs, mark: Lossy { bound: bound.get(), of, tensors } }))
    }

    /// Reads what lies in a run of rounded elements: `bytes` are those of the file from `at` on.
    fn round(&self, run: &Run, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let width = run.float.bytes;
        // The first and the last element may be there in part: then all of it is read.
        let before = ((at - run.start) % width as u64) as usize;
        let after = (width - (before + bytes.len()) % width) % width;
        if before == 0 && after == 0 {
            run.float.round_all(bytes, run.step);
            return Ok(());
        }
        let mut whole = vec![0; before + bytes.len() + after];
        self.source.read_at(at - before as u64, &mut whole)?;
        run.float.round_all(&mut whole, run.step);
        bytes.copy_from_slice(whole.get(before..before + bytes.len()).unwrap_or_default());
        Ok(())
    }
}

impl Source for Rounded<'_> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.read_at(offset, buf)?;
        let end = offset + buf.len() as u64;
        let first = self.runs.partition_point(|run| run.end <= offset);
        for run in self.runs.iter().skip(first).take_while(|run| run.start < end) {
            let (from, to) = (run.start.max(offset), run.end.min(end));
            if let Some(bytes) = buf.get_mut((from - offset) as usize..(to - offset) as usize) {
                self.round(run, from, bytes)?;
            }
        }
        Ok(())
    }
}

/// Why the bytes of a file's tensors cannot be replaced by others, if they cannot.
pub(crate) fn untouched(source: &dyn Source, layout: &Layout) -> io::Result<Option<&'static str>> {
    let mut head = [0; 4];
    if source.len() >= 4 {
        source.read_at(0, &mut head)?;
    }
    // Readers of zip archives check their members' CRC-32, NumPy's and Python's too.
    let is_zip = !layout.compressed.is_empty() || &head == b"PK\x03\x04";
    Ok(match (is_zip, FORMATS.contains(&layout.format.as_str())) {
        (true, _) => Some("a zip archive has checksums of its members"),
        (false, false) => Some("files of its format may have checksums of their tensors"),
        (false, true) => None,
    })
}

/// The segments that are rounded, and their types. Every tensor of such a segment is the whole segment, so that it has one grid.
fn floats(layout: &Layout) -> HashMap<usize, Float> {
    let mut found: HashMap<usize, Option<Float>> = HashMap::new();
    for tensor in &layout.tensors {
        let segment = layout.segments.get(tensor.segment);
        let is_whole = segment.is_some_and(|segment| {
            segment.dtype == Some(tensor.dtype) && tensor.offset == 0 && tensor.byte_len() == Some(segment.len)
        });
        let is_large = tensor.elements().is_some_and(|elements| elements >= FEWEST);
        let float = Float::of(tensor.dtype).filter(|_| is_whole && is_large);
        found.entry(tensor.segment).and_modify(|known| *known = known.and(float)).or_insert(float);
    }
    found.into_iter().filter_map(|(segment, float)| Some((segment, float?))).collect()
}

fn hash(source: &dyn Source) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < source.len() {
        let run = usize::try_from(source.len() - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let bytes = buffer.get_mut(..run).unwrap_or_default();
        source.read_at(at, bytes)?;
        hash.update(bytes);
        at += run as u64;
    }
    Ok(hash.finish())
}
