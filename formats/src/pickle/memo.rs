//! What a pickle remembers by numbers.

use std::collections::HashMap;

use super::MAX_NODES;
use super::memory::Memory;
use super::tree::NodeId;
use crate::format::{FormatError, FormatErrorKind};

/// Most numbers of remembered objects that are far from all others.
const MAX_SPARSE: usize = 1 << 18;

/// Objects that were remembered, by their number. Pickles count from 0 or 1 up, some leave numbers out; what is far off gets a map.
#[derive(Default)]
pub(super) struct Memo {
    /// At most about twice as long as there are objects: a number costs no more memory than the bytes that say it.
    pub(super) dense: Vec<Option<NodeId>>,
    sparse: HashMap<i64, NodeId>,
    pub(super) len: usize,
}

impl Memo {
    pub(super) fn get(&self, index: i64) -> Option<NodeId> {
        let dense = usize::try_from(index).ok().and_then(|index| self.dense.get(index).copied().flatten());
        dense.or_else(|| self.sparse.get(&index).copied())
    }

    pub(super) fn put(&mut self, index: i64, id: NodeId, memory: &mut Memory) -> Result<(), FormatError> {
        if self.len >= MAX_NODES || self.sparse.len() >= MAX_SPARSE {
            return Err(FormatError::new(FormatErrorKind::Limit, "the pickle remembers more than shard follows"));
        }
        let old = match usize::try_from(index) {
            Ok(index) if index < 2 * self.len + 64 => {
                let len = self.dense.len();
                if index >= len {
                    memory.make_room(&mut self.dense, index + 1 - len)?;
                    self.dense.resize(index + 1, None);
                }
                let old = self.dense.get_mut(index).and_then(|place| place.replace(id));
                // It may have been far off when it was first remembered. Counted twice, all numbers that follow would be wrong.
                old.or_else(|| self.sparse.remove(&(index as i64)))
            }
            _ => self.sparse.insert(index, id),
        };
        self.len += usize::from(old.is_none());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_33_numbers_in_the_memo_cost_no_more_than_the_bytes_that_say_them() {
        // Each five bytes further on than the one before, by more than there are objects.
        let mut memory = Memory::default();
        for gap in [1usize, 2, 60, 65, 1000] {
            let mut memo = Memo::default();
            let count = (0..200_000usize)
                .take_while(|at| memo.put((at * gap) as i64, NodeId::of(0), &mut memory).is_ok())
                .count();
            assert!(memo.dense.len() <= 2 * count + 64, "{gap}: {} places for {count} objects", memo.dense.len());
            assert!(memo.sparse.len() <= MAX_SPARSE, "{gap}");
            assert!((0..count).all(|at| memo.get((at * gap) as i64).is_some()), "{gap}");
        }
        assert_eq!(size_of::<Option<NodeId>>(), 4);
        let mut memo = Memo::default();
        let far = (0..).take_while(|at| memo.put(i64::MAX - at, NodeId::of(0), &mut memory).is_ok()).count();
        assert_eq!(far, MAX_SPARSE);
    }

    #[test]
    fn a_number_that_is_remembered_again_counts_once() {
        let mut memo = Memo::default();
        let mut memory = Memory::default();
        for index in [100, 1000, 100].into_iter().chain(0..=100).chain([1000, 100]) {
            memo.put(index, NodeId::of(0), &mut memory).unwrap();
        }
        assert_eq!((memo.len, memo.sparse.len()), (102, 1));
    }
}
