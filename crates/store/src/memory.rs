//! A backend in memory: for tests, and as the plainest statement of what a backend does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backend, BackendError, Output, Upload, check_name};

type Objects = BTreeMap<String, Arc<[u8]>>;

/// Objects in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryBackend(Arc<Mutex<Objects>>);

impl MemoryBackend {
    /// An empty backend.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        // The map is whole after every statement, so a panic elsewhere cannot have torn it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &str) -> Result<Arc<[u8]>, BackendError> {
        check_name(name)?;
        self.objects().get(name).cloned().ok_or_else(|| BackendError::NotFound { name: name.to_owned() })
    }
}

impl Backend for MemoryBackend {
    fn get_range(&self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        copy_range(name, &self.object(name)?, offset, out)
    }

    fn size(&self, name: &str) -> Result<u64, BackendError> {
        Ok(self.object(name)?.len() as u64)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        check_name(name)?;
        match self.objects().entry(name.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(BackendError::AlreadyExists { name: name.to_owned() })
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(bytes.into());
                Ok(())
            }
        }
    }

    fn create(&self) -> Result<Box<dyn Upload>, BackendError> {
        let backend = self.clone();
        Ok(upload(move |name, bytes| backend.put_if_absent(name, &bytes)))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, BackendError> {
        check_name(folder)?;
        let prefix = format!("{folder}/");
        let objects = self.objects();
        let inside = objects.range(prefix.clone()..).map_while(|(name, _)| name.strip_prefix(&prefix));
        // Sorting the first segments again: `a/x` comes before `a-b`, while `a-b` < `a`.
        let names: BTreeSet<&str> = inside.map(|rest| rest.split('/').next().unwrap_or(rest)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn delete(&self, name: &str) -> Result<(), BackendError> {
        check_name(name)?;
        self.objects().remove(name);
        Ok(())
    }
}

/// An object that is kept in memory until its name is known, and then put.
pub fn upload<P>(put: P) -> Box<dyn Upload>
where
    P: FnOnce(&str, Vec<u8>) -> Result<(), BackendError> + Send + Sync + 'static,
{
    Box::new(MemoryUpload { put, bytes: Vec::new() })
}

struct MemoryUpload<P> {
    put: P,
    bytes: Vec<u8>,
}

impl<P: Send + Sync> Output for MemoryUpload<P> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
        copy_range("an unfinished object", &self.bytes, offset, out)
    }
}

impl<P: FnOnce(&str, Vec<u8>) -> Result<(), BackendError> + Send + Sync> Upload for MemoryUpload<P> {
    fn finish(self: Box<Self>, name: &str) -> Result<(), BackendError> {
        (self.put)(name, self.bytes)
    }
}

fn copy_range(name: &str, bytes: &[u8], offset: u64, out: &mut [u8]) -> Result<(), BackendError> {
    let end = offset.saturating_add(out.len() as u64);
    let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok()).and_then(|(a, b)| bytes.get(a..b));
    let range = range.ok_or_else(|| BackendError::OutOfBounds {
        name: name.to_owned(),
        offset,
        end,
        size: bytes.len() as u64,
    })?;
    out.copy_from_slice(range);
    Ok(())
}
