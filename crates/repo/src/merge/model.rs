//! The merge of one model file that both sides changed: which tensors of which side make the result, as patches of a side's file.
//!
//! A file is only written where it can be exact: it is that of a side, header and all, with other bytes in some tensors. So one side's
//! file has to have the very tensors of the result in their order, and what it says beside them has to be what the merge makes
//! of that. Everything else is a conflict, which says why.

use std::collections::HashSet;
use std::sync::Arc;

use shard_core::{DType, Digest, Sha256, TensorView};
use shard_history::merge::strategy::Strategy;
use shard_history::merge::tensors::{Action, Model, PlannedTensor};
use shard_history::{Changed, Merge, Rules, Side, TensorInfo, TensorPlan, plan_tensors};
use shard_manifest::ContentManifest;
use shard_store::EntrySource;

use super::source::{Content, Patch, StoredFile};
use crate::compare;
use crate::error::{RepoError, Result};
use crate::lossy::untouched;

/// The name by which rules decide about what a file says beside its tensors.
pub(super) const METADATA: &str = "__metadata__";

/// Why a file is a conflict that no side has the list of tensors of.
const ANEW: &str =
    "each side changed which tensors it has, so that the file would have to be written anew, which shard does not do";

/// How a model file is merged.
#[derive(Debug)]
pub(super) struct ModelPlan {
    /// The side whose file it is, but for the patches.
    pub(super) layout: Side,
    /// In file order, apart from one another.
    pub(super) patches: Vec<Patch>,
    pub(super) counts: TensorsMerged,
}

/// Where the tensors of a merged file are from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorsMerged {
    /// Neither side changed them, or both alike.
    pub same: usize,
    /// Taken from ours.
    pub ours: usize,
    /// Taken from theirs.
    pub theirs: usize,
    /// Computed from both.
    pub computed: usize,
    /// Left out.
    pub removed: usize,
}

/// What a merge makes of a model file.
pub(super) enum Outcome {
    /// It is merged as any other file is, and why, if it has tensors all the same.
    Whole(Option<String>),
    Merged(ModelPlan),
    /// Someone has to decide about these tensors, or about the file for that reason.
    Conflict {
        tensors: Vec<PlannedTensor>,
        why: Option<String>,
    },
}

/// A file of a side, with its tensors.
struct File<'a> {
    manifest: &'a ContentManifest,
    infos: Vec<TensorInfo>,
    /// Where each tensor's bytes are in the file.
    starts: Vec<u64>,
    header: Digest,
}

impl<'a> File<'a> {
    fn new(manifest: &'a Arc<ContentManifest>, store: &Arc<dyn EntrySource + Send>) -> Result<Self> {
        let side = compare::Side::stored(String::new(), vec![Arc::clone(manifest)], Arc::clone(store));
        let offsets = manifest.segment_offsets();
        let start = |tensor: &TensorView| offsets.get(tensor.segment).copied().unwrap_or(0) + tensor.offset;
        let starts = manifest.tensors.iter().map(start).collect();
        Ok(Self { manifest, infos: compare::tensor_infos(&side)?, starts, header: header(manifest) })
    }

    fn model(&self) -> Model<'_> {
        Model { tensors: &self.infos, metadata: self.header }
    }
}

/// Plans the merge of a file that both sides have; where the base has none, both added it.
pub(super) fn plan_model(
    manifests: Merge<Option<&Arc<ContentManifest>>>,
    store: &Arc<dyn EntrySource + Send>,
    rules: &Rules,
) -> Result<Outcome> {
    let (Some(ours), Some(theirs)) = (manifests.ours, manifests.theirs) else { return Ok(Outcome::Whole(None)) };
    let all: Vec<&Arc<ContentManifest>> = manifests.base.into_iter().chain([ours, theirs]).collect();
    if all.iter().any(|manifest| manifest.tensors.is_empty()) {
        return Ok(Outcome::Whole(None));
    }
    if all.iter().any(|manifest| manifest.format != ours.format) {
        return Ok(Outcome::Whole(Some("its format is not the same on all sides".to_owned())));
    }
    for manifest in &all {
        let head = StoredFile::new(manifest, store.as_ref());
        let failed =
            |error| head.failure().unwrap_or_else(|| RepoError::io("cannot be read", "a stored file".as_ref())(error));
        if let Some(why) = untouched(&head, &manifest.layout()).map_err(failed)? {
            return Ok(Outcome::Whole(Some(format!("its tensors cannot be merged one by one: {why}"))));
        }
    }
    let base = manifests.base.map(|manifest| File::new(manifest, store)).transpose()?;
    let (ours, theirs) = (File::new(ours, store)?, File::new(theirs, store)?);
    let nothing = Model { tensors: &[], metadata: shard_core::sha256(&[]) };
    let models = Merge { base: base.as_ref().map_or(nothing, File::model), ours: ours.model(), theirs: theirs.model() };
    let plan = plan_tensors(models, rules);

    let wanted = match (plan.metadata, rules.strategy(METADATA)) {
        (Changed::Apart, None) => None,
        (Changed::Apart, Some(Strategy::Theirs)) => Some(Side::Theirs),
        _ => Some(plan.metadata_from()),
    };
    let tensors: Vec<PlannedTensor> = plan.conflicts().cloned().collect();
    let base_infos = base.as_ref().map_or(&[][..], |base| &base.infos);
    if (Merge { base: base_infos, ours: &ours.infos, theirs: &theirs.infos }).map(list).changed() == Changed::Apart {
        return Ok(Outcome::Conflict { tensors, why: Some(ANEW.to_owned()) });
    }
    let Some(wanted) = wanted else {
        let why = format!(
            "both sides changed what it says beside its tensors; a rule for {METADATA} decides, as in {METADATA}=ours"
        );
        return Ok(Outcome::Conflict { tensors, why: Some(why) });
    };
    if !tensors.is_empty() {
        return Ok(Outcome::Conflict { tensors, why: None });
    }
    let files = Merge { base: base.as_ref(), ours: Some(&ours), theirs: Some(&theirs) };
    match patches(&plan, files, wanted) {
        Ok(plan) => Ok(Outcome::Merged(plan)),
        Err(why) => Ok(Outcome::Conflict { tensors, why: Some(why) }),
    }
}

