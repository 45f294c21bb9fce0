//! Coarse to fine: words in two layers, of which the first by itself gives them about as they are.
//!
//! The first layer has a few bits of how far each word is from its prediction: its *cell*, the number of steps, nearest to it, that it
//! moved. A step is as wide for a whole row of the tensor, in the value of words, so the first layer is what is known as a quantised
//! delta with a scale a row. With one bit it is the sign alone, and the step is how far the words of the row moved in the mean (Liu et
//! al., "BitDelta", arXiv:2402.10193); words that did not move are cell 0 in any case. The second layer has the units in the last place
//! from there to the word. Both are coded by [`crate::context`]: the cells by the exponents of predictions, and what is left by how many
//! such units a step is, and by the cell. So both together take hardly more than one layer does.
//!
//! With `p` the value of the prediction (a binary64), `c` the cell and `t` the step, which is at least a unit in the last place of `p`, the first layer stands for `p + c * t`, rounded as
//! [`crate::predict`] rounds sums; for `p` itself where `c` is 0, or where that or `p` is not finite. The second layer has the residual
//! ([`crate::residual::Step`]) of the word to that, negated where `c` is not 0 and its sign is not that of what the first layer stands for.
//!
//! Stored form:
//!
//! 1. the length of the first layer, from there on (varint);
//! 2. bits of a cell (byte, 1 to 8): it is from `-2^(bits - 1)` to `2^(bits - 1)`;
//! 3. words of a row and words of the first row that lie before the block (varints; 0 and 0 where all are one row);
//! 4. the highest scale (varint, at most 4093); the differences to it of the rows' scales, a byte each, as a stream: the entropy coder
//!    (byte), the stored length (varint) and the stored form. A scale is twice the exponent field of a binary64, of which the step is the
//!    power of two, and 1 more where the step is that times the root of 2;
//! 5. how far the words of the first layer are off: the largest error (binary32, rounded up) and the sum of the squares of all (binary64),
//!    in the unit of the words, little-endian; infinite where a word that is not finite is not told by the first layer;
//! 6. the cells, as the stored form of [`crate::context`] for the words that have them as residuals. This ends the first layer;
//! 7. what the second layer has, as the stored form of [`crate::context`] for the words that have it as residuals, on predictions whose
//!    exponent field is the context, with mantissa 0; for types of 5 exponent bits, words of `BF16` take their place. The context is 1,
//!    and 4 for each octave of the *width*, and the *kind*. The width is how many octaves a step (of an odd scale, the power of two) is over
//!    a unit in the last place of what the first layer stands for, and 2 more; limited to 0 to 60. The kind is 0 for cell 0, of others 1, 1
//!    more where they are not 1 or -1, and 1 more where they are outermost.

mod cells;
mod lanes;

use std::ops::Range;

use shard_core::WireReader;
use shard_core::limits::MAX_BLOCK;
use shard_core::wire::put_varint;

use super::{Recoding, TILE, Tools};
use crate::CodecError;
use crate::chain::Word;
use crate::context::{self, Rows};
use crate::entropy::{self, EntropyCoder, Workspace};
use crate::kernel::{self, Isa, linear};
use crate::predict::Predictor;
pub(crate) use cells::MAX_BITS;
use cells::{Cells, Contexts, Finder, MAX_SCALE, step};
use lanes::{Distances, Find, Tell, Turn};

/// The longest row whose scale is not stored by itself is one word shorter.
const LEAST_ROW: u32 = 16;

/// How far the words of the first layer are from the exact ones.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Deviation {
    /// The largest error, in the unit of the words.
    pub max: f32,
    /// The sum of the squares of all errors.
    pub squares: f64,
}

impl Deviation {
    /// Takes in that of other words.
    pub fn add(&mut self, other: Self) {
        self.max = self.max.max(other.max);
        self.squares += other.squares;
    }
}

/// The words of a block, row by row and no more than a tile at a time: the row, and where they are.
fn tiles(word: Word, rows: Option<Rows>, count: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let rows = rows.unwrap_or(Rows { len: u32::MAX, phase: 0 });
    rows.spans(0..count).flat_map(move |(row, span)| {
        span.clone().step_by(TILE).map(move |from| (row, from * word.bytes..(from + TILE).min(span.end) * word.bytes))
    })
}

/// The words that have these residuals.
fn inverse(isa: Isa, word: Word, residuals: &[u8], prediction: &[u8]) -> Vec<u8> {
    let mut words = vec![0; residuals.len()];
    kernel::step_inverse(isa, word, residuals, prediction, &mut words);
    words
}

