//! The files as a series: where their tensors lie, and their blocks with the blocks of the file before.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use shard_codecs::Rows;
use shard_core::limits::Cut;
use shard_core::{BaseRef, DType, Digest, Layout, Segment, TensorView, sha256};
use shard_formats::compress::Expanded;
use shard_formats::cut::Cutter;
use shard_formats::{FileSource, Source, parse_file};

use super::codec::Piece;
use super::error::BenchError;

/// A file of the series.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) layout: Layout,
    /// Why a file that looked like a model is taken as opaque bytes.
    pub(super) note: Option<String>,
}

impl Member {
    fn open(path: &Path) -> Result<Self, BenchError> {
        let failed = BenchError::read(path);
        let source = FileSource::open(path).map_err(&failed)?;
        let parsed = parse_file(path, &source).map_err(&failed)?;
        let note = parsed.note.map(|note| note.to_string());
        Ok(Self { path: path.to_owned(), size: source.len(), layout: parsed.layout, note })
    }

    /// Whether a segment is measured: tensors, or everything where there are none.
    fn measures(&self, segment: &Segment) -> bool {
        segment.dtype.is_some() || self.layout.segments.iter().all(|segment| segment.dtype.is_none())
    }

    /// Bytes that are measured.
    pub(super) fn measured(&self) -> u64 {
        let measured = self.layout.segments.iter().filter(|segment| self.measures(segment));
        measured.fold(0, |sum, segment| sum.saturating_add(segment.len))
    }

    /// For each segment, the tensor that it holds.
    fn tensors(&self) -> Vec<Option<&TensorView>> {
        let mut tensors = vec![None; self.layout.segments.len()];
        for tensor in &self.layout.tensors {
            if let Some(place) = tensors.get_mut(tensor.segment) {
                place.get_or_insert(tensor);
            }
        }
        tensors
    }
}

/// Files in the order of the series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) members: Vec<Member>,
    /// Each file by itself.
    pub(super) solo: bool,
}

/// A block of a file, with all that is known of it but its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Index of the file.
    pub(super) file: usize,
    /// Its tensor's name; `None` for opaque bytes.
    pub(super) tensor: Option<&'a str>,
    pub(super) dtype: Option<DType>,
    /// Where it starts in its segment, in bytes.
    pub(super) offset: u64,
}

/// Where blocks go, in the order of the series.
pub(super) trait Visit {
    /// A block whose bytes were not there before.
    fn block(&mut self, place: Place<'_>, piece: &Piece<'_>) -> Result<(), BenchError>;
    /// A block of that many bytes that is equal to one that came before.
    fn repeated(&mut self, place: Place<'_>, len: u64);
    /// So many more bytes were read and are done.
    fn advance(&mut self, bytes: u64);
}

/// A block that later ones are coded against.
struct Kept {
    id: Digest,
    bytes: Vec<u8>,
}

/// The blocks of a whole tensor.
struct Earlier {
    dtype: DType,
    shape: Vec<u64>,
    blocks: Vec<Kept>,
}

impl Series {
    /// Parses every file; nothing is kept open. With only one file there is nothing to lean on.
    pub(super) fn open(paths: &[PathBuf], solo: bool) -> Result<Self, BenchError> {
        let members = paths.iter().map(|path| Member::open(path)).collect::<Result<Vec<_>, _>>()?;
        if members.iter().all(|member| member.size == 0) {
            return Err(BenchError::Empty);
        }
        Ok(Self { solo: solo || members.len() == 1, members })
    }

    /// Whether a file is measured, and not only leant on.
    pub(super) fn is_measured(&self, file: usize) -> bool {
        self.solo || file > 0
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.saturating_add(member.size))
    }

    /// The types of all blocks that are measured.
    pub(super) fn dtypes(&self) -> BTreeSet<Option<DType>> {
        let measured = self.members.iter().enumerate().filter(|(file, _)| self.is_measured(*file));
        measured
            .flat_map(|(_, member)| member.layout.segments.iter().filter(|segment| member.measures(segment)))
            .filter(|segment| segment.len > 0)
            .map(|segment| segment.dtype)
            .collect()
    }

