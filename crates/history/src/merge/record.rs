//! What a merge commit says about how it was made, so that it can be made again bit for bit.
//!
//! The field `merge` of a commit, an object: `base` (id of the commit that the merge started from; absent for histories that
//! share nothing), `files` (array of the paths that were merged tensor by tensor, sorted by their bytes; absent where there are
//! none), `rules` (array of the rules in order, absent where there are none: each has `pattern`, `strategy`, which is `ours`,
//! `theirs`, `average` or `task`, and for `task` `ours` and `theirs`, the weights, as numbers), `scope` (`conflicts` or
//! `changes`: what the rules applied to), and `arithmetic` (integer from 1: the version of the rules by which results were
//! computed). The sides are the commit's parents, ours first.

use serde_json::Value;
use shard_core::Digest;
use shard_manifest::canonical;
use shard_manifest::object::{self, Fields, ObjectError, ObjectReader, ObjectWriter};

use crate::commit::Commit;
use crate::error::HistoryError;
use crate::glob::Glob;
use crate::merge::strategy::{Rule, Rules, Scope, Strategy, Weight};
use crate::path::validate_path;

/// The name of the commit's field.
pub const FIELD: &str = "merge";

const FIELDS: &[&str] = &["arithmetic", "base", "files", "rules", "scope"];

/// How a merge was made.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeRecord {
    /// The commit that the merge started from; `None` for histories that share nothing.
    pub base: Option<Digest>,
    /// The paths that were merged tensor by tensor, sorted, each once.
    pub files: Vec<String>,
    /// What decided where both sides changed a tensor.
    pub rules: Rules,
    /// The version of the arithmetic by which tensors were computed, from 1.
    pub arithmetic: u64,
    /// Unknown fields.
    pub extra: Fields,
}

impl MergeRecord {
    /// The record of a commit, if it has one.
    ///
    /// # Errors
    /// As [`Self::from_fields`].
    pub fn of(commit: &Commit) -> Result<Option<Self>, HistoryError> {
        let Some(value) = commit.extra.get(FIELD) else { return Ok(None) };
        let Value::Object(fields) = value else {
            return Err(ObjectError::Invalid { field: FIELD.to_owned(), expected: "an object" }.into());
        };
        Self::from_fields(fields.clone()).map(Some)
    }

    /// Puts the record into a commit.
    ///
    /// # Errors
    /// As [`Self::to_fields`].
    pub fn put(&self, commit: &mut Commit) -> Result<(), HistoryError> {
        commit.extra.insert(FIELD.to_owned(), Value::Object(self.to_fields()?));
        Ok(())
    }

    /// The members of the object.
    ///
    /// # Errors
    /// [`HistoryError`] where [`Self::from_fields`] would refuse them.
    pub fn to_fields(&self) -> Result<Fields, HistoryError> {
        self.check()?;
        let mut writer = ObjectWriter::new(&self.extra, FIELDS)?;
        if let Some(base) = &self.base {
            writer.put("base", object::digest(base));
        }
        if !self.files.is_empty() {
            writer.put("files", self.files.iter().map(|path| Value::from(path.as_str())).collect::<Vec<_>>());
        }
        if !self.rules.as_slice().is_empty() {
            writer.put("rules", self.rules.as_slice().iter().map(rule_value).collect::<Vec<_>>());
        }
        writer.put("scope", self.rules.scope.as_str()).put("arithmetic", canonical::integer(self.arithmetic));
        Ok(writer.into_fields())
    }

