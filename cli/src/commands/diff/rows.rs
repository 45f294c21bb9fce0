//! The rows of a comparison: tensors, or the layers they belong to.

use std::cmp::Ordering;

use serde_json::{Value, json};
use shard_core::DType;
use shard_heatmap::{Metric, Values, models};
use shard_history::{TensorChange as State, natural_cmp, roll_up};
use shard_repo::{Comparison, Kind, TensorDiff};

use super::{Args, By, MANY_ROWS, Sort, of_state};
use crate::Context;
use crate::report::size::{cosine, percent, significant};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::shape;

/// The tensors that are shown, in the order that is wanted.
pub(super) fn selected<'a>(tensors: &'a [TensorDiff], args: &Args) -> Vec<&'a TensorDiff> {
    let mut rows: Vec<&TensorDiff> =
        tensors.iter().filter(|tensor| args.equal || tensor.state != State::Equal).collect();
    match args.sort {
        Sort::Name => rows.sort_by(|a, b| natural_cmp(&a.name, &b.name)),
        Sort::Change => rows.sort_by(|a, b| by_change(a, b, args.by).then_with(|| natural_cmp(&a.name, &b.name))),
    }
    rows
}

/// What became NaN comes first, then what cannot be measured: another shape is a larger change than other values.
fn by_change(a: &TensorDiff, b: &TensorDiff, by: By) -> Ordering {
    let rank = |tensor: &TensorDiff| match tensor.state {
        State::Shape | State::DType | State::Added | State::Removed => 0,
        State::Value => 1,
        State::Renamed => 2,
        State::Equal => 3,
    };
    let size = |tensor: &TensorDiff| size(&models::overall([tensor].into_iter()), by);
    let lost = |tensor: &TensorDiff| tensor.stats.map_or(0, |stats| stats.lost);
    let share = |tensor: &TensorDiff| tensor.stats.map_or(0.0, |stats| stats.changed_share());
    let first = lost(b).cmp(&lost(a)).then_with(|| rank(a).cmp(&rank(b)));
    first.then_with(|| size(b).total_cmp(&size(a))).then_with(|| share(b).total_cmp(&share(a)))
}

/// How large a change is by a metric, the larger the more; what is not measured comes last.
fn size(values: &Values, by: By) -> f64 {
    let metric = by.metric();
    let value = values.get(metric).unwrap_or(if metric.falls() { f64::INFINITY } else { f64::NEG_INFINITY });
    if metric.falls() { -value } else { value }
}

pub(super) fn table(tensors: &[TensorDiff], args: &Args, context: &Context) -> String {
    let rows = selected(tensors, args);
    // The picture says it all where there are many.
    if rows.is_empty() || (!args.layers && !args.tensors && rows.len() > MANY_ROWS) {
        return String::new();
    }
    let table =
        if args.layers { layer_table(&layers(tensors, args.sort, args.equal, args.by)) } else { tensor_table(&rows) };
    context.ui.table_by_importance(&table, &LEAST_NEEDED)
}

/// Columns that a narrow window goes without, the first first.
const LEAST_NEEDED: [&str; 9] =
    ["evidence", "max ULP", "cosine", "min cosine", "max relative", "dtype", "shape", "state", "changed"];

