//! Names of language models, of many libraries.

use super::super::Part::{Bias as B, Scale, Weight as W};
use super::check;

#[test]
fn llama_and_its_relatives() {
    check(&[
        ("embed", W, "model.embed_tokens.weight tok_embeddings.weight model.tok_embeddings.weight embed_tokens.weight"),
        ("attn norm", W, "model.layers.0.input_layernorm.weight layers.3.attention_norm.weight"),
        (
            "q",
            W,
            "model.layers.0.self_attn.q_proj.weight layers.12.attention.wq.weight module.model.layers.0.self_attn.q_proj.weight",
        ),
        ("q", B, "model.layers.0.self_attn.q_proj.bias"),
        ("k", W, "model.layers.0.self_attn.k_proj.weight layers.12.attention.wk.weight"),
        ("v", W, "model.layers.0.self_attn.v_proj.weight layers.12.attention.wv.weight"),
        ("v", B, "model.layers.0.self_attn.v_proj.bias"),
        ("q norm", W, "model.layers.0.self_attn.q_norm.weight model.layers.0.self_attn.q_layernorm.weight"),
        ("k norm", W, "model.layers.0.self_attn.k_norm.weight"),
        (
            "qkv",
            W,
            "model.layers.0.self_attn.qkv_proj.weight model.layers.3.attention.wqkv.weight model.layers.3.self_attn.W_pack.weight",
        ),
        (
            "o",
            W,
            "model.layers.0.self_attn.o_proj.weight layers.1.attention.wo.weight model.layers.3.self_attn.dense.weight",
        ),
        ("mlp norm", W, "model.layers.0.post_attention_layernorm.weight layers.3.ffn_norm.weight"),
        ("pre mlp norm", W, "model.layers.0.pre_feedforward_layernorm.weight"),
        ("post mlp norm", W, "model.layers.0.post_feedforward_layernorm.weight"),
        (
            "gate",
            W,
            "model.layers.0.mlp.gate_proj.weight layers.0.feed_forward.w1.weight model.layers.0.feed_forward.w1.weight",
        ),
        ("up", W, "model.layers.0.mlp.up_proj.weight layers.0.feed_forward.w3.weight model.layers.2.mlp.fc1.weight"),
        ("gate_up", W, "model.layers.0.mlp.gate_up_proj.weight"),
        (
            "down",
            W,
            "model.layers.0.mlp.down_proj.weight layers.0.feed_forward.w2.weight model.layers.2.mlp.fc2.weight",
        ),
        ("down", B, "model.layers.0.mlp.down_proj.bias"),
        ("rope", W, "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("final norm", W, "model.norm.weight norm.weight model.final_layernorm.weight"),
        ("head", W, "lm_head.weight output.weight"),
        ("head", B, "lm_head.bias"),
    ]);
}

#[test]
fn mixtures_of_experts() {
    check(&[
        (
            "router",
            W,
            "model.layers.0.block_sparse_moe.gate.weight model.layers.3.mlp.gate.weight model.layers.3.mlp.router.weight",
        ),
        (
            "router",
            W,
            "model.layers.3.feed_forward.router.weight transformer.blocks.0.ffn.router.layer.weight blk.0.ffn_gate_inp.weight",
        ),
        (
            "router",
            B,
            "model.layers.3.mlp.gate.e_score_correction_bias blk.3.exp_probs_b.bias model.layers.3.mlp.router.bias",
        ),
        (
            "expert gate",
            W,
            "model.layers.0.block_sparse_moe.experts.0.w1.weight model.layers.0.mlp.experts.63.gate_proj.weight",
        ),
        ("expert gate", W, "blk.0.ffn_gate_exps.weight"),
        (
            "expert down",
            W,
            "model.layers.0.block_sparse_moe.experts.7.w2.weight model.layers.0.mlp.experts.63.down_proj.weight",
        ),
        ("expert down", W, "blk.0.ffn_down_exps.weight transformer.blocks.0.ffn.experts.mlp.w2"),
        (
            "expert up",
            W,
            "model.layers.0.block_sparse_moe.experts.7.w3.weight model.layers.0.mlp.experts.1.up_proj.weight",
        ),
        ("expert up", W, "blk.0.ffn_up_exps.weight encoder.block.1.layer.1.mlp.experts.expert_0.wi.weight"),
        ("expert gate_up", W, "model.layers.0.mlp.experts.gate_up_proj model.layers.0.mlp.experts.gate_up_proj_blocks"),
        ("expert gate_up", B, "model.layers.0.mlp.experts.gate_up_proj_bias"),
        ("expert gate_up scale", Scale, "model.layers.0.mlp.experts.gate_up_proj_scales"),
        (
            "shared gate",
            W,
            "model.layers.1.mlp.shared_experts.gate_proj.weight model.layers.1.mlp.shared_expert.gate_proj.weight",
        ),
        ("shared gate", W, "blk.1.ffn_gate_shexp.weight"),
        ("shared down", W, "model.layers.1.mlp.shared_experts.down_proj.weight blk.1.ffn_down_shexp.weight"),
        ("shared router", W, "model.layers.1.mlp.shared_expert_gate.weight blk.1.ffn_gate_inp_shexp.weight"),
        ("q_a", W, "model.layers.0.self_attn.q_a_proj.weight blk.0.attn_q_a.weight"),
        ("q_a norm", W, "model.layers.0.self_attn.q_a_layernorm.weight blk.0.attn_q_a_norm.weight"),
        ("q_b", W, "model.layers.0.self_attn.q_b_proj.weight blk.0.attn_q_b.weight"),
        ("kv_a", W, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight blk.0.attn_kv_a_mqa.weight"),
        ("kv_a norm", W, "model.layers.0.self_attn.kv_a_layernorm.weight"),
        ("kv_b", W, "model.layers.0.self_attn.kv_b_proj.weight blk.0.attn_kv_b.weight"),
        ("kv_b scale", Scale, "model.layers.0.self_attn.kv_b_proj.weight_scale_inv"),
        ("sinks", W, "model.layers.0.self_attn.sinks"),
    ]);
}

#[test]
fn gpt_2_and_its_relatives() {
    check(&[
        ("embed", W, "wte.weight transformer.wte.weight transformer.word_embeddings.weight gpt_neox.embed_in.weight"),
        ("embed norm", W, "word_embeddings_layernorm.weight transformer.word_embeddings_layernorm.weight"),
        ("pos", W, "wpe.weight transformer.wpe.weight model.decoder.embed_positions.weight"),
        (
            "attn norm",
            W,
            "h.0.ln_1.weight transformer.h.3.ln_1.weight transformer.h.0.input_layernorm.weight gpt_neox.layers.0.input_layernorm.weight",
        ),
        ("attn norm", B, "h.0.ln_1.bias transformer.h.0.ln_attn.bias model.decoder.layers.0.self_attn_layer_norm.bias"),
        (
            "qkv",
            W,
            "h.0.attn.c_attn.weight gpt_neox.layers.0.attention.query_key_value.weight transformer.h.0.self_attention.query_key_value.weight",
        ),
        ("qkv", B, "h.0.attn.c_attn.bias h.0.self_attention.query_key_value.bias"),
        (
            "qkv",
            W,
            "transformer.h.0.attn.qkv_proj.weight transformer.blocks.0.attn.Wqkv.weight transformer.h.0.mixer.Wqkv.weight",
        ),
        (
            "q",
            W,
            "transformer.h.0.attn.attention.q_proj.weight transformer.h.0.attn.q_proj.weight model.decoder.layers.0.self_attn.q_proj.weight",
        ),
        ("o", W, "h.0.attn.c_proj.weight gpt_neox.layers.0.attention.dense.weight h.0.self_attention.dense.weight"),
        (
            "o",
            W,
            "transformer.h.0.attn.attention.out_proj.weight model.decoder.layers.0.self_attn.out_proj.weight transformer.h.0.attn.out_proj.weight",
        ),
        ("o", B, "h.0.attn.c_proj.bias model.decoder.layers.0.self_attn.out_proj.bias"),
        (
            "mask",
            W,
            "h.0.attn.bias h.0.attn.masked_bias gpt_neox.layers.0.attention.bias gpt_neox.layers.0.attention.masked_bias",
        ),
        ("rope", W, "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        (
            "mlp norm",
            W,
            "h.0.ln_2.weight h.0.post_attention_layernorm.weight transformer.h.0.ln_mlp.weight model.decoder.layers.0.final_layer_norm.weight",
        ),
        (
            "up",
            W,
            "h.0.mlp.c_fc.weight gpt_neox.layers.0.mlp.dense_h_to_4h.weight model.decoder.layers.0.fc1.weight transformer.h.0.mlp.fc_in.weight",
        ),
        (
            "down",
            W,
            "h.0.mlp.c_proj.weight gpt_neox.layers.0.mlp.dense_4h_to_h.weight model.decoder.layers.0.fc2.weight transformer.h.0.mlp.fc_out.weight",
        ),
        ("down", B, "h.0.mlp.c_proj.bias h.0.mlp.dense_4h_to_h.bias model.decoder.layers.0.fc2.bias"),
        ("up", W, "transformer.blocks.0.ffn.up_proj.weight"),
        ("down", W, "transformer.blocks.0.ffn.down_proj.weight"),
        ("attn norm", W, "transformer.blocks.0.norm_1.weight"),
        ("mlp norm", W, "transformer.blocks.0.norm_2.weight"),
        (
            "final norm",
            W,
            "ln_f.weight transformer.ln_f.weight gpt_neox.final_layer_norm.weight transformer.norm_f.weight model.decoder.final_layer_norm.weight",
        ),
        ("embed proj", W, "model.decoder.project_in.weight"),
        ("head", W, "embed_out.weight lm_head.weight model.decoder.project_out.weight"),
    ]);
}

#[test]
fn bert_and_its_relatives() {
    check(&[
        (
            "embed",
            W,
            "bert.embeddings.word_embeddings.weight roberta.embeddings.word_embeddings.weight embeddings.word_embeddings.weight",
        ),
        ("pos", W, "bert.embeddings.position_embeddings.weight distilbert.embeddings.position_embeddings.weight"),
        ("type", W, "bert.embeddings.token_type_embeddings.weight"),
        ("pos ids", W, "embeddings.position_ids bert.embeddings.position_ids"),
        ("embed norm", W, "bert.embeddings.LayerNorm.weight bert.embeddings.LayerNorm.gamma"),
        ("embed norm", B, "embeddings.LayerNorm.bias bert.embeddings.LayerNorm.beta"),
        ("embed proj", W, "albert.encoder.embedding_hidden_mapping_in.weight"),
        (
            "q",
            W,
            "bert.encoder.layer.0.attention.self.query.weight encoder.layer.0.attention.attn.q.weight distilbert.transformer.layer.0.attention.q_lin.weight",
        ),
        ("q", B, "bert.encoder.layer.0.attention.self.query.bias"),
        (
            "k",
            W,
            "roberta.encoder.layer.0.attention.self.key.weight encoder.layer.0.attention.attn.k.weight deberta.encoder.layer.0.attention.self.key_proj.weight",
        ),
        (
            "v",
            W,
            "encoder.layer.11.attention.self.value.weight encoder.layer.0.attention.attn.v.weight albert.encoder.albert_layer_groups.0.albert_layers.0.attention.value.weight",
        ),
        (
            "o",
            W,
            "bert.encoder.layer.0.attention.output.dense.weight encoder.layer.0.attention.attn.o.weight distilbert.transformer.layer.0.attention.out_lin.weight",
        ),
        ("o", W, "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.dense.weight"),
        (
            "attn norm",
            W,
            "bert.encoder.layer.0.attention.output.LayerNorm.weight encoder.layer.0.attention.LayerNorm.weight distilbert.transformer.layer.0.sa_layer_norm.weight",
        ),
        (
            "up",
            W,
            "bert.encoder.layer.0.intermediate.dense.weight distilbert.transformer.layer.0.ffn.lin1.weight albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight",
        ),
        (
            "down",
            W,
            "bert.encoder.layer.0.output.dense.weight distilbert.transformer.layer.0.ffn.lin2.weight albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight",
        ),
        (
            "mlp norm",
            B,
            "bert.encoder.layer.0.output.LayerNorm.bias distilbert.transformer.layer.0.output_layer_norm.bias",
        ),
        ("mlp norm", W, "albert.encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.weight"),
        ("rel bias", W, "encoder.relative_attention_bias.weight"),
        ("pooler", W, "bert.pooler.dense.weight pooler.dense.weight"),
        (
            "head dense",
            W,
            "cls.predictions.transform.dense.weight lm_head.dense.weight vocab_transform.weight classifier.dense.weight",
        ),
        (
            "head norm",
            W,
            "cls.predictions.transform.LayerNorm.weight lm_head.layer_norm.weight vocab_layer_norm.weight",
        ),
        (
            "head",
            W,
            "cls.predictions.decoder.weight cls.seq_relationship.weight lm_head.decoder.weight vocab_projector.weight classifier.weight qa_outputs.weight classifier.out_proj.weight",
        ),
        ("head", B, "cls.predictions.bias lm_head.bias classifier.bias"),
    ]);
}

#[test]
fn encoders_with_decoders() {
    check(&[
        (
            "embed",
            W,
            "shared.weight encoder.embed_tokens.weight decoder.embed_tokens.weight model.decoder.embed_tokens.weight decoder.token_embedding.weight",
        ),
        ("pos", W, "model.encoder.embed_positions.weight encoder.positional_embedding"),
        (
            "q",
            W,
            "encoder.block.0.layer.0.SelfAttention.q.weight model.encoder.layers.0.self_attn.q_proj.weight encoder.blocks.0.attn.query.weight",
        ),
        ("k", W, "decoder.block.3.layer.0.SelfAttention.k.weight encoder.blocks.0.attn.key.weight"),
        ("v", W, "decoder.block.3.layer.0.SelfAttention.v.weight encoder.blocks.0.attn.value.weight"),
        (
            "o",
            W,
            "encoder.block.0.layer.0.SelfAttention.o.weight encoder.blocks.0.attn.out.weight model.encoder.layers.0.self_attn.out_proj.weight",
        ),
        ("rel bias", W, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        (
            "attn norm",
            W,
            "encoder.block.0.layer.0.layer_norm.weight decoder.block.0.layer.0.layer_norm.weight encoder.blocks.0.attn_ln.weight model.encoder.layers.0.self_attn_layer_norm.weight",
        ),
        (
            "cross q",
            W,
            "decoder.block.0.layer.1.EncDecAttention.q.weight model.decoder.layers.0.encoder_attn.q_proj.weight decoder.blocks.0.cross_attn.query.weight",
        ),
        (
            "cross k",
            W,
            "decoder.block.0.layer.1.EncDecAttention.k.weight bert.encoder.layer.0.crossattention.self.key.weight",
        ),
        ("cross v", B, "model.decoder.layers.0.encoder_attn.v_proj.bias"),
        ("cross o", W, "decoder.block.0.layer.1.EncDecAttention.o.weight decoder.blocks.0.cross_attn.out.weight"),
        (
            "cross attn norm",
            W,
            "decoder.block.0.layer.1.layer_norm.weight model.decoder.layers.0.encoder_attn_layer_norm.weight decoder.blocks.0.cross_attn_ln.weight",
        ),
        (
            "up",
            W,
            "encoder.block.0.layer.1.DenseReluDense.wi.weight encoder.block.0.layer.1.DenseReluDense.wi_1.weight encoder.blocks.0.mlp.0.weight model.encoder.layers.0.fc1.weight",
        ),
        ("gate", W, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
        (
            "down",
            W,
            "encoder.block.0.layer.1.DenseReluDense.wo.weight decoder.block.0.layer.2.DenseReluDense.wo.weight encoder.blocks.0.mlp.2.weight",
        ),
        (
            "mlp norm",
            W,
            "encoder.block.0.layer.1.layer_norm.weight decoder.block.0.layer.2.layer_norm.weight encoder.blocks.0.mlp_ln.weight model.encoder.layers.0.final_layer_norm.weight",
        ),
        ("conv1", W, "model.encoder.conv1.weight"),
        ("conv2", B, "model.encoder.conv2.bias"),
        (
            "final norm",
            W,
            "encoder.final_layer_norm.weight decoder.final_layer_norm.weight model.encoder.layer_norm.weight decoder.ln.weight encoder.ln_post.weight",
        ),
        ("head", W, "lm_head.weight proj_out.weight"),
        // PyTorch's own.
        ("qkv", W, "encoder.layers.0.self_attn.in_proj_weight"),
        ("qkv", B, "encoder.layers.0.self_attn.in_proj_bias"),
        ("cross qkv", W, "decoder.layers.0.multihead_attn.in_proj_weight"),
        ("cross o", W, "decoder.layers.0.multihead_attn.out_proj.weight"),
        ("up", W, "encoder.layers.0.linear1.weight"),
        ("down", W, "encoder.layers.0.linear2.weight"),
        ("attn norm", W, "encoder.layers.0.norm1.weight decoder.layers.0.norm1.weight"),
        ("cross attn norm", W, "decoder.layers.0.norm2.weight"),
        ("mlp norm", W, "encoder.layers.0.norm2.weight decoder.layers.0.norm3.weight"),
        ("final norm", W, "encoder.norm.weight decoder.norm.weight"),
    ]);
}

#[test]
fn state_spaces_and_recurrent_networks() {
    check(&[
        ("embed", W, "backbone.embeddings.weight backbone.embedding.weight"),
        ("norm", W, "backbone.layers.0.norm.weight"),
        (
            "in_proj",
            W,
            "backbone.layers.0.mixer.in_proj.weight model.layers.0.mamba.in_proj.weight blk.0.ssm_in.weight",
        ),
        ("conv1d", W, "backbone.layers.0.mixer.conv1d.weight blk.0.ssm_conv1d.weight"),
        ("conv1d", B, "backbone.layers.0.mixer.conv1d.bias"),
        ("x_proj", W, "backbone.layers.0.mixer.x_proj.weight blk.0.ssm_x.weight"),
        ("dt_proj", W, "backbone.layers.0.mixer.dt_proj.weight blk.0.ssm_dt.weight"),
        ("dt_proj", B, "backbone.layers.0.mixer.dt_proj.bias backbone.layers.0.mixer.dt_bias"),
        ("A_log", W, "backbone.layers.0.mixer.A_log blk.0.ssm_a"),
        ("D", W, "backbone.layers.0.mixer.D blk.0.ssm_d"),
        ("ssm norm", W, "backbone.layers.0.mixer.norm.weight"),
        ("out_proj", W, "backbone.layers.0.mixer.out_proj.weight blk.0.ssm_out.weight"),
        ("final norm", W, "backbone.norm_f.weight"),
        // RWKV.
        ("k", W, "rwkv.blocks.0.attention.key.weight blocks.0.att.key.weight"),
        ("o", W, "blocks.0.att.output.weight"),
        ("receptance", W, "blocks.0.att.receptance.weight"),
        ("up", W, "blocks.0.ffn.key.weight"),
        ("down", W, "blocks.0.ffn.value.weight"),
        ("time_mix_k", W, "blocks.0.att.time_mix_k"),
        // Cells.
        (
            "ih",
            W,
            "lstm.weight_ih_l0 rnn.weight_ih_l1_reverse lstm_cell.weight_ih encoder.rnn.weight_ih_l0 lstm/lstm_cell/kernel:0",
        ),
        ("ih", B, "lstm.bias_ih_l0 lstm_cell.bias_ih lstm/lstm_cell/bias:0"),
        ("hh", W, "lstm.weight_hh_l0 lstm_cell.weight_hh lstm_3/lstm_cell/recurrent_kernel:0"),
        ("hh", B, "gru.bias_hh_l0 lstm_cell.bias_hh"),
    ]);
}

#[test]
fn gguf() {
    check(&[
        ("embed", W, "token_embd.weight"),
        ("embed norm", W, "token_embd_norm.weight"),
        ("type", W, "token_types.weight"),
        ("pos", W, "position_embd.weight"),
        ("attn norm", W, "blk.0.attn_norm.weight blk.0.attn_output_norm.weight enc.blk.0.attn_norm.weight"),
        ("q", W, "blk.11.attn_q.weight enc.blk.0.attn_q.weight"),
        ("q", B, "blk.11.attn_q.bias"),
        ("k", W, "blk.11.attn_k.weight"),
        ("v", W, "blk.11.attn_v.weight"),
        ("qkv", W, "blk.11.attn_qkv.weight"),
        ("q norm", W, "blk.11.attn_q_norm.weight"),
        ("k norm", W, "blk.11.attn_k_norm.weight"),
        ("o", W, "blk.11.attn_output.weight enc.blk.0.attn_o.weight"),
        ("rel bias", W, "enc.blk.0.attn_rel_b.weight"),
        ("cross q", W, "dec.blk.0.cross_attn_q.weight"),
        ("cross attn norm", W, "dec.blk.0.cross_attn_norm.weight"),
        ("post attn norm", W, "blk.3.post_attention_norm.weight"),
        ("mlp norm", W, "blk.0.ffn_norm.weight blk.0.layer_output_norm.weight"),
        ("gate", W, "blk.0.ffn_gate.weight"),
        ("up", W, "blk.0.ffn_up.weight"),
        ("down", W, "blk.0.ffn_down.weight"),
        ("post mlp norm", W, "blk.0.post_ffw_norm.weight"),
        ("rope", W, "rope_freqs.weight"),
        ("final norm", W, "output_norm.weight enc.output_norm.weight dec.output_norm.weight"),
        ("head", W, "output.weight"),
    ]);
}
