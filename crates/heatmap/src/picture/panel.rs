//! What the versions of a series take, below their columns.

use shard_core::size::{human, ratio, ratio_value};

use super::layout::{LABEL, QUIET, Sheet};
use super::{Anchor, FAINT, MUTED, Shape};
use crate::color::Rgb;
use crate::grid::Grid;
use crate::map::Version;

/// Room for the labels of the vertical axes.
pub(super) const AXIS: f64 = 46.0;
/// A chart.
const HEIGHT: f64 = 64.0;
const BARS: Rgb = [0x8a, 0x97, 0xa8];
const CURVE: Rgb = [0x2b, 0x5f, 0x8a];

/// A value, and what is said of it.
type Known = Option<(f64, String)>;

/// Bars of what is stored, and a curve of how many times smaller it is.
pub(super) fn draw(sheet: &mut Sheet, grid: &Grid<'_>, versions: &[Option<Version>]) {
    let names = grid.full_columns();
    let tip = |index: usize, version: &Version| {
        let name = names.get(index).map_or("", String::as_str);
        let (stored, raw) = (human(version.stored), human(version.raw));
        format!("{name}\n{stored} stored of {raw}, {}", ratio(version.raw, version.stored))
    };
    let stored: Vec<Known> =
        versions.iter().map(|version| version.map(|v| (v.stored as f64, human(v.stored)))).collect();
    if let Some(base) = frame(sheet, "stored", &stored) {
        for (index, version) in versions.iter().enumerate() {
            let Some(version) = version else { continue };
            let height = base.height(version.stored as f64);
            let area = [sheet.left + index as f64 * sheet.cell.0, base.y - height, Sheet::drawn(sheet.cell.0), height];
            sheet.area(area, BARS, tip(index, version));
        }
    }
    let of = |version: &Version| Some((ratio_value(version.raw, version.stored)?, ratio(version.raw, version.stored)));
    let ratios: Vec<Known> = versions.iter().map(|version| version.as_ref().and_then(of)).collect();
    if let Some(base) = frame(sheet, "raw / stored", &ratios) {
        let point = |(index, value): (usize, &Known)| {
            let x = sheet.left + (index as f64 + 0.5) * sheet.cell.0 - 0.5;
            value.as_ref().map(|(value, _)| (x, base.y - base.height(*value)))
        };
        let points: Vec<Option<(f64, f64)>> = ratios.iter().enumerate().map(point).collect();
        for run in points.split(Option::is_none).map(|run| run.iter().flatten().copied().collect::<Vec<_>>()) {
            if !run.is_empty() {
                sheet.shapes.push(Shape::Line { points: run, width: 1.5, color: CURVE });
            }
        }
        // Dots where there is room for them.
        let dots = points.into_iter().flatten().filter(|_| sheet.cell.0 >= 8.0);
        let dots = dots.map(|point| Shape::Line { points: vec![point], width: 5.0, color: CURVE });
        sheet.shapes.extend(dots.collect::<Vec<_>>());
    }
    sheet.y += 10.0;
}

/// The line that a chart stands on.
struct Base {
    y: f64,
    most: f64,
}

impl Base {
    /// How high a value is, in half pixels, so that edges are sharp. Whatever is more than nothing is seen.
    fn height(&self, value: f64) -> f64 {
        let height = (value / self.most * HEIGHT * 2.0).round() / 2.0;
        if value > 0.0 { height.max(1.0) } else { 0.0 }
    }
}

/// Title, lines and labels of a chart; `None` where there is nothing to show.
fn frame(sheet: &mut Sheet, title: &str, values: &[Known]) -> Option<Base> {
    let (most, label) = values.iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(most, _)| *most > 0.0)?;
    sheet.y += 24.0 + LABEL.size;
    sheet.words(sheet.left, sheet.y, title, LABEL.bold());
    sheet.y = (sheet.y + 12.0).round();
    let across = sheet.cell.0 * values.len() as f64 - 1.0;
    for (y, label) in [(sheet.y, label.as_str()), (sheet.y + HEIGHT, "0")] {
        let points = vec![(sheet.left, y - 0.5), (sheet.left + across, y - 0.5)];
        let color = if label == "0" { MUTED } else { FAINT };
        sheet.shapes.push(Shape::Line { points, width: 1.0, color });
        sheet.words(sheet.left - 8.0, (y + QUIET.middle()).round(), label, QUIET.anchored(Anchor::End));
    }
    sheet.y += HEIGHT;
    Some(Base { y: sheet.y, most: *most })
}
