//! Looking at how files are cut and stored.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use shard_codecs::Derived;
use shard_codecs::derive::Number;
use shard_core::{DType, Digest, Progress};
use shard_formats::FileSource;
use shard_manifest::{BlockStorage, ContentManifest, Fields, PlacedBlock, StorageManifest};
use shard_store::{EntryKey, EntryKind, EntrySource, PackId};

use crate::blocks::{BlockReader, block_key, read_in_order};
use crate::error::{RepoError, Result};
use crate::numeric::{Summary, TensorSums};
use crate::repository::Repository;
use crate::snapshot::{manifest_and_summaries, manifest_of};
use shard_core::limits::Cut;

/// A block of a file, as `chunk` shows it.
#[derive(Debug, Clone)]
pub struct ChunkLine {
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Its id.
    pub id: Digest,
    /// The tensor that it belongs to, where it belongs to one.
    pub tensor: Option<String>,
    /// The element type; `None` for opaque bytes.
    pub dtype: Option<DType>,
    /// Whether the repository has it.
    pub known: bool,
    /// Whether an earlier block of the same file has the same bytes.
    pub repeated: bool,
}

/// How a file is cut.
#[derive(Debug, Clone)]
pub struct ChunkReport {
    /// The format that the file was parsed as.
    pub format: String,
    /// Why a file that looked like a model is treated as opaque bytes.
    pub note: Option<String>,
    /// The file's length in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// The blocks, in file order.
    pub blocks: Vec<ChunkLine>,
}

/// The content manifest of a file, without storing anything, and why a file that looked like a model is treated as opaque
/// bytes.
///
/// # Errors
/// What cannot be read.
pub fn read_manifest(path: &Path, cut: Cut, progress: &dyn Progress) -> Result<(ContentManifest, Option<String>)> {
    let source = FileSource::open(path).map_err(RepoError::io("cannot open", path))?;
    let parsed = shard_formats::parse_file(path, &source).map_err(RepoError::io("cannot read", path))?;
    progress.begin("reading", Some(shard_formats::Source::len(&source)));
    let manifest = manifest_of(&source, path, &parsed.layout, cut, progress)?;
    progress.finish();
    Ok((manifest, parsed.note.map(|note| note.to_string())))
}

/// What [`describe`] says of a file.
#[derive(Debug)]
pub struct Description {
    /// Its content manifest.
    pub manifest: ContentManifest,
    /// What the values of each tensor are like, in the manifest's order; `None` for quantised types whose values shard does
    /// not know, and for some views where very many share bytes.
    pub summaries: Vec<Option<Summary>>,
    /// Why a file that looked like a model is treated as opaque bytes.
    pub note: Option<String>,
}

/// The content manifest of a file, without storing anything, and what the values of its tensors are like; the file is read once.
///
/// # Errors
/// What cannot be read.
pub fn describe(path: &Path, cut: Cut, progress: &dyn Progress) -> Result<Description> {
    let source = FileSource::open(path).map_err(RepoError::io("cannot open", path))?;
    let parsed = shard_formats::parse_file(path, &source).map_err(RepoError::io("cannot read", path))?;
    progress.begin("reading", Some(shard_formats::Source::len(&source)));
    let (manifest, summaries) = manifest_and_summaries(&source, path, &parsed.layout, cut, progress)?;
    progress.finish();
    Ok(Description { manifest, summaries, note: parsed.note.map(|note| note.to_string()) })
}

