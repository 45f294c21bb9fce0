//! Finding the base of a new model among many that are known by their sketches, against hashing its file.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shard_codecs::{Block, Encoder, Level};
use shard_core::limits::Cut;
use shard_core::{Digest, Layout, NoProgress, Sha256, sha256};
use shard_datasets::rng::Rng;
use shard_formats::{FileSource, Source, parse};
use shard_manifest::{BlockSpan, ContentManifest, ManifestSegment};
use shard_repo::{Finder, Repository, Settings, sketch_of};
use shard_store::{EntryKey, EntryKind, EntrySink as _, Transaction};

use crate::Failure;
use crate::measure::warm;
use crate::table::{Pair, Row, seconds};

/// Finding and remembering take at most so much of the time of hashing the file.
const MOST: f64 = 0.2;
/// The new file takes less than so many percent of its bytes, on the base that was found.
const MOST_STORED: f64 = 20.0;
/// Models of one family, which have names, shapes and most words in common.
const FAMILY: u64 = 100;
/// Further models that are sought, of others of the family members.
const SOUGHT: u64 = 100;
/// Matrices of a model, each a block: 100.7 MB together.
const MATRICES: u64 = 24;
const SHAPE: (u64, u64) = (2048, 1024);
/// One word in so many differs between a family's base and a member, and between that and what is tuned from it.
const MOVED: (u64, u64) = (10, 20);

/// The index, and a copy of it.
const INDEX: &str = "repository/.shard/cache/index.db";
const SAVED: &str = "index.db";

/// A model of which every word can be computed by itself.
#[derive(Debug, Clone, Copy)]
struct Model {
    family: u64,
    member: u64,
    /// What it was tuned into, if it was.
    tuned: Option<u64>,
}

impl Model {
    fn word(self, index: u64) -> u16 {
        let base = Rng::stream(self.family, index).normal() * 0.02;
        let mut word = (base as f32).to_bits().wrapping_add(0x8000) >> 16;
        let mut step = |seed: u64, share: u64| {
            let bits = Rng::stream(seed, index).bits();
            if bits.is_multiple_of(share) {
                word = word.wrapping_add(1 + (bits >> 32) as u32 % 3);
            }
        };
        step(1 << 32 | self.family << 16 | self.member, MOVED.0);
        if let Some(tuned) = self.tuned {
            step(1 << 40 | tuned, MOVED.1);
        }
        word as u16
    }
}

/// A model's file, made where it is read.
struct ModelFile<'a> {
    header: &'a [u8],
    model: Model,
}

impl Source for ModelFile<'_> {
    fn len(&self) -> u64 {
        self.header.len() as u64 + MATRICES * SHAPE.0 * SHAPE.1 * 2
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = self.header.len() as u64;
        let mut word = (u64::MAX, [0; 2]);
        for (at, byte) in (offset..).zip(buf) {
            *byte = match self.header.get(at as usize) {
                Some(byte) => *byte,
                None => {
                    let index = (at - header) / 2;
                    if word.0 != index {
                        word = (index, self.model.word(index).to_le_bytes());
                    }
                    word.1[((at - header) % 2) as usize]
                }
            };
        }
        Ok(())
    }
}

