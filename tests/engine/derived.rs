//! Tensors that are computed from stored ones, in files of many blocks: each kind is found, costs next to nothing, and comes back
//! byte for byte.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use half::bf16;
use shard_core::NoProgress;
use shard_core::limits::{Cut, MAX_DEPTH};
use shard_datasets::rng::Rng;
use shard_history::Revision;
use shard_repo::{Archive, CheckoutOptions, CommitOptions, PackOptions, Repository, Settings, pack};
use shard_tests::rewrite::{Dtype, Tensor, write};
use shard_tests::tree::files_ending;
use tempfile::TempDir;

/// A matrix of five blocks of binary32 in the tests' cut, of which none ends with a row.
const ROWS: usize = 300;
const COLUMNS: usize = 252;

struct Bench {
    folder: TempDir,
    repository: Repository,
}

/// Chain and depth of each block of a file.
type Stored = Vec<(String, u32)>;

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::TEST, settings()).unwrap();
        Self { folder, repository }
    }

    /// Commits a file, and gives the bytes that it made the repository grow by, blocks alone.
    fn keep(&self, name: &str, tensors: &[Tensor]) -> u64 {
        fs::write(self.folder.path().join(name), write(tensors)).unwrap();
        let cost = self.repository.add(&[self.folder.path().to_owned()], &NoProgress).unwrap().cost;
        let options = CommitOptions { message: "next".to_owned(), ..CommitOptions::default() };
        self.repository.commit(&options).unwrap();
        cost.new_bytes
    }

    /// How the blocks of a file are stored.
    fn storage(&self, name: &str) -> Stored {
        let entry = self.repository.file_at(&Revision::parse("HEAD").unwrap(), name).unwrap();
        let (_, storage) = self.repository.storage(entry.manifest).unwrap();
        storage.blocks.into_values().map(|block| (block.chain, block.depth)).collect()
    }

    /// Everything comes back, also to another process, and every block is what it says.
    fn assert_sound(&self) {
        let repository = Repository::discover(self.folder.path(), settings()).unwrap();
        let out = tempfile::tempdir().unwrap();
        repository.export("HEAD", &[], out.path(), CheckoutOptions { force: true }, &NoProgress).unwrap();
        for path in files_ending(self.folder.path(), ".safetensors") {
            let restored = out.path().join(path.file_name().unwrap());
            assert!(fs::read(&path).unwrap() == fs::read(&restored).unwrap(), "{} byte for byte", path.display());
        }
        assert_eq!(repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
    }
}

/// Keeps files one after the other; the last may take one byte of `least` of its own.
fn assert_cheap(what: &str, before: &[&[Tensor]], last: &[Tensor], least: u64) {
    let bench = Bench::new();
    for (index, tensors) in before.iter().enumerate() {
        bench.keep(&format!("{index}.safetensors"), tensors);
    }
    let raw: usize = last.iter().map(|tensor| tensor.bytes.len()).sum();
    let new = bench.keep("last.safetensors", last);
    println!("{what}: {new} of {raw} bytes");
    assert!(new * least < raw as u64, "{what}: expected under 1/{least} of {raw}, got {new}");
    bench.assert_sound();
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
}

