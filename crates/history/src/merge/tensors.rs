//! Three-way merge of the tensors of a model file that both sides changed: a plan of where each tensor of the result comes
//! from. Nothing is read or computed here.
//!
//! Tensors belong together by name, and where a file has a name several times, the first with the first, and so on. Renames are
//! not followed. A tensor is the same when type, shape and content are.
//!
//! Which side leads: theirs, where only they changed the list of tensors (names, types, shapes, order); otherwise ours. The
//! result has the leading side's tensors in its order, and each tensor that only the other side has after the one that it follows
//! there. What the file says beside its tensors, such as the `__metadata__` of safetensors, is taken from the side that changed
//! it, and from ours where both did: the plan says so, and it is for the caller to tell the user.
//!
//! Tensors that share bytes (tied weights) are planned one by one. A caller that writes them as one has to check that they were
//! decided alike.

use std::collections::{HashMap, HashSet};

use shard_core::{DType, Digest};

use crate::merge::files::ConflictKind;
use crate::merge::strategy::{Rules, Scope, Strategy};
use crate::merge::{Changed, Merge, Side};
use crate::tensor_diff::{TensorChange, TensorInfo, change, diff_tensors};

/// A model file as its tensors see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model<'a> {
    /// The tensors, in file order.
    pub tensors: &'a [TensorInfo],
    /// A digest of what the file says beside its tensors. It must not depend on them (on offsets, for example).
    pub metadata: Digest,
}

/// Why nothing decides about a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Undecided {
    /// Both sides changed it, and no rule matches its name.
    NoRule,
    /// The strategy needs it where it is not: on both sides, for task arithmetic in the base too.
    Absent,
    /// The strategy needs it to have one shape.
    Shape,
    /// The strategy needs it to have one element type.
    DType,
    /// The strategy computes, and these elements are not signed floating-point numbers of whole bytes.
    NotFloat,
}

impl Undecided {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "both sides changed it",
            Self::Absent => "it is not on every side that the strategy needs",
            Self::Shape => "its shapes differ",
            Self::DType => "its types differ",
            Self::NotFloat => "its type is not one to compute with",
        }
    }
}

/// What to do for a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take that side's.
    Take(Side),
    /// Leave it out: the side that decides has not got it.
    Remove,
    /// Compute it, by [`Strategy::Average`] or [`Strategy::Task`]. Type and shape are those of ours and of theirs.
    Compute(Strategy),
    /// Nothing: someone has to decide.
    Conflict(Undecided),
}

/// A tensor of any side, and what to do for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Index in the list of the base and of each side.
    pub at: Merge<Option<usize>>,
    /// What ours made of it; [`TensorChange::Equal`] also where neither the base nor ours has it.
    pub ours: TensorChange,
    /// What theirs made of it, likewise.
    pub theirs: TensorChange,
    /// What to do.
    pub action: Action,
    /// In a conflict, the name that a removed tensor has on the side that removed it, if it was renamed.
    pub renamed_to: Option<String>,
}

impl PlannedTensor {
    /// Why both sides cannot be had, for a conflict.
    #[must_use]
    pub fn conflict(&self) -> Option<(ConflictKind, Undecided)> {
        let Action::Conflict(why) = self.action else { return None };
        let kind = match (self.at.base, self.at.ours, self.at.theirs) {
            (None, ..) => ConflictKind::AddAdd,
            (_, Some(_), Some(_)) => ConflictKind::ModifyModify,
            _ => ConflictKind::DeleteModify,
        };
        Some((kind, why))
    }
}

/// Where everything in the result comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// The tensors of the result in their order, conflicts among them; then those that are left out.
    pub tensors: Vec<PlannedTensor>,
    /// The side that leads: its order, and its format where both have one of their own.
    pub lead: Side,
    /// The side whose file has exactly the tensors of the result by name, type and shape, in the same order: the result is that
    /// file with other bytes in some tensors. `None` where a file has to be written anew, or there is a conflict.
    pub layout: Option<Side>,
    /// Which side changed what the file says beside its tensors.
    pub metadata: Changed,
}

