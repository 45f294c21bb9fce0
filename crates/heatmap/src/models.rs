//! Pictures of comparisons: of two models, of a series of versions, and of one tensor.

use std::collections::{BTreeMap, HashMap, HashSet};

use shard_core::DType;
use shard_history::{Column, Layer, TensorChange, in_model_order, role_of, roll_up};
use shard_repo::{ChangeStats, Comparison, Inside, Patch, TensorDiff};

use crate::map::{Cell, Entry, Heatmap, Label, Mark, Panel, Version};
use crate::metric::{Metric, Values};

/// A title of two paths, without the folders that both are in.
#[must_use]
pub fn title(old: &str, new: &str) -> String {
    let folders = |path: &str| path.rfind('/').map_or(0, |slash| slash + 1);
    let mut shared = 0;
    for (at, byte) in old.bytes().enumerate().take(folders(old).min(folders(new))) {
        match new.as_bytes().get(at) {
            Some(other) if *other == byte => shared = if byte == b'/' { at + 1 } else { shared },
            _ => break,
        }
    }
    format!("{} -> {}", old.get(shared..).unwrap_or(old), new.get(shared..).unwrap_or(new))
}

/// What became of two models: a row a layer in the model's order, a column a kind of tensors.
#[must_use]
pub fn of_comparison(title: String, found: &Comparison, metric: Metric) -> Heatmap {
    let mut layers = rows(&found.tensors);
    in_model_order(&mut layers);
    let kinds: Vec<Column<'_>> = found.tensors.iter().map(|tensor| role_of(&tensor.name).column).collect();
    let mut order: Vec<Column<'_>> = kinds.clone();
    order.sort_unstable();
    order.dedup();
    let place: HashMap<Column<'_>, usize> = order.iter().enumerate().map(|(index, column)| (*column, index)).collect();
    let mut cells = Vec::new();
    for (row, layer) in layers.iter().enumerate() {
        let mut by_column: BTreeMap<usize, Vec<&TensorDiff>> = BTreeMap::new();
        for index in &layer.tensors {
            let (Some(tensor), Some(kind)) = (found.tensors.get(*index), kinds.get(*index)) else { continue };
            by_column.entry(place.get(kind).copied().unwrap_or(0)).or_default().push(tensor);
        }
        cells.extend(by_column.into_iter().map(|(column, tensors)| cell(row, column, &tensors, usize::MAX)));
    }
    Heatmap {
        title,
        notes: notes(found, &layers),
        row_title: "layer".to_owned(),
        column_title: "tensor".to_owned(),
        rows: labels(&layers),
        columns: order.iter().map(|column| Label { short: column.short(), full: column.full() }).collect(),
        cells,
        metric,
        panel: None,
    }
}

/// What kind of change it is; before it what became NaN, and where.
fn notes(found: &Comparison, layers: &[Layer]) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(lost(found, layers));
    notes.push(format!("{}: {}", found.verdict.kind.as_str(), found.verdict.evidence));
    notes
}

/// What became NaN or infinite, and in which layers.
fn lost(found: &Comparison, layers: &[Layer]) -> Option<String> {
    let of = |tensor: &TensorDiff| tensor.stats.map_or(0, |stats| stats.lost);
    let total: u64 = found.tensors.iter().map(of).sum();
    let is_hit = |layer: &&Layer| layer.tensors.iter().filter_map(|index| found.tensors.get(*index)).any(|t| of(t) > 0);
    let names: Vec<&str> = layers.iter().filter(is_hit).map(|layer| layer.name.as_str()).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = names.get(..NAMED).unwrap_or(&names).join(", ");
    (total > 0).then(|| format!("{total} values became NaN or infinite, in {named}{more}"))
}

/// Layers that are named in a line.
const NAMED: usize = 5;

/// What became NaN or infinite in a comparison, and in which layers; `None` where nothing did.
#[must_use]
pub fn lost_values(found: &Comparison) -> Option<String> {
    lost(found, &rows(&found.tensors))
}

