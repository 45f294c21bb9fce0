//! What is stored: one large file, a thousand small ones.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use shard_datasets::rng::Rng;

use crate::Failure;

/// Number of small files, ten to a folder, in two levels of folders.
pub(crate) const SMALL_FILES: u32 = 1000;

/// Writes a file of about `size` bytes: "random" bytes, which nothing compresses, or a safetensors file of "bf16" weights.
pub(crate) fn large_file(place: &Path, kind: &str, size: u64, seed: u64) -> Result<(), Failure> {
    let mut file = BufWriter::new(File::create(place)?);
    let mut rng = Rng::new(seed + 1);
    if kind == "random" {
        for _ in 0..size / 8 {
            file.write_all(&rng.bits().to_le_bytes())?;
        }
        return Ok(file.flush()?);
    }
    // As a transformer's: matrices of 1024 rows.
    let rows = 1024;
    let count = size.div_ceil(8 << 20);
    let columns = size / count / rows / 2;
    let len = rows * columns * 2;
    let tensor = |index: u64| {
        let (from, to) = (index * len, (index + 1) * len);
        format!(r#""layers.{index}.weight":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[{from},{to}]}}"#)
    };
    let mut header = format!("{{{}}}", (0..count).map(tensor).collect::<Vec<_>>().join(","));
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    // Drawn once and shuffled by rows: normal numbers are slow to draw.
    let words: Vec<u16> = (0..1 << 20).map(|_| ((rng.normal() as f32 * 0.02).to_bits() >> 16) as u16).collect();
    for _ in 0..count * rows * columns / 64 {
        let at = rng.below(words.len() as u64 - 64) as usize;
        for word in &words[at..at + 64] {
            file.write_all(&word.to_le_bytes())?;
        }
    }
    Ok(file.flush()?)
}

/// Where reads start, in bytes.
pub(crate) fn starts(below: u64, count: usize) -> Vec<u64> {
    let mut rng = Rng::new(99);
    (0..count).map(|_| rng.below(below)).collect()
}

/// The paths of the small files.
pub(crate) fn small_paths() -> Vec<String> {
    (0..SMALL_FILES).map(|number| format!("data/{}/{}/{number}.json", number / 100, number / 10 % 10)).collect()
}

/// Writes the small files below a folder.
pub(crate) fn small_files(folder: &Path) -> Result<(), Failure> {
    let mut rng = Rng::new(5);
    for path in small_paths() {
        let place = folder.join(&path);
        fs::create_dir_all(place.parent().ok_or("a path without a folder")?)?;
        let numbers: Vec<String> = (0..40).map(|_| rng.below(1 << 40).to_string()).collect();
        fs::write(place, format!("{{\"path\": \"{path}\", \"numbers\": [{}]}}\n", numbers.join(", ")))?;
    }
    Ok(())
}
