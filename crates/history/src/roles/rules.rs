//! How libraries call the tensors of a model.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::kinds::{Area, Group, What};
use super::words::{self, Word};
use super::{Kind, Numbered, Part, Place};

/// What the words around a name say about it.
#[derive(Debug, Clone, Copy)]
struct Around {
    /// In an attention.
    attention: bool,
    /// In an MLP.
    mlp: bool,
    /// In a state space model.
    ssm: bool,
    /// In a layer that has a number.
    layer: bool,
    /// One of several itself, as `dense_3` is.
    counted: bool,
    /// In a layer of a decoder that looks at an encoder's output too.
    two_attentions: bool,
    /// In a residual block of convolutions.
    resnet: bool,
}

impl Around {
    fn of(place: &Place<'_>) -> Self {
        let near = || place.before.iter().chain(place.words);
        let nearest = near().rev().find(|word| is_attention(word) || is_mlp(word) || is_ssm(word));
        Self {
            attention: nearest.is_some_and(is_attention),
            mlp: nearest.is_some_and(is_mlp),
            ssm: nearest.is_some_and(is_ssm),
            layer: place.numbered == Numbered::Inside,
            counted: place.numbered == Numbered::Itself,
            two_attentions: place.all.iter().any(|word| matches!(word.text, "decoder" | "dec"))
                // Diffusers' block of U-Nets, but not `transformer.blocks`.
                || place.all.windows(2).any(|pair| matches!(pair, [a, b] if a.text == "transformer" && b.text == "blocks" && b.glued())),
            resnet: near().any(|word| word.text == "resnets"),
        }
    }
}

fn is_attention(word: &Word<'_>) -> bool {
    matches!(word.text, "att" | "attn1" | "attn2" | "mha")
        || word.text.ends_with("attn")
        || word.text.ends_with("attention")
}

fn is_mlp(word: &Word<'_>) -> bool {
    let text = word.text;
    matches!(
        text,
        "ff" | "ffw" | "forward" | "feedforward" | "densereludense" | "mlpblock" | "moe" | "experts" | "expert"
    ) || text.ends_with("mlp")
        || text.ends_with("ffn")
}

fn is_ssm(word: &Word<'_>) -> bool {
    matches!(word.text, "mixer" | "ssm" | "mamba")
}

/// Whether a word may stand before a name in the same part without making it another: `attn_q`, but not `add_q`.
fn is_around(word: &Word<'_>) -> bool {
    let text = word.text;
    is_attention(word)
        || is_mlp(word)
        || is_ssm(word)
        || word.is_number()
        || matches!(
            text,
            "model" | "transformer" | "encoder" | "decoder" | "self" | "cross" | "block" | "layer" | "net" | "head"
        )
}

/// When names mean something.
type When = fn(&Around) -> bool;

const ALWAYS: When = |_| true;
const ATTENTION: When = |around| around.attention;
const MLP: When = |around| around.mlp;
const SSM: When = |around| around.ssm;
const LAYER: When = |around| around.layer;
const OUTSIDE: When = |around| !around.layer;
const BLOCK: When = |around| around.layer && !around.resnet;
const TWO: When = |around| around.layer && around.two_attentions && !around.resnet;
const ALONE: When = |around| !around.layer && !around.counted;

