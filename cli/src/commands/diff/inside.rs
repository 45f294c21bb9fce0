//! One tensor, looked into.

use serde_json::{Value, json};
use shard_heatmap::{Metric, models};
use shard_repo::{Histogram, Inside, Patch};

use super::{Args, By, picture};
use crate::Context;
use crate::error::Failure;
use crate::report::size::{count, percent, significant};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::shape;

/// Singular values that are printed.
const DIRECTIONS: usize = 16;
/// Powers of two below the largest that have rows of their own.
const MOST_BINS: i32 = 31;
/// Characters of the longest bar.
const BAR: f64 = 24.0;

/// Prints what was found, and writes the pictures that are wanted.
pub(super) fn print(title: &str, found: &Inside, args: &Args, context: &Context) -> Result<(), Failure> {
    let metric = match args.by {
        By::Changed => Metric::Changed,
        By::MaxUlp => Metric::MaxUlp,
        // A part of a tensor has no direction of its own.
        By::Relative | By::Cosine | By::EffectiveRank => Metric::Relative,
    };
    let [old_name, new_name] = &found.names;
    let name = if old_name == new_name { new_name.clone() } else { format!("{old_name} -> {new_name}") };
    let map = models::of_inside(format!("{name}  {title}"), notes(found), found, metric);
    args.pictures.write(&map)?;
    if context.ui.json {
        return context.ui.print_json(&document(found));
    }
    let mut text = picture::text(&map, context);
    if !found.steps.down.is_empty() || !found.steps.up.is_empty() {
        text.push_str(&heading("steps of words, in units in the last place", context));
        text.push_str(&histogram(&found.steps, "0 ULP", steps, context));
    }
    text.push_str(&heading("changes of values", context));
    text.push_str(&histogram(&found.values, "0", values, context));
    if let Some(spectrum) = &found.spectrum {
        text.push_str(&heading("directions of the change", context));
        text.push_str(&directions(found, spectrum, context));
    }
    context.ui.print(&text)
}

fn heading(text: &str, context: &Context) -> String {
    format!("\n{}\n", context.ui.paint(text, Style::Bold))
}

fn notes(found: &Inside) -> Vec<String> {
    let total = found.patches.iter().fold(Patch::default(), |sum, patch| Patch {
        elements: sum.elements + patch.elements,
        changed: sum.changed + patch.changed,
        max_ulp: sum.max_ulp.max(patch.max_ulp),
        old_squares: sum.old_squares + patch.old_squares,
        change_squares: sum.change_squares + patch.change_squares,
        lost: sum.lost + patch.lost,
    });
    let mut notes = vec![format!(
        "{} {}, {} of {} changed, relative change {}",
        match found.dtypes {
            [old, new] if old != new => format!("{old} -> {new}"),
            [_, new] => new.to_string(),
        },
        shape(&found.shape),
        percent(total.changed_share()),
        count(total.elements, "element"),
        total.relative().map_or("infinite".to_owned(), significant),
    )];
    if total.lost > 0 {
        notes.push(format!("{} became NaN or infinite", count(total.lost, "element")));
    }
    notes
}

