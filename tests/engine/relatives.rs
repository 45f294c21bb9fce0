//! Bases that sketches find: under any name and path, on other branches and in the past, among many that look alike.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use half::bf16;
use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::rng::Rng;
use shard_formats::{FileSource, parse};
use shard_repo::{CheckoutOptions, CommitOptions, Finder, Relative, Repository, Settings};
use shard_store::{EntryKey, EntryKind, EntrySource, PackId};
use shard_tests::damage::Damage;
use shard_tests::rewrite::{Dtype, Tensor, write};
use shard_tests::tree::files_ending;
use tempfile::TempDir;

const SHAPE: [usize; 2] = [200, 256];
const COUNT: usize = SHAPE[0] * SHAPE[1];
/// Matrices of a model: 1.2 MB of binary32, which have room for a sketch of all six.
const MATRICES: usize = 6;

type Model = Vec<Vec<f32>>;

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

/// A model of its own.
fn model(seed: u64) -> Model {
    sized(seed, COUNT)
}

fn sized(seed: u64, count: usize) -> Model {
    let mut rng = Rng::new(seed);
    (0..MATRICES).map(|_| (0..count).map(|_| (rng.normal() * 0.02) as f32).collect()).collect()
}

/// The same after some training, which moves a share of the words.
fn tuned(model: &Model, seed: u64, share: f64) -> Model {
    let mut rng = Rng::new(seed);
    let mut moved = |value: &f32| if rng.unit() < share { value * (1.0 + rng.normal() as f32 * 0.05) } else { *value };
    model.iter().map(|matrix| matrix.iter().map(&mut moved).collect()).collect()
}

fn file(model: &Model, dtype: Dtype, prefix: &str) -> Vec<u8> {
    let tensor = |(index, values): (usize, &Vec<f32>)| Tensor {
        name: format!("{prefix}.{index}.weight"),
        dtype,
        shape: vec![values.len() / SHAPE[1], SHAPE[1]],
        bytes: match dtype {
            Dtype::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::I8 => values.iter().map(|value| (value / 0.0005).round() as i8 as u8).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        },
    };
    write(&model.iter().enumerate().map(tensor).collect::<Vec<_>>())
}

