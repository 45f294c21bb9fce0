//! GGUF, versions 1 to 3: the file format of GGML and llama.cpp.
//!
//! A file is the magic `GGUF`, a version, the numbers of tensors and of metadata, the metadata (key, type, value), one record a
//! tensor (name, dimensions, type, offset), padding to `general.alignment`, and the tensors' data, to whose start offsets are
//! relative, in bytes. All integers are little-endian; version 1 has 32 bits where the later ones have 64. Metadata are walked and
//! not kept, but for the alignment.
//!
//! Dimensions are stored fastest first; the shapes of a layout are slowest first, as in other formats. Those of quantised tensors
//! are in elements, not in bytes.
//!
//! Tensors of these types stay opaque, for how long they are is not settled or not known: types that GGML has removed (Q4_2, Q4_3
//! and the interleaved ones: 4, 5, 31 to 33, 36 to 38), Q8_1 (9: 36 bytes a block in llama.cpp, 40 in the Python package; no model
//! has it), and every number that this table does not have, 42 among them, which files have used for three types.
//!
//! Not taken: files in big-endian byte order (the version tells), since no dtype of a layout is; an alignment that is no power of
//! two; rows that do not fill whole blocks. Other than llama.cpp, this reader takes holes and tensors that share bytes, and more
//! than four dimensions.
//!
//! Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use shard_core::limits::{MAX_NAME, MAX_NESTING};
use shard_core::{DType, Layout};

use crate::assemble::{Assembler, Located, MAX_RANK, MAX_TENSORS, shown};
use crate::format::{Format, FormatError, FormatErrorKind};
use crate::source::{Cursor, Source};

/// The first bytes of a file.
const MAGIC: &[u8; 4] = b"GGUF";

/// The key of the alignment, in bytes, of the data and of each tensor in it.
const ALIGNMENT_KEY: &[u8] = b"general.alignment";

/// The alignment of a file that does not say it, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The largest alignment, in bytes: the largest page of today's processors.
const MAX_ALIGNMENT: u64 = 1 << 30;

/// Most values of metadata that are walked one by one (strings, arrays, entries): a hundred times the largest vocabularies.
const MAX_VALUES: u64 = 1 << 26;

/// The types of metadata that have no length of their own, by number: bytes of a value; 0 for strings and arrays.
const VALUE_BYTES: [u64; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

/// The numbers of two metadata types.
const TYPE_U32: u32 = 4;
const TYPE_STRING: u32 = 8;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Gguf;

impl Format for Gguf {
    fn name(&self) -> &'static str {
        "gguf"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        head.starts_with(MAGIC)
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let mut reader = Reader::open(source)?;
        let tensors = reader.count("tensors")?;
        let metadata = reader.count("metadata entries")?;
        let alignment = reader.metadata(metadata)?;
        let infos = reader.tensor_infos(tensors)?;
        let Some(data_start) = reader.cursor.position().checked_next_multiple_of(alignment) else {
            return Err(FormatError::malformed("the data starts beyond any file"));
        };
        let mut assembler = Assembler::new();
        for Info { name, dtype, shape, offset } in infos {
            let Some(start) = data_start.checked_add(offset) else {
                return Err(FormatError::malformed(format!("tensor {:?} lies beyond any file", shown(&name))));
            };
            assembler.add(Located { name, dtype, shape, strides: None, start });
        }
        assembler.finish(self.name(), source.len())
    }
}

/// A tensor of a known type.
struct Info {
    name: String,
    dtype: DType,
    /// Elements, slowest first.
    shape: Vec<u64>,
    /// Bytes from the start of the data.
    offset: u64,
}

