//! A tree object: the files and directories of one directory.
//!
//! Version 1: `type` "tree", `version` 1, `entries`: an array sorted by the bytes of the names, each once. A file has `mode`
//! ("100644", "100755" or "120000", as in Git), `name`, `size` (bytes), `sha256` (of the whole file) and `manifest` (id of its
//! content manifest); a directory has `mode` "040000", `name` and `tree` (id). There are no other fields: one that a reader
//! does not know could not be kept by a program that merges or edits trees.

use std::collections::BTreeMap;

use serde_json::Value;
use shard_core::{Digest, sha256};
use shard_manifest::canonical;
use shard_manifest::object::{self, Fields, ObjectError, ObjectReader};

use crate::error::HistoryError;
use crate::path::validate_name;

const KIND: &str = "tree";
const VERSION: u64 = 1;
const DIRECTORY: &str = "040000";

/// What a file is, as in Git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileMode {
    /// A file: "100644".
    Regular,
    /// A file that may be executed: "100755".
    Executable,
    /// A symbolic link, whose content is the text of its target: "120000".
    Symlink,
}

impl FileMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Regular, Self::Executable, Self::Symlink];

    /// The text in trees.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }
}

/// A file of a tree. Two are the same content exactly when `sha256` is equal, whatever their manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileEntry {
    /// What the file is.
    pub mode: FileMode,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Id of the content manifest.
    pub manifest: Digest,
}

/// What a name in a tree stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeNode {
    /// A file.
    File(FileEntry),
    /// A directory: the id of its tree.
    Directory(Digest),
}

/// One directory. The map keeps names unique and in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// What there is, by name.
    pub entries: BTreeMap<String, TreeNode>,
}

impl Tree {
    /// The canonical JSON.
    ///
    /// # Errors
    /// [`HistoryError`] for names that are not valid, or a directory over the limits of canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HistoryError> {
        let mut entries = Vec::with_capacity(self.entries.len());
        for (name, node) in &self.entries {
            validate_name(name)?;
            let mut fields = Fields::new();
            fields.insert("name".to_owned(), Value::from(name.as_str()));
            match node {
                TreeNode::File(file) => {
                    fields.insert("mode".to_owned(), Value::from(file.mode.as_str()));
                    fields.insert("size".to_owned(), canonical::integer(file.size));
                    fields.insert("sha256".to_owned(), object::digest(&file.sha256));
                    fields.insert("manifest".to_owned(), object::digest(&file.manifest));
                }
                TreeNode::Directory(tree) => {
                    fields.insert("mode".to_owned(), Value::from(DIRECTORY));
                    fields.insert("tree".to_owned(), object::digest(tree));
                }
            }
            entries.push(Value::Object(fields));
        }
        let fields = Fields::from_iter([("entries".to_owned(), Value::Array(entries))]);
        Ok(object::seal(fields, KIND, VERSION)?)
    }

    /// The id and the canonical JSON that it is the SHA-256 of.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn encode(&self) -> Result<(Digest, Vec<u8>), HistoryError> {
        let bytes = self.to_bytes()?;
        Ok((sha256(&bytes), bytes))
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`HistoryError`] for anything that [`Self::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = ObjectReader::open(bytes, KIND, VERSION)?;
        let mut entries: BTreeMap<String, TreeNode> = BTreeMap::new();
        for (index, value) in reader.array("entries")?.into_iter().enumerate() {
            let (name, node) = read_entry(value, index)?;
            validate_name(&name)?;
            if entries.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(HistoryError::Order("tree entries"));
            }
            entries.insert(name, node);
        }
        reader.finish()?;
        Ok(Self { entries })
    }
}

fn read_entry(value: Value, index: usize) -> Result<(String, TreeNode), ObjectError> {
    let mut reader = ObjectReader::nested(value, &format!("entries[{index}]"))?;
    let name = reader.string("name")?;
    let mode = reader.string("mode")?;
    let node = if mode == DIRECTORY {
        TreeNode::Directory(reader.digest("tree")?)
    } else {
        let mode = FileMode::ALL.into_iter().find(|known| known.as_str() == mode);
        TreeNode::File(FileEntry {
            mode: mode.ok_or_else(|| reader.invalid("mode", "100644, 100755, 120000 or 040000"))?,
            size: reader.integer("size")?,
            sha256: reader.digest("sha256")?,
            manifest: reader.digest("manifest")?,
        })
    };
    reader.finish()?;
    Ok((name, node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_strict;

    fn fixed() -> Tree {
        let file = |mode, size, name: &str| {
            let (sha256, manifest) = (sha256(name.as_bytes()), sha256(format!("manifest of {name}").as_bytes()));
            (name.to_owned(), TreeNode::File(FileEntry { mode, size, sha256, manifest }))
        };
        let directory = ("optimizer".to_owned(), TreeNode::Directory(sha256(b"tree")));
        let entries = [
            file(FileMode::Regular, 1 << 60, "model.safetensors"),
            directory,
            file(FileMode::Executable, 0, "train.sh"),
            file(FileMode::Symlink, 5, "latest"),
        ];
        Tree { entries: entries.into_iter().collect() }
    }

    #[test]
    fn golden() {
        let (id, bytes) = fixed().encode().unwrap();
        assert_eq!(
            id.to_hex(),
            "aaaee020f1a66457288d7ea058989bb1141865f06851cf223af207624e182bb4",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(Tree::from_bytes(&bytes), Ok(fixed()));
        assert_strict(&bytes, |bytes| Tree::from_bytes(bytes)?.to_bytes());
        assert_eq!(Tree::default().to_bytes().unwrap(), br#"{"entries":[],"type":"tree","version":1}"#);
    }

    #[test]
    fn refusals() {
        let id = sha256(b"");
        let read = |entries: &str| {
            Tree::from_bytes(format!(r#"{{"entries":[{entries}],"type":"tree","version":1}}"#).as_bytes())
        };
        let directory = |name: &str| format!(r#"{{"mode":"040000","name":"{name}","tree":"{id}"}}"#);
        assert!(read(&directory("a")).is_ok());
        let unordered = Err(HistoryError::Order("tree entries"));
        assert_eq!(read(&[directory("b"), directory("a")].join(",")), unordered);
        assert_eq!(read(&[directory("a"), directory("a")].join(",")), unordered);
        for name in ["..", ".shard", "a/b", "", ".GIT"] {
            assert!(matches!(read(&directory(name)), Err(HistoryError::Path(_))), "{name}");
            let mut tree = Tree::default();
            tree.entries.insert(name.to_owned(), TreeNode::Directory(id));
            assert!(matches!(tree.to_bytes(), Err(HistoryError::Path(_))), "{name}");
        }
        let file = format!(r#"{{"manifest":"{id}","mode":"100644","name":"a","sha256":"{id}","size":1}}"#);
        assert!(read(&file).is_ok());
        for (from, to) in [
            ("100644", "100666"),
            (r#""size":1"#, r#""size":-1"#),
            (r#""size":1"#, r#""size":1,"x":1"#),
            (r#""mode":"100644","#, ""),
            ("100644", "040000"),
        ] {
            assert!(matches!(read(&file.replace(from, to)), Err(HistoryError::Object(_))), "{from} {to}");
        }
        let newer = Tree::from_bytes(br#"{"entries":[],"type":"tree","version":2}"#);
        assert!(matches!(newer, Err(HistoryError::Object(ObjectError::Newer { found: 2, .. }))));
        let more = Tree::from_bytes(br#"{"entries":[],"later":1,"type":"tree","version":1}"#);
        assert!(matches!(more, Err(HistoryError::Object(ObjectError::Unexpected(_)))));
    }
}