fn encode(tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Result<bool, CodecError> {
    let Tools { workspace, context: buffers, bits } = tools;
    let context::Input { word, words, prediction: Some(prediction), .. } = input else { return Ok(false) };
    let Some(float) = word.float else { return Ok(false) };
    let (isa, level) = (workspace.isa(), workspace.level());
    let count = words.len() / word.bytes;
    let rows = input.rows.filter(|rows| rows.len >= LEAST_ROW);
    let mut cells = Cells { bits: (*bits).clamp(1, MAX_BITS), rows, scales: Vec::new() };
    let Some(contexts) = Contexts::new(word, &cells) else { return Ok(false) };

    let mut distances = vec![0.0; count];
    let mut predicted = [0.0; TILE];
    for (_, part) in tiles(word, None, count) {
        let distances = &mut distances[part.start / word.bytes..part.end / word.bytes];
        let predicted = &mut predicted[..distances.len()];
        kernel::load(isa, float, &words[part.clone()], distances);
        kernel::load(isa, float, &prediction[part], predicted);
        distances.iter_mut().zip(predicted).for_each(|(value, predicted)| *value -= *predicted);
    }
    let mut finder = Finder::new(cells.bits);
    for (row, part) in tiles(word, rows, count) {
        if row > cells.scales.len() {
            cells.scales.push(finder.scale());
        }
        let distances = &distances[part.start / word.bytes..part.end / word.bytes];
        distances.iter().for_each(|distance| finder.add(*distance));
    }
    cells.scales.push(finder.scale());
    // What is stored is the difference to the highest, a byte.
    let least = cells.scales.iter().max().map_or(0, |highest| highest.saturating_sub(255));
    cells.scales.iter_mut().for_each(|scale| *scale = least.max(*scale));

    let mut first = vec![0; words.len()];
    for (row, part) in tiles(word, rows, count) {
        let distances = &distances[part.start / word.bytes..part.end / word.bytes];
        let (contexts, row_step) = (&contexts, step(cells.scales[row]));
        let (predictions, cells) = (&prediction[part.clone()], &mut first[part]);
        lanes::run(isa, Find { contexts, row_step, distances, predictions, cells });
    }
    drop(distances);
    let mut near = vec![0; words.len()];
    approximate(isa, word, (&cells, &contexts), &first, prediction, &mut near);

    let mut second = vec![0; words.len()];
    kernel::step_forward(isa, word, words, &near, &mut second);
    lanes::run(isa, Turn { contexts: &contexts, near: &near, cells: &first, residuals: &mut second });
    let on = tell(isa, word, (&cells, &contexts), &first, &near);
    let deviation = deviation(isa, word, words, &near);
    let mut head = Vec::new();
    cells.put(workspace, &mut head)?;
    head.extend_from_slice(&deviation.max.to_le_bytes());
    head.extend_from_slice(&deviation.squares.to_le_bytes());
    let cell_words = inverse(isa, word, &first, prediction);
    let cell_input = context::Input { words: &cell_words, turned: false, rows, ..input };
    if !context::encode(buffers, isa, level, cell_input, &mut head) {
        return Ok(false);
    }
    put_varint(out, head.len() as u64);
    out.extend_from_slice(&head);
    let word = contexts.own;
    let rest_words = inverse(isa, word, &second, &on);
    let rest_input = context::Input { word, words: &rest_words, prediction: Some(&on), turned: false, rows: None };
    Ok(context::encode(buffers, isa, level, rest_input, out))
}

/// How far words are from others.
fn deviation(isa: Isa, word: Word, words: &[u8], near: &[u8]) -> Deviation {
    let Some(float) = word.float else { return Deviation::default() };
    let (mut max, mut squares) = (0.0f64, 0.0);
    let (mut exact, mut about) = ([0.0; TILE], [0.0; TILE]);
    for (words, near) in words.chunks(TILE * word.bytes).zip(near.chunks(TILE * word.bytes)) {
        let count = words.len() / word.bytes;
        kernel::load(isa, float, words, &mut exact[..count]);
        kernel::load(isa, float, near, &mut about[..count]);
        let pairs = words.chunks(word.bytes).zip(near.chunks(word.bytes));
        for ((exact, about), (word, near)) in exact.iter().zip(&about).zip(pairs) {
            let is_finite = [word, near].iter().all(|word| linear::is_finite(float, word));
            let error = match (is_finite, word == near) {
                (true, _) => (exact - about).abs(),
                (false, true) => 0.0,
                (false, false) => f64::INFINITY,
            };
            max = max.max(error);
            squares += error * error;
        }
    }
    // The difference was rounded too.
    Deviation { max: if max > 0.0 { (max as f32).next_up() } else { 0.0 }, squares }
}

/// The words that the first layer stands for by itself: `first` has the cells.
fn approximate(
    isa: Isa,
    word: Word,
    (cells, contexts): (&Cells, &Contexts),
    first: &[u8],
    prediction: &[u8],
    out: &mut [u8],
) {
    let Some(float) = word.float else { return };
    let mut distances = [0.0; TILE];
    for (row, part) in tiles(word, cells.rows, out.len() / word.bytes) {
        let distances = &mut distances[..part.len() / word.bytes];
        let row_step = step(cells.scales.get(row).copied().unwrap_or(0));
        let (predictions, cells) = (&prediction[part.clone()], &first[part.clone()]);
        lanes::run(isa, Distances { contexts, row_step, predictions, cells, distances });
        kernel::shift(isa, float, distances, predictions, &mut out[part]);
    }
}

/// The words that tell the contexts of the second layer; `near` is what the first stands for.
fn tell(isa: Isa, word: Word, (cells, contexts): (&Cells, &Contexts), first: &[u8], near: &[u8]) -> Vec<u8> {
    let mut on = vec![0; near.len()];
    for (row, part) in tiles(word, cells.rows, near.len() / word.bytes) {
        let scale = cells.scales.get(row).copied().unwrap_or(0);
        let (near, cells, out) = (&near[part.clone()], &first[part.clone()], &mut on[part]);
        lanes::run(isa, Tell { contexts, scale, near, cells, out });
    }
    on
}

/// The first layer of a block, as it was read.
struct FirstLayer {
    cells: Cells,
    contexts: Contexts,
    deviation: Deviation,
    /// The cells of words, as residuals.
    first: Vec<u8>,
}

/// The bytes that the first layer takes at the start of a stored form, its length included.
///
/// # Errors
/// [`CodecError::Header`] where the length is none.
pub(crate) fn first_len(stored: &[u8]) -> Result<usize, CodecError> {
    let mut reader = WireReader::new(stored);
    let len = reader.varint_up_to(MAX_BLOCK as u64, "length of the first layer")?;
    Ok(reader.position() + len as usize)
}

fn decode(
    tools: &mut Tools<'_>,
    word: Word,
    prediction: &[u8],
    stored: &[u8],
    words: &mut [u8],
) -> Result<(), CodecError> {
    let Tools { workspace, context: buffers, .. } = tools;
    let isa = workspace.isa();
    let (layer, rest) = read_first(workspace, buffers, word, prediction, stored)?;
    let FirstLayer { cells, contexts, first, .. } = &layer;
    let mut near = vec![0; words.len()];
    approximate(isa, word, (cells, contexts), first, prediction, &mut near);
    let on = tell(isa, word, (cells, contexts), first, &near);
    // The output has room for what the second layer stands for, until it is known what the words are.
    context::decode(buffers, isa, contexts.own, Some(&on), false, rest, context::Words::Wanted(words))?;
    let mut residuals = vec![0; words.len()];
    kernel::step_forward(isa, contexts.own, words, &on, &mut residuals);
    lanes::run(isa, Turn { contexts, near: &near, cells: first, residuals: &mut residuals });
    kernel::step_inverse(isa, word, &residuals, &near, words);
    Ok(())
}

/// Fills `words` with what the first layer says they are about, and gives how far that is off. `stored` may end where it does.
///
/// # Errors
/// As [`Recoding::take`].
pub(crate) fn decode_first(
    workspace: &mut Workspace,
    buffers: &mut context::Buffers,
    word: Word,
    prediction: &[u8],
    stored: &[u8],
    words: &mut [u8],
) -> Result<Deviation, CodecError> {
    let (layer, _) = read_first(workspace, buffers, word, prediction, stored)?;
    approximate(workspace.isa(), word, (&layer.cells, &layer.contexts), &layer.first, prediction, words);
    Ok(layer.deviation)
}

/// Reads the first layer; returns what follows it too.
fn read_first<'a>(
    workspace: &mut Workspace,
    buffers: &mut context::Buffers,
    word: Word,
    prediction: &[u8],
    stored: &'a [u8],
) -> Result<(FirstLayer, &'a [u8]), CodecError> {
    let len = first_len(stored)?;
    let (layer, rest) = stored.split_at_checked(len).ok_or(CodecError::Body("the first layer is cut off"))?;
    let mut reader = WireReader::new(layer);
    reader.varint()?;
    let cells = Cells::read(&mut reader, prediction.len() / word.bytes, workspace)?;
    let contexts = Contexts::new(word, &cells).ok_or(CodecError::Chain("layers are for floats"))?;
    let deviation =
        Deviation { max: f32::from_le_bytes(take(&mut reader)?), squares: f64::from_le_bytes(take(&mut reader)?) };
    // What is no number, or negative, is no error.
    if !(deviation.max >= 0.0 && deviation.squares >= 0.0) {
        return Err(CodecError::Body("an impossible deviation"));
    }
    let coded = layer.get(reader.position()..).unwrap_or_default();
    let mut cell_words = vec![0; prediction.len()];
    let isa = workspace.isa();
    context::decode(buffers, isa, word, Some(prediction), false, coded, context::Words::Wanted(&mut cell_words))?;
    let mut first = vec![0; prediction.len()];
    kernel::step_forward(isa, word, &cell_words, prediction, &mut first);
    let mut wide = [0; TILE];
    for cells in first.chunks(TILE * word.bytes) {
        let wide = &mut wide[..cells.len() / word.bytes];
        kernel::widen(word.bytes, cells, wide);
        if wide.iter().any(|cell| cell.unsigned_abs() > contexts.outermost as u64) {
            return Err(CodecError::Body("a cell is beyond the outermost"));
        }
    }
    Ok((FirstLayer { cells, contexts, deviation, first }, rest))
}

