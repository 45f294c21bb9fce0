//! Small files for the cases that tests need, as the bytes of safetensors files. The same seed always gives the same bytes.

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView, serialize};

use half::bf16;

use crate::rng::Rng;

/// Names, types, shapes and bytes of a file's tensors.
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn file(tensors: &Tensors) -> Result<Vec<u8>, SafeTensorError> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    serialize(views, None)
}

/// `len` bf16 words like a small model's weights.
fn weights(len: usize, rng: &mut Rng) -> Vec<bf16> {
    (0..len).map(|_| bf16::from_f64(rng.normal() * 0.02)).collect()
}

fn bytes(words: &[bf16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Moves each word with the probability `share` by a small step, mostly to a neighbouring value.
fn nudge(words: &mut [bf16], share: f64, rng: &mut Rng) {
    for word in words {
        if rng.unit() < share {
            let bits = word.to_bits();
            // Up or down the line of values, never out of the sign's half nor to an infinity.
            let step = 1 + rng.below(4) as u16 / 3;
            let magnitude = bits & 0x7fff;
            let moved =
                if magnitude > step && rng.below(2) == 0 { magnitude - step } else { (magnitude + step).min(0x7f7f) };
            *word = bf16::from_bits(bits & 0x8000 | moved);
        }
    }
}

/// Two versions of a file in which one tensor was changed a little (`noisy.weight`), one grew by rows and changed a little
/// (`resized.weight`), one was added (`added.weight`), one removed (`removed.weight`), and three stayed equal
/// (`equal.bf16`, `equal.f32`, `equal.i64`).
///
/// # Errors
/// None that a caller could cause; what the safetensors crate says.
pub fn every_change(seed: u64) -> Result<(Vec<u8>, Vec<u8>), SafeTensorError> {
    let mut rng = Rng::stream(seed, 0x6361_7365);
    let (rows, grown, columns) = (100, 120, 64);
    let mut random = |len: usize| (0..len).map(|_| rng.bits() as u8).collect::<Vec<u8>>();
    let (single, integers) = (random(16 * 32 * 4), random(50 * 8));
    let equal: Tensors = vec![
        ("equal.bf16".to_owned(), Dtype::BF16, vec![40, 64], bytes(&weights(40 * 64, &mut rng))),
        ("equal.f32".to_owned(), Dtype::F32, vec![16, 32], single),
        ("equal.i64".to_owned(), Dtype::I64, vec![50], integers),
    ];
    let matrix =
        |name: &str, words: &[bf16]| (name.to_owned(), Dtype::BF16, vec![words.len() / columns, columns], bytes(words));
    let (mut noisy, mut resized) = (weights(96 * columns, &mut rng), weights(rows * columns, &mut rng));

    let mut first = equal.clone();
    first.push(matrix("noisy.weight", &noisy));
    first.push(matrix("resized.weight", &resized));
    first.push(matrix("removed.weight", &weights(30 * columns, &mut rng)));

    nudge(&mut noisy, 0.5, &mut rng);
    nudge(&mut resized, 0.2, &mut rng);
    resized.extend(weights((grown - rows) * columns, &mut rng));
    let mut second = equal;
    second.push(matrix("noisy.weight", &noisy));
    second.push(matrix("resized.weight", &resized));
    second.push(matrix("added.weight", &weights(20 * columns, &mut rng)));
    Ok((file(&first)?, file(&second)?))
}

/// Endless versions of one small file of bf16 matrices, each version with a few words of the one before changed: for long
/// histories. An item is a whole file.
#[derive(Debug, Clone)]
pub struct Versions {
    rng: Rng,
    tensors: Vec<Vec<bf16>>,
    columns: usize,
    share: f64,
    started: bool,
}

impl Versions {
    /// Files of `tensors` matrices `block.N.weight`, each of `rows` rows of `columns` words; each word of a later version
    /// differs from the version before with the probability `share`.
    #[must_use]
    pub fn new(seed: u64, tensors: usize, rows: usize, columns: usize, share: f64) -> Self {
        let mut rng = Rng::stream(seed, 0x7665_7273);
        let tensors = (0..tensors).map(|_| weights(rows.saturating_mul(columns), &mut rng)).collect();
        Self { rng, tensors, columns, share, started: false }
    }
}

impl Iterator for Versions {
    type Item = Result<Vec<u8>, SafeTensorError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.started {
            for words in &mut self.tensors {
                nudge(words, self.share, &mut self.rng);
            }
        }
        self.started = true;
        let tensors = self.tensors.iter().zip(0..).map(|(words, index)| {
            let shape = vec![words.len().checked_div(self.columns).unwrap_or(0), self.columns];
            (format!("block.{index}.weight"), Dtype::BF16, shape, bytes(words))
        });
        Some(file(&tensors.collect()))
    }
}

/// Every element type that safetensors knows.
const DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

/// A file with a 3 by 8 tensor of random bits of every element type that safetensors knows (so with NaNs, infinities and
/// types that are smaller than a byte), named by its type; and with a scalar, empty tensors, an odd number of bytes before
/// other tensors, and a name that is not ASCII.
///
/// # Errors
/// None that a caller could cause; what the safetensors crate says.
pub fn odd_dtypes(seed: u64) -> Result<Vec<u8>, SafeTensorError> {
    let mut rng = Rng::stream(seed, 0x6f64_6473);
    let mut random = |len: usize| (0..len).map(|_| rng.bits() as u8).collect::<Vec<u8>>();
    let mut tensors: Tensors = DTYPES
        .iter()
        .map(|dtype| {
            let mut bytes = random(3 * 8 * dtype.bitsize() / 8);
            if *dtype == Dtype::BOOL {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            (format!("dtype.{dtype:?}"), *dtype, vec![3, 8], bytes)
        })
        .collect();
    tensors.push(("scalar".to_owned(), Dtype::F32, Vec::new(), 1.5f32.to_le_bytes().to_vec()));
    tensors.push(("empty".to_owned(), Dtype::F16, vec![0], Vec::new()));
    tensors.push(("empty.rows".to_owned(), Dtype::I64, vec![4, 0, 7], Vec::new()));
    tensors.push(("a.odd.bytes".to_owned(), Dtype::U8, vec![7], random(7)));
    tensors.push(("größe/重み".to_owned(), Dtype::BF16, vec![1, 1, 5], random(10)));
    file(&tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn every_change_is_what_it_says() {
        let (first, second) = every_change(1).unwrap();
        assert_eq!(every_change(1).unwrap(), (first.clone(), second.clone()));
        assert_ne!(every_change(2).unwrap().0, first);
        let (first, second) = (SafeTensors::deserialize(&first).unwrap(), SafeTensors::deserialize(&second).unwrap());
        for name in ["equal.bf16", "equal.f32", "equal.i64"] {
            assert_eq!(first.tensor(name).unwrap().data(), second.tensor(name).unwrap().data());
        }
        let (old, new) = (first.tensor("noisy.weight").unwrap(), second.tensor("noisy.weight").unwrap());
        let moved = old.data().chunks(2).zip(new.data().chunks(2)).filter(|(a, b)| a != b).count();
        assert_eq!(old.shape(), new.shape());
        assert!((0.45..0.55).contains(&(moved as f64 / (96.0 * 64.0))));
        let resized = (first.tensor("resized.weight").unwrap(), second.tensor("resized.weight").unwrap());
        assert_eq!((resized.0.shape(), resized.1.shape()), ([100, 64].as_slice(), [120, 64].as_slice()));
        assert!(first.tensor("added.weight").is_err() && second.tensor("added.weight").is_ok());
        assert!(first.tensor("removed.weight").is_ok() && second.tensor("removed.weight").is_err());
        assert_eq!((first.len(), second.len()), (6, 6));
    }

    #[test]
    fn versions_change_by_the_share() {
        let files: Vec<Vec<u8>> = Versions::new(5, 2, 50, 64, 0.1).take(4).map(Result::unwrap).collect();
        let again: Vec<Vec<u8>> = Versions::new(5, 2, 50, 64, 0.1).take(4).map(Result::unwrap).collect();
        assert_eq!(files, again);
        for pair in files.windows(2) {
            let data =
                |file: &[u8]| SafeTensors::deserialize(file).unwrap().tensor("block.1.weight").unwrap().data().to_vec();
            let (old, new) = (data(&pair[0]), data(&pair[1]));
            let moved = old.chunks(2).zip(new.chunks(2)).filter(|(a, b)| a != b).count();
            assert!((0.07..0.13).contains(&(moved as f64 / 3200.0)), "{moved}");
        }
        let mut empty = Versions::new(5, 1, 3, 0, 0.5);
        assert!(empty.next().unwrap().is_ok());
    }

    #[test]
    fn odd_dtypes_are_all_there() {
        let file = odd_dtypes(1).unwrap();
        assert_eq!(odd_dtypes(1).unwrap(), file);
        let tensors = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(tensors.len(), DTYPES.len() + 5);
        assert_eq!(tensors.tensor("dtype.F6_E2M3").unwrap().data().len(), 18);
        assert!(tensors.tensor("scalar").unwrap().shape().is_empty());
        // Those that this project has no name for would be kept as plain bytes; there is none.
        for dtype in DTYPES {
            let known = shard_core::DType::ALL.iter().any(|known| known.name() == format!("{dtype:?}"));
            assert!(known, "{dtype:?}");
        }
    }
}