/// The dtype of a GGML type; `None` for those that stay opaque.
fn dtype(ggml_type: u32) -> Option<DType> {
    Some(match ggml_type {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        10 => DType::Q2_K,
        11 => DType::Q3_K,
        12 => DType::Q4_K,
        13 => DType::Q5_K,
        14 => DType::Q6_K,
        15 => DType::Q8_K,
        16 => DType::IQ2_XXS,
        17 => DType::IQ2_XS,
        18 => DType::IQ3_XXS,
        19 => DType::IQ1_S,
        20 => DType::IQ4_NL,
        21 => DType::IQ3_S,
        22 => DType::IQ2_S,
        23 => DType::IQ4_XS,
        24 => DType::I8,
        25 => DType::I16,
        26 => DType::I32,
        27 => DType::I64,
        28 => DType::F64,
        29 => DType::IQ1_M,
        30 => DType::BF16,
        34 => DType::TQ1_0,
        35 => DType::TQ2_0,
        39 => DType::MXFP4,
        40 => DType::NVFP4,
        41 => DType::Q1_0,
        _ => return None,
    })
}

/// Reads what comes before the data.
struct Reader<'a> {
    cursor: Cursor<'a>,
    /// Whether lengths and dimensions have 64 bits.
    wide: bool,
    /// Values of metadata that may still be walked.
    values_left: u64,
}

impl<'a> Reader<'a> {
    fn open(source: &'a dyn Source) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(source, 0);
        if cursor.array::<4>()? != *MAGIC {
            return Err(FormatError::malformed("it does not start with GGUF"));
        }
        let version = cursor.u32()?;
        match version {
            1..=3 => Ok(Self { cursor, wide: version > 1, values_left: MAX_VALUES }),
            // The version of a file in the other byte order, up to 65535.
            _ if version & 0xffff == 0 && version != 0 => {
                Err(FormatError::malformed("the file is in big-endian byte order"))
            }
            _ => Err(FormatError::malformed(format!("version {version} of GGUF is not known"))),
        }
    }

    /// A length, a number or a dimension.
    fn number(&mut self) -> Result<u64, FormatError> {
        if self.wide { self.cursor.u64() } else { self.cursor.u32().map(u64::from) }
    }

    /// A number of things, each of which takes more than one byte.
    fn count(&mut self, what: &str) -> Result<u64, FormatError> {
        let count = self.number()?;
        if count > self.cursor.left() {
            let message = format!("{count} {what} are announced, and {} bytes are left", self.cursor.left());
            return Err(FormatError::new(FormatErrorKind::Truncated, message));
        }
        Ok(count)
    }

    /// Walks the metadata and gives the alignment.
    fn metadata(&mut self, count: u64) -> Result<u64, FormatError> {
        let mut alignment = None;
        for _ in 0..count {
            self.walked()?;
            let key_len = self.number()?;
            let is_alignment = key_len == ALIGNMENT_KEY.len() as u64 && self.cursor.take(key_len)? == ALIGNMENT_KEY;
            if key_len != ALIGNMENT_KEY.len() as u64 {
                self.cursor.skip(key_len)?;
            }
            let value_type = self.cursor.u32()?;
            if !is_alignment {
                self.skip_value(value_type)?;
            } else if value_type != TYPE_U32 {
                return Err(FormatError::malformed("the alignment is not an unsigned integer of 32 bits"));
            } else if alignment.replace(u64::from(self.cursor.u32()?)).is_some() {
                return Err(FormatError::new(FormatErrorKind::Duplicate, "the alignment comes twice"));
            }
        }
        match alignment.unwrap_or(DEFAULT_ALIGNMENT) {
            alignment if !alignment.is_power_of_two() => {
                Err(FormatError::malformed(format!("the alignment {alignment} is no power of two")))
            }
            alignment if alignment > MAX_ALIGNMENT => {
                let message = format!("the alignment {alignment} is above {MAX_ALIGNMENT}");
                Err(FormatError::new(FormatErrorKind::Limit, message))
            }
            alignment => Ok(alignment),
        }
    }

