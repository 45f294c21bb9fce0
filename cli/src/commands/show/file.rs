//! A file: what it is and which tensors it has.

use serde_json::{Value, json};
use shard_core::Digest;
use shard_manifest::{ContentManifest, RunRecord};
use shard_repo::Summary;

use super::placed;
use crate::Context;
use crate::report::size::{count, human, percent, significant};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};
use crate::report::text::{shape, visible};
use crate::report::{json, lossy};

/// A file to be shown.
pub(super) struct View<'a> {
    /// What the user called it.
    pub(super) label: String,
    pub(super) manifest: &'a ContentManifest,
    /// The manifest's id, where the file is stored.
    pub(super) id: Option<Digest>,
    /// Why it is kept as opaque bytes.
    pub(super) note: Option<String>,
    pub(super) record: Option<RunRecord>,
    /// What the values of each tensor are like, where they were looked at.
    pub(super) summaries: Option<Vec<Option<Summary>>>,
}

/// Bytes and blocks that hold no tensor data.
fn opaque(manifest: &ContentManifest) -> (u64, u64) {
    let segments = manifest.segments.iter().filter(|segment| segment.dtype.is_none());
    segments.fold((0, 0), |(bytes, blocks), segment| (bytes + segment.len, blocks + segment.blocks.len() as u64))
}

/// What the file is, before its tensors.
pub(super) fn header(view: &View<'_>, context: &Context) -> String {
    let ui = &context.ui;
    let manifest = view.manifest;
    let mut text = format!("{}\n", ui.paint(&view.label, Style::Bold));
    let mut field = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {}\n", visible(value)));
    field("format", &manifest.format);
    field("size", &format!("{} ({} bytes)", human(manifest.size), manifest.size));
    field("sha256", &manifest.sha256.to_hex());
    if let Some(id) = &view.id {
        field("manifest", &id.to_hex());
    }
    if let Some(lossy) = lossy::what(&lossy::of(manifest)) {
        field("lossy", lossy.strip_prefix("lossy: ").unwrap_or(&lossy));
    }
    if let Some(note) = &view.note {
        field("note", &format!("kept as opaque bytes: {note}"));
    }
    let total = manifest.blocks().count() as u64;
    let (bytes, blocks) = opaque(manifest);
    let of_tensors = count(manifest.tensors.len() as u64, "tensor");
    field(
        "holds",
        &format!(
            "{of_tensors}, {}; {} in {} outside of tensors",
            count(total, "block"),
            human(bytes),
            count(blocks, "block")
        ),
    );
    if let Some(record) = &view.record
        && let Value::Object(fields) = json::record(record)
    {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "file_path") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            field("record", &format!("{name}: {value}"));
        }
    }
    text
}

pub(super) fn to_text(view: &View<'_>, context: &Context) -> String {
    let mut text = header(view, context);
    if !view.manifest.tensors.is_empty() {
        text.push('\n');
        text.push_str(&match &view.summaries {
            Some(summaries) => values_text(view.manifest, summaries, context),
            None => tensors_text(view.manifest, context),
        });
    }
    text
}

/// The table of a file's tensors with what their values are like.
fn values_text(manifest: &ContentManifest, summaries: &[Option<Summary>], context: &Context) -> String {
    let columns = ["tensor", "dtype", "shape", ">bytes", ">zeros", ">min", ">max", ">mean", ">std", ">nan", ">inf"];
    let mut table = Table::new(&columns);
    for (tensor, summary) in manifest.tensors.iter().zip(summaries) {
        let mut row: Vec<Cell> = vec![
            tensor.name.as_str().into(),
            tensor.dtype.name().into(),
            shape(&tensor.shape).into(),
            tensor.byte_len().map(human).unwrap_or_default().into(),
        ];
        if let Some(summary) = summary {
            let number = |value: Option<f64>| value.map(significant).unwrap_or_default();
            let odd = |count: u64| match count {
                0 => Cell::new("0", Style::Dim),
                count => Cell::new(count.to_string(), Style::Red),
            };
            row.push(percent(summary.sparsity()).into());
            row.extend([summary.min, summary.max, summary.mean, summary.std].map(|value| number(value).into()));
            row.extend([odd(summary.nan), odd(summary.infinite)]);
        }
        table.row(row);
    }
    context.ui.table(&table)
}

/// The table of a file's tensors.
pub(super) fn tensors_text(manifest: &ContentManifest, context: &Context) -> String {
    let mut table = Table::new(&["tensor", "dtype", "shape", ">bytes", ">blocks"]);
    for tensor in &manifest.tensors {
        table.row(vec![
            tensor.name.as_str().into(),
            tensor.dtype.name().into(),
            shape(&tensor.shape).into(),
            tensor.byte_len().map(human).unwrap_or_default().into(),
            manifest.tensor_blocks(tensor).0.len().to_string().into(),
        ]);
    }
    if table.is_empty() {
        table.row(vec![Cell::new("(no tensors)", Style::Dim)]);
    }
    context.ui.table(&table)
}

/// The same as JSON.
pub(super) fn tensors_json(manifest: &ContentManifest) -> Value {
    manifest.tensors.iter().map(|tensor| placed(manifest, tensor)).collect()
}

pub(super) fn to_json(view: &View<'_>) -> Value {
    let (bytes, blocks) = opaque(view.manifest);
    let mut value = json!({
        "label": view.label,
        "format": view.manifest.format,
        "size": view.manifest.size,
        "sha256": view.manifest.sha256.to_hex(),
        "manifest": view.id.map(|id| id.to_hex()),
        "note": view.note,
        "record": view.record.as_ref().map(json::record),
        "blocks": view.manifest.blocks().count(),
        "outside_of_tensors": {"bytes": bytes, "blocks": blocks},
        "tensors": match &view.summaries {
            None => tensors_json(view.manifest),
            Some(summaries) => {
                let tensors = view.manifest.tensors.iter().zip(summaries);
                tensors.map(|(tensor, summary)| with_values(placed(view.manifest, tensor), summary.as_ref())).collect()
            }
        },
    });
    lossy::add_to(&mut value, lossy::of(view.manifest).as_ref().map(Result::as_ref));
    value
}

/// A tensor's geometry and what its values are like, `null` where they are not known.
fn with_values(mut tensor: Value, summary: Option<&Summary>) -> Value {
    tensor["values"] = summary.map_or(Value::Null, |summary| {
        json!({
            "count": summary.values,
            "zeros": summary.zeros,
            "sparsity": summary.sparsity(),
            "nan": summary.nan,
            "inf": summary.infinite,
            "min": summary.min,
            "max": summary.max,
            "mean": summary.mean,
            "std": summary.std,
        })
    });
    tensor
}
