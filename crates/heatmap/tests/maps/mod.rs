//! Maps as they come from models, and as nobody would make them.
#![allow(dead_code, reason = "each test binary needs some of them")]

use proptest::prelude::*;
use shard_heatmap::{Cell, Entry, Heatmap, Label, Mark, Metric, Panel, Values, Version};

pub(crate) fn label(short: impl Into<String>) -> Label {
    let short = short.into();
    Label { full: short.clone(), short }
}

fn noise(seed: usize) -> f64 {
    let mixed = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

fn entry(name: String, mark: Mark, relative: Option<f64>) -> Entry {
    let mut values = Values::default();
    values.set(Metric::Relative, relative);
    values.set(Metric::Changed, relative.map(|value| (value * 20.0).min(1.0)));
    Entry {
        name,
        old_name: None,
        mark,
        geometry: "BF16 [384, 384]".to_owned(),
        kind: String::new(),
        evidence: String::new(),
        values,
    }
}

/// A fine-tune of a small transformer in which every mark occurs.
pub(crate) fn transformer() -> Heatmap {
    let kinds = ["q", "k", "v", "o", "gate", "up", "down", "attn norm", "mlp norm", "embed"];
    let mut rows = vec![Label { short: "embed".to_owned(), full: "model.embed_tokens".to_owned() }];
    rows.extend((0..12).map(|layer| Label { short: layer.to_string(), full: format!("model.layers.{layer}") }));
    rows.push(Label { short: "lm head".to_owned(), full: "lm_head".to_owned() });
    let mut cells = vec![
        Cell::new(0, 9, vec![entry("model.embed_tokens.weight".to_owned(), Mark::Value, Some(2.1e-5))]),
        Cell::new(13, 9, vec![entry("lm_head.weight".to_owned(), Mark::Renamed, Some(0.0))]),
    ];
    for layer in 0..12 {
        for (column, kind) in kinds.iter().take(9).enumerate() {
            let name = format!("model.layers.{layer}.{kind}.weight");
            let change = 10f64.powf(-4.2 + 0.22 * layer as f64 + 0.9 * noise(layer * 31 + column * 7));
            let (mark, relative) = match (layer, column) {
                (_, 7 | 8) => (Mark::Equal, None),
                (3, 1) => (Mark::Removed, None),
                (3, 2) => (Mark::Added, None),
                (5, 4) => (Mark::DType, Some(change)),
                (6, 5) => (Mark::Shape, None),
                (9, 6) => (Mark::NotFinite, Some(change)),
                (10, 3) => (Mark::Renamed, None),
                (11, 0) => (Mark::Value, None),
                _ => (Mark::Value, Some(change)),
            };
            cells.push(Cell::new(layer + 1, column, vec![entry(name, mark, relative)]));
        }
    }
    Heatmap {
        title: "base/model.safetensors -> tuned/model.safetensors".to_owned(),
        notes: vec![
            "fine-tune: 76 of 110 tensors changed, most of all in the later layers".to_owned(),
            "1 tensor has values that are not finite".to_owned(),
        ],
        row_title: "layer".to_owned(),
        column_title: "kind".to_owned(),
        rows,
        columns: kinds
            .iter()
            .map(|kind| Label { short: (*kind).to_owned(), full: format!("{kind} projection") })
            .collect(),
        cells,
        metric: Metric::Relative,
        panel: None,
    }
}

/// A training run: so many checkpoints, every fifty steps.
pub(crate) fn series(versions: usize) -> Heatmap {
    let rows = (0..8).map(|layer| label(layer.to_string())).chain([label("head")]).collect::<Vec<_>>();
    let mut cells = Vec::new();
    for row in 0..rows.len() {
        for version in 1..versions {
            let rate = 0.08 * (-(version as f64) / 12.0).exp() + 0.0004;
            let change = rate * (0.4 + noise(row * 1000 + version)) * (1.0 + row as f64 / 4.0);
            let mark = if row == 0 && version > 20 { Mark::Equal } else { Mark::Value };
            let relative = (mark == Mark::Value).then_some(change);
            cells.push(Cell {
                entries: Vec::new(),
                ..Cell::new(row, version, vec![entry(String::new(), mark, relative)])
            });
        }
    }
    let version = |index: usize| {
        let raw = 17_300_000;
        let stored = if index == 0 { 14_900_000.0 } else { 9.0e6 * (-(index as f64) / 9.0).exp() + 4.0e5 };
        (index != 7).then_some(Version { raw, stored: stored as u64 })
    };
    Heatmap {
        title: format!("run/step-*.safetensors: {versions} versions"),
        notes: vec!["pretraining: every word moves, each time by less".to_owned()],
        row_title: "layer".to_owned(),
        column_title: "version".to_owned(),
        rows,
        columns: (0..versions).map(|index| label(format!("step {}", index * 50))).collect(),
        cells,
        metric: Metric::Changed,
        panel: Some(Panel { versions: (0..versions).map(version).collect() }),
    }
}

/// Nothing to show.
pub(crate) fn empty() -> Heatmap {
    Heatmap { cells: Vec::new(), notes: Vec::new(), ..transformer() }
}

/// A map of many rows or columns.
pub(crate) fn large(rows: usize, columns: usize) -> Heatmap {
    let mut cells = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let change =
                10f64.powf(-4.0 + 3.0 * (row + column) as f64 / (rows + columns) as f64 + noise(row * 7919 + column));
            cells.push(Cell::new(row, column, vec![entry(format!("t.{row}.{column}"), Mark::Value, Some(change))]));
        }
    }
    Heatmap {
        title: format!("{rows} rows, {columns} columns"),
        notes: Vec::new(),
        row_title: "block".to_owned(),
        column_title: "part".to_owned(),
        rows: (0..rows).map(|row| label(row.to_string())).collect(),
        columns: (0..columns).map(|column| label(column.to_string())).collect(),
        cells,
        metric: Metric::Relative,
        panel: None,
    }
}

