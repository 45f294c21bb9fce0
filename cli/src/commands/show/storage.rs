//! How a file's blocks are stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shard_core::Digest;
use shard_manifest::storage::base_value;
use shard_manifest::{BlockStorage, ContentManifest, StorageManifest};

use super::file::{View, header, to_json as file_json};
use crate::Context;
use crate::report::json::sizes;
use crate::report::lossy::{self, Mark};
use crate::report::size::{human, ratio};
use crate::report::style::Style;
use crate::report::table::{Cell, Table};

/// The blocks of a tensor, or of a run of other bytes, taken together.
struct Row {
    name: String,
    is_tensor: bool,
    blocks: u64,
    raw: u64,
    stored: u64,
    depth: u32,
    /// How many blocks have which chain.
    chains: BTreeMap<String, u64>,
    /// The ids of all bases.
    bases: Vec<Digest>,
}

impl Row {
    fn new(name: String, is_tensor: bool) -> Self {
        Self { name, is_tensor, blocks: 0, raw: 0, stored: 0, depth: 0, chains: BTreeMap::new(), bases: Vec::new() }
    }

    fn add(&mut self, block: &BlockStorage) {
        self.blocks += 1;
        self.raw += block.raw;
        self.stored += block.stored;
        self.depth = self.depth.max(block.depth);
        *self.chains.entry(block.chain.clone()).or_default() += 1;
        self.bases.extend(block.base.iter().flat_map(shard_core::BaseRef::blocks));
    }

    fn chain_text(&self) -> String {
        let mut chains: Vec<(&String, &u64)> = self.chains.iter().collect();
        chains.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        match &chains[..] {
            [(chain, _)] => (*chain).clone(),
            several => several.iter().map(|(chain, count)| format!("{count} x {chain}")).collect::<Vec<_>>().join(", "),
        }
    }

    fn base_text(&self) -> String {
        match &self.bases[..] {
            [] => String::new(),
            [one] => one.short(),
            several => format!("{} blocks", several.len()),
        }
    }
}

/// A row a segment, named by its first tensor.
fn rows(manifest: &ContentManifest, stored: &StorageManifest) -> Vec<Row> {
    let mut names: BTreeMap<usize, (String, usize)> = BTreeMap::new();
    for tensor in &manifest.tensors {
        let entry = names.entry(tensor.segment).or_insert_with(|| (tensor.name.clone(), 0));
        entry.1 += 1;
    }
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for block in manifest.blocks() {
        if rows.last().is_none_or(|(segment, _)| *segment != block.segment) {
            let row = match names.get(&block.segment) {
                Some((name, 1)) => Row::new(name.clone(), true),
                Some((name, views)) => Row::new(format!("{name} (and {} more)", views - 1), true),
                None => Row::new("(other bytes)".to_owned(), false),
            };
            rows.push((block.segment, row));
        }
        if let (Some((_, row)), Some(block)) = (rows.last_mut(), stored.blocks.get(&block.span.id)) {
            row.add(block);
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

pub(super) fn to_text(view: &View<'_>, stored: &StorageManifest, context: &Context) -> String {
    let mut table = Table::new(&["tensor", ">blocks", ">raw", ">stored", ">ratio", ">depth", "base", "chain"]);
    for row in rows(view.manifest, stored) {
        let style = if row.is_tensor { Style::Plain } else { Style::Dim };
        table.row(vec![
            Cell::new(&row.name, style),
            row.blocks.to_string().into(),
            human(row.raw).into(),
            human(row.stored).into(),
            ratio(row.raw, row.stored).into(),
            row.depth.to_string().into(),
            Cell::new(row.base_text(), Style::Cyan),
            row.chain_text().into(),
        ]);
    }
    let (raw, bytes) = stored.totals();
    table.row(vec![
        Cell::new("total, each block once", Style::Bold),
        stored.blocks.len().to_string().into(),
        human(raw).into(),
        human(bytes).into(),
        Cell::new(ratio(raw, bytes), Style::Bold),
    ]);
    format!("{}\n{}", header(view, context), context.ui.table(&table))
}

pub(super) fn to_json(view: &View<'_>, stored: &StorageManifest) -> Value {
    let mut value = file_json(view);
    let blocks = view.manifest.blocks().filter_map(|block| {
        let storage = stored.blocks.get(&block.span.id)?;
        let mut json = block_json(storage);
        json["id"] = block.span.id.to_hex().into();
        json["segment"] = block.segment.into();
        json["offset"] = block.file_offset.into();
        Some(json)
    });
    value["storage"] = totals_json(stored);
    value["storage"]["blocks"] = blocks.collect();
    value
}

fn block_json(block: &BlockStorage) -> Value {
    json!({
        "chain": block.chain,
        "raw": block.raw,
        "stored": block.stored,
        "depth": block.depth,
        "base": block.base.as_ref().map(base_value),
        "params": block.params,
        "pack": block.pack.map(|pack| pack.to_hex()),
    })
}

/// Raw and stored bytes of a file, each block counted once.
pub(super) fn totals_json(stored: &StorageManifest) -> Value {
    let (raw, bytes) = stored.totals();
    let mut value = sizes(raw, bytes);
    value["depth"] = deepest(stored).into();
    value["deltas"] = deltas(stored).into();
    value["distinct_blocks"] = stored.blocks.len().into();
    value
}

fn deepest(stored: &StorageManifest) -> u32 {
    stored.blocks.values().map(|block| block.depth).max().unwrap_or(0)
}

fn deltas(stored: &StorageManifest) -> usize {
    stored.blocks.values().filter(|block| block.base.is_some()).count()
}

/// A row a file: its path, how it is stored, and how far it is from what was given. Below them, which files have a mark.
pub(super) fn files_text(files: &[(String, StorageManifest, Mark)], context: &Context) -> String {
    let mut table = Table::new(&["file", ">blocks", ">deltas", ">depth", ">raw", ">stored", ">ratio", lossy::COLUMN]);
    for (path, stored, mark) in files {
        let (raw, bytes) = stored.totals();
        table.row(vec![
            path.as_str().into(),
            stored.blocks.len().to_string().into(),
            deltas(stored).to_string().into(),
            deepest(stored).to_string().into(),
            human(raw).into(),
            human(bytes).into(),
            ratio(raw, bytes).into(),
            lossy::cell(mark.as_ref().map(Result::as_ref)),
        ]);
    }
    let marks = lossy::lines(files.iter().map(|(path, _, mark)| (path.as_str(), mark)));
    format!("{}{marks}", context.ui.table(&table))
}
