//! What colours and glyphs mean.

use super::layout::{LABEL, QUIET, Sheet};
use super::{Anchor, FAINT, MUTED, PAGE, Shape, Style};
use crate::color::{color, fill, ink};
use crate::grid::Grid;
use crate::map::Heatmap;
use crate::scale::Scale;

/// The colour bar.
const BAR: (f64, f64) = (320.0, 12.0);
/// A piece of it.
const PIECE: f64 = 2.0;
/// The square before a meaning.
const SWATCH: f64 = 16.0;

pub(super) fn draw(sheet: &mut Sheet, map: &Heatmap, grid: &Grid<'_>) {
    sheet.y = (sheet.y + 28.0).round();
    if let Some(scale) = map.scale(map.metric) {
        bar(sheet, &scale);
        sheet.y += 14.0;
    }
    keys(sheet, map, grid);
}

/// The colours from the least change to the largest, and the values below them.
fn bar(sheet: &mut Sheet, scale: &Scale) {
    let left = sheet.margin();
    sheet.y += LABEL.size;
    sheet.words(left, sheet.y, scale.metric().title(), LABEL.bold());
    sheet.y += 8.0;
    let (length, height) = BAR;
    let pieces = (length / PIECE) as usize;
    for piece in 0..pieces {
        let position = piece as f64 / (pieces - 1) as f64;
        sheet.area([left + piece as f64 * PIECE, sheet.y, PIECE, height], color(position), String::new());
    }
    sheet.y += height;
    let ticks = scale.spaced_ticks(|tick| {
        let (middle, half) = (tick.position * length, QUIET.width(&tick.label) / 2.0);
        // The first and the last may reach beyond the bar a little.
        (middle - half - 5.0, middle + half + 5.0)
    });
    for (tick, _) in ticks {
        let x = left + tick.position * length;
        let points = vec![(x, sheet.y + 1.5), (x, sheet.y + 4.0)];
        sheet.shapes.push(Shape::Line { points, width: 1.0, color: FAINT });
        let half = QUIET.width(&tick.label) / 2.0;
        // At the margin a label begins where the bar does.
        let (x, anchor) = if x - half < left { (left, Anchor::Start) } else { (x, Anchor::Middle) };
        sheet.words(x, sheet.y + 16.0, tick.label, QUIET.anchored(anchor));
    }
    sheet.y += 16.0;
}

/// The fills and glyphs that occur, in as many lines as they need.
fn keys(sheet: &mut Sheet, map: &Heatmap, grid: &Grid<'_>) {
    let left = sheet.margin();
    let end = left + sheet.width;
    let mut x = left;
    let keys = grid.keys(map.metric);
    if keys.is_empty() {
        return;
    }
    sheet.y += 6.0;
    for key in keys {
        let length = SWATCH + 6.0 + LABEL.width(key.meaning);
        if x > left && x + length > end {
            x = left;
            sheet.y += SWATCH + 8.0;
        }
        let place = [x, sheet.y, SWATCH, SWATCH];
        let line = (sheet.y + SWATCH / 2.0 + LABEL.middle()).round();
        let background = if key.filled { fill(key.mark) } else { PAGE };
        if key.filled {
            sheet.area(place, background, String::new());
        } else {
            sheet.frame(place);
        }
        if let Some(glyph) = key.glyph {
            let style = Style { color: ink(background), ..LABEL.anchored(Anchor::Middle) };
            sheet.words(x + SWATCH / 2.0, line, glyph, style);
        }
        sheet.words(x + SWATCH + 6.0, line, key.meaning, Style { color: MUTED, ..LABEL });
        x += length + 18.0;
    }
    sheet.y += SWATCH;
}
