//! Where everything of a picture is.

use shard_core::text::visible;

use super::{Anchor, FAINT, MUTED, PAGE, Picture, Shape, Style, TEXT, legend, panel};
use crate::color::{Rgb, color, fill, ink};
use crate::fit::every;
use crate::grid::{Axis, Grid, Heads, Place, row_labels, summary};
use crate::map::{Heatmap, Mark};
use crate::scale::Scale;

/// Around the picture.
const MARGIN: f64 = 28.0;
/// The map at most, and the narrowest that text beside or below it may be.
const MAP: f64 = 1200.0;
const NARROWEST: f64 = 520.0;
/// Cells at most, at least, and as wide as they get to show values.
const TALLEST: f64 = 24.0;
const WIDEST: f64 = 28.0;
const LEAST: f64 = 2.0;
const VALUES: f64 = 64.0;
/// How wide a map with such cells may be.
const VALUES_MAP: f64 = 860.0;
/// More places than that make large files that nobody can look through.
const PLACES: usize = 40_000;
/// The smallest cells with a line between them, and the smallest with a label each or a glyph in them.
const APART: f64 = 7.0;
const LABELLED: f64 = 13.0;
/// The longest that labels of rows, and heads that run upwards, may be.
const LONGEST: f64 = 200.0;
const HIGHEST: f64 = 130.0;
/// Between labels and map.
const GAP: f64 = 8.0;
/// The most lines of a title and of a note, and the most notes.
const LINES: usize = 4;
const NOTES: usize = 24;
/// The most tensors that are named where somebody points, and how long their names may be.
const NAMED: usize = 5;
const NAME: usize = 120;

const TITLE: Style = Style::new(17.0, TEXT).bold();
const NOTE: Style = Style::new(12.5, MUTED);
pub(super) const LABEL: Style = Style::new(11.0, TEXT);
pub(super) const QUIET: Style = Style::new(11.0, MUTED);
const VALUE: Style = Style::new(10.0, TEXT).anchored(Anchor::Middle);
const GLYPH: Style = Style::new(12.0, TEXT).anchored(Anchor::Middle);

/// A picture that is being drawn, from the top down.
pub(super) struct Sheet {
    pub(super) shapes: Vec<Shape>,
    /// How far down it is drawn.
    pub(super) y: f64,
    /// From the left margin: how wide it is.
    pub(super) width: f64,
    /// Where the map begins.
    pub(super) left: f64,
    /// The width and the height of cells.
    pub(super) cell: (f64, f64),
}

impl Sheet {
    pub(super) fn words(&mut self, x: f64, y: f64, text: impl Into<String>, style: Style) {
        let text = text.into();
        if !text.is_empty() {
            self.shapes.push(Shape::Words { x, y, text, style });
        }
    }

    pub(super) fn area(&mut self, [x, y, width, height]: [f64; 4], fill: Rgb, tip: String) {
        self.shapes.push(Shape::Area { x, y, width, height, fill, tip });
    }

    /// An empty area with a thin line around it.
    pub(super) fn frame(&mut self, [x, y, width, height]: [f64; 4]) {
        self.area([x, y, width, height], FAINT, String::new());
        self.area([x + 1.0, y + 1.0, width - 2.0, height - 2.0], PAGE, String::new());
    }

    /// Text in as many lines as it needs, up to a bound.
    pub(super) fn paragraph(&mut self, text: &str, style: Style) {
        // Other fonts than that which it is measured with may be wider.
        let room = self.width * 0.93;
        let text = style.shorten(&visible(text), room * (LINES as f64 - 0.5));
        for line in style.wrap(&text, room).into_iter().take(LINES) {
            self.y += style.size * 1.42;
            self.words(MARGIN, self.y, line, style);
        }
    }

    /// Where everything but the map begins.
    pub(super) fn margin(&self) -> f64 {
        MARGIN
    }

    /// How much of a cell is drawn, so that a line is left between cells.
    pub(super) fn drawn(length: f64) -> f64 {
        if length >= APART { length - 1.0 } else { length }
    }
}

