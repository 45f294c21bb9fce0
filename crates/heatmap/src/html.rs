//! The interactive page: one file that needs nothing else, and that its own policy keeps from asking for anything.
//!
//! The page is assembled from `assets/page`; the data goes in as one JSON object, which the script reads. Its fields:
//!
//! - `rowTitle`, `columnTitle`; `rows`, `columns`: lists of `[short, full]`.
//! - `marks`: of each [`Mark`] its `word`, `glyph`, its `tone` (how it is painted where no metric gives it a colour), and
//!   whether it is `measured`: whether a metric gives it one.
//! - `metrics`: of each metric that occurs its `key`, `title`, whether it is a `percent`, its scale (`logarithmic`, `low`, `high`), and
//!   `ticks` as `[position, label]`; `metric`: which of them is shown first.
//! - `colors`: the 256 colours from the least change up, six hexadecimal digits each.
//! - `strings`: texts that others refer to by index; the first is empty and stands for none.
//! - `cells`: lists `row`, `column`, `mark`, `count` (of entries), and `values`, a list for each of `metrics`; `length`, how many.
//! - `entries`: lists in the order of the cells, of the indices of strings `head` and `tail` (together the name), `old`, `geometry`,
//!   `kind`, `evidence`, and of `mark`, and `values`; `length`, how many.
//! - `panel`: of each column `[raw, stored]` in bytes or null; null where there is none.
//!
//! Values are amounts of change, larger for more, so a cosine is there as its distance from 1. What is unknown is null, what is
//! infinite a word. A list whose items are all alike is there as that item.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use shard_core::text::{visible, xml};

use crate::color::color;
use crate::map::{Cell, Entry, Heatmap, Label, Mark};
use crate::metric::{Metric, Values};
use crate::scale::amount;

const PAGE: &str = include_str!("../assets/page/page.html");
const STYLE: &str = include_str!("../assets/page/page.css");
const SCRIPT: &str = concat!(
    include_str!("../assets/page/data.js"),
    include_str!("../assets/page/describe.js"),
    include_str!("../assets/page/grid.js"),
    include_str!("../assets/page/page.js"),
);

/// Significant digits of the numbers in the page: more than anyone sees, and half the bytes of all digits.
const DIGITS: usize = 5;

/// A page to look at a map in a browser: a map to hover over, sort and filter, with the tensors of each cell. Without network, and the
/// same bytes for the same map. Cells outside the rows and columns are left out.
#[must_use]
pub fn html(map: &Heatmap) -> String {
    let mut page = String::new();
    // In one pass: a text that looks like a place of the page is not taken for one.
    for part in PAGE.split("{{") {
        let (place, rest) = part.split_once("}}").unwrap_or(("", part));
        match place {
            "title" => page.push_str(&xml(&map.title)),
            "notes" => {
                for note in &map.notes {
                    let _ = write!(page, "<li><bdi>{}</bdi></li>", xml(note));
                }
            }
            "style" => page.push_str(STYLE),
            "script" => page.push_str(SCRIPT),
            "data" => page.push_str(&script_text(&data(map))),
            _ => {}
        }
        page.push_str(rest);
    }
    page
}