/// The layers of some tensors. What an optimizer keeps of a weight is in the layer of the weight, where that is there and its name ends
/// in the weight's: `optimizer.exp_avg.h.3.attn.weight`.
fn rows(tensors: &[TensorDiff]) -> Vec<Layer> {
    let names: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    roll_up(tensors.iter().map(|tensor| {
        let ends = tensor.name.match_indices('.').filter_map(|(dot, _)| tensor.name.get(dot + 1..));
        let weight = tensor.is_optimizer_state().then(|| ends.into_iter().find(|end| names.contains(end)));
        weight.flatten().unwrap_or(&tensor.name)
    }))
}

/// Layers by their last parts, such as `h.3`; in full where that is another layer's, too.
fn labels(layers: &[Layer]) -> Vec<Label> {
    let short = |name: &str| -> String {
        let parts: Vec<&str> = name.split(['.', '/']).collect();
        let ends_in_number = parts.last().is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let kept = if ends_in_number { 2 } else { 1 };
        parts.get(parts.len().saturating_sub(kept)..).unwrap_or_default().join(".")
    };
    let mut counts: HashMap<String, usize> = HashMap::new();
    for layer in layers {
        *counts.entry(short(&layer.name)).or_default() += 1;
    }
    let label = |layer: &Layer| {
        let short = short(&layer.name);
        let is_own = counts.get(&short) == Some(&1) && !short.is_empty();
        Label { short: if is_own { short } else { layer.name.clone() }, full: layer.name.clone() }
    };
    layers.iter().map(label).collect()
}

/// A cell of some tensors, `most` of which are listed: the most remarkable ones.
fn cell(row: usize, column: usize, tensors: &[&TensorDiff], most: usize) -> Cell {
    let mut listed: Vec<Entry> = tensors.iter().map(|tensor| entry(tensor)).collect();
    if listed.len() > most {
        let size = |entry: &Entry| entry.values.get(Metric::Relative).unwrap_or(-1.0);
        listed.sort_by(|a, b| b.mark.cmp(&a.mark).then_with(|| size(b).total_cmp(&size(a))));
        listed.truncate(most);
    }
    let mark = tensors.iter().map(|tensor| mark(tensor)).max().unwrap_or(Mark::Equal);
    Cell { row, column, mark, values: overall(tensors.iter().copied()), entries: listed }
}

/// The change of those of some tensors that changed, as if they were one: a short bias does not speak for a matrix. Of steps and ranks
/// the largest.
#[must_use]
pub fn overall<'a>(tensors: impl Iterator<Item = &'a TensorDiff>) -> Values {
    let (mut words, mut changed, mut old, mut new, mut change, mut products) = (0u64, 0u64, 0.0, 0.0, 0.0, 0.0);
    let (mut largest, mut measured) = (Vec::new(), 0);
    for tensor in tensors {
        let own = values(tensor);
        largest.push(own);
        let Some(stats) = tensor.stats else { continue };
        (words, changed) = (words + stats.words, changed + stats.changed);
        if let (Some(a), Some(b), Some(d)) = (stats.old_norm, stats.new_norm, stats.change_norm) {
            measured += 1;
            (old, new, change) = (old + a * a, new + b * b, change + d * d);
            products += stats.cosine.unwrap_or(0.0) * a * b;
        }
    }
    let mut all = Values::largest(largest.iter());
    // Of one tensor its own numbers are exact.
    if measured > 1 {
        let relative = if old > 0.0 { (change / old).sqrt() } else { f64::INFINITY };
        all.set(Metric::Relative, Some(if change > 0.0 { relative } else { 0.0 }));
        all.set(Metric::Cosine, (old > 0.0 && new > 0.0).then(|| (products / (old * new).sqrt()).clamp(-1.0, 1.0)));
        all.set(Metric::Changed, (words > 0).then(|| changed as f64 / words as f64));
    }
    all
}

fn entry(tensor: &TensorDiff) -> Entry {
    Entry {
        name: tensor.name.clone(),
        old_name: tensor.old_name.clone(),
        mark: mark(tensor),
        geometry: geometry(tensor),
        kind: tensor.finding.kind.as_str().to_owned(),
        evidence: tensor.finding.evidence.clone(),
        values: values(tensor),
    }
}

