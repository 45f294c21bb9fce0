//! Sums of what was measured: of everything, and by file, type, layer or tensor.

use std::time::Duration;

use clap::ValueEnum;
use shard_core::DType;
use shard_history::{natural_cmp, roll_up};

use super::series::Place;

/// What stands for the name of bytes that are no tensor.
pub(super) const OPAQUE: &str = "(bytes)";

/// What figures are broken down by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    File,
    Dtype,
    Layer,
    Tensor,
}

impl By {
    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dtype => "dtype",
            Self::Layer => "layer",
            Self::Tensor => "tensor",
        }
    }
}

/// What one codec took.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CodecFigures {
    /// Bytes of the blocks that it took.
    pub(super) taken: u64,
    /// Bytes that it stores for them.
    pub(super) stored: u64,
    pub(super) encode: Duration,
    pub(super) decode: Duration,
}

/// What blocks hold, and what each codec took for them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    /// Bytes of all blocks.
    pub(super) raw: u64,
    /// Of these, bytes of blocks that are equal to an earlier one: no codec stores them, and none is timed on them.
    pub(super) free: u64,
    /// The time that SHA-256 takes for the others.
    pub(super) hashing: Duration,
    /// In the order of the codecs.
    pub(super) codecs: Vec<CodecFigures>,
}

impl Figures {
    /// Adds those of other blocks, of the same codecs.
    pub(super) fn add(&mut self, other: &Self) {
        self.raw += other.raw;
        self.free += other.free;
        self.hashing += other.hashing;
        self.codecs.resize(self.codecs.len().max(other.codecs.len()), CodecFigures::default());
        for (sum, next) in self.codecs.iter_mut().zip(&other.codecs) {
            sum.taken += next.taken;
            sum.stored += next.stored;
            sum.encode += next.encode;
            sum.decode += next.decode;
        }
    }

    /// Bytes of the blocks that were coded.
    pub(super) fn coded(&self) -> u64 {
        self.raw - self.free
    }

    /// MB/s of SHA-256.
    pub(super) fn hash_speed(&self) -> Option<f64> {
        speed(self.coded(), self.hashing)
    }
}

impl CodecFigures {
    /// Bytes stored for all blocks of `whole`: what the codec did not take is stored as it is.
    pub(super) fn stored_of(&self, whole: &Figures) -> u64 {
        self.stored + (whole.coded() - self.taken)
    }

    /// MB/s of encoding.
    pub(super) fn encode_speed(&self) -> Option<f64> {
        speed(self.taken, self.encode)
    }

    /// MB/s of decoding.
    pub(super) fn decode_speed(&self) -> Option<f64> {
        speed(self.taken, self.decode)
    }
}

/// Millions of bytes a second; `None` where nothing was timed.
fn speed(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && time > Duration::ZERO).then(|| bytes as f64 / 1e6 / time.as_secs_f64())
}

/// A tensor of a file, or the bytes of a file that has none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Index of the file.
    pub(super) file: usize,
    pub(super) tensor: Option<String>,
    pub(super) dtype: Option<DType>,
    pub(super) figures: Figures,
}

impl Row {
    pub(super) fn new(place: Place<'_>) -> Self {
        let tensor = place.tensor.map(str::to_owned);
        Self { file: place.file, tensor, dtype: place.dtype, figures: Figures::default() }
    }

    /// Whether a block there belongs to it.
    pub(super) fn is_of(&self, place: Place<'_>) -> bool {
        self.file == place.file && self.tensor.as_deref() == place.tensor && self.dtype == place.dtype
    }

    /// The tensor's name, or what stands for it.
    pub(super) fn name(&self) -> &str {
        self.tensor.as_deref().unwrap_or(OPAQUE)
    }

    /// The type's name.
    pub(super) fn dtype_name(&self) -> &'static str {
        self.dtype.map_or("opaque", DType::name)
    }
}

/// The sum of everything.
pub(super) fn total(rows: &[Row], codecs: usize) -> Figures {
    let mut total = Figures { codecs: vec![CodecFigures::default(); codecs], ..Figures::default() };
    rows.iter().for_each(|row| total.add(&row.figures));
    total
}

