//! What is in a folder that versions are applied to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use shard_core::Digest;
use shard_history::FileMode;
use shard_store::FileStat;

use crate::error::{RepoError, Result};

/// The file in the folder that says which commit's files are there, and whether they are whole: JSON,
/// `{"version": 1, "commit": ID, "whole": BOOL, "chained": NUMBER, "files": {PATH: [MANIFEST, MODE, STAT…] or null}}`.
pub const VERSION_FILE: &str = ".shard-version";

/// What it is called until it is whole. One that was killed is written over by the next.
const UNFINISHED: &str = ".shard-version.tmp";
const VERSION: u64 = 1;
/// Largest note that is read, in bytes.
const MAX: u64 = 256 << 20;

/// A file as it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) manifest: Digest,
    pub(super) mode: FileMode,
    pub(super) stat: FileStat,
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Note {
    /// The commit whose files are there, or on their way there; `None` for a folder that is new.
    pub(super) commit: Option<Digest>,
    /// Whether the files are that commit's.
    pub(super) is_whole: bool,
    /// Versions that were applied since all bytes were proven.
    pub(super) chained: u64,
    /// All files that may be there, and how they were left, where that is known.
    pub(super) files: BTreeMap<String, Option<Left>>,
}

impl Note {
    /// The note of a folder; `None` where it has none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(VERSION_FILE);
        let problem = |source| RepoError::io("cannot be read", &path)(source);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(problem(error)),
            Ok(metadata) if metadata.len() > MAX || !metadata.is_file() => return Err(malformed(&path)),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(problem)?;
        let note = serde_json::from_slice(&bytes).ok().and_then(|value| Self::from_json(&value));
        note.map(Some).ok_or_else(|| malformed(&path))
    }

    /// Puts it in the place of the one before, durably.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let (path, unfinished) = (folder.join(VERSION_FILE), folder.join(UNFINISHED));
        let write = || -> io::Result<()> {
            let mut file = File::create(&unfinished)?;
            file.write_all(format!("{}\n", self.to_json()).as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(RepoError::io("cannot be written", &path))
    }

    fn to_json(&self) -> Value {
        let files: Map<String, Value> =
            self.files.iter().map(|(path, left)| (path.clone(), left.map_or(Value::Null, Left::to_json))).collect();
        json!({
            "version": VERSION,
            "commit": self.commit.map(|commit| commit.to_hex()),
            "whole": self.is_whole,
            "chained": self.chained,
            "files": files,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        if value.get("version")?.as_u64()? != VERSION {
            return None;
        }
        let commit = match value.get("commit")? {
            Value::Null => None,
            commit => Some(Digest::from_hex(commit.as_str()?).ok()?),
        };
        let mut files = BTreeMap::new();
        for (path, left) in value.get("files")?.as_object()? {
            // It is removed where a version does not have it: only what a tree could name.
            shard_history::validate_path(path).ok()?;
            let left = if left.is_null() { None } else { Some(Left::from_json(left)?) };
            files.insert(path.clone(), left);
        }
        let (is_whole, chained) = (value.get("whole")?.as_bool()?, value.get("chained")?.as_u64()?);
        Some(Self { commit, is_whole, chained, files })
    }
}

impl Left {
    fn to_json(self) -> Value {
        let FileStat { size, mtime_ns, ctime_ns, inode, device } = self.stat;
        json!([self.manifest.to_hex(), self.mode.as_str(), size, mtime_ns, ctime_ns, inode, device])
    }

    fn from_json(value: &Value) -> Option<Self> {
        let unsigned = |index: usize| value.get(index)?.as_u64();
        let signed = |index: usize| value.get(index)?.as_i64();
        let mode = value.get(1)?.as_str()?;
        let stat = FileStat {
            size: unsigned(2)?,
            mtime_ns: signed(3)?,
            ctime_ns: signed(4)?,
            inode: unsigned(5)?,
            device: unsigned(6)?,
        };
        Some(Self {
            manifest: Digest::from_hex(value.get(0)?.as_str()?).ok()?,
            mode: FileMode::ALL.into_iter().find(|known| known.as_str() == mode)?,
            stat,
        })
    }
}

fn malformed(path: &Path) -> RepoError {
    let why = "is not what shard writes there: remove the folder, and begin with an empty one".to_owned();
    RepoError::Path { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Note::read(folder.path()).unwrap(), None);
        let stat =
            FileStat { size: 1 << 40, mtime_ns: -5, ctime_ns: 1_800_000_000_123_456_789, inode: u64::MAX, device: 7 };
        let left = Left { manifest: shard_core::sha256(b"m"), mode: FileMode::Executable, stat };
        let files = BTreeMap::from([("a/b".to_owned(), Some(left)), ("c".to_owned(), None)]);
        let note = Note { commit: Some(shard_core::sha256(b"c")), is_whole: true, chained: 7, files };
        note.write(folder.path()).unwrap();
        assert_eq!(Note::read(folder.path()).unwrap(), Some(note.clone()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let text = fs::read_to_string(folder.path().join(VERSION_FILE)).unwrap();
        let others = [
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("\"a/b\"", "\"../b\""),
            text.replace("\"100755\"", "\"100777\""),
            text[..text.len() / 2].to_owned(),
            "{}".to_owned(),
        ];
        for other in others {
            assert_ne!(other, text);
            fs::write(folder.path().join(VERSION_FILE), &other).unwrap();
            assert!(matches!(Note::read(folder.path()), Err(RepoError::Path { .. })), "{other}");
        }
    }
}
