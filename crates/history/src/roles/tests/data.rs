//! The names in real checkpoints of every kind that is at hand: trained, fine-tuned, adapted, quantised and exported ones.

use super::super::Part::{
    BatchCount, Bias as B, FirstMoment, RunningMean, RunningVariance, Scale, SecondMoment, Step, Weight as W,
};
use super::{Table, check, columns, rows};

/// Checks the columns of the tensors of a file, and what the picture of it has from left to right and from top to bottom.
fn check_file(table: Table<'_>, expected_columns: &str, expected_rows: &str) {
    check(table);
    // As a safetensors file has them.
    let mut names: Vec<&str> = table.iter().flat_map(|(_, _, names)| names.split_ascii_whitespace()).collect();
    names.sort_unstable();
    assert_eq!(columns(names.iter().copied()).join(", "), expected_columns);
    assert_eq!(rows(names).join(", "), expected_rows);
}

/// Repeats names, which have `N` for the number of the layer, for some layers.
fn layers(template: &str, numbers: &[u32]) -> String {
    numbers.iter().map(|number| template.replace('N', &number.to_string()) + " ").collect()
}

#[test]
fn minilm() {
    let of = |names: &str| {
        let names: Vec<String> = names.split_ascii_whitespace().map(|name| format!("encoder.layer.N.{name}")).collect();
        // `LayerNorm` has an N of its own.
        layers(&names.join(" ").replace("LayerNorm", "LayerM"), &[0, 1, 2]).replace("LayerM", "LayerNorm")
    };
    check_file(
        &[
            ("pos ids", W, "embeddings.position_ids"),
            ("embed norm", B, "embeddings.LayerNorm.bias"),
            ("embed norm", W, "embeddings.LayerNorm.weight"),
            ("pos", W, "embeddings.position_embeddings.weight"),
            ("type", W, "embeddings.token_type_embeddings.weight"),
            ("embed", W, "embeddings.word_embeddings.weight"),
            ("attn norm", B, &of("attention.output.LayerNorm.bias")),
            ("attn norm", W, &of("attention.output.LayerNorm.weight")),
            ("o", B, &of("attention.output.dense.bias")),
            ("o", W, &of("attention.output.dense.weight")),
            ("k", B, &of("attention.self.key.bias")),
            ("k", W, &of("attention.self.key.weight")),
            ("q", B, &of("attention.self.query.bias")),
            ("q", W, &of("attention.self.query.weight")),
            ("v", B, &of("attention.self.value.bias")),
            ("v", W, &of("attention.self.value.weight")),
            ("up", B, &of("intermediate.dense.bias")),
            ("up", W, &of("intermediate.dense.weight")),
            ("mlp norm", B, &of("output.LayerNorm.bias")),
            ("mlp norm", W, &of("output.LayerNorm.weight")),
            ("down", B, &of("output.dense.bias")),
            ("down", W, &of("output.dense.weight")),
        ],
        "embed, type, pos, pos ids, embed norm, attn norm, q, k, v, o, mlp norm, up, down",
        "embeddings, encoder.layer.0, encoder.layer.1, encoder.layer.2",
    );
}

#[test]
fn minilm_adapted() {
    let of = |name: &str| format!("base_model.model.encoder.layer.5.attention.{name}.default.weight");
    check_file(
        &[
            ("o A", W, &of("output.dense.lora_A")),
            ("o B", W, &of("output.dense.lora_B")),
            ("k A", W, &of("self.key.lora_A")),
            ("k B", W, &of("self.key.lora_B")),
            ("q A", W, &of("self.query.lora_A")),
            ("q B", W, &of("self.query.lora_B")),
            ("v A", W, &of("self.value.lora_A")),
            ("v B", W, &of("self.value.lora_B")),
        ],
        "q A, q B, k A, k B, v A, v B, o A, o B",
        "base_model.model.encoder.layer.5",
    );
}

