//! A file's own bytes from its expanded bytes.

use shard_core::{CompressedRun, Layout};
use thiserror::Error;

use super::deflate::Deflater;
use super::pieces::{Piece, pieces};

/// Compressing did not give a run of the length that the layout has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("compressing again did not give the file's bytes")]
pub struct NotRepeated;

/// Takes in the expanded bytes of a file, in order and in pieces of any length, and hands on those of the file.
pub struct FileBytes {
    pieces: std::vec::IntoIter<Piece>,
    /// The piece that the next byte belongs to, and how many expanded bytes are left of it.
    now: Option<(Piece, u64)>,
    /// The compressor of that piece, and how many bytes it has given.
    deflater: Option<(Deflater, u64)>,
}

impl FileBytes {
    /// The file with that layout.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self::of(layout.segments.iter().map(|segment| segment.len), &layout.compressed)
    }

    /// The file with segments of those lengths, in expanded bytes, and those compressed runs.
    #[must_use]
    pub fn of(lens: impl Iterator<Item = u64>, runs: &[CompressedRun]) -> Self {
        let mut bytes = Self { pieces: pieces(lens, runs).into_iter(), now: None, deflater: None };
        bytes.next_piece();
        bytes
    }

    fn next_piece(&mut self) {
        self.now = self.pieces.next().map(|piece| {
            let len = piece.expanded.end - piece.expanded.start;
            (piece, len)
        });
        let with = self.now.as_ref().and_then(|(piece, _)| piece.with);
        self.deflater = with.map(|with| (Deflater::new(with), 0));
    }

    /// Takes in the next expanded bytes, and hands on what they are in the file. What is taken in beyond the end of the file is
    /// [`NotRepeated`].
    ///
    /// # Errors
    /// What `give` says, and [`NotRepeated`].
    pub fn push<E: From<NotRepeated>>(
        &mut self,
        mut data: &[u8],
        give: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let Some((piece, left)) = &mut self.now else {
                return if data.is_empty() { Ok(()) } else { Err(NotRepeated.into()) };
            };
            let len = usize::try_from(*left).map_or(data.len(), |left| left.min(data.len()));
            let (part, rest) = data.split_at(len);
            *left -= len as u64;
            data = rest;
            let is_last = *left == 0;
            match &mut self.deflater {
                None => give(part)?,
                Some((deflater, given)) => {
                    let file_len = piece.file.end - piece.file.start;
                    deflater.push(part, is_last, &mut |bytes| {
                        *given += bytes.len() as u64;
                        if *given > file_len { Err(NotRepeated.into()) } else { give(bytes) }
                    })?;
                    if is_last && *given != file_len {
                        return Err(NotRepeated.into());
                    }
                }
            }
            if !is_last {
                return Ok(());
            }
            self.next_piece();
        }
    }
}

#[cfg(test)]
mod tests {
    use shard_core::{Compression, DType, Segment};

    use super::super::deflate::tests::{deflate, weights};
    use super::super::expanded::Expanded;
    use super::*;
    use crate::cut::Cutter;
    use crate::source::Source;
    use shard_core::limits::Cut;

    /// A file with two compressed runs, one of them above what is held, and its layout and expanded bytes.
    fn file() -> (Vec<u8>, Layout, Vec<u8>) {
        let (small, large) = (weights(100_000), weights((33 << 20) + 8));
        let (small_stream, large_stream) = (deflate(&small, 6), deflate(&large, 1));
        let file = [b"head", &small_stream[..], b"between", &large_stream, b"tail!"].concat();
        let expanded = [b"head", &small[..], b"between", &large, b"tail!"].concat();
        let segment = |len: usize, dtype| Segment { len: len as u64, dtype };
        let layout = Layout {
            format: "test".to_owned(),
            segments: vec![
                segment(4, None),
                segment(20_000, None),
                segment(80_000, Some(DType::F32)),
                segment(7, None),
                segment(large.len() - 8, Some(DType::F32)),
                segment(8, None),
                segment(5, None),
            ],
            tensors: Vec::new(),
            compressed: vec![
                CompressedRun {
                    first: 1,
                    count: 2,
                    len: small_stream.len() as u64,
                    with: Compression::Zlib { level: 6 },
                },
                CompressedRun {
                    first: 4,
                    count: 2,
                    len: large_stream.len() as u64,
                    with: Compression::Zlib { level: 1 },
                },
            ],
        };
        assert_eq!(layout.check(file.len() as u64), Ok(()));
        (file, layout, expanded)
    }

    #[test]
    fn a_file_expands_and_comes_back() {
        let (file, layout, expanded) = file();
        let source = Expanded::new(&file, &layout);
        assert_eq!(source.len(), expanded.len() as u64);
        let mut cutter = Cutter::new(&source, &layout, Cut::V1);
        let mut bytes = FileBytes::new(&layout);
        let (mut block, mut all, mut back) = (Vec::new(), Vec::new(), Vec::new());
        while cutter.next(&mut block).unwrap().is_some() {
            all.extend_from_slice(&block);
            bytes
                .push(&block, &mut |part| {
                    back.extend_from_slice(part);
                    Ok::<(), NotRepeated>(())
                })
                .unwrap();
        }
        assert!(all == expanded && back == file);
        assert_eq!(bytes.push(b"x", &mut |_| Ok(())), Err(NotRepeated));
        // In any order, across pieces, and back again.
        for (offset, len) in [
            (99_000, 2000),
            (0, 10),
            (20_000_000, 100),
            (30_000_000, 5000),
            (5, 1),
            (100_003, 20),
            (expanded.len() - 9, 9),
        ] {
            let mut buf = vec![0; len];
            source.read_at(offset as u64, &mut buf).unwrap();
            assert!(buf == expanded[offset..offset + len], "{len} bytes at {offset}");
        }
        assert!(source.read_at(expanded.len() as u64, &mut [0]).is_err());
    }

    #[test]
    fn what_cannot_be_repeated_says_so() {
        let (file, mut layout, expanded) = file();
        layout.compressed[0].with = Compression::Zlib { level: 1 };
        let pushed = FileBytes::new(&layout).push(&expanded, &mut |_| Ok(()));
        assert_eq!(pushed, Err(NotRepeated), "another length");
        let mut damaged = file;
        damaged[40_000] ^= 0x55;
        let read = Expanded::new(&damaged, &layout).read_at(0, &mut vec![0; 200_000]);
        assert!(read.is_err() || layout.compressed[0].len < 40_000);
    }
}
