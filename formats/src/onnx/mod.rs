//! ONNX: a model as one message of Protocol Buffers, its tensors inside it or in files beside it.
//!
//! What is located, and under which name:
//!
//! | where | name |
//! | --- | --- |
//! | an initializer of the main graph | its own |
//! | a sparse initializer | its own with `.values` and `.indices` |
//! | the tensor of a `Constant` node | the node's output; a sparse one with `.values` and `.indices` |
//! | a tensor attribute of another node | `<node>/<attribute>`; of a list `<node>/<attribute>.<index>` |
//! | all of these in a subgraph (`If`, `Loop`, `Scan`) | `<node>/<attribute>/…`; of a list `<node>/<attribute>.<index>/…` |
//! | in a function | `<domain>::<name>/…`, or `<domain>::<name>:<overload>/…` |
//! | in the graphs for training | `training_info.<index>/initialization/…` and `…/algorithm/…` |
//!
//! `<node>` is the node's first output that has a name, since the format requires outputs to be unique, else the node's name.
//! Where names repeat all the same, the second in the file has `#2` behind it, and so on.
//!
//! Data is located in `raw_data` (elements little-endian in row-major order, packed types with the first element lowest) and in
//! `float_data` and `double_data`, whose packed form is the same. Numbers that are stored as varints are no elements of a known
//! size, and strings have none: these tensors are not listed, nor those whose data does not fit their dimensions, that have data
//! twice, or no name. Data in other files is for [`crate::sidecar`].
//!
//! Specification: <https://github.com/onnx/onnx/blob/main/docs/IR.md> and `onnx.proto` beside it.

mod tensor;
mod walk;

use shard_core::{DType, Layout};

use crate::assemble::{Assembler, Located};
use crate::format::{Format, FormatError};
use crate::protobuf::{BYTES, VARINT, varint};
use crate::source::{Cursor, Source};

pub(crate) use tensor::Place;
pub(crate) use walk::{MAX_FIELDS, walk};

/// Highest version of the representation that a file may have and be taken for a model; the one of 2026 is 14.
const MAX_IR_VERSION: u64 = 255;

/// A tensor, and where its data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<u64>,
    pub(crate) place: Place,
}

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Onnx;

impl Format for Onnx {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn probe(&self, head: &[u8], len: u64) -> bool {
        starts_a_model(head, len).unwrap_or(false)
    }

    fn parse(&self, source: &dyn Source, _depth: usize) -> Result<Layout, FormatError> {
        let mut assembler = Assembler::new();
        for Found { name, dtype, shape, place } in walk(source, &mut { MAX_FIELDS })? {
            if let Place::Inside(start) = place {
                assembler.add(Located { name, dtype, shape, strides: None, start });
            }
        }
        assembler.finish(self.name(), source.len())
    }
}

/// Whether a file starts as a model does that is written in the order of the fields' numbers: a version, then short texts and
/// the like, then a graph. There is no other mark. `None` for bytes that are no fields at all.
fn starts_a_model(head: &[u8], len: u64) -> Option<bool> {
    let mut cursor = Cursor::new(&head, 0);
    let mut fields = 0;
    while cursor.left() > 0 {
        let tag = varint(&mut cursor).ok()?;
        let (number, wire) = (tag >> 3, tag & 7);
        let value = varint(&mut cursor).ok()?;
        match (number, wire) {
            (1, VARINT) if fields == 0 => {
                if !(1..=MAX_IR_VERSION).contains(&value) {
                    return Some(false);
                }
            }
            (5, VARINT) if fields > 0 => {}
            (7, BYTES) if fields > 0 => {
                // A graph without a field of its own, or that starts with another than a graph has, is none.
                let known = [1, 2, 5, 10, 11, 12, 13, 14, 15, 16];
                let plausible = |tag: u64| tag & 7 == BYTES && known.contains(&(tag >> 3));
                return Some(value > 0 && (cursor.left() == 0 || varint(&mut cursor).is_ok_and(plausible)));
            }
            (2 | 3 | 4 | 6 | 8 | 14 | 20 | 25 | 26, BYTES) if fields > 0 => {
                if value > len.saturating_sub(cursor.position()) {
                    return Some(false);
                }
                let visible = value.min(cursor.left());
                let bytes = cursor.take(visible).ok()?;
                if matches!(number, 2 | 3 | 4 | 6) && !is_text(&bytes, visible == value) {
                    return Some(false);
                }
            }
            _ => return Some(false),
        }
        fields += 1;
    }
    // The graph lies further on, behind a long text or behind many short ones.
    Some(fields > 1 && head.len() as u64 != len)
}

/// Whether these bytes are text, or the start of one where they are not `whole`.
fn is_text(bytes: &[u8], whole: bool) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if !whole && error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(bytes: &[u8]) -> bool {
        Onnx.probe(&bytes[..bytes.len().min(crate::PROBE_LEN)], bytes.len() as u64)
    }

    #[test]
    fn a_model_is_known_by_its_fields() {
        for model in [
            &b"\x08\x08\x3a\x02\x12\x00"[..],
            b"\x08\x0a\x12\x07pytorch\x1a\x052.1.0\x22\x00\x28\x00\x32\x00\x3a\x04\x12\x02ab\x42\x02\x10\x11",
            b"\x08\x0a\x42\x02\x10\x11\x3a\x02\x2a\x00",
            // Cut within the graph.
            b"\x08\x0a\x12\x04spox\x3a\xff\xff\x01\x0a\x03",
            b"\x08\x0a\x12\x04spox\x3a\xff\xff\x01",
        ] {
            assert!(probe(model), "{model:x?}");
        }
        let long = [&b"\x08\x0a\x32\xa8\x46"[..], "é".repeat(4500).as_bytes(), b"\x3a\x02\x12\x00"].concat();
        assert!(probe(&long));
        let cut = [&b"\x08\x0a\x32\xa8\x46"[..], "é".repeat(4499).as_bytes()].concat();
        assert!(!probe(&cut), "nothing of a model is to be seen");
    }

    #[test]
    fn other_files_are_not() {
        for other in [
            &b""[..],
            b"\x08",
            b"\x08\x08",
            b"\x08\x08\x3a\x00",
            b"\x08\x00\x3a\x02\x12\x00",
            b"\x08\x80\x02\x3a\x02\x12\x00",
            b"\x3a\x02\x12\x00",
            b"\x08\x08\x08\x08\x3a\x02\x12\x00",
            b"\x08\x08\x12\x01\x00\x3a\x02\x12\x00",
            b"\x08\x08\x12\x01\xff\x3a\x02\x12\x00",
            b"\x08\x08\x12\x7fspox",
            b"\x08\x08\x12\x04spox",
            b"\x08\x08\x3d\x02\x12\x00",
            b"\x08\x08\x3a\x02\x08\x00",
            b"\x08\x08\x4a\x00\x3a\x02\x12\x00",
            // Messages of other kinds: a SavedModel of TensorFlow, a model of Core ML.
            b"\x08\x01\x12\x05\x0a\x03\x22\x01A",
            b"\x08\x04\x12\x02\x0a\x00\xa2\x1f\x00",
        ] {
            assert!(!probe(other), "{other:x?}");
        }
    }
}
