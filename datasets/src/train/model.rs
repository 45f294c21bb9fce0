//! The decoder: GPT-2 (Radford et al., 2019) with pre-norm blocks, learned positions and an output head tied to the token
//! embedding. Weights have the names and, as `[in, out]`, the orientation of Hugging Face's GPT-2.

use candle_core::backprop::GradStore;
use candle_core::{D, Device, IndexOp as _, Result, Tensor, Var};

use super::config::TrainConfig;
use super::gelu::gelu;
use crate::rng::Rng;

const NORM_EPSILON: f64 = 1e-5;
const INITIAL_DEVIATION: f64 = 0.02;

/// A batch of token sequences and, for each token, the one that follows.
pub(super) struct Batch {
    /// `[batch * context]` ids, u32.
    inputs: Tensor,
    /// `[batch * context]` ids, u32.
    targets: Tensor,
}

impl Batch {
    /// `sequences` sequences from random places of `tokens`, which has at least [`TrainConfig::sample`] of them.
    pub(super) fn draw(
        config: &TrainConfig,
        sequences: usize,
        tokens: &[u32],
        rng: &mut Rng,
        device: &Device,
    ) -> Result<Self> {
        let len = sequences * config.context;
        let (mut inputs, mut targets) = (Vec::with_capacity(len), Vec::with_capacity(len));
        let starts = tokens.len().saturating_sub(config.context) as u64;
        for _ in 0..sequences {
            let start = rng.below(starts) as usize;
            inputs.extend_from_slice(&tokens[start..start + config.context]);
            targets.extend_from_slice(&tokens[start + 1..start + 1 + config.context]);
        }
        Ok(Self { inputs: Tensor::from_vec(inputs, len, device)?, targets: Tensor::from_vec(targets, len, device)? })
    }

    /// Takes from `rng` what [`Self::draw`] takes for so many sequences.
    pub(super) fn skip(sequences: u64, rng: &mut Rng) {
        for _ in 0..sequences {
            rng.below(1);
        }
    }
}

/// A weight with its name.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: Var,
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // A column of ones times the bias, so that the gradient's sum over tokens is a matrix product too: candle's own sum
        // over leading dimensions divides for every element.
        let ones = Tensor::ones((x.dim(0)?, 1), x.dtype(), x.device())?;
        x.matmul(&self.weight)? + ones.matmul(&self.bias.unsqueeze(0)?)?
    }
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + NORM_EPSILON)?.sqrt()?)?;
        normed.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

struct Block {
    ln_1: LayerNorm,
    c_attn: Linear,
    attn_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    mlp_proj: Linear,
}

/// The model, with its weights as variables.
pub(super) struct Model {
    parameters: Vec<Parameter>,
    wte: Tensor,
    wpe: Tensor,
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    /// `[context, context]`: 0 where a token may look, minus infinity where it may not.
    mask: Tensor,
    heads: usize,
    context: usize,
}

/// Makes weights and keeps them by name.
struct Builder<'a> {
    parameters: Vec<Parameter>,
    rng: &'a mut Rng,
    device: &'a Device,
}

impl Builder<'_> {
    fn add(&mut self, name: String, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        let value = Var::from_vec(values, shape, self.device)?;
        let tensor = value.as_tensor().clone();
        self.parameters.push(Parameter { name, value });
        Ok(tensor)
    }

    fn normal(&mut self, name: String, deviation: f64, shape: [usize; 2]) -> Result<Tensor> {
        let values = (0..shape[0] * shape[1]).map(|_| (self.rng.normal() * deviation) as f32).collect();
        self.add(name, values, &shape)
    }

    fn linear(&mut self, name: &str, deviation: f64, shape: [usize; 2]) -> Result<Linear> {
        let weight = self.normal(format!("{name}.weight"), deviation, shape)?;
        let bias = self.add(format!("{name}.bias"), vec![0.0; shape[1]], &shape[1..])?;
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<LayerNorm> {
        let weight = self.add(format!("{name}.weight"), vec![1.0; width], &[width])?;
        let bias = self.add(format!("{name}.bias"), vec![0.0; width], &[width])?;
        Ok(LayerNorm { weight, bias })
    }
}

