//! The index of sketches: which sketched files share a key, so that the relatives of a new file are found among all of them by
//! a few look-ups.
//!
//! Keys are 64-bit hashes, and the caller's: the index only compares them. A sketch whose entry becomes known waits in a queue
//! until its keys are added; that it does is up to a trigger on the table of entries, so that a new clone, a rebuilt index and
//! what other processes wrote need no code of their own.

use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, params};
use shard_core::Digest;

use crate::error::StoreError;
use crate::store::Store;

/// Numbers of sketches are never used twice: postings of one that was forgotten lead nowhere.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE sketch (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, manifest BLOB NOT NULL);
    CREATE INDEX sketch_manifest ON sketch (manifest);
    CREATE TABLE posting (key INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, number)) WITHOUT ROWID;
    CREATE TABLE unsketched (id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TRIGGER sketch_arrived AFTER INSERT ON entry
        WHEN NEW.kind = 8 AND NOT EXISTS (SELECT 1 FROM sketch WHERE id = NEW.id)
        BEGIN INSERT OR IGNORE INTO unsketched VALUES (NEW.id); END;
";

/// Most sketches that one key finds: one that more have says nearly nothing.
pub const MAX_FOUND: usize = 64;

/// A sketch and the keys that it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchKeys {
    /// The id of the sketch's entry.
    pub sketch: Digest,
    /// The content manifest that it is of.
    pub manifest: Digest,
    /// The keys.
    pub keys: Vec<u64>,
}

/// A sketch of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its number: those that were added later have higher ones.
    pub number: u64,
    /// The id of its entry.
    pub sketch: Digest,
    /// The content manifest that it is of.
    pub manifest: Digest,
}

/// The index of a repository's sketches.
pub struct SketchIndex<'a> {
    store: &'a Store,
}

