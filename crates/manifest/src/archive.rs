//! The root of an archive: which files it holds, in the order in which they were given.
//!
//! Version 1: `type` "archive", `version` 1, `files`: an array of objects with `path`, `mode` ("100644", "100755" or
//! "120000"), `size` (bytes), `sha256` (of the file), `manifest` (the content manifest's id), `storage` (the storage
//! manifest's id) and, where something was recorded, `record` (the run record's fields).

use std::collections::BTreeSet;

use serde_json::Value;
use shard_core::Digest;

use crate::canonical;
use crate::object::{self, Fields, ObjectError, ObjectReader, ObjectWriter};
use crate::record::RunRecord;

const KIND: &str = "archive";
const VERSION: u64 = 1;
const FIELDS: &[&str] = &["files", "type", "version"];
const FILE_FIELDS: &[&str] = &["manifest", "mode", "path", "record", "sha256", "size", "storage"];
const MODES: [&str; 3] = ["100644", "100755", "120000"];

/// A file of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveFile {
    /// Its path, relative, with `/` between its parts. Whoever unpacks it has to check it.
    pub path: String,
    /// Its mode, as in a tree.
    pub mode: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// The id of its content manifest.
    pub manifest: Digest,
    /// The id of its storage manifest.
    pub storage: Digest,
    /// Its run record.
    pub record: Option<RunRecord>,
    /// Unknown fields.
    pub extra: Fields,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArchiveRoot {
    /// The files, in the order in which they were given: that of a series. Paths are unique.
    pub files: Vec<ArchiveFile>,
    /// Unknown fields.
    pub extra: Fields,
}

impl ArchiveRoot {
    /// The canonical JSON.
    ///
    /// # Errors
    /// [`ObjectError`] for unknown fields with known names, and for records without canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ObjectError> {
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let mut writer = ObjectWriter::new(&file.extra, FILE_FIELDS)?;
            let record = file.record.as_ref().map(RunRecord::to_fields).transpose()?;
            writer
                .put("path", file.path.as_str())
                .put("mode", file.mode.as_str())
                .put("size", canonical::integer(file.size))
                .put("sha256", object::digest(&file.sha256))
                .put("manifest", object::digest(&file.manifest))
                .put("storage", object::digest(&file.storage))
                .put_some("record", record.map(Value::Object));
            files.push(Value::Object(writer.into_fields()));
        }
        let mut writer = ObjectWriter::new(&self.extra, FIELDS)?;
        writer.put("files", Value::Array(files));
        object::seal(writer.into_fields(), KIND, VERSION)
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`ObjectError`], also for a path that comes twice and for an unknown mode.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectError> {
        let mut reader = ObjectReader::open(bytes, KIND, VERSION)?;
        let mut files = Vec::new();
        let mut paths = BTreeSet::new();
        for (index, value) in reader.array("files")?.into_iter().enumerate() {
            let mut file = ObjectReader::nested(value, &format!("files[{index}]"))?;
            let path = file.string("path")?;
            if !paths.insert(path.clone()) {
                return Err(file.invalid("path", "a path that comes once"));
            }
            let mode = file.string("mode")?;
            if !MODES.contains(&mode.as_str()) {
                return Err(file.invalid("mode", "100644, 100755 or 120000"));
            }
            let record = file.optional_object("record")?.map(Value::Object);
            files.push(ArchiveFile {
                path,
                mode,
                size: file.integer("size")?,
                sha256: file.digest("sha256")?,
                manifest: file.digest("manifest")?,
                storage: file.digest("storage")?,
                record: record.map(|record| RunRecord::from_value(record, &file.locate("record"))).transpose()?,
                extra: file.unknown(),
            });
        }
        Ok(Self { files, extra: reader.unknown() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_core::sha256;

    fn example() -> ArchiveRoot {
        let file = |path: &str, record| ArchiveFile {
            path: path.to_owned(),
            mode: "100644".to_owned(),
            size: 1 << 60,
            sha256: sha256(b"file"),
            manifest: sha256(b"manifest"),
            storage: sha256(b"storage"),
            record,
            extra: Fields::new(),
        };
        let record = RunRecord { step: Some(7), ..RunRecord::new("b") };
        ArchiveRoot { files: vec![file("b", Some(record)), file("a", None)], extra: Fields::new() }
    }

    #[test]
    fn round_trip_keeps_the_order_of_the_series() {
        let bytes = example().to_bytes().unwrap();
        assert_eq!(ArchiveRoot::from_bytes(&bytes).unwrap(), example());
        assert_eq!(
            sha256(&bytes).to_hex(),
            "1e726737fe8f36a13dd1960d136fc86372f244d55a96878ddc2a6d169fff8609",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }

    #[test]
    fn no_cut_or_flipped_byte_gives_the_same_root() {
        let bytes = example().to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(ArchiveRoot::from_bytes(&bytes[..end]).is_err(), "cut to {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_ne!(ArchiveRoot::from_bytes(&flipped).ok(), Some(example()), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn refusals() {
        let mut twice = example();
        twice.files[1].path = "b".to_owned();
        assert!(ArchiveRoot::from_bytes(&twice.to_bytes().unwrap()).is_err());
        let mut odd = example();
        odd.files[0].mode = "104755".to_owned();
        assert!(ArchiveRoot::from_bytes(&odd.to_bytes().unwrap()).is_err());
    }
}
