//! Entropy coders: how one stream of bytes is stored.

pub(crate) mod bits;
mod constant;
mod cost;
pub(crate) mod model;
mod rans;
mod raw;
mod zstd;

pub use constant::Constant;
pub use rans::Rans;
pub use raw::Raw;
pub use zstd::Zstd;

use crate::kernel::{DecodeTables, Isa};
use crate::{CodecError, Level};
pub(crate) use cost::{byte_costs, entropy_of, estimate};

/// How often each byte value occurs in a stream.
pub type Counts = [u32; 256];

/// Tables and contexts that coders use again for every stream.
pub struct Workspace {
    isa: Isa,
    level: Level,
    opaque: bool,
    tables: Box<DecodeTables>,
    zstd: zstd::Contexts,
}

impl Workspace {
    /// An empty workspace; contexts are made when they are first used.
    #[must_use]
    pub fn new(isa: Isa, level: Level) -> Self {
        Self { isa, level, opaque: false, tables: Box::new(DecodeTables::new()), zstd: zstd::Contexts::default() }
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Says whether the streams to come are of opaque bytes rather than of words.
    pub(crate) fn set_opaque(&mut self, opaque: bool) {
        self.opaque = opaque;
    }

    /// The level that streams are encoded at.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

/// An entropy coder.
pub trait EntropyCoder: Sync {
    /// The stable number in block headers.
    fn id(&self) -> u8;
    /// The name in reports.
    fn name(&self) -> &'static str;
    /// The stored length of every stream of `len` bytes; `None` where it depends on the stream, and is in the header.
    fn fixed_len(&self, len: usize) -> Option<usize>;
    /// Appends the stored form of `data`, whose `counts` these are. Returns false, with nothing appended, where the coder
    /// has no form for it that is shorter than `data` (raw: that is longer).
    ///
    /// # Errors
    /// [`CodecError::Zstd`] where zstd has no memory for a context.
    fn encode(
        &self,
        workspace: &mut Workspace,
        data: &[u8],
        counts: &Counts,
        out: &mut Vec<u8>,
    ) -> Result<bool, CodecError>;
    /// Fills `out` from its stored form.
    ///
    /// # Errors
    /// [`CodecError::Body`] where `stored` is not the stored form of anything of that length.
    fn decode(&self, workspace: &mut Workspace, stored: &[u8], out: &mut [u8]) -> Result<(), CodecError>;
}

pub(crate) const RAW: u8 = 0;

crate::chain::registered!(EntropyCoder, "entropy coder", coders);

/// Streams from this length on, in bytes, are kept raw where a part of them says that nothing is to be saved.
const JUDGED_BY_A_PART: usize = 64 << 10;

/// An eighth of a long stream: 8 runs, spread evenly.
pub(crate) fn part_of(data: &[u8]) -> Vec<u8> {
    let run = data.len() / 64;
    let mut part = Vec::with_capacity(8 * run);
    for index in 0..8 {
        part.extend_from_slice(&data[(data.len() - run) / 7 * index..][..run]);
    }
    part
}

/// Appends the shortest form found for `data`, zstd being tried where `repeats` are expected. Returns the coder; its output
/// is never longer than `data`.
pub(crate) fn encode_stream(
    workspace: &mut Workspace,
    data: &[u8],
    repeats: bool,
    out: &mut Vec<u8>,
) -> Result<&'static dyn EntropyCoder, CodecError> {
    let start = out.len();
    if data.len() >= JUDGED_BY_A_PART && !repeats && workspace.level != Level::Max {
        let part = part_of(data);
        let expected = estimate(&crate::kernel::histogram(&part), part.len()).bytes(data.len());
        if expected >= (data.len() - data.len() / 256) as u64 {
            out.extend_from_slice(data);
            return Ok(&Raw);
        }
    }
    let counts = crate::kernel::histogram(data);
    if Constant.encode(workspace, data, &counts, out)? {
        return Ok(&Constant);
    }
    let mut best: Option<&'static dyn EntropyCoder> = None;
    // A stream that saves less than this is kept raw: reading it then costs nothing.
    let worthwhile = if workspace.level == Level::Max { data.len() } else { data.len() - data.len() / 128 };
    if estimate(&counts, data.len()).bytes(data.len()) < worthwhile as u64
        && Rans.encode(workspace, data, &counts, out)?
    {
        best = Some(&Rans);
    }
    if repeats {
        let middle = out.len();
        if Zstd.encode(workspace, data, &counts, out)? {
            let (first, second) = (middle - start, out.len() - middle);
            // zstd decodes several times slower than rANS: it has to earn that.
            if best.is_none() || second < first - first / 128 {
                out.drain(start..middle);
                best = Some(&Zstd);
            } else {
                out.truncate(middle);
            }
        }
    }
    match best {
        Some(coder) => Ok(coder),
        None => {
            out.extend_from_slice(data);
            Ok(&Raw)
        }
    }
}

/// The bytes that zstd makes of `data`, which go to `scratch`; `None` where there are no fewer.
pub(crate) fn try_zstd(
    workspace: &mut Workspace,
    data: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<Option<usize>, CodecError> {
    let start = scratch.len();
    Ok(Zstd.encode(workspace, data, &[0; 256], scratch)?.then(|| scratch.len() - start))
}

#[cfg(test)]
mod tests;
