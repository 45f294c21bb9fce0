//! Bases that names do not find: each way in which a model's tensors come again costs about what it would under its old name,
//! and comes back byte for byte.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use shard_core::NoProgress;
use shard_core::limits::Cut;
use shard_datasets::cases::Versions;
use shard_datasets::rng::Rng;
use shard_repo::{Archive, CheckoutOptions, CommitOptions, PackOptions, Repository, Settings, SnapshotCost, pack};
use shard_tests::rewrite::{Tensor, read, write};
use shard_tests::tree::files_ending;
use tempfile::TempDir;

const ROWS: usize = 300;

/// Versions of four matrices of 300 rows of 256 bf16 words: three blocks each in the tests' cut. One word in five moves from
/// each version to the next.
fn versions(seed: u64, count: usize) -> Vec<Vec<Tensor>> {
    Versions::new(seed, 4, ROWS, 256, 0.2).take(count).map(|file| read(&file.unwrap())).collect()
}

struct Bench {
    folder: TempDir,
    repository: Repository,
}

fn settings() -> Settings {
    Settings { threads: 2, ..Settings::default() }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path(), "main", Cut::TEST, settings()).unwrap();
        Self { folder, repository }
    }

    /// Commits files, and gives what they cost.
    fn keep(&self, files: &[(&str, &[Tensor])]) -> SnapshotCost {
        for (path, tensors) in files {
            fs::write(self.folder.path().join(path), write(tensors)).unwrap();
        }
        let cost = self.repository.add(&[self.folder.path().to_owned()], &NoProgress).unwrap().cost;
        let options = CommitOptions { message: "next".to_owned(), ..CommitOptions::default() };
        self.repository.commit(&options).unwrap();
        cost
    }

    /// Everything that was committed comes back, also to another process.
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

/// What the next version costs where a first one is there: under its own names, alone, and as it is given.
fn costs(
    first: &[Tensor],
    second: &[Tensor],
    given: &[(&str, &[Tensor])],
) -> (SnapshotCost, SnapshotCost, SnapshotCost) {
    let named = Bench::new();
    named.keep(&[("model.safetensors", first)]);
    let named = named.keep(&[("model.safetensors", second)]);
    let alone = Bench::new().keep(&[("model.safetensors", second)]);
    let bench = Bench::new();
    bench.keep(&[("model.safetensors", first)]);
    let found = bench.keep(given);
    bench.assert_sound();
    (named, alone, found)
}

/// Checks that the next version, as it is given, costs at most a tenth more than under its own names.
fn assert_as_cheap(what: &str, first: &[Tensor], second: &[Tensor], given: &[(&str, &[Tensor])]) {
    let (named, alone, found) = costs(first, second, given);
    println!("{what}: {} by name, {} found, {} alone", named.new_bytes, found.new_bytes, alone.new_bytes);
    assert!(named.new_bytes * 2 < alone.new_bytes, "the measure itself: {named:?} {alone:?}");
    assert!(found.new_bytes * 10 < named.new_bytes * 11, "{what}: {found:?}, by name {named:?}");
    assert!(found.deltas > 0, "{what}: {found:?}");
}

/// Names that have nothing in common with the old ones, in another order.
fn renamed(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().zip(["zeta", "eta", "theta", "iota"]).map(|(tensor, name)| tensor.clone().named(name)).collect()
}

#[test]
fn renamed_tensors() {
    let versions = versions(1, 2);
    let new = renamed(&versions[1]);
    assert_as_cheap("renamed", &versions[0], &versions[1], &[("model.safetensors", &new)]);
    assert_as_cheap("renamed, in another file", &versions[0], &versions[1], &[("other.safetensors", &new)]);
}

#[test]
fn transposed_tensors() {
    let versions = versions(2, 2);
    let new: Vec<Tensor> = renamed(&versions[1]).iter().map(Tensor::transposed).collect();
    assert_as_cheap("transposed", &versions[0], &versions[1], &[("model.safetensors", &new)]);
    // A name that is still there, with the shape of the transpose.
    let new: Vec<Tensor> = versions[1].iter().map(Tensor::transposed).collect();
    assert_as_cheap("transposed under its name", &versions[0], &versions[1], &[("model.safetensors", &new)]);
    let square = |tensors: &[Tensor]| -> Vec<Tensor> { tensors.iter().map(|tensor| tensor.rows(0..256)).collect() };
    let (first, second) = (square(&versions[0]), square(&versions[1]));
    let new: Vec<Tensor> = renamed(&second).iter().map(Tensor::transposed).collect();
    assert_as_cheap("transposed squares", &first, &second, &[("model.safetensors", &new)]);
}