impl<'a> SketchIndex<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Adds sketches, at once, or does not, where the index cannot be written; says which. Those that are known stay as they
    /// are. An entry need not be durable: should it never be, whoever finds it forgets it.
    ///
    /// # Errors
    /// What keeps a damaged index from being rebuilt.
    pub fn add(&self, sketches: &[SketchKeys]) -> Result<bool, StoreError> {
        let added = self.store.with_index(|index| {
            let tx = index.db().transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut postings = Vec::new();
            for SketchKeys { sketch, manifest, keys } in sketches {
                tx.prepare_cached("DELETE FROM unsketched WHERE id = ?1")?.execute(params![sketch.0])?;
                let new = tx.prepare_cached("INSERT OR IGNORE INTO sketch (id, manifest) VALUES (?1, ?2)")?;
                if { new }.execute(params![sketch.0, manifest.0])? > 0 {
                    let number = tx.last_insert_rowid();
                    postings.extend(keys.iter().map(|key| (key.cast_signed(), number)));
                }
            }
            // In the table's order, so that each page is met once.
            postings.sort_unstable();
            let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO posting VALUES (?1, ?2)")?;
            for (key, number) in postings {
                insert.execute(params![key, number])?;
            }
            drop(insert);
            tx.commit()?;
            Ok(())
        });
        match added {
            Ok(()) => Ok(true),
            Err(StoreError::Index(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// For each key the numbers of the newest sketches that have it, at most [`MAX_FOUND`], newest first. Those that were forgotten
    /// do not count.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn find(&self, keys: &[u64]) -> Result<Vec<Vec<u64>>, StoreError> {
        self.store.with_index(|index| {
            // One view of the index for all look-ups, and one lock.
            let tx = index.db().transaction()?;
            // Postings stay when a sketch is forgotten. CROSS keeps the order: postings by their key, newest first, and for each a
            // look-up of its sketch by number.
            let mut query = tx.prepare_cached(
                "SELECT p.number FROM posting p CROSS JOIN sketch s ON s.number = p.number
                 WHERE p.key = ?1 ORDER BY p.number DESC LIMIT ?2",
            )?;
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                let numbers = query.query_map(params![key.cast_signed(), MAX_FOUND as i64], |row| number(row, 0))?;
                found.push(numbers.collect::<Result<_, _>>()?);
            }
            Ok(found)
        })
    }

    /// The sketch with a number; `None` where it was forgotten, as it may be after [`Self::find`] gave its number.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn get(&self, number: u64) -> Result<Option<Known>, StoreError> {
        self.store.with_index(|index| {
            let mut query = index.db().prepare_cached("SELECT number, id, manifest FROM sketch WHERE number = ?1")?;
            Ok(query.query_row(params![number.cast_signed()], known).optional()?)
        })
    }

    /// The newest sketch of a manifest.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn of_manifest(&self, manifest: &Digest) -> Result<Option<Known>, StoreError> {
        self.store.with_index(|index| {
            let mut query = index.db().prepare_cached(
                "SELECT number, id, manifest FROM sketch WHERE manifest = ?1 ORDER BY number DESC LIMIT 1",
            )?;
            Ok(query.query_row(params![manifest.0], known).optional()?)
        })
    }

    /// Up to `limit` sketches whose entries are here and whose keys were not added yet.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn missing(&self, limit: usize) -> Result<Vec<Digest>, StoreError> {
        self.store.with_index(|index| {
            let mut query = index.db().prepare_cached("SELECT id FROM unsketched LIMIT ?1")?;
            let rows = query.query_map(params![limit as i64], |row| row.get(0).map(Digest))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Stops finding a sketch, and waiting for its keys, or does not, where the index cannot be written; says which. Should its
    /// entry be written again, it waits again.
    ///
    /// # Errors
    /// What keeps a damaged index from being rebuilt.
    pub fn forget(&self, sketch: &Digest) -> Result<bool, StoreError> {
        let forgotten = self.store.with_index(|index| {
            let tx = index.db().transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute("DELETE FROM unsketched WHERE id = ?1", params![sketch.0])?;
            tx.execute("DELETE FROM sketch WHERE id = ?1", params![sketch.0])?;
            tx.commit()?;
            Ok(())
        });
        match forgotten {
            Ok(()) => Ok(true),
            Err(StoreError::Index(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Forgets the sketches whose entries are gone. Those of entries that are about to come wait for their keys again.
pub(crate) fn forget_gone(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in ["sketch", "unsketched"] {
        let is_gone = "NOT EXISTS (SELECT 1 FROM entry e WHERE e.kind = 8 AND e.id";
        tx.execute(&format!("DELETE FROM {table} WHERE {is_gone} = {table}.id)"), [])?;
    }
    tx.execute("DELETE FROM posting WHERE number NOT IN (SELECT number FROM sketch)", [])?;
    Ok(())
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known { number: number(row, 0)?, sketch: Digest(row.get(1)?), manifest: Digest(row.get(2)?) })
}

#[cfg(test)]
mod tests {
    use shard_core::limits::Cut;
    use shard_core::sha256;

    use super::*;
    use crate::entry::{EntryKey, EntryKind, EntrySink};

    fn id(n: u64) -> Digest {
        sha256(&n.to_le_bytes())
    }

    fn sketch(n: u64, keys: &[u64]) -> SketchKeys {
        SketchKeys { sketch: id(n), manifest: id(1000 + n), keys: keys.to_vec() }
    }

    #[test]
    fn the_newest_sketches_of_a_key_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::init(folder.path(), Cut::TEST).unwrap();
        let index = store.sketches();
        for n in 0..100 {
            assert!(index.add(&[sketch(n, &[7, u64::MAX - n])]).unwrap());
        }
        let found = index.find(&[7, u64::MAX - 3, 5]).unwrap();
        assert_eq!(found[0].len(), MAX_FOUND);
        assert!(found[0].is_sorted_by(|a, b| a > b));
        assert_eq!((found[1].len(), found[2].len()), (1, 0));
        let known = index.get(found[1][0]).unwrap().unwrap();
        assert_eq!((known.sketch, known.manifest), (id(3), id(1003)));
        assert_eq!(index.of_manifest(&id(1003)).unwrap(), Some(known));
        // Known already.
        assert!(index.add(&[sketch(3, &[5])]).unwrap());
        assert_eq!(index.find(&[5]).unwrap(), [[]]);
        assert!(index.forget(&id(3)).unwrap());
        assert_eq!(index.get(known.number).unwrap(), None);
        // Its number is not used again.
        index.forget(&id(99)).unwrap();
        index.add(&[sketch(99, &[])]).unwrap();
        assert!(index.of_manifest(&id(1099)).unwrap().unwrap().number > found[0][0]);
    }

    #[test]
    fn forgotten_sketches_do_not_hide_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::init(folder.path(), Cut::TEST).unwrap();
        let index = store.sketches();
        let all: Vec<SketchKeys> = (0..=MAX_FOUND as u64).map(|n| sketch(n, &[7])).collect();
        assert!(index.add(&all).unwrap());
        for forgotten in &all[1..] {
            assert!(index.forget(&forgotten.sketch).unwrap());
        }
        let left = index.of_manifest(&id(1000)).unwrap().unwrap();
        assert_eq!(index.find(&[7]).unwrap(), [[left.number]]);
    }

    #[test]
    fn what_is_written_waits_for_its_keys_unless_it_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::init(folder.path(), Cut::TEST).unwrap();
        let write = |n: u64, kind| {
            let transaction = store.begin("test").unwrap();
            transaction.put(&EntryKey::new(kind, id(n)), b"bytes", 5, &[]).unwrap();
            transaction.seal().unwrap();
        };
        write(1, EntryKind::Sketch);
        write(1, EntryKind::Manifest);
        assert_eq!(store.sketches().missing(9).unwrap(), [id(1)]);
        store.sketches().add(&[sketch(1, &[1]), sketch(2, &[1])]).unwrap();
        write(2, EntryKind::Sketch);
        assert_eq!(store.sketches().missing(9).unwrap(), []);
        // A rebuilt index, and another process that opens the repository with none.
        store.reindex().unwrap();
        assert_eq!(store.sketches().missing(9).unwrap().len(), 2);
        assert_eq!(store.sketches().missing(1).unwrap().len(), 1);
        assert!(store.sketches().find(&[1]).unwrap()[0].is_empty());
        drop(store);
        std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.sketches().missing(9).unwrap().len(), 2);
        store.sketches().forget(&id(1)).unwrap();
        assert_eq!(store.sketches().missing(9).unwrap(), [id(2)]);
    }
}
