//! The mark of a file that is an approximation of another one: the field `lossy` of its content manifest.
//!
//! `bound` (float: the largest error of an element as a share of its tensor's root mean square), `of` (id: SHA-256 of the file that
//! was given) and `tensors`: an object with a member for each tensor that was rounded, by name, with `step`, `max_error` and
//! `rms_error` (floats, in the tensor's own unit).
//!
//! It is a field that readers from before it know nothing of: they keep it, and it is part of the manifest's id either way.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use shard_core::Digest;

use crate::canonical;
use crate::content::ContentManifest;
use crate::object::{self, Fields, ObjectError, ObjectReader};

/// The field of the content manifest.
const FIELD: &str = "lossy";

/// How far a file is from the one that was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Lossy {
    /// The largest error of an element, as a share of its tensor's root mean square.
    pub bound: f64,
    /// SHA-256 of the file that was given.
    pub of: Digest,
    /// The tensors that were rounded, by name; all else is as it was given. Empty for a file whose tensors are too many to list.
    pub tensors: BTreeMap<String, TensorError>,
}

/// One sentence for those who see the file.
impl fmt::Display for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bound, of, .. } = self;
        write!(
            f,
            "lossy: an approximation of the file with SHA-256 {of}, within {bound} of each tensor's root mean square"
        )
    }
}

/// What rounding did to a tensor, in the tensor's own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorError {
    /// The step whose multiples the elements became: a power of two.
    pub step: f64,
    /// The largest error of an element.
    pub max_error: f64,
    /// The root mean square of the errors of all finite elements.
    pub rms_error: f64,
}

impl ContentManifest {
    /// The mark of a file that is an approximation; `None` for one that is what was given.
    ///
    /// # Errors
    /// [`ObjectError`] for a mark that is malformed. The file is one that a program marked as lossy all the same.
    pub fn lossy(&self) -> Result<Option<Lossy>, ObjectError> {
        self.extra.fields.get(FIELD).map(|value| Lossy::from_value(value.clone())).transpose()
    }

    /// Marks the file as an approximation, which gives the manifest another id.
    pub fn mark_lossy(&mut self, lossy: &Lossy) {
        self.extra.fields.insert(FIELD.to_owned(), lossy.to_value());
    }
}

impl Lossy {
    /// The value of the field.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let tensor = |(name, error): (&String, &TensorError)| {
            let mut fields = Fields::new();
            fields.insert("step".to_owned(), canonical::float(error.step));
            fields.insert("max_error".to_owned(), canonical::float(error.max_error));
            fields.insert("rms_error".to_owned(), canonical::float(error.rms_error));
            (name.clone(), Value::Object(fields))
        };
        let mut fields = Fields::new();
        fields.insert("bound".to_owned(), canonical::float(self.bound));
        fields.insert("of".to_owned(), object::digest(&self.of));
        fields.insert("tensors".to_owned(), Value::Object(self.tensors.iter().map(tensor).collect()));
        Value::Object(fields)
    }

    fn from_value(value: Value) -> Result<Self, ObjectError> {
        let mut reader = ObjectReader::nested(value, FIELD)?;
        let bound = not_negative(&mut reader, "bound")?;
        if !(bound > 0.0 && bound < 1.0) {
            return Err(reader.invalid("bound", "a number above 0 and below 1"));
        }
        let of = reader.digest("of")?;
        let Value::Object(members) = reader.require("tensors")? else {
            return Err(reader.invalid("tensors", "an object"));
        };
        let mut tensors = BTreeMap::new();
        for (name, value) in members {
            let mut tensor = ObjectReader::nested(value, "lossy.tensors.*")?;
            let error = TensorError {
                step: not_negative(&mut tensor, "step")?,
                max_error: not_negative(&mut tensor, "max_error")?,
                rms_error: not_negative(&mut tensor, "rms_error")?,
            };
            tensors.insert(name, error);
        }
        Ok(Self { bound, of, tensors })
    }
}

/// A float that is finite and not negative.
fn not_negative(reader: &mut ObjectReader, name: &str) -> Result<f64, ObjectError> {
    let value = reader.require(name)?;
    let float = canonical::as_float(&value).filter(|float| float.is_finite() && *float >= 0.0);
    float.ok_or_else(|| reader.invalid(name, "a finite number that is not negative"))
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;
    use crate::content::tests::fixed;
    use crate::joined::{join, split};
    use crate::record::RunRecord;

    fn mark() -> Lossy {
        let error = TensorError { step: 2f64.powi(-12), max_error: 2f64.powi(-13), rms_error: 7.0e-5 };
        let large = TensorError { step: 4.0, max_error: 2.0, rms_error: 1.25 };
        let tensors = [("w".to_owned(), error), ("large".to_owned(), large)].into();
        Lossy { bound: 1e-3, of: sha256(b"given"), tensors }
    }

    #[test]
    fn the_mark_is_part_of_the_manifest_and_of_its_joined_form() {
        let plain = fixed();
        assert_eq!(plain.lossy(), Ok(None));
        let mut marked = plain.clone();
        marked.mark_lossy(&mark());
        let (id, bytes) = marked.encode().unwrap();
        assert_ne!(id, plain.id().unwrap());
        let read = ContentManifest::from_bytes(&bytes).unwrap();
        assert_eq!(read.lossy().unwrap(), Some(mark()));
        assert_eq!(read.to_bytes().unwrap(), bytes);
        let joined = join(&marked, &RunRecord::new("model")).unwrap();
        assert_eq!(split(&joined).unwrap().0.lossy().unwrap(), Some(mark()));
        let text = String::from_utf8(bytes).unwrap();
        let start = format!("\"lossy\":{{\"bound\":0.001,\"of\":\"{}\",\"tensors\":{{\"large\":", sha256(b"given"));
        assert!(text.contains(&start), "{text}");
        assert!(
            text.contains("\"w\":{\"max_error\":0.0001220703125,\"rms_error\":0.00007,\"step\":0.000244140625}"),
            "{text}"
        );
    }

    #[test]
    fn marks_that_are_malformed_are_no_absent_ones() {
        let marked = |change: &dyn Fn(&mut Value)| {
            let mut manifest = fixed();
            let mut value = mark().to_value();
            change(&mut value);
            manifest.extra.fields.insert(FIELD.to_owned(), value);
            manifest.lossy()
        };
        assert_eq!(marked(&|value| value["later"] = 1.into()), Ok(Some(mark())), "what a later version may add");
        assert!(marked(&|value| *value = true.into()).is_err());
        assert!(marked(&|value| value["bound"] = "NaN".into()).is_err());
        for bound in [0.0, -0.5, 1.0, 2.5] {
            let error = marked(&|value| value["bound"] = canonical::float(bound)).unwrap_err();
            assert!(error.to_string().contains("above 0 and below 1") || bound < 0.0, "{error}");
        }
        let exact = marked(&|value| value["tensors"]["w"]["rms_error"] = canonical::float(0.0));
        assert_eq!(exact.unwrap().unwrap().tensors["w"].rms_error, 0.0);
        assert!(marked(&|value| value["of"] = "0".into()).is_err());
        assert!(marked(&|value| value["tensors"] = Value::Null).is_err());
        assert!(marked(&|value| value["tensors"]["w"]["step"] = (-1.0).into()).is_err());
    }
}
