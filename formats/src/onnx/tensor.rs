//! A tensor's message: its dimensions, its type, and where its data is.

use std::sync::Arc;

use shard_core::DType;

use super::Found;
use crate::assemble::MAX_RANK;
use crate::format::FormatError;
use crate::protobuf::{Span, Value, Walker};

/// Where a tensor's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the model's file, from that byte on.
    Inside(u64),
    /// In another file.
    Outside(External),
}

/// A range of another file, not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct External {
    /// The file's path, as the model names it: nothing to be trusted.
    pub(crate) location: Arc<str>,
    /// Offset of the first byte in that file.
    pub(crate) offset: u64,
}

/// The type of that number in `TensorProto.DataType`; `None` for strings and what came after this was written.
fn dtype(number: u64) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        14 => DType::C64,
        15 => DType::C128,
        16 => DType::BF16,
        17 => DType::F8E4M3,
        18 => DType::F8E4M3Fnuz,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2Fnuz,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        27 => DType::F6E2M3,
        28 => DType::F6E3M2,
        _ => return None,
    })
}

/// Data as a field of the message holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data {
    span: Span,
    /// Fields that hold a part of it.
    parts: usize,
}

/// What is known of a tensor whose message is open.
#[derive(Debug, Default)]
pub(super) struct OpenTensor {
    pub(super) name: String,
    /// `None` for what no tensor can have.
    dims: Dims,
    data_type: u64,
    raw: Option<Span>,
    floats: Option<Data>,
    doubles: Option<Data>,
    /// Whether there is data that is no run of elements, or the tensor is a part of another.
    elsewhere: bool,
    external: bool,
    pub(super) entries: Entries,
}

#[derive(Debug)]
struct Dims(Option<Vec<u64>>);

impl Default for Dims {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl Dims {
    fn push(&mut self, dim: u64) {
        // A negative one is a varint of 64 bits.
        match &mut self.0 {
            Some(dims) if dims.len() < MAX_RANK && i64::try_from(dim).is_ok() => dims.push(dim),
            _ => self.0 = None,
        }
    }
}

/// The entries of `external_data` that say where the data is; its checksum plays no part.
#[derive(Debug, Default)]
pub(super) struct Entries {
    location: Option<String>,
    offset: Option<String>,
    length: Option<String>,
}

impl Entries {
    /// Takes an entry; of equal keys the last counts.
    pub(super) fn set(&mut self, key: &str, value: String) {
        match key {
            "location" => self.location = Some(value),
            "offset" => self.offset = Some(value),
            "length" => self.length = Some(value),
            _ => {}
        }
    }
}

impl OpenTensor {
    /// Takes a field; those that are messages are for the caller.
    pub(super) fn take(&mut self, number: u64, value: Value, walker: &mut Walker<'_>) -> Result<(), FormatError> {
        match (number, value) {
            (1, Value::Varint(dim)) => self.dims.push(dim),
            (1, Value::Bytes(span)) => match walker.packed(span, MAX_RANK)? {
                Some(dims) => dims.into_iter().for_each(|dim| self.dims.push(dim)),
                None => self.dims.0 = None,
            },
            (2, Value::Varint(data_type)) => self.data_type = data_type,
            (4, Value::Bytes(span) | Value::Fixed32(span)) => add(&mut self.floats, span),
            (10, Value::Bytes(span) | Value::Fixed64(span)) => add(&mut self.doubles, span),
            (8, Value::Bytes(span)) => self.name = walker.text(span)?,
            (9, Value::Bytes(span)) => self.raw = Some(span),
            (14, Value::Varint(location)) => self.external = location == 1,
            // Part of a larger tensor; numbers as varints; strings. A packed field without numbers says nothing.
            (5 | 7 | 11, Value::Bytes(Span { len: 0, .. })) => {}
            (3 | 5 | 6 | 7 | 11, _) => self.elsewhere = true,
            _ => {}
        }
        Ok(())
    }

    /// The tensor, if its data is a run of bytes that its type and dimensions fill. `end` is where its message ends; `last` the
    /// location of the tensor before it, most often the same.
    pub(super) fn close(self, end: u64, last: &mut Option<Arc<str>>) -> Option<Found> {
        let dtype = dtype(self.data_type)?;
        let shape = self.dims.0?;
        let elements = match shape.contains(&0) {
            true => 0,
            false => shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim))?,
        };
        let len = dtype.byte_len(elements)?;
        let filled = |data: Option<Data>| data.filter(|data| data.span.len > 0);
        let typed = match (filled(self.floats), filled(self.doubles)) {
            (None, None) => None,
            (Some(data), None) if matches!(dtype, DType::F32 | DType::C64) => Some(data),
            (None, Some(data)) if matches!(dtype, DType::F64 | DType::C128) => Some(data),
            _ => return None,
        };
        if self.elsewhere || (typed.is_some() && (self.raw.is_some() || self.external)) {
            return None;
        }
        let place = if self.external {
            if self.raw.is_some_and(|raw| raw.len > 0) {
                return None;
            }
            Place::Outside(self.entries.place(len, last)?)
        } else {
            let span = match (self.raw, typed) {
                (Some(raw), _) => raw,
                // In parts the data is no run of bytes.
                (None, Some(data)) => (data.parts == 1).then_some(data.span)?,
                // Without elements there need not be a field of them.
                (None, None) => Span { start: end, len: 0 },
            };
            (span.len == len).then_some(Place::Inside(span.start))?
        };
        Some(Found { name: self.name, dtype, shape, place })
    }
}

fn add(data: &mut Option<Data>, span: Span) {
    // A part without elements changes nothing.
    if span.len > 0 {
        let parts = data.map_or(0, |data| data.parts) + 1;
        *data = Some(Data { span, parts });
    }
}

impl Entries {
    /// Where `len` bytes of data are.
    fn place(self, len: u64, last: &mut Option<Arc<str>>) -> Option<External> {
        let number = |text: Option<String>| text.map(|text| text.parse::<u64>()).transpose().ok();
        let offset = number(self.offset)?.unwrap_or(0);
        if number(self.length)?.is_some_and(|length| length != len) {
            return None;
        }
        offset.checked_add(len)?;
        let location = self.location?;
        let location = match last {
            Some(last) if **last == *location => Arc::clone(last),
            _ => Arc::from(location),
        };
        *last = Some(Arc::clone(&location));
        Some(External { location, offset })
    }
}