struct Bench {
    folder: TempDir,
    repository: Repository,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::TEST, settings()).unwrap();
        Self { folder, repository }
    }

    fn reopened(self) -> Self {
        drop(self.repository);
        let repository = Repository::discover(self.folder.path(), settings()).unwrap();
        Self { folder: self.folder, repository }
    }

    /// Commits a file, and gives the stored bytes of its blocks.
    fn keep(&self, path: &str, bytes: &[u8]) -> u64 {
        let place = self.folder.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, bytes).unwrap();
        self.commit()
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.folder.path().join(path)).unwrap();
        self.commit();
    }

    fn commit(&self) -> u64 {
        let cost = self.repository.add(&[self.folder.path().to_owned()], &NoProgress).unwrap().cost;
        let options = CommitOptions { message: "next".to_owned(), ..CommitOptions::default() };
        self.repository.commit(&options).unwrap();
        cost.new_bytes
    }

    /// The relatives of a file that is not stored.
    fn relatives(&self, bytes: &[u8]) -> Vec<Relative> {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new");
        fs::write(&place, bytes).unwrap();
        let source = FileSource::open(&place).unwrap();
        let layout = parse(&source).unwrap().layout;
        let transaction = self.repository.store().begin("test").unwrap();
        let found = Finder::new(&transaction).find(&source, &layout, &place, None).unwrap();
        found.relatives
    }

    fn manifest(&self, path: &str) -> shard_core::Digest {
        let head = shard_history::Revision::parse("HEAD").unwrap();
        self.repository.file_at(&head, path).unwrap().manifest
    }

    fn sketches(&self) -> Vec<EntryKey> {
        self.repository.store().keys(EntryKind::Sketch).unwrap()
    }

    fn assert_sound(&self) {
        let out = tempfile::tempdir().unwrap();
        self.repository.export("HEAD", &[], out.path(), CheckoutOptions { force: true }, &NoProgress).unwrap();
        for path in files_ending(self.folder.path(), ".safetensors") {
            let kept = out.path().join(path.strip_prefix(self.folder.path()).unwrap());
            assert!(fs::read(&path).unwrap() == fs::read(kept).unwrap(), "{} byte for byte", path.display());
        }
        assert_eq!(self.repository.verify(true, &NoProgress).unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn a_base_is_found_under_any_name_after_it_was_deleted() {
    let bench = Bench::new();
    let first = model(1);
    bench.keep("a/first.safetensors", &file(&first, Dtype::F32, "layer"));
    let id = bench.manifest("a/first.safetensors");
    bench.remove("a/first.safetensors");
    for seed in 2..5 {
        bench.keep(&format!("z/other-{seed}.safetensors"), &file(&model(seed), Dtype::F32, "layer"));
    }
    let next = file(&tuned(&first, 9, 0.1), Dtype::F32, "block");
    let relatives = bench.relatives(&next);
    assert_eq!(relatives.iter().map(|relative| relative.manifest).collect::<Vec<_>>(), [id]);
    let alone = Bench::new().keep("b.safetensors", &next);
    let found = bench.keep("y/second.safetensors", &next);
    println!("{found} bytes, alone {alone}");
    assert!(found * 5 < alone * 3, "{found} bytes, alone {alone}");
    bench.assert_sound();
}

#[test]
fn the_right_one_is_found_among_many_of_its_names_and_shapes() {
    let bench = Bench::new();
    let base = model(20);
    let members: Vec<Model> = (0..12).map(|seed| tuned(&base, 100 + seed, 0.1)).collect();
    for (index, member) in members.iter().enumerate() {
        bench.keep(&format!("{index}/model.safetensors"), &file(member, Dtype::F32, "layer"));
    }
    let right = bench.manifest("4/model.safetensors");
    // A cast is computed from the right one, whatever is near by its path.
    let cast = file(&members[4], Dtype::BF16, "layer");
    let relatives = bench.relatives(&cast);
    assert_eq!(relatives[0].manifest, right);
    assert!(relatives[0].nearness > 0.99 && relatives[1].nearness < 0.97, "{relatives:?}");
    let cost = bench.keep("11/cast.safetensors", &cast);
    assert!(cost * 100 < cast.len() as u64, "{cost} of {}", cast.len());
    // A further step.
    let next = file(&tuned(&members[4], 7, 0.1), Dtype::F32, "layer");
    assert_eq!(bench.relatives(&next)[0].manifest, right);
    let cost = bench.keep("0/next.safetensors", &next);
    let from_sibling = Bench::new();
    from_sibling.keep("a.safetensors", &file(&members[0], Dtype::F32, "layer"));
    let sibling = from_sibling.keep("b.safetensors", &next);
    assert!(cost * 10 < sibling * 9, "{cost} bytes, on a sibling {sibling}");
    bench.assert_sound();
}

#[test]
fn what_only_looks_alike_is_no_relative() {
    let bench = Bench::new();
    for seed in 30..40 {
        bench.keep(&format!("{seed}.safetensors"), &file(&model(seed), Dtype::F32, "layer"));
    }
    assert_eq!(bench.relatives(&file(&model(41), Dtype::F32, "layer")), []);
    assert_eq!(bench.relatives(&file(&model(42), Dtype::BF16, "layer")), []);
    // Nor is one put before what lies near.
    let first = model(50);
    bench.keep("b/step-1.safetensors", &file(&first, Dtype::F32, "layer"));
    let next = file(&tuned(&first, 51, 0.1), Dtype::F32, "layer");
    let relatives = bench.relatives(&next);
    assert_eq!(relatives[0].manifest, bench.manifest("b/step-1.safetensors"));
    assert_eq!(relatives.len(), 1);
}

#[test]
fn integers_are_found_by_their_signs() {
    let bench = Bench::new();
    for seed in 61..65 {
        bench.keep(&format!("{seed}.safetensors"), &file(&sized(seed, 4 * COUNT), Dtype::F32, "layer"));
    }
    let relatives = bench.relatives(&file(&sized(63, 4 * COUNT), Dtype::I8, "layer"));
    let found: Vec<_> = relatives.iter().map(|relative| relative.manifest).collect();
    assert_eq!(found, [bench.manifest("63.safetensors")]);
}

#[test]
fn transposed_matrices_are_found() {
    let bench = Bench::new();
    let first = model(60);
    bench.keep("a.safetensors", &file(&first, Dtype::F32, "layer"));
    let tensors: Vec<Tensor> = shard_tests::rewrite::read(&file(&first, Dtype::BF16, "other"));
    let transposed: Vec<Tensor> = tensors.iter().map(Tensor::transposed).collect();
    let relatives = bench.relatives(&write(&transposed));
    assert_eq!(relatives.len(), 1);
    assert!(relatives[0].nearness > 0.99);
}

#[test]
fn an_index_that_was_lost_is_filled_again() {
    let bench = Bench::new();
    let first = model(70);
    bench.keep("a.safetensors", &file(&first, Dtype::F32, "layer"));
    bench.keep("b.safetensors", &file(&model(71), Dtype::F32, "layer"));
    assert_eq!(bench.sketches().len(), 2);
    let next = file(&tuned(&first, 72, 0.1), Dtype::BF16, "layer");
    let before = bench.relatives(&next);
    assert_eq!(before.len(), 1);
    bench.repository.store().reindex().unwrap();
    assert_eq!(bench.relatives(&next), before);
    fs::remove_dir_all(bench.repository.dir().join("cache")).unwrap();
    let bench = bench.reopened();
    assert_eq!(bench.relatives(&next), before);
    // What is sketched already is not sketched again.
    bench.keep("c.safetensors", &file(&first, Dtype::F32, "layer"));
    assert_eq!(bench.sketches().len(), 2);
}

#[test]
fn sketches_take_no_more_than_a_thousandth_and_small_files_have_none() {
    let bench = Bench::new();
    let bytes = file(&model(80), Dtype::F32, "layer");
    bench.keep("a.safetensors", &bytes);
    let small: Model = model(81).into_iter().map(|matrix| matrix[..COUNT / 8].to_vec()).collect();
    let tensors = small.iter().enumerate().map(|(index, values)| Tensor {
        name: format!("{index}"),
        dtype: Dtype::F32,
        shape: vec![values.len()],
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    });
    bench.keep("b.safetensors", &write(&tensors.collect::<Vec<_>>()));
    let store = bench.repository.store();
    let [sketch] = bench.sketches()[..] else { panic!("one sketch") };
    let location = store.locate(&sketch).unwrap().unwrap();
    assert!(location.raw_len * 1024 <= bytes.len() as u64, "{location:?}");
}

#[test]
fn a_damaged_sketch_keeps_nobody_from_adding() {
    let bench = Bench::new();
    let first = model(90);
    bench.keep("a.safetensors", &file(&first, Dtype::F32, "layer"));
    let [sketch] = bench.sketches()[..] else { panic!("one sketch") };
    let location = bench.repository.store().locate(&sketch).unwrap().unwrap();
    let PackId::Sealed(pack) = location.pack else { panic!("{location:?}") };
    let place = bench.repository.dir().join(format!("packs/{pack}.pack"));
    assert!(Damage::Flip { at: location.offset + location.stored_len / 2, bit: 3 }.apply(&place));
    for lost in [false, true] {
        if lost {
            fs::remove_dir_all(bench.repository.dir().join("cache")).unwrap();
        }
        let bench = Repository::discover(bench.folder.path(), settings()).unwrap();
        let path = bench.root().join(format!("next-{lost}.safetensors"));
        fs::write(&path, file(&tuned(&first, 91 + u64::from(lost), 0.1), Dtype::F32, "layer")).unwrap();
        bench.add(&[path], &NoProgress).unwrap();
        // It is gone for good: nobody tries it again.
        assert_eq!(bench.store().sketches().missing(9).unwrap(), []);
    }
    let problems = bench.repository.verify(true, &NoProgress).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("sketch")), "{problems:?}");
}