impl Model {
    /// GPT-2's initial weights: normal with deviation 0.02, less where a block adds to the stream, as there are `2 *
    /// layers` such sums.
    pub(super) fn new(config: &TrainConfig, rng: &mut Rng, device: &Device) -> Result<Self> {
        let (width, context) = (config.width, config.context);
        let mut make = Builder { parameters: Vec::new(), rng, device };
        let wte = make.normal("wte.weight".to_owned(), INITIAL_DEVIATION, [config.vocabulary, width])?;
        let wpe = make.normal("wpe.weight".to_owned(), INITIAL_DEVIATION, [context, width])?;
        let residual = INITIAL_DEVIATION / (2.0 * config.layers as f64).sqrt();
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            blocks.push(Block {
                ln_1: make.norm(&format!("h.{layer}.ln_1"), width)?,
                c_attn: make.linear(&format!("h.{layer}.attn.c_attn"), INITIAL_DEVIATION, [width, 3 * width])?,
                attn_proj: make.linear(&format!("h.{layer}.attn.c_proj"), residual, [width, width])?,
                ln_2: make.norm(&format!("h.{layer}.ln_2"), width)?,
                c_fc: make.linear(&format!("h.{layer}.mlp.c_fc"), INITIAL_DEVIATION, [width, 4 * width])?,
                mlp_proj: make.linear(&format!("h.{layer}.mlp.c_proj"), residual, [4 * width, width])?,
            });
        }
        let ln_f = make.norm("ln_f", width)?;
        let mask: Vec<f32> = (0..context)
            .flat_map(|row| (0..context).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        let mask = Tensor::from_vec(mask, (context, context), device)?;
        Ok(Self { parameters: make.parameters, wte, wpe, blocks, ln_f, mask, heads: config.heads, context })
    }

    /// The weights, embeddings first, then block by block.
    pub(super) fn weights(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of weights.
    pub(super) fn parameters(&self) -> u64 {
        self.parameters.iter().map(|parameter| parameter.value.elem_count() as u64).sum()
    }

    /// The mean cross entropy over a batch, in nats a token: a scalar, f32.
    pub(super) fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let tokens = batch.inputs.elem_count();
        let (sequences, width) = (tokens / self.context, self.wte.dim(1)?);
        let words = self.wte.index_select(&batch.inputs, 0)?.reshape((sequences, self.context, width))?;
        let mut x = words.broadcast_add(&self.wpe)?.reshape((tokens, width))?;
        for block in &self.blocks {
            x = (&x + self.attention(block, &block.ln_1.forward(&x)?, sequences)?)?;
            let hidden = block.c_fc.forward(&block.ln_2.forward(&x)?)?;
            x = (x + block.mlp_proj.forward(&gelu(&hidden)?)?)?;
        }
        let logits = self.ln_f.forward(&x)?.matmul(&self.wte.t()?)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
        let chosen = shifted.gather(&batch.targets.unsqueeze(1)?, 1)?.squeeze(1)?;
        (shifted.exp()?.sum(D::Minus1)?.log()? - chosen)?.mean_all()
    }

    /// A batch's loss and the gradients of its weights.
    pub(super) fn gradients(&self, batch: &Batch) -> Result<(f64, GradStore)> {
        let loss = self.loss(batch)?;
        let gradients = loss.backward()?;
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// Causal self-attention over `x`, `[sequences * context, width]`.
    fn attention(&self, block: &Block, x: &Tensor, sequences: usize) -> Result<Tensor> {
        let width = x.dim(1)?;
        let head = width / self.heads;
        let split = block
            .c_attn
            .forward(x)?
            .reshape((sequences, self.context, 3, self.heads, head))?
            .permute((2, 0, 3, 1, 4))?
            .contiguous()?;
        let (query, key, value) = (split.i(0)?, split.i(1)?, split.i(2)?);
        let scores = (query.matmul(&key.transpose(2, 3)?)? * (head as f64).powf(-0.5))?.broadcast_add(&self.mask)?;
        let shifted = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let attention = shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?;
        let mixed = attention.matmul(&value)?.transpose(1, 2)?.reshape((sequences * self.context, width))?;
        block.attn_proj.forward(&mixed)
    }
}
