//! The storage manifest: how each block of a content manifest is stored at the moment. It is derived from the headers of the
//! stored blocks and outside of every id, so it may change whenever blocks are encoded anew.
//!
//! Version 1: `type` "storage", `version` 1, `manifest` (the content manifest's id), `blocks`: an object by block id. A block
//! has `chain` (text), `raw` and `stored` (bytes), `depth` (number of bases to a keyframe) and, where it has them, `base`,
//! `pack` (id) and `params` (an object). A base has `ranges`, each with `len` and, unless it is a hole, `block` and `start`
//! (bytes), and `transpose` with `word` (bytes), `row`, `column`, `phase` (words).

use std::collections::BTreeMap;

use serde_json::Value;
use shard_core::base::Transpose;
use shard_core::limits::{MAX_BASE_RANGES, MAX_BLOCK};
use shard_core::{BaseRange, BaseRef, Digest};

use crate::canonical;
use crate::object::{self, Fields, ObjectError, ObjectReader, ObjectWriter};

const KIND: &str = "storage";
const VERSION: u64 = 1;
const FIELDS: &[&str] = &["blocks", "manifest", "type", "version"];
const BLOCK_FIELDS: &[&str] = &["base", "chain", "depth", "pack", "params", "raw", "stored"];

/// How one block is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStorage {
    /// The codec chain, as text such as `parent+ulp+planes[rans,rans]`.
    pub chain: String,
    /// Length of the decoded block in bytes.
    pub raw: u64,
    /// Length of the stored block, header included, in bytes.
    pub stored: u64,
    /// How many bases lie between the block and its keyframe; 0 for a block without a base.
    pub depth: u32,
    /// The bytes that predict the block.
    pub base: Option<BaseRef>,
    /// The pack that holds it.
    pub pack: Option<Digest>,
    /// Parameters of the chain, by name. Integers beyond ±(2^53 - 1) are written as strings.
    pub params: Fields,
    /// Unknown fields.
    pub extra: Fields,
}

/// How the blocks of one content manifest are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageManifest {
    /// The id of the content manifest.
    pub manifest: Digest,
    /// Its blocks, by id.
    pub blocks: BTreeMap<Digest, BlockStorage>,
    /// Unknown fields.
    pub extra: Fields,
}

impl StorageManifest {
    /// A storage manifest without blocks.
    #[must_use]
    pub fn new(manifest: Digest) -> Self {
        Self { manifest, blocks: BTreeMap::new(), extra: Fields::new() }
    }

    /// Decoded and stored bytes of all blocks, each block counted once; saturating.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let add = |(raw, stored): (u64, u64), block: &BlockStorage| {
            (raw.saturating_add(block.raw), stored.saturating_add(block.stored))
        };
        self.blocks.values().fold((0, 0), add)
    }

    /// The canonical JSON.
    ///
    /// # Errors
    /// [`ObjectError`] for unknown fields with known names, values without canonical form, bases over their limits.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ObjectError> {
        let mut blocks = Fields::new();
        for (id, block) in &self.blocks {
            let mut writer = ObjectWriter::new(&block.extra, BLOCK_FIELDS)?;
            if block.base.as_ref().is_some_and(|base| !is_possible(base)) {
                return Err(ObjectError::Invalid { field: format!("blocks.{}.base", id.short()), expected: BASE });
            }
            let params = block.params.iter().map(|(name, value)| (name.clone(), canonical::portable(value)));
            writer
                .put("chain", block.chain.as_str())
                .put("raw", canonical::integer(block.raw))
                .put("stored", canonical::integer(block.stored))
                .put("depth", block.depth)
                .put_some("base", block.base.as_ref().map(base_value))
                .put_some("pack", block.pack.as_ref().map(object::digest))
                .put_fields("params", params.collect());
            blocks.insert(id.to_hex(), Value::Object(writer.into_fields()));
        }
        let mut writer = ObjectWriter::new(&self.extra, FIELDS)?;
        writer.put("manifest", object::digest(&self.manifest)).put("blocks", blocks);
        object::seal(writer.into_fields(), KIND, VERSION)
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectError> {
        let mut reader = ObjectReader::open(bytes, KIND, VERSION)?;
        let manifest = reader.digest("manifest")?;
        let Value::Object(members) = reader.require("blocks")? else {
            return Err(reader.invalid("blocks", "an object"));
        };
        let mut blocks = BTreeMap::new();
        for (id, value) in members {
            let id = Digest::from_hex(&id).map_err(|_| reader.invalid("blocks", "an object by block id"))?;
            blocks.insert(id, read_block(value, &format!("blocks.{}", id.short()))?);
        }
        Ok(Self { manifest, blocks, extra: reader.unknown() })
    }
}

