//! Relatives of a new file among all that is stored, by sketches alone: nothing of them is read but a few kilobytes each of
//! those that are likely.
//!
//! A sketch has values at fixed places of the largest tensors. Hashes of a few of them are keys of the index of sketches; files
//! that share rare keys with the new one are compared with it, value by value. What is found is a guess: it says where to
//! look for bases first.

mod compare;
mod keys;
mod sample;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use shard_core::{Digest, Layout};
use shard_formats::Source;
use shard_formats::compress::Expanded;
use shard_manifest::{Sketch, SketchedTensor};
use shard_store::{EntryKey, EntryKind, EntrySource, Known, Location, SketchKeys, StoreError, Transaction};

use crate::error::Result;
use crate::objects::Objects;
use crate::snapshot::put_object;
use compare::Subject;
use keys::keys;
use sample::{Order, sample};

/// Most sketches that are read to be compared with a new file's. Each takes less than a tenth of a millisecond.
const COMPARED: usize = 16;

/// Most sketches that are looked for until as many were compared: those that are gone are forgotten on the way, and are not met
/// again.
const LOOKED_AT: usize = 256;

/// Most relatives that are given.
const RELATIVES: usize = 8;

/// Sketches whose keys are added at once.
const BATCH: usize = 512;

/// How near is near: equal positional tables and the like are no reason to prefer a file.
const LEAST: f64 = 0.1;

/// The likeliest relative by other signs comes first where its distance is at most so many times the least, and this more.
const AS_NEAR: (f64, f64) = (1.125, 0.005);

/// A stored file that a new one is related to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relative {
    /// Its content manifest.
    pub manifest: Digest,
    /// By how much the sampled values agree beyond chance, those of large tensors counting more: above 0, and 1 where all are
    /// equal.
    pub nearness: f64,
}

/// What is known of a new file: its relatives, and the sample that it is remembered by.
#[derive(Debug, Default)]
pub struct Found {
    /// Its relatives, nearest first; of equally near ones first those that were remembered last.
    pub relatives: Vec<Relative>,
    /// By ascending segment.
    sample: Vec<SketchedTensor>,
}

/// Finds relatives of new files, and remembers these for the next ones.
pub struct Finder<'a> {
    transaction: &'a Transaction,
    look: OneLook<'a>,
}

impl<'a> Finder<'a> {
    /// A finder among what the store of a transaction has, and what the transaction itself has written.
    #[must_use]
    pub fn new(transaction: &'a Transaction) -> Self {
        Self { transaction, look: OneLook(transaction) }
    }

    /// Samples a file at `path` with this layout, without looking for relatives.
    ///
    /// # Errors
    /// What reading the file says.
    pub fn sample(&self, source: &dyn Source, layout: &Layout, path: &Path) -> Result<Found> {
        let sample = sample(&Expanded::new(source, layout), layout, source.len(), Order::AsStored, path)?;
        Ok(Found { relatives: Vec::new(), sample })
    }

    /// Samples a file at `path` with this layout, and looks for its relatives. The manifest that is `likely` by other signs comes
    /// first if it is hardly farther than the nearest.
    ///
    /// # Errors
    /// What reading the file, or the index of sketches, says. What is damaged or gone is no relative.
    pub fn find(&self, source: &dyn Source, layout: &Layout, path: &Path, likely: Option<Digest>) -> Result<Found> {
        let mut found = self.sample(source, layout, path)?;
        if found.sample.is_empty() {
            return Ok(found);
        }
        self.catch_up()?;
        found.relatives = self.related(&found.sample, likely)?;
        if found.relatives.is_empty() {
            // Some formats have matrices the other way round.
            let sample = sample(&Expanded::new(source, layout), layout, source.len(), Order::Transposed, path)?;
            if !sample.is_empty() {
                found.relatives = self.related(&sample, likely)?;
            }
        }
        Ok(found)
    }

