//! The tensors of an object that a pickle makes, with the names that the format's documentation tells.

use std::collections::HashMap;
use std::fmt::Write as _;

use shard_core::limits::{MAX_NAME, MAX_NESTING};

use super::dtype::ElementType;
use super::rebuild::{Made, Part, made};
use super::storage::{Outside, Outsiders, View};
use super::tensor::locate;
use crate::assemble::{Located, MAX_TENSORS};
use crate::format::{FormatError, FormatErrorKind};
use crate::pickle::{Call, Chain, Memory, Node, NodeId, Tree};

/// Deepest nesting of objects that is followed: a module in a module is three deeper.
const MAX_DEPTH: usize = 4 * MAX_NESTING;

/// Most objects that are looked at: that many, and for each object of the pickle this many more. Shared objects are looked at
/// wherever they are met, of which there may be no end.
const EFFORT: usize = 1 << 16;
const EFFORT_EACH: usize = 8;

/// Most bytes of names.
const MAX_NAMES: usize = 64 << 20;

/// Most objects that wait to be looked at, of 24 bytes each.
const MAX_PENDING: usize = 1 << 22;

/// What a name takes beside its bytes, and a tensor beside its name and dimensions, in bytes.
const NAME_LEN: usize = 96;
const TENSOR_LEN: usize = 40;

/// The last part of the path to an object.
#[derive(Debug, Clone, Copy)]
enum Label {
    /// It goes by the name of what it is in.
    Same,
    /// The key in a dict, and which entry it is.
    Key(NodeId, u32),
    Index(u32),
    /// A part of a tensor.
    Part(Part),
}

/// An object that waits to be looked at.
#[derive(Debug, Clone, Copy)]
struct Pending {
    node: NodeId,
    label: Label,
    /// The number of objects that it lies in.
    depth: u32,
    /// Bytes of the path to what it lies in.
    path: u32,
}

/// Finds tensors.
pub(crate) struct Walk<'a> {
    tree: &'a Tree,
    outside: &'a dyn Outsiders,
    pending: Vec<Pending>,
    /// The objects that the current one lies in, outermost first.
    ancestors: Vec<NodeId>,
    /// The path to the current object.
    path: String,
    /// How many more objects may be looked at.
    effort: usize,
    name_bytes: usize,
    names: &'a mut Names,
    found: Vec<Located>,
    memory: Memory,
}

/// Names that were given.
#[derive(Default)]
pub(crate) struct Names {
    given: HashMap<Box<str>, u32>,
    /// What they and the tensors take, and what is beside them, in bytes.
    taken: usize,
}

impl Names {
    /// None yet, where other things take `taken` bytes.
    pub(crate) fn beside(taken: usize) -> Self {
        Self { given: HashMap::new(), taken }
    }

    /// What they and the tensors take, and what is beside them, in bytes.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// That name, or the first that follows it and was not given yet.
    fn take(&mut self, name: String) -> String {
        let Some(count) = self.given.get_mut(name.as_str()) else {
            self.given.insert(name.as_str().into(), 1);
            return name;
        };
        let mut next = *count + 1;
        let mut other = format!("{name}#{next}");
        while self.given.contains_key(other.as_str()) {
            next += 1;
            other = format!("{name}#{next}");
        }
        if let Some(count) = self.given.get_mut(name.as_str()) {
            *count = next;
        }
        self.given.insert(other.as_str().into(), 1);
        other
    }
}

/// The tensors of the object `root`, with `prefix` for the first part of their names unless it is empty.
///
/// # Errors
/// [`FormatError`] for an object with more to look at than shard follows.
pub(crate) fn tensors(
    tree: &Tree,
    outside: &dyn Outsiders,
    root: NodeId,
    prefix: &str,
    names: &mut Names,
) -> Result<Vec<Located>, FormatError> {
    let (others, path) = (tree.taken() + names.taken, prefix.len() as u32);
    let mut walk = Walk {
        tree,
        outside,
        pending: vec![Pending { node: root, label: Label::Same, depth: 0, path }],
        ancestors: Vec::new(),
        path: prefix.to_owned(),
        effort: tree.size().saturating_mul(EFFORT_EACH).saturating_add(EFFORT),
        name_bytes: 0,
        memory: Memory::beside(others),
        names,
        found: Vec::new(),
    };
    while let Some(next) = walk.pending.pop() {
        walk.visit(next)?;
    }
    walk.memory.free(&mut walk.pending);
    walk.names.taken += walk.memory.taken();
    Ok(walk.found)
}