fn read_block(value: Value, path: &str) -> Result<BlockStorage, ObjectError> {
    let mut reader = ObjectReader::nested(value, path)?;
    let depth = reader.integer("depth")?;
    let base = match reader.optional_object("base")? {
        Some(fields) => Some(read_base(ObjectReader::of(fields, &reader.locate("base")))?),
        None => None,
    };
    Ok(BlockStorage {
        chain: reader.string("chain")?,
        raw: reader.integer("raw")?,
        stored: reader.integer("stored")?,
        depth: u32::try_from(depth).map_err(|_| reader.invalid("depth", "a 32-bit integer"))?,
        base,
        pack: reader.optional_digest("pack")?,
        params: reader.optional_object("params")?.unwrap_or_default(),
        extra: reader.unknown(),
    })
}

/// A base reference as JSON.
#[must_use]
pub fn base_value(base: &BaseRef) -> Value {
    let ranges = base.ranges.iter().map(|range| {
        let mut fields = Fields::new();
        if let Some(block) = &range.block {
            fields.insert("block".to_owned(), object::digest(block));
            fields.insert("start".to_owned(), Value::from(range.start));
        }
        fields.insert("len".to_owned(), Value::from(range.len));
        Value::Object(fields)
    });
    let mut fields = Fields::new();
    fields.insert("ranges".to_owned(), ranges.collect());
    if let Some(transpose) = &base.transpose {
        let mut matrix = Fields::new();
        matrix.insert("word".to_owned(), Value::from(transpose.word));
        matrix.insert("row".to_owned(), canonical::integer(transpose.row));
        matrix.insert("column".to_owned(), canonical::integer(transpose.column));
        matrix.insert("phase".to_owned(), canonical::integer(transpose.phase));
        fields.insert("transpose".to_owned(), Value::Object(matrix));
    }
    Value::Object(fields)
}

const BASE: &str = "a base reference within its limits";

/// Whether a base reference is one that its binary form could have.
fn is_possible(base: &BaseRef) -> bool {
    let ranges = base.ranges.iter().all(|range| {
        let end = u64::from(range.start) + u64::from(range.len);
        end <= MAX_BLOCK as u64 && (range.block.is_some() || range.start == 0)
    });
    let matrix = base.transpose.is_none_or(|t| matches!(t.word, 1 | 2 | 4 | 8) && t.row > 0 && t.column > 0);
    base.ranges.len() <= MAX_BASE_RANGES && ranges && matrix
}

