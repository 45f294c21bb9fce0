//! A map as it is drawn: on as many places as there is room for.

use std::ops::Range;

use shard_core::size::{human, ratio, ratio_value};
use shard_core::text::visible;

use crate::map::{Cell, Heatmap, Label, Mark, Panel, Version};
use crate::metric::{Metric, Values};

/// Stands for tensors that changed and of which the metric is not known.
const UNMEASURED: char = '?';

/// Rows or columns, of which neighbours are one where there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    count: usize,
    /// How many are one; at least 1.
    group: usize,
}

impl Axis {
    /// So many rows or columns on at most so many places.
    pub(crate) fn fit(count: usize, room: usize) -> Self {
        Self { count, group: count.div_ceil(room.max(1)).max(1) }
    }

    /// How many are drawn.
    pub(crate) fn len(self) -> usize {
        self.count.div_ceil(self.group)
    }

    /// The indices that a place stands for.
    fn range(self, place: usize) -> Range<usize> {
        let start = place.saturating_mul(self.group).min(self.count);
        start..start.saturating_add(self.group).min(self.count)
    }

    fn is_merged(self) -> bool {
        self.group > 1
    }
}

/// What is drawn at a place.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// What happened to the most remarkable tensor.
    pub(crate) mark: Mark,
    /// Of each metric the value of the largest change.
    pub(crate) values: Values,
    /// The cells that are drawn here.
    pub(crate) cells: Vec<&'a Cell>,
}

impl Place<'_> {
    /// The character that stands for what the colour of a metric does not tell.
    pub(crate) fn glyph(&self, metric: Metric) -> Option<char> {
        self.mark.glyph().or(if self.values.get(metric).is_none() { Some(UNMEASURED) } else { None })
    }

    /// Whether a picture gives it the colour of its mark: where there is no value, and what is not finite whatever its value.
    pub(crate) fn is_filled(&self, metric: Metric) -> bool {
        self.mark == Mark::NotFinite || self.values.get(metric).is_none()
    }
}

/// What is to be said of a glyph or a fill that occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// `None` for places without tensors.
    pub(crate) glyph: Option<char>,
    pub(crate) mark: Mark,
    /// Whether the colour of the mark occurs.
    pub(crate) filled: bool,
    pub(crate) meaning: &'static str,
}

/// A map on as many places as there is room for.
#[derive(Debug)]
pub(crate) struct Grid<'a> {
    map: &'a Heatmap,
    pub(crate) rows: Axis,
    pub(crate) columns: Axis,
    /// Row by row.
    places: Vec<Option<Place<'a>>>,
}

impl<'a> Grid<'a> {
    /// `None` where there is nothing to draw. Cells beyond the rows and columns are left out.
    pub(crate) fn new(map: &'a Heatmap, rows: Axis, columns: Axis) -> Option<Self> {
        let mut places: Vec<Option<Place<'a>>> = Vec::new();
        places.resize_with(rows.len() * columns.len(), || None);
        let mut found = false;
        for cell in map.cells.iter().filter(|cell| cell.row < rows.count && cell.column < columns.count) {
            let index = cell.row / rows.group * columns.len() + cell.column / columns.group;
            let Some(slot) = places.get_mut(index) else { continue };
            let place = slot.get_or_insert_with(|| Place { mark: cell.mark, values: cell.values, cells: Vec::new() });
            place.mark = place.mark.max(cell.mark);
            place.values = Values::largest([&place.values, &cell.values].into_iter());
            place.cells.push(cell);
            found = true;
        }
        found.then_some(Self { map, rows, columns, places })
    }

