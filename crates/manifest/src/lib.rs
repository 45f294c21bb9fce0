//! What shard writes down about a file, as canonical JSON: the content manifest (bytes and layout, the file's identity), the
//! run record (what the user said about it), the storage manifest (how its blocks are encoded, outside of identity), and the
//! joined form that Git and archives carry. Also sketches, which are binary. Nothing here does I/O.
#![forbid(unsafe_code)]

pub mod archive;
pub mod canonical;
pub mod content;
#[cfg(test)]
mod damage;
pub mod joined;
pub mod lossy;
pub mod object;
pub mod pointer;
pub mod record;
pub mod sketch;
pub mod storage;
pub mod tensor_hash;

pub use archive::{ArchiveFile, ArchiveRoot};
pub use canonical::CanonicalError;
pub use content::{BlockSpan, ContentExtra, ContentManifest, ManifestError, ManifestSegment, PlacedBlock};
pub use lossy::{Lossy, TensorError};
pub use object::{Fields, ObjectError};
pub use pointer::Pointer;
pub use record::{Provenance, RunRecord};
pub use sketch::{Sketch, SketchError, SketchedTensor};
pub use storage::{BlockStorage, StorageManifest};
pub use tensor_hash::{TensorHasher, content_digest};