#[test]
fn minilm_quantised() {
    check_file(
        &[
            ("embed norm", B, "embeddings.LayerNorm.bias"),
            ("embed norm", W, "embeddings.LayerNorm.weight"),
            ("embed", W, "embeddings.word_embeddings.weight"),
            ("embed scale", Scale, "embeddings.word_embeddings.weight_scale"),
            ("q", B, "encoder.layer.0.attention.self.query.bias encoder.layer.5.attention.self.query.bias"),
            ("q", W, "encoder.layer.0.attention.self.query.weight encoder.layer.5.attention.self.query.weight"),
            (
                "q scale",
                Scale,
                "encoder.layer.0.attention.self.query.weight_scale encoder.layer.5.attention.self.query.weight_scale",
            ),
            ("attn norm", B, "encoder.layer.5.attention.output.LayerNorm.bias"),
            ("attn norm", W, "encoder.layer.5.attention.output.LayerNorm.weight"),
            ("o", B, "encoder.layer.5.attention.output.dense.bias"),
            ("o", W, "encoder.layer.5.attention.output.dense.weight"),
            ("o scale", Scale, "encoder.layer.5.attention.output.dense.weight_scale"),
        ],
        "embed, embed norm, attn norm, q, o, embed scale, q scale, o scale",
        "embeddings, encoder.layer.0, encoder.layer.5",
    );
    check_file(
        &[
            ("embed norm", B, "embeddings.LayerNorm.bias"),
            ("embed norm", W, "embeddings.LayerNorm.weight"),
            ("embed", W, "token_embd.weight"),
            ("q", B, "blk.0.attn_q.bias blk.5.attn_q.bias"),
            ("q", W, "blk.0.attn_q.weight blk.5.attn_q.weight"),
            ("attn norm", B, "blk.5.attention.output.LayerNorm.bias"),
            ("attn norm", W, "blk.5.attention.output.LayerNorm.weight"),
            ("o", B, "blk.5.attn_output.bias"),
            ("o", W, "blk.5.attn_output.weight"),
        ],
        "embed, embed norm, attn norm, q, o",
        "embeddings, token_embd, blk.0, blk.5",
    );
}

#[test]
fn gpt() {
    let of = |names: &str| layers(names, &[0, 1, 2, 3, 4, 5]);
    check_file(
        &[
            ("qkv", B, &of("transformer.h.N.attn.c_attn.bias")),
            ("qkv", W, &of("transformer.h.N.attn.c_attn.weight")),
            ("o", B, &of("transformer.h.N.attn.c_proj.bias")),
            ("o", W, &of("transformer.h.N.attn.c_proj.weight")),
            ("attn norm", B, &of("transformer.h.N.ln_1.bias")),
            ("attn norm", W, &of("transformer.h.N.ln_1.weight")),
            ("mlp norm", B, &of("transformer.h.N.ln_2.bias")),
            ("mlp norm", W, &of("transformer.h.N.ln_2.weight")),
            ("up", B, &of("transformer.h.N.mlp.c_fc.bias")),
            ("up", W, &of("transformer.h.N.mlp.c_fc.weight")),
            ("down", B, &of("transformer.h.N.mlp.c_proj.bias")),
            ("down", W, &of("transformer.h.N.mlp.c_proj.weight")),
            ("final norm", B, "transformer.ln_f.bias"),
            ("final norm", W, "transformer.ln_f.weight"),
            ("pos", W, "transformer.wpe.weight"),
            ("embed", W, "transformer.wte.weight"),
        ],
        "embed, pos, attn norm, qkv, o, mlp norm, up, down, final norm",
        "transformer.wte, transformer.wpe, transformer.h.0, transformer.h.1, transformer.h.2, transformer.h.3, \
         transformer.h.4, transformer.h.5, transformer.ln_f",
    );
}

#[test]
fn gpt_renamed_into_two_shards() {
    check_file(
        &[
            ("pos", W, "model.embed_positions.weight"),
            ("embed", W, "model.embed_tokens.weight"),
            ("final norm", B, "model.norm.bias"),
            ("final norm", W, "model.norm.weight"),
            ("attn norm", B, "model.layers.3.input_layernorm.bias"),
            ("attn norm", W, "model.layers.3.input_layernorm.weight"),
            ("mlp norm", B, "model.layers.3.post_attention_layernorm.bias"),
            ("mlp norm", W, "model.layers.3.post_attention_layernorm.weight"),
            ("o", B, "model.layers.3.self_attn.o_proj.bias"),
            ("o", W, "model.layers.3.self_attn.o_proj.weight"),
            ("qkv", B, "model.layers.3.self_attn.qkv_proj.bias"),
            ("qkv", W, "model.layers.3.self_attn.qkv_proj.weight"),
        ],
        "embed, pos, attn norm, qkv, o, mlp norm, final norm",
        "model.embed_tokens, model.embed_positions, model.layers.3, model.norm",
    );
}