    /// Goes through all files, each read once. At most two files' tensors are in memory.
    pub(super) fn walk(&self, visit: &mut dyn Visit) -> Result<(), BenchError> {
        let mut seen = BTreeSet::new();
        let mut earlier = HashMap::new();
        for file in 0..self.members.len() {
            if self.solo {
                seen.clear();
            }
            let kept = self.walk_file(file, &earlier, &mut seen, visit)?;
            earlier = kept;
        }
        Ok(())
    }

    fn walk_file(
        &self,
        file: usize,
        earlier: &HashMap<String, Earlier>,
        seen: &mut BTreeSet<Digest>,
        visit: &mut dyn Visit,
    ) -> Result<HashMap<String, Earlier>, BenchError> {
        let Some(member) = self.members.get(file) else { return Ok(HashMap::new()) };
        let changed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => BenchError::Changed(member.path.clone()),
            _ => BenchError::read(&member.path)(error),
        };
        let source = FileSource::open(&member.path).map_err(BenchError::read(&member.path))?;
        let source = Expanded::new(source, &member.layout);
        let mut cutter = Cutter::new(&source, &member.layout, Cut::V1);
        let tensors = member.tensors();
        let is_last = file + 1 == self.members.len();
        let mut kept: HashMap<String, Earlier> = HashMap::new();
        let mut data = Vec::new();
        let mut index = 0;
        while let Some(cut) = cutter.next(&mut data).map_err(changed)? {
            index = if cut.offset == 0 { 0 } else { index + 1 };
            let segment = member.layout.segments.get(cut.segment).filter(|segment| member.measures(segment));
            let Some(segment) = segment.copied() else {
                visit.advance(data.len() as u64);
                continue;
            };
            let tensor = tensors.get(cut.segment).copied().flatten();
            // The engine knows the bases of tensors that have a segment to themselves.
            let whole = tensor.filter(|tensor| {
                tensor.offset == 0 && tensor.byte_len() == Some(segment.len) && segment.dtype == Some(tensor.dtype)
            });
            let id = sha256(&data);
            let is_new = seen.insert(id);
            if self.is_measured(file) {
                let name = tensor.map(|tensor| tensor.name.as_str());
                let place = Place { file, tensor: name, dtype: segment.dtype, offset: cut.offset };
                if is_new {
                    let base = whole.and_then(|tensor| earlier_block(earlier, tensor, index));
                    let base = base.filter(|base| base.bytes.len() == data.len());
                    let named = base.map(|base| (BaseRef::whole(base.id, base.bytes.len() as u32), &base.bytes[..]));
                    let base = named.as_ref().map(|(reference, bytes)| (reference, *bytes));
                    let rows = whole.and_then(|tensor| Rows::of(tensor.dtype, &tensor.stored_shape(), cut.offset));
                    visit.block(place, &Piece { data: &data, dtype: segment.dtype, rows, base })?;
                } else {
                    visit.repeated(place, data.len() as u64);
                }
            }
            visit.advance(data.len() as u64);
            if let Some(tensor) = whole.filter(|_| !self.solo && !is_last) {
                let new = || Earlier { dtype: tensor.dtype, shape: tensor.stored_shape(), blocks: Vec::new() };
                let tensor = kept.entry(tensor.name.clone()).or_insert_with(new);
                tensor.blocks.push(Kept { id, bytes: std::mem::take(&mut data) });
            }
        }
        Ok(kept)
    }
}