fn take<const N: usize>(reader: &mut WireReader<'_>) -> Result<[u8; N], CodecError> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(reader.bytes(N)?);
    Ok(bytes)
}

/// See the module.
pub struct Layers;

impl Recoding for Layers {
    fn id(&self) -> u8 {
        super::LAYERS
    }
    fn name(&self) -> &'static str {
        "layers"
    }
    fn fits(&self, word: Word) -> bool {
        word.float.is_some_and(linear::is_known)
    }
    fn goes_with(&self, predictor: &dyn Predictor) -> bool {
        predictor.bases() > 0
    }
    /// They are for who asks for them.
    fn suits(&self, _isa: Isa, _word: Word, _words: &[u8]) -> bool {
        false
    }
    fn put(&self, tools: &mut Tools<'_>, input: context::Input<'_>, out: &mut Vec<u8>) -> Result<bool, CodecError> {
        encode(tools, input, out)
    }
    fn take(
        &self,
        tools: &mut Tools<'_>,
        word: Word,
        prediction: Option<&[u8]>,
        stored: &[u8],
        words: &mut [u8],
    ) -> Result<(), CodecError> {
        decode(tools, word, prediction.ok_or(CodecError::BaseMissing)?, stored, words)
    }
}

impl Cells {
    fn put(&self, workspace: &mut Workspace, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.push(self.bits as u8);
        let (len, phase) = self.rows.map_or((0, 0), |rows| (rows.len, rows.phase));
        put_varint(out, u64::from(len));
        put_varint(out, u64::from(phase));
        let highest = self.scales.iter().max().copied().unwrap_or(0);
        put_varint(out, u64::from(highest));
        let below: Vec<u8> = self.scales.iter().map(|scale| (highest - scale).min(255) as u8).collect();
        let mut stream = Vec::new();
        let coder = entropy::encode_stream(workspace, &below, false, &mut stream)?;
        out.push(coder.id());
        put_varint(out, stream.len() as u64);
        out.extend_from_slice(&stream);
        Ok(())
    }

