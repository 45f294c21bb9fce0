//! What derivations save on files of the user's: the files are kept as an archive keeps them, and once more without derivations.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_core::limits::Cut;
use shard_core::{Digest, NoProgress, Progress};
use shard_formats::FileSource;
use shard_manifest::ContentManifest;
use shard_store::{ArchiveWriter, EntrySource};

use crate::base_chain::ChainLimits;
use crate::blocks::{BlockReader, block_key};
use crate::error::{RepoError, Result};
use crate::parent::MAX_CANDIDATES;
use crate::repository::Settings;
use crate::snapshot::{FileBatch, Input, SnapshotOptions, keep_file};

/// What one derivation does for the files of a series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DerivationFigures {
    /// Tensors with blocks that are computed so.
    pub tensors: u64,
    /// These blocks.
    pub blocks: u64,
    /// Their bytes.
    pub raw: u64,
    /// Their stored bytes, and those of factors and scales that were stored for them alone.
    pub stored: u64,
    /// Bytes that the same blocks take without derivations: on a base of their type where there is one, else alone.
    pub without: u64,
    /// The time it takes to decode them, with all that they lean on and without proving them: of each block the median.
    pub decode: Duration,
}

/// A series that is kept in a file without a name, until this is dropped.
struct KeptSeries {
    writer: ArchiveWriter,
    manifests: Vec<Arc<ContentManifest>>,
}

impl KeptSeries {
    fn new(files: &[PathBuf], settings: Settings, chains: ChainLimits, progress: &dyn Progress) -> Result<Self> {
        // Never finished, so nothing is ever there under that name.
        let writer = ArchiveWriter::create(&env::temp_dir().join("shard-bench"))?;
        let options = SnapshotOptions::new(Cut::V1, settings, chains);
        let (mut batch, mut manifests) = (FileBatch::default(), Vec::<Arc<ContentManifest>>::new());
        for path in files {
            let source = FileSource::open(path).map_err(RepoError::io("cannot read", path))?;
            let models = manifests.iter().rev().filter(|manifest| !manifest.tensors.is_empty());
            let earlier: Vec<_> = models.take(MAX_CANDIDATES).map(Arc::clone).collect();
            let kept = keep_file(
                Input { source: &source, path, layout: None, mark: None },
                |_| Ok(earlier.into()),
                &mut batch,
                &writer,
                options,
                progress,
            )?;
            manifests.push(Arc::new(kept.manifest));
        }
        Ok(Self { writer, manifests })
    }

    fn stored_len(&self, id: Digest) -> Result<u64> {
        let key = block_key(id);
        Ok(self.writer.locate(&key)?.ok_or(RepoError::Missing { key })?.stored_len)
    }
}

/// Keeps files in the order of a series as [`crate::pack`] does, in a temporary file, and gives what each derivation does for those
/// from index `first` on, by its name. Blocks are decoded `rounds` times.
///
/// # Errors
/// A file that cannot be read or that changes meanwhile, or what the file system says of temporary files.
pub fn measure_derivations(
    files: &[PathBuf],
    first: usize,
    rounds: usize,
    settings: Settings,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, DerivationFigures>> {
    let chains = ChainLimits::of_level(settings.level);
    let kept = KeptSeries::new(files, settings, chains, progress)?;
    let mut found = BTreeMap::<String, DerivationFigures>::new();
    let mut plain = None;
    let mut reader = BlockReader::new(&kept.writer);
    let of_files: HashSet<Digest> =
        kept.manifests.iter().flat_map(|manifest| manifest.blocks().map(|block| block.span.id)).collect();
    let (mut seen, mut made) = (HashSet::new(), HashSet::new());
    let mut bytes = Vec::new();
    for (index, manifest) in kept.manifests.iter().enumerate() {
        let mut counted = HashSet::new();
        for block in manifest.blocks().filter(|block| seen.insert(block.span.id)) {
            let key = block_key(block.span.id);
            let (header, location) = reader.header(&key)?;
            let Some(derived) = header.derived.filter(|_| index >= first) else { continue };
            let plain = match &plain {
                Some(plain) => plain,
                None => plain.insert(KeptSeries::new(files, settings, chains.without_derivations(), &NoProgress)?),
            };
            let bases = header.base.map(|base| base.blocks()).unwrap_or_default();
            let own = bases.into_iter().filter(|base| !of_files.contains(base) && made.insert(*base));
            let figures = found.entry(derived.name().to_owned()).or_default();
            figures.tensors += u64::from(counted.insert((block.segment, derived.name())));
            figures.blocks += 1;
            figures.raw += location.raw_len;
            figures.stored += location.stored_len;
            for base in own {
                figures.stored += kept.stored_len(base)?;
            }
            figures.without += plain.stored_len(block.span.id)?;
            reader.read(&key, &mut bytes)?;
            let mut times = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                let start = Instant::now();
                reader.look_at(&key, &mut bytes)?;
                times.push(start.elapsed());
            }
            times.sort_unstable();
            figures.decode += times.get(times.len() / 2).copied().unwrap_or_default();
        }
    }
    Ok(found)
}
