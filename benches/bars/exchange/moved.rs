//! Moves a few words of a model, at uniform positions.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use shard_datasets::rng::Rng;

use crate::Failure;

/// Bytes that are read at a time.
const PIECE: usize = 4 << 20;

/// How a word moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// By one unit in the last place, up or down.
    OneUlp,
    /// To a value that is like any other of the tensor.
    Fresh,
}

/// Moves this share of the words of a safetensors file of bf16 in place; gives how many have other bits now.
pub(super) fn move_words(path: &Path, share: f64, how: Moved) -> Result<u64, Failure> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut len = [0; 8];
    file.read_exact(&mut len)?;
    let (mut at, end) = (8 + u64::from_le_bytes(len), file.metadata()?.len());
    let (mut rng, mut moved) = (Rng::new(7), 0);
    let mut bytes = vec![0; PIECE];
    while at < end {
        let len = usize::try_from((end - at).min(PIECE as u64))?;
        let piece = &mut bytes[..len];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(piece)?;
        let words = len / 2;
        for word in 0..words {
            if rng.unit() >= share {
                continue;
            }
            let is = u16::from_le_bytes([piece[2 * word], piece[2 * word + 1]]);
            let new = match how {
                // Down where it is the largest of its sign: the word beyond is an infinity.
                Moved::OneUlp if rng.unit() < 0.5 || is & 0x7fff >= 0x7f7f => is - u16::from(is & 0x7fff > 0),
                Moved::OneUlp => is + 1,
                Moved::Fresh => {
                    let other = (rng.unit() * words as f64) as usize;
                    u16::from_le_bytes([piece[2 * other], piece[2 * other + 1]])
                }
            };
            moved += u64::from(is != new);
            piece[2 * word..2 * word + 2].copy_from_slice(&new.to_le_bytes());
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(piece)?;
        at += len as u64;
    }
    Ok(moved)
}
