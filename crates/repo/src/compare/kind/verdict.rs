//! The kind of change of a model as a whole.

use shard_history::TensorChange;

use super::super::TensorDiff;
use super::{Finding, Kind};

/// Share of the weights of which a kind speaks for the model.
const MOST: f64 = 0.5;
/// Share of the weights from which on those that were left alone are worth a word.
const LEAST_FROZEN: f64 = 0.05;

/// What happened to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The kind that speaks for the model.
    pub kind: Kind,
    /// What tells so, for people.
    pub evidence: String,
    /// Tensors and elements of each kind that occurs, in the order of [`Kind::ALL`].
    pub parts: Vec<(Kind, usize, u64)>,
    /// The rank of the change, where that is low: the highest of any tensor.
    pub rank: Option<usize>,
}

/// Weighs the kinds of all tensors by their elements. Tensors' own kinds are completed on the way: what is the same bytes in a model
/// that was trained is frozen, what is unrelated in one that is related otherwise was re-initialised, and what is too small to tell
/// noise from training goes with the rest.
pub(in super::super) fn verdict(tensors: &mut [TensorDiff], identical: bool, other_bytes_differ: bool) -> Verdict {
    if tensors.iter().any(|tensor| tensor.state != TensorChange::Equal) {
        settle(tensors);
    }
    let parts: Vec<(Kind, usize, u64)> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let of_kind = tensors.iter().filter(|tensor| tensor.finding.kind == kind);
            let (count, elements) =
                of_kind.fold((0, 0u64), |(count, sum), tensor| (count + 1, sum.saturating_add(tensor.elements())));
            (kind, count, elements)
        })
        .filter(|(_, count, _)| *count > 0)
        .collect();
    let (kind, evidence, rank) = judge(tensors, identical, other_bytes_differ);
    Verdict { kind, evidence, parts, rank }
}

/// Elements of the tensors of a kind; optimizer state, which moves otherwise than weights, does not count.
fn weight(tensors: &[TensorDiff], is: impl Fn(&Finding) -> bool) -> f64 {
    let counted = tensors.iter().filter(|tensor| !tensor.is_optimizer_state() && is(&tensor.finding));
    counted.map(|tensor| tensor.elements() as f64).sum()
}

fn is_kind(kind: Kind) -> impl Fn(&Finding) -> bool {
    move |finding| finding.kind == kind
}

/// Whether a tensor is on both sides.
fn is_matched(finding: &Finding) -> bool {
    !matches!(finding.kind, Kind::Added | Kind::Removed)
}

/// Completes what only the whole model tells.
fn settle(tensors: &mut [TensorDiff]) {
    let all = weight(tensors, is_matched);
    let unrelated = weight(tensors, is_kind(Kind::Unrelated));
    let is_related = unrelated < MOST * all;
    let (trained, noise) = (weight(tensors, is_kind(Kind::FineTune)), weight(tensors, is_kind(Kind::Noise)));
    let moved = [Kind::FineTune, Kind::Noise, Kind::LowRank, Kind::Scaled, Kind::Unrelated, Kind::Reinitialised];
    let is_moved = tensors.iter().any(|tensor| moved.contains(&tensor.finding.kind));
    for tensor in tensors {
        let is_vector = tensor.new.as_ref().is_some_and(|(_, shape)| shape.len() < 2);
        let finding = &mut tensor.finding;
        match finding.kind {
            Kind::Identical if is_moved => finding.kind = Kind::Frozen,
            Kind::Unrelated if is_related => {
                let is_state = super::super::is_optimizer_state(&tensor.name);
                finding.kind = if is_state { Kind::FineTune } else { Kind::Reinitialised };
            }
            // A vector alone does not tell.
            Kind::FineTune if is_vector && noise > trained => finding.kind = Kind::Noise,
            _ => {}
        }
    }
}

