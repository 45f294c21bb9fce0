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