/// The picture of a map.
pub(super) fn picture(map: &Heatmap) -> Picture {
    let (rows, columns) = axes(map.rows.len(), map.columns.len());
    let grid = Grid::new(map, rows, columns);
    let mut sheet = Sheet { shapes: Vec::new(), y: MARGIN - 6.0, width: NARROWEST, left: MARGIN, cell: (0.0, 0.0) };
    let labels: Vec<String> = row_labels(map, rows).iter().map(|label| LABEL.shorten(label, LONGEST)).collect();
    if let Some(grid) = &grid {
        let row_title = [LABEL.shorten(&visible(&map.row_title), LONGEST)];
        let names = labels.iter().chain(&row_title).map(|label| LABEL.width(label));
        let names = names.chain(map.panel.iter().map(|_| panel::AXIS)).fold(0.0, f64::max);
        sheet.left = (MARGIN + names + GAP).ceil();
        sheet.cell = cell(grid, map);
        let right = sheet.left + sheet.cell.0 * grid.columns.len() as f64;
        sheet.width = (right - MARGIN).max(NARROWEST);
    }
    sheet.paragraph(&map.title, TITLE);
    sheet.y += 4.0;
    for note in map.notes.iter().take(NOTES) {
        sheet.paragraph(note, NOTE);
    }
    let Some(grid) = grid else {
        sheet.y += 12.0;
        sheet.paragraph("There are no tensors to show.", LABEL);
        return finish(sheet, map);
    };
    for note in grid.notes() {
        sheet.paragraph(&note, NOTE);
    }
    sheet.y += 20.0;
    heads(&mut sheet, &grid.heads(), &visible(&map.row_title));
    body(&mut sheet, map, &grid, &labels);
    if let Some(panel) = &map.panel {
        panel::draw(&mut sheet, &grid, &grid.versions(panel));
        for line in summary(map) {
            sheet.paragraph(&line, QUIET);
        }
    }
    legend::draw(&mut sheet, map, &grid);
    finish(sheet, map)
}

fn finish(sheet: Sheet, map: &Heatmap) -> Picture {
    Picture {
        width: (sheet.width + 2.0 * MARGIN).ceil(),
        height: (sheet.y + MARGIN).ceil(),
        title: map.title.clone(),
        shapes: sheet.shapes,
    }
}

/// Rows and columns on as many places as a picture has.
fn axes(rows: usize, columns: usize) -> (Axis, Axis) {
    let most = (MAP / LEAST) as usize;
    let side = PLACES.isqrt();
    // Where both are many, both are bounded; where one is few, the other may be more.
    let room = |other: usize| (PLACES / other.clamp(1, side)).min(most);
    (Axis::fit(rows, room(columns)), Axis::fit(columns, room(rows)))
}

/// The width and the height of cells: wide enough for values where they have room, and else nearly square.
fn cell(grid: &Grid<'_>, map: &Heatmap) -> (f64, f64) {
    let fit = |count: usize, most: f64| (MAP / count.max(1) as f64).floor().clamp(LEAST, most);
    let (rows, columns) = (grid.rows.len(), grid.columns.len());
    let heads = grid.heads().labels.iter().map(|label| LABEL.width(label) + 10.0).fold(0.0, f64::max);
    let wanted = (longest_value(grid, map) + 14.0).max(heads.min(VALUES)).ceil();
    let wide = wanted <= VALUES && wanted * columns as f64 <= VALUES_MAP;
    let width = if wide { wanted.max(WIDEST) } else { fit(columns, WIDEST) };
    (width, fit(rows, TALLEST))
}

/// Pixels of the longest value.
fn longest_value(grid: &Grid<'_>, map: &Heatmap) -> f64 {
    let values = grid.places().filter_map(|place| place.values.get(map.metric));
    values.map(|value| VALUE.width(&map.metric.short(value))).fold(0.0, f64::max)
}

/// What stands above the columns, and left of it what the rows are.
fn heads(sheet: &mut Sheet, heads: &Heads, row_title: &str) {
    let (cell, left) = (sheet.cell.0, sheet.left);
    let room = sheet.width + MARGIN - left;
    if !heads.title.is_empty() {
        sheet.y += QUIET.size;
        sheet.words(left, sheet.y, QUIET.shorten(&heads.title, room), QUIET);
        sheet.y += 8.0;
    }
    let center = |index: usize| left + (index as f64 + 0.5) * cell - 0.5;
    let fits = |label: &str| LABEL.width(label) + 4.0 <= cell;
    if heads.counting || heads.labels.iter().all(|label| fits(label)) {
        let longest = heads.labels.iter().map(|label| LABEL.width(label)).fold(0.0, f64::max);
        let every = if longest + 4.0 <= cell { 1 } else { every(cell as usize, longest as usize + 9) };
        sheet.y += LABEL.size;
        for (index, label) in heads.labels.iter().enumerate().step_by(every) {
            let label = LABEL.shorten(label, room);
            // Not further left than the map, where the name of the rows is.
            let x = center(index).max(left + LABEL.width(&label) / 2.0);
            sheet.words(x, sheet.y, label, LABEL.anchored(Anchor::Middle));
            if every > 1 {
                let points = vec![(center(index), sheet.y + 3.5), (center(index), sheet.y + 5.5)];
                sheet.shapes.push(Shape::Line { points, width: 1.0, color: FAINT });
            }
        }
    } else {
        let labels: Vec<String> = heads.labels.iter().map(|label| LABEL.shorten(label, HIGHEST)).collect();
        sheet.y += labels.iter().map(|label| LABEL.width(label)).fold(0.0, f64::max).ceil();
        for (index, label) in labels.into_iter().enumerate().step_by(every(cell as usize, LABELLED as usize)) {
            if cell > WIDEST && fits(&label) {
                sheet.words(center(index), sheet.y, label, LABEL.anchored(Anchor::Middle));
            } else {
                sheet.words((center(index) + LABEL.middle()).round(), sheet.y, label, LABEL.upward());
            }
        }
    }
    let title = QUIET.shorten(row_title, LONGEST);
    sheet.words(left - GAP, sheet.y, title, QUIET.anchored(Anchor::End));
    // From here on edges are on whole pixels.
    sheet.y = (sheet.y + GAP).round();
}

