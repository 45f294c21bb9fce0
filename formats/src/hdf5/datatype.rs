//! Datatypes that are dtypes of tensors: little-endian integers and floats of machine sizes, h5py's booleans and complex numbers.

use shard_core::DType;

use super::file::Reader;
use crate::format::FormatError;

/// Classes of datatypes.
mod class {
    pub(super) const FIXED: u8 = 0;
    pub(super) const FLOAT: u8 = 1;
    pub(super) const COMPOUND: u8 = 6;
    pub(super) const ENUM: u8 = 8;
    pub(super) const COMPLEX: u8 = 11;
}

/// Longest name of a member that matters, in bytes.
const MAX_MEMBER: usize = 8;

/// What every datatype starts with.
struct Head {
    class: u8,
    version: u8,
    bits: u32,
    /// Bytes of an element.
    size: u32,
}

fn head(body: &mut Reader<'_>) -> Result<Head, FormatError> {
    let [first, a, b, c]: [u8; 4] = body.array()?;
    let size = body.u32()?;
    Ok(Head { class: first & 15, version: first >> 4, bits: u32::from_le_bytes([a, b, c, 0]), size })
}

/// The dtype of a datatype message; `None` for a type that is none.
pub(super) fn read(mut body: Reader<'_>) -> Result<Option<DType>, FormatError> {
    let head = head(&mut body)?;
    match head.class {
        class::FIXED => fixed(&head, &mut body),
        class::FLOAT => float(&head, &mut body),
        class::ENUM => boolean(&head, &mut body),
        class::COMPOUND => compound(&head, &mut body),
        class::COMPLEX => {
            let part = self::head(&mut body)?;
            let twice = part.size.checked_mul(2) == Some(head.size);
            match part.class {
                class::FLOAT if twice => Ok(float(&part, &mut body)?.and_then(complex)),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn fixed(head: &Head, body: &mut Reader<'_>) -> Result<Option<DType>, FormatError> {
    let (offset, precision) = (body.u16()?, body.u16()?);
    let big_endian = head.bits & 1 != 0 && head.size > 1;
    if big_endian || offset != 0 || head.size.checked_mul(8) != Some(u32::from(precision)) {
        return Ok(None);
    }
    let signed = head.bits & 8 != 0;
    Ok(match (head.size, signed) {
        (1, false) => Some(DType::U8),
        (1, true) => Some(DType::I8),
        (2, false) => Some(DType::U16),
        (2, true) => Some(DType::I16),
        (4, false) => Some(DType::U32),
        (4, true) => Some(DType::I32),
        (8, false) => Some(DType::U64),
        (8, true) => Some(DType::I64),
        _ => None,
    })
}

/// Floats by their fields, since only IEEE's have a name in the file.
fn float(head: &Head, body: &mut Reader<'_>) -> Result<Option<DType>, FormatError> {
    let (offset, precision) = (body.u16()?, body.u16()?);
    let [exponent_at, exponent, mantissa_at, mantissa]: [u8; 4] = body.array()?;
    let bias = body.u32()?;
    // Byte order is in bits 0 and 6: little-endian, big-endian, or VAX. The sign's place is in the second byte.
    let order = head.bits & 0x41;
    let little_endian = order == 0 || (order == 1 && head.size == 1);
    let sign_at = (head.bits >> 8) & 0xff;
    let packed = mantissa_at == 0
        && exponent_at == mantissa
        && sign_at == u32::from(exponent) + u32::from(mantissa)
        && sign_at + 1 == u32::from(precision)
        && head.size.checked_mul(8) == Some(u32::from(precision));
    if !little_endian || offset != 0 || !packed {
        return Ok(None);
    }
    Ok(match (exponent, mantissa, bias) {
        (5, 10, 15) => Some(DType::F16),
        (8, 7, 127) => Some(DType::BF16),
        (8, 23, 127) => Some(DType::F32),
        (11, 52, 1023) => Some(DType::F64),
        (4, 3, 7) => Some(DType::F8E4M3),
        (4, 3, 8) => Some(DType::F8E4M3Fnuz),
        (5, 2, 15) => Some(DType::F8E5M2),
        (5, 2, 16) => Some(DType::F8E5M2Fnuz),
        _ => None,
    })
}

fn complex(part: DType) -> Option<DType> {
    match part {
        DType::F16 => Some(DType::C32),
        DType::F32 => Some(DType::C64),
        DType::F64 => Some(DType::C128),
        _ => None,
    }
}

/// A member's name; `None` for one that is too long to matter. Up to version 2 it is padded to eight bytes.
fn name(head: &Head, body: &mut Reader<'_>) -> Result<Option<Vec<u8>>, FormatError> {
    let start = body.position();
    let Ok(name) = body.until_zero(MAX_MEMBER) else { return Ok(None) };
    if head.version < 3 {
        body.skip((start.wrapping_sub(body.position())) % 8)?;
    }
    Ok(Some(name))
}

/// An enumeration of FALSE = 0 and TRUE = 1 in one byte.
fn boolean(head: &Head, body: &mut Reader<'_>) -> Result<Option<DType>, FormatError> {
    let base = self::head(body)?;
    let two = head.bits & 0xffff == 2;
    if !two || head.size != 1 || base.class != class::FIXED || base.size != 1 {
        return Ok(None);
    }
    body.skip(4)?;
    let (Some(first), Some(second)) = (name(head, body)?, name(head, body)?) else { return Ok(None) };
    let values: [u8; 2] = body.array()?;
    let is = |index: usize, value: u8, expected: &[u8]| {
        [&first, &second].get(index).is_some_and(|name| name.as_slice() == expected)
            && values.get(index) == Some(&value)
    };
    let boolean = (is(0, 0, b"FALSE") && is(1, 1, b"TRUE")) || (is(0, 1, b"TRUE") && is(1, 0, b"FALSE"));
    Ok(boolean.then_some(DType::Bool))
}

/// A compound of two floats, r and i, one after the other.
fn compound(head: &Head, body: &mut Reader<'_>) -> Result<Option<DType>, FormatError> {
    if head.bits & 0xffff != 2 {
        return Ok(None);
    }
    let mut parts = [None; 2];
    for (part, (expected, half)) in parts.iter_mut().zip([(b"r", 0), (b"i", head.size / 2)]) {
        let Some(name) = name(head, body)? else { return Ok(None) };
        let offset = match head.version {
            // Dimensions that are no longer in use follow.
            1 => {
                let offset = body.u32()?;
                body.skip(28)?;
                offset
            }
            2 => body.u32()?,
            _ => body.uint(super::btree::bytes_for(u64::from(head.size)))? as u32,
        };
        let member = self::head(body)?;
        if name != expected || offset != half || member.class != class::FLOAT || member.size != head.size / 2 {
            return Ok(None);
        }
        *part = float(&member, body)?;
    }
    let [Some(real), Some(imaginary)] = parts else { return Ok(None) };
    Ok(if real == imaginary && head.size.is_multiple_of(2) { complex(real) } else { None })
}
