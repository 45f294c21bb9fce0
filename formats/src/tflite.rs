//! TensorFlow Lite (LiteRT): a model as FlatBuffers tables, with the identifier `TFL3` at byte 4.
//!
//! A model (version 3 of the schema) has buffers and subgraphs, and these have tensors that say which buffer their elements are in:
//! little-endian, in row-major order, packed types with the first element lowest. A buffer's bytes are a vector in the file, or,
//! in files above 2 GiB, a range of the file behind the tables. Tensors of one buffer share their bytes. Tensors without data
//! (what is computed), of strings and resources, with sparsity, or whose shape does not fill their buffer are not listed.
//!
//! A tensor of the first subgraph keeps its name; those of the others have `<index of the subgraph>/` before it. One without a
//! name is called `tensor<index>`. Of equal names the second in the file has `#2` behind it, and so on.
//!
//! Specification: `tensorflow/compiler/mlir/lite/schema/schema.fbs` in <https://github.com/tensorflow/tensorflow>.

use shard_core::{DType, Layout};

use crate::assemble::{Assembler, Located, MAX_RANK, MAX_TENSORS};
use crate::distinct::{MAX_NAMES, make_distinct};
use crate::flatbuffer::{Flatbuffer, Table, Vector};
use crate::format::{Format, FormatError, FormatErrorKind};
use crate::source::Source;

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Tflite;

impl Format for Tflite {
    fn name(&self) -> &'static str {
        "tflite"
    }

    fn probe(&self, head: &[u8], _len: u64) -> bool {
        head.get(4..8).is_some_and(|identifier| identifier == b"TFL3")
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let mut model = Model::open(source)?;
        let mut tensors = model.tensors()?;
        make_distinct(&mut tensors.iter_mut().map(|tensor| &mut tensor.name).collect::<Vec<_>>());
        let mut assembler = Assembler::new();
        tensors.into_iter().for_each(|tensor| assembler.add(tensor));
        assembler.finish(self.name(), source.len())
    }
}

/// The type of that number in `TensorType`; `None` for strings, resources, variants, and what came after this was written.
fn dtype(number: u8) -> Option<DType> {
    Some(match number {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::I32,
        3 => DType::U8,
        4 => DType::I64,
        6 => DType::Bool,
        7 => DType::I16,
        8 => DType::C64,
        9 => DType::I8,
        10 => DType::F64,
        11 => DType::C128,
        12 => DType::U64,
        15 => DType::U32,
        16 => DType::U16,
        17 => DType::I4,
        18 => DType::BF16,
        19 => DType::I2,
        20 => DType::U4,
        _ => return None,
    })
}

/// A model whose tables are read.
struct Model<'a> {
    flat: Flatbuffer<'a>,
    subgraphs: Vector,
    buffers: Vector,
    /// Bytes that names and shapes may still take: tables, strings and vectors can be pointed to often.
    left: usize,
}

impl<'a> Model<'a> {
    fn open(source: &'a dyn Source) -> Result<Self, FormatError> {
        let mut flat = Flatbuffer::new(source);
        let root = flat.root()?;
        let subgraphs = flat.vector(root, 2, 4)?;
        let buffers = flat.vector(root, 4, 4)?;
        Ok(Self { flat, subgraphs, buffers, left: MAX_NAMES })
    }

    /// The tensors that have data, in the order of the tables.
    fn tensors(&mut self) -> Result<Vec<Located>, FormatError> {
        let mut found = Vec::new();
        let mut seen = 0u64;
        for index in 0..self.subgraphs.count {
            let subgraph = self.flat.table_at(self.subgraphs.start + 4 * index)?;
            let tensors = self.flat.vector(subgraph, 0, 4)?;
            // Counted whether or not they have data, and with the subgraphs.
            seen = seen.saturating_add(tensors.count).saturating_add(1);
            if seen > MAX_TENSORS as u64 {
                return Err(FormatError::new(FormatErrorKind::Limit, format!("more than {MAX_TENSORS} tensors")));
            }
            for number in 0..tensors.count {
                let table = self.flat.table_at(tensors.start + 4 * number)?;
                if let Some(tensor) = self.tensor(table)? {
                    let mut name = self.flat.text(table, 3)?;
                    if name.is_empty() {
                        name = format!("tensor{number}");
                    }
                    if index > 0 {
                        name = format!("{index}/{name}");
                    }
                    self.count(name.len() + size_of_val(tensor.shape.as_slice()))?;
                    found.push(Located { name, ..tensor });
                }
            }
        }
        Ok(found)
    }

    /// A tensor, still without a name; `None` for one that is not to be listed.
    fn tensor(&mut self, table: Table) -> Result<Option<Located>, FormatError> {
        let flat = &mut self.flat;
        let buffer = match flat.field(table, 2, 4)? {
            Some(at) => u64::from(flat.u32(at)?),
            None => 0,
        };
        // The first buffer is that of tensors without data.
        if buffer == 0 || flat.field(table, 6, 4)?.is_some() {
            return Ok(None);
        }
        let number = match flat.field(table, 1, 1)? {
            Some(at) => u8::from_le_bytes(flat.array(at)?),
            None => 0,
        };
        let Some(dtype) = dtype(number) else { return Ok(None) };
        let dims = flat.vector(table, 0, 4)?;
        if dims.count > MAX_RANK as u64 {
            return Ok(None);
        }
        let mut shape = Vec::with_capacity(dims.count as usize);
        for index in 0..dims.count {
            let Ok(dim) = u64::try_from(i32::from_le_bytes(flat.array(dims.start + 4 * index)?)) else {
                return Ok(None);
            };
            shape.push(dim);
        }
        let Some((start, len)) = self.data(buffer)? else { return Ok(None) };
        let located = Located { name: String::new(), dtype, shape, strides: None, start };
        Ok(located.end().is_some_and(|end| end - start == len).then_some(located))
    }

    /// Where a buffer's bytes are: offset and length; `None` where it has none.
    fn data(&mut self, buffer: u64) -> Result<Option<(u64, u64)>, FormatError> {
        if buffer >= self.buffers.count {
            return Err(FormatError::malformed(format!("a tensor of buffer {buffer}, which is not there")));
        }
        let flat = &mut self.flat;
        let table = flat.table_at(self.buffers.start + 4 * buffer)?;
        let data = flat.vector(table, 0, 1)?;
        if data.count > 0 {
            return Ok(Some((data.start, data.count)));
        }
        let mut number = |field| match flat.field(table, field, 8)? {
            Some(at) => flat.array(at).map(u64::from_le_bytes),
            None => Ok(0),
        };
        let (offset, size) = (number(1)?, number(2)?);
        // An offset of 1 is one that was to be filled in.
        Ok((offset > 1 && size > 0).then_some((offset, size)))
    }

    fn count(&mut self, bytes: usize) -> Result<(), FormatError> {
        let limit =
            || FormatError::new(FormatErrorKind::Limit, format!("names and shapes of more than {MAX_NAMES} bytes"));
        self.left = self.left.checked_sub(bytes).ok_or_else(limit)?;
        Ok(())
    }
}