/// The cells, and the labels of the rows beside them.
fn body(sheet: &mut Sheet, map: &Heatmap, grid: &Grid<'_>, labels: &[String]) {
    let (width, height) = sheet.cell;
    let scale = map.scale(map.metric);
    let with_values = height >= 16.0 && longest_value(grid, map) + 6.0 <= width;
    let (full_rows, full_columns) = (grid.full_rows(), grid.full_columns());
    let (top, left) = (sheet.y, sheet.left);
    let step = every(height as usize, LABELLED as usize);
    let (across, down) = (width * grid.columns.len() as f64, height * grid.rows.len() as f64);
    // A frame, so that it is seen where the map ends if there is nothing at its edge.
    sheet.frame([left - 2.0, top - 2.0, across + 3.0, down + 3.0]);
    for (row, label) in labels.iter().enumerate() {
        let y = top + row as f64 * height;
        if row % step == 0 {
            let line = y + (height / 2.0 + LABEL.middle()).round();
            sheet.words(left - GAP, line, label.clone(), LABEL.anchored(Anchor::End));
        }
        for column in 0..grid.columns.len() {
            let Some(place) = grid.place(row, column) else { continue };
            let x = left + column as f64 * width;
            let names = [full_rows.get(row), full_columns.get(column)].map(|name| name.map_or("", String::as_str));
            let background = background(place, map, scale);
            let shown = (Sheet::drawn(width), Sheet::drawn(height));
            sheet.area([x, y, shown.0, shown.1], background, tip(place, map, names));
            let middle = (x + shown.0 / 2.0, y + shown.1 / 2.0);
            inscription(sheet, map, place, middle, with_values, ink(background));
        }
    }
    sheet.y = top + down;
}

/// Glyph or value of a cell, or both, where there is room.
fn inscription(sheet: &mut Sheet, map: &Heatmap, place: &Place<'_>, (x, y): (f64, f64), with_values: bool, ink: Rgb) {
    let (width, height) = sheet.cell;
    if height < LABELLED || width < LABELLED {
        return;
    }
    let glyph = place.glyph(map.metric).map(String::from).unwrap_or_default();
    let value = place.values.get(map.metric).filter(|_| with_values).map(|value| map.metric.short(value));
    let (text, style) = match value {
        Some(value) if glyph.is_empty() => (value, VALUE),
        Some(value) if VALUE.width(&glyph) + VALUE.width(&value) + 8.0 <= width => (format!("{glyph} {value}"), VALUE),
        _ => (glyph, GLYPH),
    };
    let quiet = matches!(place.mark, Mark::Equal | Mark::Renamed) && style.size == GLYPH.size;
    let color = if quiet && ink == [0; 3] { MUTED } else { ink };
    sheet.words(x, (y + style.middle()).round(), text, Style { color, ..style });
}

/// The colour of a cell: that of its value or of its mark.
fn background(place: &Place<'_>, map: &Heatmap, scale: Option<Scale>) -> Rgb {
    let position = place.values.get(map.metric).zip(scale).map(|(value, scale)| scale.position(value));
    match position {
        Some(position) if !place.is_filled(map.metric) => color(position),
        _ => fill(place.mark),
    }
}

/// What is told to whoever points at a cell.
fn tip(place: &Place<'_>, map: &Heatmap, [row, column]: [&str; 2]) -> String {
    let mut lines = vec![format!("{row}, {column}")];
    let mark = place.mark.as_str();
    lines.push(match place.values.get(map.metric) {
        Some(value) => format!("{mark}: {} {}", map.metric.title(), map.metric.short(value)),
        None => mark.to_owned(),
    });
    let entries = || place.cells.iter().flat_map(|cell| &cell.entries);
    let name = |text: &str| {
        let text = visible(text);
        match text.char_indices().nth(NAME) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text.into_owned(),
        }
    };
    for entry in entries().take(NAMED) {
        lines.push(match &entry.old_name {
            Some(old) => format!("{} (was {})", name(&entry.name), name(old)),
            None => name(&entry.name),
        });
    }
    match entries().count() {
        more if more > NAMED => lines.push(format!("and {} more", more - NAMED)),
        _ => {}
    }
    lines.join("\n")
}