/// Reads a base reference, under the limits of its binary form. All of its fields must be known: one that is not would change
/// what the base is.
fn read_base(mut reader: ObjectReader) -> Result<BaseRef, ObjectError> {
    let mut ranges = Vec::new();
    for (index, value) in reader.array("ranges")?.into_iter().enumerate() {
        let mut range = ObjectReader::nested(value, &reader.locate(&format!("ranges[{index}]")))?;
        let block = range.optional_digest("block")?;
        let start = if block.is_some() { range.integer("start")? } else { 0 };
        let len = range.integer("len")?;
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(len)) else {
            return Err(range.invalid("len", "a length within a block"));
        };
        ranges.push(BaseRange { block, start, len });
        range.finish()?;
    }
    let transpose = match reader.optional_object("transpose")? {
        None => None,
        Some(fields) => {
            let mut fields = ObjectReader::of(fields, &reader.locate("transpose"));
            let word = u8::try_from(fields.integer("word")?).map_err(|_| fields.invalid("word", "1, 2, 4 or 8"))?;
            let (row, column) = (fields.integer("row")?, fields.integer("column")?);
            let phase = fields.integer("phase")?;
            fields.finish()?;
            Some(Transpose { word, row, column, phase })
        }
    };
    let base = BaseRef { ranges, transpose };
    if !is_possible(&base) {
        return Err(reader.invalid("ranges", BASE));
    }
    reader.finish()?;
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_strict;
    use serde_json::json;
    use shard_core::sha256;

    fn fixed() -> StorageManifest {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let (first, second) = (sha256(b"first"), sha256(b"second"));
        let mut storage = StorageManifest::new(sha256(b"manifest"));
        storage.blocks.insert(
            first,
            BlockStorage {
                chain: "raw".to_owned(),
                raw: 10,
                stored: 12,
                depth: 0,
                base: None,
                pack: None,
                params: Fields::new(),
                extra: fields(json!({"later": [null]})),
            },
        );
        let ranges =
            vec![BaseRange { block: Some(first), start: 3, len: 7 }, BaseRange { block: None, start: 0, len: 5 }];
        let transpose = Some(Transpose { word: 4, row: 1 << 60, column: 1, phase: 0 });
        storage.blocks.insert(
            second,
            BlockStorage {
                chain: "parent+ulp+planes[rans,rans]".to_owned(),
                raw: 4 << 20,
                stored: 99,
                depth: 1,
                base: Some(BaseRef { ranges, transpose }),
                pack: Some(sha256(b"pack")),
                params: fields(json!({"context": 12})),
                extra: Fields::new(),
            },
        );
        storage
    }

    #[test]
    fn golden() {
        let storage = fixed();
        assert_eq!(storage.totals(), (10 + (4 << 20), 111));
        let bytes = storage.to_bytes().unwrap();
        assert_eq!(StorageManifest::from_bytes(&bytes), Ok(storage));
        assert_eq!(
            sha256(&bytes).to_hex(),
            "b76926db02cb11a223e2183086597730d69c70251deaf70c4aa4bf910deaa36b",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_strict(&bytes, |bytes| StorageManifest::from_bytes(bytes)?.to_bytes());
    }

    #[test]
    fn large_parameters_are_written_as_text() {
        let mut storage = fixed();
        if let Some(block) = storage.blocks.values_mut().next() {
            block.params.insert("seed".to_owned(), Value::from(u64::MAX));
        }
        let text = String::from_utf8(storage.to_bytes().unwrap()).unwrap();
        assert!(text.contains(r#""params":{"context":12,"seed":"18446744073709551615"}"#), "{text}");
    }

    #[test]
    fn impossible_bases_are_neither_written_nor_read() {
        let block = Some(sha256(b"first"));
        let range = |block, start, len| BaseRange { block, start, len };
        let transpose = |word, row| Some(Transpose { word, row, column: 1, phase: 0 });
        for (ranges, transpose) in [
            (vec![range(block, 1, MAX_BLOCK as u32)], None),
            (vec![range(None, 1, 1)], None),
            (vec![range(block, 0, 1); MAX_BASE_RANGES + 1], None),
            (vec![range(block, 0, 1)], transpose(3, 1)),
            (vec![range(block, 0, 1)], transpose(1, 0)),
        ] {
            let base = BaseRef { ranges, transpose };
            let mut storage = fixed();
            storage.blocks.values_mut().for_each(|block| block.base = Some(base.clone()));
            assert!(matches!(storage.to_bytes(), Err(ObjectError::Invalid { .. })), "{base:?}");
            // A hole has no start in JSON.
            let Value::Object(fields) = base_value(&base) else { panic!("an object") };
            let hole = base.ranges.iter().any(|range| range.block.is_none());
            assert_eq!(read_base(ObjectReader::of(fields, "")).is_err(), !hole, "{base:?}");
        }
    }
}
