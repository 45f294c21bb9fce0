//! What a pickle would make, as nodes in one place: no node owns another, so that dropping a tree does not recurse.

use std::num::NonZeroU32;

use super::memory::Memory;
use super::opcode::Opcode;
use super::{MAX_NODES, MAX_PLACES, MAX_TEXTS};
use crate::format::{FormatError, FormatErrorKind};

/// A node of a [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(NonZeroU32);

impl NodeId {
    /// The node at an index. Numbers start at 1, so that an id that may be absent is as small as one that is there.
    pub(super) const fn of(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Texts, or places of nodes: a run of one of the tree's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    first: u32,
    count: u32,
}

/// A container that grows: runs of places, one linked to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    head: u32,
    tail: u32,
}

/// No link, or nothing attached.
const NONE: u32 = u32::MAX;

impl Chain {
    const EMPTY: Self = Self { head: NONE, tail: NONE };
}

/// The call of a callable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) callable: NodeId,
    /// A tuple, unless the pickle is odd.
    pub(crate) arguments: NodeId,
    attached: u32,
}

/// What a pickle would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// A float, an integer beyond 64 bits, bytes, a buffer, an extension.
    Opaque,
    None,
    Bool(bool),
    Int(i64),
    /// Text: [`Tree::text`].
    Text(Run),
    /// A tuple or a frozen set: [`Tree::tuple`].
    Tuple(Run),
    /// A list or a set: [`Tree::items`].
    List(Chain),
    /// Keys and values in turn: [`Tree::items`].
    Dict(Chain),
    /// A class or function: [`Tree::site`].
    Global(u32),
    Call(Call),
    /// An object that lies outside of the pickle, by its id.
    Persistent(NodeId),
}

/// What was put on an object after its call.
#[derive(Debug, Clone, Copy)]
struct Attached {
    state: Option<NodeId>,
    list: Chain,
    dict: Chain,
}

/// Part of a container.
#[derive(Debug, Clone, Copy)]
struct Link {
    run: Run,
    next: u32,
}

/// Where a pickle asks for a class or function, and what it does with it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Offset of the opcode in the source, in bytes.
    pub(crate) at: u64,
    pub(crate) opcode: Opcode,
    /// The module and the name; `None` where the pickle computes them, or they are longer than shard keeps.
    names: Option<(Run, Run)>,
    /// How many times it is called, or makes an object.
    pub(crate) calls: u32,
    /// How many times an object that it made, or itself, is given a state.
    pub(crate) builds: u32,
}

/// The nodes of a pickle.
pub(crate) struct Tree {
    nodes: Vec<Node>,
    places: Vec<NodeId>,
    links: Vec<Link>,
    attached: Vec<Attached>,
    texts: Vec<u8>,
    sites: Vec<Site>,
    memory: Memory,
}

/// Small integers that have a node from the start, so that shapes and flags take none.
const SMALL: i64 = 256;

impl Tree {
    pub(crate) const OPAQUE: NodeId = NodeId::of(0);
    pub(crate) const NONE: NodeId = NodeId::of(1);
    pub(crate) const FALSE: NodeId = NodeId::of(2);
    pub(crate) const TRUE: NodeId = NodeId::of(3);
    pub(crate) const EMPTY_TUPLE: NodeId = NodeId::of(4);
    const ZERO: u32 = 5;

    /// A tree that shares the memory of a pickle with others, which take `others` bytes.
    pub(super) fn beside(others: usize) -> Self {
        let empty = Node::Tuple(Run { first: 0, count: 0 });
        let mut nodes = vec![Node::Opaque, Node::None, Node::Bool(false), Node::Bool(true), empty];
        nodes.extend((0..SMALL).map(Node::Int));
        Self {
            nodes,
            places: Vec::new(),
            links: Vec::new(),
            attached: Vec::new(),
            texts: Vec::new(),
            sites: Vec::new(),
            memory: Memory::beside(others),
        }
    }

