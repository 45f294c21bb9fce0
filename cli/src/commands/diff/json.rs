//! A comparison as JSON.

use serde_json::{Map, Value, json};
use shard_core::DType;
use shard_history::{FileChange, TensorChange as State, layer_of, role_of};
use shard_repo::{Comparison, TensorDiff, Verdict};

use super::{Args, Pair, of_state, rows};
use crate::report::json::{change_stats, file_change};

pub(super) fn document(compared: &[(Pair, Comparison)], others: &[FileChange], differs: bool, args: &Args) -> Value {
    let models = compared.iter().map(|(pair, comparison)| {
        let counts: Map<String, Value> = State::ALL
            .iter()
            .map(|state| (state.as_str().to_owned(), of_state(&comparison.tensors, *state).into()))
            .collect();
        let mut model = json!({
            "name": pair.name,
            "old": pair.old.label,
            "new": pair.new.label,
            "identical": comparison.identical,
            "other_bytes_differ": comparison.other_bytes_differ,
            "kind": verdict(&comparison.verdict),
            "total": comparison.tensors.len(),
            "counts": counts,
        });
        if args.names {
            model["names"] = rows::name_map_json(&comparison.tensors);
        } else if !args.stat {
            model["tensors"] = rows::selected(&comparison.tensors, args).into_iter().map(tensor).collect();
            model["layers"] = rows::layers_json(&comparison.tensors, args);
        }
        model
    });
    json!({
        "differs": differs,
        "models": models.collect::<Vec<_>>(),
        "other_files": others.iter().map(file_change).collect::<Vec<_>>(),
    })
}

/// The kind of a model's change.
pub(super) fn verdict(verdict: &Verdict) -> Value {
    let parts = verdict
        .parts
        .iter()
        .map(|(kind, tensors, elements)| json!({"kind": kind.as_str(), "tensors": tensors, "elements": elements}));
    json!({
        "kind": verdict.kind.as_str(),
        "evidence": verdict.evidence,
        "rank": verdict.rank,
        "parts": parts.collect::<Vec<_>>(),
    })
}

pub(super) fn tensor(tensor: &TensorDiff) -> Value {
    let geometry = |side: &Option<(DType, Vec<u64>)>| {
        side.as_ref().map_or(Value::Null, |(dtype, dims)| json!({"dtype": dtype.name(), "shape": dims}))
    };
    let mut value = json!({
        "name": tensor.name,
        "old_name": tensor.old_name,
        "state": tensor.state.as_str(),
        "kind": tensor.finding.kind.as_str(),
        "evidence": tensor.finding.evidence,
        "rank": tensor.finding.rank,
        "explained": tensor.finding.share,
        "layer": layer_of(&tensor.name),
        "column": role_of(&tensor.name).column.short(),
        "old": geometry(&tensor.old),
        "new": geometry(&tensor.new),
        "stats": tensor.stats.as_ref().map(change_stats),
    });
    if let Some(spectrum) = &tensor.spectrum {
        value["effective_rank"] = spectrum.effective_rank().into();
        value["spectrum_of"] = json!({
            "rows": spectrum.looked_at.0,
            "columns": spectrum.looked_at.1,
            "whole": spectrum.is_whole,
        });
    }
    value
}
