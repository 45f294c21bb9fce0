//! A comparison as CSV (RFC 4180, but for line feeds alone): a row a tensor.

use shard_core::DType;
use shard_history::{layer_of, role_of};
use shard_repo::{Comparison, TensorDiff};

use super::Pair;
use crate::report::text::{shape, visible};

const HEAD: &str = "model,tensor,old_name,state,kind,layer,column,old_dtype,old_shape,new_dtype,new_shape,words,changed,relative,cosine,\
max_ulp,max_abs,old_norm,new_norm,change_norm,factor,not_finite,lost,rank,effective_rank,evidence\n";

pub(super) fn text(compared: &[(Pair, Comparison)]) -> String {
    let mut text = HEAD.to_owned();
    for (pair, found) in compared {
        found.tensors.iter().for_each(|tensor| row(&pair.name, tensor, &mut text));
    }
    text
}

fn row(model: &str, tensor: &TensorDiff, text: &mut String) {
    let dtype = |side: &Option<(DType, Vec<u64>)>| side.as_ref().map(|(dtype, _)| dtype.name().to_owned());
    let dims = |side: &Option<(DType, Vec<u64>)>| side.as_ref().map(|(_, dims)| shape(dims));
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    let stats = tensor.stats;
    let whole = |value: fn(&shard_repo::ChangeStats) -> u64| stats.as_ref().map(|stats| value(stats).to_string());
    let real = |value: fn(&shard_repo::ChangeStats) -> Option<f64>| number(stats.as_ref().and_then(value));
    let fields = [
        Some(model.to_owned()),
        Some(tensor.name.clone()),
        tensor.old_name.clone(),
        Some(tensor.state.as_str().to_owned()),
        Some(tensor.finding.kind.as_str().to_owned()),
        Some(layer_of(&tensor.name).to_owned()),
        Some(role_of(&tensor.name).column.short()),
        dtype(&tensor.old),
        dims(&tensor.old),
        dtype(&tensor.new),
        dims(&tensor.new),
        whole(|stats| stats.words),
        whole(|stats| stats.changed),
        real(|stats| stats.relative),
        real(|stats| stats.cosine),
        stats.and_then(|stats| stats.max_ulp).map(|steps| steps.to_string()),
        real(|stats| stats.max_abs),
        real(|stats| stats.old_norm),
        real(|stats| stats.new_norm),
        real(|stats| stats.change_norm),
        real(|stats| stats.factor),
        whole(|stats| stats.not_finite),
        whole(|stats| stats.lost),
        tensor.finding.rank.map(|rank| rank.to_string()),
        number(tensor.spectrum.as_ref().map(|spectrum| spectrum.effective_rank())),
        Some(tensor.finding.evidence.clone()),
    ];
    let quoted = fields.map(|field| quote(&field.unwrap_or_default()));
    text.push_str(&quoted.join(","));
    text.push('\n');
}

/// A field, in quotes where it needs them; what would steer a terminal is escaped. One that a spreadsheet would take for a formula begins with an apostrophe.
fn quote(field: &str) -> String {
    let field = visible(field);
    let field = field.as_ref();
    let is_number = field.parse::<f64>().is_ok();
    let steers = !is_number && field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let field = if steers { format!("'{field}") } else { field.to_owned() };
    if field.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        assert_eq!(quote("a.b"), "a.b");
        assert_eq!(quote("[2, 3]"), "\"[2, 3]\"");
        assert_eq!(quote("say \"x\"\n"), "\"say \"\"x\"\"\\n\"");
        assert_eq!(quote("-1.5e-7"), "-1.5e-7");
        assert_eq!(quote("=cmd()"), "'=cmd()");
    }

    #[test]
    fn the_head_has_as_many_fields_as_rows() {
        use shard_history::TensorChange;
        use shard_repo::{Finding, Kind};

        let finding = Finding { kind: Kind::Added, evidence: "only here".to_owned(), rank: None, share: None };
        let tensor = TensorDiff {
            name: "h.0.attn.c_attn.weight".to_owned(),
            old_name: None,
            state: TensorChange::Added,
            old: None,
            new: Some((DType::BF16, vec![2])),
            stats: None,
            finding,
            spectrum: None,
        };
        let mut text = String::new();
        row("model", &tensor, &mut text);
        assert_eq!(text.matches(',').count(), HEAD.matches(',').count());
        assert!(text.starts_with("model,h.0.attn.c_attn.weight,,added,added,h.0,"), "{text}");
    }
}
