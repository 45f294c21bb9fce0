use super::model::{MOST_PRECISION, Model};
use super::{Counts, EntropyCoder, Workspace};
use crate::kernel::{self, COARSE_BITS, FINE_BITS, LANES, MANY_LANES, STATE_LOW};
use crate::{CodecError, Level};

/// Order-0 range asymmetric numeral systems (Duda, arXiv:1311.2540), with interleaved 32-bit states, probabilities of
/// `b` = 12 or 14 bits and 16-bit words; symbol `i` belongs to state `i mod lanes`. The finer probabilities are for very
/// skewed streams, where a rare value's share of 2^-12 would cost the frequent ones.
///
/// Stored form:
/// - a byte: bits 0 to 3 the precision of the table (at most 11), bits 4 and 5 the number of states (0: one, 1: 4, 2: 32, 3: 64), bit
///   6 whether `b` is 14, bit 7 is 0;
/// - the table (see the `model` module);
/// - the states that decoding starts with, each a little-endian u32;
/// - words, each a little-endian u16, in one sequence for all states, in the order in which states ask for them.
///
/// To decode a symbol, take slot `s = x mod 2^b` of state `x`; the symbol is the one whose slots `[start, start + f)`, laid
/// out in the order of values, hold `s`; then `x = f * floor(x / 2^b) + s - start`, and if that is below 2^16,
/// `x = 2^16 x + word`. At the end all words have been taken and all states are 2^16 again.
pub struct Rans;

/// The number of states for a stream of `len` bytes: states cost bytes, so short streams have fewer. With 64, each waits so long for its
/// turn that what it looks up is there: that decodes 1.6 times as fast as with 32 (AVX-512).
pub(super) fn lanes(len: usize) -> usize {
    match len {
        0..512 => 1,
        512..8192 => 4,
        8192..0x8_0000 => LANES,
        _ => MANY_LANES,
    }
}

fn body(cause: &'static str) -> CodecError {
    CodecError::Body(cause)
}

/// Appends the states that decoding starts with, and the words that `run` makes of the stream. Gives up where the words need
/// more than `room` bytes.
fn encode<const N: usize>(
    room: usize,
    out: &mut Vec<u8>,
    run: impl FnOnce(&mut [u32; N], &mut [u8]) -> Option<usize>,
) -> Option<()> {
    let states_at = out.len();
    let words_at = states_at + 4 * N;
    out.resize(words_at + room, 0);
    let mut states = [STATE_LOW; N];
    let first = run(&mut states, &mut out[words_at..])?;
    out.copy_within(words_at + first.., words_at);
    out.truncate(out.len() - first);
    for (place, state) in out[states_at..words_at].as_chunks_mut::<4>().0.iter_mut().zip(states) {
        *place = state.to_le_bytes();
    }
    Some(())
}

/// Reads states, decodes, and checks that everything came out even.
fn decode<const N: usize>(
    stored: &[u8],
    out: &mut [u8],
    run: impl FnOnce(&mut [u32; N], &[u8], &mut [u8]) -> Option<usize>,
) -> Result<(), CodecError> {
    let (states, words) = stored.split_at_checked(4 * N).ok_or(body("rANS states are missing"))?;
    let mut all = [0; N];
    for (state, bytes) in all.iter_mut().zip(states.as_chunks::<4>().0) {
        *state = u32::from_le_bytes(*bytes);
    }
    let used = run(&mut all, words, out).ok_or(body("rANS words run out"))?;
    if used != words.len() {
        return Err(body("rANS words are left over"));
    }
    if all != [STATE_LOW; N] {
        return Err(body("rANS states do not return to the start"));
    }
    Ok(())
}

