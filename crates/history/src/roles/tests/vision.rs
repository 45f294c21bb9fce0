//! Names of models of images.

use super::super::Part::{BatchCount, Bias as B, RunningMean, RunningVariance, Weight as W};
use super::check;

#[test]
fn vision_transformers() {
    check(&[
        (
            "patch",
            W,
            "patch_embed.proj.weight vit.embeddings.patch_embeddings.projection.weight vision_model.embeddings.patch_embedding.weight conv_proj.weight",
        ),
        ("class", W, "cls_token vit.embeddings.cls_token vision_model.embeddings.class_embedding class_token"),
        (
            "pos",
            W,
            "pos_embed vit.embeddings.position_embeddings vision_model.embeddings.position_embedding.weight text_model.embeddings.position_embedding.weight",
        ),
        ("embed", W, "text_model.embeddings.token_embedding.weight token_embedding.weight"),
        ("embed norm", W, "vision_model.pre_layrnorm.weight visual.ln_pre.weight"),
        (
            "attn norm",
            W,
            "blocks.0.norm1.weight vit.encoder.layer.0.layernorm_before.weight vision_model.encoder.layers.0.layer_norm1.weight visual.transformer.resblocks.0.ln_1.weight encoder.layers.encoder_layer_0.ln_1.weight",
        ),
        ("qkv", W, "blocks.0.attn.qkv.weight visual.transformer.resblocks.0.attn.in_proj_weight"),
        ("qkv", B, "blocks.0.attn.qkv.bias visual.transformer.resblocks.0.attn.in_proj_bias"),
        (
            "q",
            W,
            "vit.encoder.layer.0.attention.attention.query.weight vision_model.encoder.layers.0.self_attn.q_proj.weight",
        ),
        (
            "o",
            W,
            "blocks.0.attn.proj.weight vit.encoder.layer.0.attention.output.dense.weight vision_model.encoder.layers.0.self_attn.out_proj.weight",
        ),
        (
            "mlp norm",
            W,
            "blocks.0.norm2.weight vit.encoder.layer.0.layernorm_after.weight vision_model.encoder.layers.0.layer_norm2.weight",
        ),
        (
            "up",
            W,
            "blocks.5.mlp.fc1.weight vit.encoder.layer.0.intermediate.dense.weight visual.transformer.resblocks.0.mlp.c_fc.weight encoder.layers.encoder_layer_0.mlp.linear_1.weight encoder.layers.encoder_layer_0.mlp.0.weight",
        ),
        (
            "down",
            W,
            "blocks.5.mlp.fc2.weight vit.encoder.layer.0.output.dense.weight visual.transformer.resblocks.0.mlp.c_proj.weight encoder.layers.encoder_layer_0.mlp.3.weight",
        ),
        ("attn gain", W, "blocks.0.ls1.gamma encoder.layer.0.layer_scale1.lambda1"),
        ("mlp gain", W, "blocks.0.ls2.gamma encoder.layer.0.layer_scale2.lambda1"),
        ("rel bias", W, "layers.0.blocks.1.attn.relative_position_bias_table"),
        (
            "final norm",
            W,
            "norm.weight fc_norm.weight vit.layernorm.weight vision_model.post_layernorm.weight text_model.final_layer_norm.weight visual.ln_post.weight ln_final.weight encoder.ln.weight",
        ),
        ("pooler", W, "vit.pooler.dense.weight"),
        ("head", W, "head.weight heads.head.weight classifier.weight"),
        ("text_projection", W, "text_projection text_projection.weight"),
    ]);
}

#[test]
fn convolutional_networks() {
    check(&[
        ("conv", W, "conv1.weight module.conv1.weight conv3.weight"),
        ("bn", W, "bn1.weight module.bn1.weight conv1_BN.weight"),
        ("bn", B, "bn1.bias"),
        ("bn stats", RunningMean, "bn1.running_mean"),
        ("bn stats", RunningVariance, "bn1.running_var"),
        ("bn count", BatchCount, "bn1.num_batches_tracked"),
        ("conv1", W, "layer1.0.conv1.weight layer4.2.conv1.weight"),
        ("conv3", W, "layer1.0.conv3.weight"),
        ("bn2", W, "layer1.0.bn2.weight"),
        ("bn2 stats", RunningMean, "layer1.0.bn2.running_mean"),
        ("bn2 count", BatchCount, "layer1.0.bn2.num_batches_tracked"),
        ("downsample", W, "layer2.0.downsample.0.weight layer2.0.shortcut.0.weight"),
        ("downsample bn", W, "layer2.0.downsample.1.weight layer2.0.shortcut.1.weight"),
        ("downsample bn stats", RunningVariance, "layer2.0.downsample.1.running_var"),
        ("head", W, "fc.weight module.fc.weight classifier.6.weight"),
        ("head", B, "fc.bias classifier.bias"),
        ("norm1", W, "features.denseblock1.denselayer1.norm1.weight"),
        ("conv2", W, "features.denseblock1.denselayer1.conv2.weight"),
        ("dwconv", W, "stages.0.blocks.1.dwconv.weight"),
        ("pwconv1", W, "stages.0.blocks.1.pwconv1.weight"),
    ]);
}

#[test]
fn diffusion_models() {
    check(&[
        (
            "time",
            W,
            "time_embedding.linear_1.weight time_embedding.linear_2.weight down_blocks.0.resnets.0.time_emb_proj.weight",
        ),
        ("conv_in", W, "conv_in.weight unet.conv_in.weight"),
        ("norm1", W, "down_blocks.0.resnets.0.norm1.weight down_blocks.0.resnets.1.norm1.weight"),
        ("conv1", W, "down_blocks.0.resnets.0.conv1.weight mid_block.resnets.0.conv1.weight"),
        ("conv2", B, "up_blocks.3.resnets.2.conv2.bias"),
        ("downsample", W, "down_blocks.1.resnets.0.conv_shortcut.weight"),
        ("conv", W, "down_blocks.0.downsamplers.0.conv.weight up_blocks.0.upsamplers.0.conv.weight"),
        ("norm", W, "down_blocks.0.attentions.0.norm.weight"),
        ("proj_in", W, "down_blocks.0.attentions.0.proj_in.weight"),
        ("proj_out", W, "down_blocks.0.attentions.0.proj_out.weight"),
        ("attn norm", W, "down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight"),
        ("cross attn norm", W, "down_blocks.0.attentions.0.transformer_blocks.0.norm2.weight"),
        ("mlp norm", W, "down_blocks.0.attentions.0.transformer_blocks.0.norm3.weight"),
        ("q", W, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"),
        ("k", W, "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.weight"),
        ("o", W, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight"),
        ("cross q", W, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight"),
        ("cross v", W, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight"),
        ("cross o", B, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.bias"),
        (
            "up",
            W,
            "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight transformer_blocks.7.ff.net.0.proj.weight",
        ),
        ("down", W, "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight"),
        ("q norm", W, "transformer_blocks.7.attn.norm_q.weight"),
        ("final norm", W, "conv_norm_out.weight"),
        ("head", W, "conv_out.weight"),
    ]);
}
