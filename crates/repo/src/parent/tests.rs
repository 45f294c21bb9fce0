use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shard_core::limits::{Cut, MAX_BLOCK};
use shard_core::{Digest, sha256};
use shard_manifest::ManifestSegment;
use shard_store::{EntryKey, Location, StoreError};

use super::*;

/// A store that has nothing, and counts how often it is asked.
#[derive(Default)]
struct Nothing(AtomicU64);

impl EntrySource for Nothing {
    fn locate(&self, _: &EntryKey) -> std::result::Result<Option<Location>, StoreError> {
        self.0.fetch_add(1, Relaxed);
        Ok(None)
    }

    fn read_stored(&self, location: &Location, _: &mut Vec<u8>) -> std::result::Result<(), StoreError> {
        Err(StoreError::Missing(location.key))
    }
}

/// A file of bf16 tensors, with nothing between them.
fn layout(tensors: &[(&str, &[u64])]) -> Layout {
    let tensors: Vec<TensorView> = tensors
        .iter()
        .enumerate()
        .map(|(segment, (name, shape))| {
            let (name, shape) = ((*name).to_owned(), shape.to_vec());
            TensorView { name, dtype: DType::BF16, shape, segment, offset: 0, strides: None }
        })
        .collect();
    let segment = |tensor: &TensorView| Segment { len: tensor.byte_len().unwrap(), dtype: Some(tensor.dtype) };
    Layout {
        format: "test".to_owned(),
        segments: tensors.iter().map(segment).collect(),
        tensors,
        compressed: Vec::new(),
    }
}

fn id(name: &str, block: usize) -> Digest {
    sha256(format!("{name} {block}").as_bytes())
}

/// The manifest of a file whose blocks are named by tensor and number.
fn manifest(tensors: &[(&str, &[u64])]) -> Arc<ContentManifest> {
    let layout = layout(tensors);
    let blocks = |tensor: &TensorView| {
        let len = tensor.byte_len().unwrap();
        let count = len.div_ceil(MAX_BLOCK as u64);
        let span = |block: u64| {
            let len = (len - block * MAX_BLOCK as u64).min(MAX_BLOCK as u64) as u32;
            BlockSpan { id: id(&tensor.name, block as usize), len }
        };
        ManifestSegment { len, dtype: Some(tensor.dtype), blocks: (0..count).map(span).collect() }
    };
    Arc::new(ContentManifest {
        format: "test".to_owned(),
        size: layout.segments.iter().map(|segment| segment.len).sum(),
        sha256: sha256(b""),
        cut: Cut::V1,
        segments: layout.tensors.iter().map(blocks).collect(),
        tensors: layout.tensors,
        compressed: Vec::new(),
        extra: Default::default(),
    })
}

fn plan(new: &[(&str, &[u64])], earlier: &[Arc<ContentManifest>], store: &Nothing) -> BasePlan {
    let layout = layout(new);
    let source = vec![0u8; layout.segments.iter().map(|segment| segment.len).sum::<u64>() as usize];
    BasePlan::new(&layout, &earlier.to_vec().into(), &source, Path::new("new"), store, &mut Sketches::default())
        .unwrap()
}

#[test]
fn a_file_whose_names_match_reads_nothing() {
    let store = Nothing::default();
    let tensors: [(&str, &[u64]); 3] = [("a", &[600, 512]), ("b", &[512, 600]), ("c", &[7])];
    let earlier = [manifest(&tensors), manifest(&[("others", &[600, 512])])];
    let found = plan(&tensors, &earlier, &store);
    assert_eq!(store.0.load(Relaxed), 0);
    assert_eq!(found.base(0, 0, 1000), Some(BaseRef { ranges: vec![run("a", 0, 0, 1000)], transpose: None }));
    // What is too small to be worth a base is not sought either.
    assert!(plan(&[("a", &[600, 512]), ("new", &[63])], &earlier, &store).segments[1].is_none());
    assert_eq!(store.0.load(Relaxed), 0);
}

