//! JSON objects with a type and a version: strict readers and writers of their fields.
//!
//! Every stored object is one canonical JSON object with the members `type` (text) and `version` (integer, from 1). Reading
//! takes known fields out one by one; what is left are unknown fields, which are kept and written back.

use serde_json::{Map, Value};
use shard_core::Digest;
use thiserror::Error;

use crate::canonical::{self, CanonicalError};

/// The members of a JSON object.
pub type Fields = Map<String, Value>;

/// An object that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// Bytes that are not canonical JSON.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// An object of another type.
    #[error("a {expected} was expected, and this is {found:?}")]
    Kind {
        /// The type asked for.
        expected: &'static str,
        /// The type found, shortened; empty where there is none.
        found: String,
    },
    /// An object of a version that this program does not know.
    #[error("a {kind} of version {found} was made by a newer shard; this one knows version {known}")]
    Newer {
        /// The object's type.
        kind: &'static str,
        /// Its version.
        found: u64,
        /// The newest version known.
        known: u64,
    },
    /// A field that must be there.
    #[error("the field {0} is missing")]
    Missing(String),
    /// A field with a value that it may not have.
    #[error("the field {field} is not {expected}")]
    Invalid {
        /// Where the field is, such as `segments[3].blocks`.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field that this object may not have: unknown where all must be known, or kept as unknown under the name of a known
    /// one.
    #[error("the field {0} is not allowed here")]
    Unexpected(String),
}

/// Takes the fields of one object, each at most once.
#[derive(Debug)]
pub struct ObjectReader {
    fields: Fields,
    /// Where the object is, ending in a dot unless it is the document.
    path: String,
    version: u64,
}

impl ObjectReader {
    /// Reads a document: canonical JSON of type `kind` and a version from 1 to `known`.
    ///
    /// # Errors
    /// [`ObjectError::Canonical`], [`ObjectError::Kind`], [`ObjectError::Newer`], or a malformed version.
    pub fn open(bytes: &[u8], kind: &'static str, known: u64) -> Result<Self, ObjectError> {
        let mut reader = Self::nested(canonical::parse_canonical(bytes)?, "document")?;
        reader.path.clear();
        match reader.take("type") {
            Some(Value::String(found)) if found == kind => {}
            Some(Value::String(found)) => {
                return Err(ObjectError::Kind { expected: kind, found: found.chars().take(40).collect() });
            }
            _ => return Err(ObjectError::Kind { expected: kind, found: String::new() }),
        }
        match reader.integer("version")? {
            0 => Err(reader.invalid("version", "a version from 1 on")),
            found if found > known => Err(ObjectError::Newer { kind, found, known }),
            found => {
                reader.version = found;
                Ok(reader)
            }
        }
    }

    /// The version of a document, 0 for an object inside one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The object in a field called `path`.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] where it is something else.
    pub fn nested(value: Value, path: &str) -> Result<Self, ObjectError> {
        match value {
            Value::Object(fields) => Ok(Self::of(fields, path)),
            _ => Err(ObjectError::Invalid { field: path.to_owned(), expected: "an object" }),
        }
    }

    /// The fields of an object at `path`.
    #[must_use]
    pub fn of(fields: Fields, path: &str) -> Self {
        Self { fields, path: if path.is_empty() { String::new() } else { format!("{path}.") }, version: 0 }
    }

    /// Takes a field out, if it is there.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// [`ObjectError::Missing`].
    pub fn require(&mut self, name: &str) -> Result<Value, ObjectError> {
        self.take(name).ok_or_else(|| ObjectError::Missing(self.locate(name)))
    }

    /// A text.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or [`ObjectError::Invalid`] for anything but a string.
    pub fn string(&mut self, name: &str) -> Result<String, ObjectError> {
        let value = self.require(name)?;
        self.expect_string(name, value)
    }