/// The block in the same place of the same tensor in the file before.
fn earlier_block<'a>(earlier: &'a HashMap<String, Earlier>, tensor: &TensorView, index: usize) -> Option<&'a Kept> {
    let same = earlier.get(&tensor.name)?;
    if same.dtype != tensor.dtype || same.shape != tensor.stored_shape() {
        return None;
    }
    same.blocks.get(index)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shard_datasets::cases::every_change;
    use tempfile::TempDir;

    use super::*;

    /// Notes what it is shown: file, tensor, length, whether it has a base; `None` for what is repeated.
    #[derive(Default)]
    struct Notes {
        blocks: Vec<(usize, String, usize, Option<bool>)>,
        bytes: u64,
    }

    impl Visit for Notes {
        fn block(&mut self, place: Place<'_>, piece: &Piece<'_>) -> Result<(), BenchError> {
            let name = place.tensor.unwrap_or("-").to_owned();
            self.blocks.push((place.file, name, piece.data.len(), Some(piece.base.is_some())));
            Ok(())
        }

        fn repeated(&mut self, place: Place<'_>, len: u64) {
            self.blocks.push((place.file, place.tensor.unwrap_or("-").to_owned(), len as usize, None));
        }

        fn advance(&mut self, bytes: u64) {
            self.bytes += bytes;
        }
    }

    fn walk(files: &[&[u8]], solo: bool) -> (Series, Notes) {
        let folder = TempDir::new().unwrap();
        let path = |index: usize| folder.path().join(format!("{index}.bin"));
        let paths: Vec<PathBuf> = (0..files.len()).map(path).collect();
        paths.iter().zip(files).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let series = Series::open(&paths, solo).unwrap();
        let mut notes = Notes::default();
        series.walk(&mut notes).unwrap();
        assert_eq!(notes.bytes, series.size(), "every byte is accounted for");
        (series, notes)
    }

    #[test]
    fn a_pair_is_coded_against_its_first() {
        let (first, second) = every_change(1).unwrap();
        let (series, notes) = walk(&[&first, &second], false);
        assert!(notes.blocks.iter().all(|(file, ..)| *file == 1), "the first is only leant on");
        let of =
            |name: &str| notes.blocks.iter().filter(|(_, of, ..)| of == name).map(|block| block.3).collect::<Vec<_>>();
        assert_eq!(of("noisy.weight"), [Some(true)]);
        assert_eq!(of("resized.weight"), [Some(false)], "another shape");
        assert_eq!(of("added.weight"), [Some(false)]);
        assert_eq!(of("equal.bf16"), [None]);
        let measured: usize = notes.blocks.iter().map(|block| block.2).sum();
        assert_eq!(measured as u64, series.members[1].measured());
        assert!(series.members[1].measured() < second.len() as u64, "a header is no tensor");
        assert!(series.dtypes().contains(&Some(DType::BF16)) && !series.dtypes().contains(&None));
    }

    #[test]
    fn alone_nothing_has_a_base() {
        let (first, second) = every_change(1).unwrap();
        let (_, notes) = walk(&[&first], false);
        assert!(!notes.blocks.is_empty() && notes.blocks.iter().all(|block| block.3 == Some(false)));
        let (_, notes) = walk(&[&first, &second], true);
        assert!(notes.blocks.iter().all(|block| block.3 == Some(false)), "each file is as if it were the only one");
        assert!(notes.blocks.iter().any(|block| block.0 == 0) && notes.blocks.iter().any(|block| block.0 == 1));
    }

    #[test]
    fn large_tensors_lean_on_the_same_range() {
        let len = Cut::V1.block() + 1000;
        let file = |byte: u8| {
            let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
            let mut data = vec![7; len];
            data[len - 1] = byte;
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
        };
        let (_, notes) = walk(&[&file(1), &file(2)], false);
        let block = |len, state| (1, "w".to_owned(), len, state);
        assert_eq!(notes.blocks, [block(len - 1000, None), block(1000, Some(true))]);
    }

    #[test]
    fn what_is_no_model_is_opaque() {
        let (series, notes) = walk(&[b"some text", b"some other text"], false);
        assert_eq!(notes.blocks, [(1, "-".to_owned(), 15, Some(false))]);
        assert_eq!(series.members[1].measured(), 15);
        assert_eq!(series.dtypes(), BTreeSet::from([None]));
        assert!(walk(&[b"same", b"same"], false).1.blocks.iter().all(|block| block.3.is_none()));
    }

    #[test]
    fn files_have_to_be_there_and_hold_something() {
        let folder = TempDir::new().unwrap();
        let empty = folder.path().join("empty");
        fs::write(&empty, "").unwrap();
        let open = |path: PathBuf| Series::open(&[path], false).unwrap_err();
        assert!(matches!(open(empty), BenchError::Empty));
        assert!(matches!(open(folder.path().join("none")), BenchError::Read { .. }));
        assert!(matches!(open(folder.path().to_owned()), BenchError::NotAFile(_)));
    }
}
