//! Names as other libraries, adapters, optimizers and quantised models have them.

use super::super::Part::{
    ActivationScale, Bias as B, FirstMoment, Gain, MaxSecondMoment, Momentum, OptimizerState, Quantization,
    RunningMean, RunningVariance, Scale, SecondMoment, Step, Weight as W, ZeroPoint,
};
use super::{check, role_of};

#[test]
fn flax_haiku_and_keras() {
    check(&[
        (
            "embed",
            W,
            "params/wte/embedding params/shared/embedding params/embeddings/word_embeddings/embedding embedding/embeddings:0 embedding_1/embeddings:0",
        ),
        ("pos", W, "params/wpe/embedding params/embeddings/position_embeddings/embedding"),
        ("rel bias", W, "params/encoder/block/0/layer/0/SelfAttention/relative_attention_bias/embedding"),
        ("qkv", W, "params/h_3/attn/c_attn/kernel"),
        ("qkv", B, "params/h_3/attn/c_attn/bias"),
        ("attn norm", W, "params/h_3/ln_1/scale params/encoder/layer/0/attention/output/LayerNorm/scale"),
        ("attn norm", B, "params/h_3/ln_1/bias"),
        (
            "q",
            W,
            "params/encoder/layer/0/attention/self/query/kernel params/Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel multi_head_attention_3/query/kernel:0",
        ),
        ("q", W, "transformer/h0_attn/query:w layers/transformer_block/att/query_dense/vars/0"),
        ("k", W, "multi_head_attention_3/key/kernel:0"),
        (
            "o",
            W,
            "params/Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/kernel multi_head_attention/attention_output/kernel:0",
        ),
        ("up", W, "params/h_3/mlp/c_fc/kernel params/Transformer/encoderblock_11/MlpBlock_3/Dense_0/kernel"),
        ("down", W, "params/h_3/mlp/c_proj/kernel params/Transformer/encoderblock_11/MlpBlock_3/Dense_1/kernel"),
        ("final norm", W, "params/ln_f/scale params/Transformer/encoder_norm/scale"),
        ("norm", W, "layer_normalization_12/gamma:0 layer_normalization/gamma:0 model/layer_normalization_3/gamma"),
        ("norm", B, "layer_normalization_12/beta:0"),
        (
            "dense",
            W,
            "dense_3/kernel:0 dense/kernel:0 dense_1/dense_1/kernel:0 model_weights/dense_1/dense_1/kernel:0 layers/dense_1/vars/0 layers/dense/vars/0",
        ),
        ("dense", B, "dense_3/bias:0 layers/dense_1/vars/1 layers/dense/vars/1"),
        ("conv", W, "conv2d_7/kernel:0 conv2d/kernel:0 conv1d_1/kernel:0"),
        ("bn", W, "batch_normalization_5/gamma:0 layers/batch_normalization/vars/0"),
        ("bn stats", RunningMean, "batch_normalization_5/moving_mean:0 layers/batch_normalization_2/vars/2"),
        ("bn stats", RunningVariance, "batch_normalization/moving_variance:0 layers/batch_normalization/vars/3"),
        ("bn0 stats", RunningMean, "batch_stats/stages_0/BatchNorm_0/mean"),
        ("dense", W, "model/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"),
        ("linear", W, "mlp/linear/w mlp/linear_1/w"),
        ("linear", B, "mlp/linear/b mlp/linear_1/b"),
    ]);
}

#[test]
fn adapters() {
    check(&[
        (
            "q A",
            W,
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
        ),
        (
            "q B",
            W,
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight model.layers.0.self_attn.q_proj.lora_b",
        ),
        ("q", W, "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"),
        ("down A", W, "base_model.model.model.layers.0.mlp.down_proj.lora_A.my_adapter.weight"),
        ("q A", W, "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.lora_down.weight"),
        ("cross k B", W, "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight"),
        ("o alpha", W, "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.alpha"),
        ("up A", W, "lora_te_text_model_encoder_layers_3_mlp_fc1.lora_down.weight"),
        ("q B", W, "lora_te1_text_model_encoder_layers_3_self_attn_q_proj.lora_up.weight"),
        ("up A", W, "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_ff_net_0_proj.lora_down.weight"),
        ("down B", W, "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_ff_net_2.lora_up.weight"),
        ("proj_in A", W, "lora_unet_down_blocks_0_attentions_1_proj_in.lora_down.weight"),
        ("q A", W, "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"),
        ("q magnitude", W, "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight"),
        ("q w1 A", W, "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q.hada_w1_a"),
        ("embed A", W, "base_model.model.model.embed_tokens.lora_embedding_A.default"),
        ("q A m", FirstMoment, "exp_avg.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"),
    ]);
}

