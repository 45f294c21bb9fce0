//! What files hold.

use shard_datasets::rng::Rng;
use shard_tests::odd_files::safetensors;

/// The content of a file: small, and made from a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A model of three bf16 matrices, each in one of many versions.
    Model([u8; 3]),
    /// A text.
    Text(u8),
}

/// Rows and columns of a matrix.
const SHAPE: (usize, usize) = (8, 16);

impl Content {
    /// The bytes of the file.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(version) => format!("text, version {version}\n").into_bytes(),
            Self::Model(versions) => {
                let (rows, columns) = SHAPE;
                let len = rows * columns * 2;
                let mut header = String::from("{");
                for index in 0..versions.len() {
                    let (comma, from, to) = (if index > 0 { "," } else { "" }, index * len, (index + 1) * len);
                    header += &format!(
                        r#"{comma}"layer.{index}.weight":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[{from},{to}]}}"#
                    );
                }
                header.push('}');
                let data: Vec<u8> =
                    versions.iter().enumerate().flat_map(|(index, version)| matrix(index, *version)).collect();
                safetensors(&header, &data)
            }
        }
    }
}

/// A matrix in a version: all are near to that of version 0.
pub(crate) fn matrix(index: usize, version: u8) -> Vec<u8> {
    let mut rng = Rng::new(index as u64);
    let mut words: Vec<u16> =
        (0..SHAPE.0 * SHAPE.1).map(|_| ((rng.normal() as f32 * 0.02).to_bits() >> 16) as u16).collect();
    let mut rng = Rng::new(1000 + u64::from(version));
    if version > 0 {
        for word in &mut words {
            *word = word.wrapping_add((rng.below(3)) as u16);
        }
        // Whatever was drawn, no two versions are the same.
        words[0] = words[0] & 0xff00 | u16::from(version);
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
