//! The index of a TensorFlow checkpoint (a "tensor bundle"): which tensors lie where in the checkpoint's data files.
//!
//! A checkpoint `X` is a file `X.index` and data files `X.data-SSSSS-of-NNNNN`. The index is a sorted table ([`table`]) of
//! messages of Protocol Buffers. Its first key, the empty one, holds a `BundleHeaderProto`: the number of data files (field 1)
//! and the byte order of the data (field 2; 0 is little-endian). Every other key is the name of a tensor and holds a
//! `BundleEntryProto`: the type (1), the shape (2), the number of the data file (3), offset and size in bytes (4, 5).
//!
//! A variable in parts (`slices`, field 7) has no data of its own; the parts have keys that start with a zero byte, then hold the
//! name and where the part begins. They are listed as `<name>.slice.<k>`, numbered in the order of the keys, which is that of
//! their places. Strings, and types whose elements lie in memory otherwise than their size says, are not listed.
//!
//! Specification: `tensorflow/core/protobuf/tensor_bundle.proto` and `tensorflow/core/util/tensor_bundle/` in
//! <https://github.com/tensorflow/tensorflow>.

mod table;

use shard_core::DType;

use crate::assemble::{Located, MAX_RANK, MAX_TENSORS};
use crate::distinct::make_distinct;
use crate::format::{FormatError, FormatErrorKind};
use crate::protobuf::{Event, Value, Walker};
use crate::source::Source;

/// Most fields of one entry: those of a shape with more dimensions than shard follows.
const MAX_FIELDS: u64 = 4096;

/// What an index says.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The number of data files.
    pub(crate) shards: u64,
    /// The tensors of all of them.
    pub(crate) tensors: Vec<Entry>,
}

/// A tensor and the number of its data file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) shard: u64,
    pub(crate) located: Located,
}

/// Parts the name of a data file: the checkpoint's name, the number of the file, and that of all of them.
pub(crate) fn data_file(name: &str) -> Option<(&str, u64, u64)> {
    let (prefix, numbers) = name.rsplit_once(".data-")?;
    let (shard, shards) = numbers.split_once("-of-")?;
    let number = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (shard, shards) = (number(shard)?, number(shards)?);
    (!prefix.is_empty() && shard < shards).then_some((prefix, shard, shards))
}

/// The name of a data file, for which [`data_file`] is the way back.
pub(crate) fn data_file_name(prefix: &str, shard: u64, shards: u64) -> String {
    format!("{prefix}.data-{shard:05}-of-{shards:05}")
}

/// Reads an index.
///
/// # Errors
/// [`FormatError`] for what is no sound index, or the index of big-endian data.
pub(crate) fn read(source: &dyn Source) -> Result<Bundle, FormatError> {
    let mut header = None;
    let mut tensors = Vec::new();
    let mut slices = Slices::default();
    table::read(source, |key, value| {
        if header.is_none() {
            if !key.is_empty() {
                return Err(FormatError::malformed("the index of a checkpoint without a header"));
            }
            header = Some(read_header(value)?);
            return Ok(());
        }
        let Some((shard, mut located)) = read_entry(value)? else { return Ok(()) };
        let name = match key {
            [0, ..] => slices.name(key),
            _ => std::str::from_utf8(key).ok().map(ToOwned::to_owned),
        };
        let Some(name) = name else { return Ok(()) };
        if tensors.len() == MAX_TENSORS {
            return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_TENSORS} tensors")));
        }
        located.name = name;
        tensors.push(Entry { shard, located });
        Ok(())
    })?;
    let Some(shards) = header else {
        return Err(FormatError::malformed("the index of a checkpoint without a header"));
    };
    // A variable may be called like a slice of another.
    make_distinct(&mut tensors.iter_mut().map(|tensor| &mut tensor.located.name).collect::<Vec<_>>());
    Ok(Bundle { shards, tensors })
}

/// The number of data files.
fn read_header(message: &[u8]) -> Result<u64, FormatError> {
    let mut walker = Walker::new(&message, MAX_FIELDS);
    let mut shards = 0;
    while let Some(event) = walker.next()? {
        match event {
            Event::Field(1, Value::Varint(number)) => shards = number,
            Event::Field(2, Value::Varint(order)) if order != 0 => {
                return Err(FormatError::malformed("a checkpoint whose data is big-endian"));
            }
            _ => {}
        }
    }
    Ok(shards)
}