/// Names that nobody would give, and some that would do harm.
fn odd_name() -> impl Strategy<Value = String> {
    let harm = [
        "",
        "\u{1b}[2J\u{7}",
        "</text><script>alert(1)</script>",
        "\" onload=\"x",
        "&amp;&#0;",
        "]]>",
        "\u{202e}gnp.exe",
        "名前の層",
        "☀\u{fe0f}☀\u{fe0f}☀\u{fe0f}",
        "e\u{301}\u{301}\u{301}",
        "👩\u{200d}💻 wide",
        "a\r\nb\tc",
        "\u{ffff}\u{0}",
        "model.layers.12",
    ];
    prop_oneof![
        prop::sample::select(harm.to_vec()).prop_map(str::to_owned),
        prop::collection::vec(any::<char>(), 0..40).prop_map(|letters| letters.into_iter().collect()),
        "[a-z0-9 ._-]{0,60}",
        (0u32..2000).prop_map(|number| number.to_string()),
        (0u32..2000).prop_map(|number| format!("step {number}")),
    ]
}

/// Any map.
pub(crate) fn any_map() -> impl Strategy<Value = Heatmap> {
    let names = |most| {
        let one = || (odd_name(), odd_name()).prop_map(|(short, full)| Label { short, full });
        let counting = (0..most).prop_map(|count| (0..count).map(|index| label(format!("v {index}"))).collect());
        prop_oneof![prop::collection::vec(one(), 0..most), counting]
    };
    let number = prop_oneof![Just(0.0), Just(f64::INFINITY), Just(-1.0), Just(f64::NAN), 0.0..2.0f64, any::<f64>()];
    let cell = (0usize..45, 0usize..300, 0usize..8, prop::option::of(number), 0usize..8, odd_name()).prop_map(
        |(row, column, mark, value, count, name)| {
            let entries = (0..count).map(|_| entry(name.clone(), Mark::ALL[mark], value)).collect();
            let mut cell = Cell::new(row, column, entries);
            for metric in Metric::ALL {
                cell.values.set(metric, value);
            }
            cell.mark = Mark::ALL[mark];
            cell
        },
    );
    let size = prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0u64..1_000_000];
    let version = (size.clone(), size).prop_map(|(raw, stored)| Version { raw, stored });
    let panel = prop::option::of(prop::collection::vec(prop::option::of(version), 0..300));
    let titles = (odd_name(), prop::collection::vec(odd_name(), 0..4), odd_name(), odd_name());
    (titles, names(40), names(280), prop::collection::vec(cell, 0..120), 0usize..5, panel).prop_map(
        |((title, notes, row_title, column_title), rows, columns, cells, metric, panel)| Heatmap {
            title,
            notes,
            row_title,
            column_title,
            rows,
            columns,
            cells,
            metric: Metric::ALL[metric],
            panel: panel.map(|versions| Panel { versions }),
        },
    )
}
