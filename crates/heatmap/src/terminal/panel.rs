//! What the versions of a series take, below their columns.

use shard_core::size::{human, ratio, ratio_value};

use super::line::{Line, center, width};
use super::{Page, Sheet};
use crate::map::Version;

/// What stands beside the charts.
pub(super) const NAMES: [&str; 2] = ["stored", "ratio"];
/// Lines of a chart.
const LINES: usize = 3;

/// A chart of stored bytes and one of ratios, with numbers where they fit.
pub(super) fn write(page: &mut Page, sheet: &Sheet<'_>, versions: &[Option<Version>]) {
    let stored = |version: Version| Some((version.stored as f64, human(version.stored)));
    let ratios =
        |version: Version| Some((ratio_value(version.raw, version.stored)?, ratio(version.raw, version.stored)));
    let [stored_name, ratio_name] = NAMES;
    chart(page, sheet, stored_name, versions.iter().map(|version| version.and_then(stored)).collect());
    chart(page, sheet, ratio_name, versions.iter().map(|version| version.and_then(ratios)).collect());
}

fn chart(page: &mut Page, sheet: &Sheet<'_>, name: &str, values: Vec<Option<(f64, String)>>) {
    let Some(most) = values.iter().flatten().map(|(value, _)| *value).max_by(f64::total_cmp) else { return };
    let bars = page.paint.bars();
    let levels = LINES * bars.len();
    // Whatever is more than nothing is seen.
    let level = |value: f64| if value > 0.0 { ((value / most * levels as f64).round() as usize).max(1) } else { 0 };
    let shown = (sheet.cell - 1).max(1);
    for line in (0..LINES).rev() {
        let mut text = Line::default();
        text.put(page.paint.dim(), &sheet.beside(if line == 0 { name } else { "" }));
        for value in &values {
            let here = value.as_ref().map_or(0, |(value, _)| level(*value)).saturating_sub(line * bars.len());
            let bar = here.checked_sub(1).and_then(|index| bars.get(index.min(bars.len() - 1)));
            let bar = bar.map_or_else(|| " ".repeat(shown), |bar| bar.to_string().repeat(shown));
            text.put("", &format!("{bar}{}", " ".repeat(sheet.cell - shown)));
        }
        page.out.push_str(&text.finish());
    }
    if values.iter().flatten().all(|(_, text)| width(text) < sheet.cell) {
        let texts = values.iter().map(|value| value.as_ref().map_or("", |(_, text)| text));
        let texts: String = texts.map(|text| center(text, sheet.cell)).collect();
        page.line(&[("", &sheet.beside("")), (page.paint.dim(), &texts)]);
    }
}