    /// Reads the members of the object.
    ///
    /// # Errors
    /// [`HistoryError`] for anything that [`Self::to_fields`] does not write.
    pub fn from_fields(fields: Fields) -> Result<Self, HistoryError> {
        let mut reader = ObjectReader::of(fields, FIELD);
        let files = reader.optional_array("files")?.unwrap_or_default().into_iter().map(|path| match path {
            Value::String(path) => Ok(path),
            _ => Err(reader.invalid("files", "an array of paths")),
        });
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let rules = reader.optional_array("rules")?.unwrap_or_default().into_iter().enumerate();
        let rules = rules.map(|(index, value)| read_rule(value, &reader.locate(&format!("rules[{index}]"))));
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        let scope = reader.string("scope")?;
        let scope = Scope::ALL.into_iter().find(|known| known.as_str() == scope);
        let scope = scope.ok_or_else(|| reader.invalid("scope", "conflicts or changes"))?;
        let record = Self {
            base: reader.optional_digest("base")?,
            files,
            rules: Rules::new(rules, scope).map_err(|_| reader.invalid("rules", "short enough"))?,
            arithmetic: reader.integer("arithmetic")?,
            extra: reader.unknown(),
        };
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), HistoryError> {
        if self.arithmetic == 0 {
            let field = format!("{FIELD}.arithmetic");
            return Err(ObjectError::Invalid { field, expected: "a version from 1 on" }.into());
        }
        for path in &self.files {
            validate_path(path)?;
        }
        if self.files.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(HistoryError::Order("files")) }
    }
}

fn rule_value(rule: &Rule) -> Value {
    let mut fields = Fields::new();
    fields.insert("pattern".to_owned(), Value::from(rule.pattern.as_str()));
    fields.insert("strategy".to_owned(), Value::from(rule.strategy.as_str()));
    if let Strategy::Task { ours, theirs } = rule.strategy {
        fields.insert("ours".to_owned(), canonical::float(ours.get()));
        fields.insert("theirs".to_owned(), canonical::float(theirs.get()));
    }
    Value::Object(fields)
}

/// Rules have no unknown fields: one could mean something else than it says here.
fn read_rule(value: Value, path: &str) -> Result<Rule, ObjectError> {
    let mut reader = ObjectReader::nested(value, path)?;
    let pattern = Glob::new(&reader.string("pattern")?).map_err(|_| reader.invalid("pattern", "a pattern"))?;
    let strategy = match reader.string("strategy")?.as_str() {
        "ours" => Strategy::Ours,
        "theirs" => Strategy::Theirs,
        "average" => Strategy::Average,
        "task" => Strategy::Task { ours: weight(&mut reader, "ours")?, theirs: weight(&mut reader, "theirs")? },
        _ => return Err(reader.invalid("strategy", "a strategy that this shard knows")),
    };
    match reader.unknown().keys().next() {
        Some(name) => Err(ObjectError::Unexpected(format!("{path}.{name}"))),
        None => Ok(Rule { pattern, strategy }),
    }
}

fn weight(reader: &mut ObjectReader, name: &str) -> Result<Weight, ObjectError> {
    let value = canonical::as_float(&reader.require(name)?);
    value.and_then(Weight::new).ok_or_else(|| reader.invalid(name, "a finite number"))
}

#[cfg(test)]
mod tests {
    use super::{Strategy, *};
    use proptest::prelude::*;
    use serde_json::json;
    use shard_core::sha256;

    fn fixed() -> MergeRecord {
        let texts = ["encoder.*=theirs", "*.bias=average", "lm_head.*=task:0.7,-3", "ours"];
        MergeRecord {
            base: Some(sha256(b"base")),
            files: vec!["a/model.safetensors".to_owned(), "b.pt".to_owned()],
            rules: Rules::parse(texts, Scope::Changes).unwrap(),
            arithmetic: 1,
            extra: json!({"later": [true]}).as_object().cloned().unwrap(),
        }
    }

