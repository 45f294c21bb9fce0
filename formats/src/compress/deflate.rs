//! DEFLATE, expanded as it is read and compressed again by zlib.

use std::io;
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use shard_core::Compression;

use crate::source::Source;

/// Bytes that are read or written at a time.
const STEP: usize = 64 << 10;

/// Expanded bytes by which a level is recognised.
const PROBE: usize = 1 << 20;

/// The same where they are mostly zeros: a block of DEFLATE may stand for 4 MiB of them, and only whole blocks can be compared.
const LONG_PROBE: usize = 8 << 20;

/// zlib's levels, the most usual first.
const LEVELS: [u8; 9] = [6, 9, 1, 5, 7, 8, 4, 3, 2];

/// Expands a stream from front to back.
pub(super) struct Inflater {
    decompress: Decompress,
    input: Vec<u8>,
    /// The part of `input` that is not used up.
    ready: std::ops::Range<usize>,
    /// Where the next input is read, in bytes of the source.
    at: u64,
    end: u64,
    /// Expanded bytes that came out.
    position: u64,
}

impl Inflater {
    /// The stream in `range` of a source.
    pub(super) fn new(range: std::ops::Range<u64>) -> Self {
        let decompress = Decompress::new(false);
        Self { decompress, input: Vec::new(), ready: 0..0, at: range.start, end: range.end, position: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Fills `out` with the next expanded bytes.
    pub(super) fn fill(&mut self, source: &dyn Source, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            if self.ready.is_empty() {
                let len = usize::try_from(self.end - self.at).map_or(STEP, |left| left.min(STEP));
                self.input.resize(len, 0);
                source.read_at(self.at, &mut self.input)?;
                self.at += len as u64;
                self.ready = 0..len;
            }
            let before = (self.decompress.total_in(), self.decompress.total_out());
            let input = self.input.get(self.ready.clone()).unwrap_or_default();
            let status = self
                .decompress
                .decompress(input, out, FlushDecompress::None)
                .map_err(|error| damaged(&error.to_string()))?;
            let taken = (self.decompress.total_in() - before.0) as usize;
            let given = (self.decompress.total_out() - before.1) as usize;
            self.ready.start += taken;
            self.position += given as u64;
            out = out.get_mut(given..).unwrap_or_default();
            let stuck = taken == 0 && given == 0 && self.at == self.end;
            if !out.is_empty() && (status == Status::StreamEnd || stuck) {
                return Err(damaged("the stream ends too early"));
            }
        }
        Ok(())
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("compressed data cannot be expanded: {what}"))
}

/// Compresses a stream as zlib does.
pub(super) struct Deflater {
    compress: Compress,
    out: Vec<u8>,
}

impl Deflater {
    pub(super) fn new(with: Compression) -> Self {
        let Compression::Zlib { level } = with;
        Self { compress: Compress::new(flate2::Compression::new(level.into()), false), out: vec![0; STEP] }
    }

    /// Takes in the next bytes and hands on what comes of them; `last` ends the stream.
    pub(super) fn push<E>(
        &mut self,
        mut data: &[u8],
        last: bool,
        give: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        loop {
            let before = (self.compress.total_in(), self.compress.total_out());
            let status = self.compress.compress(data, &mut self.out, flush);
            let taken = (self.compress.total_in() - before.0) as usize;
            let given = (self.compress.total_out() - before.1) as usize;
            data = data.get(taken..).unwrap_or_default();
            give(self.out.get(..given).unwrap_or_default())?;
            let done = match status {
                Ok(Status::StreamEnd) | Err(_) => true,
                // Room was left, so there is nothing more to come.
                Ok(_) => !last && data.is_empty() && given < self.out.len(),
            };
            if done {
                return Ok(());
            }
        }
    }
}

/// The level at which zlib makes the `compressed` bytes of `source` of what they expand to, `len` bytes; as far as a part of them
/// shows. `likely` is tried first. What is expanded and compressed for it is taken from `left`, in bytes; where that is not enough, no
/// level is known.
///
/// # Errors
/// What reading the source says.
pub(crate) fn repeats(
    source: &dyn Source,
    compressed: std::ops::Range<u64>,
    len: u64,
    likely: Option<Compression>,
    left: &mut u64,
) -> io::Result<Option<Compression>> {
    let most = if len / 64 > compressed.end - compressed.start { LONG_PROBE } else { PROBE };
    let probe = usize::try_from(len).map_or(most, |len| len.min(most));
    let mut spend = || left.checked_sub(probe as u64).map(|rest| *left = rest);
    if spend().is_none() {
        return Ok(None);
    }
    let mut expanded = vec![0; probe];
    match Inflater::new(compressed.clone()).fill(source, &mut expanded) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        read => read?,
    }
    let is_all = probe as u64 == len;
    // What comes of the probe is hardly longer than it.
    let most = usize::try_from(compressed.end - compressed.start).unwrap_or(usize::MAX).min(probe + probe / 64 + STEP);
    let mut theirs = vec![0; most];
    source.read_at(compressed.start, &mut theirs)?;
    let levels = likely.into_iter().chain(LEVELS.map(|level| Compression::Zlib { level }));
    for with in levels {
        if spend().is_none() {
            break;
        }
        let mut at = 0usize;
        let mut compare = |ours: &[u8]| {
            let same = theirs.get(at..at + ours.len()) == Some(ours);
            at += ours.len();
            if same { Ok(()) } else { Err(()) }
        };
        let same = Deflater::new(with).push(&expanded, is_all, &mut compare).is_ok();
        if same && at > 0 && (!is_all || at as u64 == compressed.end - compressed.start) {
            return Ok(Some(with));
        }
    }
    Ok(None)
}

