use ::zstd::bulk::{Compressor, Decompressor};

use super::{Counts, EntropyCoder, Workspace};
use crate::{CodecError, Level};

/// A Zstandard frame (RFC 8878) without its optional content size and checksum. Always decoded with the known length as
/// the limit.
pub struct Zstd;

/// Contexts, made when they are first used.
#[derive(Default)]
pub(super) struct Contexts {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
}

impl Contexts {
    fn compressor(&mut self, level: i32) -> std::io::Result<&mut Compressor<'static>> {
        let mut compressor = match self.compressor.take() {
            Some(compressor) => compressor,
            None => {
                let mut compressor = Compressor::new(level)?;
                compressor.include_checksum(false)?;
                compressor.include_contentsize(false)?;
                compressor
            }
        };
        compressor.set_compression_level(level)?;
        Ok(self.compressor.insert(compressor))
    }

    fn decompressor(&mut self) -> std::io::Result<&mut Decompressor<'static>> {
        let decompressor = match self.decompressor.take() {
            Some(decompressor) => decompressor,
            None => Decompressor::new()?,
        };
        Ok(self.decompressor.insert(decompressor))
    }
}

impl EntropyCoder for Zstd {
    fn id(&self) -> u8 {
        3
    }
    fn name(&self) -> &'static str {
        "zstd"
    }
    fn fixed_len(&self, _len: usize) -> Option<usize> {
        None
    }
    fn encode(
        &self,
        workspace: &mut Workspace,
        data: &[u8],
        _counts: &Counts,
        out: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        let start = out.len();
        let level = match (workspace.level, workspace.opaque) {
            (Level::Fast, _) => 1,
            (Level::Default, _) => 3,
            // The optimal parser of level 19 takes about a hundred times longer on planes of words, for less than 1%.
            (Level::Max, false) => 9,
            (Level::Max, true) => 19,
        };
        let compressor = workspace.zstd.compressor(level).map_err(CodecError::Zstd)?;
        out.resize(start + data.len().saturating_sub(1), 0);
        // The only error with a good context is a destination that is too small.
        match compressor.compress_to_buffer(data, &mut out[start..]) {
            Ok(len) if !data.is_empty() => {
                out.truncate(start + len);
                Ok(true)
            }
            _ => {
                out.truncate(start);
                Ok(false)
            }
        }
    }
    fn decode(&self, workspace: &mut Workspace, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError> {
        let decompressor = workspace.zstd.decompressor().map_err(CodecError::Zstd)?;
        match decompressor.decompress_to_buffer(stored, out) {
            Ok(len) if len == out.len() => Ok(()),
            _ => Err(CodecError::Body("a zstd stream does not decode to its length")),
        }
    }
}