fn mark(tensor: &TensorDiff) -> Mark {
    match tensor.state {
        TensorChange::Equal => Mark::Equal,
        TensorChange::Renamed => Mark::Renamed,
        TensorChange::Value if tensor.stats.is_some_and(|stats| stats.not_finite > 0) => Mark::NotFinite,
        TensorChange::Value => Mark::Value,
        TensorChange::DType if tensor.stats.is_some_and(|stats| stats.lost > 0) => Mark::NotFinite,
        TensorChange::DType => Mark::DType,
        TensorChange::Shape => Mark::Shape,
        TensorChange::Removed => Mark::Removed,
        TensorChange::Added => Mark::Added,
    }
}

fn geometry(tensor: &TensorDiff) -> String {
    let text = |side: &(DType, Vec<u64>)| format!("{} {:?}", side.0, side.1);
    match (tensor.old.as_ref().map(text), tensor.new.as_ref().map(text)) {
        (Some(old), Some(new)) if old != new => format!("{old} -> {new}"),
        (_, Some(one)) | (Some(one), None) => one,
        (None, None) => String::new(),
    }
}

/// What is the same has its mark, and no colour.
fn values(tensor: &TensorDiff) -> Values {
    let mut values = Values::default();
    if let Some(stats) = tensor.stats {
        values.set(Metric::Changed, Some(stats.changed_share()));
        values.set(Metric::Relative, relative(&stats));
        values.set(Metric::Cosine, stats.cosine);
        values.set(Metric::MaxUlp, stats.max_ulp.map(|steps| steps as f64));
    }
    values.set(Metric::EffectiveRank, tensor.spectrum.as_ref().map(|spectrum| spectrum.effective_rank()));
    values
}

/// What was all zeros has changed by infinitely much.
fn relative(stats: &ChangeStats) -> Option<f64> {
    stats.relative.or_else(|| stats.change_norm.filter(|norm| *norm > 0.0).map(|_| f64::INFINITY))
}

/// What became of a layer in which version.
type Course = BTreeMap<usize, Cell>;

/// Tensors that are listed of each layer and version: the most remarkable ones.
const LISTED: usize = 4;

/// A series in the making: each version is compared with the one before it.
#[derive(Debug, Default)]
pub struct Series {
    versions: Vec<(Label, Option<Version>)>,
    /// In the order in which they came up.
    layers: Vec<(String, Course)>,
    index: HashMap<String, usize>,
}

impl Series {
    /// Adds a version: what became of the one before, and what it takes. The first has nothing before it.
    pub fn push(&mut self, label: Label, found: Option<&Comparison>, version: Option<Version>) {
        let column = self.versions.len();
        self.versions.push((label, version));
        let tensors = found.map_or(&[][..], |found| &found.tensors);
        for layer in rows(tensors) {
            let members: Vec<&TensorDiff> = layer.tensors.iter().filter_map(|index| tensors.get(*index)).collect();
            let place = *self.index.entry(layer.name.clone()).or_insert_with(|| {
                self.layers.push((layer.name.clone(), BTreeMap::new()));
                self.layers.len() - 1
            });
            if let Some((_, row)) = self.layers.get_mut(place) {
                row.insert(column, cell(0, column, &members, LISTED));
            }
        }
    }

    /// The picture: a row a layer, a column a version, and what each version takes.
    #[must_use]
    pub fn finish(self, title: String, notes: Vec<String>, metric: Metric) -> Heatmap {
        let named = self.layers.iter().enumerate();
        let mut order: Vec<Layer> =
            named.map(|(index, (name, _))| Layer { name: name.clone(), tensors: vec![index] }).collect();
        in_model_order(&mut order);
        let mut cells = Vec::new();
        for (row, layer) in order.iter().enumerate() {
            let Some((_, found)) = layer.tensors.first().and_then(|index| self.layers.get(*index)) else { continue };
            cells.extend(found.values().map(|cell| Cell { row, ..cell.clone() }));
        }
        let panel = Panel { versions: self.versions.iter().map(|(_, version)| *version).collect() };
        let has_panel = panel.versions.iter().any(Option::is_some);
        Heatmap {
            title,
            notes,
            row_title: "layer".to_owned(),
            column_title: "version".to_owned(),
            rows: labels(&order),
            columns: self.versions.into_iter().map(|(label, _)| label).collect(),
            cells,
            metric,
            panel: has_panel.then_some(panel),
        }
    }
}

