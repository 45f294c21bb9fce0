//! The sample that a plan is made from: pieces of blocks at the same places of every version.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use shard_codecs::{Block, Encoder, Level};
use shard_core::base::BaseError;
use shard_core::limits::Cut;
use shard_core::{BaseRef, DType, Digest, Layout, sha256};
use shard_formats::compress::Expanded;
use shard_formats::sidecar::Neighbours;
use shard_formats::{FileSource, Source as _};
use shard_manifest::{BlockSpan, ContentManifest, ManifestSegment};
use shard_store::{EntryKey, EntrySource, Location, PackId, StoreError};

use crate::error::{RepoError, Result};
use crate::parent::{BasePlan, MAX_CANDIDATES, Sketches};

/// The longest piece that is sampled of a block, in bytes: long enough for tables to weigh little.
const PIECE: u64 = 128 << 10;

/// The share of a group of blocks that is sampled; of each group at least one piece.
const SHARE: f64 = 1.0 / 32.0;

/// A piece of a block: file, segment, where it starts in the segment, and its length in bytes.
pub(super) type Piece = (usize, usize, u64, usize);

/// Where a block is in its file: segment, offset and length in bytes.
type Place = (usize, u64, u64);

/// A piece that is sampled, and what it stands for.
pub(super) struct Unit {
    pub(super) piece: Piece,
    pub(super) dtype: Option<DType>,
    /// Bytes and blocks of its group, of which it stands for an equal part with the other pieces of the group.
    pub(super) bytes: f64,
    pub(super) blocks: f64,
}

/// A file that would be packed.
pub(super) struct Member {
    pub(super) path: String,
    pub(super) place: PathBuf,
    pub(super) size: u64,
    /// Why a file that looked like a model would be kept as opaque bytes.
    pub(super) note: Option<String>,
    /// Its content manifest with made-up ids: blocks are not read to make a plan.
    pub(super) manifest: Arc<ContentManifest>,
    pub(super) bases: BasePlan,
    pub(super) units: Vec<Unit>,
}

/// Where the blocks of made-up ids are.
#[derive(Default)]
struct Places {
    /// Each file, its layout, and where its segments start.
    files: Vec<(PathBuf, Layout, Vec<u64>)>,
    /// The file that was read last, kept open where expanding it again would take long.
    open: Mutex<Option<(usize, Arc<Expanded<FileSource>>)>>,
    blocks: HashMap<Digest, (usize, Place)>,
}

impl Places {
    /// The bytes of a piece.
    fn read(&self, (file, segment, offset, len): Piece) -> Result<Vec<u8>> {
        let (place, layout, starts) = self.files.get(file).ok_or(RepoError::Internal("a piece of no file"))?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => RepoError::Changed(place.clone()),
            _ => RepoError::io("cannot read", place)(error),
        };
        let mut bytes = vec![0; len];
        let start = starts.get(segment).copied().unwrap_or(0);
        self.open(file, place, layout).and_then(|source| source.read_at(start + offset, &mut bytes)).map_err(failed)?;
        Ok(bytes)
    }

    fn open(&self, file: usize, place: &Path, layout: &Layout) -> std::io::Result<Arc<Expanded<FileSource>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, source)) = open.as_ref().filter(|(known, _)| *known == file) {
            return Ok(Arc::clone(source));
        }
        let source = Arc::new(Expanded::new(FileSource::open(place)?, layout));
        if !layout.compressed.is_empty() {
            *open = Some((file, Arc::clone(&source)));
        }
        Ok(source)
    }

    fn block(&self, id: &Digest) -> Option<Piece> {
        self.blocks.get(id).map(|(file, (segment, offset, len))| (*file, *segment, *offset, *len as usize))
    }
}

/// Files as the search for bases sees what is stored: their blocks, each by itself.
impl EntrySource for Places {
    fn locate(&self, key: &EntryKey) -> std::result::Result<Option<Location>, StoreError> {
        Ok(self.block(&key.id).map(|(.., len)| Location {
            key: *key,
            pack: PackId::Archive,
            offset: 0,
            stored_len: len as u64,
            raw_len: len as u64,
            depth: 0,
        }))
    }

    fn read_stored(&self, location: &Location, out: &mut Vec<u8>) -> std::result::Result<(), StoreError> {
        let missing = || StoreError::Missing(location.key);
        let piece = self.block(&location.key.id).ok_or_else(missing)?;
        let data = self.read(piece).map_err(|_| missing())?;
        out.clear();
        let block = Block { data: &data, dtype: None, rows: None, base: None };
        Encoder::new(Level::Fast).encode(&block, out).map_err(|_| missing())?;
        Ok(())
    }
}

/// Every file with its sample.
pub(super) struct Sample {
    pub(super) members: Vec<Member>,
    places: Places,
}

impl Sample {
    /// Parses the files, which is all that is read of them for now where their tensors have the names of earlier ones.
    pub(super) fn new(inputs: Vec<(String, PathBuf)>) -> Result<Self> {
        let mut sample = Self { members: Vec::new(), places: Places::default() };
        let mut series: Vec<Arc<ContentManifest>> = Vec::new();
        let mut sketches = Sketches::default();
        let neighbours = Neighbours::default();
        for (path, place) in inputs {
            let read = |error| RepoError::io("cannot read", &place)(error);
            let source = FileSource::open(&place).map_err(read)?;
            let parsed = neighbours.parse_file(&place, &source).map_err(read)?;
            let layout = parsed.layout;
            let file = sample.members.len();
            sample.places.files.push((place.clone(), layout.clone(), layout.segment_offsets()));
            let manifest = Arc::new(sample.manifest(file, source.len(), &layout));
            let expanded = Expanded::new(&source, &layout);
            let bases =
                BasePlan::new(&layout, &series.clone().into(), &expanded, &place, &sample.places, &mut sketches)?;
            if !manifest.tensors.is_empty() {
                series.insert(0, Arc::clone(&manifest));
                series.truncate(MAX_CANDIDATES);
            }
            sample.members.push(Member {
                path,
                size: source.len(),
                note: parsed.note.map(|note| note.to_string()),
                units: units(file, &layout),
                manifest,
                bases,
                place,
            });
        }
        Ok(sample)
    }

