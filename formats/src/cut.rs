//! Cuts the segments of a layout into blocks while the file is read once, front to back.
//!
//! A segment of tensor data is cut from its start into blocks of [`Cut::tensor_block`] bytes, the last one shorter. An opaque
//! segment is cut by its content into chunks, from its start, so that equal segments have equal chunks wherever they are.

use std::io;

use shard_core::limits::Cut;
use shard_core::{Layout, Segment};

use crate::opaque::Chunker;
use crate::source::Source;

/// Fewest bytes that are read ahead at once, so that small tensors do not cost a system call each.
const READ_AHEAD: usize = 1 << 20;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCut {
    /// Index of the segment.
    pub segment: usize,
    /// Where the block starts in its segment, in bytes.
    pub offset: u64,
    /// The block's length in bytes; never 0.
    pub len: usize,
}

/// The blocks of a file, one after the other. It buffers at most two of the largest opaque chunks (8 MiB for [`Cut::V1`]).
pub struct Cutter<'a> {
    layout: &'a Layout,
    cut: Cut,
    chunker: Chunker,
    window: Window<'a>,
    /// Where the next block starts: segment, offset in it, and offset in the file.
    segment: usize,
    offset: u64,
    at: u64,
}

impl<'a> Cutter<'a> {
    /// A cutter at the start of `source`, whose layout is `layout`.
    #[must_use]
    pub fn new(source: &'a dyn Source, layout: &'a Layout, cut: Cut) -> Self {
        let end = layout.segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.len));
        Self {
            layout,
            cut,
            chunker: Chunker::new(cut),
            window: Window { source, end, bytes: Vec::new(), start: 0, filled: 0 },
            segment: 0,
            offset: 0,
            at: 0,
        }
    }

    /// Puts the next block's bytes, and nothing else, into `block`. Every byte of the file comes out once, in order;
    /// segments of length 0 have no block. `None` at the end, with `block` empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the source is shorter than its layout, at once or because it shrank;
    /// [`io::ErrorKind::InvalidInput`] where it is longer; else what reading says. `block` is then empty, and the next call
    /// tries the same block again.
    pub fn next(&mut self, block: &mut Vec<u8>) -> io::Result<Option<BlockCut>> {
        let result = self.fill(block);
        if !matches!(result, Ok(Some(_))) {
            block.clear();
        }
        result
    }

    fn fill(&mut self, block: &mut Vec<u8>) -> io::Result<Option<BlockCut>> {
        if self.at == 0 {
            self.window.check_len()?;
        }
        let Some((segment, left)) = self.current() else { return Ok(None) };
        let len = match segment.dtype {
            Some(dtype) => {
                let len = at_most(left, self.cut.tensor_block(dtype));
                // Only the bytes that grow the buffer are zeroed; all are overwritten.
                block.resize(len, 0);
                self.window.copy(self.at, block)?;
                len
            }
            None => {
                let most = self.chunker.largest();
                let bytes = self.window.get(self.at, at_most(left, most), at_most(left, 2 * most))?;
                let chunk = bytes.get(..self.chunker.first(bytes)).unwrap_or(bytes);
                block.clear();
                block.extend_from_slice(chunk);
                chunk.len()
            }
        };
        let cut = BlockCut { segment: self.segment, offset: self.offset, len };
        self.offset += len as u64;
        self.at += len as u64;
        Ok(Some(cut))
    }

    /// The segment of the next block and how many of its bytes are left; moves on from segments that are done.
    fn current(&mut self) -> Option<(Segment, u64)> {
        loop {
            let segment = *self.layout.segments.get(self.segment)?;
            match segment.len - self.offset {
                0 => {
                    self.segment += 1;
                    self.offset = 0;
                }
                left => return Some((segment, left)),
            }
        }
    }
}

/// `left`, or `most` where that is less.
fn at_most(left: u64, most: usize) -> usize {
    usize::try_from(left).map_or(most, |left| left.min(most))
}

/// A stretch of the file that was read ahead. It is addressed by file offset, so that a failed read loses nothing.
struct Window<'a> {
    source: &'a dyn Source,
    /// Where the last segment ends, in the file.
    end: u64,
    bytes: Vec<u8>,
    /// File offset of `bytes[0]`.
    start: u64,
    /// How many of `bytes` hold data of the file.
    filled: usize,
}

