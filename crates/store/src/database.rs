//! The index's database as a file: opening it, its journal, removing it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long it is waited for others who have the file locked.
const PATIENCE: Duration = Duration::from_secs(30);

/// The write-ahead log is copied back once it has so many pages of 4 KiB, which takes little: a process that stays for long, as
/// servers do, would keep the 4 MiB of SQLite's own limit beside an index that is smaller.
const LOG_PAGES: i64 = 128;
/// What it keeps of its file then, in bytes.
const LOG_SIZE: i64 = LOG_PAGES * 4096;

/// Opens the database in `path`, creating it where it is missing.
pub(crate) fn open_file(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(PATIENCE)?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let number = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    db.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES, number)?;
    db.pragma_update_and_check(None, "journal_size_limit", LOG_SIZE, number)?;
    // Plans do not depend on the values bound: otherwise a statement is compiled anew whenever they change, since SQLite looks
    // whether the partial index serves them.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}

/// Uses a write-ahead log where it works, else a rollback journal. The log needs memory shared by all who open the file,
/// which file systems over a network only pretend to have.
pub(crate) fn choose_journal(db: &Connection, path: Option<&Path>) -> rusqlite::Result<()> {
    let set = |mode: &str| {
        // SQLite itself does not wait here for who is opening the file, or closes it as the last one. That somebody does says
        // nothing about what works.
        wait_while_busy(|| db.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0)))
    };
    if path.is_some_and(is_local) {
        let works = set("WAL").is_ok_and(|mode| mode == "wal") && db.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
        if works {
            return Ok(());
        }
    }
    set("DELETE").map(|_| ())
}

/// Does it again as long as others have the file locked, up to [`PATIENCE`].
fn wait_while_busy<T>(mut run: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let start = Instant::now();
    loop {
        match run() {
            Err(error) if is_busy(&error) && start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether a file is on a disk of this machine, as far as the system tells.
fn is_local(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        // The f_type of statfs(2): NFS, SMB, CIFS, SMB2, Ceph, FUSE, 9P, Lustre, GPFS, AFS (two), BeeGFS, OCFS2, GFS2.
        const NETWORK: [u32; 14] = [
            0x6969,
            0x517b,
            0xff53_4d42,
            0xfe53_4d42,
            0x00c3_6400,
            0x6573_5546,
            0x0102_1997,
            0x0bd0_0bd0,
            0x4750_4653,
            0x5346_414f,
            0x6b41_4653,
            0x1983_0326,
            0x7461_636f,
            0x0116_1970,
        ];
        let folder = path.parent().unwrap_or(path);
        rustix::fs::statfs(folder).is_ok_and(|stat| !NETWORK.contains(&(stat.f_type as u32)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        true
    }
}

/// A path with something at its end.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the file smaller where much of it is not used.
pub(crate) fn give_room_back(db: &Connection) -> rusqlite::Result<()> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if pragma("freelist_count")? > pragma("page_count")? / 4 {
        db.execute_batch("VACUUM")?;
    }
    Ok(())
}

/// Removes a database and its journals; what cannot be removed fails again when it is opened.
pub(crate) fn remove_database(path: &Path) {
    for suffix in ["-journal", "-wal", "-shm", ""] {
        let _ = std::fs::remove_file(with_suffix(path, suffix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_process_that_stays_is_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.db");
        let db = open_file(&path).unwrap();
        choose_journal(&db, Some(&path)).unwrap();
        db.execute_batch("CREATE TABLE a (b BLOB)").unwrap();
        for _ in 0..500 {
            db.execute("INSERT INTO a VALUES (randomblob(10000))", []).unwrap();
        }
        let log = with_suffix(&path, "-wal").metadata().unwrap().len();
        assert!((1..=LOG_SIZE as u64 + (64 << 10)).contains(&log), "{log} bytes");
    }

    #[test]
    fn who_opens_waits_for_who_has_the_file_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.db");
        let other = open_file(&path).unwrap();
        other.execute_batch("CREATE TABLE a (b); BEGIN EXCLUSIVE").unwrap();
        let mode = std::thread::scope(|scope| {
            let opening = scope.spawn(|| {
                let db = open_file(&path).unwrap();
                choose_journal(&db, Some(&path)).unwrap();
                db.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap()
            });
            std::thread::sleep(Duration::from_millis(300));
            assert!(!opening.is_finished());
            other.execute_batch("COMMIT").unwrap();
            opening.join().unwrap()
        });
        assert_eq!(mode, "wal");
    }
}
