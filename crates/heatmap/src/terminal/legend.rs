//! What colours and glyphs mean.

use super::line::{Line, flow, width};
use super::{Page, Sheet};
use crate::grid::Key;
use crate::scale::Scale;

/// Columns of the colour bar.
const BAR: usize = 48;

pub(super) fn write(page: &mut Page, sheet: &Sheet<'_>) {
    if let Some(scale) = &sheet.scale {
        bar(page, scale);
    }
    let key = |key: Key| match key.glyph {
        Some(glyph) => format!("{glyph} {}", key.meaning),
        None => format!("(blank) {}", key.meaning),
    };
    let keys: Vec<String> = sheet.grid.keys(sheet.metric).into_iter().map(key).collect();
    for line in flow(&keys, page.width) {
        page.line(&[("", &line)]);
    }
}

/// The colours from the least change to the largest, and the values below them.
fn bar(page: &mut Page, scale: &Scale) {
    let title = scale.metric().title();
    let beside = width(title) + 2;
    // Beside its title, or below it where that leaves too little.
    let start = if beside + BAR / 2 <= page.width { beside } else { 0 };
    let length = BAR.min(page.width - start);
    let mut line = Line::default();
    if start == 0 {
        page.paragraph("", title);
    } else {
        line.put("", &format!("{title}  "));
    }
    for column in 0..length {
        let position = column as f64 / (length - 1).max(1) as f64;
        let character = page.paint.ramp(position).unwrap_or(' ');
        line.put(&page.paint.value(position), &character.to_string());
    }
    page.out.push_str(&line.finish());
    let ticks = ticks(scale, length);
    page.line(&[("", &" ".repeat(start)), (page.paint.dim(), &ticks)]);
}

/// The values below a bar, as many as have room.
fn ticks(scale: &Scale, length: usize) -> String {
    let ticks = scale.spaced_ticks(|tick| {
        let middle = (tick.position * (length - 1) as f64).round() as usize;
        let label = width(&tick.label);
        let start = middle.saturating_sub(label / 2).min(length.saturating_sub(label));
        (start as f64, (start + label + 1) as f64)
    });
    let mut line = String::new();
    for (tick, (start, _)) in ticks {
        if start as usize + width(&tick.label) <= length {
            line.push_str(&" ".repeat((start as usize).saturating_sub(width(&line))));
            line.push_str(&tick.label);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    #[test]
    fn ticks_do_not_touch() {
        let scale = Scale::of(Metric::Relative, [1e-6, 0.9]).unwrap();
        assert_eq!(ticks(&scale, 43), "1e-6 1e-5   1e-4   1e-3   0.01    0.1     1");
        assert_eq!(ticks(&scale, 20), "1e-6    1e-3       1");
        assert_eq!(ticks(&scale, 5), "    1");
        let scale = Scale::of(Metric::Changed, [0.5]).unwrap();
        assert_eq!(ticks(&scale, 21), "0%       50%     100%");
    }
}
