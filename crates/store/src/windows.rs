//! Parts of packs that were read around small entries, where each read is a round trip: commits, trees and manifests that are needed
//! together were written together.
//!
//! Only who reads an entry looks here, and checks it as ever; whether a pack is still there is always asked of the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use shard_core::Digest;

use crate::backend::{Backend, BackendError};
use crate::pack::pack_name;

/// Bytes of a window.
const WINDOW: u64 = 512 << 10;
/// Windows that are kept.
const KEPT: usize = 16;
/// An entry of more bytes is read by itself.
pub(crate) const SMALL: u64 = 32 << 10;

struct Window {
    pack: Digest,
    start: u64,
    bytes: Vec<u8>,
}

/// The windows of a store, the last read first.
#[derive(Default)]
pub(crate) struct Windows(Mutex<VecDeque<Arc<Window>>>);

impl Windows {
    /// Fills parts that lie one after the other in a pack, out of a window that is read if there is none.
    pub(crate) fn read(
        &self,
        backend: &dyn Backend,
        pack: &Digest,
        offset: u64,
        parts: &mut [&mut [u8]],
    ) -> Result<(), BackendError> {
        let len = parts.iter().map(|part| part.len()).sum();
        if let Some(window) = self.find(pack, offset, len) {
            return copy(&window, offset, parts);
        }
        let name = pack_name(pack);
        let size = backend.size(&name)?;
        let end = offset.saturating_add(len as u64);
        if end > size {
            return Err(BackendError::OutOfBounds { name, offset, end, size });
        }
        // What is needed next is mostly before: what leads to something was written after it.
        let start = end.saturating_sub(WINDOW).min(offset);
        let mut bytes = vec![0; (size.min(start + WINDOW).max(end) - start) as usize];
        backend.get_range(&name, start, &mut bytes)?;
        let window = Arc::new(Window { pack: *pack, start, bytes });
        copy(&window, offset, parts)?;
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.push_front(window);
        windows.truncate(KEPT);
        Ok(())
    }

    /// Forgets what was read of a pack: it may have been wrong, and put right since.
    pub(crate) fn forget(&self, pack: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|window| window.pack != *pack);
    }

    fn find(&self, pack: &Digest, offset: u64, len: usize) -> Option<Arc<Window>> {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.iter().find(|window| window.pack == *pack && window.range(offset, len).is_some()).cloned()
    }
}

impl Window {
    fn range(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

fn copy(window: &Window, offset: u64, parts: &mut [&mut [u8]]) -> Result<(), BackendError> {
    let mut at = offset;
    for part in parts {
        let end = at.saturating_add(part.len() as u64);
        let size = window.start + window.bytes.len() as u64;
        let beyond = || BackendError::OutOfBounds { name: pack_name(&window.pack), offset: at, end, size };
        part.copy_from_slice(window.range(at, part.len()).ok_or_else(beyond)?);
        at = end;
    }
    Ok(())
}