    fn read(reader: &mut WireReader<'_>, words: usize, workspace: &mut Workspace) -> Result<Self, CodecError> {
        let bits = u32::from(reader.u8()?);
        if !(1..=MAX_BITS).contains(&bits) {
            return Err(CodecError::Body("a cell has an impossible number of bits"));
        }
        let len = reader.varint_up_to(u64::from(u32::MAX), "words of a row")? as u32;
        let phase = reader.varint_up_to(u64::from(u32::MAX), "words before the block")? as u32;
        let rows = match (len, phase) {
            (0, 0) => None,
            (LEAST_ROW.., phase) if phase < len => Some(Rows { len, phase }),
            _ => return Err(CodecError::Body("layers have impossible rows")),
        };
        let highest = reader.varint_up_to(u64::from(MAX_SCALE), "scale of a row")? as u16;
        let coder = <dyn EntropyCoder>::from_wire_id(reader.u8()?)?;
        let count = rows.map_or(1, |rows| rows.count(words));
        let stored_len = reader.varint_up_to(count as u64, "stored length of scales")? as usize;
        let stored = reader.bytes(stored_len)?;
        if coder.fixed_len(count).is_some_and(|len| len != stored_len) {
            return Err(CodecError::Body("scales have another length"));
        }
        let mut below = vec![0; count];
        coder.decode(workspace, stored, &mut below)?;
        let scales = below.iter().map(|below| highest.saturating_sub(u16::from(*below))).collect();
        Ok(Self { bits, rows, scales })
    }
}
