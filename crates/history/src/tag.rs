//! An annotated tag: a name for a commit, and what was said about it.
//!
//! Version 1: `type` "tag", `version` 1, `target` (id of a commit), `name`, `message`, `created_at` (RFC 3339, UTC) and, where
//! there is one, `tagger`.

use shard_core::{Digest, sha256};
use shard_manifest::object::{self, Fields, ObjectReader, ObjectWriter};

use crate::error::HistoryError;
use crate::revision::validate_ref_name;
use crate::timestamp::Timestamp;

const KIND: &str = "tag";
const VERSION: u64 = 1;
const FIELDS: &[&str] = &["created_at", "message", "name", "tagger", "target", "type", "version"];

/// An annotated tag.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// Id of the commit.
    pub target: Digest,
    /// The tag's name.
    pub name: String,
    /// What it is for.
    pub message: String,
    /// When it was made: RFC 3339 in UTC, as [`Timestamp`] writes it.
    pub created_at: String,
    /// Who made it.
    pub tagger: Option<String>,
    /// Unknown fields.
    pub extra: Fields,
}

impl Tag {
    /// The canonical JSON.
    ///
    /// # Errors
    /// [`HistoryError`] where [`Self::from_bytes`] would refuse the bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HistoryError> {
        self.check()?;
        let mut writer = ObjectWriter::new(&self.extra, FIELDS)?;
        writer
            .put("target", object::digest(&self.target))
            .put("name", self.name.as_str())
            .put("message", self.message.as_str())
            .put("created_at", self.created_at.as_str())
            .put_some("tagger", self.tagger.as_deref());
        Ok(object::seal(writer.into_fields(), KIND, VERSION)?)
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
        let tag = Self {
            target: reader.digest("target")?,
            name: reader.string("name")?,
            message: reader.string("message")?,
            created_at: reader.string("created_at")?,
            tagger: reader.optional_string("tagger")?,
            extra: reader.unknown(),
        };
        tag.check()?;
        Ok(tag)
    }

    fn check(&self) -> Result<(), HistoryError> {
        self.created_at.parse::<Timestamp>()?;
        validate_ref_name(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_strict;
    use serde_json::json;

    fn fixed() -> Tag {
        Tag {
            target: sha256(b"commit"),
            name: "release/v1.0".to_owned(),
            message: "First release".to_owned(),
            created_at: "2025-01-02T03:04:05Z".to_owned(),
            tagger: Some("Ada <ada@example.com>".to_owned()),
            extra: json!({"later": 1.25}).as_object().cloned().unwrap(),
        }
    }

    #[test]
    fn golden() {
        let (id, bytes) = fixed().encode().unwrap();
        assert_eq!(
            id.to_hex(),
            "69bd165297eeede9064c742f6d19fdb8daf36d6111dc95d26d9309e0bbd78130",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(Tag::from_bytes(&bytes), Ok(fixed()));
        assert_strict(&bytes, |bytes| Tag::from_bytes(bytes)?.to_bytes());
    }

    #[test]
    fn refusals() {
        let bad_name = Tag { name: "a..b".to_owned(), ..fixed() };
        assert_eq!(bad_name.to_bytes(), Err(HistoryError::RefName("a..b".to_owned())));
        let bad_time = Tag { created_at: "now".to_owned(), ..fixed() };
        assert_eq!(bad_time.to_bytes(), Err(HistoryError::Time("now".to_owned())));
        let text = String::from_utf8(fixed().to_bytes().unwrap()).unwrap();
        for (from, to) in
            [(r#""version":1"#, r#""version":9"#), ("v1.0", "v1 0"), ("03:04:05", "99:04:05"), ("tag\"", "t\"")]
        {
            assert!(text.contains(from));
            assert!(Tag::from_bytes(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
    }
}