fn tensor_table(rows: &[&TensorDiff]) -> Table {
    let mut table = Table::new(&[
        "tensor",
        "state",
        "dtype",
        "shape",
        ">changed",
        ">relative",
        ">cosine",
        ">max ULP",
        ">effective rank",
        "kind",
        "evidence",
    ]);
    for tensor in rows {
        let name = match &tensor.old_name {
            Some(old) => format!("{old} -> {}", tensor.name),
            None => tensor.name.clone(),
        };
        let mut cells = vec![name.into(), Cell::new(tensor.state.as_str(), style(tensor.state))];
        cells.extend([
            both(tensor, |(dtype, _)| dtype.name().to_owned()).into(),
            both(tensor, |(_, dims)| shape(dims)).into(),
        ]);
        if let Some(stats) = &tensor.stats {
            cells.extend([
                percent(stats.changed_share()).into(),
                stats.relative.map(significant).unwrap_or_default().into(),
                stats.cosine.map(cosine).unwrap_or_default().into(),
                stats.max_ulp.map(|steps| steps.to_string()).unwrap_or_default().into(),
            ]);
        } else {
            cells.extend(["".into(), "".into(), "".into(), "".into()]);
        }
        // Of these the other columns tell it all.
        let is_told = matches!(
            tensor.finding.kind,
            Kind::FineTune | Kind::Identical | Kind::Frozen | Kind::Renamed | Kind::Added | Kind::Removed
        );
        let evidence = if is_told { "" } else { tensor.finding.evidence.as_str() };
        cells.push(
            tensor.spectrum.as_ref().map(|found| format!("{:.1}", found.effective_rank())).unwrap_or_default().into(),
        );
        cells.extend([tensor.finding.kind.as_str().into(), evidence.into()]);
        table.row(cells);
    }
    table
}

/// Tensors that both sides have, as (old name, new name, whether their content is equal).
fn names(tensors: &[TensorDiff]) -> impl Iterator<Item = (&str, &str, bool)> {
    tensors.iter().filter(|tensor| tensor.old.is_some() && tensor.new.is_some()).map(|tensor| {
        let old = tensor.old_name.as_ref().unwrap_or(&tensor.name);
        (old.as_str(), tensor.name.as_str(), matches!(tensor.state, State::Equal | State::Renamed))
    })
}

/// What each tensor is called on either side.
pub(super) fn name_map(tensors: &[TensorDiff]) -> Table {
    let mut table = Table::new(&["old", "new", "matched by"]);
    for (old, new, is_equal) in names(tensors) {
        let by = match (old == new, is_equal) {
            (true, true) => Cell::new("name and content", Style::Dim),
            (true, false) => Cell::new("name", Style::Yellow),
            (false, true) => Cell::new("content", Style::Cyan),
            (false, false) => Cell::new("similar content", Style::Yellow),
        };
        table.row(vec![old.into(), new.into(), by]);
    }
    table
}

/// The same for JSON.
pub(super) fn name_map_json(tensors: &[TensorDiff]) -> Value {
    let map = names(tensors).map(|(old, new, is_equal)| json!({"old": old, "new": new, "equal": is_equal}));
    map.collect()
}

/// A property of both sides: once where it is the same.
fn both(tensor: &TensorDiff, of: impl Fn(&(DType, Vec<u64>)) -> String) -> String {
    match (tensor.old.as_ref().map(&of), tensor.new.as_ref().map(&of)) {
        (Some(old), Some(new)) if old != new => format!("{old} -> {new}"),
        (_, Some(one)) | (Some(one), None) => one,
        (None, None) => String::new(),
    }
}

fn style(state: State) -> Style {
    match state {
        State::Equal => Style::Dim,
        State::Value => Style::Yellow,
        State::Shape | State::DType | State::Removed => Style::Red,
        State::Added => Style::Green,
        State::Renamed => Style::Cyan,
    }
}

/// The tensors of a layer, in numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerRow {
    name: String,
    tensors: usize,
    /// How many tensors are in which state; only those that occur.
    states: Vec<(State, usize)>,
    /// Words that changed, and all words, of the tensors that can be compared word by word.
    changed: u64,
    words: u64,
    /// The relative change of all tensors that changed, as one vector.
    overall: Option<f64>,
    values: Values,
    /// Values that became NaN or infinite.
    lost: u64,
    /// The largest relative change, the smallest cosine and the largest step of any tensor.
    relative: Option<f64>,
    cosine: Option<f64>,
    max_ulp: Option<u64>,
}

