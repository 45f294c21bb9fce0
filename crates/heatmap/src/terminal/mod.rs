//! A map as text.

mod heads;
mod legend;
mod line;
mod paint;
mod panel;

use shard_core::text::visible;

use crate::grid::{Axis, Grid, Heads, Place, row_labels, summary};
use crate::map::Heatmap;
use crate::metric::Metric;
use crate::scale::Scale;
use line::{Line, center, right, shorten, width, wrap};
use paint::Paint;

/// Columns where nobody says how many there are.
const PIPED: usize = 100;
/// The fewest and the most columns that are written.
const WIDTHS: (usize, usize) = (20, 2000);
/// Rows of the map where nobody says how many may be.
const ROWS: usize = 100;
/// The widest that cells get, and the widest that they get where heads or values need it.
const CELLS: (usize, usize) = (8, 12);
/// Columns of a character before a value.
const LEAD: usize = 2;
/// The narrowest cells that show values.
const VALUES: usize = 6;
/// The most lines that a title or a note takes.
const LINES: usize = 8;

/// What colours a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colors {
    /// None: no escape sequences, and nothing beyond ASCII but what names have. Characters tell the values.
    #[default]
    Plain,
    /// The sixteen of ECMA-48 and its followers. Characters tell the values too, as palettes differ.
    Sixteen,
    /// The 256 of xterm.
    TwoFiftySix,
    /// Red, green and blue of eight bits each.
    True,
}

/// How a map is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextOptions {
    /// Columns that a line has at most; at least 20. `None` where the text goes to a file or pipe: 100.
    pub width: Option<usize>,
    /// Lines that the rows of the map take at most; `None`: 100. Where there are more rows, neighbours are one.
    pub height: Option<usize>,
    /// What colours there are.
    pub colors: Colors,
}

/// A map as text: title and notes, a line a row, what a series takes, and what colours and glyphs mean. Every line ends in a line feed
/// and fits the width.
#[must_use]
pub fn text(map: &Heatmap, options: &TextOptions) -> String {
    let width = options.width.unwrap_or(PIPED).clamp(WIDTHS.0, WIDTHS.1);
    let mut page = Page { width, paint: Paint::new(options.colors), out: String::new() };
    page.paragraph(page.paint.bold(), &map.title);
    for note in &map.notes {
        page.paragraph("", note);
    }
    let Some(sheet) = Sheet::new(map, width, options.height.unwrap_or(ROWS).max(1), page.paint) else {
        page.paragraph("", "There are no tensors to show.");
        return page.out;
    };
    for note in sheet.grid.notes() {
        page.paragraph(page.paint.dim(), &note);
    }
    page.gap();
    page.heads(map, &sheet);
    page.rows(&sheet);
    if let Some(panel) = &map.panel {
        page.gap();
        panel::write(&mut page, &sheet, &sheet.grid.versions(panel));
        for line in summary(map) {
            page.paragraph("", &line);
        }
    }
    page.gap();
    legend::write(&mut page, &sheet);
    page.out
}

/// What is written so far.
struct Page {
    width: usize,
    paint: Paint,
    out: String,
}

impl Page {
    /// Text in as many lines as it needs, up to a bound.
    fn paragraph(&mut self, style: &str, text: &str) {
        let text = shorten(&visible(text), self.width * LINES / 2, self.paint.dots());
        for part in wrap(&text, self.width).iter().take(LINES) {
            self.line(&[(style, part)]);
        }
    }

    fn line(&mut self, parts: &[(&str, &str)]) {
        let mut line = Line::default();
        for (style, text) in parts {
            line.put(style, text);
        }
        self.out.push_str(&line.finish());
    }