/// What tensors there are: names, types and shapes, in order.
fn list(infos: &[TensorInfo]) -> Vec<(&str, DType, &[u64])> {
    infos.iter().map(|tensor| (tensor.name.as_str(), tensor.dtype, tensor.shape.as_slice())).collect()
}

/// A digest of all bytes of a file that no tensor covers.
fn header(manifest: &ContentManifest) -> Digest {
    let mut covered: Vec<Vec<(u64, u64)>> = vec![Vec::new(); manifest.segments.len()];
    for tensor in &manifest.tensors {
        if let (Some(ranges), Some(len)) = (covered.get_mut(tensor.segment), tensor.byte_len()) {
            ranges.push((tensor.offset, tensor.offset.saturating_add(len)));
        }
    }
    let mut hash = Sha256::new();
    hash.update(b"shard header 1\0");
    for (segment, ranges) in manifest.segments.iter().zip(&mut covered) {
        ranges.sort_unstable();
        let end = ranges.iter().fold(0, |end, (from, to)| if *from <= end { end.max(*to) } else { end });
        if segment.dtype.is_some() && end >= segment.len {
            hash.update(&[1]);
            continue;
        }
        hash.update(&[0]);
        hash.update(&segment.len.to_le_bytes());
        for block in &segment.blocks {
            hash.update(&block.id.0);
        }
    }
    hash.finish()
}

/// A tensor of the result: its bytes in the file, and where they are from.
struct Piece<'a> {
    info: &'a TensorInfo,
    start: u64,
    end: u64,
    /// `None`: they are there.
    content: Option<Content>,
    /// Digests of what they are made of.
    made_of: Merge<Option<Digest>>,
}

/// The patches that make the result of one side's file, or why there are none.
fn patches(plan: &TensorPlan, files: Merge<Option<&File<'_>>>, wanted: Side) -> std::result::Result<ModelPlan, String> {
    let Some(first) = plan.layout else { return Err(ANEW.to_owned()) };
    let file = |side: Side| *files.side(side);
    let header_of = |side: Side| file(side).map(|file| file.header);
    let list_of = |side: Side| file(side).map(|file| list(&file.infos));
    let same_list = |side: Side| list_of(side) == list_of(first);
    let layout =
        [first, first.other()].into_iter().find(|side| same_list(*side) && header_of(*side) == header_of(wanted));
    let Some((layout, own)) = layout.and_then(|side| Some((side, file(side)?))) else {
        let why = "one side changed which tensors it has, and the other what the file says beside them";
        return Err(format!("{why}; a rule for {METADATA} decides, as in {METADATA}={}", first.as_str()));
    };
    let mut counts = TensorsMerged::default();
    let mut pieces = Vec::new();
    let mut result = own.infos.iter().zip(&own.manifest.tensors).zip(&own.starts);
    for tensor in &plan.tensors {
        if tensor.action == Action::Remove {
            counts.removed += 1;
            continue;
        }
        let Some(((info, view), start)) = result.next() else {
            return Err("its list of tensors is not clear".to_owned());
        };
        let piece = piece(tensor, (info, view, *start), files)?;
        counts.add(tensor);
        pieces.extend(piece);
    }
    Ok(ModelPlan { layout, patches: joined(pieces)?, counts })
}

impl TensorsMerged {
    fn add(&mut self, tensor: &PlannedTensor) {
        use shard_history::TensorChange::Equal;
        *match (tensor.action, tensor.ours, tensor.theirs) {
            (Action::Compute(_), ..) => &mut self.computed,
            (Action::Take(Side::Theirs), ..) => &mut self.theirs,
            (_, Equal, Equal) => &mut self.same,
            (_, ours, theirs) if ours == theirs && tensor.at.base.is_none() => &mut self.same,
            _ => &mut self.ours,
        } += 1;
    }
}

