//! Real training of a small GPT-2-style language model on [`crate::text`]: fp32 master weights, AdamW, cosine schedule
//! with warm-up, checkpoints as safetensors in bf16 and fp32.
//!
//! Every random number comes from the crate's own generator, every sum of the optimizer runs in a fixed order, and the
//! matrix products split rows and columns over threads but never a sum. So a run gives the same files again on the same
//! machine with the same build. Other CPUs may take other kernels, which round differently: the files are then those of
//! another run of the same kind, not the same bytes.

mod checkpoint;
mod config;
mod gelu;
mod model;
mod optimizer;

use std::io;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::backprop::GradStore;
use rayon::prelude::*;
use thiserror::Error;

pub use config::TrainConfig;

use crate::rng::Rng;
use crate::text::{Tokenizer, corpus};
use model::{Batch, Model};
use optimizer::AdamW;

/// Streams of [`Rng`] under a run's seed.
const INITIALISATION: u64 = 1;
const BATCHES: u64 = 2;

/// How many batches of text that is never trained on make the validation loss.
const VALIDATION_BATCHES: usize = 2;

/// A finished run: its checkpoints and what it was.
#[derive(Debug, Clone)]
pub struct Series {
    /// The checkpoints, first to last.
    pub checkpoints: Vec<Checkpoint>,
    /// The configuration, for run records.
    pub config: TrainConfig,
    /// Number of weights.
    pub parameters: u64,
}

/// The weights at one step, on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Mean training loss in nats a token over the steps since the checkpoint before.
    pub loss: f64,
    /// Loss in nats a token on text that is never trained on.
    pub validation_loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// The weights rounded to bf16, ties to even: `bf16/stepNNNN.safetensors`.
    pub bf16: PathBuf,
    /// The fp32 master weights: `fp32/stepNNNN.safetensors`.
    pub fp32: PathBuf,
    /// What [`resume`] goes on from, at the steps of [`TrainConfig::states`]: `state/stepNNNN.safetensors`.
    pub state: Option<PathBuf>,
}

/// What a run tells while it goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model is made and training starts.
    Start {
        /// Number of weights.
        parameters: u64,
        /// Steps to do.
        steps: u64,
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
        /// Loss of its batch before the step, in nats a token.
        loss: f64,
        /// Its learning rate.
        learning_rate: f64,
    },
    /// A checkpoint is on disk.
    Checkpoint(Checkpoint),
}

/// Why a run stopped.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A configuration that describes no model or no run.
    #[error("training configuration: {0}")]
    Config(&'static str),
    /// A folder or file that could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A state that could not be read.
    #[error("cannot read the state {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: safetensors::SafeTensorError,
    },
    /// A state of another model, or of a step that is not in the run.
    #[error("{}: {tensor:?} is not what this run has", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// A tensor of another type, shape or value.
        tensor: String,
    },
    /// A checkpoint that could not be written.
    #[error("cannot write the checkpoint {}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: safetensors::SafeTensorError,
    },
    /// The loss is no longer a finite number.
    #[error("training diverged at step {step}")]
    Diverged {
        /// The step.
        step: u64,
    },
    /// A tensor operation failed.
    #[error("tensor operation")]
    Tensor(#[from] candle_core::Error),
}

/// Trains a model from scratch and writes its checkpoints below `out_dir`, which is made if it is not there; files of the
/// same names are replaced. `on_event` hears of every step.
///
/// # Errors
/// [`TrainError`]; what was written before stays.
pub fn train(config: &TrainConfig, out_dir: &Path, on_event: &mut dyn FnMut(Event)) -> Result<Series, TrainError> {
    run(config, None, out_dir, on_event)
}

/// Goes on with a run from one of its states. With the configuration of the run, it writes the files that the run wrote after
/// that step, to the byte, under the conditions that a run gives the same files again.
///
/// # Errors
/// [`TrainError`]; what was written before stays.
pub fn resume(
    config: &TrainConfig,
    state: &Path,
    out_dir: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Series, TrainError> {
    run(config, Some(state), out_dir, on_event)
}

fn run(
    config: &TrainConfig,
    state: Option<&Path>,
    out_dir: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Series, TrainError> {
    config.check()?;
    let text = corpus(config.seed, config.corpus_bytes);
    let tokenizer = Tokenizer::new(&text, config.vocabulary);
    let tokens = tokenizer.encode(&text);
    let (training, validation) = tokens.split_at(tokens.len() / 10 * 9);
    if validation.len() < config.sample() {
        return Err(TrainError::Config("the corpus is too short for the context"));
    }

    let device = Device::Cpu;
    let model = Model::new(config, &mut Rng::stream(config.seed, INITIALISATION), &device)?;
    let parameters = model.parameters();
    let mut optimizer = AdamW::new(config, &model);
    let mut batches = Rng::stream(config.seed, BATCHES);
    let validation: Vec<Batch> = {
        let mut rng = Rng::new(0);
        (0..VALIDATION_BATCHES)
            .map(|_| Batch::draw(config, config.batch, validation, &mut rng, &device))
            .collect::<Result<_, _>>()?
    };

    let done = state.map_or(Ok(0), |state| checkpoint::read_state(state, &model, &mut optimizer))?;
    if let Some(path) = state.filter(|_| done >= config.steps) {
        return Err(TrainError::State { path: path.to_owned(), tensor: "step".to_owned() });
    }
    // What the steps before took.
    Batch::skip(done.saturating_mul(config.batch as u64), &mut batches);

    on_event(Event::Start { parameters, steps: config.steps });
    let mut checkpoints = Vec::with_capacity(config.checkpoints.len());
    let (mut loss_sum, mut loss_count) = (0.0, 0u64);
    for step in done + 1..=config.steps {
        let learning_rate = config.learning_rate(step);
        let shards: Vec<Batch> = (0..config.shards)
            .map(|_| Batch::draw(config, config.batch / config.shards, training, &mut batches, &device))
            .collect::<Result<_, _>>()?;
        // Most of candle's operations on the CPU run on one thread: parts of the batch side by side fill the others.
        let worked: Vec<(f64, GradStore)> =
            shards.par_iter().map(|shard| model.gradients(shard)).collect::<Result<_, _>>()?;
        let loss = worked.iter().map(|(loss, _)| loss).sum::<f64>() / worked.len() as f64;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step });
        }
        optimizer.step(&model, worked.into_iter().map(|(_, gradients)| gradients), learning_rate)?;
        loss_sum += loss;
        loss_count += 1;
        on_event(Event::Step { step, loss, learning_rate });

        if config.checkpoints.contains(&step) {
            let (bf16, fp32) = checkpoint::write(&model, out_dir, step)?;
            let state = config.states.contains(&step);
            let state = state.then(|| checkpoint::write_state(&model, &optimizer, out_dir, step)).transpose()?;
            let mut validation_loss = 0.0;
            for batch in &validation {
                validation_loss += f64::from(model.loss(batch)?.to_scalar::<f32>()?) / validation.len() as f64;
            }
            let loss = loss_sum / loss_count as f64;
            (loss_sum, loss_count) = (0.0, 0);
            let checkpoint = Checkpoint { step, loss, validation_loss, learning_rate, bf16, fp32, state };
            on_event(Event::Checkpoint(checkpoint.clone()));
            checkpoints.push(checkpoint);
        }
    }
    Ok(Series { checkpoints, config: config.clone(), parameters })
}

#[cfg(test)]
mod tests;