fn judge(tensors: &[TensorDiff], identical: bool, other_bytes_differ: bool) -> (Kind, String, Option<usize>) {
    let plain = |kind: Kind, evidence: String| (kind, evidence, None);
    let count = |kind: Kind| tensors.iter().filter(|tensor| tensor.finding.kind == kind).count();
    let of_all = |kind: Kind| format!("{} of {} tensors", count(kind), tensors.len());
    if identical {
        return plain(Kind::Identical, "the files are the same bytes".to_owned());
    }
    if tensors.is_empty() {
        return plain(Kind::Changed, "no tensors on either side, and other bytes".to_owned());
    }
    let matched = tensors.iter().filter(|tensor| is_matched(&tensor.finding)).count();
    if matched == 0 {
        return match (count(Kind::Added), count(Kind::Removed)) {
            (_, 0) => plain(Kind::Added, "all tensors are new".to_owned()),
            (0, _) => plain(Kind::Removed, "all tensors are gone".to_owned()),
            _ => plain(Kind::Unrelated, "no tensor of one side is on the other".to_owned()),
        };
    }
    let on_both = weight(tensors, is_matched);
    let on_one = weight(tensors, is_kind(Kind::Added)).min(weight(tensors, is_kind(Kind::Removed)));
    if on_both < on_one {
        let share = 100.0 * on_both / (on_both + on_one);
        return plain(Kind::Unrelated, format!("only {share:.1}% of the weights are on both sides"));
    }
    let changed = |finding: &Finding| {
        is_matched(finding) && !matches!(finding.kind, Kind::Identical | Kind::Frozen | Kind::Renamed)
    };
    let (all, moved) = (weight(tensors, is_matched), weight(tensors, changed));
    let percent =
        |kind: Kind, of: f64| format!("{:.1}% of the weights", 100.0 * weight(tensors, is_kind(kind)) / of.max(1.0));
    if moved == 0.0 && tensors.iter().all(|tensor| !changed(&tensor.finding)) {
        let renamed = count(Kind::Renamed);
        let elsewhere = count(Kind::Added) + count(Kind::Removed);
        return match (renamed, elsewhere) {
            (0, 0) if other_bytes_differ => {
                plain(Kind::Identical, "all tensors are the same; other bytes differ".to_owned())
            }
            (0, 0) => plain(Kind::Identical, "all tensors are the same".to_owned()),
            (0, _) if count(Kind::Removed) == 0 => {
                plain(Kind::Added, format!("{}; the others are the same", of_all(Kind::Added)))
            }
            (0, _) if count(Kind::Added) == 0 => {
                plain(Kind::Removed, format!("{}; the others are the same", of_all(Kind::Removed)))
            }
            (0, _) => plain(
                Kind::Changed,
                format!("{} added, {} removed, the others the same", count(Kind::Added), count(Kind::Removed)),
            ),
            _ => plain(Kind::Renamed, format!("{} have another name and the same bytes", of_all(Kind::Renamed))),
        };
    }
    let unrelated = weight(tensors, is_kind(Kind::Unrelated));
    if unrelated >= MOST * all && unrelated > 0.0 {
        return plain(
            Kind::Unrelated,
            format!("{} have nothing in common with their namesakes", percent(Kind::Unrelated, all)),
        );
    }
    if count(Kind::Resized) > 0 {
        let rest = rest(tensors, &[Kind::Resized]);
        return plain(Kind::Resized, format!("{} have another shape{rest}", of_all(Kind::Resized)));
    }
    for kind in [Kind::Cast, Kind::Quantised] {
        if count(kind) > 0 && weight(tensors, is_kind(kind)) >= MOST * moved {
            let rest = rest(tensors, &[kind]);
            return plain(kind, format!("{}{rest}", percent(kind, all)));
        }
    }
    for kind in [Kind::LowRank, Kind::Noise, Kind::Scaled, Kind::Reinitialised] {
        if weight(tensors, is_kind(kind)) < MOST * moved || count(kind) == 0 {
            continue;
        }
        let ranks = tensors.iter().filter_map(|tensor| tensor.finding.rank);
        let rank = ranks.max().filter(|_| kind == Kind::LowRank);
        let what = rank.map_or(String::new(), |rank| format!(" with rank {rank}"));
        let rest = rest(tensors, &[kind]);
        return (kind, format!("{} changed{what}{rest}", of_all(kind)), rank);
    }
    let frozen = weight(tensors, is_kind(Kind::Frozen));
    if count(Kind::FineTune) > 0 && frozen >= LEAST_FROZEN * all {
        return plain(
            Kind::Frozen,
            format!(
                "{}, {}, were left as they were; the others were trained",
                of_all(Kind::Frozen),
                percent(Kind::Frozen, all)
            ),
        );
    }
    if count(Kind::FineTune) > 0 {
        return plain(
            Kind::FineTune,
            format!("{} were trained{}", percent(Kind::FineTune, all), rest(tensors, &[Kind::FineTune])),
        );
    }
    let several = tensors.iter().filter(|tensor| changed(&tensor.finding)).count();
    plain(Kind::Changed, format!("{several} of {} tensors changed{}", tensors.len(), rest(tensors, &[Kind::Changed])))
}

/// What else there is beside some kinds: `; 3 frozen, 1 added`.
fn rest(tensors: &[TensorDiff], but: &[Kind]) -> String {
    let others: Vec<String> = Kind::ALL
        .into_iter()
        .filter(|kind| !but.contains(kind))
        .map(|kind| (kind, tensors.iter().filter(|tensor| tensor.finding.kind == kind).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {}", kind.as_str()))
        .collect();
    if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) }
}
