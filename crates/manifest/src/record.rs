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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_strict;
    use proptest::prelude::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        value.as_object().cloned().unwrap()
    }

    fn full() -> RunRecord {
        RunRecord {
            model_name: Some("tiny".to_owned()),
            file_path: "run/model.safetensors".to_owned(),
            code_git_sha: Some("0123abc".to_owned()),
            dataset_hash: Some("sha256:00ff".to_owned()),
            hyperparameters: fields(json!({"lr": 3e-4, "layers": [1, 2], "schedule": {"warmup": 1e21}})),
            epoch: Some(1.5),
            step: Some(1000),
            framework: Some("torch".to_owned()),
            framework_version: Some("2.9".to_owned()),
            optimizer_signature: Some("adamw".to_owned()),
            scheduler_signature: Some("cosine".to_owned()),
            seed: Some(u64::MAX),
            created_at: Some("2025-01-02T03:04:05Z".to_owned()),
            created_by: Some("someone".to_owned()),
            provenance: Some(Provenance {
                log_snapshot: Some("logs/1".to_owned()),
                script_path: Some("train.py".to_owned()),
                extra: fields(json!({"host": null})),
            }),
            message: Some("first\nrun".to_owned()),
            extra: fields(json!({"team": {"name": "é"}})),
        }
    }

    #[test]
    fn golden() {
        let bytes = full().to_bytes().unwrap();
        assert_eq!(RunRecord::from_bytes(&bytes), Ok(full()));
        assert_eq!(
            full().id().unwrap().to_hex(),
            "d72f266236c66ba094dd641f234a2897d8306bab315adff0caf65ad353b8344b",
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_strict(&bytes, |bytes| RunRecord::from_bytes(bytes)?.to_bytes());
        let empty = RunRecord::new("a");
        assert!(empty.is_empty() && !full().is_empty());
        assert_eq!(empty.to_bytes().unwrap(), br#"{"file_path":"a","type":"record","version":1}"#);
    }

    #[test]
    fn every_field_is_written_under_its_name() {
        let written = full().to_fields().unwrap();
        for name in FIELDS {
            assert!(written.contains_key(*name), "{name}");
        }
        assert_eq!(written.get("seed"), Some(&json!("18446744073709551615")));
        assert_eq!(written.len(), FIELDS.len() + 1);
    }

    #[test]
    fn refusals() {
        let read = |text: &str| RunRecord::from_bytes(text.as_bytes());
        let newer = read(r#"{"file_path":"a","type":"record","version":2}"#).unwrap_err();
        assert_eq!(newer, ObjectError::Newer { kind: "record", found: 2, known: 1 });
        assert!(newer.to_string().contains("made by a newer shard"), "{newer}");
        assert!(matches!(read(r#"{"file_path":"a","type":"tree","version":1}"#), Err(ObjectError::Kind { .. })));
        assert_eq!(read(r#"{"type":"record","version":1}"#), Err(ObjectError::Missing("file_path".to_owned())));
        for text in [
            r#"{"file_path":"a","type":"record","version":0}"#,
            r#"{"file_path":"a","type":"record","version":"1"}"#,
            r#"{"epoch":"1","file_path":"a","type":"record","version":1}"#,
            r#"{"file_path":"a","message":null,"type":"record","version":1}"#,
            r#"{"file_path":"a","seed":"7","type":"record","version":1}"#,
            r#"{"file_path":"a","seed":-1,"type":"record","version":1}"#,
            r#"{"file_path":"a","hyperparameters":{},"type":"record","version":1}"#,
            r#"{"file_path":"a","provenance":[],"type":"record","version":1}"#,
        ] {
            assert!(matches!(read(text), Err(ObjectError::Invalid { .. })), "{text}");
        }
        for name in FIELDS.iter().chain(crate::joined::RESERVED) {
            let extra = fields(json!({ *name: "x" }));
            let record = RunRecord { extra, ..RunRecord::new("a") };
            assert_eq!(record.to_bytes(), Err(ObjectError::Unexpected((*name).to_owned())), "{name}");
        }
        assert!(read(r#"{"file_path":"a","sha256":"x","type":"record","version":1}"#).is_err());
    }

    #[test]
    fn odd_numbers_survive() {
        let mut record = RunRecord { epoch: Some(f64::NEG_INFINITY), ..RunRecord::new("a") };
        record.hyperparameters = fields(json!({"big": u64::MAX, "float": 9_007_199_254_740_992.0}));
        let bytes = record.to_bytes().unwrap();
        let read = RunRecord::from_bytes(&bytes).unwrap();
        assert_eq!(read.epoch, record.epoch);
        assert_eq!(
            read.hyperparameters,
            fields(json!({"big": u64::MAX.to_string(), "float": 9_007_199_254_740_992.0}))
        );
        assert_eq!(read.to_bytes().unwrap(), bytes);
    }

    proptest! {
        #[test]
        fn records_round_trip(
            texts in prop::collection::vec(prop::option::of(any::<String>()), 10),
            path: String, epoch in prop::option::of(-1e300..1e300f64),
            numbers in prop::collection::vec(prop::option::of(any::<u64>()), 2),
            names in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
        ) {
            let known = |name: &String| FIELDS.contains(&name.as_str()) || crate::joined::RESERVED.contains(&name.as_str());
            let extra: Fields =
                names.iter().filter(|(name, _)| !known(name)).map(|(name, text)| (name.clone(), json!(text))).collect();
            let text = |index: usize| texts[index].clone();
            let record = RunRecord {
                model_name: text(0), file_path: path, code_git_sha: text(1), dataset_hash: text(2),
                hyperparameters: extra.clone(), epoch, step: numbers[0], framework: text(3), framework_version: text(4),
                optimizer_signature: text(5), scheduler_signature: text(6), seed: numbers[1], created_at: text(7),
                created_by: text(8), provenance: None, message: text(9), extra,
            };
            let bytes = record.to_bytes().unwrap();
            let read = RunRecord::from_bytes(&bytes).unwrap();
            prop_assert_eq!(&read.to_bytes().unwrap(), &bytes);
            prop_assert_eq!(read, record);
        }
    }
}
