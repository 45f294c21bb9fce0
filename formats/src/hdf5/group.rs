//! The links of a group: in a symbol table, as messages of its header, or in a fractal heap with a B-tree of names.

use shard_core::limits::MAX_NAME;

use super::btree::{self, Kind};
use super::file::{File, Reader};
use super::header::Message;
use super::heap::FractalHeap;
use crate::assemble::MAX_TENSORS;
use crate::format::{FormatError, FormatErrorKind};

/// Most bytes of names, of links and of tensors together.
pub(super) const MAX_NAMES: usize = 64 << 20;

/// The type of a version 2 B-tree that indexes links by name.
const LINKS_BY_NAME: u8 = 5;

/// What is left of the links and names that are followed in a file.
pub(super) struct Allowance {
    pub(super) links: usize,
    pub(super) names: usize,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { links: 2 * MAX_TENSORS, names: MAX_NAMES }
    }

    /// Takes what one more name costs.
    pub(super) fn take(&mut self, name: usize) -> Result<(), FormatError> {
        match (self.links.checked_sub(1), self.names.checked_sub(name)) {
            (Some(links), Some(names)) => {
                (self.links, self.names) = (links, names);
                Ok(())
            }
            _ => Err(FormatError::new(FormatErrorKind::Limit, "more links or longer names than shard follows")),
        }
    }
}

/// A hard link.
pub(super) struct Link {
    pub(super) name: Vec<u8>,
    /// Where the object's header is.
    pub(super) object: u64,
}

/// The links of one group, as they are found.
pub(super) struct Links<'f> {
    pub(super) found: Vec<Link>,
    pub(super) allowance: &'f mut Allowance,
}

impl Links<'_> {
    fn add(&mut self, name: Vec<u8>, object: u64) -> Result<(), FormatError> {
        self.allowance.take(name.len())?;
        self.found.push(Link { name, object });
        Ok(())
    }

    /// Those of a symbol table message.
    pub(super) fn symbol_table<'a>(&mut self, file: &'a File<'a>, message: &Message<'a>) -> Result<(), FormatError> {
        let mut body = message.body.clone();
        let (Some(tree), Some(heap)) = (body.address()?, body.address()?) else { return Ok(()) };
        let mut reader = file.at(heap);
        reader.signature(b"HEAP")?;
        reader.skip(4)?;
        let len = reader.length()?;
        reader.skip(u64::from(file.length_bytes))?;
        let Some(data) = reader.address()? else { return Ok(()) };
        let names = file.at(data).part(len)?;
        let key_len = u64::from(file.length_bytes);
        btree::version_1(file, tree, Kind::Group, key_len, |_, node| self.symbols(file, node, &names))
    }

    /// Those of a symbol table node.
    fn symbols<'a>(&mut self, file: &'a File<'a>, node: u64, names: &Reader<'a>) -> Result<(), FormatError> {
        const SYMBOLIC: u32 = 2;
        let mut reader = file.at(node);
        reader.signature(b"SNOD")?;
        reader.skip(2)?;
        for _ in 0..reader.u16()? {
            let name = reader.uint(file.offset_bytes)?;
            let object = reader.address()?;
            let cached = reader.u32()?;
            reader.skip(20)?;
            let (Some(object), true) = (object, cached != SYMBOLIC) else { continue };
            let mut at = names.clone();
            at.skip(name)?;
            self.add(at.until_zero(MAX_NAME)?, object)?;
        }
        Ok(())
    }

    /// That of a link message.
    pub(super) fn link(&mut self, mut body: Reader<'_>) -> Result<(), FormatError> {
        let version = body.u8()?;
        if version != 1 {
            return Err(FormatError::malformed(format!("a link of version {version}")));
        }
        let flags = body.u8()?;
        // Soft links name what has another path too; external ones are in another file, which is not this one's content.
        let hard = flags & 8 == 0 || body.u8()? == 0;
        if flags & 4 != 0 {
            body.skip(8)?;
        }
        if flags & 0x10 != 0 {
            body.skip(1)?;
        }
        let len = body.uint(1 << (flags & 3))?;
        if !hard {
            return Ok(());
        }
        if len > MAX_NAME as u64 {
            return Err(FormatError::new(FormatErrorKind::Limit, "a link's name is longer than shard follows"));
        }
        let mut name = vec![0; len as usize];
        body.fill(&mut name)?;
        match body.address()? {
            Some(object) => self.add(name, object),
            None => Ok(()),
        }
    }

    /// Those that a link info message says are in a heap.
    pub(super) fn dense<'a>(&mut self, file: &'a File<'a>, message: &Message<'a>) -> Result<(), FormatError> {
        let mut body = message.body.clone();
        let [_, flags]: [u8; 2] = body.array()?;
        if flags & 1 != 0 {
            body.skip(8)?;
        }
        let (Some(heap), Some(names)) = (body.address()?, body.address()?) else { return Ok(()) };
        let Some(heap) = FractalHeap::open(file, heap)? else { return Ok(()) };
        btree::version_2(file, names, LINKS_BY_NAME, |mut record| {
            // A hash of the name.
            record.skip(4)?;
            match heap.object(record)? {
                Some(object) => self.link(object),
                None => Ok(()),
            }
        })
    }
}