#[test]
fn what_is_read_for_tensors_that_are_nowhere_is_bounded() {
    // A hundred candidates of one block each in every file, none of which can be read.
    let store = Nothing::default();
    let names: Vec<String> = (0..100).map(|number| format!("old.{number}")).collect();
    let shape: &[u64] = &[2048, 1024];
    let files: Vec<_> = (0..MAX_CANDIDATES)
        .map(|file| {
            let names: Vec<String> = names.iter().map(|name| format!("{file}.{name}")).collect();
            manifest(&names.iter().map(|name| (name.as_str(), shape)).collect::<Vec<_>>())
        })
        .collect();
    let found = plan(&[("new", shape)], &files, &store);
    assert!(found.segments[0].is_none());
    // 64 MiB, and 8 for the 4 that are sought.
    assert_eq!(store.0.load(Relaxed), 18);
}

#[test]
fn rows_that_changed_their_number_keep_the_base_of_their_name_where_nothing_is_found() {
    let store = Nothing::default();
    let earlier = [manifest(&[("a", &[600, 512])])];
    let found = plan(&[("a", &[700, 512])], &earlier, &store);
    assert!(store.0.load(Relaxed) > 0);
    let len = 700 * 1024;
    let ranges = vec![run("a", 0, 0, 600 * 1024), BaseRange { block: None, start: 0, len: 100 * 1024 }];
    assert_eq!(found.base(0, 0, len), Some(BaseRef { ranges, transpose: None }));
}

fn run(name: &str, block: usize, start: u32, len: u32) -> BaseRange {
    BaseRange { block: Some(id(name, block)), start, len }
}

#[test]
fn pieces_lie_under_the_bytes_that_they_predict() {
    let manifest = manifest(&[("a", &[5000, 512]), ("b", &[100, 512])]);
    let piece = |segment: Option<usize>, start: u64, len: u64| Piece {
        from: segment.map(|segment| Earlier { manifest: Arc::clone(&manifest), segment }),
        start,
        len,
    };
    const BLOCK: u64 = MAX_BLOCK as u64;
    let hole = |len: u32| BaseRange { block: None, start: 0, len };
    let mut plan = BasePlan::none(1);
    let pieces = vec![piece(Some(1), 1024, 2048), piece(None, 0, 1024), piece(Some(0), BLOCK - 1000, 3000)];
    plan.segments[0] = Some(Prediction::Pieces(pieces));
    let ranges = |offset: u64, len: usize| plan.base(0, offset, len).map(|base| base.ranges);
    let end = (BLOCK - 1000) as u32;
    let all = vec![run("b", 0, 1024, 2048), hole(1024), run("a", 0, end, 1000), run("a", 1, 0, 2000), hole(24)];
    assert_eq!(ranges(0, 6096), Some(all));
    assert_eq!(ranges(2000, 1572), Some(vec![run("b", 0, 3024, 48), hole(1024), run("a", 0, end, 500)]));
    assert_eq!(ranges(4100, 100), Some(vec![run("a", 1, 28, 100)]));
    // Nothing but a hole is no base.
    assert_eq!(ranges(2048, 1024), None);
    assert_eq!(ranges(9000, 10), None);
    // Too many runs are none.
    let pieces = (0..100).map(|row| piece(Some(1), row * 1024, 8)).collect();
    plan.segments[0] = Some(Prediction::Pieces(pieces));
    assert_eq!(plan.base(0, 0, 64 * 8).map(|base| base.ranges.len()), Some(MAX_BASE_RANGES));
    assert_eq!(plan.base(0, 0, 65 * 8), None);
    // A transposed base is the whole matrix, wherever the block is.
    let of = Earlier { manifest: Arc::clone(&manifest), segment: 0 };
    plan.segments[0] = Some(Prediction::Transposed { of, rows: 5000, columns: 512, word: 2 });
    let base = plan.base(0, BLOCK, 1000).unwrap();
    assert_eq!(base.transpose, Some(Transpose { word: 2, row: 5000, column: 512, phase: BLOCK / 2 }));
    assert_eq!(base.ranges.iter().map(|range| u64::from(range.len)).sum::<u64>(), 5000 * 1024);
}

#[test]
fn the_nearest_predecessor_comes_first() {
    let paths = ["step-100", "step-80", "step-90", "step-110", "x"];
    assert_eq!(by_nearness("step-100", paths.into_iter()), ["step-90", "step-80", "step-110", "x"]);
}
