//! NumPy's `.npy`, versions 1 to 3: one array.
//!
//! A file is the magic `\x93NUMPY`, the version's two bytes, the length of the header (little-endian, 2 bytes in version 1, 4 in
//! the later ones), the header (a literal of a Python dictionary) and the array's elements without holes.
//!
//! The array of a file by itself is the tensor [`NAME`]; in an archive it bears its member's name. Taken are little-endian
//! booleans, integers, floats of 2, 4 and 8 bytes and complex numbers of 8 and 16. Arrays of another type (big-endian, records,
//! objects, strings, `longdouble`, and those of `ml_dtypes`, which NumPy writes as bytes without a meaning) are refused, and so
//! stay opaque. An array in Fortran's order has strides. Bytes after the array stay opaque.
//!
//! Specification: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

mod header;

use shard_core::{DType, Layout};

use self::header::{Description, Header};
use crate::assemble::{Assembler, Located};
use crate::format::{Format, FormatError, FormatErrorKind};
use crate::source::{Cursor, Source};

/// The first bytes of a file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header, in bytes: the longest of version 1. The later versions are for records of many fields.
const MAX_HEADER: u64 = 65_535;

/// The name of the tensor in a file that is not in an archive.
pub const NAME: &str = "array";

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Npy;

impl Format for Npy {
    fn name(&self) -> &'static str {
        "npy"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        head.starts_with(MAGIC)
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let mut cursor = Cursor::new(source, 0);
        if cursor.array::<6>()? != *MAGIC {
            return Err(FormatError::malformed("it does not start as an array of NumPy does"));
        }
        let len = match cursor.array::<2>()? {
            [1, 0] => u64::from(u16::from_le_bytes(cursor.array()?)),
            [2 | 3, 0] => u64::from(cursor.u32()?),
            [major, minor] => {
                return Err(FormatError::malformed(format!("version {major}.{minor} of the format is not known")));
            }
        };
        if len > MAX_HEADER && len <= cursor.left() {
            return Err(FormatError::new(FormatErrorKind::Limit, format!("the header has {len} bytes")));
        }
        let Header { description, fortran_order, shape } = Header::parse(&cursor.take(len)?)?;
        let Some(dtype) = numbers(&description) else {
            return Err(FormatError::malformed(format!("the array holds no numbers of a known type: {description}")));
        };
        let strides = if fortran_order { fortran_strides(&shape) } else { None };
        let mut assembler = Assembler::new();
        assembler.add(Located { name: NAME.to_owned(), dtype, shape, strides, start: cursor.position() });
        assembler.finish(self.name(), source.len())
    }
}

/// The dtype of a description such as `<f4`; `None` where elements are not little-endian numbers of a known type.
fn numbers(description: &Description) -> Option<DType> {
    let Description::Type(name) = description else { return None };
    let (big_endian, name) = match name.as_bytes() {
        [b'<' | b'=' | b'|', name @ ..] => (false, name),
        [b'>', name @ ..] => (true, name),
        name => (false, name),
    };
    let dtype = match name {
        b"b1" => DType::Bool,
        b"i1" => DType::I8,
        b"u1" => DType::U8,
        b"i2" => DType::I16,
        b"u2" => DType::U16,
        b"i4" => DType::I32,
        b"u4" => DType::U32,
        b"i8" => DType::I64,
        b"u8" => DType::U64,
        b"f2" => DType::F16,
        b"f4" => DType::F32,
        b"f8" => DType::F64,
        b"c8" => DType::C64,
        b"c16" => DType::C128,
        _ => return None,
    };
    (!big_endian || dtype.word_bytes() == 1).then_some(dtype)
}

/// The strides, in elements, of an array whose first dimension is the fastest; `None` where any order is the same.
fn fortran_strides(shape: &[u64]) -> Option<Vec<u64>> {
    if shape.contains(&0) || shape.iter().filter(|dim| **dim > 1).count() < 2 {
        return None;
    }
    let mut next = 1u64;
    let stride_of = |dim: &u64| {
        let stride = next;
        // An array whose elements cannot be counted is refused when it is placed.
        next = next.saturating_mul(*dim);
        stride
    };
    Some(shape.iter().map(stride_of).collect())
}