/// Names, in lower case and with `_` for every separator. The first rule that fits counts.
const RULES: &[(What, When, &str)] = &[
    // Norms stand first: what they belong to is in their names.
    (
        What::EmbeddingNorm,
        ALWAYS,
        "word_embeddings_layernorm embeddings_layernorm embeddings_layer_norm embeddings_norm",
    ),
    (
        What::EmbeddingNorm,
        ALWAYS,
        "token_embd_norm embed_norm emb_ln layernorm_embedding embed_layer_norm pre_layrnorm ln_pre patch_embed_norm",
    ),
    (What::QueryDownNorm, ALWAYS, "q_a_layernorm q_a_norm"),
    (What::KeyValueDownNorm, ALWAYS, "kv_a_layernorm kv_a_norm"),
    (What::QueryNorm, ALWAYS, "q_norm norm_q q_layernorm q_layer_norm query_norm query_layernorm q_ln"),
    (What::KeyNorm, ALWAYS, "k_norm norm_k k_layernorm k_layer_norm key_norm key_layernorm k_ln"),
    (What::PreMlpNorm, ALWAYS, "pre_feedforward_layernorm pre_feedforward_layer_norm pre_ffw_norm pre_mlp_layernorm"),
    (
        What::PostMlpNorm,
        ALWAYS,
        "post_feedforward_layernorm post_feedforward_layer_norm post_ffw_norm post_mlp_layernorm",
    ),
    (What::PostMlpNorm, ALWAYS, "ffn_post_norm"),
    (What::PostAttentionNorm, ALWAYS, "post_attention_norm attn_post_norm post_attn_norm post_self_attn_layernorm"),
    (
        What::AttentionNorm,
        ALWAYS,
        "input_layernorm input_layer_norm attention_norm attn_norm ln_attn attn_ln norm_attn",
    ),
    (
        What::AttentionNorm,
        ALWAYS,
        "self_attn_layer_norm attn_layer_norm attention_layernorm attention_layer_norm attention_ln",
    ),
    (
        What::AttentionNorm,
        ALWAYS,
        "attention_output_layernorm attn_output_norm sa_layer_norm layernorm_before ln_cross_attn",
    ),
    (What::AttentionNorm, ALWAYS, "self_attention_layer_norm self_attention_layernorm encoder_attn_layer_norm"),
    (What::AttentionNorm, LAYER, "layer_0_layer_norm layernorm_0 self_attn_norm"),
    (What::AttentionNorm, BLOCK, "ln_1 ln1 norm_1 norm1 layer_norm1 layer_norm_1 layernorm1"),
    (
        What::MlpNorm,
        ALWAYS,
        "post_attention_layernorm ffn_norm mlp_norm ln_mlp mlp_ln norm_mlp norm_ffn ff_norm layer_output_norm",
    ),
    (
        What::MlpNorm,
        ALWAYS,
        "feed_forward_norm ffn_layer_norm mlp_layer_norm mlp_layernorm full_layer_layer_norm layernorm_after",
    ),
    (What::MlpNorm, LAYER, "final_layer_norm output_layernorm output_layer_norm layer_1_layer_norm layer_2_layer_norm"),
    (What::MlpNorm, LAYER, "layernorm_1 layernorm_2"),
    (What::MlpNorm, BLOCK, "ln_2 ln2 norm_2 norm2 layer_norm2 layer_norm_2 layernorm2 ln_3 ln3 norm_3 norm3"),
    (
        What::HeadNorm,
        OUTSIDE,
        "predictions_transform_layernorm lm_head_layer_norm vocab_layer_norm lm_head_ln head_norm",
    ),
    (What::FinalNorm, ALONE, "ln_f norm_f final_layernorm final_layer_norm final_norm ln_final ln_post post_layernorm"),
    (
        What::FinalNorm,
        ALONE,
        "output_norm enc_output_norm dec_output_norm ln_out norm_out conv_norm_out fc_norm encoder_norm",
    ),
    (What::FinalNorm, ALONE, "encodernorm encoder_norm decoder_norm layer_norm layernorm norm ln post_norm last_norm"),
    (What::SsmNorm, SSM, "norm"),
    // Attention.
    (What::QueryDown, ALWAYS, "q_a_proj attn_q_a"),
    (What::QueryUp, ALWAYS, "q_b_proj attn_q_b"),
    (What::KeyValueDown, ALWAYS, "kv_a_proj_with_mqa kv_a_proj attn_kv_a_mqa"),
    (What::KeyValueUp, ALWAYS, "kv_b_proj attn_kv_b"),
    (What::Qkv, ALWAYS, "qkv_proj qkv c_attn query_key_value wqkv to_qkv w_pack"),
    (What::Qkv, ATTENTION, "in_proj"),
    (What::KeyValue, ALWAYS, "to_kv kv_proj key_value c_kv"),
    (What::KeyValue, ATTENTION, "kv"),
    (What::Query, ALWAYS, "q_proj to_q wq q_lin query_proj query c_q q_linear linear_q query_dense q_attn"),
    (What::Query, ATTENTION, "q"),
    (What::Key, ALWAYS, "k_proj to_k wk k_lin key_proj c_k k_linear linear_k key_dense"),
    (What::Key, ATTENTION, "k key"),
    (What::Value, ALWAYS, "v_proj to_v wv v_lin value_proj c_v v_linear linear_v value_dense"),
    (What::Value, ATTENTION, "v value"),
    (
        What::Rotary,
        ALWAYS,
        "rotary_emb_inv_freq rotary_pos_emb_inv_freq inv_freq rope_freqs freqs_cis rope_factors_long",
    ),
    (
        What::RelativeBias,
        ALWAYS,
        "relative_attention_bias relative_position_bias_table relative_position_bias attn_rel_b",
    ),
    (What::Sinks, ALWAYS, "sinks"),
    (What::Mask, ATTENTION, "masked attn_mask causal_mask"),
    (What::AttentionGain, LAYER, "ls1 layer_scale1 layer_scale1_lambda1 layer_scale_1"),
    (What::MlpGain, LAYER, "ls2 layer_scale2 layer_scale2_lambda1 layer_scale_2"),
    (
        What::HeadDense,
        OUTSIDE,
        "predictions_transform_dense lm_head_dense vocab_transform classifier_dense classification_head_dense",
    ),
    (What::Head, OUTSIDE, "classifier_out_proj classification_head_out_proj"),
    (
        What::AttentionOut,
        ATTENTION,
        "o out output proj dense c_proj wo projection out_linear attention_output attention_dense",
    ),
    (
        What::AttentionOut,
        ALWAYS,
        "attn_output attn_out attention_output_dense o_proj to_out_0 to_out out_lin linear_out",
    ),
    (What::AttentionOut, ATTENTION, "output_dense output_proj out_proj"),
    // MLPs.
    (
        What::Router,
        ALWAYS,
        "block_sparse_moe_gate gate_inp gate_inp_shexp router router_layer router_classifier gate_wg",
    ),
    (What::Router, ALWAYS, "e_score_correction exp_probs_b shared_expert_gate gate_e_score_correction moe_gate"),
    (What::GateUp, ALWAYS, "gate_up_proj gate_up"),
    (What::GateUp, MLP, "w12"),
    (What::Gate, ALWAYS, "gate_proj ffn_gate gate_exps gate_shexp ffn_gate_exps ffn_gate_shexp"),
    (What::Router, MLP, "gate"),
    (What::Gate, MLP, "w1 wi_0"),
    (What::Up, ALWAYS, "up_proj ffn_up ffn_up_exps ffn_up_shexp up_exps up_shexp c_fc fc_in dense_h_to_4h"),
    (What::Up, MLP, "w3 v1 wi wi_1 fc1 lin1 linear1 linear_1 dense_0 mlp_0 net_0_proj net_0 key up ffn"),
    (What::Up, LAYER, "intermediate_dense fc1 lin1 linear1 ffn"),
    (What::Down, ALWAYS, "down_proj ffn_down ffn_down_exps ffn_down_shexp down_exps down_shexp fc_out dense_4h_to_h"),
    (
        What::Down,
        MLP,
        "w2 wo c_proj fc2 lin2 linear2 linear_2 dense_1 mlp_2 mlp_3 net_2 value down output output_dense",
    ),
    (What::Down, LAYER, "output_dense fc2 lin2 linear2 ffn_output"),
    // State space models.
    (What::SsmIn, SSM, "in_proj in"),
    (What::SsmConvolution, SSM, "conv1d"),
    (What::SsmX, SSM, "x_proj x"),
    (What::SsmDt, SSM, "dt_proj dt"),
    (What::SsmA, SSM, "a_log a"),
    (What::SsmD, SSM, "d"),
    (What::SsmOut, SSM, "out_proj out"),
    (What::AttentionOut, LAYER, "out_proj"),
    // Convolutions and recurrent cells.
    (
        What::Skip,
        LAYER,
        "downsample_0 shortcut_0 downsample_conv conv_shortcut nin_shortcut skip_connection downsample shortcut",
    ),
    (What::SkipNorm, LAYER, "downsample_1 shortcut_1 downsample_bn"),
    (What::RecurrentHidden, ALWAYS, "hh recurrent"),
    (What::RecurrentIn, ALWAYS, "ih lstm gru rnn simple_rnn lstm_cell gru_cell simple_rnn_cell"),
    // Embeddings.
    (What::TypeEmbedding, ALWAYS, "token_type_embeddings token_type_embedding token_types segment_embeddings"),
    (
        What::PositionEmbedding,
        ALWAYS,
        "wpe position_embeddings position_embedding embed_positions pos_embed pos_embedding pos_emb",
    ),
    (
        What::PositionEmbedding,
        ALWAYS,
        "positional_embedding position_embd positions_embed pos_embeddings position_embed",
    ),
    (What::PositionIds, ALWAYS, "position_ids"),
    (What::ClassToken, ALWAYS, "cls_token class_token class_embedding class_embd"),
    (
        What::PatchEmbedding,
        ALWAYS,
        "patch_embed patch_embed_proj patch_embedding patch_embeddings patch_embeddings_projection",
    ),
    (What::PatchEmbedding, ALWAYS, "patch_embd conv_proj"),
    (What::TimeEmbedding, ALWAYS, "time_emb_proj time_embedding time_embed time_mlp time_embedding_linear"),
    (What::EmbeddingProjection, ALWAYS, "project_in embed_proj embedding_hidden_mapping_in embeddings_project"),
    (
        What::Embedding,
        ALWAYS,
        "wte embed_tokens word_embeddings word_embedding token_embd tok_embeddings token_embedding",
    ),
    (What::Embedding, ALWAYS, "token_embeddings embed_in tokens_embed embed_token"),
    (What::Embedding, ALWAYS, "embedding embeddings"),
    (What::Embedding, OUTSIDE, "shared embed emb"),
    // What comes last.
    (What::Pooler, OUTSIDE, "pooler_dense pooler pooler_activation"),
    (
        What::Head,
        OUTSIDE,
        "lm_head predictions predictions_decoder lm_head_decoder lm_head_linear embed_out output output_layer",
    ),
    (
        What::Head,
        OUTSIDE,
        "head heads_head fc classifier score logits final_logits proj_out qa_outputs cls_seq_relationship seq_relationship",
    ),
    (What::Head, OUTSIDE, "output_projection vocab_projector final_conv conv_out head_fc project_out"),
];

