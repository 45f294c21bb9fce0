//! Zip archives written by hand.
#![allow(dead_code, reason = "not every suite uses all of it")]

/// A member.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    /// 0 is stored, 8 deflated.
    pub(crate) method: u16,
    /// General purpose flags.
    pub(crate) flags: u16,
    /// The bytes in the archive.
    pub(crate) data: &'a [u8],
    /// The length that they are said to expand to.
    pub(crate) len: u32,
}

impl<'a> Member<'a> {
    /// A member that is stored as it is.
    pub(crate) fn stored(name: &'a str, data: &'a [u8]) -> Self {
        Self { name, method: 0, flags: 0, data, len: data.len() as u32 }
    }

    /// What the local header and the directory have in common. The checksum is wrong: nothing may lean on it.
    fn fields(&self) -> Vec<u8> {
        let words = [20, self.flags, self.method, 0, 0x21].map(u16::to_le_bytes).concat();
        let sizes = [0xdead_beef, self.data.len() as u32, self.len].map(u32::to_le_bytes).concat();
        let names = [self.name.len() as u16, 0].map(u16::to_le_bytes).concat();
        [words, sizes, names].concat()
    }

    /// The local header and the data.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[b"PK\x03\x04", &self.fields()[..], self.name.as_bytes(), self.data].concat());
    }
}

/// Appends the directory of members whose local headers are at those places.
pub(crate) fn put_directory(entries: &[(Member<'_>, u32)], out: &mut Vec<u8>) {
    let start = out.len() as u32;
    for (member, at) in entries {
        let after = [&[0; 10][..], &at.to_le_bytes()].concat();
        let name = member.name.as_bytes();
        out.extend_from_slice(&[b"PK\x01\x02\x14\0", &member.fields()[..], &after, name].concat());
    }
    let (len, count) = (out.len() as u32 - start, entries.len() as u16);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&[count; 2].map(u16::to_le_bytes).concat());
    out.extend_from_slice(&[len, start].map(u32::to_le_bytes).concat());
    out.extend_from_slice(&[0; 2]);
}

/// An archive of members.
pub(crate) fn zip(members: &[Member<'_>]) -> Vec<u8> {
    let (mut bytes, mut entries) = (Vec::new(), Vec::new());
    for member in members {
        entries.push((*member, bytes.len() as u32));
        member.put(&mut bytes);
    }
    put_directory(&entries, &mut bytes);
    bytes
}

/// An archive of members that are stored as they are.
pub(crate) fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip(&members.iter().map(|(name, data)| Member::stored(name, data)).collect::<Vec<_>>())
}
