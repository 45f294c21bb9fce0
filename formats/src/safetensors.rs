//! safetensors: a little-endian `u64` header length, a JSON header, then the tensors' data.
//!
//! The header maps a tensor's name to `{"dtype", "shape", "data_offsets": [begin, end]}`, offsets in bytes from the end of
//! the header, and `__metadata__` to an object of strings. This reader only locates the data, and takes more than the
//! reference implementation does: holes between tensors and bytes after the last become opaque segments, two names of one
//! range share a segment, and the bytes of a dtype it does not know become an opaque segment without a view. It takes less
//! in that no key may come twice, and within the limits of this module and of [`MAX_NAME`].
//!
//! Specification: <https://github.com/huggingface/safetensors#format>.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use shard_core::limits::MAX_NAME;
use shard_core::{DType, Layout};

use crate::assemble::{Assembler, Located, MAX_RANK, MAX_TENSORS, shown};
use crate::format::{Format, FormatError, FormatErrorKind};
use crate::json::{Pairs, repeated};
use crate::source::Source;

/// Longest JSON header, in bytes: the reference implementation's limit.
pub const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Safetensors;

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        let Some((length, json)) = head.split_first_chunk::<LENGTH_BYTES>() else { return false };
        // A text that has a brace as its ninth character; the length of a header within the limit has zeros on top.
        if length.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            return false;
        }
        match json.trim_ascii_start() {
            // Nothing but spaces as far as can be seen, or at all.
            [] => !json.is_empty() && u64::from_le_bytes(*length) <= MAX_HEADER,
            [b'{', rest @ ..] => matches!(rest.trim_ascii_start(), [] | [b'"' | b'}', ..]),
            _ => false,
        }
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let (header, data_start) = read_header(source)?;
        if header.too_many {
            return Err(FormatError::new(
                FormatErrorKind::Limit,
                format!("more than {MAX_TENSORS} entries in the header"),
            ));
        }
        let names = header.tensors.iter().map(|(name, _)| name.as_str());
        if let Some(name) = header.repeated.as_deref().or_else(|| repeated(names)) {
            let message = format!("the key {:?} comes twice in the header", shown(name));
            return Err(FormatError::new(FormatErrorKind::Duplicate, message));
        }
        lay_out(self.name(), header.tensors, data_start, source.len())
    }
}

/// Reads the header; also gives the offset at which the data starts, which is inside the file.
fn read_header(source: &dyn Source) -> Result<(Header, u64), FormatError> {
    let mut length = [0; LENGTH_BYTES];
    let Some(rest) = source.len().checked_sub(LENGTH_BYTES as u64) else {
        return Err(FormatError::new(FormatErrorKind::Truncated, "the file ends before the header's length"));
    };
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        let message = format!("a header of {length} bytes is above the format's limit of {MAX_HEADER}");
        return Err(FormatError::new(FormatErrorKind::Limit, message));
    }
    if length > rest {
        let message = format!("the file ends before its header does: {length} bytes announced, {rest} there");
        return Err(FormatError::new(FormatErrorKind::Truncated, message));
    }
    let mut json = vec![0; length as usize];
    source.read_at(LENGTH_BYTES as u64, &mut json)?;
    let header = serde_json::from_slice(&json)
        .map_err(|error| FormatError::malformed(format!("the header is not as the format has it: {error}")))?;
    Ok((header, LENGTH_BYTES as u64 + length))
}

/// Where the tensors lie. The format has no views: those that share bytes are one range under several names.
fn lay_out(
    format: &str,
    mut entries: Vec<(String, Entry)>,
    data_start: u64,
    file_len: u64,
) -> Result<Layout, FormatError> {
    let data_len = file_len.saturating_sub(data_start);
    entries.sort_unstable_by(|(left_name, left), (right_name, right)| {
        (left.data_offsets, left_name).cmp(&(right.data_offsets, right_name))
    });
    let mut assembler = Assembler::new();
    let mut last: Option<((u64, u64), Option<DType>)> = None;
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        entry.check(&name, data_len)?;
        let range = (entry.data_offsets, entry.dtype.0);
        let overlaps = last.is_some_and(|last| start < last.0.1 && last != range);
        if overlaps {
            let message = format!("tensor {:?} overlaps another", shown(&name));
            return Err(FormatError::new(FormatErrorKind::Overlap, message));
        }
        if start < end {
            last = Some(range);
        }
        if let Some(dtype) = entry.dtype.0 {
            let shape = entry.shape.dims;
            assembler.add(Located { name, dtype, shape, strides: None, start: data_start + start });
        }
    }
    assembler.finish(format, file_len)
}

