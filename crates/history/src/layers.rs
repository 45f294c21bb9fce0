//! Rolls tensors up to the layers they belong to, by their names, whatever the naming scheme.

use std::cmp::Ordering;
use std::collections::HashMap;

/// A layer: a name that its tensors share, and which tensors they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The name, such as `model.layers.12`.
    pub name: String,
    /// Indices of the tensors, in the order they came in.
    pub tensors: Vec<usize>,
}

/// The layer of a tensor.
///
/// Where a part of the name is a number, or ends in `_` and a number, the layer is the name up to the first such part:
/// `model.layers.12.self_attn.q_proj.weight` is in `model.layers.12`, `params/h_3/attn/kernel` in `params/h_3`. Otherwise it is
/// the name up to a part about embeddings (`bert.embeddings.LayerNorm.weight` is in `bert.embeddings`), or else without its
/// last part and at most two parts long: `lm_head.weight` is in `lm_head`, `cls.predictions.transform.dense.bias` in
/// `cls.predictions`. A name of one part is its own layer.
#[must_use]
pub fn layer_of(name: &str) -> &str {
    let end = split_at_number(name).map_or_else(|| named_layer_end(name), |(_, end)| end);
    name.get(..end).unwrap_or(name)
}

/// Where the first number that counts layers starts and ends, in bytes.
fn split_at_number(name: &str) -> Option<(usize, usize)> {
    let mut before = "";
    for (start, end) in parts(name) {
        let part = name.get(start..end)?;
        // Keras 3 numbers the variables of a layer, as in `layers/dense_1/vars/0`.
        let word = part.trim_matches('_');
        let is_variable = std::mem::replace(&mut before, word).eq_ignore_ascii_case("vars");
        if is_variable && word.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // In one part, digits between underscores or the part's ends: `0`, `h_0`, `lora_unet_down_blocks_0_attn`.
        let mut at = start;
        for piece in part.split('_') {
            if !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_digit()) {
                return Some((at, at + piece.len()));
            }
            at += piece.len() + 1;
        }
    }
    None
}

/// Where the layer's name ends in a name without numbers, in bytes.
fn named_layer_end(name: &str) -> usize {
    let ends: Vec<(usize, usize)> = parts(name).collect();
    let is_embedding = |(start, end): &(usize, usize)| {
        name.get(*start..*end).is_some_and(|part| part.to_ascii_lowercase().contains("embed"))
    };
    if let Some((_, end)) = ends.iter().find(|part| is_embedding(part)) {
        return *end;
    }
    let keep = ends.len().saturating_sub(1).clamp(1, 2);
    ends.get(keep - 1).map_or(name.len(), |(_, end)| *end)
}

/// Start and end of each part between dots and slashes, in bytes; empty parts are left out.
fn parts(name: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut start = 0;
    name.split(['.', '/']).filter_map(move |part| {
        let range = (start, start + part.len());
        start = range.1 + 1;
        (!part.is_empty()).then_some(range)
    })
}