    /// A content manifest with ids that nothing has. Chunks of opaque bytes are taken to be of the average length.
    fn manifest(&mut self, file: usize, size: u64, layout: &Layout) -> ContentManifest {
        let cut = Cut::V1;
        let mut segments = Vec::new();
        for (index, segment) in layout.segments.iter().enumerate() {
            let mut blocks = Vec::new();
            for (offset, len) in blocks_of(segment.len, block_len(segment.dtype)) {
                let id = sha256(format!("planned {file} {index} {offset}").as_bytes());
                self.places.blocks.insert(id, (file, (index, offset, len)));
                blocks.push(BlockSpan { id, len: len as u32 });
            }
            segments.push(ManifestSegment { len: segment.len, dtype: segment.dtype, blocks });
        }
        ContentManifest {
            format: layout.format.clone(),
            size,
            sha256: sha256(format!("planned {file}").as_bytes()),
            cut,
            segments,
            tensors: layout.tensors.clone(),
            compressed: layout.compressed.clone(),
            extra: Default::default(),
        }
    }

    pub(super) fn member(&self, piece: Piece) -> Option<&Member> {
        self.members.get(piece.0)
    }

    /// The bytes of a piece.
    pub(super) fn read(&self, piece: Piece) -> Result<Vec<u8>> {
        self.places.read(piece)
    }

    /// The piece that a base is, where it is one.
    pub(super) fn piece(&self, base: &BaseRef, len: usize) -> Option<Piece> {
        let ([range], None) = (&base.ranges[..], &base.transpose) else { return None };
        let (file, segment, offset, _) = self.places.block(&range.block?)?;
        (range.len as usize == len).then_some((file, segment, offset + u64::from(range.start), len))
    }

    /// The files that a base's bytes are in.
    pub(super) fn files(&self, base: &BaseRef) -> impl Iterator<Item = usize> {
        base.ranges.iter().filter_map(|range| self.places.block(&range.block?)).map(|piece| piece.0)
    }

    /// The `len` bytes of a base.
    pub(super) fn base_bytes(&self, base: &BaseRef, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = |id: &Digest, block: &mut Vec<u8>| {
            let piece = self.places.block(id).ok_or(RepoError::Internal("a base in no file"))?;
            *block = self.read(piece)?;
            Ok(())
        };
        base.assemble(&mut bytes, read).map_err(|error| match error {
            BaseError::Reference => RepoError::Internal("a base that does not fit its piece"),
            BaseError::Fetch(error) => error,
        })?;
        Ok(bytes)
    }
}

fn block_len(dtype: Option<DType>) -> u64 {
    dtype.map_or(Cut::V1.opaque_chunk().1, |dtype| Cut::V1.tensor_block(dtype)) as u64
}

/// Where a segment's blocks start, and their lengths.
fn blocks_of(len: u64, block: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..len.div_ceil(block)).map(move |index| (index * block, block.min(len - index * block)))
}

/// The pieces to sample of a file. Its blocks are grouped by type, by size, and by the names of their tensors without the
/// numbers in them, since what does the same in every layer behaves alike; of each group some are taken, spread evenly.
fn units(file: usize, layout: &Layout) -> Vec<Unit> {
    let mut names: Vec<String> = vec![String::new(); layout.segments.len()];
    for tensor in &layout.tensors {
        if let Some(name) = names.get_mut(tensor.segment) {
            *name = tensor.name.chars().filter(|c| !c.is_ascii_digit()).collect();
        }
    }
    let mut groups: BTreeMap<(String, &str, u32), Vec<Place>> = BTreeMap::new();
    for (index, (segment, name)) in layout.segments.iter().zip(names).enumerate() {
        let dtype = segment.dtype.map_or("", |dtype| dtype.name());
        for (offset, len) in blocks_of(segment.len, block_len(segment.dtype)) {
            groups.entry((name.clone(), dtype, len.ilog2())).or_default().push((index, offset, len));
        }
    }
    let mut units = Vec::new();
    for blocks in groups.into_values() {
        let bytes: u64 = blocks.iter().map(|(_, _, len)| len).sum();
        let wanted = (bytes as f64 * SHARE / PIECE as f64).ceil() as usize;
        let count = wanted.clamp(1, blocks.len());
        let chosen = (0..count).filter_map(|number| blocks.get((2 * number + 1) * blocks.len() / (2 * count)));
        let pieces: Vec<Place> = chosen
            .map(|(segment, offset, len)| {
                // From the middle of a long block, at a multiple of every word's length.
                let start = if *len > PIECE { (len - PIECE) / 2 / 4096 * 4096 } else { 0 };
                (*segment, offset + start, PIECE.min(*len))
            })
            .collect();
        let sampled: u64 = pieces.iter().map(|(_, _, len)| len).sum();
        units.extend(pieces.into_iter().map(|(segment, offset, len)| {
            let share = len as f64 / sampled as f64;
            Unit {
                piece: (file, segment, offset, len as usize),
                dtype: layout.segments.get(segment).and_then(|segment| segment.dtype),
                bytes: bytes as f64 * share,
                blocks: blocks.len() as f64 * share,
            }
        }));
    }
    units
}