/// Norms that stand in second place, where there are an attention and a cross-attention.
const CROSS_NORMS: [&str; 3] = ["layer_1_layer_norm", "norm2", "norm_2"];

/// Names that come in several, with a number at the end.
const COUNTED: [(&str, What); 19] = [
    ("norm", What::Norm),
    ("layer_norm", What::Norm),
    ("layernorm", What::Norm),
    ("ln", What::Norm),
    ("layer_normalization", What::Norm),
    ("group_norm", What::Norm),
    ("groupnorm", What::Norm),
    ("gn", What::Norm),
    ("rms_norm", What::Norm),
    ("rmsnorm", What::Norm),
    ("group_normalization", What::Norm),
    ("bn", What::BatchNorm),
    ("batch_norm", What::BatchNorm),
    ("batchnorm", What::BatchNorm),
    ("batch_normalization", What::BatchNorm),
    ("conv", What::Convolution),
    ("conv1d", What::Convolution),
    ("conv2d", What::Convolution),
    ("conv3d", What::Convolution),
];

/// Names by their last words, each list in the order of the rules.
type Index = HashMap<&'static str, Vec<(&'static str, When, What)>>;

static BY_LAST_WORD: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index::new();
    for (what, when, names) in RULES {
        for name in names.split_ascii_whitespace() {
            index.entry(name.rsplit('_').next().unwrap_or(name)).or_default().push((name, *when, *what));
        }
    }
    index
});