/// Groups tensors, given by name, into layers. Layers that differ only in their number follow one another by number, at the
/// place where the first of them appears; otherwise layers are in the order in which they appear.
#[must_use]
pub fn roll_up<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Layer> {
    let mut layers: Vec<(usize, Layer)> = Vec::new();
    let mut by_layer: HashMap<&'a str, usize> = HashMap::new();
    let mut by_stem: HashMap<(&'a str, bool), usize> = HashMap::new();
    for (index, name) in names.into_iter().enumerate() {
        let layer = layer_of(name);
        let place = *by_layer.entry(layer).or_insert_with(|| {
            // The stem: what the layers of one stack have in common.
            let number = split_at_number(layer).map(|(start, _)| start);
            let stem = (layer.get(..number.unwrap_or(layer.len())).unwrap_or(layer), number.is_some());
            let count = by_stem.len();
            let stack = *by_stem.entry(stem).or_insert(count);
            layers.push((stack, Layer { name: layer.to_owned(), tensors: Vec::new() }));
            layers.len() - 1
        });
        if let Some((_, layer)) = layers.get_mut(place) {
            layer.tensors.push(index);
        }
    }
    layers.sort_by(|(stack_a, a), (stack_b, b)| stack_a.cmp(stack_b).then_with(|| natural_cmp(&a.name, &b.name)));
    layers.into_iter().map(|(_, layer)| layer).collect()
}

/// Compares texts as people do: runs of digits by their value, all else by bytes. A total order: texts that differ only in
/// leading zeros are compared by bytes.
#[must_use]
pub fn natural_cmp(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (digits_left, digits_right) = (leading_digits(left), leading_digits(right));
        let order = if digits_left > 0 && digits_right > 0 {
            let (number_left, rest_left) = left.split_at(digits_left);
            let (number_right, rest_right) = right.split_at(digits_right);
            (left, right) = (rest_left, rest_right);
            let (number_left, number_right) = (without_zeros(number_left), without_zeros(number_right));
            number_left.len().cmp(&number_right.len()).then_with(|| number_left.cmp(number_right))
        } else {
            match (left.split_first(), right.split_first()) {
                (Some((byte_left, rest_left)), Some((byte_right, rest_right))) => {
                    (left, right) = (rest_left, rest_right);
                    byte_left.cmp(byte_right)
                }
                (None, None) => return a.cmp(b),
                (left, right) => return left.is_some().cmp(&right.is_some()),
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.split_at_checked(zeros).map_or(digits, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layers_of_many_naming_schemes() {
        for (name, layer) in [
            ("model.layers.12.self_attn.q_proj.weight", "model.layers.12"),
            ("model.layers.3.mlp.experts.7.w1.weight", "model.layers.3"),
            ("h.3.attn.c_attn.weight", "h.3"),
            ("bert.encoder.layer.0.attention.self.query.weight", "bert.encoder.layer.0"),
            ("blocks.5.mlp.fc1.bias", "blocks.5"),
            ("blk.11.ffn_up.weight", "blk.11"),
            ("layer1.0.conv1.weight", "layer1.0"),
            ("layer1.0.downsample.0.weight", "layer1.0"),
            ("encoder.block.0.layer.1.DenseReluDense.wi.weight", "encoder.block.0"),
            ("down_blocks.0.resnets.1.conv1.weight", "down_blocks.0"),
            ("lora_unet_down_blocks_0_attentions_1.lora_up.weight", "lora_unet_down_blocks_0"),
            ("params/h_3/attn/kernel", "params/h_3"),
            ("layer_normalization_12/gamma:0", "layer_normalization_12"),
            ("features.0.weight", "features.0"),
            ("layers/dense_1/vars/0", "layers/dense_1"),
            ("layers/dense/vars/1", "layers/dense"),
            ("0", "0"),
            ("conv1.weight", "conv1"),
            ("embeddings.word_embeddings.weight", "embeddings"),
            ("bert.embeddings.LayerNorm.weight", "bert.embeddings"),
            ("model.embed_tokens.weight", "model.embed_tokens"),
            ("embeddings", "embeddings"),
            ("transformer.wte.weight", "transformer.wte"),
            ("model.norm.weight", "model.norm"),
            ("lm_head.weight", "lm_head"),
            ("cls.predictions.transform.dense.bias", "cls.predictions"),
            ("logit_scale", "logit_scale"),
            ("", ""),
            ("...", "..."),
            (".weight", ".weight"),
            ("été.poids", "été"),
        ] {
            assert_eq!(layer_of(name), layer, "{name}");
        }
    }

    #[test]
    fn layers_are_in_natural_order() {
        let names = [
            "model.embed_tokens.weight",
            "model.layers.0.q",
            "model.layers.10.q",
            "model.layers.2.q",
            "model.layers.0.k",
            "model.norm.weight",
            "layer1.1.w",
            "layer1.0.w",
            "layer2.0.w",
            "lm_head.weight",
            "model.layers.2.k",
        ];
        let layers = roll_up(names);
        let found: Vec<(&str, &[usize])> = layers.iter().map(|l| (l.name.as_str(), l.tensors.as_slice())).collect();
        let expected: [(&str, &[usize]); 9] = [
            ("model.embed_tokens", &[0]),
            ("model.layers.0", &[1, 4]),
            ("model.layers.2", &[3, 10]),
            ("model.layers.10", &[2]),
            ("model.norm", &[5]),
            ("layer1.0", &[7]),
            ("layer1.1", &[6]),
            ("layer2.0", &[8]),
            ("lm_head", &[9]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn natural_order() {
        let sorted = ["", "01", "1", "2", "10", "a", "a1", "a1b", "a2", "a10", "a18446744073709551616", "b"];
        for (index, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(natural_cmp(a, b), index.cmp(&other), "{a} {b}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_tensor_is_in_one_layer(names in prop::collection::vec("[a-c]{0,2}([._/][a-c0-9]{0,3}){0,4}", 0..40)) {
            let layers = roll_up(names.iter().map(String::as_str));
            let mut seen: Vec<usize> = layers.iter().flat_map(|layer| layer.tensors.iter().copied()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..names.len()).collect::<Vec<_>>());
            for layer in &layers {
                for index in &layer.tensors {
                    prop_assert_eq!(layer_of(&names[*index]), &layer.name);
                }
            }
        }

        #[test]
        fn natural_order_is_total(a in "[a0-2]{0,6}", b in "[a0-2]{0,6}", c in "[a0-2]{0,6}") {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b) == Ordering::Equal, a == b);
            if natural_cmp(&a, &b) != Ordering::Greater && natural_cmp(&b, &c) != Ordering::Greater {
                prop_assert_ne!(natural_cmp(&a, &c), Ordering::Greater);
            }
        }

        #[test]
        fn any_name_has_a_layer(name: String) {
            prop_assert!(name.starts_with(layer_of(&name)));
        }
    }
}