/// Where a tensor lies, and the number of its data file; without a name. `None` for one that is not to be listed.
fn read_entry(message: &[u8]) -> Result<Option<(u64, Located)>, FormatError> {
    #[derive(PartialEq)]
    enum Frame {
        Entry,
        Shape,
        Dim,
    }
    let mut walker = Walker::new(&message, MAX_FIELDS);
    let mut open = vec![Frame::Entry];
    let (mut dtype, mut shard, mut start, mut size) = (None, 0, 0, 0);
    let (mut dims, mut known) = (Vec::new(), true);
    while let Some(event) = walker.next()? {
        match (open.last(), event) {
            (_, Event::End) => {
                open.pop();
            }
            (Some(Frame::Entry), Event::Field(1, Value::Varint(number))) => dtype = self::dtype(number),
            (Some(Frame::Entry), Event::Field(2, Value::Bytes(span))) => {
                walker.enter(span)?;
                open.push(Frame::Shape);
            }
            (Some(Frame::Entry), Event::Field(3, Value::Varint(number))) => shard = number,
            (Some(Frame::Entry), Event::Field(4, Value::Varint(number))) => start = number,
            (Some(Frame::Entry), Event::Field(5, Value::Varint(number))) => size = number,
            // In parts.
            (Some(Frame::Entry), Event::Field(7, _)) => known = false,
            (Some(Frame::Shape), Event::Field(2, Value::Bytes(span))) => {
                walker.enter(span)?;
                open.push(Frame::Dim);
                // A dimension of no elements is left out as all zeros are.
                dims.push(0);
                known &= dims.len() <= MAX_RANK;
            }
            (Some(Frame::Shape), Event::Field(3, Value::Varint(unknown))) => known &= unknown == 0,
            (Some(Frame::Dim), Event::Field(1, Value::Varint(number))) => {
                known &= i64::try_from(number).is_ok();
                if let Some(dim) = dims.last_mut() {
                    *dim = number;
                }
            }
            _ => {}
        }
    }
    let Some(dtype) = dtype.filter(|_| known) else { return Ok(None) };
    let located = Located { name: String::new(), dtype, shape: dims, strides: None, start };
    let fits = located.end().is_some_and(|end| end - start == size);
    Ok(fits.then_some((shard, located)))
}

/// The type of that number in `DataType` of `types.proto`; `None` for those that are not to be listed. Types of 4 and 2 bits
/// take a byte an element there.
fn dtype(number: u64) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::F64,
        3 | 13 => DType::I32,
        4 | 12 => DType::U8,
        5 | 15 => DType::I16,
        6 | 11 => DType::I8,
        8 => DType::C64,
        9 => DType::I64,
        10 => DType::Bool,
        14 => DType::BF16,
        16 | 17 => DType::U16,
        18 => DType::C128,
        19 => DType::F16,
        22 => DType::U32,
        23 => DType::U64,
        24 => DType::F8E5M2,
        25 => DType::F8E4M3,
        26 => DType::F8E4M3Fnuz,
        28 => DType::F8E5M2Fnuz,
        _ => return None,
    })
}

/// Numbers the parts of variables; those of one come one after the other.
#[derive(Default)]
struct Slices {
    name: String,
    next: u64,
}

impl Slices {
    /// The name of the part that has that key: a zero, the variable's name, its end `00 01`, and places that are numbers in a
    /// form that keeps their order.
    fn name(&mut self, key: &[u8]) -> Option<String> {
        let rest = key.get(1..)?;
        let end = rest.windows(2).position(|pair| pair == [0, 1])?;
        let name = std::str::from_utf8(rest.get(..end)?).ok().filter(|name| !name.contains('\0'))?;
        if name != self.name || self.next == 0 {
            *self = Self { name: name.to_owned(), next: 0 };
        }
        self.next += 1;
        Some(format!("{name}.slice.{}", self.next - 1))
    }
}
