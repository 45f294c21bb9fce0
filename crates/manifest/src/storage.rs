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
        let bytes = object::seal(writer.into_fields(), KIND, VERSION)?;
        // Bases are checked by one piece of code, the reader's.
        if self.blocks.values().any(|block| block.base.is_some()) {
            Self::from_bytes(&bytes)?;
        }
        Ok(bytes)
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

/// Reads a base reference, under the limits of its binary form. All of its fields must be known: one that is not would change
/// what the base is.
fn read_base(mut reader: ObjectReader) -> Result<BaseRef, ObjectError> {
    let values = reader.array("ranges")?;
    if values.len() > MAX_BASE_RANGES {
        return Err(reader.invalid("ranges", "an array within the limit of base ranges"));
    }
    let mut ranges = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let mut range = ObjectReader::nested(value, &reader.locate(&format!("ranges[{index}]")))?;
        let block = range.optional_digest("block")?;
        let start = if block.is_some() { range.integer("start")? } else { 0 };
        let len = range.integer("len")?;
        match (u32::try_from(start), u32::try_from(len)) {
            (Ok(start), Ok(len)) if u64::from(start) + u64::from(len) <= MAX_BLOCK as u64 => {
                ranges.push(BaseRange { block, start, len });
            }
            _ => return Err(range.invalid("len", "a length within a block")),
        }
        range.finish()?;
    }
    let transpose = match reader.optional_object("transpose")? {
        None => None,
        Some(fields) => {
            let mut fields = ObjectReader::of(fields, &reader.locate("transpose"));
            let word = match fields.integer("word")? {
                word @ (1 | 2 | 4 | 8) => word as u8,
                _ => return Err(fields.invalid("word", "1, 2, 4 or 8")),
            };
            let (row, column) = (fields.integer("row")?, fields.integer("column")?);
            if row == 0 || column == 0 {
                return Err(fields.invalid("row", "a matrix with elements"));
            }
            let phase = fields.integer("phase")?;
            fields.finish()?;
            Some(Transpose { word, row, column, phase })
        }
    };
    reader.finish()?;
    Ok(BaseRef { ranges, transpose })
}
