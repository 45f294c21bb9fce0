mod data;
mod dialects;
mod schemes;
mod vision;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::layers::roll_up;

/// Names of tensors, and the label and part that each of them has to have.
type Table<'t> = &'t [(&'t str, Part, &'t str)];

fn check(table: Table<'_>) {
    let mut wrong = Vec::new();
    for (short, part, names) in table {
        for name in names.split_ascii_whitespace() {
            let role = role_of(name);
            if role.column.short() != *short || role.part != *part {
                wrong.push(format!("{name}: {} {:?}, not {short} {part:?}", role.column.short(), role.part));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The labels of the columns of some tensors, from the left.
fn columns<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let columns: BTreeSet<Column<'_>> = names.into_iter().map(|name| role_of(name).column).collect();
    columns.iter().map(Column::short).collect()
}

/// The names of the rows of some tensors, from the top.
fn rows<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let mut layers = roll_up(names);
    in_model_order(&mut layers);
    layers.into_iter().map(|layer| layer.name).collect()
}

#[test]
fn labels_in_full() {
    for (name, full) in [
        ("model.layers.0.self_attn.q_proj.weight", "attention query"),
        ("model.decoder.layers.0.encoder_attn.k_proj.weight", "cross-attention key"),
        ("model.layers.0.mlp.experts.3.down_proj.weight", "experts' MLP down"),
        ("model.layers.0.mlp.shared_expert.gate_proj.weight", "shared expert's MLP gate"),
        ("x.layers.0.self_attn.q_proj.lora_A.default.weight", "attention query, LoRA A"),
        ("optimizer.exp_avg_sq.h.0.attn.c_attn.weight", "attention query, key and value, second moment"),
        ("encoder.layer.0.output.dense.weight_scale", "MLP down, scale of the quantisation"),
        ("layer1.0.bn2.running_var", "batch norm 2, running mean and variance"),
        ("optimizer.state.0.exp_avg", "first moment"),
        ("blocks.0.norm1.linear.weight", "norm1.linear"),
        ("0.weight", "weights and biases"),
    ] {
        assert_eq!(role_of(name).column.full(), full, "{name}");
    }
}

#[test]
fn columns_of_a_decoder() {
    let names = [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.extra.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.v_proj.lora_A.weight",
        "model.layers.0.self_attn.v_proj.lora_B.weight",
        "model.norm.weight",
        "optimizer.exp_avg.model.layers.0.self_attn.q_proj.weight",
        "optimizer.exp_avg.model.layers.0.self_attn.k_proj.bias",
        "optimizer.exp_avg_sq.model.layers.0.self_attn.q_proj.weight",
    ];
    let expected = [
        "embed",
        "attn norm",
        "q",
        "k",
        "v",
        "o",
        "mlp norm",
        "gate",
        "up",
        "down",
        "extra",
        "final norm",
        "head",
        "v A",
        "v B",
        "q scale",
        "q m",
        "q v",
        "k m",
    ];
    assert_eq!(columns(names), expected);
}

#[test]
fn columns_of_a_residual_network() {
    let mut names = Vec::new();
    for part in ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"] {
        for norm in ["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0.bn3", "layer2.0.downsample.1"] {
            names.push(format!("{norm}.{part}"));
        }
    }
    names.extend(
        ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv3", "layer2.0.downsample.0"].map(String::from),
    );
    names.extend(["fc.weight", "fc.bias"].map(String::from));
    let expected = [
        "conv",
        "bn",
        "bn stats",
        "bn count",
        "conv1",
        "bn1",
        "bn1 stats",
        "bn1 count",
        "conv2",
        "bn2",
        "bn2 stats",
        "bn2 count",
        "conv3",
        "bn3",
        "bn3 stats",
        "bn3 count",
        "downsample",
        "downsample bn",
        "downsample bn stats",
        "downsample bn count",
        "head",
    ];
    assert_eq!(columns(names.iter().map(String::as_str)), expected);
}

#[test]
fn rows_in_model_order() {
    for (names, expected) in [
        // GPT-2, with the optimizer.
        (
            "lm_head.weight optimizer.exp_avg.h.0.ln_1.weight transformer.h.0.ln_1.weight transformer.h.10.ln_1.weight \
             transformer.h.2.ln_1.weight transformer.ln_f.weight transformer.wpe.weight transformer.wte.weight",
            "transformer.wte transformer.wpe transformer.h.0 transformer.h.2 transformer.h.10 transformer.ln_f lm_head \
             optimizer.exp_avg.h.0",
        ),
        // BERT.
        (
            "bert.embeddings.LayerNorm.weight bert.embeddings.word_embeddings.weight bert.encoder.layer.0.output.dense.bias \
             bert.encoder.layer.1.output.dense.bias bert.pooler.dense.weight cls.predictions.bias cls.seq_relationship.bias",
            "bert.embeddings bert.encoder.layer.0 bert.encoder.layer.1 bert.pooler cls.predictions cls.seq_relationship",
        ),
        // T5.
        (
            "decoder.block.0.layer.0.layer_norm.weight decoder.final_layer_norm.weight encoder.block.0.layer.0.layer_norm.weight \
             encoder.final_layer_norm.weight lm_head.weight shared.weight",
            "shared encoder.block.0 encoder.final_layer_norm decoder.block.0 decoder.final_layer_norm lm_head",
        ),
        // Whisper: the convolutions and the last norm are tensors of `model.encoder`.
        (
            "model.decoder.embed_positions.weight model.decoder.embed_tokens.weight model.decoder.layer_norm.weight \
             model.decoder.layers.0.fc1.weight model.encoder.conv1.weight model.encoder.embed_positions.weight \
             model.encoder.layers.0.fc1.weight model.encoder.layer_norm.weight proj_out.weight",
            "model.encoder.embed_positions model.encoder model.encoder.layers.0 model.decoder.embed_tokens \
             model.decoder.embed_positions model.decoder model.decoder.layers.0 proj_out",
        ),
        // ResNet.
        (
            "bn1.weight conv1.weight fc.bias layer1.0.bn1.weight layer1.1.bn1.weight layer2.0.bn1.weight layer10.0.bn1.weight",
            "conv1 bn1 layer1.0 layer1.1 layer2.0 layer10.0 fc",
        ),
        // A plain convolutional network.
        (
            "bn1.weight bn2.weight conv1.weight conv2.weight conv10.weight fc1.weight fc2.weight",
            "conv1 bn1 conv2 bn2 conv10 fc1 fc2",
        ),
        (
            "classifier.weight conv1.weight conv1_BN.weight conv2.weight conv2_BN.weight",
            "conv1 conv1_BN conv2 conv2_BN classifier",
        ),
        // ViT.
        (
            "blocks.0.norm1.bias blocks.1.norm1.bias cls_token head.weight norm.weight patch_embed.proj.weight pos_embed",
            "patch_embed cls_token pos_embed blocks.0 blocks.1 norm head",
        ),
        // U-Net.
        (
            "conv_in.weight conv_norm_out.weight conv_out.weight down_blocks.0.resnets.0.conv1.weight \
             down_blocks.1.resnets.0.conv1.weight mid_block.resnets.0.conv1.weight time_embedding.linear_1.weight \
             time_embedding.linear_2.weight up_blocks.0.resnets.0.conv1.weight",
            "time_embedding.linear_1 time_embedding.linear_2 conv_in down_blocks.0 down_blocks.1 mid_block.resnets.0 \
             up_blocks.0 conv_norm_out conv_out",
        ),
        // A model that sees.
        (
            "language_model.lm_head.weight language_model.model.embed_tokens.weight language_model.model.layers.0.mlp.up_proj.weight \
             language_model.model.norm.weight multi_modal_projector.linear_1.weight vision_tower.encoder.layers.0.mlp.fc1.weight \
             vision_tower.patch_embed.weight",
            "vision_tower.patch_embed vision_tower.encoder.layers.0 multi_modal_projector.linear_1 \
             language_model.model.embed_tokens language_model.model.layers.0 language_model.model language_model.lm_head",
        ),
        // VGG.
        (
            "classifier.0.weight classifier.3.weight features.0.weight features.10.weight features.2.weight",
            "features.0 features.2 features.10 classifier.0 classifier.3",
        ),
        // GGUF.
        (
            "output.weight token_embd.weight output_norm.weight blk.1.attn_q.weight blk.0.attn_q.weight rope_freqs.weight",
            "token_embd blk.0 blk.1 output_norm output rope_freqs",
        ),
        // A recurrent network.
        (
            "conv1.weight conv2.weight final_conv.weight lstm_cell.weight_ih rng stft_conv.weight",
            "stft_conv conv1 conv2 lstm_cell final_conv rng",
        ),
    ] {
        assert_eq!(rows(names.split_ascii_whitespace()).join(" "), expected);
    }
}

/// Names made of what tensors' names are made of.
fn name() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "model",
        "layers",
        "h",
        "encoder",
        "decoder",
        "attn",
        "self_attn",
        "mlp",
        "experts",
        "q_proj",
        "query",
        "dense",
        "fc1",
        "conv1",
        "conv",
        "bn2",
        "ln_1",
        "norm",
        "wi_0",
        "lora_A",
        "default",
        "weight",
        "bias",
        "kernel",
        "scale",
        "exp_avg",
        "optimizer",
        "state",
        "vars",
        "output",
        "Constant_output_0",
        "x",
        "0",
        "1",
        "12",
        "W1",
        "b",
        "weight_ih_l0",
        "block_3",
        "lora_unet",
        "alpha",
        "downsample",
        "embedding",
        "é",
        "",
    ]);
    prop::collection::vec((words, prop::sample::select(vec![".", "/", "_", ":", "__", "#"])), 0..9).prop_map(|parts| {
        let mut name: String = parts.iter().flat_map(|(word, separator)| [*word, *separator]).collect();
        name.pop();
        name
    })
}