/// The data of the page, as the head of this file has it.
fn data(map: &Heatmap) -> Value {
    let scales: Vec<_> = map.metrics().filter_map(|metric| map.scale(metric)).collect();
    let metrics: Vec<Metric> = scales.iter().map(crate::Scale::metric).collect();
    let described = scales.iter().map(|scale| {
        let (low, high) = scale.range();
        let ticks: Vec<Value> = scale.ticks().iter().map(|tick| json!([number(tick.position), tick.label])).collect();
        json!({
            "key": scale.metric().key(),
            "title": scale.metric().title(),
            "percent": scale.metric() == Metric::Changed,
            "logarithmic": scale.is_logarithmic(),
            "low": low,
            "high": high,
            "ticks": ticks,
        })
    });
    let cells = || map.cells.iter().filter(|cell| cell.row < map.rows.len() && cell.column < map.columns.len());
    let marks = Mark::ALL.map(|mark| {
        // What is as it was has no change to show. What is not finite is seen at once, whatever else is measured there.
        let (tone, measured) = match mark {
            Mark::Equal | Mark::Renamed => ("tile", false),
            Mark::Value | Mark::DType | Mark::Shape | Mark::Removed | Mark::Added => ("strong", true),
            Mark::NotFinite => ("danger", false),
        };
        json!({"word": mark.as_str(), "glyph": mark.glyph(), "tone": tone, "measured": measured})
    });
    let panel = map.panel.as_ref().map(|panel| {
        let known = panel.versions.iter().map(|version| version.map(|version| [version.raw, version.stored]));
        known.chain(std::iter::repeat(None)).take(map.columns.len()).collect::<Vec<_>>()
    });
    let mut strings = Strings::default();
    let entries = entries(map, cells(), &metrics, &mut strings);
    json!({
        "rowTitle": visible(&map.row_title),
        "columnTitle": visible(&map.column_title),
        "rows": labels(&map.rows),
        "columns": labels(&map.columns),
        "marks": marks,
        "metrics": described.collect::<Vec<_>>(),
        "metric": metrics.iter().position(|metric| *metric == map.metric).unwrap_or(0),
        "colors": (0..=255).map(|step| color(f64::from(step) / 255.0)).fold(String::new(), |mut all, [red, green, blue]| {
            let _ = write!(all, "{red:02x}{green:02x}{blue:02x}");
            all
        }),
        "cells": {
            "length": cells().count(),
            "row": list(cells().map(|cell| cell.row)),
            "column": list(cells().map(|cell| cell.column)),
            "mark": list(cells().map(|cell| place(cell.mark))),
            "count": list(cells().map(|cell| cell.entries.len())),
            "values": values(&metrics, cells().map(|cell| &cell.values)),
        },
        "entries": entries,
        "panel": panel,
        "strings": strings.all,
    })
}

fn entries<'a>(
    map: &Heatmap,
    cells: impl Iterator<Item = &'a Cell> + Clone,
    metrics: &[Metric],
    strings: &mut Strings<'a>,
) -> Value {
    let all = || cells.clone().flat_map(|cell| cell.entries.iter().map(move |entry| (cell, entry)));
    // Names of a row most often begin with its own, and go on as those of other rows do: so both parts are there only once.
    let split = |cell: &Cell, entry: &'a Entry| {
        let row = map.rows.get(cell.row).map_or("", |label| label.full.as_str());
        entry.name.split_at(if entry.name.starts_with(row) { row.len() } else { 0 })
    };
    json!({
        "length": all().count(),
        "head": list(all().map(|(cell, entry)| strings.index(split(cell, entry).0))),
        "tail": list(all().map(|(cell, entry)| strings.index(split(cell, entry).1))),
        "old": list(all().map(|(_, entry)| strings.index(entry.old_name.as_deref().unwrap_or("")))),
        "geometry": list(all().map(|(_, entry)| strings.index(&entry.geometry))),
        "kind": list(all().map(|(_, entry)| strings.index(&entry.kind))),
        "evidence": list(all().map(|(_, entry)| strings.index(&entry.evidence))),
        "mark": list(all().map(|(_, entry)| place(entry.mark))),
        "values": values(metrics, all().map(|(_, entry)| &entry.values)),
    })
}

/// Texts that are kept once, however often they occur.
struct Strings<'a> {
    all: Vec<Cow<'a, str>>,
    known: HashMap<&'a str, usize>,
}

impl Default for Strings<'_> {
    fn default() -> Self {
        Self { all: vec![Cow::Borrowed("")], known: HashMap::from([("", 0)]) }
    }
}

impl<'a> Strings<'a> {
    fn index(&mut self, text: &'a str) -> usize {
        *self.known.entry(text).or_insert_with(|| {
            self.all.push(visible(text));
            self.all.len() - 1
        })
    }
}

fn labels(labels: &[Label]) -> Vec<[Cow<'_, str>; 2]> {
    labels.iter().map(|label| [visible(&label.short), visible(&label.full)]).collect()
}

fn place(mark: Mark) -> usize {
    Mark::ALL.iter().position(|other| *other == mark).unwrap_or(0)
}

