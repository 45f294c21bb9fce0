//! Writes pages that tests open in a browser: `sample_pages FOLDER`. What is in them is made up, and the same every time.

use std::path::Path;
use std::{env, fs, io};

use shard_heatmap::{Cell, Entry, Heatmap, Label, Mark, Metric, Panel, Values, Version, html};

const KINDS: [(&str, &str, &str); 9] = [
    ("q", "attention query", "self_attn.q_proj.weight"),
    ("k", "attention key", "self_attn.k_proj.weight"),
    ("v", "attention value", "self_attn.v_proj.weight"),
    ("o", "attention output", "self_attn.o_proj.weight"),
    ("gate", "feed-forward gate", "mlp.gate_proj.weight"),
    ("up", "feed-forward up", "mlp.up_proj.weight"),
    ("down", "feed-forward down", "mlp.down_proj.weight"),
    ("norm", "normalisation", "input_layernorm.weight"),
    ("embed", "embedding", "embed_tokens.weight"),
];

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "give a folder to write to"));
    };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let pages = [
        ("transformer", transformer()),
        ("large", large()),
        ("empty", Heatmap { rows: Vec::new(), columns: Vec::new(), cells: Vec::new(), ..transformer() }),
        ("single", single()),
        ("series", series()),
        ("hostile", hostile()),
    ];
    for (name, map) in pages {
        fs::write(folder.join(format!("{name}.html")), html(&map))?;
    }
    Ok(())
}

/// Numbers from 0 to 1 that look random (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn noise(seed: usize) -> f64 {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn label(short: impl Into<String>, full: impl Into<String>) -> Label {
    Label { short: short.into(), full: full.into() }
}

fn measured(relative: f64, seed: usize) -> Values {
    let mut values = Values::default();
    values.set(Metric::Relative, Some(relative));
    values.set(Metric::Changed, Some((relative * 40.0).min(0.999) * (0.8 + 0.2 * noise(seed))));
    values.set(Metric::Cosine, Some(1.0 - relative * relative / 2.0));
    values.set(Metric::MaxUlp, Some((relative * 9000.0 * (1.0 + noise(seed + 1))).ceil()));
    values.set(Metric::EffectiveRank, Some(1.0 + 90.0 * noise(seed + 2)));
    values
}

fn entry(name: String, mark: Mark, geometry: &str, values: Values) -> Entry {
    let [kind, evidence] = match mark {
        Mark::Value => ["fine-tune", "small steps nearly everywhere"],
        Mark::Equal | Mark::Renamed => ["same bytes", ""],
        _ => ["", ""],
    };
    Entry {
        name,
        old_name: None,
        mark,
        geometry: geometry.into(),
        kind: kind.into(),
        evidence: evidence.into(),
        values,
    }
}

/// A fine-tuned model of twelve layers in which every state occurs.
fn transformer() -> Heatmap {
    let mut rows = vec![label("embed", "model.embed_tokens")];
    rows.extend((0..12).map(|layer| label(layer.to_string(), format!("model.layers.{layer}"))));
    rows.push(label("head", "lm_head"));
    let mut cells = vec![
        Cell::new(
            0,
            8,
            vec![entry(
                "model.embed_tokens.weight".into(),
                Mark::Shape,
                "BF16 [32000, 384] -> [32064, 384]",
                Values::default(),
            )],
        ),
        Cell::new(13, 8, vec![entry("lm_head.weight".into(), Mark::Equal, "BF16 [32000, 384]", Values::default())]),
    ];
    for layer in 0..12 {
        for (column, (_, _, tail)) in KINDS.iter().enumerate().take(8) {
            let seed = layer * 40 + column * 3;
            let name = format!("model.layers.{layer}.{tail}");
            let depth =
                (layer as f64 / 11.0).mul_add(2.4, -3.7) + noise(seed) * 0.7 - if column < 4 { 0.0 } else { 0.5 };
            let values = measured(10f64.powf(depth), seed);
            let mut made = entry(name, Mark::Value, "BF16 [384, 384]", values);
            match (layer, column) {
                (_, 7) if layer < 4 => made = entry(made.name, Mark::Equal, "BF16 [384]", Values::default()),
                (_, 7) => {
                    let other = format!("model.layers.{layer}.post_attention_layernorm.weight");
                    let less = measured(10f64.powf(depth - 0.4), seed + 9);
                    made.geometry = "BF16 [384]".into();
                    cells.push(Cell::new(layer + 1, column, vec![made, entry(other, Mark::Value, "BF16 [384]", less)]));
                    continue;
                }
                (3, 4) => {
                    made = entry(made.name, Mark::Renamed, "BF16 [384, 1024]", Values::default());
                    made.old_name = Some("model.layers.3.mlp.w1.weight".into());
                }
                (5, 0 | 2) => {
                    made.kind = "low-rank".into();
                    made.evidence = "rank 8 holds 99.9% of the change".into();
                }
                (7, 3) => {
                    made.mark = Mark::DType;
                    made.geometry = "F32 -> BF16 [384, 384]".into();
                }
                (9, 6) => made.mark = Mark::NotFinite,
                (10, 5) => made = entry(made.name, Mark::Removed, "BF16 [1024, 384]", Values::default()),
                (11, 6) => made = entry(made.name, Mark::Added, "BF16 [384, 1024]", Values::default()),
                _ => {}
            }
            cells.push(Cell::new(layer + 1, column, vec![made]));
        }
    }
    Heatmap {
        title: "base.safetensors -> chat.safetensors".into(),
        notes: vec![
            "A fine-tune: most tensors moved a little, later layers the most.".into(),
            "2 tensors are changed by a matrix of low rank. 1 tensor has values that are not finite.".into(),
        ],
        row_title: "layer".into(),
        column_title: "kind".into(),
        rows,
        columns: KINDS.iter().map(|(short, full, _)| label(*short, *full)).collect(),
        cells,
        metric: Metric::Relative,
        panel: None,
    }
}

