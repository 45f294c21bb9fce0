//! The index: where each entry is. A SQLite database that can be thrown away at any time, since all of it comes from the
//! packs' footers; only its absence of faults is never assumed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use shard_core::Digest;

use crate::database::{choose_journal, give_room_back, open_file, remove_database, with_suffix};
use crate::depth::{Copies, Numbers};
use crate::entry::{EntryKey, EntryKind, Location, PackId};
use crate::error::{IndexError, StoreError};
use crate::footer::{Footer, FooterEntry};
use crate::listing::StoredCopy;
use crate::nonce::Nonce;
use crate::sketch_index;

const APPLICATION_ID: i64 = 0x7368_7264;
const SCHEMA_VERSION: i64 = 3;
const SCHEMA: &str = "
    CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1), repository BLOB NOT NULL, packs INTEGER NOT NULL, fold BLOB NOT NULL);
    CREATE TABLE pack (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, gathered INTEGER NOT NULL,
        problem TEXT);
    CREATE TABLE entry (
        kind INTEGER NOT NULL, id BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
        stored_len INTEGER NOT NULL, raw_len INTEGER NOT NULL, depth INTEGER, bases BLOB NOT NULL,
        PRIMARY KEY (kind, id, pack)) WITHOUT ROWID;
    CREATE INDEX undecodable ON entry (kind) WHERE depth IS NULL;
    CREATE TABLE gathering (id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE hint (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE stat (
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL, device INTEGER NOT NULL, sha256 BLOB NOT NULL, manifest BLOB NOT NULL,
        checked_ns INTEGER NOT NULL) WITHOUT ROWID;
";

/// More new packs than this at once, and depths are settled in one pass over everything.
const ONE_BY_ONE: usize = 8;

/// Where a copy is in the order of the index: its id, and the number of its pack.
pub(crate) type Place = (Digest, i64);

/// The names of a set of packs, folded: equal sets have equal folds, and others do not, short of an attack on a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fold {
    packs: u64,
    fold: [u8; 32],
}

impl Fold {
    /// Takes in the name of a pack that the set lacks.
    pub(crate) fn add(&mut self, id: &Digest) {
        self.packs += 1;
        self.toggle(id);
    }

    fn remove(&mut self, id: &Digest) {
        self.packs = self.packs.saturating_sub(1);
        self.toggle(id);
    }

    fn toggle(&mut self, id: &Digest) {
        for (byte, other) in self.fold.iter_mut().zip(id.0) {
            *byte ^= other;
        }
    }
}

/// What is known of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackRow {
    pub(crate) id: Digest,
    pub(crate) size: u64,
    pub(crate) problem: Option<String>,
}

/// A pack to take in: its footer, or why it has none.
pub(crate) struct NewPack {
    pub(crate) id: Digest,
    pub(crate) size: u64,
    pub(crate) footer: Result<Footer, String>,
    /// Whether an index file in `index/` holds its footer.
    pub(crate) gathered: bool,
}

/// The index of a repository.
pub(crate) struct Index {
    db: Connection,
    path: Option<PathBuf>,
}

/// Why an index on disk is not used.
enum OpenFailure {
    /// It is damaged or another's: it is deleted.
    Useless(String),
    /// It cannot be written here.
    Unwritable(rusqlite::Error),
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for OpenFailure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(code) if means_unwritable(code) => Self::Unwritable(error),
            _ => {
                let text = error.to_string();
                let error = IndexError::from(error);
                if error.is_damage() { Self::Useless(text) } else { Self::Other(error.into_inner()) }
            }
        }
    }
}

/// Whether an index on disk is of no use for want of rights, of room (a limit on the size of files is an I/O failure), or of
/// a file system that works. A repository can be read without one.
fn means_unwritable(code: ErrorCode) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, FileLockingProtocolFailed, PermissionDenied, ReadOnly, SystemIoFailure};
    let codes = [CannotOpen, DiskFull, FileLockingProtocolFailed, PermissionDenied, ReadOnly, SystemIoFailure];
    codes.contains(&code)
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest)
}