    /// The relatives of a file that is stored, by its sketch; none where it has none. It is not its own relative.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn relatives_of(&self, manifest: Digest) -> Result<Vec<Relative>> {
        self.catch_up()?;
        let Some(known) = self.transaction.store().sketches().of_manifest(&manifest)? else { return Ok(Vec::new()) };
        let Some(sketch) = self.read(&mut Objects::new(&self.look), known.sketch)? else { return Ok(Vec::new()) };
        let mut relatives = self.related(&sketch.tensors, None)?;
        relatives.retain(|relative| relative.manifest != manifest);
        Ok(relatives)
    }

    /// Stores the sketch of a file that was found or sampled, now that its manifest is known, unless that has one. Files that are
    /// small, or whose values say nothing, get none.
    ///
    /// # Errors
    /// What the store says. An index that cannot be written is no error: it catches up later.
    pub fn remember(&self, found: Found, manifest: Digest) -> Result<()> {
        let index = self.transaction.store().sketches();
        if found.sample.is_empty() {
            return Ok(());
        }
        if let Some(known) = index.of_manifest(&manifest)?
            && self.transaction.locate(&EntryKey::new(EntryKind::Sketch, known.sketch))?.is_some()
        {
            return Ok(());
        }
        let sketch = Sketch { manifest, tensors: found.sample };
        let id = put_object(self.transaction, EntryKind::Sketch, &sketch.to_bytes())?;
        index.add(&[SketchKeys { sketch: id, manifest, keys: keys(&sketch.tensors) }])?;
        Ok(())
    }

    /// Adds the keys of sketches that others wrote, or that a new index does not know yet.
    fn catch_up(&self) -> Result<()> {
        let index = self.transaction.store().sketches();
        let mut objects = Objects::new(&self.look);
        loop {
            let missing = index.missing(BATCH)?;
            if missing.is_empty() {
                return Ok(());
            }
            let mut new = Vec::with_capacity(missing.len());
            let mut is_written = true;
            for id in missing {
                match self.read(&mut objects, id)? {
                    Some(sketch) => {
                        let keys = keys(&sketch.tensors);
                        new.push(SketchKeys { sketch: id, manifest: sketch.manifest, keys });
                    }
                    None => is_written &= index.forget(&id)?,
                }
            }
            if !(index.add(&new)? && is_written) {
                return Ok(());
            }
        }
    }

    /// A sketch that is stored; `None` where it is damaged or gone.
    fn read(&self, objects: &mut Objects<'_>, id: Digest) -> Result<Option<Sketch>> {
        match objects.bytes(EntryKind::Sketch, id) {
            Ok(bytes) => Ok(Sketch::from_bytes(bytes).ok()),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stored files whose sketches agree with a sample beyond chance.
    fn related(&self, sample: &[SketchedTensor], likely: Option<Digest>) -> Result<Vec<Relative>> {
        let index = self.transaction.store().sketches();
        let mut votes: HashMap<u64, f64> = HashMap::new();
        for numbers in index.find(&keys(sample))? {
            // The fewer share a key, the more it says.
            let vote = 1.0 / numbers.len() as f64;
            numbers.into_iter().for_each(|number| *votes.entry(number).or_default() += vote);
        }
        let mut votes: Vec<(u64, f64)> = votes.into_iter().collect();
        votes.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
        let subject = Subject::new(sample);
        let mut objects = Objects::new(&self.look);
        let (mut compared, mut related) = (Vec::with_capacity(COMPARED + 1), Vec::new());
        let mut compare = |known: Known, compared: &mut Vec<Digest>| -> Result<()> {
            let Some(sketch) = self.read(&mut objects, known.sketch)? else {
                index.forget(&known.sketch)?;
                return Ok(());
            };
            compared.push(known.manifest);
            let nearness = subject.nearness(&sketch.tensors).filter(|nearness| *nearness >= LEAST);
            related.extend(nearness.map(|nearness| (known, nearness)));
            Ok(())
        };
        // Those whose entries are gone take no one's place.
        for (number, _) in votes.into_iter().take(LOOKED_AT) {
            if let Some(known) = index.get(number)? {
                compare(known, &mut compared)?;
            }
            if compared.len() == COMPARED {
                break;
            }
        }
        if let Some(likely) = likely.filter(|likely| !compared.contains(likely))
            && let Some(known) = index.of_manifest(&likely)?
        {
            compare(known, &mut compared)?;
        }
        related.sort_by(|a, b| b.1.total_cmp(&a.1).then(Reverse(a.0.number).cmp(&Reverse(b.0.number))));
        if let Some(&(_, nearest)) = related.first()
            && let Some(at) = related.iter().position(|(known, _)| Some(known.manifest) == likely)
            && related.get(at).is_some_and(|(_, it)| 1.0 - it <= (1.0 - nearest) * AS_NEAR.0 + AS_NEAR.1)
        {
            related[..=at].rotate_right(1);
        }
        related.truncate(RELATIVES);
        Ok(related.into_iter().map(|(known, nearness)| Relative { manifest: known.manifest, nearness }).collect())
    }
}

/// The sketch of a file at `path` with this layout, as `add` stores it for the manifest; `None` where it gets none.
///
/// # Errors
/// What reading the file says.
pub fn sketch_of(source: &dyn Source, layout: &Layout, path: &Path, manifest: Digest) -> Result<Option<Sketch>> {
    let tensors = sample(&Expanded::new(source, layout), layout, source.len(), Order::AsStored, path)?;
    Ok((!tensors.is_empty()).then_some(Sketch { manifest, tensors }))
}

/// Entries read without a second try: a sketch that is damaged or gone is no reason to rebuild the index.
struct OneLook<'a>(&'a Transaction);

impl EntrySource for OneLook<'_> {
    fn locate(&self, key: &EntryKey) -> std::result::Result<Option<Location>, StoreError> {
        self.0.locate(key)
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> std::result::Result<(), StoreError> {
        self.0.read_stored(location, out)
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use shard_core::limits::Cut;
    use shard_core::sha256;
    use shard_manifest::sketch::SKETCH_WORDS;
    use shard_store::Store;

    use super::*;

    #[test]
    fn sketches_that_are_gone_do_not_hide_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::init(folder.path(), Cut::TEST).unwrap();
        let transaction = store.begin("test").unwrap();
        let words = std::array::from_fn::<u16, SKETCH_WORDS, _>(|i| {
            bf16::from_f32((i as f32 * 0.7).sin() * (1.0 + i as f32)).to_bits()
        });
        let sample = vec![SketchedTensor { segment: 0, elements: 1 << 20, words }];
        let finder = Finder::new(&transaction);
        let there = sha256(b"there");
        finder.remember(Found { relatives: Vec::new(), sample: sample.clone() }, there).unwrap();
        // Their entries were never written, and they are newer.
        let gone: Vec<SketchKeys> = (0u8..40)
            .map(|n| SketchKeys { sketch: sha256(&[n]), manifest: sha256(&[n, 0]), keys: keys(&sample) })
            .collect();
        assert!(store.sketches().add(&gone).unwrap());
        let found = finder.related(&sample, None).unwrap();
        assert_eq!(found.iter().map(|relative| relative.manifest).collect::<Vec<_>>(), [there]);
        assert_eq!(store.sketches().of_manifest(&gone[39].manifest).unwrap(), None, "it was forgotten");
    }
}
