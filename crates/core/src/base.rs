//! What a block's encoding may lean on: bytes of other blocks, cut and rearranged to lie under the block's own.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::digest::Digest;
use crate::limits::{MAX_BASE_RANGES, MAX_BLOCK};
use crate::wire::{WireError, WireReader, put_varint};

/// A run of bytes of a block's decoded content, or of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRange {
    /// The block; `None` is a hole, which reads as zeros.
    pub block: Option<Digest>,
    /// Where the run starts in the block's decoded bytes; 0 for a hole.
    pub start: u32,
    /// Length of the run in bytes.
    pub len: u32,
}

/// How a transposed base is read. The ranges hold a row-major matrix of `row` rows and `column` columns; the block's words
/// are those of its transpose (`column` rows of `row` words), from word `phase` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transpose {
    /// Bytes of a word: 1, 2, 4 or 8.
    pub word: u8,
    /// Length of a row of the block's tensor, in words: the number of rows of the base.
    pub row: u64,
    /// Number of rows of the block's tensor: the length of a row of the base, in words.
    pub column: u64,
    /// Where the block starts in its tensor, in words.
    pub phase: u64,
}

/// The bytes that predict a block: byte ranges of other blocks laid end to end, or a transpose of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRef {
    /// The ranges, in order.
    pub ranges: Vec<BaseRange>,
    /// How to read them; `None` is end to end.
    pub transpose: Option<Transpose>,
}

/// A base that cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BaseError<E> {
    /// The reference contradicts itself or the block.
    #[error("a base reference does not fit its block")]
    Reference,
    /// A base block could not be read.
    #[error(transparent)]
    Fetch(E),
}

impl BaseRef {
    /// The whole of one block of `len` bytes.
    #[must_use]
    pub fn whole(block: Digest, len: u32) -> Self {
        Self { ranges: vec![BaseRange { block: Some(block), start: 0, len }], transpose: None }
    }

