//! Pickles, read and never run: the opcodes of protocols 0 to 5 build an inert tree of what they would make.
//!
//! Nothing is imported and nothing is called. A class or function is a [`Node::Global`], its call a [`Node::Call`]; numbers
//! that matter to no format and all bytes are [`Node::Opaque`]. Objects that a pickle shares or that contain themselves are
//! shared nodes, so that a tree may be a graph, with cycles: who walks it has to take care.
//!
//! Specification: PEP 307, PEP 3154, PEP 574, and the comments of
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py>.

mod instruction;
mod machine;
mod memo;
mod memory;
mod opcode;
mod tree;

pub(crate) use instruction::{Instructions, Operand};
pub(crate) use machine::{Machine, Pickle, Step, read_pickle};
pub(crate) use memory::Memory;
pub(crate) use opcode::Opcode;
pub(crate) use tree::{Call, Chain, Node, NodeId, Tree};

/// Longest text that is kept, in bytes: longer ones are neither names nor keys.
pub(crate) const MAX_TEXT: usize = shard_core::limits::MAX_NAME;

/// Most memory that the pickles of a file take, together with the tensors that are found in them, in bytes: a model with 100,000
/// parameters fits together with its optimizer. A map of at most 14 MB for odd numbers of objects is not counted, nor what making
/// a layout of the tensors takes.
const MAX_MEMORY: usize = 240 << 20;

/// Most nodes of a tree, of 16 bytes each.
const MAX_NODES: usize = 1 << 23;

/// Most places for nodes in containers, of 4 bytes each.
const MAX_PLACES: usize = 1 << 24;

/// Most bytes of text in a tree.
const MAX_TEXTS: usize = 64 << 20;

/// Most objects on the stack, of 4 bytes each.
const MAX_STACK: usize = 1 << 22;

/// Most opcodes of a pickle.
const MAX_INSTRUCTIONS: u64 = 1 << 26;