fn singles(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    tensor(name, Dtype::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn normals(rng: &mut Rng, count: usize, spread: f64) -> Vec<f32> {
    (0..count).map(|_| (rng.normal() * spread) as f32).collect()
}

fn weights(seed: u64) -> Vec<f32> {
    normals(&mut Rng::new(seed), ROWS * COLUMNS, 0.05)
}

const SHAPE: [usize; 2] = [ROWS, COLUMNS];

#[test]
fn casts() {
    let values = weights(1);
    let master = [singles("w", &SHAPE, &values)];
    let half = |name: &str, values: &[f32]| {
        let bytes = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        [tensor(name, Dtype::BF16, &SHAPE, bytes)]
    };
    assert_cheap("a bf16 copy", &[&master], &half("w", &values), 100);
    assert_cheap("a bf16 copy under another name", &[&master], &half("other", &values), 100);
    assert_cheap("the master of a copy", &[&half("w", &values)], &master, 1);
    // A step further on: nearer than nothing.
    let mut rng = Rng::new(2);
    let next: Vec<f32> = values.iter().map(|value| value + rng.normal() as f32 * 1e-5).collect();
    assert_cheap("a bf16 copy of the next step", &[&master], &half("w", &next), 8);
}

fn codes(values: &[f32], scale: impl Fn(usize) -> f32, zero: f32, low: f32, high: f32) -> Vec<u8> {
    let code =
        |(at, value): (usize, &f32)| ((value / scale(at)).round_ties_even() + zero).clamp(low, high) as i32 as u8;
    values.iter().enumerate().map(code).collect()
}

#[test]
fn codes_of_eight_bits() {
    let values = weights(3);
    let master = [singles("layer.weight", &SHAPE, &values)];
    let mut rng = Rng::new(4);
    let scales: Vec<f32> = (0..ROWS).map(|_| 0.001 + rng.unit() as f32 * 0.001).collect();
    let by_row = codes(&values, |at| scales[at / COLUMNS], 0.0, -128.0, 127.0);
    let scale = singles("layer.weight_scale", &[ROWS, 1], &scales);
    let rows = [tensor("layer.weight", Dtype::I8, &SHAPE, by_row.clone()), scale.clone()];
    assert_cheap("codes by row", &[&master], &rows, 20);
    // As ONNX has them: inputs in rows, one scale a column.
    let transposed = tensor("val_7_q", Dtype::I8, &SHAPE, by_row).transposed();
    assert_cheap("transposed codes", &[&master], &[transposed, scale.named("val_7_scale")], 20);
    let one = codes(&values, |_| 0.0017, 0.0, -127.0, 127.0);
    let tensors = [tensor("layer.weight", Dtype::I8, &SHAPE, one), singles("layer.weight_scale", &[1], &[0.0017])];
    assert_cheap("codes by tensor", &[&master], &tensors, 50);
    let affine = codes(&values, |_| 0.0017, 117.0, 0.0, 255.0);
    let tensors = [
        tensor("layer.weight", Dtype::U8, &SHAPE, affine),
        singles("layer.weight_scale", &[1], &[0.0017]),
        tensor("layer.weight_zero_point", Dtype::U8, &[1], vec![117]),
    ];
    assert_cheap("codes with a zero point", &[&master], &tensors, 50);
    // Nothing says the scales: they are the largest magnitudes of the rows.
    let largest =
        |row: usize| values[row * COLUMNS..][..COLUMNS].iter().fold(0f32, |most, value| most.max(value.abs()));
    let by_largest = codes(&values, |at| largest(at / COLUMNS) / 127.0, 0.0, -128.0, 127.0);
    assert_cheap(
        "codes by largest magnitudes",
        &[&master],
        &[tensor("layer.weight", Dtype::I8, &SHAPE, by_largest)],
        50,
    );
}

/// Factors of a product of that rank: of the rows, and of the columns.
fn factors(seed: u64, rank: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = Rng::new(seed);
    (normals(&mut rng, ROWS * rank, 0.03), normals(&mut rng, rank * COLUMNS, 0.03))
}

fn merged(values: &[f32], (left, right): &(Vec<f32>, Vec<f32>), rank: usize) -> Vec<f32> {
    let product = |at: usize| -> f32 {
        (0..rank).map(|k| left[at / COLUMNS * rank + k] * right[k * COLUMNS + at % COLUMNS]).sum()
    };
    values.iter().enumerate().map(|(at, value)| value + 2.0 * product(at)).collect()
}

#[test]
fn merged_adapters() {
    let (values, rank) = (weights(5), 4);
    let factors = factors(6, rank);
    let base = [singles("layer.weight", &SHAPE, &values)];
    let now = merged(&values, &factors, rank);
    let after = [singles("layer.weight", &SHAPE, &now)];
    assert_cheap("a merged adapter that is not there", &[&base], &after, 6);
    let (up, down) = (singles("base.layer.lora_B.weight", &[ROWS, rank], &factors.0), [rank, COLUMNS]);
    let adapter = [singles("base.layer.lora_A.weight", &down, &factors.1), up];
    assert_cheap("a merged adapter", &[&base, &adapter], &after, 40);
    // Layers that have their inputs in rows.
    let turned = |tensors: &[Tensor]| tensors.iter().map(Tensor::transposed).collect::<Vec<_>>();
    assert_cheap("a merged adapter, transposed", &[&turned(&base), &adapter], &turned(&after), 40);
    let half = |values: &[f32]| {
        let bytes = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        [tensor("layer.weight", Dtype::BF16, &SHAPE, bytes)]
    };
    let rounded: Vec<f32> = values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
    let merged = half(&merged(&rounded, &factors, rank));
    assert_cheap("a merged adapter in bf16 that is not there", &[&half(&values)], &merged, 10);
}

#[test]
fn sums_of_checkpoints() {
    let mut rng = Rng::new(7);
    let first = weights(8);
    let mut next =
        |values: &[f32]| -> Vec<f32> { values.iter().map(|value| value + rng.normal() as f32 * 0.001).collect() };
    let (second, third) = (next(&first), next(&first));
    let mean: Vec<f32> = (0..first.len()).map(|at| (first[at] + second[at] + third[at]) / 3.0).collect();
    let [first, second, third, mean] = [first, second, third, mean].map(|values| [singles("w", &SHAPE, &values)]);
    assert_cheap("a mean", &[&first, &second, &third], &mean, 100);
}

/// Weights that Adam moves, with gradients that have a direction and noise.
struct Adam {
    values: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    direction: Vec<f32>,
}

impl Adam {
    fn new(rng: &mut Rng) -> Self {
        let values = weights(10);
        let direction = normals(rng, values.len(), 1.0);
        Self { first: vec![0f32; values.len()], second: vec![0f32; values.len()], values, direction }
    }

    /// Weights and both moments after so many more steps.
    fn steps(&mut self, count: usize, rng: &mut Rng) -> [Vec<f32>; 3] {
        let Self { values, first, second, direction } = self;
        for _ in 0..count {
            for at in 0..values.len() {
                let size = 0.2 + (at % COLUMNS) as f32 / 50.0;
                let gradient = size * (0.7 * direction[at] + rng.normal() as f32);
                first[at] = 0.9 * first[at] + 0.1 * gradient;
                second[at] = 0.95 * second[at] + 0.05 * gradient * gradient;
                values[at] -= 1e-3 * first[at] / (second[at].sqrt() + 1e-8);
            }
        }
        [values.clone(), first.clone(), second.clone()]
    }
}

/// As torch names moments.
const MOMENTS: [&str; 3] = ["layer.weight", "optimizer.exp_avg.layer.weight", "optimizer.exp_avg_sq.layer.weight"];

fn checkpoint(tensors: &[Vec<f32>; 3], names: [&str; 3]) -> Vec<Tensor> {
    tensors.iter().zip(names).map(|(values, name)| singles(name, &SHAPE, values)).collect()
}

#[test]
fn moments() {
    let mut rng = Rng::new(9);
    let mut run = Adam::new(&mut rng);
    let checkpoints = [run.steps(30, &mut rng), run.steps(15, &mut rng)];
    let cost = |names: [&str; 3]| {
        let bench = Bench::new();
        bench.keep("model.safetensors", &checkpoint(&checkpoints[0], names));
        let cost = bench.keep("model.safetensors", &checkpoint(&checkpoints[1], names));
        bench.assert_sound();
        cost
    };
    let known = cost(MOMENTS);
    let unknown = cost(["layer.weight", "optimizer.a", "optimizer.b"]);
    println!("weights and moments: {known} bytes, {unknown} under names that say nothing");
    assert!(known * 100 < unknown * 97, "expected 3% less than {unknown}, got {known}");
}

/// Packs files into an archive whose chains are as deep as readers follow, and gives how the last is stored. All of it comes back.
fn packed_deep(files: &[Vec<Tensor>]) -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let name = |index: usize| folder.path().join(format!("{index:02}.safetensors"));
    let paths: Vec<_> = (0..files.len()).map(name).collect();
    paths.iter().zip(files).for_each(|(path, tensors)| fs::write(path, write(tensors)).unwrap());
    let out = folder.path().join("all.shard");
    let options = PackOptions { depth: Some(MAX_DEPTH), ..PackOptions::default() };
    pack(&paths, &out, &options, settings(), &NoProgress).unwrap();
    let archive = Archive::open(&out).unwrap();
    assert_eq!(archive.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
    let restored = tempfile::tempdir().unwrap();
    archive.unpack(restored.path(), false, settings(), &NoProgress).unwrap();
    for path in &paths {
        assert!(fs::read(path).unwrap() == fs::read(restored.path().join(path.file_name().unwrap())).unwrap());
    }
    let storage = archive.storage(archive.root.files.last().unwrap()).unwrap();
    storage.blocks.into_values().map(|block| (block.chain, block.depth)).collect()
}

/// Scales of `rows` rows in so many versions, each a little other than the one before.
fn series_of_scales(rows: usize, versions: usize) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(11);
    let mut scales: Vec<f32> = (0..rows).map(|_| 0.001 + rng.unit() as f32 * 0.001).collect();
    let mut next = || {
        scales.iter_mut().for_each(|scale| *scale *= 1.0 + rng.normal() as f32 * 1e-6);
        scales.clone()
    };
    (0..versions).map(|_| next()).collect()
}

#[test]
fn codes_whose_scales_are_deltas_are_not_too_deep() {
    // As many scales as take a while to encode, before their codes in the file: these are looked at meanwhile, and lean on scales that
    // are not stored yet.
    let (rows, columns) = (1 << 17, 8);
    let values = normals(&mut Rng::new(12), rows * columns, 0.05);
    let mut files = vec![vec![singles("w", &[rows, columns], &values)]];
    for scales in series_of_scales(rows, MAX_DEPTH as usize + 3) {
        let codes = codes(&values, |at| scales[at / columns], 0.0, -128.0, 127.0);
        files.push(vec![singles("w_scale", &[rows, 1], &scales), tensor("w", Dtype::I8, &[rows, columns], codes)]);
    }
    let stored = packed_deep(&files);
    let deepest = stored.iter().filter(|(chain, _)| chain.starts_with("quantise>")).map(|(_, depth)| *depth);
    assert_eq!(deepest.max(), Some(1), "codes lean on scales that lean on nothing");
}

#[test]
fn scales_that_are_stored_already_may_be_deep() {
    // The scales are tensors of earlier files, each a delta of the one before.
    let rows = 1 << 12;
    let columns = 64;
    let values = normals(&mut Rng::new(13), rows * columns, 0.05);
    let scales = series_of_scales(rows, MAX_DEPTH as usize + 1);
    let mut files = vec![vec![singles("w", &[rows, columns], &values)]];
    files.extend(scales.iter().map(|scales| vec![singles("w_scale", &[rows, 1], scales)]));
    let deepest = |stored: &Stored| stored.iter().map(|(_, depth)| *depth).max().unwrap();
    assert_eq!(deepest(&packed_deep(&files)), MAX_DEPTH, "or nothing is tested");
    for (count, is_computed) in [(MAX_DEPTH as usize, true), (MAX_DEPTH as usize + 1, false)] {
        let last = &scales[count - 1];
        let codes = codes(&values, |at| last[at / columns], 0.0, -128.0, 127.0);
        let mut files = files[..=count].to_vec();
        files.push(vec![tensor("w", Dtype::I8, &[rows, columns], codes), singles("w_scale", &[rows, 1], last)]);
        let storage = packed_deep(&files);
        let found = storage.iter().any(|(chain, _)| chain.starts_with("quantise>"));
        assert_eq!(found, is_computed, "on scales {} deep", count - 1);
    }
}

#[test]
fn no_block_takes_more_than_readers_fetch() {
    // Codes of a transposed matrix take all of its blocks, each a mean of three checkpoints, which lean on those before.
    let (rows, columns) = (1000, 1024);
    let mut rng = Rng::new(14);
    let mut values = normals(&mut rng, rows * columns, 0.05);
    let mut versions = Vec::new();
    let bench = Bench::new();
    for index in 0..7 {
        bench.keep(&format!("{index}.safetensors"), &[singles("w", &[rows, columns], &values)]);
        versions.push(values.clone());
        for _ in 0..values.len() / 64 {
            values[rng.below((rows * columns) as u64) as usize] += rng.normal() as f32 * 1e-3;
        }
    }
    let mean: Vec<f32> =
        (0..values.len()).map(|at| (versions[4][at] + versions[5][at] + versions[6][at]) / 3.0).collect();
    bench.keep("7.safetensors", &[singles("w", &[rows, columns], &mean)]);
    let storage = bench.storage("7.safetensors");
    let means = storage.iter().filter(|(chain, depth)| chain.starts_with("linear>") && *depth == 7).count();
    assert!(means > 60, "or nothing is tested: {storage:?}");
    let scales: Vec<f32> = (0..rows).map(|_| 0.001 + rng.unit() as f32 * 0.001).collect();
    let codes = codes(&mean, |at| scales[at / columns], 0.0, -128.0, 127.0);
    let codes = tensor("q", Dtype::I8, &[rows, columns], codes).transposed();
    bench.keep("8.safetensors", &[codes, singles("q_scale", &[rows], &scales)]);
    bench.assert_sound();
}

#[test]
fn a_long_series_with_optimizer_state_stays_readable() {
    let mut rng = Rng::new(15);
    let mut run = Adam::new(&mut rng);
    let bench = Bench::new();
    let mut steps = 0;
    for index in 0..2 * MAX_DEPTH {
        let name = format!("{index:02}.safetensors");
        bench.keep(&name, &checkpoint(&run.steps(5, &mut rng), MOMENTS));
        let storage = bench.storage(&name);
        assert!(storage.iter().all(|(_, depth)| *depth <= MAX_DEPTH));
        steps += usize::from(storage.iter().any(|(chain, _)| chain.starts_with("step>")));
    }
    assert!(steps > MAX_DEPTH as usize, "most weights are computed: of {} versions, {steps}", 2 * MAX_DEPTH);
    bench.assert_sound();
}
