//! Pieces of JSON that several commands print.

use serde_json::{Map, Value, json};
use shard_core::{Digest, TensorView};
use shard_history::{Commit, FileChange, FileEntry, MergeRecord};
use shard_manifest::RunRecord;
use shard_repo::ChangeStats;

use super::size::ratio_value;

/// A changed file of a commit or of the stage.
pub(crate) fn file_change(change: &FileChange) -> Value {
    let mut fields = Map::new();
    fields.insert("path".to_owned(), change.path().into());
    fields.insert("state".to_owned(), change_word(change).into());
    if let FileChange::Renamed { from, .. } = change {
        fields.insert("from".to_owned(), from.as_str().into());
    }
    fields.insert("old".to_owned(), change.old().map_or(Value::Null, file_entry));
    fields.insert("new".to_owned(), change.new_entry().map_or(Value::Null, file_entry));
    Value::Object(fields)
}

/// The word for what happened to a file.
pub(crate) fn change_word(change: &FileChange) -> &'static str {
    match change {
        FileChange::Added { .. } => "added",
        FileChange::Removed { .. } => "deleted",
        FileChange::Modified { .. } => "modified",
        FileChange::ModeChanged { .. } => "mode",
        FileChange::Renamed { .. } => "renamed",
    }
}

/// A file of a tree.
pub(crate) fn file_entry(entry: &FileEntry) -> Value {
    json!({
        "mode": entry.mode.as_str(),
        "size": entry.size,
        "sha256": entry.sha256.to_hex(),
        "manifest": entry.manifest.to_hex(),
    })
}

/// A commit.
pub(crate) fn commit(id: &Digest, commit: &Commit) -> Value {
    json!({
        "id": id.to_hex(),
        "tree": commit.tree.to_hex(),
        "parents": commit.parents.iter().map(Digest::to_hex).collect::<Vec<_>>(),
        "created_at": commit.created_at,
        "author": commit.author,
        "message": commit.message,
        "records": commit.records.iter().map(record).collect::<Vec<_>>(),
        "merge": MergeRecord::of(commit).ok().flatten().and_then(|record| record.to_fields().ok()),
    })
}

/// A run record. One that was read has a JSON form; null stands for one that has none.
pub(crate) fn record(record: &RunRecord) -> Value {
    record.to_fields().map_or(Value::Null, Value::Object)
}

/// A tensor of a file, with the number of blocks that hold it.
pub(crate) fn tensor(view: &TensorView, blocks: u64) -> Value {
    json!({
        "name": view.name,
        "dtype": view.dtype.name(),
        "shape": view.shape,
        "bytes": view.byte_len(),
        "blocks": blocks,
    })
}

/// How much the values of a tensor changed.
pub(crate) fn change_stats(stats: &ChangeStats) -> Value {
    json!({
        "words": stats.words,
        "changed": stats.changed,
        "changed_share": stats.changed_share(),
        "max_ulp": stats.max_ulp,
        "relative": stats.relative,
        "cosine": stats.cosine,
        "max_abs": stats.max_abs,
        "old_norm": stats.old_norm,
        "new_norm": stats.new_norm,
        "change_norm": stats.change_norm,
        "factor": stats.factor,
        "not_finite": stats.not_finite,
        "lost": stats.lost,
    })
}

/// Raw and stored bytes, and how many times fewer the latter are.
pub(crate) fn sizes(raw: u64, stored: u64) -> Value {
    json!({"raw": raw, "stored": stored, "ratio": ratio_value(raw, stored)})
}