/// A compressed stream as a source that is expanded as far as it is read, and whose beginning is held. What lies beyond cannot be
/// read: parsers look at a file's beginning, and those that look elsewhere are not worth expanding it for.
pub(crate) struct InflatedHead<'a> {
    source: &'a dyn Source,
    len: u64,
    /// Most expanded bytes that are held.
    most: u64,
    state: Mutex<(Inflater, Vec<u8>)>,
}

impl<'a> InflatedHead<'a> {
    /// Most expanded bytes that are held.
    const MOST: u64 = 32 << 20;

    /// The stream in `compressed` of `source`, which expands to `len` bytes, of which `most` may be read.
    pub(crate) fn new(source: &'a dyn Source, compressed: std::ops::Range<u64>, len: u64, most: u64) -> Self {
        Self { source, len, most: most.min(Self::MOST), state: Mutex::new((Inflater::new(compressed), Vec::new())) }
    }

    /// Bytes that were expanded.
    pub(crate) fn expanded(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.position()
    }
}

impl Source for InflatedHead<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_expanded(&self) -> bool {
        true
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too far from the start of compressed data"));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (inflater, held) = &mut *state;
        // Within the limit, so it fits.
        let (start, end) = (offset as usize, end as usize);
        if end > held.len() {
            let from = held.len();
            // Read in steps, so that many small reads do not resize for each.
            let to = end.max(from + STEP).min(usize::try_from(self.len.min(self.most)).unwrap_or(end));
            held.resize(to, 0);
            let filled = inflater.fill(self.source, held.get_mut(from..).unwrap_or_default());
            if let Err(error) = filled {
                held.truncate(from);
                return Err(error);
            }
        }
        buf.copy_from_slice(held.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use shard_core::sha256;

    use super::*;

    /// `data` compressed by zlib at a level.
    pub(in crate::compress) fn deflate(data: &[u8], level: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let give = &mut |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<(), ()>(())
        };
        Deflater::new(Compression::Zlib { level }).push(data, true, give).unwrap();
        out
    }

    /// Bytes like those of weights: partly compressible.
    pub(in crate::compress) fn weights(len: usize) -> Vec<u8> {
        let words = random().flat_map(|word| (0x3c00_0000 | (word & 0x01ff_ffff)).to_le_bytes());
        words.take(len).collect()
    }

    /// Numbers that look random.
    fn random() -> impl Iterator<Item = u32> {
        std::iter::successors(Some(9u64), |state| {
            Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        })
        .skip(1)
        .map(|state| (state >> 33) as u32)
    }