    /// The ids of the blocks named, each once, in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Digest> {
        let ids: BTreeSet<Digest> = self.ranges.iter().filter_map(|range| range.block).collect();
        ids.into_iter().collect()
    }

    /// Appends the wire form: a byte of flags (bit 0: transposed), the number of ranges (varint), each range as a byte (1: a
    /// block, 0: a hole), then the block's digest and start (varint) where there is a block, then its length (varint); last,
    /// where transposed, word (byte), row, column, phase (varints).
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.transpose.is_some()));
        put_varint(out, self.ranges.len() as u64);
        for range in &self.ranges {
            match &range.block {
                Some(block) => {
                    out.push(1);
                    out.extend_from_slice(&block.0);
                    put_varint(out, u64::from(range.start));
                }
                None => out.push(0),
            }
            put_varint(out, u64::from(range.len));
        }
        if let Some(transpose) = &self.transpose {
            out.push(transpose.word);
            put_varint(out, transpose.row);
            put_varint(out, transpose.column);
            put_varint(out, transpose.phase);
        }
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// [`WireError`] for anything truncated or above its limit ([`MAX_BASE_RANGES`], [`MAX_BLOCK`]).
    pub fn read(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let flags = reader.u8()?;
        if flags > 1 {
            return Err(reader.invalid("base flags"));
        }
        let count = reader.varint_up_to(MAX_BASE_RANGES as u64, "number of base ranges")?;
        let mut ranges = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (block, start) = match reader.u8()? {
                0 => (None, 0),
                1 => (Some(reader.digest()?), reader.varint_up_to(MAX_BLOCK as u64, "start of a base range")? as u32),
                _ => return Err(reader.invalid("kind of base range")),
            };
            let len = reader.varint_up_to(MAX_BLOCK as u64, "length of a base range")? as u32;
            if u64::from(start) + u64::from(len) > MAX_BLOCK as u64 {
                return Err(reader.invalid("end of a base range"));
            }
            ranges.push(BaseRange { block, start, len });
        }
        let transpose = if flags & 1 == 1 {
            let word = reader.u8()?;
            let transpose =
                Transpose { word, row: reader.varint()?, column: reader.varint()?, phase: reader.varint()? };
            if !matches!(word, 1 | 2 | 4 | 8) || transpose.row == 0 || transpose.column == 0 {
                return Err(reader.invalid("transposed base"));
            }
            Some(transpose)
        } else {
            None
        };
        Ok(Self { ranges, transpose })
    }

    /// What the first `len` bytes of the base come from: whole ranges, cut where they go beyond that.
    #[must_use]
    pub fn first(&self, len: usize) -> Self {
        let mut left = len as u64;
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.iter().take_while(|_| self.transpose.is_none()) {
            let part = u64::from(range.len).min(left);
            if part > 0 {
                ranges.push(BaseRange { len: part as u32, ..*range });
            }
            left -= part;
        }
        if self.transpose.is_some() { self.clone() } else { Self { ranges, transpose: None } }
    }

    /// Fills `out`, a block's length, with the base's bytes. `fetch` puts the decoded bytes of a block into the buffer it
    /// is given; it is called once a range, and only one base block is held at a time.
    ///
    /// # Errors
    /// [`BaseError::Reference`] where ranges, transpose and lengths do not fit together; [`BaseError::Fetch`] for what
    /// `fetch` says.
    pub fn assemble<E>(
        &self,
        out: &mut [u8],
        mut fetch: impl FnMut(&Digest, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), BaseError<E>> {
        let total: u64 = self.ranges.iter().map(|range| u64::from(range.len)).sum();
        let source_len = match &self.transpose {
            None => Some(out.len() as u64),
            Some(t) => t.row.checked_mul(t.column).and_then(|words| words.checked_mul(u64::from(t.word))),
        };
        if source_len != Some(total) {
            return Err(BaseError::Reference);
        }
        if let Some(t) = &self.transpose {
            let word = usize::from(t.word);
            let end = (out.len() / word) as u64;
            let fits =
                out.len().is_multiple_of(word) && t.phase.checked_add(end).is_some_and(|e| e <= t.row * t.column);
            let whole = self.ranges.iter().all(|range| (range.len as usize).is_multiple_of(word));
            if !fits || !whole {
                return Err(BaseError::Reference);
            }
        }
        let mut block = Vec::new();
        let mut at = 0usize;
        for range in &self.ranges {
            let len = range.len as usize;
            let bytes: Option<&[u8]> = match &range.block {
                None => None,
                Some(id) => {
                    block.clear();
                    fetch(id, &mut block).map_err(BaseError::Fetch)?;
                    let start = range.start as usize;
                    Some(block.get(start..start + len).ok_or(BaseError::Reference)?)
                }
            };
            match (&self.transpose, bytes) {
                (None, Some(bytes)) => out[at..at + len].copy_from_slice(bytes),
                (None, None) => out[at..at + len].fill(0),
                (Some(t), bytes) => scatter(t, at, len, bytes, out),
            }
            at += len;
        }
        Ok(())
    }
}

/// Puts the words at bytes `at..at + len` of the base, zeros where `bytes` is `None`, where the transpose has them.
fn scatter(t: &Transpose, at: usize, len: usize, bytes: Option<&[u8]>, out: &mut [u8]) {
    match t.word {
        1 => scatter_words::<1>(t, at, len, bytes, out),
        2 => scatter_words::<2>(t, at, len, bytes, out),
        4 => scatter_words::<4>(t, at, len, bytes, out),
        _ => scatter_words::<8>(t, at, len, bytes, out),
    }
}