impl LayerRow {
    fn new(name: String, tensors: &[&TensorDiff]) -> Self {
        let stats = || tensors.iter().filter_map(|tensor| tensor.stats);
        let values = models::overall(tensors.iter().copied());
        let untouched = tensors.iter().filter(|tensor| matches!(tensor.state, State::Equal | State::Renamed));
        Self {
            name,
            tensors: tensors.len(),
            states: State::ALL
                .iter()
                .map(|state| (*state, of_state(tensors.iter().copied(), *state)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            changed: stats().map(|stats| stats.changed).sum(),
            words: stats().map(|stats| stats.words).sum::<u64>() + untouched.map(|tensor| words(tensor)).sum::<u64>(),
            overall: values.get(Metric::Relative),
            values,
            lost: stats().map(|stats| stats.lost).sum(),
            relative: stats().filter_map(|stats| stats.relative).max_by(f64::total_cmp),
            cosine: stats().filter_map(|stats| stats.cosine).min_by(f64::total_cmp),
            max_ulp: stats().filter_map(|stats| stats.max_ulp).max(),
        }
    }

    fn share(&self) -> Option<f64> {
        (self.words > 0).then(|| self.changed as f64 / self.words as f64)
    }

    /// What happened to the layer as a whole: what happened to all of its tensors that are not equal.
    fn state_text(&self) -> String {
        match &self.states[..] {
            [(state, _)] => state.as_str().to_owned(),
            several => several
                .iter()
                .map(|(state, count)| format!("{count} {}", state.as_str()))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

/// Words of a tensor that is the same on both sides.
fn words(tensor: &TensorDiff) -> u64 {
    let Some((dtype, dims)) = &tensor.new else { return 0 };
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    let bytes = elements.and_then(|elements| dtype.byte_len(elements)).unwrap_or(0);
    bytes / dtype.word_bytes() as u64
}

/// Rolls tensors up; layers in which nothing changed are left out unless equal tensors are wanted.
pub(super) fn layers(tensors: &[TensorDiff], sort: Sort, equal: bool, by: By) -> Vec<LayerRow> {
    let mut rows: Vec<LayerRow> = roll_up(tensors.iter().map(|tensor| tensor.name.as_str()))
        .into_iter()
        .map(|layer| {
            let members: Vec<&TensorDiff> = layer.tensors.iter().filter_map(|index| tensors.get(*index)).collect();
            LayerRow::new(layer.name, &members)
        })
        .filter(|row| equal || row.states.iter().any(|(state, _)| *state != State::Equal))
        .collect();
    if sort == Sort::Change {
        rows.sort_by(|a, b| {
            let key = |row: &LayerRow| size(&row.values, by);
            b.lost
                .cmp(&a.lost)
                .then_with(|| key(b).total_cmp(&key(a)))
                .then_with(|| b.share().unwrap_or(0.0).total_cmp(&a.share().unwrap_or(0.0)))
        });
    }
    rows
}

pub(super) fn layer_table(rows: &[LayerRow]) -> Table {
    let mut table = Table::new(&[
        "layer",
        ">tensors",
        "state",
        ">changed",
        ">relative",
        ">max relative",
        ">min cosine",
        ">max ULP",
        ">NaN, inf",
    ]);
    for row in rows {
        let color = match &row.states[..] {
            [(state, _)] => style(*state),
            _ => Style::Yellow,
        };
        table.row(vec![
            row.name.as_str().into(),
            row.tensors.to_string().into(),
            Cell::new(row.state_text(), color),
            row.share().map(percent).unwrap_or_default().into(),
            row.overall.map(significant).unwrap_or_default().into(),
            row.relative.map(significant).unwrap_or_default().into(),
            row.cosine.map(cosine).unwrap_or_default().into(),
            row.max_ulp.map(|ulp| ulp.to_string()).unwrap_or_default().into(),
            if row.lost > 0 { row.lost.to_string().into() } else { "".into() },
        ]);
    }
    table
}

pub(super) fn layers_json(tensors: &[TensorDiff], args: &Args) -> Value {
    let rows = layers(tensors, args.sort, args.equal, args.by).into_iter().map(|row| {
        let counts: serde_json::Map<String, Value> =
            row.states.iter().map(|(state, count)| (state.as_str().to_owned(), (*count).into())).collect();
        json!({
            "name": row.name,
            "tensors": row.tensors,
            "counts": counts,
            "changed": row.changed,
            "words": row.words,
            "changed_share": row.share(),
            "relative": row.overall,
            "max_relative": row.relative,
            "min_cosine": row.cosine,
            "max_ulp": row.max_ulp,
            "lost": row.lost,
        })
    });
    rows.collect()
}

/// The kind of a model's change in a line.
pub(super) fn verdict(found: &Comparison) -> String {
    format!("{}: {}", found.verdict.kind.as_str(), found.verdict.evidence)
}

#[cfg(test)]
mod tests {
    use shard_repo::{ChangeStats, Finding};

    use super::*;

    fn args(sort: Sort, equal: bool) -> Args {
        let mut command = <Args as clap::Args>::augment_args(clap::Command::new("diff"));
        let matches = command.try_get_matches_from_mut(["diff"]).unwrap();
        let defaults = <Args as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        Args { sort, equal, ..defaults }
    }

    fn tensor(name: &str, state: State, relative: Option<f64>) -> TensorDiff {
        let geometry = Some((DType::BF16, vec![2, 5]));
        let stats = relative.map(|relative| ChangeStats {
            words: 10,
            changed: 5,
            max_ulp: Some(3),
            relative: Some(relative),
            cosine: Some(0.5),
            max_abs: Some(1.0),
            old_norm: Some(1.0),
            new_norm: Some(1.0),
            change_norm: Some(relative),
            factor: Some(1.0),
            not_finite: 0,
            lost: 0,
        });
        let finding = Finding { kind: Kind::Changed, evidence: String::new(), rank: None, share: None };
        let (old, new) = (geometry.clone(), geometry);
        TensorDiff { name: name.to_owned(), old_name: None, state, old, new, stats, finding, spectrum: None }
    }

    fn tensors() -> Vec<TensorDiff> {
        vec![
            tensor("h.10.w", State::Value, Some(0.1)),
            tensor("h.2.w", State::Value, Some(0.3)),
            tensor("h.2.b", State::Equal, None),
            tensor("lm.head", State::Added, None),
        ]
    }

    #[test]
    fn rows_come_in_the_order_that_is_wanted() {
        let names = |args: &Args| -> Vec<String> {
            selected(&tensors(), args).iter().map(|tensor| tensor.name.clone()).collect()
        };
        assert_eq!(names(&args(Sort::Name, false)), ["h.2.w", "h.10.w", "lm.head"]);
        assert_eq!(names(&args(Sort::Change, true)), ["lm.head", "h.2.w", "h.10.w", "h.2.b"]);
    }

    #[test]
    fn layers_add_up_their_tensors() {
        let rows = layers(&tensors(), Sort::Name, false, By::Relative);
        let second = rows.iter().find(|row| row.name == "h.2").unwrap();
        assert_eq!((second.tensors, second.changed, second.words), (2, 5, 20));
        assert_eq!(second.state_text(), "1 equal, 1 value");
        assert_eq!(second.share(), Some(0.25));
        assert_eq!(rows.len(), 3);
        let equal_only = [tensor("h.1.w", State::Equal, None)];
        assert!(layers(&equal_only, Sort::Name, false, By::Relative).is_empty());
        assert_eq!(layers(&equal_only, Sort::Name, true, By::Relative).len(), 1);
    }

    #[test]
    fn a_difference_in_shape_shows_both() {
        let mut changed = tensor("w", State::Shape, None);
        changed.new = Some((DType::BF16, vec![3, 5]));
        let text = tensor_table(&[&changed]).render(false, None);
        assert!(text.contains("BF16") && text.contains("[2, 5] -> [3, 5]"), "{text}");
        assert_eq!(super::super::json::tensor(&changed)["new"]["shape"], json!([3, 5]));
    }
}
