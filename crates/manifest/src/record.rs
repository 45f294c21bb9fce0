//! The run record: what the user says about a file. It holds what was asked for and nothing else; all but the path may be
//! absent.

use serde_json::Value;
use shard_core::{Digest, sha256};

use crate::canonical;
use crate::object::{self, Fields, ObjectError, ObjectReader, ObjectWriter};

const KIND: &str = "record";
const VERSION: u64 = 1;

pub(crate) const FIELDS: &[&str] = &[
    "code_git_sha",
    "created_at",
    "created_by",
    "dataset_hash",
    "epoch",
    "file_path",
    "framework",
    "framework_version",
    "hyperparameters",
    "message",
    "model_name",
    "optimizer_signature",
    "provenance",
    "scheduler_signature",
    "seed",
    "step",
];

/// Where a file came from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance {
    /// A snapshot of the training log: a path, an id or a URL.
    pub log_snapshot: Option<String>,
    /// The script that made the file.
    pub script_path: Option<String>,
    /// Unknown fields.
    pub extra: Fields,
}

/// What is said about one file of a commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunRecord {
    /// The model's name.
    pub model_name: Option<String>,
    /// The file's path in the repository.
    pub file_path: String,
    /// The commit of the training code.
    pub code_git_sha: Option<String>,
    /// A hash of the training data, in whatever form its tool has it.
    pub dataset_hash: Option<String>,
    /// Hyperparameters by name. Integers beyond ±(2^53 - 1) are written as strings.
    pub hyperparameters: Fields,
    /// The epoch, which may be a fraction.
    pub epoch: Option<f64>,
    /// The training step.
    pub step: Option<u64>,
    /// The training framework.
    pub framework: Option<String>,
    /// Its version.
    pub framework_version: Option<String>,
    /// What identifies the optimizer's state.
    pub optimizer_signature: Option<String>,
    /// What identifies the learning-rate schedule's state.
    pub scheduler_signature: Option<String>,
    /// The random seed.
    pub seed: Option<u64>,
    /// When the file was made (ISO 8601).
    pub created_at: Option<String>,
    /// Who or what made it.
    pub created_by: Option<String>,
    /// Where it came from.
    pub provenance: Option<Provenance>,
    /// A free text.
    pub message: Option<String>,
    /// Unknown fields.
    pub extra: Fields,
}

impl RunRecord {
    /// A record that says nothing about a file.
    #[must_use]
    pub fn new(file_path: impl Into<String>) -> Self {
        Self { file_path: file_path.into(), ..Self::default() }
    }

    /// Whether the record says nothing but the file's path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.file_path.as_str())
    }

    /// The canonical JSON.
    ///
    /// # Errors
    /// [`ObjectError::Unexpected`] for an unknown field with a known or reserved name, [`ObjectError::Canonical`] for values
    /// without canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ObjectError> {
        object::seal(self.to_fields()?, KIND, VERSION)
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectError> {
        Self::from_reader(ObjectReader::open(bytes, KIND, VERSION)?)
    }

    /// SHA-256 of the canonical JSON.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn id(&self) -> Result<Digest, ObjectError> {
        Ok(sha256(&self.to_bytes()?))
    }

    /// The record as members of another object, without type and version.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn to_fields(&self) -> Result<Fields, ObjectError> {
        // The names of the joined form are reserved too, so that every record can be joined with its content manifest.
        let reserved = [FIELDS, crate::joined::RESERVED].concat();
        let mut writer = ObjectWriter::new(&self.extra, &reserved)?;
        let hyperparameters = self.hyperparameters.iter();
        let hyperparameters = hyperparameters.map(|(name, value)| (name.clone(), canonical::portable(value))).collect();
        writer
            .put_some("model_name", self.model_name.as_deref())
            .put("file_path", self.file_path.as_str())
            .put_some("code_git_sha", self.code_git_sha.as_deref())
            .put_some("dataset_hash", self.dataset_hash.as_deref())
            .put_fields("hyperparameters", hyperparameters)
            .put_some("epoch", self.epoch.map(canonical::float))
            .put_some("step", self.step.map(canonical::integer))
            .put_some("framework", self.framework.as_deref())
            .put_some("framework_version", self.framework_version.as_deref())
            .put_some("optimizer_signature", self.optimizer_signature.as_deref())
            .put_some("scheduler_signature", self.scheduler_signature.as_deref())
            .put_some("seed", self.seed.map(canonical::integer))
            .put_some("created_at", self.created_at.as_deref())
            .put_some("created_by", self.created_by.as_deref())
            .put_some("message", self.message.as_deref());
        if let Some(provenance) = &self.provenance {
            let mut fields = ObjectWriter::new(&provenance.extra, &["log_snapshot", "script_path"])?;
            fields
                .put_some("log_snapshot", provenance.log_snapshot.as_deref())
                .put_some("script_path", provenance.script_path.as_deref());
            writer.put_fields("provenance", fields.into_fields());
        }
        Ok(writer.into_fields())
    }

    /// Reads a record that is an object inside another one, at `path`.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn from_value(value: Value, path: &str) -> Result<Self, ObjectError> {
        Self::from_reader(ObjectReader::nested(value, path)?)
    }

    pub(crate) fn from_reader(mut reader: ObjectReader) -> Result<Self, ObjectError> {
        let epoch = match reader.take("epoch") {
            None => None,
            Some(value) => Some(canonical::as_float(&value).ok_or_else(|| reader.invalid("epoch", "a number"))?),
        };
        let provenance = match reader.optional_object("provenance")? {
            None => None,
            Some(fields) => {
                let mut fields = ObjectReader::of(fields, &reader.locate("provenance"));
                Some(Provenance {
                    log_snapshot: fields.optional_string("log_snapshot")?,
                    script_path: fields.optional_string("script_path")?,
                    extra: fields.unknown(),
                })
            }
        };
        let record = Self {
            model_name: reader.optional_string("model_name")?,
            file_path: reader.string("file_path")?,
            code_git_sha: reader.optional_string("code_git_sha")?,
            dataset_hash: reader.optional_string("dataset_hash")?,
            hyperparameters: reader.optional_object("hyperparameters")?.unwrap_or_default(),
            epoch,
            step: reader.optional_integer("step")?,
            framework: reader.optional_string("framework")?,
            framework_version: reader.optional_string("framework_version")?,
            optimizer_signature: reader.optional_string("optimizer_signature")?,
            scheduler_signature: reader.optional_string("scheduler_signature")?,
            seed: reader.optional_integer("seed")?,
            created_at: reader.optional_string("created_at")?,
            created_by: reader.optional_string("created_by")?,
            provenance,
            message: reader.optional_string("message")?,
            extra: Fields::new(),
        };
        let extra = reader.unknown();
        match crate::joined::RESERVED.iter().find(|name| extra.contains_key(**name)) {
            Some(name) => Err(ObjectError::Unexpected((*name).to_owned())),
            None => Ok(Self { extra, ..record }),
        }
    }
}