/// The kind of a tensor, if a scheme has its name; `part` is what its name's end says.
pub(super) fn find(place: &Place<'_>, part: Option<Part>) -> Option<Kind<'static>> {
    let around = Around::of(place);
    let words = place.words;
    let last = words.last()?;
    let kind = |what| Kind { what, area: area(place, what), ..Kind::default() };
    // GPT-2 and GPT-NeoX call the mask of an attention `attn.bias`.
    if part == Some(Part::Bias) && around.layer && is_attention(last) && is_named(words, last.text) {
        return Some(kind(What::Mask));
    }
    if TWO(&around) && CROSS_NORMS.iter().any(|name| is_named(words, name)) {
        return Some(Kind { area: Area::Cross, ..kind(What::AttentionNorm) });
    }
    // Flax and Keras call the table of an embedding `embedding`, below its own name.
    let look_up = |words: &[Word<'_>]| {
        let names = BY_LAST_WORD.get(words.last()?.text)?;
        names.iter().find(|(name, when, _)| when(&around) && is_named(words, name)).map(|(_, _, what)| *what)
    };
    if let [before @ .., table] = words
        && matches!(table.text, "embedding" | "embeddings")
        && !table.glued()
        && let Some(what) = look_up(before)
    {
        return Some(kind(what));
    }
    if let Some(what) = look_up(words) {
        return Some(kind(what));
    }
    let (number, words) = without_number(words);
    let (_, what) = COUNTED.iter().find(|(name, _)| {
        // `conv1_bn` says which one by itself; inside of a layer it would be another than `bn1`.
        if place.names_layer { words::ends_with(&words, name).is_some() } else { is_named(&words, name) }
    })?;
    Some(Kind { number: number.filter(|_| !place.names_layer), ..kind(*what) })
}

/// Whether words end in a name, and nothing before it in the same part makes it another name.
fn is_named(words: &[Word<'_>], name: &str) -> bool {
    words::ends_with(words, name).is_some_and(|start| {
        let begins_part = words.get(start).is_some_and(|word| !word.glued());
        begins_part || start.checked_sub(1).and_then(|before| words.get(before)).is_none_or(is_around)
    })
}

/// Words without the number at their end, and that number: `conv1`, `conv_1`.
fn without_number<'w>(words: &[Word<'w>]) -> (Option<u64>, Vec<Word<'w>>) {
    let mut words = words.to_vec();
    let Some(last) = words.last_mut() else { return (None, words) };
    let number;
    if last.is_number() && last.glued() {
        number = last.text;
        words.pop();
    } else {
        let stem = last.text.trim_end_matches(|character: char| character.is_ascii_digit());
        (last.text, number) = last.text.split_at(stem.len());
    }
    (number.parse().ok(), words)
}

/// Which of several attentions or MLPs this is.
fn area(place: &Place<'_>, what: What) -> Area {
    let near: Vec<Word<'_>> = place.before.iter().chain(place.words).copied().collect();
    let has = |patterns: &[&str]| patterns.iter().any(|pattern| words::find(&near, pattern).is_some());
    match what.group() {
        Group::Attention if has(&CROSS) => Area::Cross,
        Group::Mlp if has(&SHARED) => Area::Shared,
        Group::Mlp if what != What::Router && has(&EXPERTS) => Area::Experts,
        _ => Area::Main,
    }
}

const CROSS: [&str; 8] = [
    "encoder_attn",
    "cross_attn",
    "cross_attention",
    "crossattention",
    "encdecattention",
    "attn2",
    "multihead_attn",
    "encoder_decoder_attention",
];
const SHARED: [&str; 4] = ["shared_expert", "shared_experts", "shexp", "shared_mlp"];
const EXPERTS: [&str; 3] = ["experts", "expert", "exps"];