#[test]
fn tensors_in_other_cuts() {
    let versions = versions(3, 2);
    let (first, second) = (&versions[0], &versions[1]);
    let [a, b, c, d] = &second[..] else { unreachable!() };
    // Two become one, one becomes three, in two files.
    let merged = [Tensor::stacked(&[b.clone(), a.clone()]).named("merged"), d.clone().named("kept")];
    let split = [(0, 100), (100, 170), (170, ROWS)].map(|(from, to)| c.rows(from..to).named(format!("part.{from}")));
    let files: [(&str, &[Tensor]); 2] = [("one.safetensors", &merged), ("two.safetensors", &split)];
    assert_as_cheap("merged and split", first, second, &files);
    // The same under names that are there with another number of rows.
    let merged = [Tensor::stacked(&[b.clone(), a.clone()]).named(a.name.clone()), d.clone()];
    let half = [c.rows(ROWS / 2..ROWS), c.rows(0..ROWS / 2).named("the other half")];
    let files: [(&str, &[Tensor]); 2] = [("one.safetensors", &merged), ("two.safetensors", &half)];
    assert_as_cheap("merged and split under their names", first, second, &files);
    // The stack of a mixture of experts.
    let mut stack = Tensor::stacked(second).named("experts");
    stack.shape = vec![4, ROWS, 256];
    assert_as_cheap("stacked", first, second, &[("model.safetensors", &[stack])]);
}

#[test]
fn parts_of_equal_names_in_several_files() {
    let versions = versions(4, 2);
    let bench = Bench::new();
    let part = |from: usize, to: usize| -> Vec<Tensor> { versions[0].iter().map(|t| t.rows(from..to)).collect() };
    bench.keep(&[("rank0.safetensors", &part(0, 120)), ("rank1.safetensors", &part(120, ROWS))]);
    let found = bench.keep(&[("whole.safetensors", &versions[1])]);
    bench.assert_sound();
    let alone = Bench::new().keep(&[("model.safetensors", &versions[1])]);
    assert!(found.new_bytes * 2 < alone.new_bytes, "{found:?}, alone {alone:?}");
}

#[test]
fn rows_that_were_put_before_or_between() {
    let versions = versions(5, 2);
    let more = Versions::new(99, 4, 40, 256, 0.2).next().unwrap().unwrap();
    let more = read(&more);
    let solo = Bench::new().keep(&[("more.safetensors", &more)]).new_bytes;
    let grown = |at: usize| -> Vec<Tensor> {
        let grow = |(tensor, more): (&Tensor, &Tensor)| {
            Tensor::stacked(&[tensor.rows(0..at), more.clone(), tensor.rows(at..ROWS)])
        };
        versions[1].iter().zip(&more).map(grow).collect()
    };
    for at in [0, 130, ROWS] {
        let new = grown(at);
        let (named, alone, found) = costs(&versions[0], &versions[1], &[("model.safetensors", &new)]);
        println!("{at}: {} and {solo} new, {} found, {} alone", named.new_bytes, found.new_bytes, alone.new_bytes);
        // A block that is half new codes both halves with one choice of chain.
        assert!(found.new_bytes * 4 < (named.new_bytes + solo) * 5, "at row {at}: {found:?}, by name {named:?}");
    }
}

#[test]
fn what_is_unrelated_has_no_base() {
    let (first, other) = (&versions(6, 1)[0], &versions(7, 1)[0]);
    let bench = Bench::new();
    bench.keep(&[("model.safetensors", first)]);
    let cost = bench.keep(&[("other.safetensors", &renamed(other))]);
    assert!(cost.deltas == 0 && cost.new_blocks > 12, "{cost:?}");
    // Rows in another order are not sought one by one: a block would need more runs than it may have.
    let mut order: Vec<usize> = (0..ROWS).collect();
    let mut rng = Rng::new(8);
    (1..ROWS).rev().for_each(|i| order.swap(i, rng.below(i as u64 + 1) as usize));
    let permuted: Vec<Tensor> =
        renamed(first).iter().map(|t| t.reordered(&order).named(format!("permuted.{}", t.name))).collect();
    let cost = bench.keep(&[("permuted.safetensors", &permuted)]);
    assert_eq!(cost.deltas, 0, "{cost:?}");
    bench.assert_sound();
}

#[test]
fn fault_09_a_damaged_candidate_is_none() {
    let versions = versions(9, 2);
    let bench = Bench::new();
    bench.keep(&[("model.safetensors", &versions[0])]);
    let packs = files_ending(&bench.repository.dir(), ".pack");
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    // Several blocks, so that whole tensors, transposes and rows all meet one.
    let len = bytes.len();
    (1..8).for_each(|eighth| bytes[len / 8 * eighth] ^= 4);
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    let [a, b, c, d] = &renamed(&versions[1])[..] else { unreachable!() };
    let new = [a.clone(), b.transposed(), Tensor::stacked(&[d.clone(), c.rows(0..100)])];
    let place = bench.folder.path().join("other.safetensors");
    fs::write(&place, write(&new)).unwrap();
    let repository = Repository::discover(bench.folder.path(), settings()).unwrap();
    repository.add(&[place], &NoProgress).unwrap();
    let options = CommitOptions { message: "next".to_owned(), ..CommitOptions::default() };
    repository.commit(&options).unwrap();
    let out = tempfile::tempdir().unwrap();
    let only = ["other.safetensors".to_owned()];
    repository.export("HEAD", &only, out.path(), CheckoutOptions { force: true }, &NoProgress).unwrap();
    assert!(fs::read(out.path().join("other.safetensors")).unwrap() == write(&new));
}

