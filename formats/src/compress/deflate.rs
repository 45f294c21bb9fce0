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
/// shows. `likely` is tried first.
///
/// # Errors
/// What reading the source says.
pub(crate) fn repeats(
    source: &dyn Source,
    compressed: std::ops::Range<u64>,
    len: u64,
    likely: Option<Compression>,
) -> io::Result<Option<Compression>> {
    let probe = usize::try_from(len).map_or(PROBE, |len| len.min(PROBE));
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
    state: Mutex<(Inflater, Vec<u8>)>,
}

impl<'a> InflatedHead<'a> {
    /// Most expanded bytes that are held.
    pub(crate) const MOST: u64 = 32 << 20;

    /// The stream in `compressed` of `source`, which expands to `len` bytes.
    pub(crate) fn new(source: &'a dyn Source, compressed: std::ops::Range<u64>, len: u64) -> Self {
        Self { source, len, state: Mutex::new((Inflater::new(compressed), Vec::new())) }
    }
}

impl Source for InflatedHead<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > Self::MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too far from the start of compressed data"));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (inflater, held) = &mut *state;
        // Within the limit, so it fits.
        let (start, end) = (offset as usize, end as usize);
        if end > held.len() {
            let from = held.len();
            // Read in steps, so that many small reads do not resize for each.
            let to = end.max(from + STEP).min(usize::try_from(self.len.min(Self::MOST)).unwrap_or(end));
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
        let mut state = 9u64;
        let noise = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let words = (0..len.div_ceil(4)).map(noise).flat_map(|word| (0x3c00_0000 | (word & 0x01ff_ffff)).to_le_bytes());
        words.take(len).collect()
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
                let found = repeats(&stream, range.clone(), len as u64, None).unwrap();
                // Several levels may make the same of it.
                let Some(Compression::Zlib { level: found }) = found else { panic!("{len} bytes, level {level}") };
                assert!(deflate(&data, found) == stream[6..stream.len() - 5], "{len} bytes, level {level}");
                if len > 1000 {
                    let mut other = stream.clone();
                    other[range.start as usize + 40] ^= 1;
                    assert_eq!(repeats(&other, range, len as u64, None).unwrap(), None);
                }
            }
        }
    }

    #[test]
    fn only_the_head_of_a_long_stream_can_be_read() {
        let data = weights((32 << 20) + 1000);
        let stream = deflate(&data, 1);
        let head = InflatedHead::new(&stream, 0..stream.len() as u64, data.len() as u64);
        let mut buf = [0; 1000];
        for offset in [5_000_000, 0, (32 << 20) - 1000] {
            head.read_at(offset as u64, &mut buf).unwrap();
            assert_eq!(buf, data[offset..offset + 1000]);
        }
        assert_eq!(head.read_at(32 << 20, &mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(head.read_at(32 << 20, &mut [0; 1001]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let short = InflatedHead::new(&stream, 0..1000, data.len() as u64);
        assert_eq!(short.read_at(900_000, &mut buf).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