    /// What the tree takes, and what is made along with it.
    pub(super) fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// What the tree takes, in bytes.
    pub(crate) fn taken(&self) -> usize {
        self.memory.taken()
    }

    /// The number of nodes, and of their places in containers.
    pub(crate) fn size(&self) -> usize {
        self.nodes.len() + self.places.len()
    }

    /// Every node, in the order in which the pickle makes them.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.nodes.iter().copied()
    }

    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes.get(id.index()).copied().unwrap_or(Node::Opaque)
    }

    /// The value of an integer that is not negative.
    pub(crate) fn unsigned(&self, id: NodeId) -> Option<u64> {
        match self.node(id) {
            Node::Int(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The bytes of a text; it need not be UTF-8.
    pub(crate) fn text(&self, id: NodeId) -> Option<&[u8]> {
        match self.node(id) {
            Node::Text(run) => Some(self.run_of_text(run)),
            _ => None,
        }
    }

    fn run_of_text(&self, run: Run) -> &[u8] {
        let start = run.first as usize;
        self.texts.get(start..start + run.count as usize).unwrap_or_default()
    }

    /// The members of a tuple.
    pub(crate) fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(run) => Some(self.run_of_places(run)),
            _ => None,
        }
    }

    fn run_of_places(&self, run: Run) -> &[NodeId] {
        let start = run.first as usize;
        self.places.get(start..start + run.count as usize).unwrap_or_default()
    }

    /// The members of a list, or the keys and values of a dict in turn.
    pub(crate) fn items(&self, chain: Chain) -> impl Iterator<Item = NodeId> {
        let link = |index: u32| self.links.get(index as usize);
        std::iter::successors(link(chain.head), move |current| link(current.next))
            .flat_map(|current| self.run_of_places(current.run).iter().copied())
    }

    /// The state that an object was given.
    pub(crate) fn state(&self, call: Call) -> Option<NodeId> {
        self.attached.get(call.attached as usize)?.state
    }

    /// What was appended to an object, as to a list.
    pub(crate) fn appended(&self, call: Call) -> Chain {
        self.attached.get(call.attached as usize).map_or(Chain::EMPTY, |attached| attached.list)
    }

    /// The keys and values that were set in an object, as in a dict.
    pub(crate) fn entries(&self, call: Call) -> Chain {
        self.attached.get(call.attached as usize).map_or(Chain::EMPTY, |attached| attached.dict)
    }

    /// Every place where a class or function is asked for.
    pub(crate) fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The module and name of a site.
    pub(crate) fn names(&self, site: &Site) -> Option<(&[u8], &[u8])> {
        site.names.map(|(module, name)| (self.run_of_text(module), self.run_of_text(name)))
    }

    /// The module and name of a class or function.
    pub(crate) fn global(&self, id: NodeId) -> Option<(&[u8], &[u8])> {
        match self.node(id) {
            Node::Global(site) => self.names(self.sites.get(site as usize)?),
            _ => None,
        }
    }

    /// The site of a class or function.
    pub(crate) fn site_mut(&mut self, id: NodeId) -> Option<&mut Site> {
        match self.node(id) {
            Node::Global(site) => self.sites.get_mut(site as usize),
            _ => None,
        }
    }

    fn add(&mut self, node: Node) -> Result<NodeId, FormatError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(too_much("objects"));
        }
        self.memory.push(&mut self.nodes, node)?;
        Ok(NodeId::of((self.nodes.len() - 1) as u32))
    }

    fn add_places(&mut self, members: &[NodeId]) -> Result<Run, FormatError> {
        if members.len() > MAX_PLACES.saturating_sub(self.places.len()) {
            return Err(too_much("members of containers"));
        }
        let run = Run { first: self.places.len() as u32, count: members.len() as u32 };
        self.memory.make_room(&mut self.places, members.len())?;
        self.places.extend_from_slice(members);
        Ok(run)
    }

    fn add_run_of_text(&mut self, text: &[u8]) -> Result<Run, FormatError> {
        if text.len() > MAX_TEXTS.saturating_sub(self.texts.len()) {
            return Err(too_much("bytes of text"));
        }
        let run = Run { first: self.texts.len() as u32, count: text.len() as u32 };
        self.memory.make_room(&mut self.texts, text.len())?;
        self.texts.extend_from_slice(text);
        Ok(run)
    }

    pub(crate) fn add_int(&mut self, value: i64) -> Result<NodeId, FormatError> {
        match value {
            0..SMALL => Ok(NodeId::of(Self::ZERO + value as u32)),
            _ => self.add(Node::Int(value)),
        }
    }

    pub(crate) fn add_text(&mut self, text: &[u8]) -> Result<NodeId, FormatError> {
        let run = self.add_run_of_text(text)?;
        self.add(Node::Text(run))
    }

    pub(crate) fn add_tuple(&mut self, members: &[NodeId]) -> Result<NodeId, FormatError> {
        if members.is_empty() {
            return Ok(Self::EMPTY_TUPLE);
        }
        let run = self.add_places(members)?;
        self.add(Node::Tuple(run))
    }

    pub(crate) fn add_list(&mut self) -> Result<NodeId, FormatError> {
        self.add(Node::List(Chain::EMPTY))
    }

    pub(crate) fn add_dict(&mut self) -> Result<NodeId, FormatError> {
        self.add(Node::Dict(Chain::EMPTY))
    }

    pub(crate) fn add_persistent(&mut self, id: NodeId) -> Result<NodeId, FormatError> {
        self.add(Node::Persistent(id))
    }

    pub(crate) fn add_call(&mut self, callable: NodeId, arguments: NodeId) -> Result<NodeId, FormatError> {
        self.add(Node::Call(Call { callable, arguments, attached: NONE }))
    }

    /// A class or function; `names` may be unknown.
    pub(crate) fn add_global(
        &mut self,
        at: u64,
        opcode: Opcode,
        names: Option<(&[u8], &[u8])>,
    ) -> Result<NodeId, FormatError> {
        let names = match names {
            Some((module, name)) => Some((self.add_run_of_text(module)?, self.add_run_of_text(name)?)),
            None => None,
        };
        let id = self.add(Node::Global(self.sites.len() as u32))?;
        self.memory.push(&mut self.sites, Site { at, opcode, names, calls: 0, builds: 0 })?;
        Ok(id)
    }

    /// A class or function whose module and name are texts of the pickle.
    pub(crate) fn add_global_of(
        &mut self,
        at: u64,
        opcode: Opcode,
        module: NodeId,
        name: NodeId,
    ) -> Result<NodeId, FormatError> {
        let names = match (self.node(module), self.node(name)) {
            (Node::Text(module), Node::Text(name)) => Some((module, name)),
            _ => None,
        };
        let id = self.add(Node::Global(self.sites.len() as u32))?;
        self.memory.push(&mut self.sites, Site { at, opcode, names, calls: 0, builds: 0 })?;
        Ok(id)
    }

    /// Adds members to a list, a set, or an object that takes them. Other objects forget them.
    pub(crate) fn append(&mut self, to: NodeId, members: &[NodeId]) -> Result<(), FormatError> {
        self.extend(to, members, false)
    }

    /// Adds keys and values, in turn, to a dict, or an object that takes them. Other objects forget them.
    pub(crate) fn set_items(&mut self, to: NodeId, pairs: &[NodeId]) -> Result<(), FormatError> {
        self.extend(to, pairs, true)
    }

    fn extend(&mut self, to: NodeId, members: &[NodeId], pairs: bool) -> Result<(), FormatError> {
        if members.is_empty() {
            return Ok(());
        }
        let run = self.add_places(members)?;
        let link = self.links.len() as u32;
        self.memory.push(&mut self.links, Link { run, next: NONE })?;
        let old_tail = match self.nodes.get_mut(to.index()) {
            Some(Node::List(chain)) if !pairs => lengthen(chain, link),
            Some(Node::Dict(chain)) if pairs => lengthen(chain, link),
            Some(Node::Call(call)) => {
                let attached = attached_to(call, &mut self.attached, &mut self.memory)?;
                attached.and_then(|all| lengthen(if pairs { &mut all.dict } else { &mut all.list }, link))
            }
            _ => None,
        };
        if let Some(tail) = old_tail.and_then(|tail| self.links.get_mut(tail as usize)) {
            tail.next = link;
        }
        Ok(())
    }

    /// Gives an object its state; the last one counts.
    pub(crate) fn set_state(&mut self, of: NodeId, state: NodeId) -> Result<(), FormatError> {
        let made_by = match self.nodes.get_mut(of.index()) {
            Some(Node::Call(call)) => {
                if let Some(attached) = attached_to(call, &mut self.attached, &mut self.memory)? {
                    attached.state = Some(state);
                }
                call.callable
            }
            _ => of,
        };
        if let Some(site) = self.site_mut(made_by) {
            site.builds = site.builds.saturating_add(1);
        }
        Ok(())
    }
}