impl Walk<'_> {
    fn visit(&mut self, next: Pending) -> Result<(), FormatError> {
        self.path.truncate(next.path as usize);
        self.ancestors.truncate(next.depth as usize);
        // In itself it has nothing new.
        if self.ancestors.len() >= MAX_DEPTH || self.ancestors.contains(&next.node) {
            return Ok(());
        }
        self.extend_path(next.label);
        // No tensor has such a name, and long paths take long to write.
        if self.path.len() > MAX_NAME {
            return Ok(());
        }
        self.ancestors.push(next.node);
        let first = self.pending.len();
        match self.tree.node(next.node) {
            Node::Tuple(_) => {
                let tree = self.tree;
                self.list(tree.tuple(next.node).unwrap_or_default().iter().copied())?;
            }
            Node::List(chain) => self.list(self.tree.items(chain))?,
            Node::Dict(chain) => self.entries(chain)?,
            Node::Persistent(id) => self.outsider(id)?,
            Node::Call(call) => self.object(call)?,
            _ => {}
        }
        // The first comes to the top.
        self.pending.get_mut(first..).unwrap_or_default().reverse();
        Ok(())
    }

    fn extend_path(&mut self, label: Label) {
        if matches!(label, Label::Same) {
            return;
        }
        if !self.path.is_empty() {
            self.path.push('.');
        }
        // Writing to a String does not fail.
        let _ = match label {
            Label::Same => Ok(()),
            Label::Index(index) => write!(self.path, "{index}"),
            Label::Part(part) => self.path.write_str(part.name()),
            Label::Key(key, index) => match self.tree.node(key) {
                Node::Text(_) => {
                    let text = self.tree.text(key).unwrap_or_default();
                    self.effort = self.effort.saturating_sub(text.len() / 16);
                    self.path.write_str(&String::from_utf8_lossy(text))
                }
                Node::Int(value) => write!(self.path, "{value}"),
                _ => write!(self.path, "#{index}"),
            },
        };
    }

    /// Lets an object wait, if there may be a tensor in it.
    fn wait(&mut self, node: NodeId, label: Label) -> Result<(), FormatError> {
        if self.effort == 0 || self.pending.len() >= MAX_PENDING {
            return Err(FormatError::new(FormatErrorKind::Limit, "the pickle has more in it than shard follows"));
        }
        self.effort -= 1;
        if matches!(
            self.tree.node(node),
            Node::Tuple(_) | Node::List(_) | Node::Dict(_) | Node::Persistent(_) | Node::Call(_)
        ) {
            let (depth, path) = (self.ancestors.len() as u32, self.path.len() as u32);
            self.memory.push(&mut self.pending, Pending { node, label, depth, path })?;
        }
        Ok(())
    }

    fn list(&mut self, members: impl Iterator<Item = NodeId>) -> Result<(), FormatError> {
        for (index, member) in members.enumerate() {
            self.wait(member, Label::Index(index as u32))?;
        }
        Ok(())
    }

    fn entries(&mut self, pairs: Chain) -> Result<(), FormatError> {
        let mut items = self.tree.items(pairs);
        let mut index = 0;
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            self.wait(value, Label::Key(key, index))?;
            index += 1;
        }
        Ok(())
    }

    /// What an object was given as its state: attributes, or a tuple of such for one with `__slots__`.
    fn attributes(&mut self, state: NodeId) -> Result<(), FormatError> {
        match self.tree.node(state) {
            Node::Dict(pairs) => {
                let mut items = self.tree.items(pairs);
                let mut index = 0;
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    let inner = matches!(self.tree.text(key), Some(b"_parameters" | b"_buffers" | b"_modules"));
                    let label = match self.tree.node(value) {
                        Node::Dict(_) | Node::Call(_) if inner => Label::Same,
                        _ => Label::Key(key, index),
                    };
                    self.wait(value, label)?;
                    index += 1;
                }
                Ok(())
            }
            Node::Tuple(_) => {
                let members = self.tree.tuple(state).unwrap_or_default();
                let is_slots = |member: &NodeId| matches!(self.tree.node(*member), Node::Dict(_) | Node::None);
                if let [_, _] = members
                    && members.iter().all(is_slots)
                {
                    members.iter().try_for_each(|member| self.attributes_of(*member))
                } else {
                    self.list(members.iter().copied())
                }
            }
            _ => self.wait(state, Label::Same),
        }
    }

    /// The attributes in one dict; nothing for `None`.
    fn attributes_of(&mut self, dict: NodeId) -> Result<(), FormatError> {
        match self.tree.node(dict) {
            Node::Dict(_) => self.attributes(dict),
            _ => Ok(()),
        }
    }

    fn outsider(&mut self, id: NodeId) -> Result<(), FormatError> {
        match self.outside.find(self.tree, id) {
            Some(Outside::Storage(storage)) => {
                let view = View { storage, offset: 0, shape: vec![storage.items], strides: vec![1] };
                self.tensor(&view, storage.element)
            }
            Some(Outside::Tensor(view)) => self.tensor(&view, view.storage.element),
            None => Ok(()),
        }
    }

    fn object(&mut self, call: Call) -> Result<(), FormatError> {
        let (mut callable, mut arguments) = (call.callable, call.arguments);
        // A function may be handed to another, and that to a third; no sound file goes on.
        for _ in 0..4 {
            match made(self.tree, self.outside, callable, arguments) {
                Made::Tensor(view, parts) => {
                    if let Some((view, element)) = view {
                        self.tensor(&view, element)?;
                    }
                    for (node, part) in parts {
                        self.wait(node, Label::Part(part))?;
                    }
                }
                Made::Same { of, attributes } => {
                    self.wait(of, Label::Same)?;
                    if let Some(attributes) = attributes {
                        self.attributes(attributes)?;
                    }
                }
                Made::Other { callable: other, arguments: others, attributes } => {
                    if let Some(attributes) = attributes {
                        self.attributes(attributes)?;
                    }
                    (callable, arguments) = (other, others);
                    continue;
                }
                Made::Pairs(pairs) => self.pairs(pairs)?,
                Made::Object => {
                    let tree = self.tree;
                    self.list(tree.tuple(arguments).unwrap_or_default().iter().copied())?;
                }
            }
            break;
        }
        self.list(self.tree.items(self.tree.appended(call)))?;
        self.entries(self.tree.entries(call))?;
        match self.tree.state(call) {
            Some(state) => self.attributes(state),
            None => Ok(()),
        }
    }

    /// A list of keys and values, two by two, as Python 2 writes an `OrderedDict`.
    fn pairs(&mut self, pairs: NodeId) -> Result<(), FormatError> {
        let Node::List(chain) = self.tree.node(pairs) else { return self.wait(pairs, Label::Same) };
        for (index, pair) in self.tree.items(chain).enumerate() {
            let (key, value) = match self.tree.node(pair) {
                Node::List(chain) => {
                    let mut items = self.tree.items(chain);
                    (items.next(), items.next())
                }
                _ => {
                    let items = self.tree.tuple(pair).unwrap_or_default();
                    (items.first().copied(), items.get(1).copied())
                }
            };
            if let (Some(key), Some(value)) = (key, value) {
                self.wait(value, Label::Key(key, index as u32))?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, view: &View, element: ElementType) -> Result<(), FormatError> {
        let name = if self.path.is_empty() { "tensor" } else { self.path.as_str() };
        if let Some(mut located) = locate(name, view, element) {
            self.name_bytes += name.len();
            if self.found.len() >= MAX_TENSORS || self.name_bytes > MAX_NAMES {
                let message = format!("more than {MAX_TENSORS} tensors, or {MAX_NAMES} bytes of names");
                return Err(FormatError::new(FormatErrorKind::Limit, message));
            }
            let dims = located.shape.len() + located.strides.as_ref().map_or(0, Vec::len);
            self.memory.take(2 * name.len() + NAME_LEN + dims * size_of::<u64>() + TENSOR_LEN)?;
            located.name = self.names.take(located.name);
            self.memory.push(&mut self.found, located)?;
        }
        Ok(())
    }
}
