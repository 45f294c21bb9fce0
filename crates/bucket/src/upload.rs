//! Objects whose name is known only at their end: kept in memory until then.

use bytes::Bytes;
use shard_store::backend::{BackendError, Output, Upload};

use crate::backend::BucketBackend;

/// An object that is being written.
pub(crate) struct BucketUpload {
    backend: BucketBackend,
    bytes: Vec<u8>,
}

impl BucketUpload {
    pub(crate) fn new(backend: BucketBackend) -> Self {
        Self { backend, bytes: Vec::new() }
    }
}

impl Output for BucketUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        let end = offset.saturating_add(out.len() as u64);
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let found = range.and_then(|(start, end)| self.bytes.get(start..end));
        let found = found.ok_or_else(|| BackendError::OutOfBounds {
            name: "an unfinished object".to_owned(),
            offset,
            end,
            size: self.bytes.len() as u64,
        })?;
        out.copy_from_slice(found);
        Ok(())
    }
}

impl Upload for BucketUpload {
    fn finish(self: Box<Self>, name: &str) -> Result<(), BackendError> {
        self.backend.place(name, Bytes::from(self.bytes))
    }
}
