//! Whatever is put in comes out: random models in random versions, through a repository and through an archive.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use shard_core::limits::Cut;
use shard_core::{DType, NoProgress};
use shard_datasets::rng::Rng;
use shard_repo::{Archive, CheckoutOptions, CommitOptions, PackOptions, Repository, Settings, pack};
use shard_tests::odd_files::safetensors;

/// A tensor of a model: its name, type, shape and bytes.
#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

/// What a tensor's words are drawn from.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Any bits: with NaNs of every payload, infinities, denormals.
    Bits,
    /// The words that codecs stumble over: ±0, denormals, infinities, NaNs, the extremes.
    Special,
    /// Weights of a trained model.
    Weights,
    /// One word only.
    Constant,
}

/// A change from a version to the next.
#[derive(Debug, Clone, Copy)]
enum Edit {
    /// Words of a tensor get new bits, one in `every`.
    Change { tensor: usize, every: u64 },
    /// Words move by one, as by a training step, one in `every`.
    Nudge { tensor: usize, every: u64 },
    /// Rows are appended (or the last ones dropped).
    Resize { tensor: usize, grows: bool },
    /// A tensor gets another name.
    Rename { tensor: usize },
    /// A tensor goes.
    Remove { tensor: usize },
    /// A tensor comes again under a second name.
    Copy { tensor: usize },
    /// Nothing changes.
    Nothing,
}

const DTYPES: &[DType] = DType::ALL;

fn dtype() -> impl Strategy<Value = DType> {
    // The common ones more often.
    prop_oneof![
        3 => Just(DType::BF16),
        2 => Just(DType::F32),
        2 => Just(DType::F16),
        3 => (0..DTYPES.len()).prop_map(|i| DTYPES[i]),
    ]
}

fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        1 => Just(vec![]),
        1 => Just(vec![0]),
        1 => Just(vec![3, 0, 5]),
        3 => (1u64..40).prop_map(|n| vec![n]),
        4 => (1u64..120, 1u64..97).prop_map(|(rows, columns)| vec![rows, columns]),
        1 => (1u64..5, 1u64..9, 1u64..9).prop_map(|(a, b, c)| vec![a, b, c]),
        // Over one block of the test's cut.
        1 => (300u64..420, 100u64..131).prop_map(|(rows, columns)| vec![rows, columns]),
    ]
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![Just(Values::Bits), Just(Values::Special), Just(Values::Weights), Just(Values::Constant)]
}

fn edit() -> impl Strategy<Value = Edit> {
    let tensor = 0usize..8;
    prop_oneof![
        2 => (tensor.clone(), 1u64..50).prop_map(|(tensor, every)| Edit::Change { tensor, every }),
        4 => (tensor.clone(), 1u64..6).prop_map(|(tensor, every)| Edit::Nudge { tensor, every }),
        2 => (tensor.clone(), any::<bool>()).prop_map(|(tensor, grows)| Edit::Resize { tensor, grows }),
        1 => tensor.clone().prop_map(|tensor| Edit::Rename { tensor }),
        1 => tensor.clone().prop_map(|tensor| Edit::Remove { tensor }),
        1 => tensor.prop_map(|tensor| Edit::Copy { tensor }),
        1 => Just(Edit::Nothing),
    ]
}

fn fill(dtype: DType, len: usize, values: Values, rng: &mut Rng) -> Vec<u8> {
    let word = dtype.word_bytes();
    let mut bytes = Vec::with_capacity(len + 8);
    let constant = rng.bits();
    while bytes.len() < len {
        let bits = match values {
            Values::Bits => rng.bits(),
            Values::Constant => constant,
            Values::Special => special(dtype, rng),
            Values::Weights => weight(dtype, rng),
        };
        bytes.extend_from_slice(&bits.to_le_bytes()[..word]);
    }
    bytes.truncate(len);
    bytes
}