/// [`scatter`] for words of `WORD` bytes. Row by row of the base, and of each row only the columns that are rows of the block:
/// the bases of a tensor's blocks are put together in the time that its words take, not its words times its blocks.
fn scatter_words<const WORD: usize>(t: &Transpose, at: usize, len: usize, bytes: Option<&[u8]>, out: &mut [u8]) {
    let (from, to) = ((at / WORD) as u64, ((at + len) / WORD) as u64);
    let end = t.phase + (out.len() / WORD) as u64;
    let (words, _) = out.as_chunks_mut::<WORD>();
    let sources = bytes.map(|bytes| bytes.as_chunks::<WORD>().0);
    for row in from / t.column..to.div_ceil(t.column) {
        let start = row * t.column;
        // Word `column * t.row + row` of the transpose has to lie in the block.
        let first = t.phase.saturating_sub(row).div_ceil(t.row).max(from.saturating_sub(start));
        let last = end.saturating_sub(row).div_ceil(t.row).min(t.column).min(to - start);
        for column in first..last {
            let target = (column * t.row + row - t.phase) as usize;
            words[target] = sources.map_or([0; WORD], |words| words[(start + column - from) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256;
    use proptest::prelude::*;

    fn range(block: u8, start: u32, len: u32) -> BaseRange {
        BaseRange { block: Some(sha256(&[block])), start, len }
    }

    fn round_trip(base: &BaseRef) {
        let mut wire = Vec::new();
        base.put(&mut wire);
        let mut reader = WireReader::new(&wire);
        assert_eq!(BaseRef::read(&mut reader).as_ref(), Ok(base));
        assert_eq!(reader.finish(), Ok(()));
        for cut in 0..wire.len() {
            let mut reader = WireReader::new(&wire[..cut]);
            assert!(BaseRef::read(&mut reader).is_err(), "truncated to {cut}");
        }
    }

    #[test]
    fn ranges_and_holes() {
        let base = BaseRef {
            ranges: vec![range(1, 2, 3), BaseRange { block: None, start: 0, len: 2 }, range(2, 0, 1)],
            transpose: None,
        };
        round_trip(&base);
        let mut out = [9; 6];
        let fetch = |id: &Digest, out: &mut Vec<u8>| {
            out.extend_from_slice(if *id == sha256(&[1]) { &[0, 1, 2, 3, 4] } else { &[7] });
            Ok::<(), ()>(())
        };
        assert_eq!(base.assemble(&mut out, fetch), Ok(()));
        assert_eq!(out, [2, 3, 4, 0, 0, 7]);
        assert_eq!(base.assemble(&mut [0; 7], fetch), Err(BaseError::Reference));
        assert_eq!(base.blocks().len(), 2);
        let beyond = BaseRef { ranges: vec![range(1, 3, 3)], transpose: None };
        assert_eq!(beyond.assemble(&mut [0; 3], fetch), Err(BaseError::Reference));
    }

    proptest! {
        #[test]
        fn a_transposed_base_is_the_transpose(
            row in 1u64..9, column in 1u64..9, word in prop::sample::select(vec![1u8, 2, 4, 8]),
            cut in 1usize..20, from in 0u64..80, words in 0u64..80,
        ) {
            // The base is `row` rows by `column` columns; word k holds k in each of its bytes.
            let total = row * column;
            let source: Vec<u8> =
                (0..total).flat_map(|k| std::iter::repeat_n(k as u8, usize::from(word))).collect();
            let phase = from.min(total);
            let words = words.min(total - phase);
            let pieces: Vec<&[u8]> = source.chunks(cut * usize::from(word)).collect();
            let ranges = pieces.iter().enumerate().map(|(i, p)| range(i as u8, 0, p.len() as u32)).collect();
            let base = BaseRef { ranges, transpose: Some(Transpose { word, row, column, phase }) };
            if base.ranges.len() <= MAX_BASE_RANGES { round_trip(&base); }
            let mut out = vec![0xff; words as usize * usize::from(word)];
            let result = base.assemble(&mut out, |id, buffer| {
                let index = (0..=255u8).find(|i| sha256(&[*i]) == *id).ok_or(())?;
                buffer.extend_from_slice(pieces[usize::from(index)]);
                Ok::<(), ()>(())
            });
            prop_assert_eq!(result, Ok(()));
            let expected: Vec<u8> = (phase..phase + words)
                .flat_map(|k| {
                    let (r, c) = (k / row, k % row);
                    std::iter::repeat_n((c * column + r) as u8, usize::from(word))
                })
                .collect();
            prop_assert_eq!(out, expected);
        }
    }
}
