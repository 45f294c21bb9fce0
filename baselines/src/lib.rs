//! What others make of the same bytes: the measures that shard is held against.
//!
//! [`Zstd`] is the general compressor, [`BitX`] the published delta for checkpoints. Both keep their contexts and buffers
//! from one block to the next, as shard's own encoder does, so that times compare codecs and not allocations.
#![forbid(unsafe_code)]

mod bitx;

use std::io;

use zstd::bulk::{Compressor, Decompressor};

pub use bitx::{BitX, Packed};

/// The level of zstd: its own default, and BitX's.
pub const ZSTD_LEVEL: i32 = 3;

/// zstd at [`ZSTD_LEVEL`].
pub struct Zstd {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl Zstd {
    /// With contexts of its own.
    ///
    /// # Errors
    /// What zstd says where it cannot make them.
    pub fn new() -> io::Result<Self> {
        Ok(Self { compressor: Compressor::new(ZSTD_LEVEL)?, decompressor: Decompressor::new()? })
    }

    /// Makes `out` one frame of `bytes`.
    ///
    /// # Errors
    /// What zstd says.
    pub fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        self.compressor.compress_to_buffer(bytes, out)?;
        Ok(())
    }

    /// Bytes that a frame of `bytes` takes.
    ///
    /// # Errors
    /// What zstd says.
    pub fn compressed_len(&mut self, bytes: &[u8]) -> io::Result<u64> {
        Ok(self.compressor.compress(bytes)?.len() as u64)
    }

    /// Fills `out` with what a frame holds.
    ///
    /// # Errors
    /// What zstd says; [`io::ErrorKind::InvalidData`] where the frame holds fewer bytes.
    pub fn decompress(&mut self, frame: &[u8], out: &mut [u8]) -> io::Result<()> {
        let wanted = out.len();
        match self.decompressor.decompress_to_buffer(frame, out)? {
            len if len == wanted => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the frame holds fewer bytes than expected")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_its_bytes() {
        let mut zstd = Zstd::new().unwrap();
        let (mut frame, mut out) = (vec![1; 3], [0; 1000]);
        zstd.compress(&[7; 1000], &mut frame).unwrap();
        assert_eq!(zstd.compressed_len(&[7; 1000]).unwrap(), frame.len() as u64);
        zstd.decompress(&frame, &mut out).unwrap();
        assert_eq!(out, [7; 1000]);
        assert!(zstd.decompress(&frame, &mut [0; 999]).is_err());
        assert!(zstd.decompress(&frame, &mut [0; 1001]).is_err());
    }
}
