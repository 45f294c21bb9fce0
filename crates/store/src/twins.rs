//! The cache of Git twins: what Git would call the same objects. It can be deleted at any time: whoever misses one computes it
//! from the objects. Each row carries a checksum, since nothing else tells that one went bad.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use shard_core::Digest;

use crate::database::give_room_back;
use crate::entry::{EntryKey, EntryKind};
use crate::error::StoreError;
use crate::nonce::Nonce;
use crate::record::{MAX_RECORD, RecordError, RecordReader, RecordWriter};
use crate::store::Store;

/// The record of what a repository chose about its twins. There is none where it chose nothing.
const FILE: &str = "twins";
const KIND: &str = "twins";
const VERSION: u32 = 1;

/// The cache, in the repository's directory.
const CACHE: &str = "cache/twins.db";

const APPLICATION_ID: i64 = 0x7368_7477;
const SCHEMA_VERSION: i64 = 2;
const SCHEMA: &str = "
    CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), repository BLOB NOT NULL, threshold INTEGER NOT NULL);
    CREATE TABLE twin (
        kind INTEGER NOT NULL, id BLOB NOT NULL, git BLOB NOT NULL, checksum INTEGER NOT NULL,
        PRIMARY KEY (kind, id)) WITHOUT ROWID;
    CREATE INDEX named ON twin (git) WHERE kind = 4;
";

/// The SHA-1 that Git would give an object.
pub type Twin = [u8; 20];

/// Twins of trees, commits and the contents of files, by (kind, id); a content has the kind of a block and the file's SHA-256.
/// Nothing here fails: where the cache cannot be used, it knows nothing.
pub struct TwinCache(Mutex<Option<Connection>>);

fn checksum(key: &EntryKey, twin: &Twin) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&[key.kind as u8]);
    hash.update(&key.id.0);
    hash.update(twin);
    hash.finalize()
}

impl TwinCache {
    /// Opens the cache in a file, or in memory without one. One that is another's, of another version or damaged is replaced.
    pub(crate) fn open(path: Option<PathBuf>, repository: Nonce, threshold: u64) -> Self {
        let threshold = i64::try_from(threshold).unwrap_or(i64::MAX);
        let db = match path {
            None => Connection::open_in_memory().and_then(|db| prepare(db, repository, threshold)).ok().flatten(),
            Some(path) => {
                let open = || open_file(&path).and_then(|db| prepare(db, repository, threshold));
                match open() {
                    Ok(Some(db)) => Some(db),
                    // Of no use as it is. Where it cannot be replaced, there is none.
                    Ok(None) => replace(&path).and_then(|()| open().ok().flatten()),
                    Err(error) if is_damage(&error) => replace(&path).and_then(|()| open().ok().flatten()),
                    Err(_) => None,
                }
            }
        };
        Self(Mutex::new(db))
    }

    fn with<T>(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match run(db.as_mut()?) {
            Ok(value) => Some(value),
            Err(error) => {
                if is_damage(&error) {
                    // The next process replaces it.
                    *db = None;
                }
                None
            }
        }
    }

    /// The twin of an object, if it is known.
    #[must_use]
    pub fn get(&self, key: &EntryKey) -> Option<Twin> {
        let found: (Twin, u32) = self.with(|db| {
            let mut query = db.prepare_cached("SELECT git, checksum FROM twin WHERE kind = ?1 AND id = ?2")?;
            query.query_row(params![key.kind as u8, key.id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })??;
        (found.1 == checksum(key, &found.0)).then_some(found.0)
    }

    /// Notes twins.
    pub fn put(&self, twins: &[(EntryKey, Twin)]) {
        if twins.is_empty() {
            return;
        }
        // Failing to is no harm.
        let _ = self.with(|db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (key, twin) in twins {
                let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO twin VALUES (?1, ?2, ?3, ?4)")?;
                insert.execute(params![key.kind as u8, key.id.0, twin, checksum(key, twin)])?;
            }
            tx.commit()
        });
    }

    /// The commits whose twin this is, at most `limit`.
    #[must_use]
    pub fn commits(&self, twin: &Twin, limit: usize) -> Vec<Digest> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Option<Vec<(Digest, u32)>> = self.with(|db| {
            let query = "SELECT id, checksum FROM twin WHERE git = ?1 AND kind = 4 ORDER BY id LIMIT ?2";
            let mut query = db.prepare_cached(query)?;
            let rows = query.query_map(params![twin, limit], |row| Ok((row.get(0).map(Digest)?, row.get(1)?)))?;
            rows.collect()
        });
        let rows = rows.unwrap_or_default().into_iter();
        let is_right = |id: &Digest, sum: u32| sum == checksum(&EntryKey::new(EntryKind::Commit, *id), twin);
        rows.filter(|(id, sum)| is_right(id, *sum)).map(|(id, _)| id).collect()
    }

