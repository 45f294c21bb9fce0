//! Object headers, versions 1 and 2: what is said of a group or a dataset, as messages.

use super::file::{File, Reader};
use crate::format::{FormatError, FormatErrorKind};

/// Types of messages.
pub(super) mod kind {
    pub(in super::super) const DATASPACE: u16 = 0x01;
    pub(in super::super) const LINK_INFO: u16 = 0x02;
    pub(in super::super) const DATATYPE: u16 = 0x03;
    pub(in super::super) const LINK: u16 = 0x06;
    pub(in super::super) const EXTERNAL_FILES: u16 = 0x07;
    pub(in super::super) const LAYOUT: u16 = 0x08;
    pub(in super::super) const FILTERS: u16 = 0x0b;
    pub(in super::super) const SYMBOL_TABLE: u16 = 0x11;
    pub(super) const CONTINUATION: u16 = 0x10;
}

/// Most blocks of one header.
const MAX_BLOCKS: usize = 1 << 16;

/// A message.
#[derive(Clone)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    /// Whether the body only says where the message is.
    pub(super) shared: bool,
    pub(super) body: Reader<'a>,
}

/// Messages of a header follow one another in blocks.
struct Block<'a> {
    reader: Reader<'a>,
    /// Whether messages have a version 2 header, and whether that has the order of creation.
    short: Option<bool>,
}

/// Calls `visit` with the messages of the object whose header is at `address`, in the order of the file, without those that only
/// arrange the header.
pub(super) fn messages<'a>(
    file: &'a File<'a>,
    address: u64,
    mut visit: impl FnMut(Message<'a>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut blocks = vec![first(file, address)?];
    let mut next = 0;
    while let Some(block) = blocks.get_mut(next) {
        let Some(message) = message(block)? else {
            next += 1;
            continue;
        };
        if message.kind != kind::CONTINUATION {
            visit(message)?;
            continue;
        }
        let short = block.short;
        let mut body = message.body;
        let at = body.address()?.ok_or_else(|| FormatError::malformed("a header that goes on nowhere"))?;
        let len = body.length()?;
        let mut reader = file.at(at).part(len)?;
        if short.is_some() {
            reader.signature(b"OCHK")?;
            reader = reader.clone().part(reader.left().saturating_sub(4))?;
        }
        if blocks.len() == MAX_BLOCKS {
            return Err(FormatError::new(FormatErrorKind::Limit, "an object header of too many blocks"));
        }
        blocks.push(Block { reader, short });
    }
    Ok(())
}

fn first<'a>(file: &'a File<'a>, address: u64) -> Result<Block<'a>, FormatError> {
    let mut reader = file.at(address);
    let start: [u8; 4] = reader.array()?;
    if start == *b"OHDR" {
        let version = reader.u8()?;
        if version != 2 {
            return Err(unknown(version));
        }
        let flags = reader.u8()?;
        if flags & 0x20 != 0 {
            reader.skip(16)?;
        }
        if flags & 0x10 != 0 {
            reader.skip(4)?;
        }
        let len = reader.uint(1 << (flags & 3))?;
        return Ok(Block { reader: reader.part(len)?, short: Some(flags & 4 != 0) });
    }
    let [version, ..] = start;
    if version != 1 {
        return Err(unknown(version));
    }
    // The count of links to the object; padding follows the length.
    reader.skip(4)?;
    let len = reader.u32()?;
    reader.skip(4)?;
    Ok(Block { reader: reader.part(u64::from(len))?, short: None })
}

fn unknown(version: u8) -> FormatError {
    FormatError::malformed(format!("an object header of version {version}"))
}

/// The next message of a block. What is too short for one is padding.
fn message<'a>(block: &mut Block<'a>) -> Result<Option<Message<'a>>, FormatError> {
    let reader = &mut block.reader;
    let (kind, len, flags) = match block.short {
        None if reader.left() >= 8 => {
            let [a, b, c, d, flags, ..]: [u8; 8] = reader.array()?;
            (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), flags)
        }
        Some(ordered) if reader.left() >= 4 + 2 * u64::from(ordered) => {
            let [kind, a, b, flags]: [u8; 4] = reader.array()?;
            if ordered {
                reader.skip(2)?;
            }
            (u16::from(kind), u16::from_le_bytes([a, b]), flags)
        }
        _ => return Ok(None),
    };
    let body = reader.part(u64::from(len))?;
    Ok(Some(Message { kind, shared: flags & 2 != 0, body }))
}

/// The body of a message that another object may hold (a committed datatype); `None` where it is kept in a heap for shared
/// messages, which are not followed.
pub(super) fn resolve<'a>(file: &'a File<'a>, message: &Message<'a>) -> Result<Option<Reader<'a>>, FormatError> {
    if !message.shared {
        return Ok(Some(message.body.clone()));
    }
    let mut body = message.body.clone();
    let address = match (body.u8()?, body.u8()?) {
        (1, _) => {
            body.skip(6)?;
            body.address()?
        }
        (2, _) | (3, 2) => body.address()?,
        _ => return Ok(None),
    };
    let Some(address) = address else { return Ok(None) };
    let mut found = None;
    messages(file, address, |other| {
        if other.kind == message.kind && !other.shared && found.is_none() {
            found = Some(other.body);
        }
        Ok(())
    })?;
    Ok(found)
}