#[test]
fn gpt_with_its_optimizer() {
    let parameters = ["attn.c_proj.weight attn.c_proj.bias", "ln_1.weight ln_1.bias", "ln_2.weight ln_2.bias"];
    let of = |prefix: &str, names: &str| -> String {
        names.split_ascii_whitespace().map(|name| format!("{prefix}transformer.h.3.{name} ")).collect()
    };
    let (m, v) = ("optimizer.exp_avg.", "optimizer.exp_avg_sq.");
    check_file(
        &[
            ("embed", W, "transformer.wte.weight"),
            ("o", W, "transformer.h.3.attn.c_proj.weight"),
            ("o", B, "transformer.h.3.attn.c_proj.bias"),
            ("attn norm", W, "transformer.h.3.ln_1.weight"),
            ("attn norm", B, "transformer.h.3.ln_1.bias"),
            ("mlp norm", W, "transformer.h.3.ln_2.weight"),
            ("mlp norm", B, "transformer.h.3.ln_2.bias"),
            ("embed m", FirstMoment, "optimizer.exp_avg.transformer.wte.weight"),
            ("o m", FirstMoment, &of(m, parameters[0])),
            ("attn norm m", FirstMoment, &of(m, parameters[1])),
            ("mlp norm m", FirstMoment, &of(m, parameters[2])),
            ("embed v", SecondMoment, "optimizer.exp_avg_sq.transformer.wte.weight"),
            ("o v", SecondMoment, &of(v, parameters[0])),
            ("attn norm v", SecondMoment, &of(v, parameters[1])),
            ("mlp norm v", SecondMoment, &of(v, parameters[2])),
        ],
        "embed, attn norm, o, mlp norm, embed m, embed v, attn norm m, attn norm v, o m, o v, mlp norm m, mlp norm v",
        // Without a number, the layer's name is two parts long: one moment of all that is in no layer.
        "transformer.wte, transformer.h.3, optimizer.exp_avg.transformer.h.3, optimizer.exp_avg, \
         optimizer.exp_avg_sq.transformer.h.3, optimizer.exp_avg_sq",
    );
    // As `torch.save` has it.
    check_file(
        &[
            ("attn norm", W, "model.transformer.h.3.ln_1.weight"),
            ("attn norm", B, "model.transformer.h.3.ln_1.bias"),
            ("mlp norm", W, "model.transformer.h.3.ln_2.weight"),
            ("mlp norm", B, "model.transformer.h.3.ln_2.bias"),
            ("o", W, "model.transformer.h.3.attn.c_proj.weight"),
            ("o", B, "model.transformer.h.3.attn.c_proj.bias"),
            ("step", Step, &layers("optimizer.state.N.step", &[0, 1, 2, 3, 4, 5])),
            ("m", FirstMoment, &layers("optimizer.state.N.exp_avg", &[0, 1, 2, 3, 4, 5])),
            ("v", SecondMoment, &layers("optimizer.state.N.exp_avg_sq", &[0, 1, 2, 3, 4, 5])),
            ("rng", W, "rng"),
        ],
        "attn norm, o, mlp norm, rng, m, v, step",
        "model.transformer.h.3, rng, optimizer.state.0, optimizer.state.1, optimizer.state.2, optimizer.state.3, \
         optimizer.state.4, optimizer.state.5",
    );
}

