//! One pass of a codec over all tensors, and the medians of several.

use std::error::Error;
use std::hint::black_box;

use serde_json::{Value, json};
use shard_core::sha256;

use crate::clock::timed;
use crate::codec::Codec;
use crate::tensors::Tensor;

/// What one tensor took in one round.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    stored: usize,
    encode: f64,
    decode: f64,
    hash: f64,
}

/// Encodes and decodes every tensor, and compares.
pub(crate) fn run(codec: &mut dyn Codec, tensors: &[Tensor]) -> Result<Vec<Cost>, Box<dyn Error>> {
    let mut costs = Vec::with_capacity(tensors.len());
    let (mut stored, mut out) = (Vec::new(), Vec::new());
    for tensor in tensors {
        stored.clear();
        // What has been written to once costs no page faults: the buffers are those of a program that is at work.
        stored.resize(tensor.data.len() + tensor.data.len() / 8 + 4096, 0);
        stored.clear();
        let (encoded, encode) = timed(|| codec.encode(tensor, &mut stored));
        encoded.map_err(|error| format!("{}: {error}", tensor.name))?;
        out.clear();
        out.resize(tensor.data.len(), 0);
        let (decoded, decode) = timed(|| codec.decode(&stored, tensor, &mut out));
        decoded.map_err(|error| format!("{}: {error}", tensor.name))?;
        if out != tensor.data {
            return Err(format!("{}: the round trip is not exact", tensor.name).into());
        }
        let (digest, hash) = timed(|| sha256(&tensor.data));
        black_box(digest);
        costs.push(Cost { stored: stored.len(), encode, decode, hash });
    }
    Ok(costs)
}

/// The medians of the rounds, of each tensor and of the totals.
pub(crate) fn json(name: &str, tensors: &[Tensor], rounds: &[Vec<Cost>]) -> Value {
    let of_tensor = |(index, tensor): (usize, &Tensor)| {
        let costs: Vec<Cost> = rounds.iter().map(|round| round[index]).collect();
        let mut value = fields(tensor.data.len(), &costs);
        value["name"] = json!(tensor.name);
        value["dtype"] = json!(tensor.dtype.name());
        value
    };
    let totals: Vec<Cost> = rounds.iter().map(|round| total(round)).collect();
    let mut value = fields(tensors.iter().map(|tensor| tensor.data.len()).sum(), &totals);
    value["codec"] = json!(name);
    value["tensors"] = tensors.iter().enumerate().map(of_tensor).collect();
    value
}

fn total(round: &[Cost]) -> Cost {
    round.iter().fold(Cost::default(), |sum, cost| Cost {
        stored: sum.stored + cost.stored,
        encode: sum.encode + cost.encode,
        decode: sum.decode + cost.decode,
        hash: sum.hash + cost.hash,
    })
}

fn fields(raw: usize, costs: &[Cost]) -> Value {
    json!({
        "raw": raw,
        "stored": costs.first().map_or(0, |cost| cost.stored),
        "encode_s": median(costs.iter().map(|cost| cost.encode)),
        "decode_s": median(costs.iter().map(|cost| cost.decode)),
        "sha256_s": median(costs.iter().map(|cost| cost.hash)),
    })
}

/// The median, the lower one of two; 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