#[test]
fn optimizers() {
    check(&[
        ("m", FirstMoment, "optimizer.state.0.exp_avg state.7.exp_avg optimizer_state_dict.state.3.exp_avg"),
        ("v", SecondMoment, "optimizer.state.0.exp_avg_sq state.7.exp_avg_sq"),
        ("v max", MaxSecondMoment, "state.7.max_exp_avg_sq"),
        ("step", Step, "optimizer.state.0.step state.7.step opt_state/0/count"),
        ("momentum", Momentum, "state.0.momentum_buffer optimizer.state.12.momentum_buffer"),
        ("state", OptimizerState, "optimizer/vars/3"),
        ("other state", OptimizerState, "optimizer.state.0.other"),
        (
            "o m",
            FirstMoment,
            "optimizer.exp_avg.transformer.h.3.attn.c_proj.weight optimizer.exp_avg.transformer.h.3.attn.c_proj.bias",
        ),
        ("embed v", SecondMoment, "optimizer.exp_avg_sq.transformer.wte.weight"),
        (
            "q m",
            FirstMoment,
            "state.model.layers.0.self_attn.q_proj.weight.exp_avg opt_state/0/mu/params/encoder/layer_0/attention/query/kernel",
        ),
        ("q v", SecondMoment, "opt_state/0/nu/params/encoder/layer_0/attention/query/kernel"),
        ("head v", SecondMoment, "opt_state/0/nu/params/lm_head/kernel"),
        (
            "dense m",
            FirstMoment,
            "Adam/m/dense_3/kernel:0 model/dense/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE",
        ),
        ("bn1 momentum", Momentum, "optimizer.momentum_buffer.layer1.0.bn1.weight"),
    ]);
}

#[test]
fn quantised_models() {
    check(&[
        ("q", W, "model.layers.0.self_attn.q_proj.qweight model.layers.0.self_attn.q_proj.weight_packed"),
        ("q scale", Scale, "model.layers.0.self_attn.q_proj.scales model.layers.0.self_attn.q_proj.weight_scale"),
        (
            "q scale",
            Scale,
            "model.layers.0.self_attn.q_proj.weight.absmax encoder.layer.0.attention.self.query.weight_scale",
        ),
        ("q scale", Scale, "model.layers.0.self_attn.q_proj.SCB model.layers.0.self_attn.q_proj.weight_scale_2"),
        ("q act scale", ActivationScale, "model.layers.0.self_attn.q_proj.input_scale"),
        (
            "q zero",
            ZeroPoint,
            "model.layers.0.self_attn.q_proj.qzeros encoder.layer.0.attention.self.query.weight_zero_point",
        ),
        (
            "q quant",
            Quantization,
            "model.layers.0.self_attn.q_proj.g_idx model.layers.0.self_attn.q_proj.weight.quant_map",
        ),
        ("q quant", Quantization, "model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4"),
        ("q", W, "encoder.layer.0.attention.self.query.weight_quantized"),
        ("q scale", Scale, "layers.0.attention.query.weight.scales"),
        ("q zero", ZeroPoint, "layers.0.attention.query.weight.zero_points"),
        ("embed scale", Scale, "embeddings.word_embeddings.weight_scale"),
        ("MatMul", W, "onnx::MatMul_123_quantized"),
        ("MatMul scale", Scale, "onnx::MatMul_123_scale onnx::MatMul_7_scale"),
        ("MatMul zero", ZeroPoint, "onnx::MatMul_123_zero_point"),
        ("conv1", W, "layer1.0.conv1.weight_v layer1.0.conv1.parametrizations.weight.original1"),
        ("conv1 gain", Gain, "layer1.0.conv1.weight_g layer1.0.conv1.parametrizations.weight.original0"),
    ]);
}

#[test]
fn onnx_and_plain_names() {
    check(&[
        ("MatMul", W, "onnx::MatMul_123 onnx::MatMul_4567"),
        ("conv", W, "onnx::Conv_12 encoder.conv1.weight"),
        ("q", B, "encoder.layer.0.attention.self.query.bias /encoder/layer.0/attention/self/query/bias"),
        ("MatMul", W, "/encoder/layer.0/attention/self/query/MatMul"),
        (
            "const",
            W,
            "/encoder/layer.0/Constant_output_0 /encoder/layer.0/attention/self/Constant_12_output_0 /Constant_3_output_0",
        ),
        ("const", W, "/stft/padding/ConstantOfShape_output_0/value"),
        ("weight", W, "0.weight 2.weight weight features.0.weight net.3.weight layers.7.weight W1 W2 w W"),
        ("weight", B, "0.bias bias features.0.bias b1 b2 b"),
        ("fc", W, "fc1.weight fc2.weight"),
        ("net.2", W, "blocks.0.net.2.weight"),
        ("norm1.linear", B, "transformer_blocks.3.norm1.linear.bias"),
        ("norm1_context.linear", B, "transformer_blocks.3.norm1_context.linear.bias"),
        ("add_q_proj", W, "transformer_blocks.3.attn.add_q_proj.weight"),
        ("special", W, "model.layers.3.special.weight model.layers.3.experts.2.special model.layers.3.special#2"),
        ("logit_scale", W, "logit_scale"),
        ("rng", W, "rng"),
    ]);
    // What a name says is kept as it is, for whoever shows it to make safe.
    assert_eq!(role_of("h.0.<b>\u{202e}.weight").column.short(), "<b>\u{202e}");
}