#[test]
fn resnet() {
    let of = |part: &str, norms: &str| -> String {
        norms.split_ascii_whitespace().map(|norm| format!("{norm}.{part} ")).collect()
    };
    let first =
        "layer1.0.bn1 layer1.1.bn1 layer2.0.bn1 layer2.1.bn1 layer3.0.bn1 layer3.1.bn1 layer4.0.bn1 layer4.1.bn1";
    let second = "layer1.0.bn2 layer1.1.bn2";
    check_file(
        &[
            ("bn", W, "bn1.weight"),
            ("bn", B, "bn1.bias"),
            ("bn stats", RunningMean, "bn1.running_mean"),
            ("bn stats", RunningVariance, "bn1.running_var"),
            ("bn count", BatchCount, "bn1.num_batches_tracked"),
            ("bn1", W, &of("weight", first)),
            ("bn1", B, &of("bias", first)),
            ("bn1 stats", RunningMean, &of("running_mean", first)),
            ("bn1 stats", RunningVariance, &of("running_var", first)),
            ("bn1 count", BatchCount, &of("num_batches_tracked", first)),
            ("bn2", W, &of("weight", second)),
            ("bn2", B, &of("bias", second)),
            ("bn2 stats", RunningMean, &of("running_mean", second)),
            ("bn2 stats", RunningVariance, &of("running_var", second)),
            ("bn2 count", BatchCount, &of("num_batches_tracked", second)),
            ("conv1", W, "layer1.0.conv1.weight layer1.1.conv1.weight layer2.0.conv1.weight"),
            ("conv2", W, "layer1.0.conv2.weight layer1.1.conv2.weight"),
            ("head", W, "fc.weight"),
            ("head", B, "fc.bias"),
        ],
        "bn, bn stats, bn count, conv1, bn1, bn1 stats, bn1 count, conv2, bn2, bn2 stats, bn2 count, head",
        "bn1, layer1.0, layer1.1, layer2.0, layer2.1, layer3.0, layer3.1, layer4.0, layer4.1, fc",
    );
}

#[test]
fn silero() {
    check_file(
        &[
            ("conv", W, "stft_conv.weight conv1.weight conv2.weight conv3.weight conv4.weight"),
            ("conv", B, "conv1.bias conv2.bias conv3.bias conv4.bias"),
            ("ih", W, "lstm_cell.weight_ih"),
            ("ih", B, "lstm_cell.bias_ih"),
            ("hh", W, "lstm_cell.weight_hh"),
            ("hh", B, "lstm_cell.bias_hh"),
            ("head", W, "final_conv.weight"),
            ("head", B, "final_conv.bias"),
        ],
        "conv, ih, hh, head",
        "stft_conv, conv1, conv2, conv3, conv4, lstm_cell, final_conv",
    );
}

#[test]
fn silero_as_a_graph() {
    let of = |names: &str| -> String {
        let prefix = "If_0_outputs_0/else_branch/If_0_else_branch__Inline_0__";
        names.split_ascii_whitespace().map(|name| format!("{prefix}{name} ")).collect()
    };
    let encoder = |part: &str| of(&layers(&format!("encoder.N.reparam_conv.{part}"), &[0, 1, 2, 3]));
    check_file(
        &[
            ("forward_basis_buffer", W, &of("stft.forward_basis_buffer")),
            ("reparam_conv", W, &encoder("weight")),
            ("reparam_conv", B, &encoder("bias")),
            ("ih", W, &of("decoder.rnn.weight_ih")),
            ("ih", B, &of("decoder.rnn.bias_ih")),
            ("hh", W, &of("decoder.rnn.weight_hh")),
            ("hh", B, &of("decoder.rnn.bias_hh")),
            ("decoder.2", W, &of("decoder.decoder.2.weight")),
            ("decoder.2", B, &of("decoder.decoder.2.bias")),
            ("filter_length", W, &of("self.stft.filter_length")),
            ("hop_length", W, &of("self.stft.hop_length")),
            (
                "const",
                W,
                &of(
                    "/Constant_output_0 /Constant_3_output_0 /stft/Constant_output_0 /stft/padding/Constant_7_output_0",
                ),
            ),
            ("const", W, &of("/stft/padding/ConstantOfShape_output_0/value /decoder/rnn_1/Constant_26_output_0")),
            (
                "const",
                W,
                &of(
                    "/decoder/rnn/If_4_output_0/then_branch/If_0_then_branch__Inline_0__/decoder/rnn/Constant_51_output_0",
                ),
            ),
            ("else_branch__Inline", W, &of("/decoder/If_1_output_0/else_branch/If_0_else_branch__Inline_0__248")),
        ],
        "ih, hh, decoder.2, else_branch__Inline, filter_length, forward_basis_buffer, hop_length, reparam_conv, const",
        "If_0",
    );
}
