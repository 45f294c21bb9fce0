//! Blocks that a store counts as its own, and has not: they come when they are read.

use std::sync::Arc;

use crate::entry::{EntryKey, EntryKind};
use crate::error::StoreError;
use crate::store::Store;

/// Who has the blocks that a store lacks. All methods may be called from any thread.
pub trait Elsewhere: Send + Sync {
    /// Brings blocks to the store, and those that they lean on. What it does not have is left out.
    ///
    /// # Errors
    /// [`StoreError::Elsewhere`] where it cannot be asked.
    fn bring(&self, blocks: &[EntryKey]) -> Result<(), StoreError>;
}

impl Store {
    /// A handle to the same store that brings blocks which are read and are not here.
    #[must_use]
    pub fn with_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        Self(Arc::clone(&self.0), Some(elsewhere))
    }

    /// A handle to the same store that knows only what is here.
    #[must_use]
    pub fn without_elsewhere(&self) -> Self {
        Self(Arc::clone(&self.0), None)
    }

    pub(crate) fn bring_missing(&self, keys: &mut dyn Iterator<Item = EntryKey>) -> Result<(), StoreError> {
        let Some(elsewhere) = &self.1 else { return Ok(()) };
        let mut missing = Vec::new();
        for key in keys.filter(|key| key.kind == EntryKind::Block) {
            if self.copies(&key)?.is_empty() {
                missing.push(key);
            }
        }
        if missing.is_empty() { Ok(()) } else { elsewhere.bring(&missing) }
    }
}
