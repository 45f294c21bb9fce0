//! What a pickle may take of the memory, all its parts together: each alone is small for its number, and there are many kinds.

use super::MAX_MEMORY;
use super::tree::too_much;
use crate::format::FormatError;

/// Fewest members by which a list grows.
const LEAST_GROWTH: usize = 64;

/// The memory that lists take, in bytes: what is allocated for them, not only what they hold.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What others take, of which nothing is known here.
    others: usize,
    taken: usize,
}

impl Memory {
    /// What is left where others take `others` bytes.
    pub(crate) fn beside(others: usize) -> Self {
        Self { others, taken: 0 }
    }

    /// What is taken here, in bytes.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Adds a member to a list.
    ///
    /// # Errors
    /// [`FormatErrorKind::Limit`](crate::FormatErrorKind::Limit) where there is no memory left for it.
    pub(crate) fn push<T>(&mut self, list: &mut Vec<T>, member: T) -> Result<(), FormatError> {
        self.make_room(list, 1)?;
        list.push(member);
        Ok(())
    }

    /// Makes room for that many more members. A list grows by an eighth: one that doubles may take twice what it holds.
    ///
    /// # Errors
    /// [`FormatErrorKind::Limit`](crate::FormatErrorKind::Limit) where there is no memory left for them.
    pub(crate) fn make_room<T>(&mut self, list: &mut Vec<T>, more: usize) -> Result<(), FormatError> {
        let old = list.capacity();
        if more <= old - list.len() {
            return Ok(());
        }
        let growth = more.max(old / 8).max(LEAST_GROWTH);
        // The list may have room for some of them already.
        let capacity = list.len().saturating_add(growth).max(old);
        self.take((capacity - old).saturating_mul(size_of::<T>()))?;
        list.reserve_exact(growth);
        Ok(())
    }

    /// Takes that many bytes for something else.
    ///
    /// # Errors
    /// [`FormatErrorKind::Limit`](crate::FormatErrorKind::Limit) where there are not so many left.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), FormatError> {
        if bytes > MAX_MEMORY.saturating_sub(self.others).saturating_sub(self.taken) {
            return Err(too_much("in it"));
        }
        self.taken += bytes;
        Ok(())
    }

    /// Frees a list that got its room here.
    pub(crate) fn free<T>(&mut self, list: &mut Vec<T>) {
        let bytes = list.capacity() * size_of::<T>();
        *list = Vec::new();
        self.taken = self.taken.saturating_sub(bytes);
    }
}