    /// Goes on behind a value. Arrays of arrays are walked with a stack.
    fn skip_value(&mut self, value_type: u32) -> Result<(), FormatError> {
        // Type and number of the values that are still to come at each level.
        let mut levels = vec![(value_type, 1u64)];
        while let Some((value_type, left)) = levels.last_mut() {
            let bytes = match usize::try_from(*value_type).ok().and_then(|index| VALUE_BYTES.get(index)) {
                Some(bytes) => *bytes,
                None => return Err(FormatError::malformed(format!("metadata of the unknown type {value_type}"))),
            };
            if *left == 0 {
                levels.pop();
            } else if bytes > 0 {
                let len = left.saturating_mul(bytes);
                self.cursor.skip(len)?;
                levels.pop();
            } else {
                *left -= 1;
                let is_string = *value_type == TYPE_STRING;
                self.walked()?;
                if is_string {
                    let len = self.number()?;
                    self.cursor.skip(len)?;
                } else if levels.len() > MAX_NESTING {
                    return Err(FormatError::new(FormatErrorKind::Limit, "arrays of metadata are too deep"));
                } else {
                    let value_type = self.cursor.u32()?;
                    levels.push((value_type, self.number()?));
                }
            }
        }
        Ok(())
    }

    /// Counts one value.
    fn walked(&mut self) -> Result<(), FormatError> {
        self.values_left = self.values_left.checked_sub(1).ok_or_else(|| {
            FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_VALUES} values of metadata"))
        })?;
        Ok(())
    }

    /// The tensors of known types.
    fn tensor_infos(&mut self, count: u64) -> Result<Vec<Info>, FormatError> {
        if count > MAX_TENSORS as u64 {
            return Err(FormatError::new(FormatErrorKind::Limit, format!("{count} tensors")));
        }
        let mut infos = Vec::new();
        for _ in 0..count {
            let name_len = self.number()?;
            if name_len > MAX_NAME as u64 {
                return Err(FormatError::new(FormatErrorKind::Limit, format!("a tensor's name has {name_len} bytes")));
            }
            let Ok(name) = String::from_utf8(self.cursor.take(name_len)?) else {
                return Err(FormatError::malformed("a tensor's name is not UTF-8"));
            };
            let rank = self.cursor.u32()? as usize;
            if rank > MAX_RANK {
                let message = format!("tensor {:?} has {rank} dimensions", shown(&name));
                return Err(FormatError::new(FormatErrorKind::Limit, message));
            }
            let mut shape = (0..rank).map(|_| self.number()).collect::<Result<Vec<_>, _>>()?;
            let row = shape.first().copied().unwrap_or(1);
            shape.reverse();
            let ggml_type = self.cursor.u32()?;
            let offset = self.cursor.u64()?;
            let Some(dtype) = dtype(ggml_type) else { continue };
            if !row.is_multiple_of(dtype.storage_unit().0) {
                let message = format!("tensor {:?} has rows of {row} elements of {dtype}", shown(&name));
                return Err(FormatError::malformed(message));
            }
            infos.push(Info { name, dtype, shape, offset });
        }
        Ok(infos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantised_dtype_but_the_unsettled_is_a_type_of_ggml() {
        let known: Vec<DType> = (0..1000).filter_map(dtype).collect();
        for dtype in DType::ALL.iter().filter(|dtype| dtype.is_quantised() && **dtype != DType::Q8_1) {
            assert_eq!(known.iter().filter(|known| *known == dtype).count(), 1, "{dtype}");
        }
        assert_eq!(known.len(), 33);
    }

    #[test]
    fn values_of_metadata_are_passed_over() {
        let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        let array = |value_type: u32, values: &[Vec<u8>]| {
            [&value_type.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat()
        };
        let strings = array(8, &[string("a"), string(""), string("bc")]);
        let arrays = array(9, &[strings.clone(), array(9, &[]), array(2, &[vec![1, 2], vec![3, 4]]), array(8, &[])]);
        let values = [(0, vec![1]), (7, vec![1]), (12, vec![0; 8]), (8, string("text")), (9, strings), (9, arrays)];
        for (value_type, value) in values {
            let bytes = [b"GGUF\x03\0\0\0", &value[..], b"rest"].concat();
            let mut reader = Reader::open(&bytes).unwrap();
            reader.skip_value(value_type).unwrap();
            assert_eq!(reader.cursor.left(), 4, "{value_type}");
            for len in 8..8 + value.len() {
                let bytes = bytes[..len].to_vec();
                assert!(Reader::open(&bytes).unwrap().skip_value(value_type).is_err());
            }
        }
    }
}