/// A name and where the number of its layer starts and ends, if the layer has one.
fn counted(name: &str) -> Option<(String, usize, usize)> {
    let layer = layer_of(name);
    let start = layer.trim_end_matches(|character: char| character.is_ascii_digit());
    let is_counted = start.len() < layer.len() && (start.is_empty() || start.ends_with(['.', '/', '_']));
    is_counted.then(|| (name.to_owned(), start.len(), layer.len()))
}

proptest! {
    #[test]
    fn any_text_has_a_role(name: String) {
        let role = role_of(&name);
        prop_assert_eq!(role, role_of(&name));
        prop_assert!(!role.column.short().is_empty() && !role.column.full().is_empty());
    }

    #[test]
    fn any_name_has_a_role(name in name()) {
        let role = role_of(&name);
        prop_assert_eq!(role, role_of(&name));
        prop_assert!(!role.column.short().is_empty() && !role.column.full().is_empty());
        prop_assert_eq!(role.part.of_column(), role.column.part);
    }

    #[test]
    fn the_number_of_the_layer_tells_nothing(name in name(), number in 0u32..200) {
        let Some((name, start, end)) = counted(&name).or_else(|| counted(&format!("model.layers.3.{name}"))) else {
            unreachable!()
        };
        let other = format!("{}{number}{}", &name[..start], &name[end..]);
        let (role, renamed) = (role_of(&name), role_of(&other));
        prop_assert_eq!(role.column.short(), renamed.column.short(), "{} {}", name, other);
        prop_assert_eq!(role.column.full(), renamed.column.full());
        prop_assert_eq!(role.part, renamed.part);
    }

    #[test]
    fn columns_have_one_order(names in prop::collection::vec(name(), 3)) {
        let [a, b, c] = &names[..] else { unreachable!() };
        let (a, b, c) = (role_of(a).column, role_of(b).column, role_of(c).column);
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    #[test]
    fn ordering_loses_no_layer(names in prop::collection::vec(name(), 0..30)) {
        let before = roll_up(names.iter().map(String::as_str));
        let mut after = before.clone();
        in_model_order(&mut after);
        let mut again = after.clone();
        in_model_order(&mut again);
        prop_assert_eq!(&after, &again);
        let sorted = |mut layers: Vec<crate::Layer>| {
            layers.sort_by(|a, b| a.name.cmp(&b.name));
            layers
        };
        prop_assert_eq!(sorted(before), sorted(after));
    }
}