/// The sums of groups by name: files by the names given and types in the order in which they come, tensors and layers
/// by name.
pub(super) fn groups(rows: &[Row], by: By, files: &[String]) -> Vec<(String, Figures)> {
    match by {
        By::File => sums(rows, |row| files.get(row.file).map_or("", String::as_str)),
        By::Dtype => sums(rows, |row| row.dtype_name()),
        By::Tensor => {
            let mut tensors = sums(rows, Row::name);
            tensors.sort_by(|(a, _), (b, _)| natural_cmp(a, b));
            tensors
        }
        By::Layer => {
            let tensors = sums(rows, Row::name);
            let layers = roll_up(tensors.iter().map(|(name, _)| name.as_str()));
            let sum = |indexes: &[usize]| {
                let mut sum = Figures::default();
                indexes.iter().filter_map(|index| tensors.get(*index)).for_each(|(_, figures)| sum.add(figures));
                sum
            };
            layers.into_iter().map(|layer| (layer.name, sum(&layer.tensors))).collect()
        }
    }
}

fn sums<'a>(rows: &'a [Row], key: impl Fn(&'a Row) -> &'a str) -> Vec<(String, Figures)> {
    let mut places = std::collections::HashMap::new();
    let mut sums: Vec<(String, Figures)> = Vec::new();
    for row in rows {
        let key = key(row);
        let place = *places.entry(key).or_insert(sums.len());
        if place == sums.len() {
            sums.push((key.to_owned(), Figures::default()));
        }
        if let Some((_, sum)) = sums.get_mut(place) {
            sum.add(&row.figures);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(file: usize, tensor: &str, dtype: DType, raw: u64, free: u64) -> Row {
        let taken = raw - free;
        let codec = CodecFigures {
            taken,
            stored: taken / 4,
            encode: Duration::from_micros(taken),
            decode: Duration::from_micros(taken / 2),
        };
        let figures = Figures { raw, free, hashing: Duration::from_micros(taken), codecs: vec![codec] };
        Row { file, tensor: Some(tensor.to_owned()), dtype: Some(dtype), figures }
    }

    #[test]
    fn sums_are_of_what_they_say() {
        let rows = [
            row(1, "layers.10.w", DType::BF16, 4000, 0),
            row(1, "layers.2.w", DType::BF16, 4000, 4000),
            row(1, "layers.2.b", DType::F32, 400, 0),
            row(2, "layers.2.w", DType::BF16, 4000, 0),
        ];
        let files = ["a", "b", "c"].map(str::to_owned);
        let of = |by| {
            let groups = groups(&rows, by, &files);
            let all: u64 = groups.iter().map(|(_, figures)| figures.raw).sum();
            assert_eq!(all, total(&rows, 1).raw, "{by:?}");
            groups.into_iter().map(|(name, figures)| (name, figures.raw, figures.free)).collect::<Vec<_>>()
        };
        let group = |name: &str, raw, free| (name.to_owned(), raw, free);
        assert_eq!(of(By::File), [group("b", 8400, 4000), group("c", 4000, 0)]);
        assert_eq!(of(By::Dtype), [group("BF16", 12000, 4000), group("F32", 400, 0)]);
        assert_eq!(of(By::Layer), [group("layers.2", 8400, 4000), group("layers.10", 4000, 0)]);
        let tensors = of(By::Tensor);
        assert_eq!(tensors[1], group("layers.2.w", 8000, 4000));
        assert_eq!(tensors.len(), 3);
    }

    #[test]
    fn speeds_and_sizes() {
        let rows = [row(1, "w", DType::BF16, 4000, 2000)];
        let total = total(&rows, 1);
        let codec = &total.codecs[0];
        assert_eq!((total.coded(), codec.stored_of(&total)), (2000, 500));
        assert!((total.hash_speed().unwrap() - 1.0).abs() < 1e-9, "a byte a microsecond is a MB/s");
        assert!((codec.decode_speed().unwrap() / codec.encode_speed().unwrap() - 2.0).abs() < 1e-9);
        let untaken = CodecFigures::default();
        assert_eq!((untaken.stored_of(&total), untaken.encode_speed()), (2000, None));
    }
}