/// Cuts a file without storing anything, and says which blocks `known` has.
///
/// # Errors
/// What cannot be read.
pub fn chunk(path: &Path, cut: Cut, known: Option<&Repository>, progress: &dyn Progress) -> Result<ChunkReport> {
    let (manifest, note) = read_manifest(path, cut, progress)?;
    let mut names: Vec<Option<&str>> = vec![None; manifest.segments.len()];
    for tensor in &manifest.tensors {
        if let Some(name) = names.get_mut(tensor.segment) {
            name.get_or_insert(&tensor.name);
        }
    }
    let mut seen = HashSet::new();
    let mut blocks = Vec::new();
    for block in manifest.blocks() {
        let is_known = match known {
            Some(repository) => repository.store().locate(&block_key(block.span.id))?.is_some(),
            None => false,
        };
        blocks.push(ChunkLine {
            offset: block.file_offset,
            len: block.span.len,
            id: block.span.id,
            tensor: names.get(block.segment).copied().flatten().map(str::to_owned),
            dtype: block.dtype,
            known: is_known,
            repeated: !seen.insert(block.span.id),
        });
    }
    Ok(ChunkReport { format: manifest.format, note, size: manifest.size, sha256: manifest.sha256, blocks })
}

impl Repository {
    /// What the values of the tensors of a stored file are like, as in [`Description::summaries`]. Its blocks are decoded.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn summaries(&self, manifest: &ContentManifest, progress: &dyn Progress) -> Result<Vec<Option<Summary>>> {
        let store = self.store();
        let of_tensors: Vec<PlacedBlock> = manifest.blocks().filter(|block| block.dtype.is_some()).collect();
        progress.begin("reading", Some(of_tensors.iter().map(|block| u64::from(block.span.len)).sum()));
        let mut sums = TensorSums::new(&manifest.tensors);
        let ids: Vec<Digest> = of_tensors.iter().map(|block| block.span.id).collect();
        read_in_order(store, &ids, &mut |index, bytes| {
            if let Some(block) = of_tensors.get(index) {
                sums.update(block.segment, block.segment_offset, bytes);
            }
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        progress.finish();
        Ok(sums.finish())
    }

    /// How the blocks of a content manifest are stored now.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn storage(&self, id: Digest) -> Result<(Arc<ContentManifest>, StorageManifest)> {
        let manifest = self.manifest(id)?;
        let storage = storage_manifest(&self.store, id, &manifest)?;
        Ok((manifest, storage))
    }

    /// Stored bytes of an entry; `None` where it is not here.
    ///
    /// # Errors
    /// What the store says.
    pub fn stored_len(&self, kind: EntryKind, id: Digest) -> Result<Option<u64>> {
        Ok(self.store.locate(&EntryKey { kind, id })?.map(|location| location.stored_len))
    }
}

/// How the blocks of a manifest are stored, from their headers.
pub(crate) fn storage_manifest(
    source: &dyn EntrySource,
    id: Digest,
    manifest: &ContentManifest,
) -> Result<StorageManifest> {
    let mut reader = BlockReader::new(source);
    let mut storage = StorageManifest::new(id);
    for block in manifest.blocks() {
        if storage.blocks.contains_key(&block.span.id) {
            continue;
        }
        let (header, location) = reader.header(&block_key(block.span.id))?;
        let pack = match location.pack {
            PackId::Sealed(pack) => Some(pack),
            PackId::Pending(_) | PackId::Archive => None,
        };
        let stored = BlockStorage {
            chain: header.chain_name(),
            raw: location.raw_len,
            stored: location.stored_len,
            depth: location.depth,
            base: header.base,
            pack,
            params: header.derived.as_ref().map(numbers).unwrap_or_default(),
            extra: Default::default(),
        };
        storage.blocks.insert(block.span.id, stored);
    }
    Ok(storage)
}

/// The numbers of a derivation, as a storage manifest has them.
fn numbers(derived: &Derived) -> Fields {
    let value = |(form, number): (Number, u64)| match form {
        Number::Factor => Value::from(f64::from_bits(number)),
        Number::DType => {
            let dtype = u8::try_from(number).ok().and_then(DType::from_wire_id);
            dtype.map_or(Value::Null, |dtype| dtype.name().into())
        }
        Number::UpTo(_) => number.into(),
    };
    let mut fields = Fields::new();
    fields.insert(derived.name().to_owned(), derived.numbers().map(value).collect());
    fields
}