impl TensorPlan {
    /// The tensors that someone has to decide about.
    pub fn conflicts(&self) -> impl Iterator<Item = &PlannedTensor> {
        self.tensors.iter().filter(|tensor| matches!(tensor.action, Action::Conflict(_)))
    }

    /// The side that what the file says beside its tensors is taken from: the one that changed it, ours where both did.
    #[must_use]
    pub fn metadata_from(&self) -> Side {
        self.metadata.side().unwrap_or(Side::Ours)
    }
}

/// A tensor's name, and how many of that name come before it.
type Key<'a> = (&'a str, usize);

/// Plans the merge of a model file that comes from `base`; for a file that both sides added, the base has no tensors.
#[must_use]
pub fn plan_tensors(models: Merge<Model<'_>>, rules: &Rules) -> TensorPlan {
    let lists = models.map(|model| model.tensors);
    let keys = lists.map(keys);
    let places = keys
        .as_ref()
        .map(|keys| -> HashMap<Key<'_>, usize> { keys.iter().enumerate().map(|(index, key)| (*key, index)).collect() });
    let signatures = lists.map(|tensors| tensors.iter().map(signature).collect::<Vec<_>>());
    let lead = signatures.changed().side().unwrap_or(Side::Ours);
    let metadata = models.map(|model| model.metadata).changed();

    let mut tensors: Vec<PlannedTensor> = Vec::new();
    for key in ordered(&keys, lead) {
        let at = places.as_ref().map(|places| places.get(&key).copied());
        let found = Merge {
            base: at.base.and_then(|index| lists.base.get(index)),
            ours: at.ours.and_then(|index| lists.ours.get(index)),
            theirs: at.theirs.and_then(|index| lists.theirs.get(index)),
        };
        tensors.push(PlannedTensor {
            name: key.0.to_owned(),
            at,
            ours: became(found.base, found.ours),
            theirs: became(found.base, found.theirs),
            action: decide(found, rules.strategy(key.0), rules.scope),
            renamed_to: None,
        });
    }
    name_renames(lists, &mut tensors);
    tensors.sort_by_key(|tensor| tensor.action == Action::Remove);
    let result: Option<Vec<Signature<'_>>> = tensors
        .iter()
        .filter_map(|tensor| match tensor.action {
            Action::Remove => None,
            Action::Conflict(_) => Some(None),
            // What is computed has the type and shape of both sides.
            Action::Compute(_) => Some(tensor.at.ours.and_then(|index| signatures.ours.get(index).copied())),
            Action::Take(side) => {
                Some(tensor.at.side(side).and_then(|index| signatures.side(side).get(index).copied()))
            }
        })
        .collect();
    let layout =
        result.and_then(|result| [lead, lead.other()].into_iter().find(|side| *signatures.side(*side) == result));
    TensorPlan { tensors, lead, layout, metadata }
}

type Signature<'a> = (&'a str, DType, &'a [u64]);

fn signature(tensor: &TensorInfo) -> Signature<'_> {
    (&tensor.name, tensor.dtype, &tensor.shape)
}

fn keys(tensors: &[TensorInfo]) -> Vec<Key<'_>> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut key = |tensor| {
        let TensorInfo { name, .. }: &TensorInfo = tensor;
        let count = counts.entry(name).or_default();
        *count += 1;
        (name.as_str(), *count - 1)
    };
    tensors.iter().map(&mut key).collect()
}

/// All keys, each once: those of the leading side, among them those that only the other side has, then those of the base.
fn ordered<'a>(keys: &Merge<Vec<Key<'a>>>, lead: Side) -> Vec<Key<'a>> {
    let leading: HashSet<Key<'_>> = keys.side(lead).iter().copied().collect();
    let mut followers: HashMap<Option<Key<'_>>, Vec<Key<'a>>> = HashMap::new();
    let mut before = None;
    for key in keys.side(lead.other()) {
        if leading.contains(key) {
            before = Some(*key);
        } else {
            followers.entry(before).or_default().push(*key);
        }
    }
    let mut order = followers.remove(&None).unwrap_or_default();
    for key in keys.side(lead) {
        order.push(*key);
        order.extend(followers.remove(&Some(*key)).unwrap_or_default());
    }
    let known: HashSet<Key<'_>> = order.iter().copied().collect();
    order.extend(keys.base.iter().filter(|key| !known.contains(*key)));
    order
}

