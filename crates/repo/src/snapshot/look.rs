//! A file's manifest without storing anything: cut and hashed, and its values summed up where that is wanted.

use std::path::Path;

use shard_codecs::kernel::sha256_pair;
use shard_core::limits::Cut;
use shard_core::{Digest, Layout, Progress, sha256};
use shard_formats::Source;
use shard_formats::compress::Expanded;
use shard_formats::cut::Cutter;
use shard_manifest::ContentManifest;

use super::file_hash::{FileHash, cannot_read, repeatable};
use super::{Builder, Slot};
use crate::error::Result;
use crate::numeric::{Summary, TensorSums};

/// Bytes of blocks that are worked on together.
const BATCH: usize = 8 << 20;

/// Most blocks of them.
const BATCH_BLOCKS: usize = 4096;

/// The content manifest of a file.
pub(crate) fn manifest_of(
    source: &dyn Source,
    path: &Path,
    layout: &Layout,
    cut: Cut,
    progress: &dyn Progress,
) -> Result<ContentManifest> {
    repeatable(layout, |layout| look(source, path, layout, cut, None, progress))
}

/// The same, and what the values of each tensor are like.
pub(crate) fn manifest_and_summaries(
    source: &dyn Source,
    path: &Path,
    layout: &Layout,
    cut: Cut,
    progress: &dyn Progress,
) -> Result<(ContentManifest, Vec<Option<Summary>>)> {
    repeatable(layout, |layout| {
        let mut sums = TensorSums::new(&layout.tensors);
        let manifest = look(source, path, layout, cut, Some(&mut sums), progress)?;
        Ok((manifest, sums.finish()))
    })
}

/// Blocks in file order; buffers are used again.
#[derive(Default)]
struct Batch {
    slots: Vec<Slot>,
    /// Of the slots, how many hold a block.
    filled: usize,
}

impl Batch {
    fn blocks(&self) -> &[Slot] {
        self.slots.get(..self.filled).unwrap_or_default()
    }

    fn fill(&mut self, cutter: &mut Cutter<'_>, path: &Path) -> Result<()> {
        let mut bytes = 0;
        self.filled = 0;
        while bytes < BATCH && self.filled < BATCH_BLOCKS {
            if self.filled == self.slots.len() {
                self.slots.push(Slot::default());
            }
            let Some(slot) = self.slots.get_mut(self.filled) else { break };
            let Some(at) = cutter.next(&mut slot.data).map_err(|error| cannot_read(error, path))? else { break };
            (slot.segment, slot.offset) = (at.segment, at.offset);
            bytes += at.len;
            self.filled += 1;
        }
        Ok(())
    }

    /// The blocks' ids; those of neighbours of one length are taken together.
    fn ids(&self) -> Vec<Digest> {
        let mut ids = Vec::with_capacity(self.filled);
        for pair in self.blocks().chunks(2) {
            match pair {
                [a, b] if a.data.len() == b.data.len() => ids.extend(sha256_pair(&a.data, &b.data)),
                other => ids.extend(other.iter().map(|slot| sha256(&slot.data))),
            }
        }
        ids
    }
}

/// One pass over the file: while one batch is hashed, twice, and summed up, the next one is read.
fn look(
    source: &dyn Source,
    path: &Path,
    layout: &Layout,
    cut: Cut,
    mut sums: Option<&mut TensorSums>,
    progress: &dyn Progress,
) -> Result<ContentManifest> {
    let expanded = Expanded::new(source, layout);
    let mut cutter = Cutter::new(&expanded, layout, cut);
    let mut builder = Builder::new(source.len(), layout, cut, None);
    let mut file_hash = FileHash::new(source, layout, path);
    let (mut batch, mut next) = (Batch::default(), Batch::default());
    batch.fill(&mut cutter, path)?;
    while batch.filled > 0 {
        let hash_file = || batch.blocks().iter().try_for_each(|slot| file_hash.update(&slot.data));
        let sum_up = || {
            if let Some(sums) = &mut sums {
                batch.blocks().iter().for_each(|slot| sums.update(slot.segment, slot.offset, &slot.data));
            }
        };
        let rest = || rayon::join(sum_up, || next.fill(&mut cutter, path)).1;
        let (hashed, (ids, read)) = rayon::join(hash_file, || rayon::join(|| batch.ids(), rest));
        hashed?;
        for (slot, id) in batch.blocks().iter().zip(ids) {
            builder.add(slot, id);
            progress.advance(slot.data.len() as u64);
        }
        read?;
        std::mem::swap(&mut batch, &mut next);
    }
    Ok(builder.finish(file_hash.finish()).0)
}