fn special(dtype: DType, rng: &mut Rng) -> u64 {
    let Some(float) = dtype.float() else { return [0, 1, u64::MAX, u64::MAX >> 1][rng.below(4) as usize] };
    let sign = u64::from(float.signed) << (float.exponent + float.mantissa);
    let largest_exponent = ((1u64 << float.exponent) - 1) << float.mantissa;
    let mantissa = (1u64 << float.mantissa) - 1;
    let magnitudes = [
        0,
        1 & mantissa,
        mantissa,
        mantissa + 1,
        largest_exponent,
        largest_exponent | (1 & mantissa),
        largest_exponent | (mantissa >> 1),
        largest_exponent | mantissa,
        largest_exponent - 1,
        rng.bits() & (largest_exponent | mantissa),
    ];
    let magnitude = magnitudes[rng.below(magnitudes.len() as u64) as usize];
    if rng.below(2) == 0 { magnitude } else { magnitude | sign }
}

fn weight(dtype: DType, rng: &mut Rng) -> u64 {
    let value = (rng.normal() * 0.02) as f32;
    match dtype {
        DType::BF16 => u64::from(value.to_bits() >> 16),
        DType::F32 | DType::C64 => u64::from(value.to_bits()),
        DType::F64 => f64::from(value).to_bits(),
        _ => rng.bits() & 0x1f1f,
    }
}

fn tensor(index: usize, dtype: DType, mut shape: Vec<u64>, values: Values, rng: &mut Rng) -> Tensor {
    // Packed types fill whole bytes.
    let unit = dtype.storage_unit().0;
    match shape.last_mut() {
        Some(last) => *last = last.next_multiple_of(unit),
        None if unit > 1 => shape.push(unit),
        None => {}
    }
    let len = dtype.byte_len(shape.iter().product()).unwrap() as usize;
    Tensor { name: format!("layer.{index}.weight"), dtype, shape, bytes: fill(dtype, len, values, rng) }
}

fn apply(tensors: &mut Vec<Tensor>, edit: Edit, rng: &mut Rng) {
    let count = tensors.len();
    let pick = |tensor: usize| tensor.checked_rem(count);
    match edit {
        Edit::Change { tensor, every } | Edit::Nudge { tensor, every } => {
            let Some(tensor) = pick(tensor).map(|i| &mut tensors[i]) else { return };
            for word in tensor.bytes.chunks_mut(tensor.dtype.word_bytes()) {
                if rng.below(every) == 0 {
                    if matches!(edit, Edit::Nudge { .. }) {
                        word[0] = word[0].wrapping_add(1);
                    } else {
                        word.iter_mut().for_each(|byte| *byte = rng.bits() as u8);
                    }
                }
            }
        }
        Edit::Resize { tensor, grows } => {
            let Some(tensor) = pick(tensor).map(|i| &mut tensors[i]) else { return };
            // A row has to be whole bytes on its own.
            let row: u64 = tensor.shape.iter().skip(1).product();
            let Some(row_bytes) = tensor.dtype.byte_len(row).filter(|_| tensor.shape.len() > 1) else { return };
            if grows {
                tensor.shape[0] += 3;
                let more = fill(tensor.dtype, 3 * row_bytes as usize, Values::Weights, rng);
                tensor.bytes.extend(more);
            } else if tensor.shape[0] > 1 {
                tensor.shape[0] -= 1;
                let len = tensor.bytes.len() - row_bytes as usize;
                tensor.bytes.truncate(len);
            }
        }
        Edit::Rename { tensor } => {
            if let Some(i) = pick(tensor) {
                tensors[i].name = format!("renamed.{}", tensors[i].name);
            }
        }
        Edit::Remove { tensor } => {
            if let Some(i) = pick(tensor) {
                tensors.remove(i);
            }
        }
        Edit::Copy { tensor } => {
            if let Some(i) = pick(tensor) {
                let name = format!("copy.{}.{}", count, tensors[i].name);
                tensors.push(Tensor { name, ..tensors[i].clone() });
            }
        }
        Edit::Nothing => {}
    }
}

