//! Blocks that derivations lean on, while one entry is read: a moment that the weights are computed from is also what the first
//! moment is estimated from, and both lean on those before. Without this a reader would decode them over and over.

use shard_core::Digest;
use shard_core::limits::MAX_BLOCK;

/// Bytes that are kept: what weights take, those before and both moments of two checkpoints.
const KEPT: usize = 5 * MAX_BLOCK;

struct Input {
    id: Digest,
    bytes: Vec<u8>,
    /// How many bases were allowed below it when it was read: with fewer, it might be too deep.
    depth_left: u32,
}

/// The blocks that were needed last, their bytes not proven.
#[derive(Default)]
pub(super) struct Inputs {
    /// The one that was needed last comes last.
    kept: Vec<Input>,
}

impl Inputs {
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Puts a block's bytes into `out`, if it is here and not too deep.
    pub(super) fn get(&mut self, id: Digest, depth_left: u32, out: &mut Vec<u8>) -> bool {
        let is_it = |input: &Input| input.id == id && input.depth_left <= depth_left;
        let Some(place) = self.kept.iter().position(is_it) else { return false };
        let input = self.kept.remove(place);
        out.clone_from(&input.bytes);
        self.kept.push(input);
        true
    }

    /// Keeps a block, in place of those that were not needed for longest.
    pub(super) fn put(&mut self, id: Digest, depth_left: u32, bytes: &[u8]) {
        self.kept.retain(|input| input.id != id);
        let mut room = KEPT.checked_sub(bytes.len());
        let is_kept = |input: &&Input| {
            room = room.and_then(|room| room.checked_sub(input.bytes.len()));
            room.is_some()
        };
        let old = self.kept.len() - self.kept.iter().rev().take_while(is_kept).count();
        self.kept.drain(..old);
        self.kept.push(Input { id, bytes: bytes.to_vec(), depth_left });
    }
}

#[cfg(test)]
mod tests {
    use shard_core::sha256;

    use super::*;

    #[test]
    fn the_last_are_kept_and_none_that_may_be_too_deep() {
        let mut inputs = Inputs::default();
        let id = |number: u8| sha256(&[number]);
        let mut out = Vec::new();
        (0..5).for_each(|number| inputs.put(id(number), 4, &vec![number; MAX_BLOCK]));
        assert!(inputs.get(id(0), 4, &mut out) && out == vec![0; MAX_BLOCK]);
        assert!(inputs.get(id(1), 8, &mut out), "more bases are allowed below it than when it was read");
        assert!(!inputs.get(id(2), 3, &mut out), "fewer");
        // One too many: of those that are here, 2 was not needed for longest.
        inputs.put(id(9), 4, &[9; 100]);
        let here: Vec<u8> = (0..10).filter(|number| inputs.get(id(*number), 4, &mut out)).collect();
        assert_eq!(here, [0, 1, 3, 4, 9]);
        inputs.put(id(9), 2, &[9; 100]);
        assert!(inputs.get(id(9), 2, &mut out), "read again with fewer");
    }
}