/// The header of all models: safetensors.
fn header() -> Vec<u8> {
    let bytes = SHAPE.0 * SHAPE.1 * 2;
    let tensors = (0..MATRICES).map(|index| {
        let (rows, columns) = SHAPE;
        let (from, to) = (index * bytes, (index + 1) * bytes);
        format!(
            r#""layer.{index:02}.weight":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[{from},{to}]}}"#
        )
    });
    let mut text = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    while text.len() % 8 != 0 {
        text.push(' ');
    }
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Measures in `dir`, which needs room for about 600 MB.
pub(crate) fn measure(dir: &Path, models: u64, runs: u32) -> Result<Vec<Row>, Failure> {
    let header = header();
    let file = |model| ModelFile { header: &header, model };
    let layout = parse(&file(Model { family: 0, member: 0, tuned: None }))?.layout;
    let repository = Repository::init(&dir.join("repository"), "main", Cut::V1, Settings::default())?;
    // Stored as a whole, and first: a hundred later ones have most of its keys.
    let right = Model { family: 3, member: 41, tuned: None };
    let place = repository.root().join("right.safetensors");
    write(&file(right), &place)?;
    let start = Instant::now();
    repository.add(&[place], &NoProgress)?;
    let known = repository.store().keys(EntryKind::Manifest)?;
    let [stored] = known[..] else { return Err("the model was not stored".into()) };
    eprintln!("finding: a model was added in {}", seconds(start.elapsed()));

    let start = Instant::now();
    let transaction = repository.store().begin("bench")?;
    let mut manifests = Vec::new();
    let families = models.div_ceil(FAMILY);
    // One of each family after the other, so that members lie far apart.
    for number in 0..families * FAMILY {
        let model = Model { family: number % families, member: number / families, tuned: None };
        if (model.family, model.member) == (right.family, right.member) {
            manifests.push(stored.id);
            continue;
        }
        let (id, bytes) = made_up(&layout, number, file(model).len()).encode()?;
        put(&transaction, EntryKind::Manifest, &bytes)?;
        let sketch = sketch_of(&file(model), &layout, dir, id)?.ok_or("a model without sketch")?;
        put(&transaction, EntryKind::Sketch, &sketch.to_bytes())?;
        manifests.push(id);
    }
    transaction.seal()?;
    eprintln!("finding: {} models were sketched in {}", manifests.len(), seconds(start.elapsed()));
    let start = Instant::now();
    let finder = Finder::new(&transaction);
    let place = repository.root().join("new.safetensors");
    let mut found = 0;
    for seed in 0..SOUGHT {
        let number = Rng::stream(7, seed).below(manifests.len() as u64);
        let model = Model { family: number % families, member: number / families, tuned: Some(seed) };
        let relatives = finder.find(&file(model), &layout, &place, None)?.relatives;
        found += u64::from(relatives.first().map(|it| it.manifest) == manifests.get(number as usize).copied());
        if seed == 0 {
            eprintln!("finding: the index took in all sketches in {}", seconds(start.elapsed()));
        }
    }
    drop(transaction);
    drop(repository);

    fs::copy(dir.join(INDEX), dir.join(SAVED))?;
    let new = Model { tuned: Some(1 << 20), ..right };
    write(&file(new), &place)?;
    warm(&place)?;
    let mut pair = Pair::default();
    for round in 1..=runs {
        let yardstick = hash(&place)?;
        let ours = find(dir, &place, &layout, stored.id, round)?;
        eprintln!("finding: round {round}, hashing {}, finding {}", seconds(yardstick), seconds(ours));
        pair.add(yardstick, ours);
    }
    fs::copy(dir.join(SAVED), dir.join(INDEX))?;
    let repository = Repository::discover(&dir.join("repository"), Settings::default())?;
    let cost = repository.add(std::slice::from_ref(&place), &NoProgress)?.cost;
    let right = Row {
        bar: format!("the right base first, among {}", manifests.len()),
        yardstick: SOUGHT.to_string(),
        ours: found.to_string(),
        ratio: String::new(),
        limit: "all".to_owned(),
        passed: Some(found == SOUGHT),
        margin: None,
    };
    Ok(vec![
        right,
        Row::time("finding it and remembering the new one", &pair, MOST),
        Row::share("the new model, on what was found", fs::metadata(&place)?.len(), cost.new_bytes, MOST_STORED),
    ])
}

/// The time of finding the base of a file, and of remembering its sketch, in a repository that was just opened.
fn find(dir: &Path, place: &Path, layout: &Layout, right: Digest, round: u32) -> Result<Duration, Failure> {
    // As it was before the last round.
    fs::copy(dir.join(SAVED), dir.join(INDEX))?;
    let repository = Repository::discover(&dir.join("repository"), Settings::default())?;
    let transaction = repository.store().begin("bench")?;
    let manifest = sha256(&round.to_le_bytes());
    let source = FileSource::open(place)?;
    let start = Instant::now();
    let finder = Finder::new(&transaction);
    let found = finder.find(&source, layout, place, None)?;
    let first = found.relatives.first().map(|relative| relative.manifest);
    finder.remember(found, manifest)?;
    let time = start.elapsed();
    if first != Some(right) {
        return Err("another base was found than the right one".into());
    }
    if repository.store().sketches().of_manifest(&manifest)?.is_none() {
        return Err("the new sketch was not remembered".into());
    }
    Ok(time)
}

/// The time of one pass over a file that hashes it.
fn hash(place: &Path) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut file = File::open(place)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        hash.update(&buffer[..len]);
    }
    std::hint::black_box(hash.finish());
    Ok(start.elapsed())
}

/// A manifest of a model that is not stored: its blocks are nowhere.
fn made_up(layout: &Layout, number: u64, size: u64) -> ContentManifest {
    let segment = |(index, segment): (usize, &shard_core::Segment)| {
        let id = sha256(&[number.to_le_bytes(), (index as u64).to_le_bytes()].concat());
        let blocks = vec![BlockSpan { id, len: segment.len as u32 }];
        ManifestSegment { len: segment.len, dtype: segment.dtype, blocks }
    };
    ContentManifest {
        format: layout.format.clone(),
        size,
        sha256: sha256(&number.to_le_bytes()),
        cut: Cut::V1,
        segments: layout.segments.iter().enumerate().map(segment).collect(),
        tensors: layout.tensors.clone(),
        compressed: Vec::new(),
        extra: Default::default(),
    }
}

/// Stores an object as the engine does.
fn put(transaction: &Transaction, kind: EntryKind, bytes: &[u8]) -> Result<(), Failure> {
    let mut stored = Vec::new();
    let block = Block { data: bytes, dtype: None, rows: None, base: None };
    Encoder::new(Level::Default).encode(&block, &mut stored)?;
    transaction.put(&EntryKey::new(kind, sha256(bytes)), &stored, bytes.len() as u64, &[])?;
    Ok(())
}

/// Writes a model's file.
fn write(model: &ModelFile<'_>, place: &PathBuf) -> Result<(), Failure> {
    let mut file = File::create(place)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < model.len() {
        let len = (model.len() - at).min(buffer.len() as u64);
        model.read_at(at, &mut buffer[..len as usize])?;
        file.write_all(&buffer[..len as usize])?;
        at += len;
    }
    Ok(())
}