/// A row a power of two, those that go down beside those that go up.
fn histogram(found: &Histogram, none: &str, label: fn(i32) -> String, context: &Context) -> String {
    let powers = found.down.iter().chain(&found.up).map(|(power, _)| *power);
    let (Some(first), Some(last)) = (powers.clone().min(), powers.max()) else {
        return format!("  {}\n", count(found.unchanged, "element") + " as before");
    };
    // What lies far below the largest is one row.
    let least = first.max(last.saturating_sub(MOST_BINS));
    let of = |side: &[(i32, u64)], power: i32| -> u64 {
        let is_in = |other: i32| other == power || (power == least && other < least);
        side.iter().filter(|(other, _)| is_in(*other)).map(|(_, count)| *count).sum()
    };
    let sides = found.down.iter().chain(&found.up).map(|(_, count)| *count);
    let total: u64 = sides.clone().sum::<u64>() + found.unchanged + found.not_finite;
    let most = sides.max().unwrap_or(1).max(1) as f64;
    let bar = |count: u64| {
        let length = (count as f64 / most * BAR).ceil() as usize;
        "#".repeat(length)
    };
    let mut table = Table::new(&["size", ">down", ">", ">up", ""]);
    let share = |count: u64| if count == 0 { String::new() } else { percent(count as f64 / total.max(1) as f64) };
    table.row(vec![none.into(), "".into(), "".into(), share(found.unchanged).into()]);
    for power in least..=last {
        let (down, up) = (of(&found.down, power), of(&found.up, power));
        table.row(vec![
            if power == least && first < least {
                format!("below {}", label(power + 1)).into()
            } else {
                label(power).into()
            },
            share(down).into(),
            Cell::new(bar(down), Style::Cyan),
            share(up).into(),
            Cell::new(bar(up), Style::Yellow),
        ]);
    }
    if found.not_finite > 0 {
        table.row(vec!["not finite".into(), "".into(), "".into(), share(found.not_finite).into()]);
    }
    context.ui.table(&table)
}

fn steps(power: i32) -> String {
    match power {
        0 => "1".to_owned(),
        1..=12 => format!("{} to {}", 1u64 << power, (1u64 << (power + 1)) - 1),
        _ => format!("2^{power} on"),
    }
}

fn values(power: i32) -> String {
    format!("{} on", significant(f64::from(power).exp2()))
}

fn directions(found: &Inside, spectrum: &shard_repo::Spectrum, context: &Context) -> String {
    let all = spectrum.singular_values.len();
    let of_what = match spectrum.is_whole {
        true => String::new(),
        false => {
            let (rows, columns) = spectrum.looked_at;
            format!(", of a part of {rows} rows and {columns} columns of {} x {}", found.matrix.0, found.matrix.1)
        }
    };
    let mut text = format!("  effective rank {:.1} of {all}{of_what}\n", spectrum.effective_rank());
    let longest = spectrum.singular_values.first().copied().unwrap_or(0.0);
    let mut table = Table::new(&[">direction", ">length", ">energy so far", ""]);
    for (index, value) in spectrum.singular_values.iter().take(DIRECTIONS).enumerate() {
        let length = if longest > 0.0 { (value / longest * BAR).ceil() as usize } else { 0 };
        table.row(vec![
            (index + 1).to_string().into(),
            significant(*value).into(),
            percent(spectrum.energy(index + 1)).into(),
            Cell::new("#".repeat(length), Style::Cyan),
        ]);
    }
    text.push_str(&context.ui.table(&table));
    text
}

fn document(found: &Inside) -> Value {
    let histogram = |found: &Histogram| {
        json!({
            "unchanged": found.unchanged,
            "down": found.down,
            "up": found.up,
            "not_finite": found.not_finite,
        })
    };
    let patch = |patch: &Patch| {
        json!({
            "elements": patch.elements,
            "changed": patch.changed,
            "relative": patch.relative(),
            "max_ulp": patch.max_ulp,
            "lost": patch.lost,
        })
    };
    let spectrum = found.spectrum.as_ref().map_or(Value::Null, |spectrum| {
        json!({
            "singular_values": spectrum.singular_values,
            "effective_rank": spectrum.effective_rank(),
            "rows": spectrum.looked_at.0,
            "columns": spectrum.looked_at.1,
            "whole": spectrum.is_whole,
        })
    });
    json!({
        "old_name": found.names[0],
        "name": found.names[1],
        "old_dtype": found.dtypes[0].name(),
        "dtype": found.dtypes[1].name(),
        "shape": found.shape,
        "rows": found.matrix.0,
        "columns": found.matrix.1,
        "grid": {
            "rows": found.grid.0,
            "columns": found.grid.1,
            "patches": found.patches.iter().map(patch).collect::<Vec<_>>(),
        },
        "steps": histogram(&found.steps),
        "values": histogram(&found.values),
        "spectrum": spectrum,
    })
}
