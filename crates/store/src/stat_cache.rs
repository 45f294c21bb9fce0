//! The stat cache: what a file of the work tree held when it was last read, so that an unchanged file is not read again.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};
use shard_core::Digest;

use crate::error::StoreError;
use crate::store::Store;

/// A file that was written within this long before it was read may be written again without its times showing it: file
/// systems keep times as coarse as two seconds.
pub(crate) const RACY_NS: i64 = 2_000_000_000;

/// What the file system says of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Length in bytes.
    pub size: u64,
    /// When its bytes were changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When anything about it was changed, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Its number in its file system.
    pub inode: u64,
    /// The number of its file system.
    pub device: u64,
}

impl FileStat {
    /// The parts of a file's metadata that change with its content.
    #[must_use]
    pub fn new(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, nanoseconds: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
        Self {
            size: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// What was found when a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatEntry {
    /// The file as it was before it was read.
    pub stat: FileStat,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its content manifest.
    pub manifest: Digest,
    /// The instant before it was read, in nanoseconds since 1970: see [`StatEntry::now_ns`].
    pub checked_ns: i64,
}

impl StatEntry {
    /// The present instant, in nanoseconds since 1970.
    #[must_use]
    pub fn now_ns() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Whether a file that now has this stat still holds what was found. A file that had only just been written when it was
    /// read is never trusted: it may have been written once more within the same tick.
    #[must_use]
    pub fn holds(&self, now: &FileStat) -> bool {
        let settled = self.checked_ns.saturating_sub(RACY_NS);
        self.stat == *now && now.mtime_ns < settled && now.ctime_ns < settled
    }
}

/// The stat cache of a repository's work tree. Paths are bytes, and the caller's: the cache only compares them.
pub struct StatCache<'a> {
    store: &'a Store,
}

impl<'a> StatCache<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// What is known of one file.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn get(&self, path: &[u8]) -> Result<Option<StatEntry>, StoreError> {
        self.store.with_index(|index| {
            let mut query = index.db().prepare_cached(
                "SELECT size, mtime_ns, ctime_ns, inode, device, sha256, manifest, checked_ns FROM stat WHERE path = ?1",
            )?;
            Ok(query.query_row(params![path], |row| read(row, 0)).optional()?)
        })
    }

    /// What is known of all files.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn all(&self) -> Result<HashMap<Vec<u8>, StatEntry>, StoreError> {
        self.store.with_index(|index| {
            let mut query = index.db().prepare_cached(
                "SELECT path, size, mtime_ns, ctime_ns, inode, device, sha256, manifest, checked_ns FROM stat",
            )?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, read(row, 1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Remembers files, and forgets others, at once; or does not, where the index cannot be written. A cache that lacks
    /// something only costs time: on a full or read-only disk nobody's reading may fail for it.
    ///
    /// # Errors
    /// What keeps a damaged index from being rebuilt.
    pub fn update(&self, known: &[(Vec<u8>, StatEntry)], forget: &[Vec<u8>]) -> Result<(), StoreError> {
        let updated = self.store.with_index(|index| {
            let tx = index.db().transaction_with_behavior(TransactionBehavior::Immediate)?;
            for path in forget {
                tx.prepare_cached("DELETE FROM stat WHERE path = ?1")?.execute(params![path])?;
            }
            for (path, entry) in known {
                let stat = &entry.stat;
                // Unsigned numbers keep their bits: they are only compared.
                tx.prepare_cached("INSERT OR REPLACE INTO stat VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
                    params![
                        path,
                        stat.size as i64,
                        stat.mtime_ns,
                        stat.ctime_ns,
                        stat.inode as i64,
                        stat.device as i64,
                        entry.sha256.0,
                        entry.manifest.0,
                        entry.checked_ns
                    ],
                )?;
            }
            tx.commit()?;
            Ok(())
        });
        match updated {
            Err(StoreError::Index(_)) => Ok(()),
            result => result,
        }
    }
}

fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<StatEntry> {
    let bits = |column: usize| row.get::<_, i64>(column).map(|value| value as u64);
    Ok(StatEntry {
        stat: FileStat {
            size: bits(at)?,
            mtime_ns: row.get(at + 1)?,
            ctime_ns: row.get(at + 2)?,
            inode: bits(at + 3)?,
            device: bits(at + 4)?,
        },
        sha256: Digest(row.get(at + 5)?),
        manifest: Digest(row.get(at + 6)?),
        checked_ns: row.get(at + 7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_just_written_is_never_trusted() {
        let stat = FileStat { size: 1, mtime_ns: 10_000_000_000, ctime_ns: 10_000_000_000, inode: 1, device: 1 };
        let digest = shard_core::sha256(b"");
        let entry = |checked_ns| StatEntry { stat, sha256: digest, manifest: digest, checked_ns };
        assert!(entry(13_000_000_000).holds(&stat));
        assert!(!entry(11_000_000_000).holds(&stat));
        assert!(!entry(13_000_000_000).holds(&FileStat { size: 2, ..stat }));
        assert!(!entry(13_000_000_000).holds(&FileStat { ctime_ns: 10_000_000_001, ..stat }));
        // A clock set back by ten years makes the cache useless, never wrong.
        assert!(!entry(-300_000_000_000_000_000).holds(&stat));
    }

    /// A file as it is looked at: its stat, and what would be remembered of it, had it been read at that instant.
    fn look(path: &std::path::Path, checked_ns: i64) -> StatEntry {
        let stat = FileStat::new(&std::fs::metadata(path).unwrap());
        let sha256 = shard_core::sha256(&std::fs::read(path).unwrap());
        StatEntry { stat, sha256, manifest: sha256, checked_ns }
    }

    #[test]
    fn a_file_that_is_written_again_in_the_same_tick_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for round in 0..200u8 {
            std::fs::write(&path, [round; 8]).unwrap();
            let known = look(&path, StatEntry::now_ns());
            std::fs::write(&path, [round + 1; 8]).unwrap();
            let now = FileStat::new(&std::fs::metadata(&path).unwrap());
            assert!(!known.holds(&now), "{round}");
            // Also where ticks are so coarse that nothing of the file's metadata shows it.
            assert!(!known.holds(&known.stat), "{round}");
        }
    }

    #[test]
    fn clocks_that_step_make_it_useless_and_never_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"now").unwrap();
        let now = StatEntry::now_ns();
        let hour = 3_600_000_000_000;
        let stat = FileStat::new(&std::fs::metadata(&path).unwrap());
        // Looked at by a clock that was behind, by an hour or by more than the age of the file.
        for behind in [hour, 1, now] {
            assert!(!look(&path, now - behind).holds(&stat), "{behind}");
        }
        // Written while the clock was ahead: it is read again until that time has come.
        let written = FileStat { mtime_ns: stat.mtime_ns + hour, ctime_ns: stat.ctime_ns + hour, ..stat };
        let known = |checked_ns| StatEntry { stat: written, ..look(&path, checked_ns) };
        assert!(!known(now).holds(&written) && !known(now + hour).holds(&written));
        assert!(known(now + 2 * hour).holds(&written));
        // A time that was set by hand says nothing: the other one cannot be.
        let set = FileStat { mtime_ns: 0, ..stat };
        assert!(!StatEntry { stat: set, ..look(&path, now) }.holds(&set));
        assert!(!StatEntry { stat: set, ..look(&path, i64::MIN) }.holds(&set));
        assert!(!StatEntry { stat: set, ..look(&path, i64::MAX) }.holds(&stat));
    }
}
