//! What every stored object has to stand: being cut short, and having bits flipped.

use std::fmt::Debug;

/// Checks that `rewrite` (read and write again) gives `bytes` back, refuses every truncation of them, and, wherever one bit is
/// flipped, refuses the result or gives exactly that back: then its id is another one.
pub(crate) fn assert_strict<E: Debug>(bytes: &[u8], rewrite: impl Fn(&[u8]) -> Result<Vec<u8>, E>) {
    assert_eq!(rewrite(bytes).unwrap(), bytes);
    for end in 0..bytes.len() {
        assert!(rewrite(&bytes[..end]).is_err(), "truncated to {end}");
    }
    let mut damaged = bytes.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            if let Ok(rewritten) = rewrite(&damaged) {
                assert_eq!(rewritten, damaged, "byte {at}, bit {bit}");
            }
            damaged[at] = bytes[at];
        }
    }
}