/// Packs a series into an archive with so many threads, and gives its bytes.
fn packed(folder: &Path, files: &[PathBuf], threads: usize) -> Vec<u8> {
    let out = folder.join(format!("{threads}.shard"));
    pack(files, &out, &PackOptions::default(), Settings { threads, ..Settings::default() }, &NoProgress).unwrap();
    fs::read(&out).unwrap()
}

#[test]
fn an_archive_is_the_same_for_any_number_of_threads() {
    // Over the size from which threads are started.
    let versions: Vec<Vec<Tensor>> =
        Versions::new(10, 6, 700, 512, 0.2).take(3).map(|file| read(&file.unwrap())).collect();
    let parts = |tensors: &[Tensor]| -> Vec<Tensor> {
        let name = |tensor: &Tensor| format!("new.{}", tensor.name);
        let changed = |(number, tensor): (usize, &Tensor)| match number % 3 {
            0 => vec![tensor.transposed().named(name(tensor))],
            1 => vec![tensor.clone().named(name(tensor))],
            _ => vec![tensor.rows(0..300).named("first"), tensor.rows(300..700).named(name(tensor))],
        };
        tensors.iter().enumerate().take(5).flat_map(changed).collect()
    };
    let series = [versions[0].clone(), parts(&versions[1]), versions[2].clone()];
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (step, tensors) in series.iter().enumerate() {
        files.push(folder.path().join(format!("step-{step}.safetensors")));
        fs::write(&files[step], write(tensors)).unwrap();
    }
    let one = packed(folder.path(), &files, 1);
    for threads in [2, 5] {
        assert!(packed(folder.path(), &files, threads) == one, "{threads} threads");
    }
    let total: usize = series.iter().map(|tensors| write(tensors).len()).sum();
    assert!(one.len() * 2 < total, "{} of {total}", one.len());
    let archive = Archive::open(&folder.path().join("5.shard")).unwrap();
    assert_eq!(archive.verify(&NoProgress).unwrap().problems, Vec::<String>::new());
    let out = folder.path().join("out");
    archive.unpack(&out, false, settings(), &NoProgress).unwrap();
    for (file, tensors) in files.iter().zip(&series) {
        assert!(fs::read(out.join(file.file_name().unwrap())).unwrap() == write(tensors), "{}", file.display());
    }
}

/// However often a model is cut anew, no block needs more than a reader gives it.
#[test]
fn a_series_that_is_cut_anew_at_every_step_can_be_read() {
    let bench = Bench::new();
    let series = versions(11, 20);
    let mut stored = 0;
    for (step, tensors) in series.iter().enumerate() {
        let given: Vec<Tensor> = match step % 4 {
            0 => tensors.clone(),
            1 => vec![Tensor::stacked(&tensors[1..4]).named("merged"), tensors[0].transposed().named("turned")],
            2 => {
                let all = Tensor::stacked(tensors);
                (0..7).map(|i| all.rows(i * 170..(i + 1) * 170).named(format!("part.{i}"))).collect()
            }
            _ => tensors.iter().map(|tensor| tensor.transposed().named(format!("t.{}", tensor.name))).collect(),
        };
        let cost = bench.keep(&[("model.safetensors", &given)]);
        stored += cost.new_bytes;
        if step > 0 && step % 4 == 1 {
            assert!(cost.deltas > 0, "step {step}: {cost:?}");
        }
    }
    let alone = Bench::new().keep(&[("model.safetensors", &series[0])]).new_bytes * 20;
    println!("{stored} bytes, {alone} alone");
    assert!(stored < alone * 9 / 10, "{stored} bytes, {alone} alone");
    bench.assert_sound();
    let repository = Repository::discover(bench.folder.path(), settings()).unwrap();
    for (back, tensors) in series.iter().rev().enumerate().filter(|(back, _)| back % 4 == 3) {
        let out = tempfile::tempdir().unwrap();
        let options = CheckoutOptions { force: true };
        repository.export(&format!("HEAD~{back}"), &[], out.path(), options, &NoProgress).unwrap();
        assert!(fs::read(out.path().join("model.safetensors")).unwrap() == write(tensors), "HEAD~{back}");
    }
}
