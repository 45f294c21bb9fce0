//! A commit: a tree, the commits it follows, and what was said about it.
//!
//! Version 1: `type` "commit", `version` 1, `tree` (id), `parents` (array of ids, the first is the branch that was on),
//! `created_at` (RFC 3339, UTC), `message`, and where there are any `author` and `records` (array of run records, sorted by
//! the bytes of `file_path`, one a file).

use serde_json::Value;
use shard_core::{Digest, sha256};
use shard_manifest::RunRecord;
use shard_manifest::object::{self, Fields, ObjectReader, ObjectWriter};

use crate::dag::Node;
use crate::error::HistoryError;
use crate::path::validate_path;
use crate::timestamp::Timestamp;

const KIND: &str = "commit";
const VERSION: u64 = 1;
const FIELDS: &[&str] = &["author", "created_at", "message", "parents", "records", "tree", "type", "version"];

/// A commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Id of the root tree.
    pub tree: Digest,
    /// Ids of the parents, each once; none for a first commit.
    pub parents: Vec<Digest>,
    /// When it was made: RFC 3339 in UTC, as [`Timestamp`] writes it.
    pub created_at: String,
    /// Who made it.
    pub author: Option<String>,
    /// What it is for; the first line is its title.
    pub message: String,
    /// Run records of files, sorted by path, one a file.
    pub records: Vec<RunRecord>,
    /// Unknown fields.
    pub extra: Fields,
}

impl Commit {
    /// The canonical JSON.
    ///
    /// # Errors
    /// [`HistoryError`] where [`Self::from_bytes`] would refuse the bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HistoryError> {
        self.check()?;
        let mut writer = ObjectWriter::new(&self.extra, FIELDS)?;
        writer
            .put("tree", object::digest(&self.tree))
            .put("parents", self.parents.iter().map(object::digest).collect::<Vec<_>>())
            .put("created_at", self.created_at.as_str())
            .put_some("author", self.author.as_deref())
            .put("message", self.message.as_str());
        if !self.records.is_empty() {
            let records = self.records.iter().map(|record| record.to_fields().map(Value::Object));
            writer.put("records", records.collect::<Result<Vec<_>, _>>()?);
        }
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