    /// An empty line, but not at the top.
    fn gap(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn heads(&mut self, map: &Heatmap, sheet: &Sheet<'_>) {
        let dim = self.paint.dim();
        if !sheet.heads.title.is_empty() {
            let title = shorten(&sheet.heads.title, self.width - sheet.margin - 1, self.paint.dots());
            self.line(&[("", &sheet.beside("")), (dim, &title)]);
        }
        let mut lines = heads::lines(sheet, self.width - sheet.margin - 1, self.paint.dots());
        let last = lines.pop().unwrap_or_default();
        for line in lines {
            self.line(&[("", &sheet.beside("")), ("", &line)]);
        }
        let title = shorten(&visible(&map.row_title), sheet.margin, self.paint.dots());
        self.line(&[(dim, &sheet.beside(&title)), ("", &last)]);
    }

    fn rows(&mut self, sheet: &Sheet<'_>) {
        for (row, label) in sheet.labels.iter().enumerate() {
            let mut line = Line::default();
            line.put("", &sheet.beside(&shorten(label, sheet.margin, self.paint.dots())));
            for column in 0..sheet.grid.columns.len() {
                let (style, text) = match sheet.grid.place(row, column) {
                    Some(place) => sheet.cell(place, self.paint),
                    None => (String::new(), " ".repeat(sheet.cell)),
                };
                line.put(&style, &text);
            }
            self.out.push_str(&line.finish());
        }
    }
}

/// The map, and how it is laid out.
struct Sheet<'a> {
    grid: Grid<'a>,
    heads: Heads,
    labels: Vec<String>,
    metric: Metric,
    scale: Option<Scale>,
    /// Columns for the labels of rows.
    margin: usize,
    /// Columns of a cell.
    cell: usize,
    /// How values are written, where they are.
    values: Option<Values>,
}

/// How values are written.
#[derive(Debug, Clone, Copy)]
struct Values {
    /// Columns of the longest.
    longest: usize,
    /// Columns before it for a character; none where there is no room for it.
    lead: usize,
}

impl<'a> Sheet<'a> {
    fn new(map: &'a Heatmap, room: usize, height: usize, paint: Paint) -> Option<Self> {
        let metric = map.metric;
        let rows = Axis::fit(map.rows.len(), height);
        let labels = row_labels(map, rows);
        let titles = [visible(&map.row_title)];
        let names = labels.iter().map(String::as_str).chain(titles.iter().map(AsRef::as_ref));
        let names = names.chain(map.panel.iter().flat_map(|_| panel::NAMES));
        let margin = names.map(width).max().unwrap_or(0).min((room / 3).max(6));
        let left = room - margin - 1;
        let grid = Grid::new(map, rows, Axis::fit(map.columns.len(), left))?;
        let heads = grid.heads();

        let shown = grid.places().filter_map(|place| place.values.get(metric));
        let longest = shown.map(|value| width(&metric.short(value))).max();
        let values = longest.map(|longest| Values { longest, lead: if paint.has_ramp() { LEAD } else { 0 } });
        let wanted = values.map_or(0, |values| values.longest + values.lead + 2);
        let wanted = heads.labels.iter().map(|head| width(head) + 2).max().unwrap_or(0).max(wanted);
        let cell = (left / grid.columns.len().max(1)).min(wanted.clamp(CELLS.0, CELLS.1)).max(1);
        let mut values = values.filter(|values| cell >= VALUES && values.lead + values.longest < cell);
        if let Some(values) = values.as_mut().filter(|values| LEAD + values.longest + 1 < cell) {
            values.lead = LEAD;
        }
        Some(Self { grid, heads, labels, metric, scale: map.scale(metric), margin, cell, values })
    }

    /// A text as it stands left of the cells, with what separates it from them.
    fn beside(&self, label: &str) -> String {
        format!("{} ", right(label, self.margin))
    }

    /// Style and text of a cell.
    fn cell(&self, place: &Place<'_>, paint: Paint) -> (String, String) {
        let glyph = place.glyph(self.metric);
        let value = place.values.get(self.metric);
        let coloured = value.filter(|_| !place.is_filled(self.metric)).zip(self.scale);
        let position = coloured.map(|(value, scale)| scale.position(value));
        let style = position.map_or_else(|| paint.glyph(place.mark).to_owned(), |position| paint.value(position));
        let ramp = position.and_then(|position| paint.ramp(position));
        let character = glyph.or(ramp).map(String::from).unwrap_or_default();
        let text = match (self.values, value) {
            (Some(Values { longest, lead }), Some(value)) if lead > 0 || glyph.is_none() => {
                let lead = if lead > 0 { format!("{character:<lead$}") } else { String::new() };
                format!("{lead}{}", right(&self.metric.short(value), longest))
            }
            (None, Some(_)) if paint.is_plain() && glyph.is_none() => character.repeat((self.cell - 1).max(1)),
            _ => character,
        };
        // Without colours it is a space that separates cells.
        let gap = usize::from(paint.is_plain() && self.cell > 1);
        (style, format!("{}{}", center(&text, self.cell - gap), " ".repeat(gap)))
    }
}