    /// Forgets the trees and commits that are not there any more, and gives room back where there is much.
    fn forget_gone(&self, there: &[(EntryKind, HashSet<Digest>)]) {
        // Failing to is no harm.
        let _ = self.with(|db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (kind, there) in there {
                let kind = *kind;
                let mut query = tx.prepare("SELECT id FROM twin WHERE kind = ?1")?;
                let ids: Vec<[u8; 32]> =
                    query.query_map([kind as u8], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
                for id in ids.into_iter().filter(|id| !there.contains(&Digest(*id))) {
                    tx.prepare_cached("DELETE FROM twin WHERE kind = ?1 AND id = ?2")?
                        .execute(params![kind as u8, id])?;
                }
            }
            tx.commit()?;
            give_room_back(db)
        });
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        )
}

fn open_file(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(2))?;
    // What a power loss leaves is a cache that may have to be replaced.
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update_and_check(None, "journal_mode", "TRUNCATE", |_| Ok(()))?;
    Ok(db)
}

fn replace(path: &Path) -> Option<()> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let _ = std::fs::remove_file(journal);
    std::fs::remove_file(path).ok()
}

/// Makes the tables in an empty database. `None` where it has others, or is another repository's.
fn prepare(mut db: Connection, repository: Nonce, threshold: i64) -> rusqlite::Result<Option<Connection>> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("user_version")? == 0 && pragma("application_id")? == 0 {
        tx.execute_batch(SCHEMA)?;
        tx.execute("INSERT INTO state VALUES (1, ?1, ?2)", params![repository.0, threshold])?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    if pragma("user_version")? != SCHEMA_VERSION || pragma("application_id")? != APPLICATION_ID {
        return Ok(None);
    }
    let owner: Option<([u8; 16], i64)> = tx
        .query_row("SELECT repository, threshold FROM state WHERE one = 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    tx.commit()?;
    Ok((owner == Some((repository.0, threshold))).then_some(db))
}

impl Store {
    /// Forgets the twins of what was deleted.
    pub(crate) fn forget_twins(&self) {
        let path = self.root().map(|root| root.join(CACHE)).filter(|path| path.exists());
        if path.is_none() && self.0.twins.get().is_none() {
            return;
        }
        let ids = |kind| Some((kind, HashSet::from_iter(self.ids(kind).ok()?)));
        let there: Option<Vec<_>> = [EntryKind::Tree, EntryKind::Commit].into_iter().map(ids).collect();
        // Where it cannot be told what is there, all of them stay.
        let Some(there) = there else { return };
        if let Some(open) = self.0.twins.get() {
            return open.forget_gone(&there);
        }
        let Some(path) = path else { return };
        let opened = open_file(&path).and_then(|db| {
            let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((version == SCHEMA_VERSION).then_some(db))
        });
        TwinCache(Mutex::new(opened.ok().flatten())).forget_gone(&there);
    }

    /// The cache of Git twins, which are pointers for files of `threshold` bytes and more. The first call opens it, and decides
    /// on the threshold.
    #[must_use]
    pub fn twins(&self, threshold: u64) -> &TwinCache {
        let path = self.root().map(|root| root.join(CACHE));
        self.0.twins.get_or_init(|| TwinCache::open(path, self.0.id, threshold))
    }

    /// From which size on, in bytes, files are pointers in Git twins; `None` where the repository never chose.
    ///
    /// # Errors
    /// [`StoreError::Record`] where the record is damaged; [`StoreError::Backend`].
    pub fn large_file_threshold(&self) -> Result<Option<u64>, StoreError> {
        let bytes = match self.backend().get(FILE, MAX_RECORD) {
            Err(error) if error.is_not_found() => return Ok(None),
            bytes => bytes?,
        };
        let read = || -> Result<u64, RecordError> {
            let mut record = RecordReader::new(&bytes, KIND, VERSION)?;
            let threshold = record.number("large_file_threshold")?;
            record.finish()?;
            Ok(threshold)
        };
        read().map(Some).map_err(|problem| StoreError::Record { file: FILE.to_owned(), problem })
    }

    /// Chooses from which size on files are pointers in Git twins. That can be chosen once: the ids of all twins rest on it.
    ///
    /// # Errors
    /// [`StoreError::Backend`], also where something else was chosen before.
    pub fn choose_large_file_threshold(&self, bytes: u64) -> Result<(), StoreError> {
        let record = RecordWriter::new(KIND, VERSION).field("large_file_threshold", &bytes.to_string()).finish();
        match self.backend().put_if_absent(FILE, &record) {
            Err(error) if error.is_already_exists() && self.large_file_threshold()? == Some(bytes) => Ok(()),
            result => Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: EntryKind, byte: u8) -> EntryKey {
        EntryKey::new(kind, Digest([byte; 32]))
    }

    #[test]
    fn twins_are_kept_and_damage_is_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("twins.db");
        let nonce = Nonce::random().unwrap();
        let open = |threshold| TwinCache::open(Some(path.clone()), nonce, threshold);
        let (commit, tree) = (key(EntryKind::Commit, 1), key(EntryKind::Tree, 1));
        let cache = open(10);
        cache.put(&[(commit, [1; 20]), (tree, [1; 20]), (key(EntryKind::Commit, 2), [1; 20])]);
        drop(cache);
        let cache = open(10);
        assert_eq!((cache.get(&commit), cache.get(&key(EntryKind::Block, 1))), (Some([1; 20]), None));
        assert_eq!(cache.commits(&[1; 20], 9), [Digest([1; 32]), Digest([2; 32])]);
        assert_eq!(cache.commits(&[2; 20], 9), []);
        // A row that went bad is none.
        cache.with(|db| db.execute("UPDATE twin SET git = ?1 WHERE kind = ?2", params![[3u8; 20], commit.kind as u8]));
        assert_eq!((cache.get(&commit), cache.get(&tree)), (None, Some([1; 20])));
        assert_eq!(cache.commits(&[3; 20], 9), []);
        cache.put(&[(commit, [1; 20])]);
        cache.forget_gone(&[(EntryKind::Tree, HashSet::new()), (EntryKind::Commit, HashSet::from([commit.id]))]);
        assert_eq!((cache.get(&tree), cache.commits(&[1; 20], 9)), (None, vec![Digest([1; 32])]));
        drop(cache);
        // Another threshold makes other trees.
        assert_eq!(open(11).get(&tree), None);
        std::fs::write(&path, b"no database at all, but long enough to be looked at as one".repeat(99)).unwrap();
        let cache = open(11);
        assert_eq!(cache.get(&tree), None);
        cache.put(&[(tree, [4; 20])]);
        assert_eq!(cache.get(&tree), Some([4; 20]));
    }

    #[test]
    fn the_threshold_is_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::init(&dir.path().join("r"), shard_core::limits::Cut::V1).unwrap();
        assert_eq!(store.large_file_threshold().unwrap(), None);
        store.choose_large_file_threshold(1 << 20).unwrap();
        store.choose_large_file_threshold(1 << 20).unwrap();
        assert!(store.choose_large_file_threshold(2 << 20).is_err());
        assert_eq!(store.large_file_threshold().unwrap(), Some(1 << 20));
        let file = dir.path().join("r/twins");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[30] ^= 1;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(store.large_file_threshold(), Err(StoreError::Record { .. })));
    }
}
