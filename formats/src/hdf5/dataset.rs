//! Where the elements of a dataset lie: its dataspace and its layout.

use shard_core::DType;

use super::chunks::{self, Grid, Index};
use super::file::{File, Reader};
use crate::assemble::MAX_RANK;
use crate::format::{FormatError, FormatErrorKind};

/// Dimensions, in elements.
pub(super) struct Dataspace {
    pub(super) dims: Vec<u64>,
    /// What they may grow to; `u64::MAX` for any number.
    pub(super) most: Vec<u64>,
}

/// Reads a dataspace message; `None` for a dataspace of no elements and no dimensions.
pub(super) fn dataspace(mut body: Reader<'_>) -> Result<Option<Dataspace>, FormatError> {
    const NULL: u8 = 2;
    let [version, rank, flags, kind]: [u8; 4] = body.array()?;
    match version {
        1 => body.skip(4)?,
        2 if kind == NULL => return Ok(None),
        2 => {}
        _ => return Err(FormatError::malformed(format!("a dataspace of version {version}"))),
    }
    if usize::from(rank) > MAX_RANK {
        return Err(FormatError::new(FormatErrorKind::Limit, format!("a dataset of {rank} dimensions")));
    }
    let mut read = || (0..rank).map(|_| body.length()).collect::<Result<Vec<u64>, _>>();
    let dims = read()?;
    let most = if flags & 1 != 0 { read()? } else { dims.clone() };
    Ok(Some(Dataspace { dims, most }))
}

/// Where elements are.
pub(super) enum Place {
    /// All of them, in row-major order, from there on.
    Whole(u64),
    /// In chunks of these dimensions: which chunk of the grid, in row-major order, and where it is.
    Chunks(Vec<u64>, Vec<(u64, u64)>),
}

/// Where the elements of a dataset of that type are; `None` where they are not in the file as they are: never written, virtual,
/// or in a way that is not followed. `filtered` datasets are followed only where they have no elements.
pub(super) fn place<'a>(
    file: &'a File<'a>,
    space: &Dataspace,
    dtype: DType,
    mut body: Reader<'a>,
    filtered: bool,
) -> Result<Option<Place>, FormatError> {
    let elements = match space.dims.contains(&0) {
        true => Some(0),
        false => space.dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim)),
    };
    let Some(bytes) = elements.and_then(|elements| dtype.byte_len(elements)) else {
        return Err(FormatError::malformed("a dataset of more elements than can be counted"));
    };
    if bytes == 0 {
        return Ok(Some(Place::Whole(0)));
    }
    if filtered {
        return Ok(None);
    }
    let chunked = |index, chunk| chunks::place(file, Grid::new(space, chunk, dtype)?, index);
    let version = body.u8()?;
    match version {
        1 | 2 => {
            let [rank, class]: [u8; 2] = body.array()?;
            body.skip(5)?;
            let address = if class == COMPACT { None } else { body.address()? };
            let dims = (0..rank).map(|_| body.u32().map(u64::from)).collect::<Result<Vec<u64>, _>>()?;
            match (class, address) {
                (COMPACT, _) => {
                    let len = u64::from(body.u32()?);
                    compact(body, len, bytes)
                }
                (CONTIGUOUS, Some(address)) => Ok(Some(Place::Whole(address))),
                (CHUNKED, Some(address)) => chunked(Index::BTree1 { root: address }, dims),
                _ => Ok(None),
            }
        }
        // Version 5 differs from 4 in how long a chunk may be.
        3..=5 => match body.u8()? {
            COMPACT => {
                let len = u64::from(body.u16()?);
                compact(body, len, bytes)
            }
            CONTIGUOUS => {
                let Some(address) = body.address()? else { return Ok(None) };
                let len = body.length()?;
                if len < bytes {
                    return Err(FormatError::malformed(format!("a dataset of {bytes} bytes in {len}")));
                }
                Ok(Some(Place::Whole(address)))
            }
            CHUNKED if version == 3 => {
                let rank = body.u8()?;
                let root = body.address()?;
                // The element's size follows the chunk's dimensions.
                let dims = (1..rank).map(|_| body.u32().map(u64::from)).collect::<Result<Vec<u64>, _>>()?;
                match root {
                    Some(root) => chunked(Index::BTree1 { root }, dims),
                    None => Ok(None),
                }
            }
            CHUNKED => {
                let [_, rank, width]: [u8; 3] = body.array()?;
                let mut dims = (0..rank).map(|_| body.uint(width)).collect::<Result<Vec<u64>, _>>()?;
                dims.pop();
                match Index::read(&mut body)? {
                    Some(index) => chunked(index, dims),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        },
        // A later version than is known.
        _ => Ok(None),
    }
}

const COMPACT: u8 = 0;
const CONTIGUOUS: u8 = 1;
const CHUNKED: u8 = 2;

/// Elements in the header itself.
fn compact(mut body: Reader<'_>, len: u64, bytes: u64) -> Result<Option<Place>, FormatError> {
    let at = body.position();
    body.skip(len)?;
    if len < bytes {
        return Err(FormatError::malformed(format!("a dataset of {bytes} bytes in {len}")));
    }
    Ok(Some(Place::Whole(at)))
}