    pub(crate) fn place(&self, row: usize, column: usize) -> Option<&Place<'a>> {
        self.places.get(row * self.columns.len() + column)?.as_ref()
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place<'a>> {
        self.places.iter().flatten()
    }

    /// The full names of rows, safe to print.
    pub(crate) fn full_rows(&self) -> Vec<String> {
        labels(self.rows, &self.map.rows, |label| &label.full)
    }

    /// The full names of columns, safe to print.
    pub(crate) fn full_columns(&self) -> Vec<String> {
        labels(self.columns, &self.map.columns, |label| &label.full)
    }

    /// What stands above the columns.
    pub(crate) fn heads(&self) -> Heads {
        Heads::new(&self.map.column_title, labels(self.columns, &self.map.columns, |label| &label.short))
    }

    /// What each column's versions take. Of several that are one it is that which takes the most.
    pub(crate) fn versions(&self, panel: &Panel) -> Vec<Option<Version>> {
        let of = |range: Range<usize>| {
            let known = panel.versions.get(range.start..range.end.min(panel.versions.len())).unwrap_or_default();
            known.iter().flatten().copied().max_by_key(|version| version.stored)
        };
        (0..self.columns.len()).map(|column| of(self.columns.range(column))).collect()
    }

    /// What is to be said of places that stand for several.
    pub(crate) fn notes(&self) -> Vec<String> {
        let axes = [(self.rows, "row"), (self.columns, "column")];
        let merged = axes.into_iter().filter(|(axis, _)| axis.is_merged());
        let note = |(axis, noun): (Axis, &str)| {
            format!("Each {noun} is {} neighbours in one: the largest change of them is shown.", axis.group)
        };
        merged.map(note).collect()
    }

    /// The glyphs that occur, in the order of the marks, and what no tensors look like, where some are missing.
    pub(crate) fn keys(&self, metric: Metric) -> Vec<Key> {
        let mut keys = Vec::new();
        for mark in Mark::ALL {
            let glyph = mark.glyph().unwrap_or(UNMEASURED);
            let mut places =
                self.places().filter(|place| place.mark == mark && place.glyph(metric) == Some(glyph)).peekable();
            if places.peek().is_some() {
                let meaning = if mark == Mark::Value { "changed, not measured" } else { mark.as_str() };
                keys.push(Key {
                    glyph: Some(glyph),
                    mark,
                    filled: places.any(|place| place.is_filled(metric)),
                    meaning,
                });
            }
        }
        if self.places.iter().any(Option::is_none) {
            keys.push(Key { glyph: None, mark: Mark::Equal, filled: false, meaning: "no such tensor" });
        }
        keys
    }
}

/// The heads of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heads {
    /// What the columns are, with the words that all heads began with: `version: step`.
    pub(crate) title: String,
    /// Safe to print.
    pub(crate) labels: Vec<String>,
    /// Whether they are numbers in a row, so that some of them tell the others.
    pub(crate) counting: bool,
}

impl Heads {
    /// Words that all labels begin with are said once.
    fn new(title: &str, mut labels: Vec<String>) -> Self {
        let mut title = visible(title).into_owned();
        let first = labels.first().map_or("", String::as_str);
        let common = labels.iter().skip(1).fold(first, |common, label| {
            let same = common.char_indices().zip(label.chars()).take_while(|((_, a), b)| a == b);
            let end = same.last().map_or(0, |((at, a), _)| at + a.len_utf8());
            common.get(..end).unwrap_or_default()
        });
        let end = common.char_indices().rfind(|(_, c)| !c.is_ascii_digit()).map_or(0, |(at, c)| at + c.len_utf8());
        let prefix = first.get(..end).unwrap_or_default().to_owned();
        let rest = |label: &String| label.get(end..).unwrap_or_default().to_owned();
        let counting = labels.len() > 1 && labels.iter().map(rest).all(|label| counts(&label));
        if counting {
            labels = labels.iter().map(rest).collect();
            let word = prefix.trim();
            if !word.is_empty() && word != title {
                title = format!("{title}{}{word}", if title.is_empty() { "" } else { ": " });
            }
        }
        Self { title, labels, counting }
    }
}

/// The short names of a map's rows, safe to print.
pub(crate) fn row_labels(map: &Heatmap, rows: Axis) -> Vec<String> {
    labels(rows, &map.rows, |label| &label.short)
}

/// Whether a label is a number, or a range of numbers.
fn counts(label: &str) -> bool {
    label.starts_with(|c: char| c.is_ascii_digit()) && label.chars().all(|c| c.is_ascii_digit() || "-.kM".contains(c))
}

fn labels<'a>(axis: Axis, all: &'a [Label], text: impl Fn(&'a Label) -> &'a str) -> Vec<String> {
    let get = |index: usize| all.get(index).map(|label| visible(text(label))).unwrap_or_default();
    let label = |place: usize| {
        let range = axis.range(place);
        let (first, last) = (get(range.start), get(range.end.saturating_sub(1)));
        if range.len() > 1 { between(&first, &last) } else { first.into_owned() }
    };
    (0..axis.len()).map(label).collect()
}