impl Index {
    /// Opens the index in `path`, creating it where it is missing, and deleting it first where it is useless. The note says
    /// what was out of the ordinary.
    pub(crate) fn open(path: &Path, repository: Nonce) -> Result<(Self, Option<String>), StoreError> {
        let open = || {
            let index = Self { db: open_file(path)?, path: Some(path.to_owned()) };
            index.prepare(repository)?;
            Ok::<_, OpenFailure>(index)
        };
        let mut note = None;
        let mut result = open();
        if let Err(OpenFailure::Useless(problem)) = &result {
            note = Some(format!("the index was not usable ({problem}) and is built anew"));
            remove_database(path);
            result = open();
        }
        match result {
            Ok(index) => Ok((index, note)),
            Err(OpenFailure::Unwritable(error)) => {
                if let Some(index) = Self::open_immutable(path, repository) {
                    return Ok((index, None));
                }
                let note = format!("the index cannot be written ({error}); a temporary one is built in memory");
                Ok((Self::in_memory(repository)?, Some(note)))
            }
            Err(OpenFailure::Useless(problem)) => {
                let note = format!("the index is not usable ({problem}); a temporary one is built in memory");
                Ok((Self::in_memory(repository)?, Some(note)))
            }
            Err(OpenFailure::Other(error)) => Err(error.into()),
        }
    }

    /// An index that lives as long as this value.
    pub(crate) fn in_memory(repository: Nonce) -> Result<Self, StoreError> {
        let index = Self { db: Connection::open_in_memory()?, path: None };
        match index.prepare(repository) {
            Ok(()) => Ok(index),
            Err(OpenFailure::Unwritable(error) | OpenFailure::Other(error)) => Err(error.into()),
            Err(OpenFailure::Useless(problem)) => Err(rusqlite::Error::InvalidParameterName(problem).into()),
        }
    }