fn became(base: Option<&TensorInfo>, side: Option<&TensorInfo>) -> TensorChange {
    match (base, side) {
        (None, None) => TensorChange::Equal,
        (None, Some(_)) => TensorChange::Added,
        (Some(_), None) => TensorChange::Removed,
        (Some(base), Some(side)) => change(base, side),
    }
}

fn decide(found: Merge<Option<&TensorInfo>>, strategy: Option<Strategy>, scope: Scope) -> Action {
    let changed = found.map(|tensor| tensor.map(|tensor| (signature(tensor), tensor.content))).changed();
    let trivial = changed.side().map(|side| take(found, side));
    match (trivial, strategy) {
        (None, None) => Action::Conflict(Undecided::NoRule),
        (None, Some(strategy)) => apply(found, strategy).unwrap_or_else(Action::Conflict),
        (Some(trivial), Some(strategy)) if scope == Scope::Changes && changed != Changed::Neither => {
            match (strategy, changed) {
                // The mean of equal values is that value, whatever rounding would make of it.
                (Strategy::Average, Changed::Alike) => trivial,
                // What cannot be computed is no conflict where both sides can be had.
                _ => apply(found, strategy).unwrap_or(trivial),
            }
        }
        (Some(trivial), _) => trivial,
    }
}

fn take(found: Merge<Option<&TensorInfo>>, side: Side) -> Action {
    if found.side(side).is_some() { Action::Take(side) } else { Action::Remove }
}

fn apply(found: Merge<Option<&TensorInfo>>, strategy: Strategy) -> Result<Action, Undecided> {
    let needed = match strategy {
        Strategy::Ours => return Ok(take(found, Side::Ours)),
        Strategy::Theirs => return Ok(take(found, Side::Theirs)),
        Strategy::Average => [found.ours, found.theirs, found.ours],
        Strategy::Task { .. } => [found.ours, found.theirs, found.base],
    };
    let [Some(first), Some(second), Some(third)] = needed else { return Err(Undecided::Absent) };
    let others = [second, third];
    if others.iter().any(|other| other.shape != first.shape) {
        return Err(Undecided::Shape);
    }
    if others.iter().any(|other| other.dtype != first.dtype) {
        return Err(Undecided::DType);
    }
    if !first.dtype.float().is_some_and(|float| float.signed) {
        return Err(Undecided::NotFloat);
    }
    Ok(Action::Compute(strategy))
}

/// Says for tensors in conflict that one side removed what it calls them now.
fn name_renames(lists: Merge<&[TensorInfo]>, tensors: &mut [PlannedTensor]) {
    for side in Side::ALL {
        let is_gone = |tensor: &PlannedTensor| {
            matches!(tensor.conflict(), Some((ConflictKind::DeleteModify, _))) && tensor.at.side(side).is_none()
        };
        if !tensors.iter().any(is_gone) {
            continue;
        }
        let now = *lists.side(side);
        let pairs = diff_tensors(lists.base, now).into_iter();
        let renamed: HashMap<Option<usize>, Option<usize>> =
            pairs.filter(|pair| pair.change == TensorChange::Renamed).map(|pair| (pair.old, pair.new)).collect();
        for tensor in tensors.iter_mut().filter(|tensor| is_gone(tensor)) {
            let index = renamed.get(&tensor.at.base).copied().flatten();
            tensor.renamed_to = index.and_then(|index| now.get(index)).map(|tensor| tensor.name.clone());
        }
    }
}

#[cfg(test)]
mod tests;