    /// A text that may be absent (null is not absent).
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] for anything but a string.
    pub fn optional_string(&mut self, name: &str) -> Result<Option<String>, ObjectError> {
        self.take(name).map(|value| self.expect_string(name, value)).transpose()
    }

    fn expect_string(&self, name: &str, value: Value) -> Result<String, ObjectError> {
        match value {
            Value::String(text) => Ok(text),
            _ => Err(self.invalid(name, "a string")),
        }
    }

    /// An integer, as [`canonical::integer`] writes it.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or [`ObjectError::Invalid`] for anything else.
    pub fn integer(&mut self, name: &str) -> Result<u64, ObjectError> {
        let value = self.require(name)?;
        canonical::as_integer(&value).ok_or_else(|| self.invalid(name, "an unsigned integer"))
    }

    /// An integer that may be absent.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] for anything else.
    pub fn optional_integer(&mut self, name: &str) -> Result<Option<u64>, ObjectError> {
        self.take(name)
            .map(|value| canonical::as_integer(&value).ok_or_else(|| self.invalid(name, "an unsigned integer")))
            .transpose()
    }

    /// A SHA-256 digest: 64 lowercase hexadecimal digits.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or [`ObjectError::Invalid`] for anything else.
    pub fn digest(&mut self, name: &str) -> Result<Digest, ObjectError> {
        let value = self.require(name)?;
        as_digest(&value).ok_or_else(|| self.invalid(name, DIGEST))
    }

    /// A digest that may be absent.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] for anything else.
    pub fn optional_digest(&mut self, name: &str) -> Result<Option<Digest>, ObjectError> {
        self.take(name).map(|value| as_digest(&value).ok_or_else(|| self.invalid(name, DIGEST))).transpose()
    }

    /// An array of digests.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or [`ObjectError::Invalid`] for anything else.
    pub fn digests(&mut self, name: &str) -> Result<Vec<Digest>, ObjectError> {
        let values = self.array(name)?;
        let digests = values.iter().map(as_digest).collect::<Option<Vec<_>>>();
        digests.ok_or_else(|| self.invalid(name, "an array of SHA-256 digests"))
    }

    /// An array of integers.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or [`ObjectError::Invalid`] for anything else.
    pub fn integers(&mut self, name: &str) -> Result<Vec<u64>, ObjectError> {
        let values = self.array(name)?;
        let integers = values.iter().map(canonical::as_integer).collect::<Option<Vec<_>>>();
        integers.ok_or_else(|| self.invalid(name, "an array of unsigned integers"))
    }

    /// An array.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], or [`ObjectError::Invalid`] for anything else.
    pub fn array(&mut self, name: &str) -> Result<Vec<Value>, ObjectError> {
        match self.require(name)? {
            Value::Array(values) => Ok(values),
            _ => Err(self.invalid(name, "an array")),
        }
    }

    /// An array of integers that may be absent.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] for anything else.
    pub fn optional_integers(&mut self, name: &str) -> Result<Option<Vec<u64>>, ObjectError> {
        if self.fields.contains_key(name) { self.integers(name).map(Some) } else { Ok(None) }
    }

    /// An array that may be absent; it may not be empty, so that absence has one spelling.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] for anything else.
    pub fn optional_array(&mut self, name: &str) -> Result<Option<Vec<Value>>, ObjectError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) if !values.is_empty() => Ok(Some(values)),
            Some(_) => Err(self.invalid(name, "an array with members")),
        }
    }

    /// An object that may be absent; it may not be empty, so that absence has one spelling.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] for anything else.
    pub fn optional_object(&mut self, name: &str) -> Result<Option<Fields>, ObjectError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(fields)) if !fields.is_empty() => Ok(Some(fields)),
            Some(_) => Err(self.invalid(name, "an object with members")),
        }
    }

    /// The error for a field that is not what is expected.
    #[must_use]
    pub fn invalid(&self, name: &str, expected: &'static str) -> ObjectError {
        ObjectError::Invalid { field: self.locate(name), expected }
    }

    /// Where a field is: the object's path and the field's name.
    #[must_use]
    pub fn locate(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// What was not taken: the unknown fields.
    #[must_use]
    pub fn unknown(self) -> Fields {
        self.fields
    }

    /// Checks that everything was taken.
    ///
    /// # Errors
    /// [`ObjectError::Unexpected`] naming a field that was not.
    pub fn finish(self) -> Result<(), ObjectError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(ObjectError::Unexpected(self.locate(&name.chars().take(80).collect::<String>()))),
        }
    }
}

const DIGEST: &str = "a SHA-256 digest";

/// Reads a digest from its 64 lowercase hexadecimal digits.
#[must_use]
pub fn as_digest(value: &Value) -> Option<Digest> {
    value.as_str().and_then(|text| Digest::from_hex(text).ok())
}

/// The value for a digest.
#[must_use]
pub fn digest(digest: &Digest) -> Value {
    Value::String(digest.to_hex())
}

/// Puts the fields of one object together.
#[derive(Debug)]
pub struct ObjectWriter {
    fields: Fields,
}

impl ObjectWriter {
    /// Starts with the unknown fields, none of which may have the name of a known one.
    ///
    /// # Errors
    /// [`ObjectError::Unexpected`] where one has.
    pub fn new(unknown: &Fields, known: &[&str]) -> Result<Self, ObjectError> {
        match known.iter().find(|name| unknown.contains_key(**name)) {
            Some(name) => Err(ObjectError::Unexpected((*name).to_owned())),
            None => Ok(Self { fields: unknown.clone() }),
        }
    }

    /// Adds a field.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a field if there is something to add.
    pub fn put_some(&mut self, name: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.put(name, value);
        }
        self
    }

    /// Adds an object unless it is empty.
    pub fn put_fields(&mut self, name: &str, fields: Fields) -> &mut Self {
        if !fields.is_empty() {
            self.put(name, fields);
        }
        self
    }

    /// The fields.
    #[must_use]
    pub fn into_fields(self) -> Fields {
        self.fields
    }
}

/// The canonical bytes of a document with those fields, of that type and version.
///
/// # Errors
/// [`ObjectError::Canonical`] for a value without canonical form, or over a limit.
pub fn seal(mut fields: Fields, kind: &str, version: u64) -> Result<Vec<u8>, ObjectError> {
    fields.insert("type".to_owned(), Value::from(kind));
    fields.insert("version".to_owned(), Value::from(version));
    Ok(canonical::to_bytes(&Value::Object(fields))?)
}