impl EntropyCoder for Rans {
    fn id(&self) -> u8 {
        2
    }
    fn name(&self) -> &'static str {
        "rans"
    }
    fn fixed_len(&self, _len: usize) -> Option<usize> {
        None
    }
    fn encode(
        &self,
        workspace: &mut Workspace,
        data: &[u8],
        counts: &Counts,
        out: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        if counts.iter().filter(|count| **count > 0).count() < 2 {
            return Ok(false);
        }
        let start = out.len();
        let (mut model, mut precision) = Model::fit(counts, data.len(), COARSE_BITS);
        if workspace.level() != Level::Fast {
            let (fine, fine_precision) = Model::fit(counts, data.len(), FINE_BITS);
            let cost = model.cost(counts);
            let saved = cost.saturating_sub(fine.cost(counts));
            // Fine probabilities decode at about half the speed.
            if saved > (16 << 16) && saved * 160 > cost {
                (model, precision) = (fine, fine_precision);
            }
        }
        let fine = u8::from(model.bits == FINE_BITS);
        let isa = workspace.isa();
        let lanes = lanes(data.len());
        let code = match lanes {
            1 => 0,
            4 => 1,
            LANES => 2,
            _ => 3,
        };
        out.push(precision as u8 | code << 4 | fine << 6);
        Model::put(counts, data.len(), precision, out);
        let mut tables = kernel::EncodeTables::new();
        tables.fill(model.bits, &model.frequencies);
        let head = out.len() - start + 4 * lanes;
        let done = data.len().checked_sub(head + 1).and_then(|room| match lanes {
            1 => encode::<1>(room, out, |s, words| kernel::rans_encode(&tables, s, data, words, room)),
            4 => encode::<4>(room, out, |s, words| kernel::rans_encode(&tables, s, data, words, room)),
            LANES => {
                encode(room, out, |s, words| kernel::rans_encode_wide::<LANES>(isa, &tables, s, data, words, room))
            }
            _ => {
                encode(room, out, |s, words| kernel::rans_encode_wide::<MANY_LANES>(isa, &tables, s, data, words, room))
            }
        });
        if done.is_none() {
            out.truncate(start);
        }
        Ok(done.is_some())
    }
    fn decode(&self, workspace: &mut Workspace, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let (head, rest) = stored.split_first().ok_or(body("an rANS stream is empty"))?;
        let precision = u32::from(head & 15);
        if precision > MOST_PRECISION || head >> 7 != 0 {
            return Err(body("an rANS stream has an unknown form"));
        }
        let fine = head >> 6 & 1 == 1;
        let bits = if fine { FINE_BITS } else { COARSE_BITS };
        let (model, rest) = Model::read(rest, bits, precision).ok_or(body("an rANS table is malformed"))?;
        workspace.tables.fill(fine, &model.frequencies);
        let (isa, tables) = (workspace.isa, &*workspace.tables);
        match (head >> 4 & 3, fine) {
            (0, false) => decode::<1>(rest, out, |s, w, out| kernel::rans_decode::<false, 1>(tables, s, w, out)),
            (0, true) => decode::<1>(rest, out, |s, w, out| kernel::rans_decode::<true, 1>(tables, s, w, out)),
            (1, false) => decode::<4>(rest, out, |s, w, out| kernel::rans_decode::<false, 4>(tables, s, w, out)),
            (1, true) => decode::<4>(rest, out, |s, w, out| kernel::rans_decode::<true, 4>(tables, s, w, out)),
            (2, false) => {
                decode(rest, out, |s, w, out| kernel::rans_decode_wide::<false, LANES>(isa, tables, s, w, out))
            }
            (2, true) => decode(rest, out, |s, w, out| kernel::rans_decode_wide::<true, LANES>(isa, tables, s, w, out)),
            (_, false) => {
                decode(rest, out, |s, w, out| kernel::rans_decode_wide::<false, MANY_LANES>(isa, tables, s, w, out))
            }
            (_, true) => {
                decode(rest, out, |s, w, out| kernel::rans_decode_wide::<true, MANY_LANES>(isa, tables, s, w, out))
            }
        }
    }
}