    /// What every level makes of 3.5 MB of weights, zeros and words, as CPython's `zlib` (1.2.13) makes it with a window of -15 and
    /// memory level 8. Files that were kept are restored by these very bytes: a zlib for which this fails must not be used.
    #[test]
    fn golden() {
        const EXPECTED: [(u8, usize, &str); 9] = [
            (1, 1_703_521, "f7afe0fc637ae82f2159883593deca3d88bcd66da3b1a37b096b19f202c024de"),
            (2, 1_671_910, "f617791abab65a3116a1a7f4b7979c2bb5ff666396361eb7d9cd3d6252bb7bef"),
            (3, 1_654_764, "114386ae6683097cca1738b2706ee8e5a0005e06db7fad147bb18062c19e8440"),
            (4, 1_649_903, "66dcc9ad20659146b9243acde392b2b8e1a2ba48f6434a0949d60aa6b6977746"),
            (5, 1_637_428, "6ad32e39490bac8bea6e54655224015b1eabc7bb692363838fb8cf74601bbecf"),
            (6, 1_618_875, "8577084c8785846eeeb678c02307493e4f7f6ee97bc5277efa40bbadd614db27"),
            (7, 1_615_376, "b560203fcf5df7ff512bf1318fbf50661116b5b987c606a06129065cb3fb790e"),
            (8, 1_606_071, "145bb6d0f30edcb39dde164a261a59dc36fccd3a09e6d7cf61a583508dcc3678"),
            (9, 1_604_226, "9a6fc12d9b4a31312786e3d41f4d823bdfda9b06f771b4fc2d951ee8551a338f"),
        ];
        let mut data: Vec<u8> =
            random().take(300_000).flat_map(|word| (0x3c00_0000 | (word & 0x01ff_ffff)).to_le_bytes()).collect();
        data.resize(data.len() + 300_000, 0);
        for word in random().take(300_000).map(|word| word % 997) {
            match word {
                0..300 => data.extend_from_slice(format!("layer.{}.weight ", word % 40).as_bytes()),
                _ => data.resize(data.len() + word as usize % 7, word as u8),
            }
        }
        assert_eq!(
            (data.len(), sha256(&data).to_hex().as_str()),
            (3_547_898, "0807b136902bf01c2f5fa70e00667d8de02136f0c312381e16bef5a61436bca0")
        );
        for (level, len, hash) in EXPECTED {
            let stream = deflate(&data, level);
            assert_eq!((stream.len(), sha256(&stream).to_hex().as_str()), (len, hash), "level {level}");
        }
    }

    #[test]
    fn pieces_of_any_length_compress_alike() {
        let data = weights(3_000_001);
        for level in 1..=9 {
            let whole = deflate(&data, level);
            let mut out = Vec::new();
            let mut deflater = Deflater::new(Compression::Zlib { level });
            let mut at = 0;
            for (step, len) in [1usize, 70_000, 3, 65_536, 1_000_000, 17, 300_000].iter().cycle().enumerate() {
                let end = (at + len + step).min(data.len());
                let give = &mut |bytes: &[u8]| {
                    out.extend_from_slice(bytes);
                    Ok::<(), ()>(())
                };
                deflater.push(&data[at..end], end == data.len(), give).unwrap();
                at = end;
                if at == data.len() {
                    break;
                }
            }
            assert!(out == whole, "level {level}");
        }
    }

    #[test]
    fn a_level_is_recognised() {
        for len in [0, 1, 100, 100_000, 2_500_000] {
            let data = weights(len);
            for level in [1, 2, 6, 9] {
                let stream = [&b"before"[..], &deflate(&data, level), b"after"].concat();
                let range = 6..stream.len() as u64 - 5;
                let found = repeats(&stream, range.clone(), len as u64, None, &mut { u64::MAX }).unwrap();
                // Several levels may make the same of it.
                let Some(Compression::Zlib { level: found }) = found else { panic!("{len} bytes, level {level}") };
                assert!(deflate(&data, found) == stream[6..stream.len() - 5], "{len} bytes, level {level}");
                if len > 1000 {
                    let mut other = stream.clone();
                    other[range.start as usize + 40] ^= 1;
                    assert_eq!(repeats(&other, range, len as u64, None, &mut { u64::MAX }).unwrap(), None);
                }
            }
        }
    }

    #[test]
    fn only_the_head_of_a_long_stream_can_be_read() {
        let data = weights((32 << 20) + 1000);
        let stream = deflate(&data, 1);
        let head = InflatedHead::new(&stream, 0..stream.len() as u64, data.len() as u64, u64::MAX);
        let mut buf = [0; 1000];
        for offset in [5_000_000, 0, (32 << 20) - 1000] {
            head.read_at(offset as u64, &mut buf).unwrap();
            assert_eq!(buf, data[offset..offset + 1000]);
        }
        assert_eq!(head.read_at(32 << 20, &mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(head.read_at(32 << 20, &mut [0; 1001]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(head.expanded(), 32 << 20);
        let short = InflatedHead::new(&stream, 0..1000, data.len() as u64, u64::MAX);
        assert_eq!(short.read_at(900_000, &mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let bounded = InflatedHead::new(&stream, 0..stream.len() as u64, data.len() as u64, 100_000);
        bounded.read_at(99_000, &mut buf).unwrap();
        assert_eq!(bounded.read_at(99_001, &mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(bounded.expanded(), 100_000);
    }
}