fn file(tensors: &[Tensor], padding: usize) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for tensor in tensors {
        let start = data.len();
        data.extend_from_slice(&tensor.bytes);
        let entry = serde_json::json!({ "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [start, data.len()] });
        header.insert(tensor.name.clone(), entry);
    }
    safetensors(&format!("{}{}", serde_json::Value::Object(header), " ".repeat(padding)), &data)
}

/// The versions of a model, as files.
fn versions() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let tensors = prop::collection::vec((dtype(), shape(), values()), 0..8);
    let edits = prop::collection::vec(prop::collection::vec(edit(), 1..5), 0..12);
    (tensors, edits, any::<u64>(), 0usize..9).prop_map(|(tensors, edits, seed, padding)| {
        let mut rng = Rng::new(seed);
        let mut model: Vec<Tensor> = tensors
            .into_iter()
            .enumerate()
            .map(|(i, (dtype, shape, values))| tensor(i, dtype, shape, values, &mut rng))
            .collect();
        let mut files = vec![file(&model, padding)];
        for step in edits {
            step.into_iter().for_each(|edit| apply(&mut model, edit, &mut rng));
            files.push(file(&model, padding));
        }
        files
    })
}

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

/// Commits all versions at one path, and gets each back.
fn through_a_repository(files: &[Vec<u8>], cut: Cut, are_sound: bool) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::init(folder.path(), "main", cut, settings()).unwrap();
    let model = folder.path().join("model.safetensors");
    let mut commits = Vec::new();
    for (number, bytes) in files.iter().enumerate() {
        fs::write(&model, bytes).unwrap();
        let report = repository.add(std::slice::from_ref(&model), &NoProgress).unwrap();
        assert_eq!(report.files.len(), 1);
        let note = &report.files[0].note;
        assert!(!are_sound || note.is_none(), "expected that a sound file is understood: {note:?}");
        let message = format!("Version {number}");
        let options = CommitOptions { message, allow_empty: true, ..CommitOptions::default() };
        commits.push(repository.commit(&options).unwrap().id);
    }
    // As another process finds it.
    drop(repository);
    let repository = Repository::discover(folder.path(), settings()).unwrap();
    let out = tempfile::tempdir().unwrap();
    for (number, (commit, bytes)) in commits.iter().zip(files).enumerate() {
        repository.export(&commit.to_hex(), &[], out.path(), CheckoutOptions { force: true }, &NoProgress).unwrap();
        let found = fs::read(out.path().join("model.safetensors")).unwrap();
        assert!(found == *bytes, "expected version {number} of {} byte for byte", files.len());
    }
    let report = repository.verify(true, &NoProgress).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// Packs all versions into one archive, and gets each back.
fn through_an_archive(files: &[Vec<u8>]) {
    let folder = tempfile::tempdir().unwrap();
    let place = |number: usize| folder.path().join(format!("v{number}.safetensors"));
    let places: Vec<PathBuf> = (0..files.len()).map(place).collect();
    for (place, bytes) in places.iter().zip(files) {
        fs::write(place, bytes).unwrap();
    }
    let archive = folder.path().join("all.shard");
    let report = pack(&places, &archive, &PackOptions::default(), settings(), &NoProgress).unwrap();
    assert_eq!(report.size, fs::metadata(&archive).unwrap().len());
    let out = folder.path().join("out");
    let opened = Archive::open(&archive).unwrap();
    assert_eq!(opened.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
    opened.unpack(&out, false, settings(), &NoProgress).unwrap();
    for (place, bytes) in places.iter().zip(files) {
        let restored = out.join(place.file_name().unwrap());
        assert!(fs::read(&restored).unwrap() == *bytes, "expected {} byte for byte", restored.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_versions_come_back_from_a_repository(files in versions()) {
        through_a_repository(&files, Cut::V1, true);
    }

    #[test]
    fn all_versions_come_back_from_a_repository_with_small_blocks(files in versions()) {
        through_a_repository(&files, Cut::TEST, true);
    }

    #[test]
    fn all_versions_come_back_from_an_archive(files in versions()) {
        through_an_archive(&files);
    }

    #[test]
    fn any_bytes_come_back(files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..4)) {
        through_a_repository(&files, Cut::TEST, false);
    }
}