/// Where the bytes of a tensor of the result are from, given what it is in the file that is laid out as the result; `None` for
/// one without elements.
fn piece<'a>(
    tensor: &PlannedTensor,
    (info, view, start): (&'a TensorInfo, &TensorView, u64),
    files: Merge<Option<&File<'_>>>,
) -> std::result::Result<Option<Piece<'a>>, String> {
    let Some(len) = view.byte_len().filter(|len| *len > 0) else { return Ok(None) };
    let at = |file: Option<&File<'_>>, index: Option<usize>| {
        let (file, index) = (file?, index?);
        // Bytes in another order of elements are other values.
        let is_in_order = file.manifest.tensors.get(index)?.strides == view.strides;
        Some((*file.starts.get(index)?, file.infos.get(index)?.content)).filter(|_| is_in_order)
    };
    let found = Merge {
        base: at(files.base, tensor.at.base),
        ours: at(files.ours, tensor.at.ours),
        theirs: at(files.theirs, tensor.at.theirs),
    };
    let lost = || format!("the elements of {:?} lie in another order on each side", tensor.name);
    let starts = found.map(|found| found.map_or(0, |(start, _)| start));
    let digests = found.map(|found| found.map(|(_, content)| content));
    let none = Merge { base: None, ours: None, theirs: None };
    let (content, made_of) = match tensor.action {
        Action::Take(side) => {
            let taken = tensor.at.side(side).and_then(|index| files.side(side).and_then(|file| file.infos.get(index)));
            let made_of = Merge { ours: Some(info.content), ..none };
            if taken.is_some_and(|taken| taken.content == info.content) {
                (None, made_of)
            } else {
                let (at, content) = (*found.side(side)).ok_or_else(lost)?;
                (Some(Content::Copied { from: side, at }), Merge { ours: Some(content), ..none })
            }
        }
        Action::Compute(strategy) => {
            let needs_base = matches!(strategy, Strategy::Task { .. });
            if digests.ours.is_none() || digests.theirs.is_none() || (needs_base && digests.base.is_none()) {
                return Err(lost());
            }
            let at = Merge { base: if needs_base { starts.base } else { 0 }, ..starts };
            let made_of = Merge { base: digests.base.filter(|_| needs_base), ..digests };
            (Some(Content::Computed { strategy, dtype: info.dtype, at }), made_of)
        }
        Action::Remove | Action::Conflict(_) => return Err("its list of tensors is not clear".to_owned()),
    };
    Ok(Some(Piece { info, start, end: start.saturating_add(len), content, made_of }))
}

/// The patches of pieces, those of tensors that share bytes as one; they have to have been decided alike.
fn joined(mut pieces: Vec<Piece<'_>>) -> std::result::Result<Vec<Patch>, String> {
    pieces.sort_by_key(|piece| (piece.start, std::cmp::Reverse(piece.end)));
    let mut patches: Vec<Patch> = Vec::new();
    let mut pieces = pieces.into_iter();
    let Some(mut open) = pieces.next() else { return Ok(patches) };
    for piece in pieces {
        if piece.start >= open.end {
            close(open, &mut patches);
            open = piece;
        } else if agree(&open, &piece) {
            open.end = open.end.max(piece.end);
        } else {
            let names = HashSet::from([&open.info.name, &piece.info.name]);
            let mut names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
            names.sort();
            return Err(format!("{} share bytes, and were decided about differently", names.join(" and ")));
        }
    }
    close(open, &mut patches);
    Ok(patches)
}

fn close(piece: Piece<'_>, patches: &mut Vec<Patch>) {
    if let Some(content) = piece.content {
        patches.push(Patch { start: piece.start, end: piece.end, content });
    }
}

/// Whether two tensors that share bytes get the same ones. The first starts no later.
fn agree(first: &Piece<'_>, second: &Piece<'_>) -> bool {
    let is_same_range = (first.start, first.end) == (second.start, second.end) && first.info.dtype == second.info.dtype;
    let later = second.start - first.start;
    match (first.content, second.content) {
        (None, None) => true,
        (Some(Content::Copied { from, at }), Some(Content::Copied { from: other, at: there })) => {
            from == other && (at + later == there || (is_same_range && first.made_of == second.made_of))
        }
        (
            Some(Content::Computed { strategy, dtype, at }),
            Some(Content::Computed { strategy: other, dtype: other_dtype, at: there }),
        ) => {
            let is_moved = |a: u64, b: u64| a + later == b;
            let needs_base = matches!(strategy, Strategy::Task { .. });
            let is_aligned = later.is_multiple_of(dtype.word_bytes() as u64)
                && is_moved(at.ours, there.ours)
                && is_moved(at.theirs, there.theirs)
                && (!needs_base || is_moved(at.base, there.base));
            strategy == other
                && dtype == other_dtype
                && (is_aligned || (is_same_range && first.made_of == second.made_of))
        }
        _ => false,
    }
}