/// 24,000 cells of 100,000 tensors.
fn large() -> Heatmap {
    let mut cells = Vec::new();
    for row in 0..2000 {
        for column in 0..12 {
            let seed = row * 60 + column * 5;
            let (_, _, tail) = KINDS[column % KINDS.len()];
            let entries = (0..4 + usize::from(seed % 12 < 2)).map(|part| {
                let relative = 10f64.powf(-5.0 + 3.0 * (row as f64 / 300.0).sin().abs() + 1.5 * noise(seed + part));
                let name = format!("model.layers.{row}.experts.{part}.block_{column}.{tail}");
                entry(name, Mark::Value, "BF16 [1024, 4096]", measured(relative, seed + part))
            });
            cells.push(Cell::new(row, column, entries.collect()));
        }
    }
    Heatmap {
        title: "large-a.safetensors -> large-b.safetensors".into(),
        notes: vec!["A fine-tune of a model of 2,000 layers.".into()],
        rows: (0..2000).map(|row| label(row.to_string(), format!("model.layers.{row}"))).collect(),
        columns: (0..12).map(|column| label(format!("b{column}"), format!("block {column}"))).collect(),
        cells,
        ..transformer()
    }
}

/// One cell of 500 tensors.
fn single() -> Heatmap {
    let tensor = |part: usize| {
        let values = measured(10f64.powf(-4.0 + 3.0 * noise(part)), part);
        entry(format!("experts.{part}.weight"), Mark::Value, "BF16 [64, 64]", values)
    };
    Heatmap {
        title: "one.npz -> two.npz".into(),
        notes: Vec::new(),
        rows: vec![label("experts", "experts")],
        columns: vec![label("weight", "weight")],
        cells: vec![Cell::new(0, 0, (0..500).map(tensor).collect())],
        ..transformer()
    }
}

/// Thirty checkpoints of a training run.
fn series() -> Heatmap {
    let mut cells = Vec::new();
    for column in 1..30 {
        for row in 0..13 {
            let mut values = Values::default();
            let decay = -0.9 - column as f64 * 0.07 - row as f64 * 0.05;
            values.set(Metric::Relative, Some(10f64.powf(decay + 0.3 * noise(row * 31 + column))));
            values.set(Metric::Changed, Some((1.0 - column as f64 * 0.015) * (0.9 + 0.1 * noise(row * 17 + column))));
            cells.push(Cell { row, column, mark: Mark::Value, values, entries: Vec::new() });
        }
    }
    cells.extend((0..13).map(|row| Cell {
        row,
        column: 0,
        mark: Mark::Added,
        values: Values::default(),
        entries: Vec::new(),
    }));
    let version = |column: usize| Version {
        raw: 123_456_789,
        stored: if column == 0 { 91_000_000 } else { (52_000_000.0 * 0.93f64.powf(column as f64)) as u64 },
    };
    Heatmap {
        title: "run/step-*.safetensors".into(),
        notes: vec!["Training that settles: each step changes less than the one before.".into()],
        column_title: "version".into(),
        rows: (0..13).map(|row| label(row.to_string(), format!("model.layers.{row}"))).collect(),
        columns: (0..30)
            .map(|step| label(format!("step {}", step * 50), format!("step-{:05}.safetensors", step * 50)))
            .collect(),
        cells,
        panel: Some(Panel { versions: (0..30).map(|column| (column != 17).then(|| version(column))).collect() }),
        ..transformer()
    }
}

/// Names that try to be more than names, and values at the limits.
fn hostile() -> Heatmap {
    let names = [
        "</script><script>window.hostile = 1</script>",
        "<img src=x onerror=\"window.hostile = 1\">",
        "'\"><svg onload=window.hostile=1>",
        "<!--<script>",
        "{{data}}{{script}}",
        "bell\u{7} escape\u{1b}[2J null\u{0} line\u{2028}end",
        "over\u{202e}drawkcab",
        "שכבה.משקל",
        "a very long name ",
    ];
    let limits = [f64::INFINITY, f64::NAN, 0.0, f64::MIN_POSITIVE, 1e-3, 0.5, 1.0, 2.0, f64::MAX];
    let of = |row: usize, column: usize| {
        let mut values = Values::default();
        values.set(Metric::Relative, Some(limits[row]));
        values.set(Metric::Cosine, Some(1.0 - limits[row]));
        let name = if row == 8 { names[row].repeat(60) } else { names[row].to_owned() };
        let mut made = entry(name, if row == 1 { Mark::NotFinite } else { Mark::Value }, names[column], values);
        made.old_name = Some(names[(row + column) % 9].into());
        made.kind = names[row].into();
        made.evidence = names[column].into();
        Cell::new(row, column, vec![made])
    };
    let labels = || names.iter().map(|name| label(*name, format!("{name} in full"))).collect::<Vec<_>>();
    Heatmap {
        title: names[..7].join(" "),
        notes: names.iter().map(|name| (*name).to_owned()).collect(),
        row_title: names[1].into(),
        column_title: names[6].into(),
        rows: labels(),
        columns: labels(),
        cells: (0..9)
            .flat_map(|row| (0..9).map(move |column| (row, column)))
            .map(|(row, column)| of(row, column))
            .collect(),
        metric: Metric::Relative,
        panel: None,
    }
}