    fn bytes(record: &MergeRecord) -> Vec<u8> {
        canonical::to_bytes(&Value::Object(record.to_fields().unwrap())).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<MergeRecord, HistoryError> {
        match canonical::parse_canonical(bytes).map_err(ObjectError::from)? {
            Value::Object(fields) => MergeRecord::from_fields(fields),
            _ => Err(ObjectError::Missing("merge".to_owned()).into()),
        }
    }

    #[test]
    fn golden() {
        let text = String::from_utf8(bytes(&fixed())).unwrap();
        let expected = concat!(
            r#"{"arithmetic":1,"base":"BASE","files":["a/model.safetensors","b.pt"],"later":[true],"rules":["#,
            r#"{"pattern":"encoder.*","strategy":"theirs"},{"pattern":"*.bias","strategy":"average"},"#,
            r#"{"ours":0.7,"pattern":"lm_head.*","strategy":"task","theirs":-3},{"pattern":"*","strategy":"ours"}],"#,
            r#""scope":"changes"}"#
        );
        assert_eq!(text, expected.replace("BASE", &sha256(b"base").to_hex()));
        assert_eq!(read(text.as_bytes()), Ok(fixed()));
        crate::damage::assert_strict(text.as_bytes(), |damaged| read(damaged).map(|record| bytes(&record)));

        let plain = MergeRecord { base: None, files: vec![], rules: Rules::default(), extra: Fields::new(), ..fixed() };
        assert_eq!(String::from_utf8(bytes(&plain)).unwrap(), r#"{"arithmetic":1,"scope":"conflicts"}"#);
        assert_eq!(read(&bytes(&plain)), Ok(plain));
    }

    #[test]
    fn a_commit_carries_it() {
        let mut commit = Commit {
            tree: sha256(b"tree"),
            parents: vec![sha256(b"ours"), sha256(b"theirs")],
            created_at: "2025-01-02T03:04:05Z".to_owned(),
            author: None,
            message: "Merge".to_owned(),
            records: vec![],
            extra: Fields::new(),
        };
        assert_eq!(MergeRecord::of(&commit), Ok(None));
        fixed().put(&mut commit).unwrap();
        let read = Commit::from_bytes(&commit.to_bytes().unwrap()).unwrap();
        assert_eq!(MergeRecord::of(&read), Ok(Some(fixed())));
        commit.extra.insert(FIELD.to_owned(), json!(1));
        assert!(matches!(MergeRecord::of(&commit), Err(HistoryError::Object(ObjectError::Invalid { .. }))));
    }

    #[test]
    fn refusals() {
        let text = String::from_utf8(bytes(&fixed())).unwrap();
        for (from, to) in [
            (r#""scope":"changes""#, r#""scope":"all""#),
            (r#""arithmetic":1"#, r#""arithmetic":0"#),
            (r#""strategy":"average""#, r#""strategy":"median""#),
            (r#""strategy":"task","theirs":-3"#, r#""strategy":"task""#),
            (r#""theirs":-3"#, r#""theirs":"NaN""#),
            (r#""theirs":-3"#, r#""theirs":-3,"more":1"#),
            (r#""pattern":"*","strategy":"ours""#, r#""ours":1,"pattern":"*","strategy":"ours""#),
            ("*.bias", "["),
            ("b.pt", "a/a"),
            ("b.pt", "../b"),
            (r#"["a/model.safetensors","b.pt"]"#, "[]"),
        ] {
            assert!(text.contains(from));
            let value: Value = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
            assert!(MergeRecord::from_fields(value.as_object().cloned().unwrap()).is_err(), "{to}");
        }
        let unsorted = MergeRecord { files: vec!["b".to_owned(), "a".to_owned()], ..fixed() };
        assert_eq!(unsorted.to_fields(), Err(HistoryError::Order("files")));
        assert!(MergeRecord { arithmetic: 0, ..fixed() }.to_fields().is_err());
    }

    proptest! {
        #[test]
        fn records_round_trip(
            files in prop::collection::btree_set("m[a-z]{0,6}", 0..4), ours: f64, theirs: f64, pattern in "[a-z*?]{1,6}",
            base: Option<u8>, arithmetic in 1u64..,
        ) {
            if let (Some(ours), Some(theirs)) = (Weight::new(ours), Weight::new(theirs)) {
                let rule = Rule { pattern: Glob::new(&pattern).unwrap(), strategy: Strategy::Task { ours, theirs } };
                let record = MergeRecord {
                    base: base.map(|byte| sha256(&[byte])),
                    files: files.into_iter().collect(),
                    rules: Rules::new(vec![rule], Scope::Conflicts).unwrap(),
                    arithmetic,
                    extra: Fields::new(),
                };
                prop_assert_eq!(read(&bytes(&record)), Ok(record));
            }
        }
    }
}