/// What stands for a row of labels: `3-5`, `step 10-30`, `q-gate`.
fn between(first: &str, last: &str) -> String {
    let digits = |text: &str| text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (first_word, first_number) = first.split_at(first.len() - digits(first));
    let (last_word, last_number) = last.split_at(last.len() - digits(last));
    if first_word == last_word && !first_number.is_empty() && !last_number.is_empty() {
        format!("{first}-{last_number}")
    } else {
        format!("{first}-{last}")
    }
}

/// What the versions of a series take, in words: the least, the most, and all together. Safe to print.
pub(crate) fn summary(map: &Heatmap) -> Vec<String> {
    let Some(panel) = &map.panel else { return Vec::new() };
    let known = panel.versions.iter().take(map.columns.len()).enumerate();
    let known: Vec<(usize, Version)> = known.filter_map(|(index, version)| Some((index, (*version)?))).collect();
    let name = |index: usize| map.columns.get(index).map(|label| visible(&label.short)).unwrap_or_default();
    let mut lines = Vec::new();
    let total = known.iter().fold(Version::default(), |total, (_, version)| Version {
        raw: total.raw.saturating_add(version.raw),
        stored: total.stored.saturating_add(version.stored),
    });
    let by_stored = |entry: &&(usize, Version)| entry.1.stored;
    if let (Some(least), Some(most)) = (known.iter().min_by_key(by_stored), known.iter().max_by_key(by_stored)) {
        let of = |(index, version): (usize, Version)| format!("{} ({})", human(version.stored), name(index));
        lines.push(format!("stored: {} to {}, {} in all", of(*least), of(*most), human(total.stored)));
    }
    let ratios =
        known.iter().filter_map(|(index, version)| Some((*index, *version, ratio_value(version.raw, version.stored)?)));
    let ratios: Vec<(usize, Version, f64)> = ratios.collect();
    let by_ratio = |a: &&(usize, Version, f64), b: &&(usize, Version, f64)| a.2.total_cmp(&b.2);
    if let (Some(least), Some(most)) = (ratios.iter().min_by(by_ratio), ratios.iter().max_by(by_ratio)) {
        let of = |(index, version, _): (usize, Version, f64)| {
            format!("{} ({})", ratio(version.raw, version.stored), name(index))
        };
        let all = ratio(total.raw, total.stored);
        lines.push(format!("raw / stored: {} to {}, {all} over all", of(*least), of(*most)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels_of(texts: &[&str]) -> Vec<Label> {
        texts.iter().map(|text| Label { short: (*text).to_owned(), full: format!("full {text}") }).collect()
    }

    fn map(rows: usize, columns: usize) -> Heatmap {
        let number = |prefix: &str, count: usize| -> Vec<Label> {
            (0..count).map(|index| Label { short: format!("{prefix}{index}"), full: index.to_string() }).collect()
        };
        Heatmap {
            title: String::new(),
            notes: Vec::new(),
            row_title: "layer".to_owned(),
            column_title: "version".to_owned(),
            rows: number("", rows),
            columns: number("step ", columns),
            cells: Vec::new(),
            metric: Metric::Relative,
            panel: None,
        }
    }

    fn cell(row: usize, column: usize, mark: Mark, value: f64) -> Cell {
        let mut values = Values::default();
        values.set(Metric::Relative, Some(value));
        Cell { row, column, mark, values, entries: Vec::new() }
    }

    #[test]
    fn axes_fit_their_room() {
        assert_eq!((Axis::fit(10, 20).len(), Axis::fit(10, 10).len(), Axis::fit(10, 9).len()), (10, 10, 5));
        assert_eq!((Axis::fit(10, 4).len(), Axis::fit(10, 4).range(3)), (4, 9..10));
        assert_eq!((Axis::fit(0, 4).len(), Axis::fit(7, 0).len(), Axis::fit(7, 0).range(0)), (0, 1, 0..7));
    }

    #[test]
    fn of_merged_places_the_largest_change_is_kept() {
        let mut map = map(5, 3);
        map.cells = vec![
            cell(3, 0, Mark::Value, 0.5),
            cell(4, 0, Mark::Equal, 0.0),
            cell(2, 2, Mark::Added, 0.1),
            cell(9, 0, Mark::NotFinite, 9.0),
        ];
        let grid = Grid::new(&map, Axis::fit(5, 3), Axis::fit(3, 3)).unwrap();
        assert_eq!(row_labels(&map, grid.rows), ["0-1", "2-3", "4"]);
        assert_eq!(
            grid.heads(),
            Heads {
                title: "version: step".to_owned(),
                labels: vec!["0".to_owned(), "1".to_owned(), "2".to_owned()],
                counting: true
            }
        );
        assert!(grid.place(0, 0).is_none() && grid.place(9, 9).is_none());
        assert_eq!(grid.place(1, 0).unwrap().values.get(Metric::Relative), Some(0.5));
        assert_eq!(grid.notes(), ["Each row is 2 neighbours in one: the largest change of them is shown."]);
        assert_eq!(grid.places().count(), 3, "a cell of a row that there is not is left out");

        let one = Grid::new(&map, Axis::fit(5, 1), Axis::fit(3, 1)).unwrap();
        let place = one.place(0, 0).unwrap();
        assert_eq!((place.mark, place.values.get(Metric::Relative), place.cells.len()), (Mark::Added, Some(0.5), 3));
        assert_eq!(one.heads().labels, ["step 0-2"]);
        map.cells.clear();
        assert!(Grid::new(&map, Axis::fit(5, 3), Axis::fit(3, 3)).is_none());
    }

    #[test]
    fn only_what_occurs_is_in_the_key() {
        let mut map = map(1, 4);
        map.cells = vec![cell(0, 0, Mark::Value, 0.5), cell(0, 1, Mark::Value, f64::NAN), cell(0, 2, Mark::Added, 0.5)];
        let grid = Grid::new(&map, Axis::fit(1, 1), Axis::fit(4, 4)).unwrap();
        let keys: Vec<(Option<char>, &str)> =
            grid.keys(Metric::Relative).iter().map(|key| (key.glyph, key.meaning)).collect();
        assert_eq!(keys, [(Some('?'), "changed, not measured"), (Some('+'), "added"), (None, "no such tensor")]);
    }

    #[test]
    fn heads_that_do_not_count_stay_as_they_are() {
        let heads =
            |texts: &[&str]| Heads::new("kind", labels(Axis::fit(texts.len(), 99), &labels_of(texts), |l| &l.short));
        assert_eq!(heads(&["up proj", "up norm"]).labels, ["up proj", "up norm"]);
        assert!(!heads(&["q", "k"]).counting && !heads(&[]).counting && !heads(&["3"]).counting);
        assert_eq!(heads(&["kind 1", "kind 20"]).title, "kind");
        assert_eq!(heads(&["v 1.5", "v 2k", "v\u{1b}"]).labels, ["v 1.5", "v 2k", "v\\u{1b}"]);
        assert_eq!(
            (between("q", "gate"), between("a 1", "b 2"), between("3", "5")),
            ("q-gate".into(), "a 1-b 2".into(), "3-5".into())
        );
    }

    #[test]
    fn the_least_and_the_most_are_named() {
        let mut map = map(1, 4);
        let version = |raw, stored| Some(Version { raw, stored });
        map.panel = Some(Panel {
            versions: vec![version(1000, 800), None, version(1000, 10), version(1000, 0), version(1, 1)],
        });
        assert_eq!(
            summary(&map),
            [
                "stored: 0 B (step 3) to 800 B (step 0), 810 B in all",
                "raw / stored: 1.25x (step 0) to 100x (step 2), 3.70x over all"
            ]
        );
        map.panel = Some(Panel::default());
        assert!(summary(&map).is_empty());
        map.cells = vec![cell(0, 0, Mark::Value, 0.5)];
        let grid = Grid::new(&map, Axis::fit(1, 1), Axis::fit(4, 2)).unwrap();
        let versions = grid.versions(&Panel { versions: vec![version(9, 1), version(9, 3), None] });
        assert_eq!(versions, [version(9, 3), None]);
    }
}