/// What the header says, repetitions included.
struct Header {
    tensors: Vec<(String, Entry)>,
    /// A key that comes twice, other than the name of a tensor.
    repeated: Option<String>,
    too_many: bool,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        const METADATA: &str = "__metadata__";
        let mut header = Header { tensors: Vec::new(), repeated: None, too_many: false };
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                let metadata: Option<Pairs<String>> = map.next_value()?;
                let pairs = metadata.map_or(Vec::new(), |pairs| {
                    header.too_many |= pairs.too_many;
                    pairs.entries
                });
                if std::mem::replace(&mut metadata_seen, true) {
                    header.repeated = Some(METADATA.to_owned());
                } else if let Some(key) = repeated(pairs.iter().map(|(key, _)| key.as_str())) {
                    header.repeated = Some(key.to_owned());
                }
            } else if header.tensors.len() < MAX_TENSORS {
                header.tensors.push((name, map.next_value()?));
            } else {
                header.too_many = true;
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(header)
    }
}

/// A tensor as the header has it. Values of further fields are passed over without recursion, however deep they are.
#[derive(Deserialize)]
struct Entry {
    dtype: NamedDType,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl Entry {
    /// Checks what can be said of one tensor, in `data_len` bytes of data.
    fn check(&self, name: &str, data_len: u64) -> Result<(), FormatError> {
        let fail = |kind, what: String| Err(FormatError::new(kind, format!("tensor {:?} {what}", shown(name))));
        let (start, end) = self.data_offsets;
        if name.len() > MAX_NAME {
            return fail(FormatErrorKind::Limit, format!("has a name of {} bytes", name.len()));
        }
        if self.shape.rank > MAX_RANK {
            return fail(FormatErrorKind::Limit, format!("has {} dimensions", self.shape.rank));
        }
        if start > end {
            return fail(FormatErrorKind::Malformed, format!("ends at {end}, before its start at {start}"));
        }
        if end > data_len {
            return fail(
                FormatErrorKind::Truncated,
                format!("ends at {end}, but the file has {data_len} bytes of data"),
            );
        }
        let Some(elements) = self.shape.elements() else {
            return fail(FormatErrorKind::Malformed, "has more elements than can be counted".to_owned());
        };
        match self.dtype.0 {
            Some(dtype) if dtype.byte_len(elements) != Some(end - start) => {
                let what = format!("has {} bytes, which {elements} elements of {dtype} do not fill", end - start);
                fail(FormatErrorKind::Malformed, what)
            }
            _ => Ok(()),
        }
    }
}

/// A dtype's name; `None` for one that shard does not know.
#[derive(Clone, Copy)]
struct NamedDType(Option<DType>);

impl<'de> Deserialize<'de> for NamedDType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NamedDTypeVisitor)
    }
}

struct NamedDTypeVisitor;

impl Visitor<'_> for NamedDTypeVisitor {
    type Value = NamedDType;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a dtype")
    }

    fn visit_str<E>(self, name: &str) -> Result<NamedDType, E> {
        Ok(NamedDType(DType::from_name(name)))
    }
}

/// Dimensions: all of them up to [`MAX_RANK`], beyond that only their number.
struct Shape {
    dims: Vec<u64>,
    rank: usize,
}

impl Shape {
    /// The number of elements; `None` where it overflows.
    fn elements(&self) -> Option<u64> {
        if self.dims.contains(&0) {
            return Some(0);
        }
        self.dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut shape = Shape { dims: Vec::new(), rank: 0 };
        while let Some(dim) = seq.next_element::<u64>()? {
            if shape.rank < MAX_RANK {
                shape.dims.push(dim);
            }
            shape.rank += 1;
        }
        Ok(shape)
    }
}