impl Window<'_> {
    fn check_len(&self) -> io::Result<()> {
        match self.source.len().cmp(&self.end) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its layout"))
            }
            std::cmp::Ordering::Greater => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is longer than its layout"))
            }
        }
    }

    /// What is buffered from file offset `at` on.
    fn buffered(&self, at: u64) -> &[u8] {
        at.checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .and_then(|skip| self.bytes.get(skip..self.filled))
            .unwrap_or(&[])
    }

    /// `need` bytes from file offset `at` on. Where they are not there yet, as many as `wish` of them and of what follows
    /// are read, and never less than [`READ_AHEAD`].
    fn get(&mut self, at: u64, need: usize, wish: usize) -> io::Result<&[u8]> {
        let kept = self.buffered(at).len();
        if kept < need {
            let target = at_most(self.end.saturating_sub(at), need.max(wish).max(READ_AHEAD));
            let kept_from = self.filled - kept;
            self.bytes.copy_within(kept_from..self.filled, 0);
            (self.start, self.filled) = (at, kept);
            if self.bytes.len() < target {
                self.bytes.resize(target, 0);
            }
            let read = self.bytes.get_mut(kept..target).unwrap_or_default();
            self.source.read_at(at + kept as u64, read)?;
            self.filled = target.max(kept);
        }
        self.buffered(at).get(..need).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Fills `out` from file offset `at` on. Large pieces are read straight into it.
    fn copy(&mut self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let buffered = self.buffered(at);
        let ready = buffered.len().min(out.len());
        let (head, rest) = out.split_at_mut(ready);
        head.copy_from_slice(&buffered[..ready]);
        let at = at + ready as u64;
        if rest.len() >= READ_AHEAD {
            self.source.read_at(at, rest)
        } else {
            rest.copy_from_slice(self.get(at, rest.len(), 0)?);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use shard_core::DType;

    use super::*;
    use crate::opaque::tests::noise;

    /// A source that counts its reads, and fails those beyond a length.
    struct Counting {
        bytes: Vec<u8>,
        reads: AtomicU64,
        good: AtomicU64,
    }

    impl Counting {
        fn new(bytes: Vec<u8>) -> Self {
            let good = AtomicU64::new(bytes.len() as u64);
            Self { bytes, reads: AtomicU64::new(0), good }
        }
    }

    impl Source for Counting {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            if offset + buf.len() as u64 > self.good.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.bytes.read_at(offset, buf)
        }
    }

    fn layout(segments: &[(u64, Option<DType>)]) -> Layout {
        let segments = segments.iter().map(|(len, dtype)| Segment { len: *len, dtype: *dtype }).collect();
        Layout { format: "test".to_owned(), segments, tensors: Vec::new(), compressed: Vec::new() }
    }

    /// All blocks, checked against the file's bytes and the cutter's bound on memory.
    fn blocks(source: &dyn Source, bytes: &[u8], layout: &Layout, cut: Cut) -> Vec<BlockCut> {
        let offsets = layout.segment_offsets();
        let mut cutter = Cutter::new(source, layout, cut);
        let (mut block, mut at, mut all) = (vec![9; 3], 0, Vec::new());
        while let Some(found) = cutter.next(&mut block).unwrap() {
            assert_eq!(found.len, block.len());
            assert!((1..=cut.block()).contains(&found.len));
            assert_eq!(offsets[found.segment] + found.offset, at as u64, "front to back");
            assert!(block == bytes[at..at + found.len], "bytes from {at} on");
            assert!(cutter.window.bytes.len() <= READ_AHEAD.max(2 * cut.opaque_chunk().2));
            at += found.len;
            all.push(found);
        }
        assert_eq!(at, bytes.len());
        assert!(block.is_empty());
        assert_eq!(cutter.next(&mut block).unwrap(), None, "the end is the end");
        all
    }

    fn lengths(blocks: &[BlockCut], segment: usize) -> Vec<usize> {
        blocks.iter().filter(|block| block.segment == segment).map(|block| block.len).collect()
    }

    #[test]
    fn tensors_are_cut_from_their_start_into_whole_units() {
        let layout = layout(&[
            (5, None),
            (65_536 * 2 + 4, Some(DType::F32)),
            (0, Some(DType::F32)),
            (65_535 + 3, Some(DType::F6E2M3)),
            (0, None),
            (7, Some(DType::U8)),
        ]);
        let source = noise(5 + 65_536 * 2 + 4 + 65_538 + 7);
        let blocks = blocks(&source, &source, &layout, Cut::TEST);
        let expected: [&[usize]; 6] = [&[5], &[65_536, 65_536, 4], &[], &[65_535, 3], &[], &[7]];
        for (segment, expected) in expected.into_iter().enumerate() {
            assert_eq!(lengths(&blocks, segment), expected);
        }
    }

    #[test]
    fn equal_opaque_segments_have_equal_chunks() {
        for (cut, len) in [(Cut::TEST, 300_001), (Cut::V1, 9_000_001)] {
            let same = noise(len);
            let bytes = [&same[..], &[1; 333], &same[..]].concat();
            let layout = layout(&[(len as u64, None), (333, Some(DType::I8)), (len as u64, None)]);
            let blocks = blocks(&bytes, &bytes, &layout, cut);
            assert!(lengths(&blocks, 0).len() > 3);
            assert_eq!(lengths(&blocks, 0), lengths(&blocks, 2));
        }
    }

    #[test]
    fn small_segments_share_reads_and_large_blocks_are_read_in_place() {
        let small = layout(&vec![(100, Some(DType::U8)); 50_000]);
        let source = Counting::new(noise(5_000_000));
        assert_eq!(blocks(&source, &source.bytes, &small, Cut::V1).len(), 50_000);
        assert_eq!(source.reads.load(Ordering::Relaxed), 5, "one read a MiB");
        let large = layout(&[(20 << 20, Some(DType::BF16))]);
        let source = Counting::new(noise(20 << 20));
        assert_eq!(blocks(&source, &source.bytes, &large, Cut::V1).len(), 5);
        assert_eq!(source.reads.load(Ordering::Relaxed), 5, "one read a block");
        let opaque = layout(&[(20 << 20, None)]);
        let source = Counting::new(noise(20 << 20));
        assert!(blocks(&source, &source.bytes, &opaque, Cut::V1).len() > 10);
        assert!(source.reads.load(Ordering::Relaxed) <= 5, "reads of several chunks");
    }

    #[test]
    fn a_file_that_does_not_fit_its_layout_is_an_error() {
        let bytes = noise(1000);
        for (len, kind) in [(1001, io::ErrorKind::UnexpectedEof), (999, io::ErrorKind::InvalidInput)] {
            let layout = layout(&[(len, None)]);
            let error = Cutter::new(&bytes, &layout, Cut::V1).next(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), kind);
        }
        assert!(Cutter::new(&bytes, &layout(&[]), Cut::V1).next(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_loses_nothing() {
        let layout = layout(&[(3_000_001, None), (6_000_000, Some(DType::F16)), (300_000, Some(DType::U8))]);
        for cut in [Cut::TEST, Cut::V1] {
            let source = Counting::new(noise(9_300_001));
            let mut cutter = Cutter::new(&source, &layout, cut);
            let (mut block, mut all, mut failures) = (Vec::new(), Vec::new(), 0);
            for good in (0..=9_300_001).step_by(900_000).chain([9_300_001]) {
                source.good.store(good, Ordering::Relaxed);
                loop {
                    match cutter.next(&mut block) {
                        Ok(Some(_)) => all.extend_from_slice(&block),
                        Ok(None) => break,
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                            assert!(block.is_empty());
                            failures += 1;
                            break;
                        }
                    }
                }
            }
            assert!(failures > 5);
            assert!(all == source.bytes, "the rest comes once the bytes are back");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_byte_comes_out_once(
            segments in prop::collection::vec(
                (
                    prop_oneof![0u64..300, 65_000u64..66_500, 0u64..700_000, 1_000_000u64..2_200_000],
                    prop::option::of(prop::sample::select(DType::ALL)),
                ),
                0..6,
            ),
            v1: bool,
        ) {
            let layout = layout(&segments);
            let bytes = noise(segments.iter().map(|(len, _)| *len as usize).sum());
            let cut = if v1 { Cut::V1 } else { Cut::TEST };
            let blocks = blocks(&bytes, &bytes, &layout, cut);
            for (index, (len, dtype)) in segments.iter().enumerate() {
                let lengths = lengths(&blocks, index);
                prop_assert_eq!(lengths.iter().sum::<usize>() as u64, *len);
                if let (Some(dtype), Some((_, whole))) = (dtype, lengths.split_last()) {
                    prop_assert!(whole.iter().all(|len| *len == cut.tensor_block(*dtype)));
                }
            }
        }
    }
}