    /// The index as it is, for a directory where nothing can be written, if it is whole.
    fn open_immutable(path: &Path, repository: Nonce) -> Option<Self> {
        let log = with_suffix(path, "-wal");
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return None;
        }
        let mut uri = String::from("file:");
        for byte in std::path::absolute(path).ok()?.to_str()?.bytes() {
            match byte {
                b'?' | b'#' | b'%' => uri.push_str(&format!("%{byte:02x}")),
                byte if byte.is_ascii() => uri.push(char::from(byte)),
                byte => uri.push_str(&format!("%{byte:02x}")),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let index = Self { db: Connection::open_with_flags(uri, flags).ok()?, path: Some(path.to_owned()) };
        index.prepare(repository).ok()?;
        Some(index)
    }

    /// Throws away everything, so that all packs have to be taken in again. The stat cache goes too.
    pub(crate) fn recreate(&mut self, repository: Nonce) -> Result<Option<String>, StoreError> {
        let Some(path) = self.path.clone() else {
            *self = Self::in_memory(repository)?;
            return Ok(None);
        };
        // Close the old one first: SQLite would otherwise write its log's pages into the new file's.
        self.db = Connection::open_in_memory()?;
        remove_database(&path);
        let (index, note) = Self::open(&path, repository)?;
        *self = index;
        Ok(note)
    }

    /// Goes on in memory, with nothing taken in, and deletes what is on disk. Gives how many bytes that was.
    pub(crate) fn leave_disk(&mut self, repository: Nonce) -> Result<u64, StoreError> {
        let path = self.path.clone();
        *self = Self::in_memory(repository)?;
        let Some(path) = path else { return Ok(0) };
        let size = |suffix| std::fs::metadata(with_suffix(&path, suffix)).map_or(0, |file| file.len());
        let bytes = size("") + size("-wal") + size("-shm");
        remove_database(&path);
        Ok(bytes)
    }

    /// Whether an error means that nothing can be written here.
    pub(crate) fn is_unwritable(error: &StoreError) -> bool {
        matches!(error, StoreError::Index(error) if error.code().is_some_and(means_unwritable))
    }

    /// Checks the schema and the repository, or creates them in an empty database.
    fn prepare(&self, repository: Nonce) -> Result<(), OpenFailure> {
        let db = &self.db;
        let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let mut version = pragma("user_version")?;
        if version == 0 {
            if self.path.is_some() {
                choose_journal(db, self.path.as_deref())?;
            }
            // Another process may be doing the same: look again inside the transaction.
            db.execute_batch("BEGIN IMMEDIATE")?;
            version = pragma("user_version")?;
            if version == 0 {
                db.execute_batch(SCHEMA)?;
                db.execute_batch(sketch_index::SCHEMA)?;
                db.execute("INSERT INTO state VALUES (1, ?1, 0, ?2)", params![repository.0, Fold::default().fold])?;
                db.pragma_update(None, "application_id", APPLICATION_ID)?;
                db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                version = SCHEMA_VERSION;
            }
            db.execute_batch("COMMIT")?;
        }
        if version != SCHEMA_VERSION || pragma("application_id")? != APPLICATION_ID {
            return Err(OpenFailure::Useless("another version".to_owned()));
        }
        let owner: Option<[u8; 16]> =
            db.query_row("SELECT repository FROM state WHERE one = 1", [], |row| row.get(0)).optional()?;
        if owner != Some(repository.0) {
            return Err(OpenFailure::Useless("another repository's".to_owned()));
        }
        Ok(())
    }

    /// Which packs were taken in.
    pub(crate) fn fold(&self) -> Result<Fold, StoreError> {
        Ok(read_fold(&self.db)?)
    }

    /// What earlier processes noted to start quicker, by name.
    pub(crate) fn hints(&self) -> Result<HashMap<String, i64>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT name, value FROM hint")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes values for later processes.
    pub(crate) fn set_hints(&mut self, hints: &[(String, i64)]) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (name, value) in hints {
            tx.prepare_cached("INSERT OR REPLACE INTO hint VALUES (?1, ?2)")?.execute(params![name, value])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// The packs that were taken in, damaged ones included, by id.
    pub(crate) fn packs(&self) -> Result<Vec<PackRow>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT id, size, problem FROM pack ORDER BY id")?;
        let rows = query
            .query_map([], |row| Ok(PackRow { id: digest(row, 0)?, size: uint(row, 1)?, problem: row.get(2)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether a pack was taken in.
    pub(crate) fn has_pack(&self, id: &Digest) -> Result<bool, StoreError> {
        Ok(self.db.prepare_cached("SELECT 1 FROM pack WHERE id = ?1")?.exists(params![id.0])?)
    }

    /// Forgets sketches whose entries are gone, and gives room back where there is much.
    pub(crate) fn tidy(&mut self) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        sketch_index::forget_gone(&tx)?;
        tx.commit()?;
        give_room_back(&self.db)?;
        // The log has the whole new file.
        self.db.pragma_query(None, "wal_checkpoint(TRUNCATE)", |_| Ok(()))?;
        Ok(())
    }

    /// Takes in new packs and forgets those that are gone, at once.
    pub(crate) fn absorb(&mut self, new: &[NewPack], gone: &[Digest]) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut fold = read_fold(&tx)?;
        let mut settled = new.len() <= ONE_BY_ONE && !has_undecodable(&tx)?;
        settled &= !forget_packs(&tx, gone, &mut fold)?;
        for pack in new {
            let known = tx.prepare_cached("SELECT 1 FROM pack WHERE id = ?1")?.exists(params![pack.id.0])?;
            if known {
                continue;
            }
            fold.add(&pack.id);
            let problem = pack.footer.as_ref().err();
            tx.prepare_cached("INSERT INTO pack (id, size, gathered, problem) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![pack.id.0, int(pack.size), pack.gathered, problem])?;
            let number = tx.last_insert_rowid();
            for entry in pack.footer.iter().flat_map(|footer| &footer.entries) {
                settled = insert_entry(&tx, number, entry, settled)?;
            }
        }
        if !settled {
            settle_depths(&tx)?;
        }
        tx.execute("UPDATE state SET packs = ?1, fold = ?2 WHERE one = 1", params![int(fold.packs), fold.fold])?;
        tx.commit()?;
        Ok(())
    }

    /// The copies of an entry that can be decoded, best first: least deep, then by the pack's name.
    pub(crate) fn copies(&self, key: &EntryKey) -> Result<Vec<(Location, Vec<Digest>)>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT p.id, e.offset, e.stored_len, e.raw_len, e.depth, e.bases FROM entry e JOIN pack p ON p.number = e.pack
             WHERE e.kind = ?1 AND e.id = ?2 AND e.depth IS NOT NULL ORDER BY e.depth, p.id",
        )?;
        let rows = query.query_map(params![key.kind as u8, key.id.0], |row| {
            let location = Location {
                key: *key,
                pack: PackId::Sealed(digest(row, 0)?),
                offset: uint(row, 1)?,
                stored_len: uint(row, 2)?,
                raw_len: uint(row, 3)?,
                depth: row.get(4)?,
            };
            Ok((location, split_digests(row.get_ref(5)?.as_blob().unwrap_or_default())))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Up to `most` copies of entries of a kind that come after a place, by id: each with its own place.
    pub(crate) fn copies_after(
        &self,
        kind: EntryKind,
        after: Option<Place>,
        most: usize,
    ) -> Result<Vec<(StoredCopy, Place)>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT e.id, e.pack, p.id, e.offset, e.stored_len, e.raw_len, e.depth, e.bases
             FROM entry e CROSS JOIN pack p ON p.number = e.pack
             WHERE e.kind = ?1 AND (e.id, e.pack) > (?2, ?3) ORDER BY e.id, e.pack LIMIT ?4",
        )?;
        let (id, pack) = after.unwrap_or((Digest([0; 32]), i64::MIN));
        let rows = query.query_map(params![kind as u8, id.0, pack, int(most as u64)], |row| {
            let (id, number): (Digest, i64) = (digest(row, 0)?, row.get(1)?);
            let depth: Option<u32> = row.get(6)?;
            let location = Location {
                key: EntryKey::new(kind, id),
                pack: PackId::Sealed(digest(row, 2)?),
                offset: uint(row, 3)?,
                stored_len: uint(row, 4)?,
                raw_len: uint(row, 5)?,
                depth: depth.unwrap_or_default(),
            };
            let bases = split_digests(row.get_ref(7)?.as_blob().unwrap_or_default());
            Ok((StoredCopy { location, bases, is_decodable: depth.is_some() }, (id, number)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All ids of a kind, sorted.
    pub(crate) fn ids(&self, kind: EntryKind) -> Result<Vec<Digest>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT DISTINCT id FROM entry WHERE kind = ?1 ORDER BY id")?;
        let rows = query.query_map(params![kind as u8], |row| digest(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The entries that no copy of can be decoded, since a base is missing or copies lean on each other.
    pub(crate) fn undecodable(&self) -> Result<Vec<EntryKey>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT DISTINCT kind, id FROM entry e WHERE depth IS NULL AND NOT EXISTS
             (SELECT 1 FROM entry o WHERE o.kind = e.kind AND o.id = e.id AND o.depth IS NOT NULL) ORDER BY kind, id",
        )?;
        let rows = query.query_map([], |row| Ok((row.get::<_, u8>(0)?, digest(row, 1)?)))?;
        let rows: Vec<(u8, Digest)> = rows.collect::<Result<_, _>>()?;
        Ok(rows
            .into_iter()
            .filter_map(|(kind, id)| EntryKind::from_byte(kind).map(|kind| EntryKey::new(kind, id)))
            .collect())
    }

    /// Up to `limit` ids of a kind between two, both included, sorted.
    pub(crate) fn ids_between(
        &self,
        kind: EntryKind,
        first: &Digest,
        last: &Digest,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT DISTINCT id FROM entry WHERE kind = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT ?4",
        )?;
        let rows = query.query_map(params![kind as u8, first.0, last.0, int(limit as u64)], |row| digest(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Drops one copy of an entry.
    pub(crate) fn forget(&mut self, key: &EntryKey, pack: &Digest) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let dropped = tx.execute(
            "DELETE FROM entry WHERE kind = ?1 AND id = ?2 AND pack = (SELECT number FROM pack WHERE id = ?3)",
            params![key.kind as u8, key.id.0, pack.0],
        )?;
        if dropped > 0 {
            settle_depths(&tx)?;
        }
        tx.commit()?;
        Ok(())
    }

    /// The packs, none of them damaged, whose footers are not known to be in an index file.
    pub(crate) fn ungathered(&self) -> Result<Vec<Digest>, StoreError> {
        let mut query =
            self.db.prepare_cached("SELECT id FROM pack WHERE gathered = 0 AND problem IS NULL ORDER BY id")?;
        let rows = query.query_map([], |row| digest(row, 0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether an index file was looked at.
    pub(crate) fn knows_gathering(&self, id: &Digest) -> Result<bool, StoreError> {
        Ok(self.db.prepare_cached("SELECT 1 FROM gathering WHERE id = ?1")?.exists(params![id.0])?)
    }

    /// Notes that an index file holds the footers of these packs.
    pub(crate) fn note_gathering(&mut self, id: &Digest, packs: &[Digest]) -> Result<(), StoreError> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute("INSERT OR IGNORE INTO gathering VALUES (?1)", params![id.0])?;
        for pack in packs {
            tx.prepare_cached("UPDATE pack SET gathered = 1 WHERE id = ?1")?.execute(params![pack.0])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// The database, for the tables that other modules keep in it.
    pub(crate) fn db(&mut self) -> &mut Connection {
        &mut self.db
    }
}

fn read_fold(db: &Connection) -> rusqlite::Result<Fold> {
    db.query_row("SELECT packs, fold FROM state WHERE one = 1", [], |row| {
        Ok(Fold { packs: uint(row, 0)?, fold: row.get(1)? })
    })
}

/// Forgets packs that are gone, and says whether any entry went with them.
fn forget_packs(tx: &Transaction<'_>, gone: &[Digest], fold: &mut Fold) -> rusqlite::Result<bool> {
    let mut went = false;
    for id in gone {
        if tx.prepare_cached("DELETE FROM pack WHERE id = ?1")?.execute(params![id.0])? > 0 {
            fold.remove(id);
            went = true;
        }
    }
    // Entries are in the order of their ids: however many packs go, the table is walked once.
    Ok(went && tx.execute("DELETE FROM entry WHERE pack NOT IN (SELECT number FROM pack)", [])? > 0)
}

fn has_undecodable(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM entry WHERE depth IS NULL LIMIT 1")?.exists([])
}

fn least_depth(db: &Connection, key: &EntryKey) -> rusqlite::Result<Option<u32>> {
    db.prepare_cached("SELECT min(depth) FROM entry WHERE kind = ?1 AND id = ?2")?
        .query_row(params![key.kind as u8, key.id.0], |row| row.get(0))
}

/// Inserts an entry. Returns whether the depths of all entries are still settled: while they are, and the entry's bases are
/// known, its own depth follows, and others can change only if it is a better copy.
fn insert_entry(tx: &Transaction<'_>, pack: i64, entry: &FooterEntry, mut settled: bool) -> rusqlite::Result<bool> {
    let mut depth = None;
    if settled {
        depth = Some(0);
        for base in &entry.bases {
            let base = least_depth(tx, &EntryKey::block(*base))?;
            depth = depth.zip(base).map(|(depth, base)| depth.max(base.saturating_add(1)));
        }
        let best = least_depth(tx, &entry.key)?;
        settled = depth.is_some_and(|depth| best.is_none_or(|best| best <= depth));
    }
    let bases: Vec<u8> = entry.bases.iter().flat_map(|base| base.0).collect();
    tx.prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
        entry.key.kind as u8,
        entry.key.id.0,
        pack,
        int(entry.offset),
        int(entry.stored_len),
        int(entry.raw_len),
        depth,
        bases
    ])?;
    Ok(settled)
}

fn split_digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks::<32>().0.iter().map(|digest| Digest(*digest)).collect()
}

/// Works out the depth of every copy afresh.
fn settle_depths(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    // Ids become small numbers: this is the one place of the index that holds all of it in memory.
    let (mut numbers, mut copies) = (Numbers::default(), Copies::default());
    let mut rows: Vec<(u8, [u8; 32], i64, Option<u32>)> = Vec::new();
    {
        let mut query = tx.prepare("SELECT kind, id, pack, depth, bases FROM entry")?;
        let mut found = query.query([])?;
        while let Some(row) = found.next()? {
            let (number, id): (u8, [u8; 32]) = (row.get(0)?, row.get(1)?);
            let kind = EntryKind::from_byte(number);
            let kind = kind.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, i64::from(number)))?;
            let bases = split_digests(row.get_ref(4)?.as_blob().unwrap_or_default());
            let bases: Vec<u32> = bases.into_iter().map(|base| numbers.of(EntryKey::block(base))).collect();
            copies.push(numbers.of(EntryKey::new(kind, Digest(id))), bases);
            rows.push((number, id, row.get(2)?, row.get(3)?));
        }
    }
    let depths = copies.resolve(&mut vec![None; numbers.len()], |_| true);
    let mut update = tx.prepare("UPDATE entry SET depth = ?1 WHERE kind = ?2 AND id = ?3 AND pack = ?4")?;
    for ((kind, id, pack, before), depth) in rows.into_iter().zip(depths) {
        if before != depth {
            update.execute(params![depth, kind, id, pack])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn fault_06_an_index_that_cannot_be_written_is_told_from_one_that_is_damaged() {
        let error = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_PERM,
            ffi::SQLITE_PROTOCOL,
        ] {
            assert!(matches!(OpenFailure::from(error(code)), OpenFailure::Unwritable(_)), "{code}");
            assert!(Index::is_unwritable(&error(code).into()), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            assert!(matches!(OpenFailure::from(error(code)), OpenFailure::Useless(_)), "{code}");
            assert!(!Index::is_unwritable(&error(code).into()), "{code}");
        }
        assert!(matches!(OpenFailure::from(error(ffi::SQLITE_BUSY)), OpenFailure::Other(_)));
    }
}