/// Of each metric the amounts of change.
fn values<'a>(metrics: &[Metric], all: impl Iterator<Item = &'a Values> + Clone) -> Vec<Value> {
    let of = |metric: &Metric| {
        let amounts = all.clone().map(|values| values.get(*metric).map(|value| number(amount(*metric, value))));
        list(amounts.map(|value| value.unwrap_or(Value::Null)))
    };
    metrics.iter().map(of).collect()
}

/// A list, or its only item where all are alike.
fn list<T: Into<Value>>(items: impl Iterator<Item = T>) -> Value {
    let items: Vec<Value> = items.map(Into::into).collect();
    match items.split_first() {
        Some((first, rest)) if rest.iter().all(|item| item == first) => first.clone(),
        _ => Value::Array(items),
    }
}

/// A number with as many digits as the page has room for. Whole numbers stay whole as long as an `f64` tells them apart.
fn number(value: f64) -> Value {
    if value.is_nan() {
        Value::Null
    } else if value.is_infinite() {
        Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        Value::from(value as i64)
    } else {
        let places = DIGITS - 1;
        let rounded = format!("{value:.places$e}").parse().ok();
        // The largest numbers would be rounded to infinity.
        Value::from(rounded.filter(|rounded: &f64| rounded.is_finite()).unwrap_or(value))
    }
}