/// Makes a link the last of a chain; the one that was the last until now.
fn lengthen(chain: &mut Chain, link: u32) -> Option<u32> {
    let old = std::mem::replace(&mut chain.tail, link);
    if chain.head == NONE {
        chain.head = link;
    }
    (old != NONE).then_some(old)
}

fn attached_to<'a>(
    call: &mut Call,
    all: &'a mut Vec<Attached>,
    memory: &mut Memory,
) -> Result<Option<&'a mut Attached>, FormatError> {
    if call.attached == NONE {
        let index = all.len() as u32;
        memory.push(all, Attached { state: None, list: Chain::EMPTY, dict: Chain::EMPTY })?;
        call.attached = index;
    }
    Ok(all.get_mut(call.attached as usize))
}

pub(super) fn too_much(what: &str) -> FormatError {
    FormatError::new(FormatErrorKind::Limit, format!("the pickle has more {what} than shard follows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_small() {
        assert_eq!(size_of::<Node>(), 16);
    }

    #[test]
    fn containers_grow_in_order() {
        let mut tree = Tree::beside(0);
        let list = tree.add_list().unwrap();
        let dict = tree.add_dict().unwrap();
        let object = tree.add_call(Tree::OPAQUE, Tree::EMPTY_TUPLE).unwrap();
        for value in 0..6 {
            let int = tree.add_int(value * 100).unwrap();
            tree.append(list, &[int]).unwrap();
            tree.set_items(dict, &[int, Tree::NONE]).unwrap();
            tree.append(object, &[int, int]).unwrap();
            tree.set_items(object, &[int, Tree::TRUE]).unwrap();
            // Neither takes members.
            tree.append(dict, &[int]).unwrap();
            tree.append(int, &[int]).unwrap();
        }
        let ints = |ids: Vec<NodeId>| -> Vec<Node> { ids.into_iter().map(|id| tree.node(id)).collect() };
        let (Node::List(members), Node::Dict(pairs)) = (tree.node(list), tree.node(dict)) else { panic!() };
        assert_eq!(ints(tree.items(members).collect()), (0..6).map(|i| Node::Int(i * 100)).collect::<Vec<_>>());
        assert_eq!(tree.items(pairs).count(), 12);
        let Node::Call(call) = tree.node(object) else { panic!() };
        assert_eq!((tree.items(tree.appended(call)).count(), tree.items(tree.entries(call)).count()), (12, 12));
        assert_eq!(tree.state(call), None);
        tree.set_state(object, list).unwrap();
        let Node::Call(call) = tree.node(object) else { panic!() };
        assert_eq!(tree.state(call), Some(list));
    }
}
