//! Index files: the footers of many packs in one object, so that a new reader of a repository fetches few.
//!
//! Wire form: magic, version (u32, little-endian), number of packs (varint), each as id (32 bytes), the pack's length, the
//! footer's length (varints), the footer. The file is named by the SHA-256 of its bytes, which is checked on reading. An
//! index file is only a shortcut: one that is damaged is ignored, and the packs' own footers are read.

use shard_core::wire::put_varint;
use shard_core::{Digest, WireError, WireReader, sha256};

use crate::footer::Footer;

const MAGIC: &[u8; 8] = b"shardidx";
const VERSION: u32 = 1;

/// Largest index file that is read, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 30;

/// The name of an index file's object.
pub(crate) fn file_name(id: &Digest) -> String {
    format!("index/{id}.idx")
}

/// The index file that a file name in `index/` stands for.
pub(crate) fn parse_file_name(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_suffix(".idx")?).ok()
}

/// A footer as it is in its pack.
pub(crate) struct RawFooter {
    pub(crate) pack: Digest,
    pub(crate) pack_len: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The bytes of an index file.
pub(crate) fn encode(footers: &[RawFooter]) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    put_varint(&mut out, footers.len() as u64);
    for footer in footers {
        out.extend_from_slice(&footer.pack.0);
        put_varint(&mut out, footer.pack_len);
        put_varint(&mut out, footer.bytes.len() as u64);
        out.extend_from_slice(&footer.bytes);
    }
    out
}

/// The footers in an index file called `id`: pack, its length, footer. A footer that is malformed is left out.
pub(crate) fn decode(id: &Digest, bytes: &[u8]) -> Result<Vec<(Digest, u64, Footer)>, WireError> {
    let mut reader = WireReader::new(bytes);
    if sha256(bytes) != *id || reader.bytes(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
        return Err(reader.invalid("index file"));
    }
    let count = reader.varint_up_to((bytes.len() / 34) as u64, "number of packs")?;
    let mut packs = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let pack = reader.digest()?;
        let pack_len = reader.varint()?;
        let len = reader.varint_up_to(reader.remaining() as u64, "length of a footer")?;
        if let Ok(footer) = Footer::decode(reader.bytes(len as usize)?, pack_len) {
            packs.push((pack, pack_len, footer));
        }
    }
    reader.finish()?;
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_09_a_damaged_index_file_is_noticed() {
        let empty = Footer::default().encode();
        let pack_len = Footer::default().pack_len(empty.len() as u64);
        let footers = [
            RawFooter { pack: sha256(b"1"), pack_len, bytes: empty.clone() },
            RawFooter { pack: sha256(b"2"), pack_len, bytes: vec![9, 9] },
        ];
        let bytes = encode(&footers);
        let id = sha256(&bytes);
        assert_eq!(decode(&id, &bytes), Ok(vec![(sha256(b"1"), pack_len, Footer::default())]));
        for cut in 0..bytes.len() {
            assert!(decode(&id, &bytes[..cut]).is_err());
            // Also where the name is made to fit: no panic.
            let _ = decode(&sha256(&bytes[..cut]), &bytes[..cut]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&id, &bad).is_err());
            let _ = decode(&sha256(&bad), &bad);
        }
    }
}
