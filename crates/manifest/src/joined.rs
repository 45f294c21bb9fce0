//! The joined form: one JSON object with everything about one file, for Git and archives. It holds the fields of the run
//! record and of the content manifest side by side, and each tensor lists the ids of the blocks that hold it.
//!
//! Version 1: `type` "model", `version`, the fields of [`RunRecord`], the fields of [`ContentManifest`] with four
//! differences, and what either has of unknown fields.
//! - Each tensor has `blocks`: the ids of all blocks that hold a byte of it, in order.
//! - A segment of tensor data that one tensor covers whole has no `blocks`, but `tensor`: the index of that tensor.
//! - Its version is that of the content manifest, and so is what version 2 can say.
//! - Unknown fields of the content manifest itself are in the object `content_fields`; those of the record are members of
//!   the joined object.

use serde_json::Value;

use crate::canonical::{CanonicalError, MAX_VALUES};
use crate::content::{self, ContentManifest, ManifestError};
use crate::object::{self, ObjectError, ObjectReader};
use crate::record::RunRecord;

const KIND: &str = "model";
/// The newest version.
const VERSION: u64 = 2;
const CONTENT_FIELDS: &str = "content_fields";

/// Names that unknown fields of a record may not have, since they mean something else in the joined form.
pub(crate) const RESERVED: &[&str] =
    &["compressed", "content_fields", "cut", "format", "segments", "sha256", "size", "tensors", "type", "version"];

/// The joined form of a file's content manifest and run record, as canonical JSON.
///
/// # Errors
/// [`ManifestError`] where either is malformed, or the result is over the limits of canonical JSON.
pub fn join(content: &ContentManifest, record: &RunRecord) -> Result<Vec<u8>, ManifestError> {
    let mut joined = record.to_fields()?;
    let mut fields = content.to_fields()?;
    let mut listed = 0usize;
    if let Some(Value::Array(segments)) = fields.get_mut("segments") {
        for (index, tensor) in owners(content).into_iter().enumerate() {
            if let (Some(tensor), Some(Value::Object(segment))) = (tensor, segments.get_mut(index)) {
                segment.remove("blocks");
                segment.insert("tensor".to_owned(), Value::from(tensor));
            }
        }
    }
    if let Some(Value::Array(tensors)) = fields.get_mut("tensors") {
        for (view, tensor) in content.tensors.iter().zip(tensors) {
            let (blocks, _) = content.tensor_blocks(view);
            // Many views of one large segment would repeat its blocks without end. The blocks of an opaque segment are
            // counted through, so all of them count.
            let opaque = content.segments.get(view.segment).filter(|segment| segment.dtype.is_none());
            listed += opaque.map_or(blocks.len(), |segment| segment.blocks.len());
            if listed > MAX_VALUES {
                return Err(ObjectError::Canonical(CanonicalError::TooManyValues).into());
            }
            if let Value::Object(tensor) = tensor {
                let ids = blocks.iter().map(|block| object::digest(&block.id)).collect();
                tensor.insert("blocks".to_owned(), Value::Array(ids));
            }
        }
    }
    for name in content::FIELDS {
        if let Some(value) = fields.remove(*name) {
            joined.insert((*name).to_owned(), value);
        }
    }
    if !fields.is_empty() {
        joined.insert(CONTENT_FIELDS.to_owned(), Value::Object(fields));
    }
    Ok(object::seal(joined, KIND, content.version())?)
}

/// Splits the joined form again: the same manifest, byte for byte, and the same record.
///
/// # Errors
/// [`ManifestError`] for anything that [`join`] does not write.
pub fn split(bytes: &[u8]) -> Result<(ContentManifest, RunRecord), ManifestError> {
    let mut reader = ObjectReader::open(bytes, KIND, VERSION)?;
    let mut fields = reader.optional_object(CONTENT_FIELDS)?.unwrap_or_default();
    if let Some(name) = RESERVED.iter().find(|name| fields.contains_key(**name) && **name != CONTENT_FIELDS) {
        return Err(ObjectError::Unexpected(format!("{CONTENT_FIELDS}.{name}")).into());
    }
    let mut tensors = reader.array("tensors")?;
    let mut blocks: Vec<Option<Value>> = Vec::with_capacity(tensors.len());
    for tensor in &mut tensors {
        blocks.push(tensor.as_object_mut().and_then(|tensor| tensor.remove("blocks")));
    }
    let mut segments = reader.array("segments")?;
    for segment in segments.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(tensor) = segment.remove("tensor") {
            let index = tensor.as_u64().and_then(|index| usize::try_from(index).ok());
            // Taken, not copied: a file cannot name one long list many times.
            let ids = index.and_then(|index| blocks.get_mut(index)).and_then(Option::take);
            segment.insert("blocks".to_owned(), ids.ok_or(ManifestError::Joined)?);
        }
    }
    fields.insert("tensors".to_owned(), Value::Array(tensors));
    fields.insert("segments".to_owned(), Value::Array(segments));
    for name in ["cut", "format", "sha256", "size"] {
        fields.insert(name.to_owned(), reader.require(name)?);
    }
    if let Some(compressed) = reader.take("compressed") {
        fields.insert("compressed".to_owned(), compressed);
    }
    let content = ContentManifest::from_reader(ObjectReader::of(fields, ""))?;
    let record = RunRecord::from_reader(reader)?;
    // The ids that tensors list say again what the segments say, so they are checked by saying it again.
    if join(&content, &record)? == bytes { Ok((content, record)) } else { Err(ManifestError::Joined) }
}

/// For each segment of tensor data the first tensor that covers it whole.
fn owners(content: &ContentManifest) -> Vec<Option<usize>> {
    let mut owners = vec![None; content.segments.len()];
    for (index, view) in content.tensors.iter().enumerate() {
        let (Some(segment), Some(owner)) = (content.segments.get(view.segment), owners.get_mut(view.segment)) else {
            continue;
        };
        let whole = segment.dtype.is_some() && view.offset == 0 && view.byte_len() == Some(segment.len);
        if whole && owner.is_none() {
            *owner = Some(index);
        }
    }
    owners
}

#[cfg(test)]
mod tests;