/// What became of one tensor: its rows and columns, some of them together where there are many.
#[must_use]
pub fn of_inside(title: String, notes: Vec<String>, found: &Inside, metric: Metric) -> Heatmap {
    let (rows, columns) = found.grid;
    let cell = |(index, patch): (usize, &Patch)| {
        let mut values = Values::default();
        if patch.changed == 0 {
            return Cell {
                row: index / columns.max(1),
                column: index % columns.max(1),
                mark: Mark::Equal,
                values,
                entries: Vec::new(),
            };
        }
        values.set(Metric::Changed, Some(patch.changed_share()));
        values.set(Metric::Relative, patch.relative().or(Some(f64::INFINITY)));
        // Of types without words there are no steps.
        let has_steps = !(found.steps.down.is_empty() && found.steps.up.is_empty());
        values.set(Metric::MaxUlp, has_steps.then_some(patch.max_ulp as f64));
        let mark = if patch.lost == 0 { Mark::Value } else { Mark::NotFinite };
        Cell { row: index / columns.max(1), column: index % columns.max(1), mark, values, entries: Vec::new() }
    };
    Heatmap {
        title,
        notes,
        row_title: "rows".to_owned(),
        column_title: "columns".to_owned(),
        rows: spans("row", rows, found.matrix.0),
        columns: spans("column", columns, found.matrix.1),
        cells: found.patches.iter().enumerate().map(cell).collect(),
        metric,
        panel: None,
    }
}

/// Names for spans of `length` places in `count` parts: the same parts that a tensor is looked into by.
fn spans(what: &str, count: usize, length: u64) -> Vec<Label> {
    let span = |index: usize| {
        let (index, count) = (index as u64, count as u64);
        let (first, last) =
            ((index * length).div_ceil(count), ((index + 1) * length).div_ceil(count).saturating_sub(1));
        let full = if first == last { format!("{what} {first}") } else { format!("{what}s {first} to {last}") };
        Label { short: first.to_string(), full }
    };
    (0..count).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_leave_out_shared_folders() {
        assert_eq!(title("/data/run/a.st", "/data/run/b.st"), "a.st -> b.st");
        assert_eq!(title("/data/one/a.st", "/data/two/a.st"), "one/a.st -> two/a.st");
        assert_eq!(title("v1:model", "HEAD:model"), "v1:model -> HEAD:model");
        assert_eq!(title("a/b", "a"), "a/b -> a");
        assert_eq!(title("é/x", "è/x"), "é/x -> è/x");
    }

    #[test]
    fn labels_are_short_where_that_is_enough() {
        let layer = |name: &str| Layer { name: name.to_owned(), tensors: Vec::new() };
        let short = |names: &[&str]| -> Vec<String> {
            let layers: Vec<Layer> = names.iter().map(|name| layer(name)).collect();
            labels(&layers).into_iter().map(|label| label.short).collect()
        };
        assert_eq!(
            short(&["model.embed_tokens", "model.layers.0", "model.layers.10"]),
            ["embed_tokens", "layers.0", "layers.10"]
        );
        assert_eq!(short(&["encoder.layer.0", "decoder.layer.0"]), ["encoder.layer.0", "decoder.layer.0"]);
        assert_eq!(short(&["", "0"]), ["", "0"]);
    }

    #[test]
    fn spans_are_those_that_tensors_are_looked_into_by() {
        for (count, length) in [(1, 1), (3, 10), (64, 100), (64, 64), (7, 7000)] {
            for place in 0..length {
                let part = place * count as u64 / length;
                let label = &spans("row", count, length)[part as usize];
                let first: u64 = label.short.parse().unwrap();
                assert!(first <= place, "{place} of {length} in {count}: {label:?}");
            }
        }
        assert_eq!(spans("row", 2, 5)[1].full, "rows 3 to 4");
    }
}