/// JSON that can be inside a script element: nothing in it begins a tag or a comment. The characters are in strings only, so that they
/// can be escaped wherever they are.
fn script_text(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::map::{Panel, Version};

    const HOSTILE: &str = "</script><script>alert(1)</script><!--\"'&{{data}}\u{0}\u{7}\u{202e}\u{2028}";

    fn map(rows: usize, columns: usize, entries: usize) -> Heatmap {
        let label = |kind: &str, index| Label { short: format!("{index}"), full: format!("{kind}.{index}") };
        let cell = |place: usize| {
            let (row, column) = (place / columns, place % columns);
            let entry = |part| {
                let mut values = Values::default();
                for (step, metric) in Metric::ALL.into_iter().enumerate() {
                    values.set(metric, Some(1.0 / ((place * 7 + part * 3 + step) as f64 + 1.7)));
                }
                Entry {
                    name: format!("row.{row}.self_attn.{column}.part_{part}.weight"),
                    old_name: None,
                    mark: Mark::Value,
                    geometry: "BF16 [384, 384]".into(),
                    kind: "fine-tune".into(),
                    evidence: String::new(),
                    values,
                }
            };
            Cell::new(row, column, (0..entries).map(entry).collect())
        };
        Heatmap {
            title: "old -> new".into(),
            notes: vec!["A fine-tune.".into()],
            row_title: "layer".into(),
            column_title: "kind".into(),
            rows: (0..rows).map(|row| label("row", row)).collect(),
            columns: (0..columns).map(|column| label("column", column)).collect(),
            cells: (0..rows * columns).map(cell).collect(),
            metric: Metric::Changed,
            panel: None,
        }
    }

    fn data_of(page: &str) -> Value {
        let (_, rest) = page.split_once("id=\"data\">").unwrap();
        let (text, _) = rest.split_once("</script>").unwrap();
        serde_json::from_str(text).unwrap()
    }

    /// An item of a list, which is the item itself where all are alike.
    fn at(list: &Value, index: usize) -> &Value {
        list.get(index).unwrap_or(list)
    }

    #[test]
    fn what_goes_in_can_be_read_back() {
        let mut map = map(3, 2, 2);
        map.cells[4].entries[1].old_name = Some("before".into());
        map.cells.push(Cell::new(3, 0, Vec::new()));
        map.panel = Some(Panel { versions: vec![Some(Version { raw: 1 << 60, stored: 5 })] });
        let data = data_of(&html(&map));
        let text = |field: &str, index| {
            data["strings"][at(&data["entries"][field], index).as_u64().unwrap() as usize].as_str().unwrap()
        };
        assert_eq!(data["rows"][2], json!(["2", "row.2"]));
        assert_eq!(data["cells"]["length"], 6, "a cell outside the rows is left out");
        assert_eq!(data["panel"], json!([[1u64 << 60, 5], null]));
        assert_eq!(data["metrics"][data["metric"].as_u64().unwrap() as usize]["key"], "changed");
        assert_eq!(data["colors"].as_str().unwrap().len(), 256 * 6);
        for (cell, original) in map.cells[..6].iter().enumerate() {
            assert_eq!(at(&data["cells"]["row"], cell), original.row);
            assert_eq!(at(&data["cells"]["column"], cell), original.column);
            assert_eq!(data["marks"][at(&data["cells"]["mark"], cell).as_u64().unwrap() as usize]["word"], "value");
            for (part, entry) in original.entries.iter().enumerate() {
                let index = cell * 2 + part;
                assert_eq!(format!("{}{}", text("head", index), text("tail", index)), entry.name);
                assert_eq!(text("old", index), entry.old_name.as_deref().unwrap_or(""));
                assert_eq!((text("geometry", index), text("kind", index)), (&*entry.geometry, &*entry.kind));
                for (place, metric) in Metric::ALL.into_iter().enumerate() {
                    let expected = amount(metric, entry.values.get(metric).unwrap());
                    let found = at(&data["entries"]["values"][place], index).as_f64().unwrap();
                    assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn names_are_text_and_nothing_else() {
        let mut map = map(1, 1, 1);
        map.title = HOSTILE.into();
        map.notes = vec![HOSTILE.into()];
        map.rows[0] = Label { short: HOSTILE.into(), full: HOSTILE.into() };
        map.cells[0].entries[0].name = HOSTILE.into();
        map.cells[0].entries[0].kind = HOSTILE.into();
        let page = html(&map);
        let tags = |page: &str, tag| page.matches(tag).count();
        let plain = html(&self::map(1, 1, 1));
        for tag in ["<script", "</script", "<!--", "</title"] {
            assert_eq!(tags(&page, tag), tags(&plain, tag), "{tag}");
        }
        assert!(page.chars().all(|c| c == '\n' || !c.is_control() && !matches!(c, '\u{202e}' | '\u{2028}')));
        let shown = visible(HOSTILE);
        assert!(shown.ends_with("{{data}}\\u{0}\\u{7}\\u{202e}\\u{2028}"), "{shown}");
        assert_eq!(data_of(&page)["rows"][0][0], shown.as_ref());
    }

    #[test]
    fn numbers_without_digits_in_json_are_there() {
        let mut map = map(1, 3, 0);
        for (cell, value) in [f64::INFINITY, f64::MAX, 4_503_599_627_370_497.0].into_iter().enumerate() {
            map.cells[cell].values.set(Metric::MaxUlp, Some(value));
        }
        let data = data_of(&html(&map));
        assert_eq!(data["cells"]["values"][0], json!(["Infinity", f64::MAX, 4.5036e15]));
        assert_eq!((number(-0.0), number(f64::NAN), number(123_457.0)), (json!(0), Value::Null, json!(123_457)));
    }

    #[test]
    fn the_policy_allows_this_style_and_script_and_nothing_else() {
        let page = html(&map(0, 0, 0));
        let (_, policy) = page.split_once("Content-Security-Policy\" content=\"").unwrap();
        let (policy, _) = policy.split_once('"').unwrap();
        let expected = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            integrity(STYLE),
            integrity(SCRIPT)
        );
        assert_eq!(policy, expected, "after a change in assets/page, this goes into page.html");
        for word in ["http:", "https:", "//www", "url(", "@import", "xmlns"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    /// The hash of a source as a policy has it (W3C, "Content Security Policy Level 3", 2.3.1).
    fn integrity(text: &str) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut coded = String::from("sha256-");
        for bytes in Sha256::digest(text).chunks(3) {
            let word = bytes.iter().chain([&0, &0]).take(3).fold(0, |word, byte| word << 8 | usize::from(*byte));
            for letter in 0..=bytes.len() {
                coded.push(char::from(LETTERS[word >> (18 - 6 * letter) & 63]));
            }
        }
        coded + "="
    }

    #[test]
    fn large_maps_are_not_large_pages() {
        let size = html(&map(2000, 12, 1)).len();
        assert!(size < 6_000_000, "{size} bytes");
        let size = html(&map(2000, 12, 4)).len();
        assert!(size < 12_000_000, "{size} bytes");
    }
}