    /// The id: SHA-256 of the canonical JSON.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn id(&self) -> Result<Digest, HistoryError> {
        Ok(self.encode()?.0)
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`HistoryError`] for anything that [`Self::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HistoryError> {
        let mut reader = ObjectReader::open(bytes, KIND, VERSION)?;
        let mut records = Vec::new();
        if let Some(value) = reader.take("records") {
            let Value::Array(values) = value else { return Err(reader.invalid("records", "an array").into()) };
            if values.is_empty() {
                return Err(reader.invalid("records", "absent where there are none").into());
            }
            for (index, value) in values.into_iter().enumerate() {
                records.push(RunRecord::from_value(value, &format!("records[{index}]"))?);
            }
        }
        let commit = Self {
            tree: reader.digest("tree")?,
            parents: reader.digests("parents")?,
            created_at: reader.string("created_at")?,
            author: reader.optional_string("author")?,
            message: reader.string("message")?,
            records,
            extra: reader.unknown(),
        };
        commit.check()?;
        Ok(commit)
    }

    /// The first line of the message.
    #[must_use]
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The record of a file.
    #[must_use]
    pub fn record(&self, file_path: &str) -> Option<&RunRecord> {
        self.records.iter().find(|record| record.file_path == file_path)
    }

    /// When the commit was made.
    ///
    /// # Errors
    /// [`HistoryError::Time`].
    pub fn time(&self) -> Result<Timestamp, HistoryError> {
        self.created_at.parse()
    }

    /// The commit's place in the graph.
    ///
    /// # Errors
    /// [`HistoryError::Time`].
    pub fn node(&self) -> Result<Node, HistoryError> {
        Ok(Node { parents: self.parents.clone(), time: self.time()? })
    }

    fn check(&self) -> Result<(), HistoryError> {
        self.time()?;
        let mut parents = self.parents.clone();
        parents.sort_unstable();
        if !parents.is_sorted_by(|a, b| a < b) {
            return Err(HistoryError::Order("parents"));
        }
        for record in &self.records {
            validate_path(&record.file_path)?;
        }
        if !self.records.is_sorted_by(|a, b| a.file_path < b.file_path) {
            return Err(HistoryError::Order("records"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_strict;
    use proptest::prelude::*;
    use serde_json::json;
    use shard_manifest::ObjectError;

    fn fixed() -> Commit {
        Commit {
            tree: sha256(b"tree"),
            parents: vec![sha256(b"second"), sha256(b"first")],
            created_at: "2025-01-02T03:04:05.678Z".to_owned(),
            author: Some("Ada <ada@example.com>".to_owned()),
            message: "Epoch 3\n\nLoss 1.5".to_owned(),
            records: vec![
                RunRecord { step: Some(3), ..RunRecord::new("a.safetensors") },
                RunRecord { seed: Some(u64::MAX), ..RunRecord::new("b/c.pt") },
            ],
            extra: json!({"later": [true]}).as_object().cloned().unwrap(),
        }
    }

    #[test]
    fn golden() {
        let (id, bytes) = fixed().encode().unwrap();
        assert_eq!(
            id.to_hex(),
            "7dd305bf95a80970afb050199f1cd5899db4bab89be477ed5c8a2a9d3e599732",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        let read = Commit::from_bytes(&bytes).unwrap();
        assert_eq!((read.title(), read.id()), ("Epoch 3", Ok(id)));
        assert_eq!(read.record("b/c.pt").and_then(|record| record.seed), Some(u64::MAX));
        assert_eq!(read.record("b"), None);
        assert_eq!(read.node().unwrap(), Node { parents: fixed().parents, time: fixed().time().unwrap() });
        assert_eq!(read, fixed());
        assert_strict(&bytes, |bytes| Commit::from_bytes(bytes)?.to_bytes());
    }

    #[test]
    fn a_first_commit_is_small() {
        let commit = Commit {
            parents: Vec::new(),
            author: None,
            records: Vec::new(),
            extra: Fields::new(),
            message: String::new(),
            ..fixed()
        };
        let bytes = commit.to_bytes().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap().replace(&sha256(b"tree").to_hex(), "id");
        let expected = r#"{"created_at":"2025-01-02T03:04:05.678Z","message":"","parents":[],"tree":"id","type":"commit","version":1}"#;
        assert_eq!(text, expected);
        assert_eq!(Commit::from_bytes(&bytes), Ok(commit));
    }

    #[test]
    fn refusals() {
        type Change<'a> = &'a dyn Fn(&mut Commit);
        let same_parents: Change<'_> = &|commit| commit.parents = vec![sha256(b""); 2];
        let unsorted: Change<'_> = &|commit| commit.records.reverse();
        let twice: Change<'_> = &|commit| commit.records[1].file_path = "a.safetensors".to_owned();
        let outside: Change<'_> = &|commit| commit.records[0].file_path = "../a".to_owned();
        let time: Change<'_> = &|commit| commit.created_at = "2025-01-02T03:04:05+01:00".to_owned();
        let name: Change<'_> = &|commit| drop(commit.extra.insert("tree".to_owned(), json!(1)));
        let errors = [same_parents, unsorted, twice, outside, time, name].map(|change| {
            let mut commit = fixed();
            change(&mut commit);
            commit.to_bytes().unwrap_err()
        });
        assert_eq!(errors[0], HistoryError::Order("parents"));
        assert_eq!((&errors[1], &errors[2]), (&HistoryError::Order("records"), &HistoryError::Order("records")));
        assert!(matches!(errors[3], HistoryError::Path(_)));
        assert_eq!(errors[4], HistoryError::Time("2025-01-02T03:04:05+01:00".to_owned()));
        assert_eq!(errors[5], HistoryError::Object(ObjectError::Unexpected("tree".to_owned())));

        let text = String::from_utf8(fixed().to_bytes().unwrap()).unwrap();
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            ("a.safetensors", "z.safetensors"),
            ("a.safetensors", ".git/config"),
            ("2025-01-02", "2025-02-30"),
            (r#""author":"Ada <ada@example.com>","#, r#""author":null,"#),
        ] {
            assert!(text.contains(from));
            assert!(Commit::from_bytes(text.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        let empty = Commit { records: Vec::new(), ..fixed() }.to_bytes().unwrap();
        let empty = String::from_utf8(empty).unwrap().replace(r#""tree""#, r#""records":[],"tree""#);
        assert!(matches!(Commit::from_bytes(empty.as_bytes()), Err(HistoryError::Object(_))));
    }

    proptest! {
        #[test]
        fn commits_round_trip(
            author in prop::option::of(any::<String>()), message: String, seconds in 0i64..4_000_000_000, nanos in 0u32..1_000_000_000,
            parents in prop::collection::hash_set(any::<u8>(), 0..5), paths in prop::collection::btree_set("m[a-z]{0,6}", 0..5),
        ) {
            let commit = Commit {
                tree: sha256(b""),
                parents: parents.iter().map(|parent| sha256(&[*parent])).collect(),
                created_at: Timestamp::from_unix(seconds, nanos).unwrap().to_string(),
                author,
                message,
                records: paths.into_iter().map(RunRecord::new).collect(),
                extra: Fields::new(),
            };
            let bytes = commit.to_bytes().unwrap();
            prop_assert_eq!(Commit::from_bytes(&bytes).unwrap(), commit);
        }
    }
}
