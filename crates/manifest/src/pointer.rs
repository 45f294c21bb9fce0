//! The pointer: what Git versions in place of a model file.
//!
//! It is the joined form of the file's content manifest and run record ([`crate::joined`]), or, where that is longer than
//! [`MAX_JOINED`] bytes, a reference to the manifest. Both are canonical JSON.
//!
//! A reference, version 1: `type` "model-reference", `version` 1, `manifest` (id of the content manifest), `sha256` (of the
//! file), `size` (bytes), `record` (the members of the run record).

use serde_json::Value;
use shard_core::Digest;

use crate::canonical;
use crate::content::{ContentManifest, ManifestError};
use crate::joined;
use crate::object::{self, Fields, ObjectError, ObjectReader, ObjectWriter};
use crate::record::RunRecord;

const KIND: &str = "model-reference";
const VERSION: u64 = 1;

/// Longest joined form that is a pointer itself, in bytes.
pub const MAX_JOINED: usize = 1 << 20;

/// Longest pointer that is read, in bytes: one with the largest record that anybody would keep in Git.
pub const MAX_POINTER: u64 = 8 << 20;

/// What a pointer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Pointer {
    /// Id of the content manifest.
    pub manifest: Digest,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What was said about it. Its path is where the file was when the pointer was written; where the pointer lies says where
    /// the file belongs.
    pub record: RunRecord,
}

/// The bytes of the pointer to a file.
///
/// # Errors
/// [`ManifestError`] where manifest or record is malformed.
pub fn write(content: &ContentManifest, record: &RunRecord) -> Result<Vec<u8>, ManifestError> {
    match joined::join(content, record) {
        Ok(bytes) if bytes.len() <= MAX_JOINED => return Ok(bytes),
        Ok(_) | Err(ManifestError::Object(ObjectError::Canonical(_))) => {}
        Err(error) => return Err(error),
    }
    let mut writer = ObjectWriter::new(&Fields::new(), &[])?;
    writer
        .put("manifest", object::digest(&content.id()?))
        .put("sha256", object::digest(&content.sha256))
        .put("size", canonical::integer(content.size))
        .put("record", Value::Object(record.to_fields()?));
    Ok(object::seal(writer.into_fields(), KIND, VERSION)?)
}

/// Reads a pointer.
///
/// # Errors
/// [`ManifestError`] for anything that [`write()`] does not write.
pub fn read(bytes: &[u8]) -> Result<Pointer, ManifestError> {
    let mut reader = match ObjectReader::open(bytes, KIND, VERSION) {
        Ok(reader) => reader,
        Err(ObjectError::Kind { .. }) => {
            let (content, record) = joined::split(bytes)?;
            let manifest = content.id()?;
            return Ok(Pointer { manifest, sha256: content.sha256, size: content.size, record });
        }
        Err(error) => return Err(error.into()),
    };
    let record = reader.require("record")?;
    let pointer = Pointer {
        manifest: reader.digest("manifest")?,
        sha256: reader.digest("sha256")?,
        size: reader.integer("size")?,
        record: RunRecord::from_value(record, "record")?,
    };
    reader.finish()?;
    Ok(pointer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{BlockSpan, ManifestSegment};
    use shard_core::limits::Cut;
    use shard_core::{DType, TensorView, sha256};

    /// A file of so many tensors of one byte.
    fn content(tensors: usize) -> ContentManifest {
        let view = |index: usize| TensorView {
            name: format!("layer.{index}.weight"),
            dtype: DType::U8,
            shape: vec![1],
            segment: index,
            offset: 0,
            strides: None,
        };
        let block = |index: usize| BlockSpan { id: sha256(&index.to_le_bytes()), len: 1 };
        ContentManifest {
            format: "safetensors".to_owned(),
            size: tensors as u64,
            sha256: sha256(b"file"),
            cut: Cut::V1,
            segments: (0..tensors)
                .map(|index| ManifestSegment { len: 1, dtype: Some(DType::U8), blocks: vec![block(index)] })
                .collect(),
            tensors: (0..tensors).map(view).collect(),
            compressed: Vec::new(),
            extra: Default::default(),
        }
    }

    #[test]
    fn small_ones_are_joined_and_large_ones_refer() {
        let record = RunRecord { code_git_sha: Some("a".repeat(40)), step: Some(7), ..RunRecord::new("m/x.bin") };
        for (tensors, kind) in [(3, "\"type\":\"model\""), (8000, "\"type\":\"model-reference\"")] {
            let content = content(tensors);
            let bytes = write(&content, &record).unwrap();
            assert!(String::from_utf8(bytes.clone()).unwrap().contains(kind), "{tensors}");
            assert!(bytes.len() <= MAX_JOINED);
            let pointer = read(&bytes).unwrap();
            assert_eq!((pointer.manifest, pointer.sha256), (content.id().unwrap(), content.sha256));
            assert_eq!((pointer.size, &pointer.record), (content.size, &record));
        }
    }

    #[test]
    fn fault_39_only_its_own_form_is_read() {
        let bytes = write(&content(8000), &RunRecord::new("x.bin")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            ("\"version\":1}", "\"version\":2}"),
            ("model-reference", "commit"),
            ("{\"manifest\"", "{ \"manifest\""),
            ("\"size\":8000", "\"size\":-1"),
            ("\"size\":8000", "\"extra\":1,\"size\":8000"),
            ("\"file_path\":\"x.bin\"", "\"file_path\":7"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(read(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        let short: String = text.chars().take(40).collect();
        for bytes in [b"".as_slice(), b"{}", b"null", &[0xff; 9], short.as_bytes()] {
            assert!(read(bytes).is_err());
        }
    }
}
