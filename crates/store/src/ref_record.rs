//! One state of a ref, as it is written down: a numbered file that never changes.

use std::fmt;

use shard_core::Digest;

use crate::nonce::Nonce;
use crate::record::{RecordError, RecordReader, RecordWriter};
use crate::ref_name;
use crate::refs::MAX_MESSAGE;

const KIND: &str = "ref";
const VERSION: u32 = 1;

/// What a ref names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A commit.
    Commit(Digest),
    /// A tree.
    Tree(Digest),
    /// A tag object.
    Tag(Digest),
    /// Another ref.
    Symbolic(String),
    /// Nothing any more: the ref was deleted.
    Deleted,
}

impl Target {
    fn parse(text: &str) -> Option<Self> {
        if text == "deleted" {
            return Some(Self::Deleted);
        }
        let (kind, value) = text.split_once(' ')?;
        let id = || Digest::from_hex(value).ok();
        match kind {
            "commit" => id().map(Self::Commit),
            "tree" => id().map(Self::Tree),
            "tag" => id().map(Self::Tag),
            "ref" => ref_name::check(value).is_ok().then(|| Self::Symbolic(value.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(id) => write!(f, "commit {id}"),
            Self::Tree(id) => write!(f, "tree {id}"),
            Self::Tag(id) => write!(f, "tag {id}"),
            Self::Symbolic(name) => write!(f, "ref {name}"),
            Self::Deleted => f.write_str("deleted"),
        }
    }
}

/// A ref at one of its generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefState {
    /// The ref's name.
    pub name: String,
    /// Counts the ref's states, from 1.
    pub generation: u64,
    /// Tells this state from any other that a racing writer may have wanted at its place.
    pub nonce: Nonce,
    /// The nonce of the state before it.
    pub previous: Option<Nonce>,
    /// Shared by all refs that one operation moved.
    pub operation: Nonce,
    /// What the ref names.
    pub target: Target,
    /// When it was written by its writer's clock, RFC 3339 in UTC. For people: nothing rests on it.
    pub created_at: String,
    /// Why it moved, in one line.
    pub message: String,
}

impl RefState {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let record = RecordWriter::new(KIND, VERSION)
            .field("name", &self.name)
            .field("generation", &self.generation.to_string())
            .field("nonce", &self.nonce.to_hex());
        let record = match &self.previous {
            Some(previous) => record.field("previous", &previous.to_hex()),
            None => record,
        };
        record
            .field("operation", &self.operation.to_hex())
            .field("target", &self.target.to_string())
            .field("created", &self.created_at)
            .field("message", &self.message)
            .finish()
    }

    /// What a torn state named, where that line of it is whole. Nothing proves it.
    #[must_use]
    pub fn torn_target(bytes: &[u8]) -> Option<Target> {
        let ended = bytes.iter().rposition(|byte| *byte == b'\n')?;
        let lines = std::str::from_utf8(&bytes[..ended]).ok()?;
        lines.lines().find_map(|line| Target::parse(line.strip_prefix("target ")?))
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// An error for anything torn, damaged or not in its one form.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record = RecordReader::new(bytes, KIND, VERSION)?;
        let name = record.field("name")?;
        ref_name::check(&name).map_err(|_| RecordError::Field("name"))?;
        let generation = record.number("generation")?;
        let nonce = record.nonce("nonce")?;
        let previous = match record.optional("previous")? {
            Some(text) => Some(Nonce::from_hex(&text).ok_or(RecordError::Field("previous"))?),
            None => None,
        };
        let operation = record.nonce("operation")?;
        let target = Target::parse(&record.field("target")?).ok_or(RecordError::Field("target"))?;
        let (created_at, message) = (record.field("created")?, record.field("message")?);
        record.finish()?;
        if message.len() > MAX_MESSAGE {
            return Err(RecordError::Field("message"));
        }
        if generation == 0 || (generation == 1) != previous.is_none() {
            return Err(RecordError::Field("generation"));
        }
        Ok(Self { name, generation, nonce, previous, operation, target, created_at, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shard_core::sha256;

    #[test]
    fn states_round_trip() {
        let id = sha256(b"x");
        let targets = [
            Target::Commit(id),
            Target::Tree(id),
            Target::Tag(id),
            Target::Symbolic("heads/main".to_owned()),
            Target::Deleted,
        ];
        for (generation, target) in (1..).zip(targets) {
            let state = RefState {
                name: "heads/main".to_owned(),
                generation,
                nonce: Nonce([1; 16]),
                previous: (generation > 1).then_some(Nonce([2; 16])),
                operation: Nonce([3; 16]),
                target,
                created_at: "2026-01-01T00:00:00Z".to_owned(),
                message: "two\nlines and a \u{1b}[31m colour".to_owned(),
            };
            let bytes = state.encode();
            assert!(!bytes.contains(&0x1b));
            assert_eq!(RefState::decode(&bytes), Ok(state.clone()));
            let whole = bytes.windows(8).position(|line| line == b"created ").unwrap();
            assert_eq!(RefState::torn_target(&bytes[..whole]), Some(state.target.clone()));
            assert_eq!(RefState::torn_target(&bytes[..whole - 1]), None);
            let wrong = RefState { generation: 0, ..state.clone() };
            assert_eq!(RefState::decode(&wrong.encode()), Err(RecordError::Field("generation")));
            let long = RefState { message: "a".repeat(MAX_MESSAGE), ..state };
            assert_eq!(RefState::decode(&long.encode()).as_ref(), Ok(&long));
            let wrong = RefState { message: "a".repeat(MAX_MESSAGE + 1), ..long };
            assert_eq!(RefState::decode(&wrong.encode()), Err(RecordError::Field("message")));
        }
        for bad in ["commit", "commit ../x", "ref ../x", "ref ", "tree  ", "Deleted"] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }
}
